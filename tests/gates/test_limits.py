"""What a day may lose: judged by rows, event types and money, by the rules that the gate runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from promo_assets.contract.limits import Gates, Tolerance
from tests.support.intake import FIRST, row, take

RULE = "few_rows_are_rejected"
Event = dict[str, Any]


def views(count: int, day: int = 0) -> list[Event]:
    return [row("view", f"user-{n}", day, event_id=f"v-{day}-{n}") for n in range(count)]


def purchases(count: int, day: int = 0, **told: Any) -> list[Event]:
    ids = [{"event_id": f"p-{day}-{n}"} for n in range(count)]
    return [row("purchase", f"user-{n}", day) | one | told for n, one in enumerate(ids)]


def tolerating(**reasons: float) -> Gates:
    return Gates(
        tolerated={name: Tolerance(at_most=share, note="so") for name, share in reasons.items()}
    )


@pytest.mark.parametrize("count", [1, 2, 18, 31])
@pytest.mark.parametrize(
    "told",
    [
        {"unit_price": "10,50"},
        {"quantity": "2 pcs"},
        {"event_type": "sale"},
        {"user_id": None},
        {"event_time": "yesterday"},
        {"event_time": "1970-01-20 10:00:00"},
        {"unit_price": "-1"},
        {"unit_price": "1.299"},
    ],
)
def test_a_day_that_would_lose_all_its_purchases_is_held_back(count: int, told: Event) -> None:
    taken = take(views(1000) + purchases(count, **told))
    assert taken.held == {RULE: (FIRST,)}


def test_a_tenth_of_a_type_is_too_much_and_a_few_rows_of_it_are_not() -> None:
    some = [row("return", f"r-{n}", quantity="1", unit_price="2") for n in range(80)]
    good, bad = some[:60], [told | {"quantity": "0"} for told in some[60:]]
    assert RULE in take(views(900) + good + bad).held
    assert take(views(900) + good + bad[:3]).held == {}
    assert take(views(900) + good[:1] + bad[:1]).held == {}


def test_what_counts_is_money_too() -> None:
    cheap, dear = purchases(500), purchases(1, unit_price="9000.00", user_id=None)
    taken = take(cheap + [told | {"event_id": "dear"} for told in dear])
    assert taken.held == {RULE: (FIRST,)}
    (example,) = taken.finding(RULE).examples
    assert example["rejected"] == "9000.00 of 14000.00 money of purchases"
    assert (example["mostly"], example["of_that_reason"]) == ("user_missing", 1)


def test_an_amount_that_can_not_be_believed_weighs_as_an_average_one() -> None:
    absurd = {"event_id": "ean", "quantity": "4006381333931", "unit_price": "9999.00"}
    taken = take(purchases(61) + purchases(1, **absurd))
    assert taken.held == {}
    assert taken.rejected() == {"quantity_too_large": 1}
    assert taken.ask("select count(*) from core.events") == [(61,)]


def test_a_small_sample_without_an_accepted_row_is_held_back() -> None:
    assert take(purchases(10, unit_price="?")).held == {RULE: (FIRST,)}
    assert take([row("view", None)]).held == {RULE: (FIRST,)}
    # One of ten is what happens.
    assert take(purchases(9) + purchases(1, event_id="x", unit_price="?")).held == {}


def test_a_few_rows_a_day_are_many_in_a_week() -> None:
    """A small shop that loses a third of its sales every day, a few rows at a time."""
    days = [
        purchases(12, day) + [told | {"event_id": f"{told['event_id']}-x", "unit_price": "-1"}
                              for told in purchases(6, day)]
        for day in range(4)
    ]  # fmt: skip
    taken = take(*days)
    assert taken.held == {RULE: tuple(FIRST + timedelta(days=n) for n in (1, 2, 3))}
    assert "(12 rows in 7 days)" in taken.finding(RULE).examples[0]["rejected"]
    # Neither a mended day is held back for those before it, nor a bad one that others outweigh.
    assert take(*days[:1], purchases(12, 1)).held == {}
    assert take(*[purchases(300, day) for day in range(3)], days[3]).held == {}
    assert take(*days, gates=tolerating(price_negative=0.4)).held == {}
    # 15 of 215 rows are more than a twentieth, but not beyond chance.
    mess = [
        purchases(40, day) + [told | {"event_id": f"{told['event_id']}-x", "unit_price": "-1"}
                              for told in purchases(3, day)]
        for day in range(5)
    ]  # fmt: skip
    assert take(*mess).held == {}


def test_what_a_shop_says_is_normal_passes_up_to_where_it_says() -> None:
    day = purchases(75) + [
        told | {"event_id": f"n-{n}", "user_id": None} for n, told in enumerate(purchases(25))
    ]
    assert RULE in take(day).held
    assert take(day, gates=tolerating(user_missing=0.3)).held == {}
    taken = take(day, gates=tolerating(user_missing=0.2))
    assert "25 of 100 rows as user_missing" in taken.finding(RULE).examples[0]["rejected"]
    returns = [row("return", f"r-{n}", quantity="-1", unit_price="2") for n in range(12)]
    assert RULE in take(purchases(88) + returns).held
    assert take(purchases(88) + returns, gates=tolerating(quantity_not_positive=0.15)).held == {
        RULE: (FIRST,)
    }, "no return at all was accepted: a tenth of the day, but all of its type"
    assert take(purchases(88) + returns, gates=tolerating(quantity_not_positive=1)).held == {}


def test_a_type_can_have_a_limit_of_its_own() -> None:
    lines = [row("return", f"r-{n}", quantity="1", unit_price="2") for n in range(100)]
    day = purchases(100) + lines[:88] + [told | {"quantity": "0"} for told in lines[88:]]
    assert RULE in take(day).held
    assert take(day, gates=Gates(rejected_by_type={"return": 0.15})).held == {}


def test_rows_that_are_tolerated_hide_no_others() -> None:
    old = [told | {"event_time": "2020-01-01 00:00:00"} for told in views(10_000)]
    day = old + [
        told | {"event_id": f"b-{n}"} for n, told in enumerate(purchases(60, quantity="x"))
    ]
    taken = take(day + views(0), gates=tolerating(before_partition=1))
    assert RULE in taken.held


def test_older_rows_are_told_with_the_start_that_takes_them() -> None:
    day = [told | {"event_time": "2010-12-01 08:26:00"} for told in purchases(2)]
    taken = take(day)
    assert taken.held == {RULE: (FIRST,)}
    (example,) = taken.finding(RULE).examples
    assert example["advice"] == "PROMO_START=2010-12-01 takes them too"


def test_clean_days_and_days_without_rows_pass() -> None:
    taken = take(views(100) + purchases(5), [], views(3, day=2))
    assert taken.held == {}
