"""docs/recipes.md: each recipe reads the sample of its format as it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.contract.project import PROJECT
from promo_assets.settings import Settings
from promo_assets.sources import Source, open_source
from promo_assets.sources.check import look
from promo_assets.sources.files import Files
from tests.support.servers import Server

DOCUMENT = (PROJECT / "docs" / "recipes.md").read_text(encoding="utf-8")
RECIPES = {
    text.partition(":")[0].strip(): text for text in re.split(r"^## ", DOCUMENT, flags=re.M)[1:]
}
FILE = re.compile(r"^`([^`]+)`\n\n```\w+\n(.*?)^```", re.M | re.S)
YEARS = Window(date(2010, 1, 1), date(2025, 1, 1))
SHOWN = (
    "event_time, event_type, event_id, user_id, device_id, order_id, item_id, quantity, unit_price,"
    " discount"
)

Rows = list[tuple[Any, ...]]

EXPECTED: dict[str, tuple[Rows, int, dict[str, int]]] = {
    "Shopify": (
        [
            ("2024-06-01 13:06:30", "purchase", "91", "701", None, "5501", "tea-200", "2", "12.50",
             "2.50"),
            ("2024-06-01 13:06:30", "purchase", "92", "701", None, "5501", "pot-1", "1", "34.90",
             None),
        ],
        2,
        {},
    ),
    "WooCommerce": (
        [
            ("2024-06-01 07:06:00", "purchase", None, "Anna@example.org", None, "1001", "tea-200",
             "2", "12.50", "2.50"),
            ("2024-06-01 07:06:00", "purchase", None, "Anna@example.org", None, "1001", "pot-1",
             "1", "1034.90", None),
            ("2024-06-01 21:30:00", "purchase", None, "anna@example.org", None, "1002", "tea-100",
             "1", "6.50", None),
        ],
        1,
        {},
    ),
    "Google Analytics 4": (
        [
            ("2024-06-01 09:06:30", "view", None, None, "11.22", None, "tea-200", None, "12.5",
             None),
            ("2024-06-01 09:26:30.000001", "purchase", None, "c-17", "11.22", "o-1", "tea-200",
             "2", "12.5", None),
            ("2024-06-01 09:26:30.000001", "purchase", None, "c-17", "11.22", "o-1", "pot-1", "1",
             "34.9", None),
        ],
        1,
        {},
    ),
    "Snowplow": (
        [
            ("2024-06-01 09:00:12.500", "view", None, None, "d-1", None, "tea-200", None, "12.5",
             None),
            ("2024-06-01 09:06:30", "purchase", None, "c-17", "d-1", "o-1", "tea-200", "2", "12.5",
             None),
            ("2024-06-01 09:06:30", "purchase", None, "c-17", "d-1", "o-1", "pot-1", "1", "34.9",
             None),
        ],
        1,
        {},
    ),
    "REES46": (
        [
            ("2019-10-01 00:00:00", "view", None, "541312140", None,
             "72d76fde-8bb3-4e00-8c23-a032dfed738c", "44600062", "1", "35.79", None),
            ("2019-10-01 00:02:14", "add_to_cart", None, "543272936", None,
             "8187d148-3c41-46d4-9b0c-9c08cd9dc564", "1004856", "1", "130.76", None),
            *[("2019-10-01 00:09:26", "purchase", None, "543272936", None,
               "8187d148-3c41-46d4-9b0c-9c08cd9dc564", "1004856", "1", "130.76", None)] * 2,
        ],
        0,
        {},
    ),
    "Taobao": (
        [
            ("2017-11-24 17:21:10", "view", None, "1", None, None, "2268318", "1", "0", None),
            ("2017-11-24 22:15:33", "favourite", None, "1", None, None, "2333346", "1", "0", None),
            ("2017-11-25 01:21:25", "add_to_cart", None, "100", None, None, "2576651", "1", "0",
             None),
            ("2017-11-25 01:26:51", "purchase", None, "100", None, None, "2576651", "1", "0",
             None),
        ],
        0,
        {},
    ),
    "UCI Online Retail": (
        [
            ("2010-12-01 08:26:00", "purchase", None, "17850.0", None, "536365", "85123A", "6",
             "2.55", None),
            ("2010-12-01 08:26:00", "purchase", None, "17850.0", None, "536365", "71053", "6",
             "3.39", None),
            ("2010-12-01 09:49:00", "return", None, "17850.0", None, "C536383", "71053", "1",
             "3.39", None),
            ("2010-12-01 11:52:00", "purchase", None, None, None, "536414", "22139", "56", "0",
             None),
        ],
        2,
        {"user_missing": 1},
    ),
}  # fmt: skip
"""Of each recipe the rows in the order of its file, how many are skipped, and which are rejected.
Times, ids and amounts are written by hand from the samples."""


def test_every_recipe_is_tried() -> None:
    assert RECIPES.keys() == EXPECTED.keys() | {"Anything else"}


def rows_of(source: Source) -> Rows:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        query = source.take(YEARS, connection).query
        sql = f"select {SHOWN} from ({query.sql}) order by source_file, source_row"
        return connection.execute(sql, dict(query.parameters)).fetchall()


@pytest.mark.parametrize("recipe", EXPECTED)
def test_a_recipe_reads_its_sample(tmp_path: Path, recipe: str) -> None:
    written = FILE.findall(RECIPES[recipe])
    assert [name.partition("/")[0] for name, _ in written] == ["events", "mapping.yaml"]
    for name, content in written:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    told = Settings(home=tmp_path / "home", source=f"files:{tmp_path}", start=YEARS.start)
    source = open_source(installation.delivery(told))
    expected, skipped, rejected = EXPECTED[recipe]
    assert rows_of(source) == [(_micros(at), *rest) for at, *rest in expected]
    assert isinstance(source, Files)
    facts = look(source, threads=1, first=YEARS.start)
    assert (facts.rows, facts.skipped, dict(facts.rejected)) == (len(expected), skipped, rejected)
    delivered = sum(file.rows for file in facts.files)
    assert delivered == facts.rows + facts.skipped
    assert facts.accepted


def _micros(at: str) -> str:
    seconds, _, rest = at.partition(".")
    return f"{seconds}.{rest:0<6}"


@pytest.fixture
def shop_database(request: pytest.FixtureRequest) -> Iterator[Server]:
    server: Server = request.getfixturevalue("postgresql")
    server.empty()
    yield server
    server.execute("drop view if exists events; drop table if exists order_lines, orders")


@pytest.mark.databases
def test_the_view_of_the_recipe_spreads_discounts_to_the_cent(shop_database: Server) -> None:
    (view,) = re.findall(r"^```sql\n(.*?)^```", RECIPES["Anything else"], re.M | re.S)
    shop_database.execute(
        "create table orders (id int primary key, customer_id int, placed_at timestamptz, "
        "status text, discount numeric(18, 2)); create table order_lines (id int primary key, "
        "order_id int, sku text, pieces int, price numeric(18, 2)); "
        "insert into orders values (1, 17, '2024-06-01 09:06:30+02', 'paid', 10.00), "
        "(2, 18, '2024-06-01 10:00:00+02', 'open', 0); "
        "insert into order_lines values (11, 1, 'a', 1, 3.33), (12, 1, 'b', 2, 3.33), "
        "(13, 1, 'c', 1, 3.34), (14, 2, 'a', 1, 3.33)"
    )
    shop_database.execute(view)
    told = Settings(source=shop_database.url(), start=YEARS.start)
    rows = sorted(rows_of(open_source(installation.delivery(told))), key=lambda row: row[2])
    assert [row[:8] for row in rows] == [
        ("2024-06-01 07:06:30.000000", "purchase", line, "17", None, "1", item, pieces)
        for line, item, pieces in (("11", "a", "1"), ("12", "b", "2"), ("13", "c", "1"))
    ]
    assert sum(Decimal(row[-1]) for row in rows) == 10
    assert [Decimal(row[-1]) for row in rows] == [Decimal("2.50"), Decimal("4.99"), Decimal("2.51")]
