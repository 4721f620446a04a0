"""What shops' own exports need of the mapping, in folders: files without a header line,
rows that are no events, and what is nested."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from promo_assets import installation
from promo_assets.cli.check_report import report
from promo_assets.cli.rehearsal import Rehearsal
from promo_assets.contract.days import Window
from promo_assets.people.consent import ConsentRule
from promo_assets.settings import Settings
from promo_assets.sources import Source, SourceError, Taken, open_source
from promo_assets.sources.check import look
from promo_assets.sources.files import Files

FIRST = date(2024, 1, 1)
MONTH = Window(FIRST, date(2024, 2, 1))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "events").mkdir()
    return tmp_path


def source_of(shop: Path) -> Source:
    told = Settings(home=shop / "home", source=f"files:{shop}", start=FIRST)
    return open_source(installation.delivery(told))


def taken(shop: Path, shown: str) -> tuple[list[tuple[Any, ...]], Taken]:
    """The rows of January in the order of their files, and what was said of them."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        told = source_of(shop).take(MONTH, connection)
        sql = f"select {shown} from ({told.query.sql}) order by source_file, source_row"
        return connection.execute(sql, told.query.parameters).fetchall(), told


def problems(told: Taken) -> set[str]:
    return {problem for day in told.problems.values() for problem in day}


def test_files_without_a_header_line_have_the_columns_of_the_mapping(shop: Path) -> None:
    (shop / "mapping.yaml").write_text("header: [user_id, item_id, event_type, event_time]\n")
    plain = "u1,i1,view,2024-01-03 10:00:00\nu2,i2,view,2024-01-03 11:00:00\n"
    (shop / "events" / "a.csv").write_text(plain)
    (shop / "events" / "b.tsv").write_text("u3\ti3\tview\t2024-01-04\n")
    (shop / "events" / "c.csv").write_text(
        "user_id;item_id;event_type;event_time\nu4;i4;view;2024-01-05\n"
    )
    (shop / "events" / "d.csv").write_text("u5,i5,view\n")
    rows, told = taken(shop, "user_id, item_id, source_row, extra")
    assert rows == [("u1", "i1", 0, None), ("u2", "i2", 1, None), ("u3", "i3", 0, None),
                    ("u4", "i4", 0, None)]  # fmt: skip
    assert problems(told) == {
        "events/d.csv: its first line has 3 fields, but header: names 4 columns"
    }


def test_a_header_that_is_told_later_reads_the_known_files_anew(shop: Path) -> None:
    (shop / "events" / "a.csv").write_text("u1,view,2024-01-03\nu2,view,2024-01-03\n")
    assert len(taken(shop, "user_id")[0]) == 1
    mapping = shop / "mapping.yaml"
    mapping.write_text("header: [user_id, event_type, event_time]\n")
    assert taken(shop, "user_id")[0] == [("u1",), ("u2",)]
    mapping.write_text("header: [device_id, event_type, event_time]\n")
    assert taken(shop, "user_id, device_id")[0] == [(None, "u1"), (None, "u2")]
    mapping.unlink()
    assert len(taken(shop, "user_id")[0]) == 1


SALES = """event_time,event_type,user_id,item_id,quantity,unit_price,status
2024-01-03,purchase,u1,i1,1,2.00,paid
2024-01-03,purchase,u2,i1,1,2.00,test
2024-01-03,purchase,u3,POST,1,4.00,paid
2024-01-04,purchase,u4,i2,1,2.00,
2024-01-04,purchase,u5,i2,1,2.00,paid
2024-01-05,purchase,u6,i2,1,2.00,test
"""


