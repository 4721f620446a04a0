"""What a day waits for, and the bad day where the wait began."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_assets.contract.days import Window
from promo_assets.contract.tables import TableContract
from promo_assets.tables.table import Table
from promo_assets.tables.waiting import (
    NEVER,
    Origins,
    Place,
    Reason,
    needs,
    publications,
    unpublished,
    waiting,
)
from promo_assets.warehouse.publish import ALWAYS, prepare

FIRST = date(2024, 1, 1)
"""A Monday."""


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def table(name: str, **told) -> Table:
    columns = {"day": {"type": "date", "description": "d"}}
    contract = TableContract.model_validate({"table": name, "window": "day", "columns": columns})
    return Table(contract, "group", lambda production: pl.DataFrame(), "1", **told)


EVENTS = table("core.events")
DAILY = table("features.daily", inputs={"core.events": 0})
TOTALS = table("features.totals", inputs={"features.daily": 0, "features.totals": 1})
TRAINED = table("propensity.trained", grid="week", inputs={"features.totals": 7})
CHAMPIONS = table(
    "propensity.champions",
    grid="week",
    weekly={"propensity.trained": (-1, 0), "propensity.champions": (-1, -1)},
)
SCORES = table(
    "propensity.scores", inputs={"features.totals": 0}, weekly={"propensity.champions": (-1, -1)}
)
ASSIGNED = table("strategy.assigned", grid="day_segment", inputs={"propensity.scores": 0})
DECIDED = table("strategy.decided", grid="day_segment", segmented=("strategy.assigned",))
TABLES = {
    one.contract.table: one
    for one in (EVENTS, DAILY, TOTALS, TRAINED, CHAMPIONS, SCORES, ASSIGNED, DECIDED)
}


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    opened = duckdb.connect()
    prepare(opened)
    return opened


def published(connection, name: str, *days: int, part: str = "") -> None:
    connection.executemany(
        "insert or replace into audit.publications (table_name, day, part) values (?, ?, ?)",
        [[name, day(number), part] for number in days],
    )


def held_back(connection, name: str, number: int, observed: str) -> None:
    connection.execute(
        "insert into audit.findings (table_name, day, part, expectation, severity, passed,"
        " observed) values (?, ?, '', 'is_good', 'critical', false, ?)",
        [name, day(number), observed],
    )


def waits(connection, one: Table, first: int, last: int, *parts: str) -> dict[int, Place]:
    window = Window(day(first), day(last + 1))
    found = waiting(connection, one, window, parts, FIRST)
    return {(at - FIRST).days: place for at, place in found.items()}


def test_days_wait_for_all_of_the_inputs_that_they_read(connection) -> None:
    published(connection, "core.events", 0, 1, 2, 3, 5, 6, 7, 8, 9)
    for lookback, expected in ((0, [4]), (2, [4, 5, 6])):
        one = replace(DAILY, inputs={"core.events": lookback})
        assert waits(connection, one, 0, 9) == dict.fromkeys(expected, Place("core.events", day(4)))


def test_nothing_is_needed_from_before_the_first_day() -> None:
    one = replace(DAILY, inputs={"core.events": 30, "features.daily": 1})
    assert list(needs(one, FIRST, "", FIRST)) == [Place("core.events", FIRST)]


def test_a_table_that_reads_itself_waits_for_its_day_before(connection) -> None:
    published(connection, "features.daily", *range(10))
    assert set(waits(connection, TOTALS, 4, 6)) == {4, 5, 6}
    published(connection, "features.totals", 3)
    assert waits(connection, TOTALS, 4, 6) == {}


def test_days_after_a_gap_wait_for_the_gap_in_a_table_that_reads_itself(connection) -> None:
    published(connection, "features.daily", 0, 1, 3, 4)
    assert set(waits(connection, TOTALS, 0, 4)) == {2, 3, 4}


def test_a_missing_dimension_holds_every_day_back(connection) -> None:
    one = replace(EVENTS, whole=("core.items",))
    assert set(waits(connection, one, 0, 1).values()) == {Place("core.items", ALWAYS)}
    assert str(Reason(Place("core.items", ALWAYS))) == f"waits for core.items ({NEVER})"


def test_scores_wait_for_the_champion_of_the_week_before(connection) -> None:
    published(connection, "features.totals", *range(21))
    assert set(waits(connection, SCORES, 0, 20)) == set(range(7, 21))  # None before the first week.
    published(connection, "propensity.champions", *range(7))
    assert set(waits(connection, SCORES, 0, 20)) == set(range(14, 21))


def test_a_week_waits_whole_for_a_day_of_it_and_for_the_weeks_that_it_reads(connection) -> None:
    published(connection, "features.totals", *(n for n in range(21) if n != 9))
    # Snapshots a week back: the bad day is in the history of the week after, too.
    assert set(waits(connection, TRAINED, 0, 20)) == set(range(7, 21))
    published(connection, "propensity.trained", *range(7))
    assert set(waits(connection, CHAMPIONS, 0, 20)) == set(range(7, 21))


def test_a_segment_waits_for_its_own_segment(connection) -> None:
    published(connection, "strategy.assigned", 0, part="loyal")
    assert waits(connection, DECIDED, 0, 0, "loyal") == {}
    assert waits(connection, DECIDED, 0, 0, "loyal", "new") == {
        0: Place("strategy.assigned", FIRST, "new")
    }


def test_every_wait_is_traced_to_the_day_that_a_gate_holds_back(connection) -> None:
    published(connection, "core.events", *(n for n in range(21) if n != 9))
    published(connection, "features.daily", *(n for n in range(21) if n not in (9, 11)))
    published(connection, "features.totals", *range(9))
    published(connection, "propensity.trained", *range(7))
    published(connection, "propensity.champions", *range(7))
    published(connection, "propensity.scores", *range(9))
    held_back(connection, "core.events", 9, "42 rows are strange")
    bad = Reason(Place("core.events", day(9)), "is_good: 42 rows are strange")
    known = publications(connection)
    for place in (
        Place("features.totals", day(20)),
        Place("propensity.champions", day(7)),
        Place("propensity.scores", day(16)),
        Place("strategy.decided", day(16), "loyal"),
    ):
        assert Origins(connection, TABLES, FIRST, known).of(place) == bad, place
    never = Origins(connection, TABLES, FIRST, known).of(Place("features.daily", day(11)))
    assert never == Reason(Place("features.daily", day(11)))


def test_what_is_not_published_of_a_window_is_told_once_by_its_reason(connection) -> None:
    published(connection, "core.events", *range(14))
    held_back(connection, "features.daily", 0, "empty")
    found = unpublished(connection, TABLES, dict.fromkeys(TABLES, Window(day(0), day(14))), FIRST)
    origins = {str(reason): len(places) for reason, places in found.items()}
    assert origins.pop("waits for features.daily of 2024-01-01 (is_good: empty)") > 14
    assert set(origins) == {
        f"waits for features.daily of {day(number)} ({NEVER})" for number in range(1, 14)
    }
    weeks = [place for places in found.values() for place in places if "trained" in place.table]
    assert [place.day for place in weeks] == [day(0), day(7)]


@settings(deadline=None, max_examples=50)
@given(gaps=st.sets(st.integers(0, 19)), lookback=st.integers(0, 8))
def test_waiting_is_needing_what_is_missing(gaps: set[int], lookback: int) -> None:
    """Against the definition: a day waits if a day it needs is missing, or its own past waits."""
    with duckdb.connect() as connection:
        prepare(connection)
        there = [number for number in range(20) if number not in gaps]
        if there:
            published(connection, "core.events", *there)
        one = table("features.totals", inputs={"core.events": lookback, "features.totals": 1})
        expected: set[int] = set()
        for number in range(20):
            read = set(range(max(0, number - lookback), number + 1))
            if read & gaps or number - 1 in expected:
                expected.add(number)
        assert set(waits(connection, one, 0, 19)) == expected
