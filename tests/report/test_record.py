"""The record of what was sent: whole, written once, and compared with what would be decided now."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from promo_assets import installation
from promo_assets.report.export import RECORD, changed, export_day, leave_out

if TYPE_CHECKING:
    from tests.support.shop import Shop

NUMBER = 29


def export(shop: Shop, folder: Path) -> Path:
    """Export the last day; the path of its record."""
    consent = installation.consent(shop.settings)
    with installation.reading(shop.settings) as read:
        written = export_day(read, shop.day(NUMBER), consent, folder)
    return written[-1]


def test_the_record_holds_every_draw_with_what_could_have_been_drawn_and_by_what(
    thirty_days: Shop, tmp_path: Path
) -> None:
    record = pl.read_parquet(export(thirty_days, tmp_path))
    drawn = thirty_days.query(
        "select user_id from strategy.assignments where arm <> 'none'"
        f" and as_of_date = date '{thirty_days.day(NUMBER)}' order by all"
    )
    assert record.height > 0
    assert record["user_id"].sort().to_list() == [user for (user,) in drawn]
    known = ("price", "catalogue_version", "effects_run_id", "possible_arms", "exported_at")
    assert record.select(pl.any_horizontal(pl.col(known).is_null()).sum()).item() == 0
    for row in record.iter_rows(named=True):
        arms = dict(part.rsplit(" ", 1) for part in row["possible_arms"].split(", "))
        assert abs(sum(float(chance) for chance in arms.values()) - 1) < 1e-4
        taken = row["offer_id"] if row["arm"] == "offer" else "none"
        assert abs(float(arms[taken]) - row["assignment_probability"]) < 1e-4
    assert (datetime.now(UTC).replace(tzinfo=None) - record["exported_at"][0]).days == 0


def test_a_later_export_leaves_the_record_and_tells_what_differs(
    open_shop: Shop, tmp_path: Path
) -> None:
    record = export(open_shop, tmp_path)
    first = record.read_bytes()
    day = open_shop.day(NUMBER)
    assert changed(tmp_path, day) == 0
    drawn = pl.read_parquet(record)["user_id"].to_list()
    newest = tmp_path / str(day) / "assignments.parquet"
    later = pl.read_parquet(newest).with_columns(
        arm=pl.when(user_id=drawn[0]).then(pl.lit("none")).otherwise("arm")
    )
    later.write_parquet(newest)
    assert changed(tmp_path, day) == 1
    assert export(open_shop, tmp_path).read_bytes() == first
    assert changed(tmp_path, day) == 0


def test_an_erased_person_leaves_the_record_too(open_shop: Shop, tmp_path: Path) -> None:
    record = export(open_shop, tmp_path)
    drawn = pl.read_parquet(record)["user_id"].to_list()
    cleaned = leave_out([drawn[0]], tmp_path)
    assert {path.name for path in cleaned} == {RECORD, "assignments.parquet"}
    assert pl.read_parquet(record)["user_id"].to_list() == drawn[1:]