@pytest.mark.parametrize(
    ("conditions", "users", "skipped"),
    [
        ("[{column: STATUS, one_of: [test, null]}]", "135", {3: 1, 4: 1, 5: 1}),
        ("[{column: status, none_of: [paid, null]}]", "1345", {3: 1, 4: 0, 5: 1}),
        ("[{column: status, none_of: [paid]}]", "135", {3: 1, 4: 1, 5: 1}),
        ("[{column: item_id, matches: P.*}, {column: status, one_of: [test]}]", "145",
         {3: 2, 4: 0, 5: 1}),
        ("[{column: item_id, matches: OS}]", "123456", {3: 0, 4: 0, 5: 0}),
    ],
)  # fmt: skip
def test_skipped_rows_are_no_events_and_are_counted(
    shop: Path, conditions: str, users: str, skipped: dict[int, int]
) -> None:
    (shop / "events" / "a.csv").write_text(SALES)
    (shop / "events" / "b.csv").write_text(SALES.splitlines(keepends=True)[0])
    assert len(taken(shop, "user_id")[0]) == 6
    (shop / "mapping.yaml").write_text(f"skip_rows_where: {conditions}\n")
    rows, told = taken(shop, "user_id, source_row")
    assert rows == [(f"u{number}", int(number) - 1) for number in users]
    assert {day.day: one.skipped for day, one in told.days.items()} == skipped
    for day in (3, 4, 5):
        there = SALES.count(f"2024-01-0{day}")
        assert told.days[date(2024, 1, day)].rows + skipped[day] == there


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        (
            "skip_rows_where: [{column: status, one_of: [test]}, {column: statu, one_of: [x]}]",
            "skip_rows_where: nothing has a column 'statu'; did you mean 'status'?",
        ),
        ("explode: line_items", "explode: nothing has a column 'line_items'"),
        ("columns: {discount: rabatt}", "columns: discount: nothing has a column 'rabatt'"),
    ],
)
def test_what_the_mapping_names_and_no_file_has_stops_check_and_run(
    shop: Path, mapping: str, told: str
) -> None:
    """A condition with a typo skips nothing, a list with one stays a text: neither is seen."""
    (shop / "events" / "a.csv").write_text(SALES)
    (shop / "mapping.yaml").write_text(mapping)
    with pytest.raises(SourceError) as error:
        taken(shop, "user_id")
    assert f"{shop / 'mapping.yaml'}: {told}" in str(error.value)
    source = source_of(shop)
    assert isinstance(source, Files)
    facts = look(source, threads=1, first=FIRST)
    assert [one.startswith(told) for one in facts.lost] == [True]
    assert not facts.accepted


def test_the_check_tells_what_is_skipped(shop: Path) -> None:
    (shop / "events" / "a.csv").write_text(SALES)
    (shop / "mapping.yaml").write_text("skip_rows_where: [{column: status, one_of: [test]}]\n")
    source = source_of(shop)
    assert isinstance(source, Files)
    facts = look(source, threads=1, first=FIRST)
    assert (facts.rows, facts.skipped, sorted(facts.days)) == (
        4, 2, [date(2024, 1, 3), date(2024, 1, 4)]
    )  # fmt: skip
    told = report(facts, source, ConsentRule(("marketing",), False), Rehearsal(), FIRST)
    said = {" ".join(line.split()) for line in told.splitlines()}
    assert {
        "skipped 2 rows, by skip_rows_where",
        "accepted 4 rows",
    } <= said


