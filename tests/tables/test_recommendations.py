"""Recommendations as tables: a day alone is the same, no future is known, gates find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.contract.project import EXPECTATIONS
from promo_assets.contract.segments import SEGMENTS
from promo_assets.contract.tables import load_contracts
from promo_assets.tables import recommendations
from promo_assets.tables.recommendations import Recommending
from promo_assets.tables.table import Production

if TYPE_CHECKING:
    from tests.support.shop import Rows, Shop

CONTRACTS = load_contracts(EXPECTATIONS)
PRODUCERS: dict[str, Callable[[Production, Recommending], Any]] = {
    "basket_rules": lambda told, given: recommendations.basket_rules(told),
    "blends": lambda told, given: recommendations.blends(told),
    "item_neighbours": lambda told, given: recommendations.item_neighbours(told, 1),
    "item_popularity": lambda told, given: recommendations.item_popularity(told),
}
WEEKLY = tuple(PRODUCERS)
PRODUCERS |= {
    "user_items": recommendations.user_items,
    "user_offers": recommendations.user_offers,
}
LEARNED = date(2024, 1, 8)
"""The one week of the shop's first thirty days in which is learned."""


@contextmanager
def opened(shop: Shop) -> Iterator[duckdb.DuckDBPyConnection]:
    with installation.warehouse(shop.settings).get_connection() as connection:
        yield connection


def produced(
    connection: duckdb.DuckDBPyConnection, shop: Shop, table: str, first: date, days: int = 1
) -> Rows:
    """What ``table`` would be in the days from ``first`` on, or the week that begins then."""
    window = Window(first, first + timedelta(days=days))
    contract = CONTRACTS[f"recommendations.{table}"]
    weeks = tuple(day for day in window.days if day.weekday() == 0)
    parts = SEGMENTS if table == "user_offers" else ()
    production = Production(contract, connection, window, parts, weeks, "test", print, dict)
    given = installation.recommending(shop.settings)
    return sorted(PRODUCERS[table](production, given).rows(), key=str)


def published(connection: duckdb.DuckDBPyConnection, table: str, first: date, days: int) -> Rows:
    contract = CONTRACTS[f"recommendations.{table}"]
    found = connection.execute(
        f"select {', '.join(contract.types)} from {contract.table}"
        f" where {contract.window} >= ? and {contract.window} < ?",
        [first, first + timedelta(days=days)],
    )
    return sorted(found.fetchall(), key=str)


@pytest.mark.parametrize("offset", [3, 8, 24])
def test_a_day_alone_has_the_rows_of_the_range(thirty_days: Shop, offset: int) -> None:
    day = thirty_days.day(offset)
    with opened(thirty_days) as connection:
        for table in ("user_items", "user_offers"):
            rows = published(connection, table, day, 1)
            assert rows
            assert produced(connection, thirty_days, table, day) == rows


def test_the_future_changes_no_recommendation(open_shop: Shop) -> None:
    day = open_shop.day(24)
    end_of_learned = LEARNED + timedelta(days=7)
    with opened(open_shop) as connection:
        connection.execute("begin")
        items = published(connection, "user_items", day, 1)
        weekly = {table: published(connection, table, LEARNED, 7) for table in WEEKLY}
        connection.execute(
            "update core.events set item_id = 'item-0', user_id = 'uSomebodyElse'"
            " where event_date > ?",
            [day],
        )
        connection.execute(
            "delete from recommendations.item_popularity where week >= ?",
            [day - timedelta(days=day.weekday())],
        )
        assert items
        assert produced(connection, open_shop, "user_items", day) == items
        connection.execute(
            "update core.events set item_id = 'item-0' where event_date >= ?", [end_of_learned]
        )
        for table, rows in weekly.items():
            assert produced(connection, open_shop, table, LEARNED, 7) == rows
        connection.execute("rollback")


def test_the_past_does_change_recommendations(open_shop: Shop) -> None:
    day = open_shop.day(24)
    with opened(open_shop) as connection:
        connection.execute("begin")
        before = produced(connection, open_shop, "user_items", day)
        connection.execute("update core.events set item_id = 'item-0' where event_date < ?", [day])
        assert produced(connection, open_shop, "user_items", day) != before
        connection.execute("rollback")


