"""Who is behind a device: the rules, against a plain graph search, and what may change a day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_assets.people.identity import changes
from promo_assets.people.links import Rules

FIRST = date(2024, 1, 1)
DAYS = 12

DEFAULT = Rules()

Login = tuple[int, str, str]
Statement = tuple[int | None, str, str]
Known = tuple[int | None, int | None]
Attribution = dict[str, tuple[str | None, str]]


def day_of(number: int) -> date:
    return FIRST + timedelta(days=number)


def logins_of(logins: Sequence[Login]) -> pl.DataFrame:
    rows = [(day_of(number), device, account) for number, device, account in logins]
    schema = {"event_date": pl.Date, "device_id": pl.String, "user_id": pl.String}
    return pl.DataFrame(rows, schema, orient="row")


def statements_of(statements: Sequence[Statement], known: Known = (None, None)) -> pl.DataFrame:
    """Statements that are delivered from the day ``known[0]`` to before the day ``known[1]``."""
    days = [None if number is None else day_of(number) for number in known]
    rows = [
        (device, account, None if number is None else datetime(2024, 1, 1 + number, 9), *days)
        for number, device, account in statements
    ]
    schema = {"device_id": pl.String, "user_id": pl.String, "linked_at": pl.Datetime("us")}
    schema |= {"known_from": pl.Date, "known_until": pl.Date}
    return pl.DataFrame(rows, schema, orient="row")


def found(
    logins: list[Login],
    statements: Sequence[Statement] = (),
    rules: Rules = DEFAULT,
    days: int = DAYS,
) -> list[tuple[int, str, str | None, str]]:
    """The changes as (day, identifier, user, status)."""
    frame = changes(
        logins_of(logins),
        statements_of(statements),
        [day_of(number) for number in range(days)],
        rules,
        first=FIRST,
    )
    return [
        ((row[0] - FIRST).days, row[1], row[3], row[4])
        for row in frame.iter_rows()
    ]  # fmt: skip


def test_an_anonymous_device_belongs_to_whom_logs_in_on_it_from_that_day_on() -> None:
    assert found([(3, "phone", "anna"), (5, "laptop", "anna"), (6, "phone", "anna")]) == [
        (3, "phone", "anna", "linked"),
        (5, "laptop", "anna", "linked"),
    ]


def test_a_device_of_two_people_is_quarantined_and_merges_nobody() -> None:
    assert found([(0, "tablet", "anna"), (2, "tablet", "ben"), (3, "phone", "ben")]) == [
        (0, "tablet", "anna", "linked"),
        (2, "tablet", None, "shared"),
        (3, "phone", "ben", "linked"),
    ]
    asked = found(
        [(0, "tablet", "anna"), (2, "tablet", "ben")], rules=Rules(people_per_device=2)
    )  # fmt: skip
    assert asked == [(0, "tablet", "anna", "linked"), (2, "ben", "anna", "merged")]


def test_a_link_ends_when_nobody_logs_in_any_more() -> None:
    rules = Rules(link_days=3)
    assert found([(1, "phone", "anna"), (2, "phone", "anna")], rules=rules) == [
        (1, "phone", "anna", "linked"),
        (5, "phone", None, "unlinked"),
    ]
    resold = found([(1, "phone", "anna"), (6, "phone", "ben")], rules=rules)
    assert [(day, user) for day, _, user, _ in resold] == [
        (1, "anna"), (4, None), (6, "ben"), (9, None)
    ]  # fmt: skip


def test_statements_make_two_accounts_one_person_and_the_first_one_stands_for_it() -> None:
    stated: list[Statement] = [(4, "phone", "anna-2"), (1, "phone", "anna")]
    assert found([(6, "phone", "anna-2"), (6, "pad", "anna-2")], stated) == [
        (1, "phone", "anna", "linked"),
        (4, "anna-2", "anna", "merged"),
        (6, "pad", "anna", "linked"),
    ]
    assert found([], [(None, "phone", "b"), (None, "phone", "a")])[0] == (0, "b", "a", "merged")


def test_a_component_too_large_for_a_person_is_taken_apart() -> None:
    logins = [(number // 4, f"device-{number}", "kiosk") for number in range(12)]
    told = found(logins, rules=Rules(identifiers=10))
    assert {row[2:] for row in told if row[0] < 2} == {("kiosk", "linked")}
    assert {row[2:] for row in told if row[0] == 2} == {(None, "oversized")}
    assert len([row for row in told if row[0] == 2]) == 12
    stated: list[Statement] = [(None, "token", f"account-{number}") for number in range(12)]
    told = found([], stated, rules=Rules(identifiers=10))
    assert told == [(0, "token", None, "oversized")]


def test_hindsight_only_when_asked() -> None:
    logins: list[Login] = [(5, "phone", "anna")]
    assert found(logins, rules=Rules(hindsight_days=2)) == [(3, "phone", "anna", "linked")]


def test_nothing_linked_is_nothing_changed() -> None:
    assert found([]) == []


@pytest.mark.parametrize("linked", [None, 1])
def test_a_link_that_is_stated_late_has_effect_from_the_day_on_which_it_is_stated(
    linked: int | None,
) -> None:
    frames = [statements_of([(linked, "tablet", "anna")], (4, 7))]
    days = [day_of(number) for number in range(DAYS)]
    told = changes(logins_of([]), pl.concat(frames), days, DEFAULT, first=FIRST)
    assert [((day - FIRST).days, who, user) for day, who, _, user, _ in told.iter_rows()] == [
        (4, "tablet", "anna"),
        (7, "tablet", None),
    ]
    # Each day alone says the same: yesterday is what was stated yesterday.
    alone = [changes(logins_of([]), pl.concat(frames), [day], DEFAULT, first=FIRST) for day in days]
    assert pl.concat(alone).equals(told)


# Against an oracle: a graph search over sets, day by day.


def attributed(
    logins: list[Login], statements: list[Statement], number: int, rules: Rules
) -> Attribution:
    """Who every device and every merged account belongs to at the end of a day."""
    by_login = {
        (device, account)
        for day, device, account in logins
        if number - rules.link_days < day <= number
    }
    since: dict[tuple[str, str], int] = {}
    for day, device, account in statements:
        known = -1 if day is None else day
        pair = (device, account)
        if known <= number:
            since[pair] = min(since.get(pair, known), known)

    def search(pairs: set[tuple[str, str]], start: tuple[str, str]) -> set[tuple[str, str]]:
        reached, todo = {start}, [start]
        while todo:
            kind, name = todo.pop()
            for device, account in pairs:
                ends = {("device", device), ("account", account)}
                if (kind, name) in ends:
                    todo += [end for end in ends - reached]
                    reached |= ends
        return reached

    stated = set(since)
    people_on = defaultdict(set)
    for device, account in by_login | stated:
        same = search(stated, ("account", account))
        people_on[device].add(min(name for kind, name in same if kind == "account"))
    shared = {
        device for device, people in people_on.items() if len(people) > rules.people_per_device
    }
    pairs = stated | {pair for pair in by_login if pair[0] not in shared}

    first = {}
    for account in {account for _, account in by_login | stated}:
        times = [day for (_, name), day in since.items() if name == account]
        first[account] = (min(times, default=10**6), account)
    result: Attribution = {}
    for kind, name in {("device", d) for d, _ in by_login | stated} | {
        ("account", a) for _, a in by_login | stated
    }:
        group = search(pairs, (kind, name))
        accounts = [other for what, other in group if what == "account"]
        counted = [end for end in group if end[0] == "account" or end[1] not in shared]
        user = min(accounts, key=first.__getitem__) if accounts else None
        if kind == "device" and name in shared:
            result[name] = (None, "shared")
        elif len(counted) > rules.identifiers:
            if kind == "device":
                result[name] = (None, "oversized")
        elif kind == "device":
            result[name] = (user, "linked")
        elif user != name:
            result[name] = (user, "merged")
    return result


DEVICES = st.sampled_from(["d1", "d2", "d3", "d4", "d5"])
ACCOUNTS = st.sampled_from(["a1", "a2", "a3", "a4"])
NUMBERS = st.integers(0, DAYS - 1)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    logins=st.lists(st.tuples(NUMBERS, DEVICES, ACCOUNTS), max_size=14),
    statements=st.lists(st.tuples(st.none() | NUMBERS, DEVICES, ACCOUNTS), max_size=4),
    link_days=st.integers(1, 6),
    people=st.integers(1, 2),
    identifiers=st.integers(3, 8),
)
def test_the_changes_add_up_to_a_graph_search_of_each_day(
    logins: list[Login],
    statements: list[Statement],
    link_days: int,
    people: int,
    identifiers: int,
) -> None:
    rules = Rules(link_days, people, identifiers)
    state: Attribution = {}
    told = found(logins, statements, rules)
    for number in range(DAYS):
        for day, name, user, status in told:
            if day == number:
                assert state.get(name) != (user, status), "a change changes something"
                state[name] = (user, status)
        current = {
            name: what for name, what in state.items() if what[1] not in ("unlinked", "alone")
        }
        assert current == attributed(logins, statements, number, rules), number


@settings(max_examples=50, deadline=None)
@given(
    logins=st.lists(st.tuples(NUMBERS, DEVICES, ACCOUNTS), max_size=14),
    statements=st.lists(st.tuples(NUMBERS, DEVICES, ACCOUNTS), max_size=4),
    number=NUMBERS,
)
def test_a_day_alone_has_the_rows_of_a_range_and_later_links_change_no_earlier_day(
    logins: list[Login], statements: list[Statement], number: int
) -> None:
    rules = Rules(link_days=4)
    whole = [row for row in found(logins, statements, rules) if row[0] <= number]
    known = [row for row in logins if row[0] <= number]
    stated = [row for row in statements if row[0] <= number]
    assert found(known, stated, rules, days=number + 1) == whole
    recent = [row for row in known if row[0] >= number - rules.link_days]
    alone = changes(logins_of(recent), statements_of(stated), [day_of(number)], rules, first=FIRST)
    expected = [row[1:] for row in whole if row[0] == number]
    assert [(row[1], row[3], row[4]) for row in alone.iter_rows()] == expected


def test_the_order_of_log_ins_does_not_matter() -> None:
    logins: list[Login] = [(3, "x", "b"), (0, "x", "a"), (1, "y", "b"), (1, "z", "a")]
    assert found(logins) == found(logins[::-1])


@pytest.mark.parametrize("people", [3, 300])
def test_everyone_is_found_among_many(people: int) -> None:
    logins = [(n % DAYS, f"{kind}-{n}", f"person-{n}") for n in range(people) for kind in "pq"]
    told = found(logins)
    assert {(name[2:], user[7:]) for _, name, user, _ in told if user} == {
        (f"{n}", f"{n}") for n in range(people)
    }