NESTED = """
columns:
  event_time: at
  event_type: {value: purchase}
  user_id: customer.id
  order_id: id
  item_id: line_items.product.sku
  quantity: line_items.quantity
  unit_price: line_items.price
  channel: customer.tags.1
explode: line_items
skip_rows_where: [{column: line_items.gift, one_of: ["true"]}]
"""
ORDERS: list[dict[str, Any]] = [
    {
        "id": 1,
        "at": "2024-01-03 10:00:00",
        "customer": {"id": "u1", "email": "a@b.c", "tags": ["new", "app"]},
        "line_items": [
            {"product": {"sku": "i1"}, "quantity": 2, "price": "3.50", "gift": False},
            {"product": {"sku": "i2"}, "quantity": 1, "price": "0.00", "gift": True},
            {"product": {"sku": "i3"}, "quantity": 1, "price": "7.10", "gift": False},
        ],
        "note": "ring twice",
    },
    {
        "id": 2,
        "at": "2024-01-03 11:00:00",
        "customer": {"id": "u2", "email": "d@e.f", "tags": []},
        "line_items": [],
        "note": None,
    },
    {
        "id": 3,
        "at": "2024-01-04 11:00:00",
        "customer": None,
        "line_items": [{"product": {"sku": "i1"}, "quantity": 1, "price": "3.50", "gift": False}],
        "note": None,
    },
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet", "a.csv"])
def test_each_element_of_a_list_is_an_event_with_fields_from_within(shop: Path, name: str) -> None:
    (shop / "mapping.yaml").write_text(NESTED)
    for copy in ("a", "b"):  # Rows are numbered in each file.
        path = shop / "events" / name.replace("a.", f"{copy}.")
        match path.suffix:
            case ".jsonl":
                path.write_text("".join(json.dumps(one) + "\n" for one in ORDERS))
            case ".json":
                path.write_text(json.dumps(ORDERS, indent=1))
            case ".parquet":
                pl.DataFrame(ORDERS).write_parquet(path)
            case _:
                cells = [
                    {key: value if isinstance(value, int | str | None) else json.dumps(value)
                     for key, value in one.items()}
                    for one in ORDERS
                ]  # fmt: skip
                pl.DataFrame(cells).write_csv(path)
    shown = "user_id, order_id, item_id, quantity, unit_price, channel, extra, source_row"
    rows, told = taken(shop, shown)
    other = '{"line_items.gift": "false"}'
    first = '{"note": "ring twice", ' + other[1:]
    assert (
        rows
        == [
            ("u1", "1", "i1", "2", "3.50", "app", first, 0),
            ("u1", "1", "i3", "1", "7.10", "app", first, 2),
            ("u2", "2", None, None, None, None, None, 3),
            (None, "3", "i1", "1", "3.50", None, other, 4),
        ]
        * 2
    )
    assert {day.day: (one.rows, one.skipped) for day, one in told.days.items()} == {
        3: (6, 2), 4: (2, 0)
    }  # fmt: skip


DEEP = """
columns:
  event_time: data.orders.at
  event_type: {value: purchase}
  user_id: data.orders.customer.id
  order_id: data.orders.id
  item_id: data.orders.line_items.product.sku
  quantity: data.orders.line_items.quantity
  unit_price: data.orders.line_items.price
  offer_id: data.orders.line_items.discounts.code
  channel: shop
explode: [data.orders, data.orders.line_items, data.orders.line_items.discounts]
"""


@pytest.mark.parametrize("name", ["a.json", "a.parquet"])
def test_lists_within_lists_are_rows_of_the_innermost_elements(shop: Path, name: str) -> None:
    """An answer of an API: one object, in which are the orders, their lines and their discounts.
    Each row keeps what stands around its list, and an empty list keeps its row."""
    (shop / "mapping.yaml").write_text(DEEP)
    codes: dict[str, list[dict[str, str]]] = {
        "i1": [{"code": "x"}, {"code": "y"}],
        "i2": [],
        "i3": [{"code": "z"}],
    }
    orders = [
        order | {"line_items": [line | {"discounts": codes[line["product"]["sku"]]}
                                for line in order["line_items"]]}
        for order in ORDERS
    ]  # fmt: skip
    pages = [{"shop": "north", "data": {"orders": orders[:2]}},
             {"shop": "south", "data": {"orders": orders[2:]}}]  # fmt: skip
    if name == "a.json":
        (shop / "events" / name).write_text(json.dumps(pages))
    else:
        pl.DataFrame(pages).write_parquet(shop / "events" / name)
    rows, told = taken(shop, "channel, user_id, order_id, item_id, offer_id, source_row, extra")
    assert rows == [
        ("north", "u1", "1", "i1", "x", 0, None),
        ("north", "u1", "1", "i1", "y", 1, None),
        ("north", "u1", "1", "i2", None, 2, None),
        ("north", "u1", "1", "i3", "z", 3, None),
        ("north", "u2", "2", None, None, 4, None),
        ("south", None, "3", "i1", "x", 5, None),
        ("south", None, "3", "i1", "y", 6, None),
    ]
    assert {day.day: one.rows for day, one in told.days.items()} == {3: 5, 4: 2}


def test_what_is_not_nested_as_told_is_null_and_never_an_error(shop: Path) -> None:
    (shop / "mapping.yaml").write_text(
        "columns: {event_time: at, user_id: user.id, item_id: items.0.sku, event_type: a.b}\n"
    )
    lines = [
        '{"at": "2024-01-03", "user": "anna", "items": {"sku": 1}, "a.b": "view", "a": {"b": "x"}}',
        '{"at": "2024-01-03", "user": {"id": 1234567890123456789.50}, "items": [{"sku": 7}]}',
        '{"at": "2024-01-03", "user": [1], "items": 3, "A": 1}',
    ]
    (shop / "events" / "a.jsonl").write_text("\n".join(lines) + "\n")
    rows, _ = taken(shop, "user_id, item_id, event_type, extra::json ->> 'a'")
    assert rows == [
        (None, None, "view", '{"b":"x"}'),
        ("1234567890123456789.50", "7", None, None),
        (None, None, None, None),
    ]


def test_a_list_that_is_exploded_later_changes_the_days(shop: Path) -> None:
    (shop / "events" / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in ORDERS))
    mapping = shop / "mapping.yaml"
    mapping.write_text("columns: {event_time: at}\n")
    before = taken(shop, "source_row")[1].days
    mapping.write_text("columns: {event_time: at}\nexplode: Line_Items\n")
    rows, told = taken(shop, "source_row")
    assert rows == [(number,) for number in range(5)]
    day = date(2024, 1, 4)
    assert (before[day].rows, told.days[day].rows) == (1, 1)
    assert before[day].fingerprint != told.days[day].fingerprint


def test_a_database_is_told_to_use_a_view_where_a_list_is_to_be_exploded(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("explode: line_items\n")
    told = Settings(source="postgresql://me@host/shop", start=FIRST, mapping=mapping)
    with pytest.raises(SourceError, match="explode: is for files; make a view"):
        open_source(installation.delivery(told))
