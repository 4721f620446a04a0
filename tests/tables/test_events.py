"""Who a delivered row is of: ids that are none, and ids that are spelled in several ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.contract.project import EXPECTATIONS
from promo_assets.contract.tables import load_contracts
from promo_assets.definitions import build_tables
from promo_assets.people.pseudonyms import pseudonym
from promo_assets.settings import Settings
from promo_assets.sources import open_source
from promo_assets.tables import events
from promo_assets.tables.table import Production
from promo_assets.warehouse.publish import Query, Slice, ensure_table, prepare, publish, stage
from tests.support import direct

DAY = date(2024, 6, 1)
KEY = "a key for tests only"
CONTRACTS = load_contracts(EXPECTATIONS)
Rows = list[dict[str, Any]]
Enter = Callable[[str], Rows]


@pytest.fixture
def enter(tmp_path: Path) -> Enter:
    """The rows that a table takes of the folder ``tmp_path / "shop"``."""

    def entered(table: str) -> Rows:
        with duckdb.connect() as connection:
            made = _query(tmp_path, table, connection)
            found = connection.execute(made.sql, dict(made.parameters))
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    return entered


def _query(
    place: Path,
    table: str,
    connection: duckdb.DuckDBPyConnection,
    note: Callable[[Mapping[str, Any]], None] = lambda notes: None,
) -> Query:
    connection.execute("set TimeZone = 'UTC'")
    prepare(connection)
    settings = Settings(
        home=place / "home", source=f"files:{place / 'shop'}", start=DAY, pseudonym_key=KEY
    )
    contract = CONTRACTS[table]
    window = Window(DAY, date(2024, 6, 2)) if contract.window else None
    production = Production(contract, connection, window, (), (), "test", print, note)
    name = "raw_events" if table == "raw.events" else table.removeprefix("core.")
    made = getattr(events, name)(production, installation.intake(settings))
    assert isinstance(made, Query)
    return made


def deliver(place: Path, *rows: str, users: str = "", mapping: str = "") -> None:
    header = "event_time,event_type,user_id,device_id,order_id\n"
    lines = "".join(f"{DAY} 12:00:0{n},view,{told}\n" for n, told in enumerate(rows))
    (place / "shop" / "events").mkdir(parents=True, exist_ok=True)
    (place / "shop" / "events" / f"{DAY}.csv").write_text(header + lines)
    (place / "shop" / "users.csv").write_text("user_id,consent_marketing\n" + users)
    (place / "shop" / "mapping.yaml").write_text(mapping)


def test_skipped_rows_are_in_the_metadata(tmp_path: Path) -> None:
    deliver(tmp_path, "anna,,1", "ben,,test", "ben,,test")
    notes: dict[str, Any] = {}
    with duckdb.connect() as connection:
        _query(tmp_path, "raw.events", connection, notes.update)
    assert "rows_skipped" not in notes
    skip = "skip_rows_where: [{column: order_id, one_of: [test]}]\n"
    deliver(tmp_path, "anna,,1", "ben,,test", "ben,,test", mapping=skip)
    with duckdb.connect() as connection:
        _query(tmp_path, "raw.events", connection, notes.update)
    assert notes["rows_skipped"] == 2


def test_what_was_skipped_is_told_of_the_events_that_are_left(tmp_path: Path) -> None:
    skip = "skip_rows_where: [{column: order_id, one_of: [test]}]\n"
    deliver(tmp_path, "anna,,1", "ben,,test", "ben,,test", mapping=skip)
    notes: dict[str, Any] = {}
    settings = Settings(home=tmp_path / "home", source=f"files:{tmp_path / 'shop'}", start=DAY)
    table = next(t for t in build_tables(settings) if t.contract.table == "core.events")
    window = Window(DAY, date(2024, 6, 3))
    with duckdb.connect() as connection:
        _query(tmp_path, "raw.events", connection)
        made = Production(table.contract, connection, window, (), (), "x", print, notes.update)
        table.produce(made)
        assert notes == {"rows_delivered": 0, "rows_skipped": 0}, "a run that published nothing"
        connection.execute(
            "insert into audit.publications by name select 'raw.events' as table_name,"
            f" date '{DAY}' as day, '' as part, 1 as row_count, 'test' as run_id"
        )
        table.produce(made)
    assert notes == {"rows_delivered": 1, "rows_skipped": 2}


@pytest.mark.parametrize(
    "nobody",
    [
        *("null", "NULL", "\\N", "None", "nan", "undefined", "   ", "\u00a0", "(not set)", "N/A"),
        *("00000000-0000-0000-0000-000000000000", "{00000000-0000-0000-0000-000000000000}"),
    ],
)
def test_a_word_for_nothing_is_nobody_and_the_row_says_so(
    tmp_path: Path, enter: Enter, nobody: str
) -> None:
    deliver(tmp_path, f"{nobody},{nobody},o-1", f"{nobody},d-1,o-1", "anna,d-1,o-1")
    of_nobody, of_device, of_anna = enter("raw.events")
    assert (of_nobody["user_id"], of_nobody["device_id"]) == (None, None)
    assert of_nobody["note"] == "no_id: user_id, device_id"
    assert of_device["user_id"] is None
    assert of_device["device_id"] == pseudonym("d-1", "device", KEY)
    assert (of_anna["user_id"], of_anna["note"]) == (pseudonym("anna", "account", KEY), None)


def test_a_word_for_nothing_is_no_order(tmp_path: Path, enter: Enter) -> None:
    deliver(tmp_path, "anna,,null", "anna,,o-1", "anna,,nullo", mapping="not_delivered: [channel]")
    first, second, third = enter("raw.events")
    assert (first["order_id"], first["note"]) == (None, "not_delivered: channel; no_id: order_id")
    assert (second["order_id"], third["order_id"]) == ("o-1", "nullo")


def test_blanks_around_an_id_are_none_of_it(tmp_path: Path, enter: Enter) -> None:
    deliver(tmp_path, " anna,d-1 ,o-1", "anna\u00a0,\td-1,o-1", users="anna  ,true\nnull,true\n")
    assert {row["user_id"] for row in enter("raw.events")} == {pseudonym("anna", "account", KEY)}
    assert {row["device_id"] for row in enter("raw.events")} == {pseudonym("d-1", "device", KEY)}
    assert [row["user_id"] for row in enter("core.users")] == [pseudonym("anna", "account", KEY)]
    assert [row["identifier"] for row in enter("core.consents")] == [
        pseudonym("anna", "account", KEY)
    ]


@pytest.mark.parametrize(
    ("spelling", "of_events", "of_users"),
    [
        ("without_decimals", "142.0", "142"),
        ("without_leading_zeros", "000142", "142"),
        ("lower_case", "Anna", "aNNa"),
        ("without_decimals, without_leading_zeros", "00142.0", "142"),
    ],
)
def test_ids_that_are_spelled_differently_meet_where_the_shop_says_so(
    tmp_path: Path, enter: Enter, spelling: str, of_events: str, of_users: str
) -> None:
    deliver(tmp_path, f"{of_events},,", users=f"{of_users},true\n")
    ((event,), (user,)) = enter("raw.events"), enter("core.users")
    assert event["user_id"] != user["user_id"]
    mapping = f"ids: {{user_id: [{spelling}]}}\n"
    deliver(tmp_path, f"{of_events},,", users=f"{of_users},true\n", mapping=mapping)
    ((event,), (user,), (consent,)) = map(enter, ("raw.events", "core.users", "core.consents"))
    assert event["user_id"] == user["user_id"] == consent["identifier"]


def test_ids_that_are_none_are_told_when_they_begin(tmp_path: Path) -> None:
    deliver(tmp_path, "null,d-1,o-1", "anna,d-1,o-1")
    with duckdb.connect() as connection:
        made = _query(tmp_path, "raw.events", connection)
        ensure_table(connection, CONTRACTS["raw.events"])
        connection.execute(f"create table raw.staged as {made.sql}", dict(made.parameters))
        window = (DAY, date(2024, 6, 2))

        def told() -> Any:
            found = direct.findings(connection, CONTRACTS["raw.events"], "raw.staged", window)
            return next(one for one in found if one.expectation == "ids_are_ids")

        assert told().examples == ({"day": f"{DAY}", "without_id": "user_id", "row_count": 1},)
        connection.execute(
            "insert into raw.events by name select * replace (event_date - 1 as event_date) "
            "from raw.staged"
        )
        assert told().passed


def stated(warehouse: duckdb.DuckDBPyConnection, day: int, links: list[str], days: int = 1) -> None:
    """Run ``days`` days from the day ``day`` on, while ``links`` are what the shop states."""
    contract = CONTRACTS["core.link_statements"]
    ensure_table(warehouse, CONTRACTS["core.device_links"])
    warehouse.execute("delete from core.device_links")
    for device in links:
        warehouse.execute("insert into core.device_links values (?, 'anna', null)", [device])
    window = Window(DAY + timedelta(days=day), DAY + timedelta(days=day + days))
    production = Production(contract, warehouse, window, (), (), "test", print, lambda notes: None)
    target = Slice(contract, window)
    ensure_table(warehouse, contract)
    stage(warehouse, target, events.link_statements(production))
    publish(warehouse, target, run_id="test", code_version="1")


def test_statements_are_kept_by_the_day_on_which_they_were_found_so() -> None:
    with duckdb.connect() as warehouse:
        prepare(warehouse)
        shown = "day(as_of_date) - 1, device_id, is_stated"
        log = f"select {shown} from core.link_statements order by all"
        stated(warehouse, 2, ["a"], days=3)
        stated(warehouse, 5, ["a", "b"])
        stated(warehouse, 6, ["b"])
        expected = [(2, "a", True), (5, "b", True), (6, "a", False)]
        assert warehouse.execute(log).fetchall() == expected
        # Earlier days that are run again keep what was stated on them.
        stated(warehouse, 3, [], days=3)
        assert warehouse.execute(log).fetchall() == expected
        # The newest day takes what is stated now, and days before all others too.
        stated(warehouse, 6, ["a", "b"])
        assert warehouse.execute(log).fetchall() == expected[:2]
        stated(warehouse, 0, ["a", "b"], days=7)
        assert warehouse.execute(log).fetchall() == [(0, "a", True), (0, "b", True), *expected[:2]]


@pytest.mark.parametrize("wrong", ["1970-01-01 00:00:00", "2099-06-01 10:00:00", "noon"])
def test_a_row_of_a_wrong_clock_belongs_to_the_day_of_its_file(tmp_path: Path, wrong: str) -> None:
    folder = tmp_path / "shop" / "events"
    folder.mkdir(parents=True)
    days = [DAY + timedelta(days=number) for number in range(3)]
    header = "event_time,event_type,user_id\n"
    for day in days[:2]:
        (folder / f"{day}.csv").write_text(f"{header}{day} 10:00:00,view,anna\n")
    settings = Settings(
        home=tmp_path / "home", source=f"files:{folder.parent}", start=DAY, pseudonym_key=KEY
    )
    source = open_source(installation.delivery(settings))
    window = Window(DAY, DAY + timedelta(days=3))
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        before = source.delivered(window, connection)
        rows = f"{days[2]} 10:00:00,view,anna\n{wrong},view,anna\n"
        (folder / f"{days[2]}.csv").write_text(header + rows)
        taken = source.take(window, connection)
        assert {day: taken.days[day] for day in days[:2]} == before
        counted = f"select event_date, count(*) from ({taken.query.sql}) group by 1 order by 1"
        found = connection.execute(counted, dict(taken.query.parameters)).fetchall()
    assert found == [(days[0], 1), (days[1], 1), (days[2], 2)]
