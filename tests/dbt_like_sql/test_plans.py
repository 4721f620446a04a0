"""No model's plan grows with the square of its rows: every join is by hash."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from promo_assets.contract.segments import SEGMENTS
from promo_assets.strategy.effects.response import FEATURES
from promo_assets.tables.strategy import ASSIGNED
from promo_assets.warehouse.models.parsing import load_model
from promo_assets.warehouse.publish import create_table
from tests.dbt_like_sql.conftest import CONTRACTS, MODELS

FIRST = date(2024, 1, 1)
QUADRATIC = {"NESTED_LOOP_JOIN", "BLOCKWISE_NL_JOIN", "CROSS_PRODUCT"}
ACROSS_DAYS = {
    "features.user_features": {"NESTED_LOOP_JOIN"},
    "features.user_life": {"NESTED_LOOP_JOIN"},
    "features.user_windows": {"NESTED_LOOP_JOIN"},
    "profiles.user_profiles": {"CROSS_PRODUCT", "NESTED_LOOP_JOIN"},
    "segments.segment_summary": {"CROSS_PRODUCT"},
    "segments.user_segments": {"CROSS_PRODUCT"},
    "strategy.offer_trials": {"BLOCKWISE_NL_JOIN", "NESTED_LOOP_JOIN"},
    "strategy.trial_users": {"BLOCKWISE_NL_JOIN", "NESTED_LOOP_JOIN"},
}
"""Joins of users with the few days of the window or the few segments, by a range: as many rows
as come out. Whoever adds one here makes sure of that."""


@pytest.fixture(scope="module")
def warehouse() -> duckdb.DuckDBPyConnection:
    """Every table of the platform, empty."""
    connection = duckdb.connect()
    for contract in CONTRACTS.values():
        create_table(connection, contract)
    return connection


def joins(warehouse: duckdb.DuckDBPyConnection, sql: str, **more: object) -> set[str]:
    """The kinds of joins in a query's plan that compare every row with every other."""
    bounds = {"start": FIRST, "end": FIRST + timedelta(days=30)}
    told = warehouse.execute(f"explain (format json) {sql}", bounds | more)
    ((_, plan),) = told.fetchall()
    nodes, found = list(json.loads(plan)), set()
    while nodes:
        node = nodes.pop()
        found.add(node["name"].strip())
        nodes += node["children"]
    return found & QUADRATIC


@pytest.mark.parametrize(
    "path", sorted(MODELS.rglob("*.sql")), ids=lambda path: f"{path.parent.name}.{path.stem}"
)
def test_no_model_joins_by_nested_loops(warehouse: duckdb.DuckDBPyConnection, path: Path) -> None:
    found = joins(warehouse, load_model(path, MODELS).sql)
    assert found == ACROSS_DAYS.get(f"{path.parent.name}.{path.stem}", set())


def test_a_join_on_a_constant_day_is_seen(warehouse: duckdb.DuckDBPyConnection) -> None:
    """As segments had it: the date is compared with the parameter, not with the other side."""
    found = joins(
        warehouse,
        "select * from segments.user_segments as mine left join segments.user_segments as own"
        " on own.user_id = mine.user_id and mine.as_of_date = $start"
        " where mine.as_of_date >= $start and mine.as_of_date < $end",
    )
    assert found


def test_what_a_strategy_sums_up_joins_by_hash(warehouse: duckdb.DuckDBPyConnection) -> None:
    """A condition on one side of an outer join once made it compare all pairs."""
    sql = ASSIGNED.format(features=", ".join(FEATURES))
    assert joins(warehouse, sql, segments=list(SEGMENTS)) == set()
