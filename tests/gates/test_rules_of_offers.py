"""The gate of assignments finds every rule that is broken, whoever decided."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest

from promo_assets import installation
from promo_assets.contract.project import EXPECTATIONS
from promo_assets.contract.tables import load_contracts
from tests.support.shop import Shop

NAMES = (
    "the_catalogues_conditions_hold",
    "caps_pauses_and_coupons_hold",
    "budgets_stocks_and_audiences_hold",
    "liability_is_kept",
)
DAY = "2024-01-30"


TABLES = (
    "core.offers", "core.events", "segments.user_segments", "features.user_features",
    "profiles.user_profiles", "strategy.assignments", "strategy.budget_prices",
)  # fmt: skip


@pytest.fixture(scope="module")
def tables(thirty_days: Shop) -> dict[str, pa.Table]:
    """The shop's tables; whoever else reads the shop now is waited for."""
    with installation.warehouse(thirty_days.settings).get_connection() as connection:
        return {name: connection.execute(f"from {name}").to_arrow_table() for name in TABLES}


@pytest.fixture
def warehouse(tables: dict[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    """The shop's tables in memory, to be changed at will."""
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register("told", table)
            connection.execute(f"create schema if not exists {name.split('.')[0]}")
            connection.execute(f"create table {name} as from told")
        connection.execute(
            f"create table batch as from strategy.assignments where as_of_date = '{DAY}'"
        )
        connection.execute("create table days as select distinct as_of_date as day from batch")
        yield connection


def broken(warehouse: duckdb.DuckDBPyConnection) -> set[str]:
    """The rules' expectations that find something."""
    contract = load_contracts(EXPECTATIONS)["strategy.assignments"]
    found = set()
    for expectation in contract.expectations:
        if getattr(expectation, "name", None) in NAMES:
            query = expectation.query.replace("{batch}", "batch").replace("{window}", "days")
            if warehouse.execute(query).fetchall():
                found.add(expectation.name)
    return found


def test_what_was_decided_keeps_every_rule(warehouse: duckdb.DuckDBPyConnection) -> None:
    assert warehouse.execute("select count(*) from batch where arm = 'offer'").fetchone() != (0,)
    assert broken(warehouse) == set()


BREAKS = {
    "valid_until = date '2024-01-30'": NAMES[0],
    "valid_from = date '2024-02-02'": NAMES[0],
    "eligible_segments = 'vip, lost'": NAMES[0],
    "eligible_lifecycle = 'lost'": NAMES[0],
    "min_orders = 900": NAMES[0],
    "max_orders = 0": NAMES[0],
    "eligible_categories = 'nothing'": NAMES[0],
    "eligible_channels = 'mail'": NAMES[0],
    "pause_days_after_purchase = 90": NAMES[0],
    "cap_times = 1, cap_days = 90, cap_of = 'any'": NAMES[1],
    "cap_times = 1, cap_days = 90, cap_of = 'this'": NAMES[1],
    "max_open_coupons = 1, open_days = 90": NAMES[1],
    "exclusive_group = 'g', open_days = 90": NAMES[1],
    "pause_days_after_return = 90": NAMES[1],
    "keeps_margin = true, send_cost = 900": NAMES[0],
    "max_liability = 10": NAMES[3],
    "budget = 1": NAMES[2],
    "max_audience = 3": NAMES[2],
    "stock = 30": NAMES[2],
}


@pytest.mark.parametrize("change", BREAKS)
def test_each_rule_that_is_broken_is_found(
    warehouse: duckdb.DuckDBPyConnection, change: str
) -> None:
    """The shop decided without the rule; the catalogue says it now."""
    warehouse.execute(
        "insert into core.events by name select date '2024-01-29' as event_date, timestamp"
        " '2024-01-29 12:00' as event_time, 'return' as event_type, user_id from batch"
    )
    warehouse.execute(f"update core.offers set {change}")
    assert broken(warehouse) == {BREAKS[change]}


def test_more_than_the_days_budget_is_found(warehouse: duckdb.DuckDBPyConnection) -> None:
    warehouse.execute("update strategy.budget_prices set budget = 1")
    assert broken(warehouse) == {NAMES[2]}
