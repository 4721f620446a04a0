"""Which rows are copies of others: judged first, then compared, on one day and over days."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_assets.contract.limits import Gates, Tolerance
from tests.support.intake import FIRST, row, take

RULE = "few_rows_are_rejected"
NEXT = FIRST + timedelta(days=1)
Event = dict[str, Any]


def lines(orders: int, each: int = 3, day: int = 0) -> list[Event]:
    """Orders of several lines, whose number is the event id of each line."""
    return [
        row("purchase", f"u-{order}", day, item_id=f"i-{line}", event_id=number, order_id=number)
        for order in range(orders)
        for number in [f"o-{day}-{order}"]
        for line in range(each)
    ]


def test_one_id_on_rows_of_other_content_is_no_duplicate_and_holds_the_day_back() -> None:
    taken = take(lines(9))
    assert taken.rejected() == {"event_id_reused": 18}
    assert taken.held == {RULE: (FIRST,)}
    (example,) = taken.finding(RULE).examples
    assert example["advice"].startswith("event_id is the number of the order: map it as order_id")


def test_a_repaired_copy_outlives_its_broken_one_whichever_comes_first() -> None:
    good = row("purchase", event_id="1")
    others = [row("view", f"u-{n}", event_id=f"v-{n}") for n in range(50)]
    for day in ([good | {"unit_price": "?"}, good], [good, good | {"unit_price": "?"}]):
        taken = take(others + day)
        assert taken.held == {}
        assert taken.rejected() == {"price_unreadable": 1}
        assert taken.ask("select count(*) from core.events where event_id = '1'") == [(1,)]


def test_a_file_that_came_twice_loses_nothing_and_passes() -> None:
    day = [row("view", f"u-{n}", event_id=f"v-{n}") for n in range(50)]
    taken = take(day + day)
    assert taken.held == {}
    assert taken.rejected() == {"duplicate": 50}
    assert RULE in take(day + day + day).held


def test_equal_rows_without_an_id_are_one_event_unless_the_shop_says_otherwise() -> None:
    day = [row("purchase", f"u-{n}") for n in range(40)]
    twice = day + day[:15]
    taken = take(twice)
    assert taken.rejected() == {"equal_row": 15}
    assert taken.finding(RULE).examples[0]["advice"].startswith("equal_rows: keep")
    assert taken.held == {RULE: (FIRST,)}
    kept = take(twice, equal_rows_kept=True)
    assert (kept.held, kept.rejected()) == ({}, {})
    assert kept.ask("select count(*), count(distinct event_id) from core.events") == [(55, 55)]


@pytest.mark.parametrize("before", [0, 1], ids=["in one range", "a day later"])
def test_an_event_that_comes_again_on_a_later_day_is_told(before: int) -> None:
    first = [row("view", f"u-{n}", event_id=f"v-{n}") for n in range(60)]
    own = [row("view", f"u-{n}", 1, event_id=f"w-{n}") for n in range(60)]
    again = [row("view", f"u-{n}", 1, event_id=f"v-{n}") for n in range(60)]
    taken = take(first, own + again[:2], before=before)
    assert (taken.held, taken.warned["event_ids_are_new"]) == ({}, (NEXT,))
    assert taken.finding("event_ids_are_new").rows == 2
    taken = take(first, own + again[:20], before=before)
    assert taken.held == {"few_events_are_repeated": (NEXT,)}
    normal = Gates(tolerated={"event_repeated": Tolerance(at_most=0.5, note="visits as ids")})
    taken = take(first, own + again[:20], before=before, gates=normal)
    assert "event_ids_are_new" not in taken.warned
    assert taken.held == {}


def test_an_event_that_comes_again_after_more_than_a_week_is_not_looked_for() -> None:
    first, last = [row("view", event_id="v")], [row("view", day=8, event_id="v")]
    assert "event_ids_are_new" not in take(first, *[[]] * 7, last).warned
    assert "event_ids_are_new" in take(first, *[[]] * 6, [row("view", day=7, event_id="v")]).warned


KINDS = st.tuples(
    st.sampled_from(["1", "2", None]), st.sampled_from(["3.00", "4.00", "?"]), st.sampled_from("ab")
)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.lists(KINDS, max_size=12))
def test_of_the_usable_rows_of_a_key_the_first_is_kept_and_each_other_has_its_reason(
    delivered: list[tuple[str | None, str, str]],
) -> None:
    day = [row("purchase", who, event_id=key, unit_price=price) for key, price, who in delivered]
    expected: dict[int, str] = {}
    first: dict[object, tuple[str, str]] = {}
    for place, (key, price, who) in enumerate(delivered):
        same_event = key or (price, who)
        if price == "?":
            expected[place] = "price_unreadable"
        elif same_event not in first:
            first[same_event] = (price, who)
        elif first[same_event] != (price, who):
            expected[place] = "event_id_reused"
        else:
            expected[place] = "duplicate" if key else "equal_row"
    found = dict(take(day).ask("select source_row, reason from core.rejected_events"))
    assert found == expected
