"""A published day is stale when it is older than what it was made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_assets.contract.days import Window
from promo_assets.tables.stale import CHANGED, Stale, find_stale
from promo_assets.tables.waiting import Place
from promo_assets.warehouse.publish import ALWAYS, prepare
from tests.tables.test_waiting import CHAMPIONS, DAILY, EVENTS, FIRST, SCORES, TOTALS, TRAINED, day

TABLES = {one.contract.table: one for one in (EVENTS, DAILY, TOTALS, TRAINED, CHAMPIONS, SCORES)}
BEGAN = datetime(2024, 3, 1)


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        prepare(opened)
        yield opened


def publish(connection, name: str, minute: int, *numbers: int, code: str = "1") -> None:
    at = BEGAN + timedelta(minutes=minute)
    if numbers:
        connection.executemany(
            "insert or replace into audit.publications"
            " (table_name, day, part, published_at, code_version) values (?, ?, '', ?, ?)",
            [[name, day(number), at, code] for number in numbers],
        )


def publish_all(connection, minute: int, *numbers: int) -> None:
    for offset, name in enumerate(TABLES):
        publish(connection, name, minute + offset, *numbers)


def told(found: Stale | None) -> dict[str, str]:
    return {str(place): reason for place, reason in found.reasons.items()} if found else {}


def test_what_was_made_in_order_is_not_stale(connection) -> None:
    publish_all(connection, 0, *range(14))
    publish_all(connection, 10, *range(14, 21))
    assert find_stale(connection, TABLES, FIRST) is None


def test_a_day_repaired_later_makes_all_that_follows_from_it_stale(connection) -> None:
    publish_all(connection, 0, *range(10))
    publish(connection, "core.events", 60, 4)
    found = find_stale(connection, TABLES, FIRST)
    assert found is not None
    reasons = told(found)
    assert reasons["features.daily of 2024-01-05"] == (
        "core.events of 2024-01-05 was published after it"
    )
    assert reasons["features.totals of 2024-01-06"] == (
        "it follows from features.totals of 2024-01-05"
    )
    assert {f"features.totals of {day(number)}" for number in range(4, 10)} <= reasons.keys()
    assert "features.daily of 2024-01-06" not in reasons
    # The week of the repaired day, its champion, and the scores of the week after.
    assert "propensity.trained of 2024-01-01" in reasons
    assert "propensity.scores of 2024-01-08" in reasons
    assert found.window == Window(FIRST, day(10))
    for line in found.lines():
        assert ": " in line


def test_another_version_of_the_code_or_the_settings_makes_days_stale(connection) -> None:
    publish_all(connection, 0, *range(3))
    tables = TABLES | {"propensity.scores": replace(SCORES, code_version="1+other")}
    assert told(find_stale(connection, tables, FIRST)) == {
        f"propensity.scores of {day(number)}": CHANGED for number in range(3)
    }


def test_a_dimension_of_today_makes_no_day_stale(connection) -> None:
    items = replace(EVENTS, contract=EVENTS.contract.model_copy(update={"table": "core.items"}))
    tables = TABLES | {
        "core.items": replace(items, grid="whole"),
        "features.daily": replace(DAILY, whole=("core.items",)),
    }
    publish_all(connection, 0, 0)
    connection.execute(
        "insert into audit.publications (table_name, day, part, published_at, code_version)"
        " values ('core.items', ?, '', ?, '1')",
        [ALWAYS, BEGAN + timedelta(days=1)],
    )
    assert find_stale(connection, tables, FIRST) is None


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(writes=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=8))
def test_rebuilding_the_window_of_what_is_stale_leaves_nothing_stale(
    writes: list[tuple[int, int]],
) -> None:
    """Whatever was written in whichever order: single days of single tables, then one rebuild."""
    with duckdb.connect() as connection:
        prepare(connection)
        publish_all(connection, 0, *range(8))
        for minute, (table, number) in enumerate(writes):
            name = ["core.events", "features.daily", "features.totals"][table % 3]
            publish(connection, name, 10 + minute, number)
        found = find_stale(connection, TABLES, FIRST)
        if found is None:
            return
        last: date = found.window.days[-1]
        # A run of the range: its days, and the weeks that it closes.
        days = [number for number in range(8) if found.window.start <= day(number) <= last]
        for offset, (name, one) in enumerate(TABLES.items()):
            weeks = range(7) if found.window.start <= day(6) else ()
            publish(connection, name, 100 + offset, *(weeks if one.grid == "week" else days))
        assert find_stale(connection, TABLES, FIRST) is None
        assert Place("core.events", day(0)) not in found.reasons
