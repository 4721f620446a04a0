"""The tables beside the events: what a folder's items, users, links and consents become, and what
is said about those that can't be used."""

from __future__ import annotations

import gzip
import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from promo_assets import installation
from promo_assets.settings import Settings
from promo_assets.sources import (
    CONSENT_COLUMNS,
    ITEM_COLUMNS,
    LINK_COLUMNS,
    USER_COLUMNS,
    SourceError,
    open_source,
)

COLUMNS = {
    "items": ITEM_COLUMNS,
    "users": USER_COLUMNS,
    "device_links": LINK_COLUMNS,
    "consents": CONSENT_COLUMNS,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "events").mkdir()
    return tmp_path


def read(folder: Path, table: str, timezone: str = "UTC") -> list[tuple[Any, ...]]:
    told = Settings(
        home=folder / "home", source=f"files:{folder}", start=date(2024, 1, 1), timezone=timezone
    )
    with duckdb.connect() as connection:
        query = getattr(open_source(installation.delivery(told)), table)(connection)
        found = connection.execute(f"{query.sql} order by all", dict(query.parameters))
        types = {name: str(type_) for name, type_, *_ in found.description}
        assert list(types) == list(COLUMNS[table])
        return found.fetchall()


@pytest.mark.parametrize("table", COLUMNS)
def test_a_table_that_is_not_there_has_its_columns_and_no_rows(folder: Path, table: str) -> None:
    assert read(folder, table) == []


ITEMS = (
    "item_id,category,brand,list_price,unit_cost,in_stock,colour\n"
    "7,A/B,acme,3.50,1.25,true,red\n8,,,,,no,\n"
)
FOUND = [
    ("7", "A/B", "acme", Decimal("3.50"), Decimal("1.25"), True),
    ("8", None, None, None, None, False),
]


def test_items_are_read_from_every_format(folder: Path) -> None:
    rows = pl.read_csv(ITEMS.encode(), infer_schema=False)
    made = {
        "items.csv": ITEMS.encode(),
        "items.csv.gz": gzip.compress(ITEMS.encode()),
        "items.jsonl": rows.write_ndjson().encode(),
        "items.parquet": b"",
    }
    for name, content in made.items():
        path = folder / name
        path.write_bytes(content) if content else rows.write_parquet(path)
        assert read(folder, "items") == FOUND
        path.unlink()


def test_prices_may_be_cents_and_columns_have_other_names(folder: Path) -> None:
    (folder / "items.csv").write_text("sku,price,unit_cost\n7,350,1.25\n")
    (folder / "mapping.yaml").write_text(
        "units: {money: cents, unit_cost: currency}\n"
        "item_columns: {item_id: sku, list_price: price}\n"
    )
    assert read(folder, "items") == [("7", None, None, Decimal("3.50"), Decimal("1.25"), None)]


USERS = (
    "user_id,signup_time,consent_marketing,consent_profiling,city,e_mail\n"
    "anna,2024-01-01 12:00:00,true,,Rome,a@b.c\n"
    "ben,,no,yes,,\n"
    "cleo,2024-01-01T12:00:00Z,,,,\n"
)


def test_users_have_their_attributes_without_consents_and_what_is_dropped(folder: Path) -> None:
    (folder / "users.csv").write_text(USERS)
    (folder / "mapping.yaml").write_text("drop: [E_Mail]\ntime_zone: Asia/Shanghai\n")
    anna, ben, cleo = read(folder, "users")
    assert anna[:3] == ("anna", datetime(2024, 1, 1, 4), True)
    assert json.loads(anna[3]) == {"city": "Rome"}
    assert ben == ("ben", None, False, None)
    assert cleo == ("cleo", datetime(2024, 1, 1, 12), None, None)


def test_consents_come_from_users_and_from_their_own_file(folder: Path) -> None:
    (folder / "users.csv").write_text(USERS)
    (folder / "consents.jsonl").write_text(
        '{"user_id": "anna", "purpose": "marketing", "granted": false, "since": "2024-02-01"}\n'
        '{"device_id": "d1", "purpose": "marketing", "granted": true, "since": null}\n'
    )
    assert set(read(folder, "consents")) == {
        ("anna", None, "marketing", True, None),
        ("ben", None, "marketing", False, None),
        ("ben", None, "profiling", True, None),
        ("anna", None, "marketing", False, datetime(2024, 2, 1)),
        (None, "d1", "marketing", True, None),
    }


def test_a_renamed_consent_counts_as_one(folder: Path) -> None:
    (folder / "users.csv").write_text("id,newsletter\nanna,true\n")
    (folder / "mapping.yaml").write_text(
        "user_columns: {user_id: id, consent_marketing: newsletter}\n"
    )
    assert read(folder, "users") == [("anna", None, True, None)]
    assert read(folder, "consents") == [("anna", None, "marketing", True, None)]


def test_links_of_devices_may_have_a_time(folder: Path) -> None:
    (folder / "identities.csv").write_text(
        "device_id,user_id,linked_at\nd1,anna,2024-01-01 10:00\nd2,anna,\n"
    )
    assert read(folder, "device_links") == [
        ("d1", "anna", datetime(2024, 1, 1, 10)),
        ("d2", "anna", None),
    ]


