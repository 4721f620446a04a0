"""The day's decisions as files: Parquet for machines, CSV for people and their spreadsheets.

``sent.parquet`` is the record of the first export of a day: what could have been drawn for whom,
what was, and by which versions. It is written once. A late row, a rerun or another budget recompute
what *would* be decided; what was sent stays, and `changed` tells the difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from promo_assets.people.consent import ConsentRule, barred_sql
from promo_assets.warehouse.reading import Read

if TYPE_CHECKING:
    import polars as pl

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
"""A spreadsheet may run a cell that starts so (OWASP, CSV injection; full-width forms too)."""


ALLOWED = """
select assigned.* from strategy.assignments as assigned
inner join ({barred}) as barred on barred.user_id = assigned.user_id
where assigned.as_of_date = $day and (assigned.arm = 'none' or barred.barred is null)
order by all
"""
PUBLISHED = """
select day from audit.publications
where table_name = 'strategy.assignments' and day = $day and row_count > 0
"""
VERSIONS = """
select prices.price, prices.budget, prices.exploration_share, prices.holdout_share,
    prices.experiment, prices.worth_probability, prices.margin_rate, prices.catalogue_version,
    (
        select any_value(model_version) from propensity.scores where as_of_date = $day
    ) as model_version,
    effects.run_id as effects_run_id, effects.code_version as effects_code_version,
    cast($now as timestamp) as exported_at
from strategy.budget_prices as prices
left join audit.publications as effects
    on effects.table_name = 'strategy.offer_effects' and effects.day = prices.as_of_date
where prices.as_of_date = $day
"""
RECORD = "sent.parquet"
STRATEGY = "select * from strategy.segment_strategy where as_of_date = $day order by all"
ASSIGNED = """
select cast($start as date) as as_of_date, user_id from strategy.assignments
where as_of_date = $day
"""


def export_day(read: Read, day: date, consent: ConsentRule, folder: Path) -> list[Path]:
    """Write a day's assignments and strategies under ``folder/<day>``; none if there are none.

    What people allow is asked again, as of now: who withdrew since the decision, or turned out to
    be somebody else's second account, is left out of offer and holdout alike.
    """
    if not read(PUBLISHED, {"day": day}).height:
        return []
    at = datetime.now(UTC)
    now = max(day, at.date())
    bounds = {"day": day, "start": now, "end": now + timedelta(days=1)} | consent.parameters
    allowed = read(ALLOWED.format(barred=barred_sql(ASSIGNED)), bounds)
    written = write_export(allowed, read(STRATEGY, {"day": day}), folder, day)
    record = folder / day.isoformat() / RECORD
    if not record.exists():
        versions = read(VERSIONS, bounds | {"now": at.replace(tzinfo=None)})
        decided = allowed.filter(allowed["arm"] != "none").join(versions, how="cross")
        _replace(record, decided.write_parquet)
    return [*written, record]


def changed(folder: Path, day: date) -> int:
    """How many of the day's decisions differ between its record and its newest export: another
    offer or arm, or no longer any, or one now."""
    import polars as pl

    target = folder / day.isoformat()
    key = ["user_id", "offer_id", "arm"]
    sent = pl.read_parquet(target / RECORD, columns=key)
    newest = pl.read_parquet(target / "assignments.parquet", columns=key)
    newest = newest.filter(pl.col("arm") != "none")
    gone = sent.join(newest, on=key, how="anti", nulls_equal=True)
    new = newest.join(sent, on=key, how="anti", nulls_equal=True)
    return pl.concat([gone, new])["user_id"].n_unique()


def write_export(
    assignments: pl.DataFrame, strategy: pl.DataFrame, folder: Path, day: date
) -> list[Path]:
    """Write ``assignments`` and ``strategy`` of a day to ``folder/DAY``, replacing earlier files.

    Returns the four paths. Each file appears whole or not at all. Parquet keeps values exactly.
    In CSV, text that a spreadsheet could run as a formula gets a leading apostrophe; numbers
    stay numbers; null is an empty cell. CSV starts with a byte order mark, without which Excel
    reads UTF-8 names as its local code page; Python reads it as ``utf-8-sig``.
    """
    target = folder / day.isoformat()
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, frame in (("assignments", assignments), ("strategy", strategy)):
        written += [
            _replace(target / f"{name}.parquet", frame.write_parquet),
            _replace(target / f"{name}.csv", partial(_write_csv, frame)),
        ]
    return written


def leave_out(users: Collection[str], folder: Path) -> dict[Path, int]:
    """Write the exported days anew whose assignments or record name any of ``users``, without those
    rows; their number by Parquet file."""
    import polars as pl

    left_out = {}
    places = [*folder.glob("????-??-??/assignments.parquet"), *folder.glob(f"????-??-??/{RECORD}")]
    for path in sorted(places):
        assignments = pl.read_parquet(path)
        kept = assignments.filter(~pl.col("user_id").is_in(sorted(users)))
        if rows := assignments.height - kept.height:
            _replace(path, kept.write_parquet)
            if path.name != RECORD:
                _replace(path.with_suffix(".csv"), partial(_write_csv, kept))
            left_out[path] = rows
    return left_out


def _write_csv(frame: pl.DataFrame, path: Path) -> None:
    import polars as pl

    text = pl.col(pl.String)
    risky = text.str.slice(0, 1).is_in(FORMULA_STARTS)
    safe = frame.with_columns(pl.when(risky).then(pl.lit("'") + text).otherwise(text).name.keep())
    safe.write_csv(path, include_bom=True, quote_style="non_numeric")


def _replace(path: Path, write: Callable[[Path], object]) -> Path:
    """Write beside ``path`` and rename: a reader sees the old file or the new one, never half."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
