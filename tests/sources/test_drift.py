"""A delivery changes its shape: the day is held back and says how, the repaired day goes through.

Days go through the platform's own steps (stage, audit, publish) with the small shop's files.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.contract.project import PROJECT
from promo_assets.contract.tables import load_contracts
from promo_assets.gates.audit import Auditor
from promo_assets.gates.verdict import Finding, Verdict
from promo_assets.tables.events import raw_events
from promo_assets.tables.table import Production
from promo_assets.warehouse.publish import Slice, prepare, publish, stage
from tests.support.shop import COLUMNS, Event, Shop

BEFORE = 10
"""Days that are delivered as always, before the day that is not."""

RAW = load_contracts(PROJECT / "expectations")["raw.events"]


def take(shop: Shop, first: int, last: int) -> Verdict:
    """Stage and audit the days of ``raw.events``; publish those that are not held back."""
    window = Window(shop.day(first), shop.day(last + 1))
    warehouse = installation.warehouse(shop.settings)
    target = Slice(RAW, window)
    with warehouse.get_connection() as connection:
        prepare(connection)
        production = Production(RAW, connection, window, (), (), "test", print, lambda notes: None)
        stage(connection, target, raw_events(production, installation.intake(shop.settings)))
    auditor = Auditor(warehouse, None)
    verdict = auditor.audit(RAW, target.staged, (window.start, window.end))
    auditor.close()
    with warehouse.get_connection() as connection:
        held_back = verdict.blocked_days
        publish(connection, target, held_back=held_back, run_id="test", code_version="1")
    return verdict


def told(verdict: Verdict, expectation: str) -> Finding:
    (found,) = [one for one in verdict.findings if one.expectation == expectation]
    return found


def deliver(shop: Shop, number: int, change: Callable[[Event], Event]) -> None:
    """The day's events, each changed, under the columns that they have then."""
    rows = [change({name: row.get(name) for name in COLUMNS}) for row in shop.events(number)]
    path = shop.file(shop.day(number))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def renamed(old: str, new: str) -> Callable[[Event], Event]:
    return lambda row: {new if name == old else name: value for name, value in row.items()}


def without(*names: str) -> Callable[[Event], Event]:
    return lambda row: {name: value for name, value in row.items() if name not in names}


def changed(name: str, change: Callable[[Any], Any]) -> Callable[[Event], Event]:
    return lambda row: row | {name: None if row[name] is None else change(row[name])}


@pytest.fixture(scope="module")
def ten_days(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("drift")).deliver_all(BEFORE)
    assert take(shop, 0, BEFORE - 1).failed == ()
    return shop


@pytest.fixture
def shop(ten_days: Shop, tmp_path: Path) -> Shop:
    return ten_days.copy(tmp_path / "shop")


def test_a_day_as_always_is_neither_held_back_nor_warned_about(shop: Shop) -> None:
    shop.deliver(BEFORE)
    assert take(shop, BEFORE, BEFORE).failed == ()


@pytest.mark.parametrize("column", ["user_id", "unit_price", "event_type", "event_id"])
def test_a_column_that_is_gone_holds_the_day_back_and_is_named(shop: Shop, column: str) -> None:
    deliver(shop, BEFORE, without(column))
    verdict = take(shop, BEFORE, BEFORE)
    assert verdict.blocked_days == {shop.day(BEFORE)}
    (example,) = told(verdict, "columns_are_delivered").examples
    assert example["column_name"] == column
    assert example["before"] == f"{BEFORE} of the 28 days before had it"
    assert example["expected_values"] >= 10
    assert example["for_mapping_yaml"] is None

    shop.deliver(BEFORE)
    assert take(shop, BEFORE, BEFORE).failed == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [("unit_price", "price_each"), ("user_id", "customer_id"), ("event_time", "occurred_at")],
)
def test_a_renamed_column_is_suggested_and_the_suggestion_repairs_the_day(
    shop: Shop, old: str, new: str
) -> None:
    deliver(shop, BEFORE, lambda row: renamed(old, new)(row) | {"colour": "red"})
    verdict = take(shop, BEFORE, BEFORE)
    assert verdict.blocked_days == {shop.day(BEFORE)}
    (example,) = told(verdict, "columns_are_delivered").examples
    assert example["for_mapping_yaml"] == f"columns: {{{old}: {new}}}"

    mapping = shop.folder / "shop" / "mapping.yaml"
    mapping.write_text(example["for_mapping_yaml"] + "\ndrop: [colour]\n")
    assert take(shop, BEFORE, BEFORE).failed == ()
    # Earlier files, which have the old name, are read as before.
    assert take(shop, 0, BEFORE).failed == ()


def test_a_column_that_came_before_too_is_not_suggested(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "coloured")
    shop.deliver(0)
    for number in range(BEFORE + 1):
        deliver(shop, number, lambda row: row | {"users": "red"})
    assert not take(shop, 0, BEFORE - 1).blocked
    deliver(shop, BEFORE, lambda row: without("user_id")(row) | {"users": "red"})
    for first in (BEFORE, 0):
        verdict = take(shop, first, BEFORE)
        (example,) = told(verdict, "columns_are_delivered").examples
        assert (example["column_name"], example["for_mapping_yaml"]) == ("user_id", None)