def test_who_refuses_and_what_is_sold_out_is_left_out(open_shop: Shop) -> None:
    day = open_shop.day(24)
    with opened(open_shop) as connection:
        connection.execute("begin")
        before = produced(connection, open_shop, "user_items", day)
        user, item = before[0][1], before[0][4]
        connection.execute(
            "insert into core.consents values (?, 'account', 'marketing', false, ?)", [user, day]
        )
        connection.execute("delete from core.items")
        connection.execute("insert into core.items (item_id, in_stock) values (?, false)", [item])
        after = produced(connection, open_shop, "user_items", day)
        assert {row[1] for row in after} == {row[1] for row in before} - {user}
        assert item not in {row[4] for row in after}
        connection.execute("rollback")


def test_no_events_and_no_items_give_no_rows(new_shop: Shop) -> None:
    new_shop.folder.mkdir()
    connection = duckdb.connect()
    for name, contract in CONTRACTS.items():
        connection.execute(f"create schema if not exists {contract.schema_name}")
        columns = ", ".join(f"{key} {kind}" for key, kind in contract.types.items())
        connection.execute(f"create table {name} ({columns})")
    found = {table: len(produced(connection, new_shop, table, LEARNED, 7)) for table in PRODUCERS}
    assert found == dict.fromkeys(PRODUCERS, 0) | {"blends": 1}


MUTATED = {
    ("user_offers", "offers_are_in_order"): "offer_rank = offer_rank + 1",
    ("user_offers", "assigned_offers_are_those_of_assignments"): "is_assigned = not is_assigned",
    ("user_offers", "offers_are_in_the_catalogue"): "offer_id = 'gone'",
    ("user_items", "lists_are_in_order"): "score = 1000 where kind_rank = 2",
    ("user_items", "kinds_are_apart"): "times_bought = 0 where kind = 'repeat'",
    ("user_items", "users_dealt_with_items"): "user_id = 'nobody'",
    ("item_neighbours", "neighbours_are_ranked"): "neighbour_id = item_id",
    ("item_popularity", "popularity_is_ranked"): "share = 0",
    ("blends", "weights_are_sane"): "purchases = -1",
}


@pytest.mark.parametrize(("table", "audit"), MUTATED)
def test_the_gate_finds_a_wrong_row(thirty_days: Shop, table: str, audit: str) -> None:
    contract = CONTRACTS[f"recommendations.{table}"]
    (expectation,) = [item for item in contract.expectations if item.name == audit]
    query = expectation.query.replace("{batch}", "batch").replace("{window}", "audited")
    with opened(thirty_days) as connection:
        connection.execute(
            f"create or replace temp table batch as from {contract.table};"
            f" create or replace temp table audited as"
            f" select distinct {contract.window} as day from batch"
        )
        assert connection.execute(query).fetchall() == []
        connection.execute(f"update batch set {MUTATED[table, audit]}")
        assert connection.execute(query).fetchall()


def test_the_gate_of_rules_finds_what_does_not_follow() -> None:
    contract = CONTRACTS["recommendations.basket_rules"]
    rule = (date(2024, 1, 8), "product", 1, "a", 1, "b", 40, 50, 30, 200, 0, 0.15, 0.75, 0.6, 0.85,
            3.0, 2.3, 3.9, 0.1, 3.0, 1e-9, 1e-8, 10)  # fmt: skip
    connection = duckdb.connect()
    columns = ", ".join(f"{key} {kind}" for key, kind in contract.types.items())
    connection.execute(f"create table batch ({columns})")
    connection.execute(f"insert into batch values ({', '.join('?' * len(rule))})", rule)
    queries = {
        item.name: item.query.replace("{batch}", "batch")
        for item in contract.expectations
        if item.query
    }
    assert [connection.execute(query).fetchall() for query in queries.values()] == [[], []]
    for name, change in (
        ("rules_mean_what_they_say", "lift = 2"),
        ("ranks_have_no_gap", "rule_rank = 2"),
    ):
        connection.execute(f"begin; update batch set {change}")
        assert connection.execute(queries[name]).fetchall()
        connection.execute("rollback")
