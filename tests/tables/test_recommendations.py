"""Recommendations as tables: a day alone is the same, no future is known."""

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
from tests.support.shop import OFFERS

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


def test_an_offer_whose_stock_is_drawn_up_is_not_listed(open_shop: Shop) -> None:
    day = open_shop.day(24)
    offers = open_shop.settings.catalogue
    with opened(open_shop) as connection:
        before = produced(connection, open_shop, "user_offers", day)
        ((drawn,),) = connection.execute(
            "select count(*) from core.events where offer_id = 'five_off'"
            " and event_type in ('offer_sent', 'offer_withheld') and event_date <= ?",
            [day],
        ).fetchall()
        listed = {}
        for stock in (drawn, drawn + 1):
            offers.write_text(OFFERS.replace("value: 5.00", f"stock: {stock}, value: 5.00"))
            listed[stock] = produced(connection, open_shop, "user_offers", day)
    assert "five_off" in {row[3] for row in before}
    assert "five_off" not in {row[3] for row in listed[drawn]}
    assert listed[drawn + 1] == before