def test_times_follow_the_mappings_format_or_are_iso(folder: Path) -> None:
    (folder / "identities.csv").write_text(
        "device_id,user_id,linked_at\nd1,a,1704103200\nd2,a,2024-01-01 10:00\n"
    )
    (folder / "mapping.yaml").write_text("time_format: epoch_seconds\n")
    assert {row[2] for row in read(folder, "device_links")} == {datetime(2024, 1, 1, 10)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.csv", "item_id,list_price\n1,3.50\n2,free\n",
         "row 1 (counted from 0), column list_price: 'free' found, expected an amount"),
        ("items.csv", "item_id,in_stock\n1,maybe\n",
         "row 0 (counted from 0), column in_stock: 'maybe' found, expected true or false"),
        ("items.csv", "item_id,brand\n,acme\n", "column item_id: nothing found, expected a value"),
        ("items.csv", "item_id\n1\n2\n1\n",
         "row 0 (counted from 0) and row 2 (counted from 0) have the same item_id '1'; keep one"),
        ("items.csv", "sku,item\n1,2\n",
         "has no column 'item_id' (found sku, item); did you mean 'item'? Rename it, or add to "
         "mapping.yaml: item_columns: {item_id: item}"),
        ("users.jsonl", '{"user_id": 1, "signup_time": "soon"}\n',
         "column signup_time: 'soon' found, expected a time such as"),
        ("users.csv", "user_id,consent_sms\n1,perhaps\n",
         "column consent_sms: 'perhaps' found, expected true or false"),
        ("users.csv", "user_id\n1,2\n", "can't be read: line 2 has more fields than the 1"),
        ("identities.csv", "device_id,user_id\nd,a\nd,a\n",
         "have the same device_id 'd', user_id 'a'"),
        ("consents.csv", "user_id,device_id,purpose,granted\na,d,sms,true\n",
         "expected either a user_id or a device_id, found 'a' and 'd'"),
        ("consents.csv", "user_id,purpose,granted\na,sms,\n", "column granted: nothing found"),
    ],
)  # fmt: skip
def test_what_cant_be_used_is_told_with_file_row_and_value(
    folder: Path, name: str, content: str, message: str
) -> None:
    (folder / name).write_text(content)
    table = {"identities": "device_links"}.get(name.split(".")[0], name.split(".")[0])
    with pytest.raises(SourceError) as told:
        read(folder, table)
    assert str(told.value).startswith(f"{folder / name}: ")
    assert message in str(told.value)


def test_two_files_for_one_table_are_told(folder: Path) -> None:
    (folder / "users.csv").write_text(USERS)
    (folder / "users.jsonl").write_text('{"user_id": 1}\n')
    with pytest.raises(SourceError, match=r"users.csv and users.jsonl are both there; keep one"):
        read(folder, "users")


def test_amounts_are_read_as_the_mapping_writes_numbers_or_plainly(folder: Path) -> None:
    (folder / "mapping.yaml").write_text('number_format: {decimal: ",", thousands: "."}\n')
    (folder / "items.csv").write_text(
        "item_id;list_price;unit_cost\n1;1.299,50;0,10\n2;12.50;1.299\n3;7;19.990000000000002\n"
    )
    assert [(price, cost) for *_, price, cost, _ in read(folder, "items")] == [
        (Decimal("1299.50"), Decimal("0.10")),
        (Decimal("12.50"), Decimal("1299.00")),
        (Decimal("7.00"), Decimal("19.99")),
    ]


@pytest.mark.parametrize("price", ["1.299", "0.005", "1_000", "3.50 EUR"])
def test_an_amount_that_would_lose_a_part_is_none(folder: Path, price: str) -> None:
    (folder / "items.csv").write_text(f"item_id,list_price\n1,{price}\n")
    with pytest.raises(SourceError, match=rf"column list_price: '{price}' found"):
        read(folder, "items")


def test_a_refusal_counts_however_its_purpose_is_written(folder: Path) -> None:
    (folder / "consents.csv").write_text(
        "user_id,purpose,granted\n1,Marketing,false\n2, MARKETING ,false\n3,marketing,true\n"
    )
    (folder / "users.csv").write_text("user_id,Consent_Marketing\n4,true\n")
    told = {(user, purpose) for user, _, purpose, _, _ in read(folder, "consents")}
    assert told == {(user, "marketing") for user in "1234"}
    rule = installation.consent(Settings(consent_purposes="Marketing, SMS"))
    assert rule.purposes == ("marketing", "sms")


def test_a_table_that_can_not_be_read_by_its_ending_is_told(folder: Path) -> None:
    (folder / "users.xlsx").write_bytes(b"PK")
    with pytest.raises(SourceError, match=r"users.xlsx: can't be read: its ending is none of \."):
        read(folder, "users")
    (folder / "users.csv").write_text("user_id\n1\n")
    assert len(read(folder, "users")) == 1
