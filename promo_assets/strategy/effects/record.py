"""What MLflow keeps of a choice of levels: who was compared, what won, what is in force.

Not here: the store itself (``learning/tracking.py``), the choice (``levels.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from promo_assets.learning.tracking import MODEL_FOLDER, Record, Registry
from promo_assets.strategy.effects.learners import FOLDS, OUTER, SETTINGS, TREES
from promo_assets.strategy.effects.levels import ERROR, Levels

OFFER_EFFECTS = Registry(
    "offer_effects", "promo_offer_effects", "By which level the effect of each offer is told."
)
METRICS = ("policy_value", "qini", "aucc")


def record_of(name: str, levels: Levels, comparison: pl.DataFrame, offers: Sequence[str]) -> Record:
    """``comparison``: of `levels.compared`, with its intervals; ``offers``: names by treatment.

    Metrics are named ``<offer>.<candidate>.<metric>``, with ``_low`` and ``_high``; what was not
    told is left out.
    """
    in_force = json.dumps(
        {
            offer: standing._asdict()
            for offer, standing in zip(offers, levels.in_force, strict=True)
        },
        indent=1,
    )
    params = {f"lightgbm.{key}": value for key, value in SETTINGS.items()}
    params |= {"trees": TREES, "folds": FOLDS, "fold_seed": OUTER, "error": ERROR}
    params |= {
        f"level.{offer}": standing.level
        for offer, standing in zip(offers, levels.in_force, strict=True)
    }
    return Record(
        name,
        params,
        _metrics(comparison),
        partial(_write, in_force, comparison),
        hashlib.sha256(in_force.encode()).hexdigest(),
        {},
    )


def _metrics(comparison: pl.DataFrame) -> Mapping[str, float]:
    columns = [
        f"{metric}{end}"
        for metric in METRICS
        for end in ("", "_low", "_high")
        if f"{metric}{end}" in comparison.columns
    ]
    return {
        f"{row['treatment']}.{row['candidate'].replace(' ', '_')}.{column}": row[column]
        for row in comparison.iter_rows(named=True)
        for column in columns
        if row[column] == row[column]
    }


def _write(in_force: str, comparison: pl.DataFrame, folder: Path) -> None:
    (folder / MODEL_FOLDER).mkdir()
    (folder / MODEL_FOLDER / "in_force.json").write_text(in_force)
    comparison.write_csv(folder / "comparison.csv")