def test_a_column_that_is_gone_for_good_is_declared_and_nobody_waits_for_it(shop: Shop) -> None:
    deliver(shop, BEFORE, without("session_id"))
    assert take(shop, BEFORE, BEFORE).blocked
    (shop.folder / "shop" / "mapping.yaml").write_text("not_delivered: [session_id]\n")
    assert take(shop, BEFORE, BEFORE).failed == ()


@pytest.mark.parametrize(
    ("column", "change", "example"),
    [
        ("unit_price", lambda price: price.replace(".", ","), "10,"),
        ("quantity", lambda quantity: f"{quantity} pcs", "1 pcs"),
        ("event_time", lambda time: time.replace("2024-01-11T", "11/01/2024 "), "11/01/2024 "),
    ],
)
def test_a_retyped_column_holds_the_day_back_with_an_example(
    shop: Shop, column: str, change: Callable[[Any], Any], example: str
) -> None:
    deliver(shop, BEFORE, changed(column, change))
    verdict = take(shop, BEFORE, BEFORE)
    assert verdict.blocked_days == {shop.day(BEFORE)}
    (found,) = told(verdict, "values_keep_their_type").examples
    assert found["column_name"] == column
    assert found["example"].startswith(example)
    assert found["unreadable_share_before"] == 0

    shop.deliver(BEFORE)
    assert take(shop, BEFORE, BEFORE).failed == ()


def test_bad_values_among_good_ones_are_no_change_of_type(shop: Shop) -> None:
    bad = iter([True, False, False] * 1_000)
    deliver(shop, BEFORE, changed("unit_price", lambda price: "free" if next(bad) else price))
    assert take(shop, BEFORE, BEFORE).failed == ()


def test_an_added_column_is_kept_and_reported_once(shop: Shop) -> None:
    for number in (BEFORE, BEFORE + 1):
        deliver(shop, number, lambda row: row | {"colour": "red"})
    for number, reported in ((BEFORE, True), (BEFORE + 1, False)):
        verdict = take(shop, number, number)
        assert not verdict.blocked
        assert verdict.warned is reported
        if reported:
            (example,) = told(verdict, "columns_are_declared").examples
            assert example["column_name"] == "colour"
            assert example["for_mapping_yaml"] == "drop: [colour]"
    (kept,) = shop.query(
        f"select distinct extra from raw.events where event_date = '{shop.day(BEFORE)}'"
    )
    assert kept == ('{"colour": "red"}',)


def test_in_a_range_the_day_that_changes_is_found_by_the_days_of_the_range(
    tmp_path: Path,
) -> None:
    shop = Shop(tmp_path / "range").deliver_all(BEFORE + 3)
    for number in (BEFORE, BEFORE + 1):
        deliver(shop, number, without("user_id"))
    deliver(shop, BEFORE + 2, changed("quantity", lambda quantity: f"{quantity} pcs"))
    verdict = take(shop, 0, BEFORE + 2)
    assert told(verdict, "columns_are_delivered").days == (shop.day(BEFORE), shop.day(BEFORE + 1))
    assert told(verdict, "values_keep_their_type").days == (shop.day(BEFORE + 2),)


def test_a_sparse_column_is_not_waited_for(shop: Shop) -> None:
    # Searches, offers and discounts come on some days only, or in a few rows of a day.
    quiet: Sequence[Event] = [row for row in shop.events(BEFORE) if row["event_type"] == "view"]
    shop.deliver(BEFORE, quiet)
    assert take(shop, BEFORE, BEFORE).failed == ()


def taken_in(tmp_path: Path, days: Sequence[tuple[int, int]], total: int = 30) -> list[Finding]:
    """What the gate of the last of ``days`` finds; each has so many sales of customers and of
    nobody known, at a till."""
    shop = Shop(tmp_path / "tills")
    for number, (known, anonymous) in enumerate(days):
        sale = {"event_type": "purchase", "item_id": "x", "quantity": 1, "unit_price": "10.00"}
        rows = [{"user_id": f"c{n}"} for n in range(known)]
        rows += [{"device_id": f"till-{n}"} for n in range(anonymous)]
        at = f"{shop.day(number)}T23:00:00"
        shop.deliver(
            number,
            [
                {"event_id": f"{number}-{n}", "event_time": at, **sale, **row}
                for n, row in enumerate(rows)
            ],
        )
    assert not take(shop, 0, len(days) - 2).blocked
    return list(take(shop, len(days) - 1, len(days) - 1).failed)


def test_a_sunday_on_which_nobody_bought_anonymously_is_like_other_sundays(
    tmp_path: Path,
) -> None:
    week = [(30, 30)] * 6
    days = [*week, (30, 1), *week, (30, 1), *week, (30, 0)]
    assert taken_in(tmp_path / "once", days) == []
    assert taken_in(tmp_path / "always", [*week, (30, 0)] * 3) == []


def test_an_optional_column_that_other_weeks_had_is_told_and_not_held_back(tmp_path: Path) -> None:
    # A Monday on which the tills were shut, once; and a week later they are again.
    days = [(30, 30)] * 14
    days[7] = (30, 4)
    (told,) = taken_in(tmp_path / "told", [*([(30, 30)] * 7), *days[:7], *days[:7], (30, 0)])[:1]
    assert (told.expectation, told.severity) == ("columns_are_delivered", "critical")
    (told,) = taken_in(tmp_path / "held", [*days[7:8], *days[:7], *days[:7], *days[:6], (30, 0)])
    assert (told.expectation, told.severity) == ("columns_are_as_a_week_before", "warning")
