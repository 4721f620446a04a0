"""What looks wrong though every row can be used: told with rows, once, and held back where consent
would count for nobody."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from promo_assets.contract.limits import Gates, Tolerance
from tests.support.intake import FIRST, row, take

Event = dict[str, Any]


def views(count: int, day: int = 0, **told: Any) -> list[Event]:
    return [row("view", f"u-{n}", day, event_id=f"v-{day}-{n}", **told) for n in range(count)]


def users(*names: str) -> dict[str, list[Event]]:
    return {"core.users": [{"user_id": name, "consent_marketing": True} for name in names]}


def day(number: int) -> Any:
    return FIRST + timedelta(days=number)


def test_a_list_of_users_that_knows_nobody_holds_the_day_back() -> None:
    taken = take(views(60), beside=users(*(f"{n}" for n in range(60))))
    assert taken.held == {"users_are_listed": (FIRST,)}
    (example,) = taken.finding("users_are_listed").examples
    assert (example["accounts"], example["listed"]) == (60, 0)
    stated = {"identifier": "x", "kind": "account", "purpose": "marketing", "granted": True}
    consents = {"core.consents": [stated | {"since": FIRST}]}
    assert take(views(60), beside=consents).held == {"users_are_listed": (FIRST,)}
    normal = Gates(tolerated={"user_unlisted": Tolerance(at_most=1, note="a few known people")})
    taken = take(views(60), beside=users("x"), gates=normal)
    assert (taken.held, taken.warned) == ({}, {})


def test_few_listed_users_are_told_when_it_begins() -> None:
    some = users(*(f"u-{n}" for n in range(20)))
    taken = take(views(60), views(60, 1), views(30, 2), views(60, 3), beside=some)
    assert taken.held == {}
    assert taken.warned == {"most_users_are_listed": (day(0), day(3))}
    assert take(views(60), views(60, 1), beside=some, before=1).warned == {}
    assert take(views(2), beside=users("a", "b")).warned == {"most_users_are_listed": (FIRST,)}
    assert take(views(60)).warned == {}


def test_stated_devices_that_are_never_seen_are_told() -> None:
    links = {"core.device_links": [{"device_id": "other", "user_id": "u"}]}
    rows = [told | {"device_id": f"d-{n}"} for n, told in enumerate(views(30))]
    assert take(rows, rows, beside=links).warned.get("stated_devices_are_seen") == (FIRST,)
    links["core.device_links"][0]["device_id"] = "d-7"
    assert "stated_devices_are_seen" not in take(rows, beside=links).warned


@pytest.mark.parametrize("column", ["user_id", "device_id"])
def test_one_who_has_a_fifth_of_the_events_is_told_once(column: str) -> None:
    def crowd(number: int) -> list[Event]:
        rows = [told | {"device_id": f"d-{n}"} for n, told in enumerate(views(100, number))]
        many = [row("view", f"r-{n}", number, device_id=f"r-{n}") for n in range(50)]
        return rows + [
            told | {column: "0", "event_id": f"x-{number}-{n}"} for n, told in enumerate(many)
        ]

    taken = take(views(100), crowd(1), crowd(2))
    assert taken.warned["nobody_is_everybody"] == (day(1),)
    (example,) = taken.finding("nobody_is_everybody").examples
    assert (example["id"], example["row_count"]) == ("0", 50)
    assert "nobody_is_everybody" not in take(views(100), views(100, 1)).warned


@pytest.mark.parametrize("column", ["user_id", "device_id"])
def test_who_has_all_events_is_told_though_there_are_no_others(column: str) -> None:
    mine = [told | {column: "7"} for told in views(30)]
    assert take(mine, [one | {"event_id": None} for one in mine]).warned["nobody_is_everybody"] == (
        day(0),
    )
    assert "nobody_is_everybody" not in take(mine[:29]).warned


def sales(count: int, number: int, **told: Any) -> list[Event]:
    return [
        row("purchase", f"u-{n}", number, event_id=f"p-{number}-{n}", item_id=f"i-{n % 6}",
            order_id=f"o-{number}-{n}", unit_price=f"{3 + n % 6}.50") | told
        for n in range(count)
    ]  # fmt: skip


def test_a_day_without_a_usual_type_of_event_is_told() -> None:
    usual = [views(20, number) + sales(10, number) for number in range(8)]
    taken = take(*usual, views(30, 8))
    assert taken.warned == {"event_types_are_usual": (day(8),)}
    (example,) = taken.finding("event_types_are_usual").examples
    assert (example["event_type"], example["usual"]) == ("purchase", 10)
    quiet = [*usual[:3], views(30, 3), *usual[4:]]  # On some days there is none.
    assert take(*quiet, views(30, 8)).warned == {}
    assert take(*usual[:6], views(30, 6)).warned == {}


@pytest.mark.parametrize("before", [0, 1])
def test_prices_of_another_size_are_told(before: int) -> None:
    cents = [told | {"unit_price": told["unit_price"].replace(".", "")} for told in sales(12, 2)]
    taken = take(sales(12, 0), sales(12, 1), cents, sales(12, 3), before=before)
    assert taken.warned["prices_are_usual"] == (day(2),)
    (example,) = taken.finding("prices_are_usual").examples
    assert (example["items"], float(example["times_as_much"])) == (6, 100)
    dearer = sales(12, 1, unit_price="9.99")
    assert "prices_are_usual" not in take(sales(12, 0), dearer).warned
    assert "prices_are_usual" not in take(sales(12, 0), [], cents[:4]).warned


def test_orders_of_several_people_or_days_are_told_once() -> None:
    def told(*days: list[Event]) -> tuple[Any, ...]:
        return take(*days).warned.get("orders_are_of_one_person", ())

    assert told(sales(12, 0, order_id="till")) == (day(0),)
    mine = {"order_id": "s-1", "user_id": "anna"}
    assert told(sales(12, 0, **mine)) == ()
    assert told(sales(12, 0, **mine), sales(12, 1, **mine), sales(12, 2, **mine)) == (day(1),)
    assert told(sales(12, 0), sales(12, 1), sales(9, 2, order_id="till")) == ()


@pytest.mark.parametrize("name", ["currency", "Currency Code", "presentment_currency"])
def test_amounts_of_several_currencies_are_told(name: str) -> None:
    def extra(one: str) -> Event:
        return {"extra": json.dumps({"a/b": 1, name: one})}

    mixed = [*sales(3, 1, **extra("eur")), row("purchase", "u", 1, event_id="x", **extra("JPY"))]
    taken = take(sales(4, 0, **extra("EUR")), mixed, mixed)
    assert taken.warned["amounts_are_of_one_currency"] == (day(1),)
    (example,) = taken.finding("amounts_are_of_one_currency").examples
    assert (example["which"], example["row_count"]) == ("EUR, JPY", 4)
    alike = sales(3, 0, **extra("EUR")) + sales(3, 0, **extra(" eur "))
    assert "amounts_are_of_one_currency" not in take(alike).warned


def test_returns_beyond_what_was_bought_are_told_with_their_order() -> None:
    line = {"item_id": "tea", "unit_price": "10.00", "order_id": "o-1"}
    bought = row("purchase", quantity="2", **{k: v for k, v in line.items() if k == "order_id"})
    some, more = (row("return", day=1, quantity=n, **line) for n in ("2", "3"))
    for before in (0, 1):
        assert "returns_were_bought" not in take([bought], [some], before=before).warned
        taken = take([bought], [more], before=before)
        assert taken.warned["returns_were_bought"] == (day(1),)
        (example,) = taken.finding("returns_were_bought").examples
        assert (example["taken_back"], example["sold"]) == ("3", "2")
    # Nobody knows what was bought before the history began.
    assert "returns_were_bought" not in take([more]).warned
    many = [row("return", f"u-{n}", quantity="1", **line) for n in range(11)]
    assert "returns_were_bought" in take([told | {"order_id": None} for told in many]).warned


@pytest.mark.parametrize(
    ("missing", "told"),
    [("unit_price", "no price above 0"), ("item_id", "no item"), ("order_id", "no order_id")],
)
def test_what_purchases_lack_is_told_once_with_what_does_not_work(missing: str, told: str) -> None:
    free = {missing: "0" if missing == "unit_price" else None}

    def sales(number: int, **changed: Any) -> list[Event]:
        lines = [row("purchase", f"u-{n}", number, order_id=f"o-{number}-{n}") for n in range(9)]
        return [line | changed for line in lines]

    taken = take(sales(0), sales(1, **free), sales(2, **free))
    assert taken.held == {}
    assert taken.warned == {"purchases_can_be_counted": (day(1),)}
    (example,) = taken.finding("purchases_can_be_counted").examples
    assert example["told"].startswith(told)


def week(number: int, count: int, hour: str = "21") -> list[Event]:
    return [told | {"event_time": f"{day(number)} {hour}:00:00"} for told in views(count, number)]


def test_a_shop_that_is_closed_on_sundays_is_told_of_two_sundays() -> None:
    closed = [[] if number % 7 == 6 else week(number, 30) for number in range(28)]
    taken = take(*closed)
    assert taken.warned == {"day_was_delivered": (day(6), day(13))}
    assert take(*closed, before=20).warned == {}


def test_a_day_without_a_file_is_told_also_when_it_is_run_alone() -> None:
    for before in (0, 3):
        taken = take(week(0, 9), week(1, 9), week(2, 9), [], before=before)
        assert taken.warned == {"day_was_delivered": (day(3),)}


def test_quiet_weekdays_and_early_closing_are_learned_and_a_cut_feed_is_told() -> None:
    days = [week(n, 8 if n % 7 == 6 else 60, "15") for n in range(35)]
    usual = take(*days)
    assert set(usual.warned.get("volume_is_usual", ())) <= {day(13)}
    assert "day_is_complete" not in usual.warned
    assert take(*days, before=30).warned == {}
    cut = take(*days[:34], week(34, 8, "11"), before=34)
    assert cut.warned == {"day_is_complete": (day(34),)}
    few = take(*days[:33], week(33, 8, "15"), before=33)
    assert few.warned == {"volume_is_usual": (day(33),)}
