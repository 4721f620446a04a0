"""After a range run every partition has its own evaluation, row count and materialisation."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from promo_assets.contract.segments import SEGMENTS
from promo_assets.definitions import build_tables
from promo_assets.orchestration.runs import open_instance

if TYPE_CHECKING:
    from tests.support.shop import Shop

DAYS = 30
WEEKS = 4
WITHOUT_LINEAGE = {
    "core.calendar",
    "core.consent_purposes",
    "core.consents",
    "core.device_links",
    "core.event_types",
    "core.gate_limits",
    "core.items",
    "core.offers",
    "core.users",
}
"""Tables that are made of no other table."""


def keys_of(shop: Shop, grid: str) -> set[str]:
    days = [str(shop.day(number)) for number in range(DAYS)]
    return {
        "day": set(days),
        "week": {days[7 * week] for week in range(WEEKS)},
        "day_segment": {f"{day}|{segment}" for day in days for segment in SEGMENTS},
        "whole": set(),
    }[grid]


def materialisations(shop: Shop, table: str) -> dict[str | None, dg.AssetMaterialization]:
    """The newest materialisation of each partition."""
    key = dg.AssetKey(table.split("."))
    newest: dict[str | None, dg.AssetMaterialization] = {}
    with open_instance(shop.settings.places) as instance:
        for record in instance.fetch_materializations(key, limit=5000).records:
            assert record.asset_materialization is not None
            newest.setdefault(record.partition_key, record.asset_materialization)
    return newest


@pytest.mark.slow
def test_every_partition_of_every_table_has_its_own_evaluation(thirty_days: Shop) -> None:
    for table in build_tables(thirty_days.settings):
        for check in ("gate", "warnings"):
            told = thirty_days.gates(table.contract.table, check)
            evaluated = {key for key in told if key is not None}
            assert evaluated == keys_of(thirty_days, table.grid), (table.contract.table, check)


@pytest.mark.parametrize("days", [pytest.param(1, marks=pytest.mark.slow), DAYS])
def test_no_partition_of_a_gate_is_left_planned(open_shop: Shop, days: int) -> None:
    """Neither after a range nor after a range of one day."""
    if days == 1:
        open_shop.run(DAYS - 1, DAYS - 1, groups=["events"])
    keys = [
        dg.AssetCheckKey(dg.AssetKey(table.contract.table.split(".")), check)
        for table in build_tables(open_shop.settings)
        for check in ("gate", "warnings")
        if table.grid != "whole"
    ]
    with open_instance(open_shop.settings.places) as instance:
        infos = instance.event_log_storage.get_asset_check_partition_info(keys)
    planned = AssetCheckExecutionRecordStatus.PLANNED
    assert [info for info in infos if info.latest_execution_status is planned] == []
    assert len(infos) >= DAYS * len(SEGMENTS)


def test_every_partition_is_materialised_with_its_row_count(thirty_days: Shop) -> None:
    published = thirty_days.publications()
    for table in build_tables(thirty_days.settings):
        name = table.contract.table
        if table.grid not in ("day", "day_segment"):
            continue
        told = {
            key: found.metadata["dagster/partition_row_count"].value
            for key, found in materialisations(thirty_days, name).items()
            if key is not None
        }
        expected = {}
        for key in keys_of(thirty_days, table.grid):
            day, _, part = key.partition("|")
            expected[key] = published[name, date.fromisoformat(day), part]
        assert told == expected, name


def test_the_newest_materialisation_of_every_table_shows_column_lineage(thirty_days: Shop) -> None:
    for table in build_tables(thirty_days.settings):
        name = table.contract.table
        if name in WITHOUT_LINEAGE | {"raw.events"}:
            continue
        found = materialisations(thirty_days, name)
        shown = [key for key, made in found.items() if "dagster/column_lineage" in made.metadata]
        # Segments come in the order of the definition, days in that of time.
        last = max(key for key in found if key is not None)
        assert [str(key)[:10] for key in shown] == [last[:10]], name
        newest = found[shown[0]]
        lineage = newest.metadata["dagster/column_lineage"].value
        assert lineage.deps_by_column.keys() <= table.contract.columns.keys()
        upstream = {dep.asset_key for deps in lineage.deps_by_column.values() for dep in deps}
        assert upstream, name
