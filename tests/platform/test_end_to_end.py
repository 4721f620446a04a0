"""The whole pipeline on a small shop: what a bad day, a repeated run, a later event may change."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from promo_assets.contract.events import REASONS
from promo_assets.contract.segments import SEGMENTS
from promo_assets.definitions import build_tables
from promo_assets.warehouse.publish import ALWAYS
from tests.support.shop import (
    DELIVERED,
    TRIAL_DAY,
    Event,
    Shop,
    assert_consistent,
    contracts,
    failures,
    unlike,
    up_to,
)

LAST = 29
BAD = 20


def holds_back(gate: dg.AssetCheckEvaluation) -> bool:
    """Whether a gate is red."""
    return not gate.passed and gate.severity is dg.AssetCheckSeverity.ERROR


def poisoned(events: list[Event]) -> list[Event]:
    """A day on which most rows are bad, each in one of four ways."""
    ways: list[Event] = [
        {"user_id": None, "device_id": None},
        {"event_type": "purchase", "quantity": 1, "unit_price": "-5.00"},
        {"event_type": "teleport"},
        {"event_type": "purchase", "quantity": "three", "unit_price": "a lot"},
    ]
    return [
        event if number % 5 == 4 else {**event, **ways[number % 5]}
        for number, event in enumerate(events)
    ]


# A shop without faults.


def test_every_delivered_row_of_every_day_is_accepted_or_rejected(thirty_days: Shop) -> None:
    rows = thirty_days.query("""
        select
            (select count(*) from raw.events where event_date = day),
            (select count(*) from core.events where event_date = day),
            (select count(*) from core.rejected_events where event_date = day)
        from core.calendar where day between date '2024-01-01' and date '2024-01-30'
    """)
    delivered = [len(thirty_days.events(number)) for number in range(LAST + 1)]
    assert [raw for raw, _, _ in rows] == delivered
    assert all(raw == accepted + rejected for raw, accepted, rejected in rows)


def test_every_table_is_published_for_every_partition(thirty_days: Shop) -> None:
    published = thirty_days.publications()
    days = {thirty_days.day(number) for number in range(LAST + 1)}
    weeks = {thirty_days.day(number) for number in range(28)}  # Four whole weeks.
    for table in build_tables(thirty_days.settings):
        name = table.contract.table
        found = {(day, part) for known, day, part in published if known == name}
        expected = {
            "day": {(day, "") for day in days},
            "week": {(day, "") for day in weeks},
            "day_segment": {(day, segment) for day in days for segment in SEGMENTS},
            "whole": {(ALWAYS, "")},
        }[table.grid]
        assert found == expected, name


def test_the_row_counts_of_publications_are_those_of_the_tables(thirty_days: Shop) -> None:
    assert_consistent(thirty_days)


def test_the_trial_of_the_first_days_is_evidence_once_it_has_closed(thirty_days: Shop) -> None:
    rows = thirty_days.query(
        "select as_of_date, bool_or(evidence = 'randomised') from strategy.offer_effects"
        " where offer_id = 'five_off' group by all order by all"
    )
    closed = TRIAL_DAY + 13  # It can be used for 14 days.
    assert [randomised for _, randomised in rows] == [
        number >= closed for number in range(LAST + 1)
    ]


# A poisoned day.


@pytest.mark.slow
def test_a_poisoned_day_stops_at_its_gate_and_its_repair_restores_every_row(
    open_shop: Shop, thirty_days: Shop
) -> None:
    open_shop.deliver(BAD, poisoned(open_shop.events(BAD)))
    results = open_shop.run(BAD, BAD)

    assert [result.phase.job for result in results if not result.success] == ["daily_tables"]
    ((step, message),) = failures(results)
    assert step == "core__events"
    assert "core.events 2024-01-21" in message
    assert "at_most_5_percent_rejected (critical)" in message
    gate = open_shop.gates("core.events")["2024-01-21"]
    assert holds_back(gate)
    assert "1 row" in str(gate.description)
    good = thirty_days.tables(but=DELIVERED)
    assert unlike(open_shop.tables(but=DELIVERED), good) == {}

    open_shop.deliver(BAD)
    assert failures(open_shop.run(BAD, BAD)) == []
    assert unlike(open_shop.tables(), thirty_days.tables()) == {}
    assert not holds_back(open_shop.gates("core.events")["2024-01-21"])


@pytest.mark.slow
def test_a_poisoned_day_of_a_range_holds_back_what_is_computed_from_it_and_no_more(
    new_shop: Shop, thirty_days: Shop
) -> None:
    new_shop.deliver_all(LAST + 1)
    new_shop.deliver(BAD, poisoned(new_shop.events(BAD)))
    assert failures(new_shop.run(0, LAST)) == []

    published = new_shop.publications()

    def days_of(table: str) -> list[int]:
        return [n for n in range(LAST + 1) if (table, new_shop.day(n), "") in published]

    others = [number for number in range(LAST + 1) if number != BAD]
    assert days_of("raw.events") == list(range(LAST + 1))
    assert days_of("core.events") == others
    assert days_of("features.user_daily") == others
    assert days_of("features.user_features") == list(range(BAD))
    assert_consistent(new_shop)
    before = new_shop.day(BAD - 1)
    built = ("core.events", "features.user_daily", "features.user_features")
    assert unlike(up_to(new_shop, before, built), up_to(thirty_days, before, built)) == {}

    events, features = new_shop.gates("core.events"), new_shop.gates("features.user_features")
    held = [f"{new_shop.day(number)}" for number in range(BAD, LAST + 1)]
    assert {day for day, gate in events.items() if day and holds_back(gate)} == {held[0]}
    assert {day for day, gate in features.items() if day and holds_back(gate)} == set(held)
    assert "at_most_5_percent_rejected (critical): 1 row" in str(events[held[0]].description)
    for day in (held[0], held[-1]):
        assert "waits for core.events of 2024-01-21 (" in str(features[day].description)

    new_shop.deliver(BAD)
    assert failures(new_shop.run(BAD, LAST)) == []
    assert unlike(new_shop.tables(), thirty_days.tables()) == {}


@pytest.mark.slow
def test_a_file_delivered_twice_changes_no_published_event_and_warns(
    open_shop: Shop, thirty_days: Shop
) -> None:
    events = open_shop.events(LAST)
    open_shop.deliver(LAST, events + events)
    assert failures(open_shop.run(LAST, LAST, groups=["events"])) == []

    rejected = "select reason, count(*) from core.rejected_events group by all"
    assert open_shop.query(rejected) == [("duplicate", len(events))]
    unchanged = thirty_days.tables(but=DELIVERED)
    assert unlike(open_shop.tables(but=DELIVERED), unchanged) == {}
    assert open_shop.gates("raw.events")["2024-01-30"].passed
    told = open_shop.gates("raw.events", "warnings")["2024-01-30"]
    assert not told.passed
    assert told.severity is dg.AssetCheckSeverity.WARN
    assert "files_are_delivered_once (warning)" in str(told.description)


LINE = {"event_type": "purchase", "user_id": "u", "quantity": 2, "unit_price": "3.00"}
ONE_BAD_ROW: dict[str, Event] = {
    "event_time_unreadable": {"event_time": "yesterday", "event_type": "view", "user_id": "u"},
    "event_type_unknown": {"event_type": "teleport", "user_id": "u"},
    "user_missing": {"event_type": "view"},
    "quantity_unreadable": {**LINE, "quantity": "2.5"},
    "quantity_not_positive": {**LINE, "quantity": 0},
    "price_unreadable": {**LINE, "unit_price": "free"},
    "price_negative": {**LINE, "unit_price": "-3.00"},
    "discount_unreadable": {**LINE, "discount": "some"},
    "discount_negative": {**LINE, "discount": "-0.01"},
    "discount_above_amount": {**LINE, "discount": "6.01"},
    "offer_missing": {"event_type": "offer_sent", "user_id": "u"},
    "probability_out_of_range": {
        "event_type": "offer_withheld",
        "user_id": "u",
        "assignment_probability": "1.5",
    },
    "duplicate": {},
}
"""One row for every reason that a file of the day itself can give."""


@pytest.mark.slow
def test_a_few_bad_rows_are_rejected_each_with_its_reason_and_the_day_goes_through(
    open_shop: Shop, thirty_days: Shop
) -> None:
    # Two days share the rows: eleven bad rows of a small day are more than 5 %, and block it.
    halves = {LAST - 1: list(ONE_BAD_ROW)[:6], LAST: list(ONE_BAD_ROW)[6:]}
    for number, reasons in halves.items():
        events = open_shop.events(number)
        at = events[-1]["event_time"]
        bad = [
            {"event_time": at, "event_id": f"bad-{reason}", **ONE_BAD_ROW[reason]}
            if ONE_BAD_ROW[reason]
            else events[0]
            for reason in reasons
        ]
        open_shop.deliver(number, events + bad)
    old = {"event_time": "2023-12-31T23:59:59", "event_type": "view", "user_id": "u"}
    open_shop.deliver(0, [*open_shop.events(0), old])
    assert failures(open_shop.run(0, LAST, groups=["events"])) == []

    found = open_shop.query("select event_date, reason from core.rejected_events order by all")
    expected = [(open_shop.day(n), reason) for n, reasons in halves.items() for reason in reasons]
    assert found == sorted([*expected, (open_shop.day(0), "before_partition")])
    # No file can deliver a row for another day than that of its time.
    assert {reason for _, reason in found} == REASONS.keys() - {"after_partition"}
    assert open_shop.tables()["core.events"] == thirty_days.tables()["core.events"]


# Ranges, days, and what comes after them.


@pytest.mark.slow
def test_single_days_give_the_rows_of_a_range(new_shop: Shop, thirty_days: Shop) -> None:
    """The last days one by one, each before the next one's file is there: no row of a range can
    come from a later day."""
    new_shop.deliver_all(LAST - 1)
    assert failures(new_shop.run(0, LAST - 2)) == []
    for number in (LAST - 1, LAST):
        new_shop.deliver(number)
        assert failures(new_shop.run(number, number)) == []
    assert unlike(new_shop.tables(), thirty_days.tables()) == {}


@pytest.mark.slow
def test_eight_single_days_give_the_rows_of_one_range(new_shop: Shop, tmp_path: Any) -> None:
    apart = new_shop.deliver_all(8).copy(tmp_path / "apart")
    assert failures(new_shop.run(0, 7)) == []
    for number in range(8):
        assert failures(apart.run(number, number)) == []
    assert unlike(apart.tables(), new_shop.tables()) == {}


@pytest.mark.slow
def test_later_events_change_no_row_of_an_earlier_day(new_shop: Shop, thirty_days: Shop) -> None:
    new_shop.deliver_all(BAD + 1)
    for number in range(BAD + 1, LAST + 1):
        new_shop.deliver(number, other_events(new_shop.events(number)))
    assert failures(new_shop.run(0, LAST)) == []

    windowed = [name for name, contract in contracts(new_shop).items() if contract.window]
    # A week's label is what happens in it: the week of day 20 ends on day 20.
    day = new_shop.day(BAD)
    assert unlike(up_to(new_shop, day, windowed), up_to(thirty_days, day, windowed)) == {}
    later = new_shop.tables()["features.user_features"]
    assert later != thirty_days.tables()["features.user_features"]


def other_events(events: list[Event]) -> list[Event]:
    """A different day: other prices, every second event by somebody new, nothing searched."""
    return [
        {
            **event,
            "user_id": f"stranger-{number}" if number % 2 else event.get("user_id"),
            "unit_price": "999.00" if event.get("unit_price") else None,
        }
        for number, event in enumerate(events)
        if event["event_type"] != "search"
    ]
