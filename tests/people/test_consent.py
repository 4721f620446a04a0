"""Consent as of a day: the stricter of a person's identifiers wins, and links that end keep it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_assets import installation
from promo_assets.contract.project import EXPECTATIONS
from promo_assets.contract.tables import load_contract
from promo_assets.people.consent import ConsentRule, barred_sql
from promo_assets.settings import Settings

FIRST = date(2024, 1, 1)
DAYS = 8
USERS = ("anna", "anna-2", "ben")
GATE = next(
    expectation.query
    for expectation in load_contract(EXPECTATIONS / "recommendations/user_items.yaml").expectations
    if expectation.name == "nobody_without_consent_is_listed"
)
"""What checks the rule anew."""

Statement = tuple[str, str, bool, int | None]
"""identifier, purpose, granted, day (null = always)"""
Change = tuple[int, str, str | None]
"""day, identifier, user"""


def day_of(number: int) -> date:
    return FIRST + timedelta(days=number)


def kind_of(identifier: str) -> str:
    return "account" if identifier in USERS else "device"


def barred(
    statements: list[Statement],
    changes: Sequence[Change] = (),
    **told: str,
) -> dict[tuple[int, str], str | None]:
    """Why each of `USERS` is barred on each day, as the gate of recommendations finds."""
    rule = installation.consent(Settings(_env_file=None, **told))  # type: ignore[arg-type]
    with duckdb.connect() as connection:
        connection.execute("create schema core")
        connection.execute(
            "create table core.calendar as"
            " select cast(day as date) as day from range(date '2024-01-01', date '2024-02-01',"
            " interval 1 day) as days(day)"
        )
        said = pl.DataFrame(
            [
                (name, kind_of(name), purpose, granted,
                 datetime(1, 1, 1) if number is None else datetime(2024, 1, 1 + number, 15))
                for name, purpose, granted, number in statements
            ],
            {"identifier": pl.String, "kind": pl.String, "purpose": pl.String,
             "granted": pl.Boolean, "since": pl.Datetime("us")},
            orient="row",
        )  # fmt: skip
        linked = pl.DataFrame(
            [(day_of(number), name, kind_of(name), user) for number, name, user in changes],
            {"as_of_date": pl.Date, "identifier": pl.String, "kind": pl.String,
             "user_id": pl.String},
            orient="row",
        )  # fmt: skip
        connection.register("said", said.to_arrow())
        connection.register("linked", linked.to_arrow())
        connection.execute("create table core.consents as select * from said")
        connection.execute("create table core.identities as select * from linked")
        users = "select day as as_of_date, unnest(['anna', 'anna-2', 'ben']) as user_id from" + (
            " core.calendar where day >= $start and day < $end"
        )
        rows = connection.execute(
            barred_sql(users),
            {"start": FIRST, "end": day_of(DAYS)} | rule.parameters,
        ).fetchall()
        found = found_by_the_gate(connection, rule)
    assert sorted(found) == sorted((day, user) for day, user, reason in rows if reason)
    return {((day - FIRST).days, user): reason for day, user, reason in rows}


def found_by_the_gate(
    connection: duckdb.DuckDBPyConnection, rule: ConsentRule
) -> list[tuple[date, str]]:
    """Of all `USERS` on all days."""
    connection.execute("create table core.consent_purposes (purpose text, unknown_allowed boolean)")
    connection.executemany(
        "insert into core.consent_purposes values (?, ?)",
        [(purpose, rule.unknown_allowed) for purpose in rule.purposes],
    )
    connection.execute(
        "create table days as select day from core.calendar where day >= ? and day < ?",
        [FIRST, day_of(DAYS)],
    )
    connection.execute(
        "create table listed as select day as as_of_date, unnest(['anna', 'anna-2', 'ben'])"
        " as user_id from days"
    )
    query = GATE.replace("{batch}", "listed").replace("{window}", "days")
    return [(day, user) for day, user, *_ in connection.execute(query).fetchall()]


def days_without_consent(user: str, *told: object, **settings: str) -> list[int]:
    reasons = barred(*told, **settings)  # type: ignore[arg-type]
    return [number for number in range(DAYS) if reasons[number, user] == "consent"]


def test_silence_refuses_unless_told_otherwise() -> None:
    assert set(barred([]).values()) == {"consent"}
    assert set(barred([], consent_unknown="allow").values()) == {None}


def test_the_last_word_counts_from_its_day_on() -> None:
    said: list[Statement] = [
        ("anna", "marketing", True, None),
        ("anna", "marketing", False, 2),
        ("anna", "marketing", True, 5),
    ]
    assert days_without_consent("anna", said) == [2, 3, 4]


def test_of_two_words_at_once_the_stricter_counts() -> None:
    said: list[Statement] = [("anna", "marketing", True, 3), ("anna", "marketing", False, 3)]
    assert days_without_consent("anna", said, consent_unknown="allow") == [3, 4, 5, 6, 7]


def test_every_purpose_must_be_allowed_and_others_do_not_matter() -> None:
    said: list[Statement] = [
        ("anna", "marketing", True, None),
        ("anna", "profiling", True, 4),
        ("anna", "analytics", False, None),
    ]
    wanted = {"consent_purposes": "marketing, profiling"}
    assert days_without_consent("anna", said, **wanted) == [0, 1, 2, 3]
    assert days_without_consent("anna", said) == []


def test_a_refusal_survives_the_merge_of_accounts_and_only_one_of_them_is_left() -> None:
    said: list[Statement] = [
        ("anna", "marketing", True, None),
        ("anna-2", "marketing", False, None),
    ]
    reasons = barred(said, [(3, "anna-2", "anna")])
    assert [reasons[number, "anna"] for number in range(5)] == [None] * 3 + ["consent"] * 2
    assert [reasons[number, "anna-2"] for number in (2, 3)] == ["consent", "merged"]


def test_a_devices_refusal_counts_once_it_is_somebodys_and_outlives_the_link() -> None:
    said: list[Statement] = [
        ("anna", "marketing", True, None),
        ("phone", "marketing", False, 1),
    ]
    assert days_without_consent("anna", said, [(2, "phone", "anna"), (5, "phone", None)]) == [
        2, 3, 4, 5, 6, 7
    ]  # fmt: skip


def test_what_a_device_says_after_it_changed_hands_is_the_new_owners() -> None:
    said: list[Statement] = [
        ("anna", "marketing", True, None),
        ("ben", "marketing", True, None),
        ("phone", "marketing", False, 4),
    ]
    moved: list[Change] = [(1, "phone", "anna"), (3, "phone", "ben")]
    assert days_without_consent("anna", said, moved) == []
    assert days_without_consent("ben", said, moved) == [4, 5, 6, 7]


def test_a_devices_grant_ends_with_its_link() -> None:
    said: list[Statement] = [("phone", "marketing", True, None)]
    moved: list[Change] = [(2, "phone", "anna"), (4, "phone", None)]
    assert days_without_consent("anna", said, moved) == [0, 1, 4, 5, 6, 7]


# Against an oracle: the sentences of docs/privacy.md, in plain Python.


def expected(
    statements: list[Statement], changes: list[Change], number: int, user: str, silent: bool
) -> str | None:
    spans: dict[str, list[tuple[int, int, str | None]]] = {}
    for name in {name for _, name, _ in changes}:
        own = sorted((day, other) for day, known, other in changes if known == name)
        ends = [day for day, _ in own[1:]] + [10**6]
        spans[name] = [(day, end, other) for (day, other), end in zip(own, ends, strict=True)]
    current = {
        name: owner
        for name, periods in spans.items()
        for start, end, owner in periods
        if start <= number < end
    }
    if current.get(user, user) != user:
        return "merged"
    theirs = [(user, -1, 10**6)] + [
        (name, start, end)
        for name, periods in spans.items()
        for start, end, owner in periods
        if owner == user and start <= number
    ]
    words = []
    for name, _start, end in theirs:
        said = [
            (-1 if day is None else day, not granted)
            for known, purpose, granted, day in statements
            if known == name and purpose == "marketing"
            and (-1 if day is None else day) <= number
            and (-1 if day is None else day) < end
        ]  # fmt: skip
        if said:
            refused = max(said)[1]
            if refused or end > number:
                words.append(not refused)
    if not words:
        return None if silent else "consent"
    return None if all(words) else "consent"


IDENTIFIERS = st.sampled_from(["anna", "anna-2", "ben", "phone", "pad"])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 7), st.sampled_from(["phone", "pad"]),
                  st.sampled_from(["anna", "ben", None])),
        st.tuples(st.integers(0, 7), st.just("anna-2"), st.sampled_from(["anna", "anna-2"])),
    ),
    max_size=5,
    unique_by=lambda change: change[:2],
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("unknown", ["deny", "allow"])
@settings(max_examples=40, deadline=None)
@given(
    statements=st.lists(
        st.tuples(
            IDENTIFIERS,
            st.sampled_from(["marketing", "analytics"]),
            st.booleans(),
            st.none() | st.integers(0, 7),
        ),
        max_size=8,
    ),
    changes=CHANGES,
)
def test_any_history_is_decided_by_the_same_sentences(
    unknown: str, statements: list[Statement], changes: list[Change]
) -> None:
    found = barred(statements, changes, consent_unknown=unknown)
    assert found == {
        (number, user): expected(statements, changes, number, user, unknown == "allow")
        for number in range(DAYS)
        for user in USERS
    }
