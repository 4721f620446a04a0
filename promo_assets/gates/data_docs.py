"""Data Docs: Great Expectations' page of the last audit of each table, and an index.

One file a table, replaced by the next audit: the folder does not grow with the number of runs.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from promo_assets.contract.tables import TableContract


def write_page(folder: Path, contract: TableContract, result: Any) -> Path:
    """Write ``<table>.html`` with the result of a validated suite, and refresh the index."""
    renderer, view = _renderers()
    now = datetime.now(UTC)
    result.meta |= {
        "run_id": {"run_name": contract.table, "run_time": now.isoformat()},
        "batch_kwargs": {"data_asset_name": contract.table},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{contract.table}.html"
    _replace(path, view.render(renderer.render(result)))
    _write_index(folder)
    return path


def _write_index(folder: Path) -> None:
    rows = "".join(
        f'<li><a href="{escape(page.name)}">{escape(page.stem)}</a></li>'
        for page in sorted(folder.glob("*.*.html"))
    )
    _replace(
        folder / "index.html",
        "<!doctype html><meta charset=utf-8><title>Data Docs</title>"
        f"<h1>Data Docs</h1><p>The last audit of each table.</p><ul>{rows}</ul>",
    )


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


@lru_cache(maxsize=1)
def _renderers() -> tuple[Any, Any]:
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    return ValidationResultsPageRenderer(run_info_at_end=True), DefaultJinjaPageView()
