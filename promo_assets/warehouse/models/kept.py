"""Models as they were last parsed: parsing takes longer than all else of loading the definitions.

Kept where Python keeps bytecode and for the same reason: in ``__pycache__``, one file, used only
while every model, this package and sqlglot are what they were. Nothing but time depends on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from promo_assets.warehouse.models.model import SqlModel

HERE = Path(__file__).parent
KEPT = HERE / "__pycache__" / "models.json"


def load_models(
    root: Path, known: Collection[str], windowed: Mapping[str, bool]
) -> dict[str, SqlModel]:
    """`parsing.load_models`, which is asked only if something changed since it was last."""
    key = _key(root, known, windowed)
    try:
        kept = json.loads(KEPT.read_bytes())
        if kept["key"] == key:
            return {row["table"]: _model(row) for row in kept["models"]}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # There is none, or it is damaged: parsing makes a new one.
    from promo_assets.warehouse.models import parsing

    models = parsing.load_models(root, known, windowed)
    _keep({"key": key, "models": [asdict(model) for model in models.values()]})
    return models


def _key(root: Path, known: Collection[str], windowed: Mapping[str, bool]) -> str:
    """Of everything that the models depend on."""
    files = [*sorted(root.rglob("*.sql")), *sorted(HERE.glob("*.py"))]
    contents = [(str(path), sha256(path.read_bytes()).hexdigest()) for path in files]
    told = [version("sqlglot"), str(root), sorted(known), sorted(windowed.items()), contents]
    return sha256(json.dumps(told).encode()).hexdigest()


def _model(row: dict[str, Any]) -> SqlModel:
    lists = {name: tuple(row[name]) for name in ("grain", "columns", "steps")}
    reads = {table: (Path(path), line) for table, (path, line) in row["reads"].items()}
    return SqlModel(**row | lists | {"path": Path(row["path"]), "reads": reads})


def _keep(told: dict[str, Any]) -> None:
    """Written whole or not at all; where nothing can be written, nothing is kept."""
    unfinished = KEPT.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        KEPT.parent.mkdir(exist_ok=True)
        unfinished.write_text(json.dumps(told, default=str), encoding="utf-8")
        unfinished.replace(KEPT)
