"""Databases, as a real MariaDB and a real PostgreSQL have them: values, times, days, secrets.

What the servers got is read from their own logs. Files are the oracle: the same rows in a folder
must give the same events.
"""

from __future__ import annotations

import random
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.settings import Settings, SettingsError, load_settings
from promo_assets.sources import Source, SourceError, UnreachableError, open_source
from promo_assets.sources.addresses import Address, load_extension
from promo_assets.sources.database import Database
from promo_assets.sources.dialects import MYSQL, POSTGRESQL, Dialect
from promo_assets.sources.files import Files
from promo_assets.sources.mapping import COLUMNS, SourceMapping
from promo_assets.warehouse.publish import Query
from tests.support.servers import NEEDLE, PASSWORD, USER, Server

FIRST = date(2024, 1, 1)
MONTH = Window(FIRST, date(2024, 2, 1))
SHOWN = ", ".join((*COLUMNS, "extra", "event_date"))

TIMES = {
    "mariadb": {"instant": "timestamp(6) null", "wall": "datetime(6)"},
    "postgresql": {"instant": "timestamptz", "wall": "timestamp"},
}
COMMON_TIMES = {
    "day": "date",
    "epoch": "bigint",
    "fraction": "decimal(20, 6)",
    "text": "varchar(60)",
}

Row = dict[str, Any]


def create(server: Server, clock: str = "wall", key: str = "id bigint primary key, ") -> None:
    """The table ``events`` with a time of one of the kinds, and columns of each usual type."""
    time_type = {**TIMES[server.kind], **COMMON_TIMES}[clock]
    server.execute(
        f"create table events ({key}event_time {time_type}, event_type varchar(20), "
        "user_id varchar(40), quantity int, unit_price decimal(18, 2), colour varchar(20)); "
        "create index on_time on events (event_time)"
    )


def event(number: int, at: str | int | None, **told: Any) -> Row:
    """A row of ``events``."""
    return {
        "id": number,
        "event_time": at,
        "event_type": "purchase",
        "user_id": f"user {number % 7}",
        "quantity": number,
        "unit_price": f"{number}.50",
        "colour": None,
        **told,
    }


def source_of(server: Server, mapping: Path | None = None, **told: Any) -> Database:
    settings = Settings(source=server.url(), start=FIRST, mapping=mapping, **told)
    source = open_source(installation.delivery(settings))
    assert isinstance(source, Database)
    return source


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("set TimeZone = 'UTC'")
        yield opened


def read(
    source: Source,
    connection: duckdb.DuckDBPyConnection,
    window: Window = MONTH,
    shown: str = SHOWN,
) -> list[Any]:
    query = source.take(window, connection).query
    sql = f"select {shown} from ({query.sql}) order by all"
    return connection.execute(sql, dict(query.parameters)).fetchall()


def day(number: int) -> Window:
    """The day ``number`` days after the first."""
    start = FIRST + timedelta(days=number)
    return Window(start, start + timedelta(days=1))


# Values.


VALUES: Mapping[str, Sequence[tuple[str, str, str | None]]] = {
    "mariadb": [
        ("tinyint(1)", "5", "5"),
        ("tinyint", "-7", "-7"),
        ("bigint unsigned", "18446744073709551615", "18446744073709551615"),
        ("bit(1)", "1", "1"),
        ("bit(8)", "255", "255"),
        ("decimal(18, 2)", "1234.50", "1234.50"),
        ("decimal(65, 30)", "1234567890123456789012345.000000000000000000000000000001",
         "1234567890123456789012345.000000000000000000000000000001"),
        ("double", "0.1", "0.1"),
        ("double", "3", "3"),
        ("year", "2024", "2024"),
        ("date", "'2024-01-03'", "2024-01-03"),
        ("datetime(6)", "'2024-01-03 10:00:00.123456'", "2024-01-03 10:00:00.123456"),
        ("timestamp(6) null", "'2024-01-03 10:00:00.123456'", "2024-01-03 10:00:00.123456+00"),
        ("datetime", "'0000-00-00'", None),
        ("datetime", "'2024-00-03'", None),
        ("time", "'-838:59:59'", "-838:59:59"),
        ("enum('view', 'buy')", "'buy'", "buy"),
        ("set('a', 'b')", "'a,b'", "a,b"),
        ("json", "'{\"a\": [1, 2.50]}'", '{"a": [1, 2.50]}'),
        ("varchar(20) character set latin1", "'Käse'", "Käse"),
        ("varchar(20) collate utf8mb4_bin", "'秘密 😀'", "秘密 😀"),
        ("text", "''", None),
        ("text", "'it''s \\\\ \"x\"'", "it's \\ \"x\""),
        ("binary(2)", "x'00ff'", "\\x00\\xFF"),
        ("uuid", "'123e4567-e89b-12d3-a456-426655440000'", "123e4567-e89b-12d3-a456-426655440000"),
        ("inet6", "'::1'", "::1"),
    ],
    "postgresql": [
        ("boolean", "true", "true"),
        ("smallint", "-7", "-7"),
        ("bigint", "9223372036854775807", "9223372036854775807"),
        ("numeric", "12345678901234567890.123456789", "12345678901234567890.123456789"),
        ("numeric", "'NaN'", "NaN"),
        ("numeric(18, 2)", "1234.50", "1234.50"),
        ("numeric(50, 2)", "123456789012345678901234567890123456789012345678.25",
         "123456789012345678901234567890123456789012345678.25"),
        ("real", "0.1", "0.1"),
        ("double precision", "3", "3"),
        ("money", "1234.5", "$1,234.50"),
        ("date", "'2024-01-03'", "2024-01-03"),
        ("date", "'infinity'", None),
        ("timestamp", "'2024-01-03 10:00:00.123456'", "2024-01-03 10:00:00.123456"),
        ("timestamptz", "'2024-01-03 10:00:00.123456+05:30'", "2024-01-03 04:30:00.123456+00"),
        ("time", "'10:00'", "10:00:00"),
        ("interval", "'1 day 02:00'", "1 day 02:00:00"),
        ("mood", "'buy'", "buy"),
        ("cents", "3.50", "3.50"),
        ("int[]", "'{1,2,null}'", "[1,2,null]"),
        ("text[]", "'{a,\"b,c\"}'", '["a","b,c"]'),
        ("place", "row(1, 'x')", '{"a":1,"b":"x"}'),
        ("char(10)", "'ab'", "ab"),
        ("text", "'秘密 😀'", "秘密 😀"),
        ("text", "''", None),
        ("text", "'it''s \\ \"x\"'", "it's \\ \"x\""),
        ("bytea", "'\\x00ff'", "\\x00\\xFF"),
        ("uuid", "'123e4567-e89b-12d3-a456-426655440000'", "123e4567-e89b-12d3-a456-426655440000"),
        ("inet", "'10.0.0.1/8'", "10.0.0.1/8"),
    ],
}  # fmt: skip
"""A type, a value of it in SQL, and the text that it must become."""

BEFORE = {
    "mariadb": "set sql_mode = ''",
    "postgresql": "drop type if exists mood, place; drop domain if exists cents; "
    "create type mood as enum ('view', 'buy'); create type place as (a int, b text); "
    "create domain cents as numeric(18, 2)",
}


def test_a_value_of_every_type_becomes_its_exact_text(
    server: Server, connection: duckdb.DuckDBPyConnection
) -> None:
    values = VALUES[server.kind]
    columns = ", ".join(f"c{number} {type_}" for number, (type_, _, _) in enumerate(values))
    server.execute(
        f"{BEFORE[server.kind]}; create table events (event_time timestamp, event_type text, "
        f"{columns}); insert into events values ('2024-01-03 10:00:00', 'view', "
        f"{', '.join(value for _, value, _ in values)})"
    )
    source = source_of(server)
    for number, (type_, _, text) in enumerate(values):
        taken = replace(source, mapping=SourceMapping(columns={"search_query": f"c{number}"}))
        assert read(taken, connection, shown="search_query") == [(text,)], type_


def test_columns_that_the_contract_does_not_know_are_kept_aside_as_they_are(
    server: Server, connection: duckdb.DuckDBPyConnection
) -> None:
    create(server)
    server.execute(
        "alter table events add column basket json; alter table events add column weight "
        "decimal(30, 20); alter table events add column updated_at timestamp null"
    )
    basket = '{"a": [1, 2.50]}'
    told = event(
        1, "2024-01-03 10:00:00", colour="red", basket=basket, weight="0.10000000000000000001"
    )
    server.insert("events", [told])
    expected = {
        "mariadb": '{"colour": "red", "basket": "{\\"a\\": [1, 2.50]}", '
        '"weight": 0.10000000000000000001}',
        "postgresql": '{"colour": "red", "basket": {"a": [1, 2.50]}, '
        '"weight": "0.10000000000000000001"}',
    }[server.kind]
    assert read(source_of(server), connection, shown="extra") == [(expected,)]


def test_an_event_has_its_table_and_key_as_place(
    server: Server, connection: duckdb.DuckDBPyConnection
) -> None:
    create(server)
    server.insert("events", [event(42, "2024-01-03 10:00:00.5")])
    shown = (
        "event_time, event_type, user_id, quantity, unit_price, extra, note, source, source_file, "
        "source_row"
    )
    name = {"mariadb": "mysql", "postgresql": "postgresql"}[server.kind]
    assert read(source_of(server), connection, shown=shown) == [
        ("2024-01-03 10:00:00.500000", "purchase", "user 0", "42", "42.50", None, None,
         name, "events", 42)
    ]  # fmt: skip


def test_skipped_rows_are_counted_by_the_server_and_not_read(
    server: Server, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    create(server)
    server.insert("events", [event(n, f"2024-01-0{3 + n % 2} 10:00:00") for n in range(1, 7)])
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("skip_rows_where: [{column: USER_ID, one_of: [user 1, user 3]}]\n")
    source = source_of(server, mapping)
    rows = read(source, connection, MONTH, "source_row, event_date")
    assert sorted(number for number, _ in rows) == [2, 4, 5, 6]
    told = source.delivered(MONTH, connection)
    assert {day.day: (one.rows, one.skipped) for day, one in told.items()} == {
        3: (3, 0), 4: (1, 2)
    }  # fmt: skip


# Times and days. Files are the oracle.


def told_times(clock: str, draw: random.Random) -> list[str | int | None]:
    """Times around both changes of New York's clocks, old ones, and what is no time."""
    around = (datetime(2024, 1, 2), datetime(2024, 3, 10, 3), datetime(2024, 11, 3, 3))
    moments = [
        draw.choice(around)
        + timedelta(microseconds=draw.randrange(-(36 * 3600 * 10**6), 36 * 3600 * 10**6))
        for _ in range(400)
    ]
    moments += [datetime(2001, 2, 3, 4, 5, 6), datetime(2024, 1, 2), datetime(2024, 3, 10)]
    moments += [at.replace(minute=0, second=0, microsecond=0) for at in moments[::4]]
    if clock == "epoch":
        since = [(at - datetime(1970, 1, 1)) // timedelta(milliseconds=1) for at in moments]
        return [*since, None, -5, 0, 10**17]
    if clock == "fraction":
        return [*(str((at - datetime(1970, 1, 1)).total_seconds()) for at in moments), None, 10**13]
    if clock == "day":
        return [*(str(at.date()) for at in moments), None]
    if clock == "text":
        endings = ("", "", "", "Z", "+05:30", "-1100", "+14")
        texts = [at.isoformat(draw.choice("T ")) + draw.choice(endings) for at in moments]
        return [*texts, None, "yesterday", "2024-02-30", "2024-11-03 99:00", "20240102", "2024-1-2",
                "2024-01-03 (BC)", "infinity", "01/02/2024", " 2024-01-02 10:00"]  # fmt: skip
    return [*(str(at) for at in moments), None]


WINDOWS = [
    *(day((at - FIRST).days) for at in (FIRST, date(2024, 1, 2), date(2024, 3, 10))),
    *(day((at - FIRST).days) for at in (date(2024, 11, 3), date(2024, 11, 4))),
    Window(FIRST, date(2024, 12, 1)),
    Window(date(2024, 3, 9), date(2024, 11, 4)),
]


@pytest.mark.parametrize(
    ("clock", "zone"),
    [
        ("instant", "America/New_York"),
        ("wall", "UTC"),
        ("wall", "America/New_York"),
        ("wall", "Asia/Kathmandu"),
        ("day", "America/New_York"),
        ("epoch", "America/New_York"),
        ("fraction", "UTC"),
        ("text", "America/New_York"),
    ],
)
def test_every_day_has_the_rows_that_the_same_rows_in_a_file_give(
    server: Server, connection: duckdb.DuckDBPyConnection, tmp_path: Path, clock: str, zone: str
) -> None:
    rows = [event(n, at) for n, at in enumerate(told_times(clock, random.Random(clock)))]
    create(server, clock)
    server.insert("events", rows)
    formats = {"epoch": "epoch_millis", "fraction": "epoch_seconds"}
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(f"time_format: {formats[clock]}\n" if clock in formats else "")
    utc = "+00" if clock == "instant" else ""
    filed = [
        {name: value for name, value in row.items() if name != "id"}
        | {"event_time": None if row["event_time"] is None else f"{row['event_time']}{utc}"}
        for row in rows
    ]
    (tmp_path / "events").mkdir()
    pl.DataFrame(filed, infer_schema_length=None).write_csv(tmp_path / "events" / "a.csv")
    settings = Settings(source=f"files:{tmp_path}", start=FIRST, timezone=zone, home=tmp_path)
    files = Files.at(tmp_path, installation.delivery(settings))
    source = source_of(server, mapping, timezone=zone)
    shown = SHOWN
    if clock in ("fraction", "epoch"):  # As delivered, 1.500000 is not 1.5.
        shown = SHOWN.replace("event_time", "try_cast(event_time as timestamp)")
    for window in WINDOWS:
        expected = read(files, connection, window, shown)
        assert read(source, connection, window, shown) == expected, window
        counted = {}
        for row in expected:
            counted[row[-1]] = counted.get(row[-1], 0) + 1
        told = source.delivered(window, connection)
        assert {at: one.rows for at, one in told.items()} == counted, window


@pytest.mark.databases
@pytest.mark.parametrize("nothing", ["0000-00-00", "2024-02-00", "2024-00-03 10:00:00"])
def test_dates_that_are_none_belong_to_the_first_day(
    request: pytest.FixtureRequest, connection: duckdb.DuckDBPyConnection, nothing: str
) -> None:
    server: Server = request.getfixturevalue("mariadb")
    server.empty()
    create(server)
    server.execute(
        f"set sql_mode = ''; insert into events (id, event_time) values (1, '{nothing}')"
    )
    source = source_of(server)
    assert read(source, connection, MONTH, "event_time, event_date") == [(None, FIRST)]
    assert [len(read(source, connection, day(number))) for number in (0, 1, 30)] == [1, 0, 0]


# What the servers were asked.


def asked(server: Server, statements: Sequence[str]) -> list[str]:
    """The selects on the table of events that were executed, not only prepared."""
    way = {"mariadb": "Execute\t", "postgresql": "statement: "}[server.kind]
    return [
        line for line in statements if re.search(rf"{way}.*select .* from [`\"]events[`\"]", line)
    ]


def test_only_the_rows_of_the_window_leave_the_server_which_finds_them_by_index(
    server: Server, connection: duckdb.DuckDBPyConnection
) -> None:
    create(server)
    days = 200
    rows = [event(n, f"{FIRST + timedelta(days=n // 20)} 10:00:00") for n in range(20 * days)]
    server.insert("events", rows)
    window, source = day(100), source_of(server)
    with evidence_of_work(server) as found, server.statements() as statements:
        assert len(read(source, connection, window)) == 20
    told = [line for line in asked(server, statements) if "event_time" in line]
    assert told
    assert all(f">= '{window.start} 00:00:00'" in line for line in told)
    assert all(f"< '{window.end} 00:00:00'" in line for line in told)
    assert (20, 20) in found, "rows sent, rows examined"
    assert all(examined <= 40 for _, examined in found), "counting them reads no other row either"


@contextmanager
def evidence_of_work(server: Server) -> Iterator[list[tuple[int, int]]]:
    """Rows sent and rows examined by each statement that read events, as the server counts."""
    found: list[tuple[int, int]] = []
    if server.kind == "mariadb":
        log = server.folder / "slow.log"
        server.execute(
            "analyze table events; "
            f"set global slow_query_log_file = '{log}'; set global long_query_time = 0; "
            "set global slow_query_log = 1"
        )
        yield found
        server.execute("set global slow_query_log = 0; set global long_query_time = 10")
        pattern = r"Rows_sent: (\d+)\s+Rows_examined: (\d+)(?:(?!\n# User).)*?from `events` where"
        found += [(int(a), int(b)) for a, b in re.findall(pattern, log.read_text(), re.S)]
        return
    server.execute(
        "load 'auto_explain'; analyze events; "
        "alter role reader set session_preload_libraries = 'auto_explain'; "
        "alter system set auto_explain.log_min_duration = 0; "
        "alter system set auto_explain.log_analyze = on; select pg_reload_conf()"
    )
    with server.statements() as statements:
        yield found
    server.execute("alter role reader reset session_preload_libraries")
    text = "\n".join(statements)
    plans = re.findall(r"Index Scan using on_time on events .*?rows=(\d+) loops=1\)", text)
    found += [(int(rows), int(rows)) for rows in plans]


def test_the_first_day_takes_older_rows_by_a_filter_too(
    server: Server, connection: duckdb.DuckDBPyConnection
) -> None:
    create(server)
    server.insert(
        "events", [event(1, "2001-01-01"), event(2, "2024-01-01"), event(3, "2024-01-02")]
    )
    with server.statements() as statements:
        assert len(read(source_of(server), connection, day(0))) == 2
    assert all(
        "< '2024-01-02 00:00:00'" in line
        for line in asked(server, statements)
        if "event_type" in line
    )


@pytest.mark.parametrize("clock", ["wall", "instant"])
def test_bounds_are_those_that_clocks_of_the_zone_show(
    server: Server, connection: duckdb.DuckDBPyConnection, clock: str
) -> None:
    create(server, clock)
    source = source_of(server, timezone="America/New_York")
    with server.statements() as statements:
        read(source, connection, Window(date(2024, 7, 1), date(2024, 7, 2)))
    low = {"wall": "'2024-06-30 20:00:00'", "instant": "'2024-07-01 00:00:00"}[clock]
    assert all(low in line for line in asked(server, statements) if "event_type" in line)


# Places of rows.


def test_a_row_without_a_number_as_key_has_the_same_place_whatever_order_it_was_inserted_in(
    server: Server, connection: duckdb.DuckDBPyConnection
) -> None:
    rows = [event(n % 7, f"2024-01-0{1 + n % 3} 10:00:00") for n in range(60)]
    places = []
    for told in (rows, rows[::-1]):
        server.empty()
        create(server, key="id bigint, ")
        server.insert("events", told)
        shown = "event_date, source_row, user_id, quantity"
        places.append(read(source_of(server), connection, shown=shown))
        single = read(source_of(server), connection, day(1), shown)
        assert single == [row for row in places[-1] if row[0] == date(2024, 1, 2)]
    assert places[0] == places[1]
    numbers: dict[date, list[int]] = {}
    for at, number, *_ in places[0]:
        numbers.setdefault(at, []).append(number)
    assert numbers == {at: list(range(20)) for at in numbers}


@pytest.mark.parametrize("key", [-5, 5])
def test_places_are_never_negative(
    server: Server, connection: duckdb.DuckDBPyConnection, key: int
) -> None:
    create(server)
    server.insert("events", [event(key, "2024-01-02"), event(7, "2024-01-02")])
    expected = [(5,), (7,)] if key > 0 else [(0,), (1,)]
    assert read(source_of(server), connection, shown="source_row") == expected


# Late data.


def fingerprints(
    source: Source, window: Window, connection: duckdb.DuckDBPyConnection
) -> dict[date, str]:
    delivered = source.delivered(window, connection)
    return {at: one.fingerprint for at, one in delivered.items()}


def test_a_late_row_changes_the_fingerprint_of_its_day_only(
    server: Server, connection: duckdb.DuckDBPyConnection
) -> None:
    create(server)
    rows = [event(n, f"2024-01-0{1 + n % 5} 10:07:00") for n in range(50)]
    server.insert("events", rows)
    source = source_of(server)
    before = fingerprints(source, MONTH, connection)
    assert sorted(before) == [FIRST + timedelta(days=n) for n in range(5)]
    assert all(told.startswith("10 rows read as ") for told in before.values())
    server.insert("events", [event(100, "2024-01-03 23:59:59.999999"), event(101, "2003-01-01")])
    after = fingerprints(source, MONTH, connection)
    assert {at for at in after if after[at] != before[at]} == {date(2024, 1, 3), FIRST}


def test_another_way_to_read_the_rows_changes_the_fingerprints(
    server: Server, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """As with files: what was taken in by another mapping is not what would be taken in now."""
    create(server)
    server.insert("events", [event(n, f"2024-01-0{1 + n} 10:07:00") for n in range(3)])
    path = tmp_path / "mapping.yaml"
    told = []
    for text in ("", "values: {event_type: {purchase: view}}", "units: {money: cents}",
                 "skip_rows_where: [{column: colour, one_of: [test]}]",
                 "gates: {}"):  # fmt: skip
        path.write_text(text)
        told.append(fingerprints(source_of(server, path), MONTH, connection))
    plain, *others, limits = told
    assert limits == plain
    assert all(one.keys() == plain.keys() for one in others)
    assert not any(one[at] == plain[at] for one in others for at in plain)


@pytest.mark.parametrize(
    ("types", "zone"),
    [
        (("date", "time"), "America/New_York"),
        (("date", "varchar(20)"), "Asia/Kolkata"),
        (("varchar(20)", "varchar(20)"), "UTC"),
    ],
)
def test_joined_times_are_filtered_and_counted_as_they_are_read(
    server: Server,
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    types: tuple[str, str],
    zone: str,
) -> None:
    server.execute(
        f"create table events (id bigint primary key, d {types[0]}, t {types[1]}, "
        "event_type varchar(20), user_id varchar(40))"
    )
    hours = ("00:00:00", "04:59:59", "05:00:00", "12:30:00", "18:29:59", "18:30:00", "23:59:59")
    at = [(f"2024-01-0{n}", hour) for n in range(1, 6) for hour in hours] + [(None, "10:00:00")]
    rows = [
        {"id": n, "d": d, "t": t, "event_type": "view", "user_id": f"u{n}"}
        for n, (d, t) in enumerate(at)
    ]
    server.insert("events", rows)
    text = "columns: {event_time: {join: [d, t]}}\n"
    text += "skip_rows_where: [{column: t, one_of: ['12:30:00']}]"
    (tmp_path / "mapping.yaml").write_text(text)
    (tmp_path / "events").mkdir()
    pl.DataFrame(rows).drop("id").write_csv(tmp_path / "events" / "all.csv")
    source = source_of(server, tmp_path / "mapping.yaml", timezone=zone)
    files = Files.at(tmp_path, installation.delivery(Settings(start=FIRST, timezone=zone)))
    shown = "user_id, event_time, event_date"
    counted = source.delivered(MONTH, connection)
    for number in range(7):
        expected = read(files, connection, day(number), shown)
        assert read(source, connection, day(number), shown) == expected
        found = counted.get(day(number).start)
        assert (found.rows if found else 0) == len(expected)
        assert source.delivered(day(number), connection).get(day(number).start) == found
    assert sum(one.skipped for one in counted.values()) == 5
    source.span(connection)
    server.insert("events", [rows[20] | {"id": 99}])
    after = source.delivered(MONTH, connection)
    assert sum(after[at] != counted[at] for at in counted) == 1


@pytest.mark.parametrize("named", ["updated_at", "changed_on"])
def test_an_update_in_place_changes_the_fingerprint_where_a_column_tells_it(
    server: Server, connection: duckdb.DuckDBPyConnection, tmp_path: Path, named: str
) -> None:
    create(server)
    server.execute(f"alter table events add column {named} timestamp null")
    rows = [event(n, f"2024-01-0{1 + n} 10:07:00", **{named: "2024-02-01"}) for n in range(5)]
    server.insert("events", rows)
    (tmp_path / "mapping.yaml").write_text(
        "updated_at: changed_on" if named != "updated_at" else ""
    )
    source = source_of(server, tmp_path / "mapping.yaml")
    before = fingerprints(source, MONTH, connection)
    assert before[FIRST].startswith("1 rows read as ")
    assert before[FIRST].endswith(", updated 2024-02-01 00:00:00")
    server.execute(f"update events set quantity = 99, {named} = '2024-02-02 03:04:05' where id = 2")
    after = fingerprints(source, MONTH, connection)
    assert {at for at in after if after[at] != before[at]} == {date(2024, 1, 3)}
    assert after == {at: fingerprints(source, Window(at, at + timedelta(days=1)), connection)[at]
                     for at in after}  # fmt: skip


def test_a_row_that_comes_while_a_day_is_taken_in_is_read_and_makes_the_day_late(
    server: Server, connection: duckdb.DuckDBPyConnection
) -> None:
    create(server)
    server.insert("events", [event(n, "2024-01-03 10:00:00") for n in range(20)])
    source = source_of(server)
    taken = source.take(day(2), connection)
    server.insert("events", [event(n, "2024-01-03 10:00:00") for n in range(100, 125)])
    (read_,) = connection.execute(
        f"select count(*) from ({taken.query.sql})", dict(taken.query.parameters)
    ).fetchone()
    assert (taken.days[date(2024, 1, 3)].rows, read_) == (20, 45)
    assert source.delivered(day(2), connection) != taken.days


def test_the_span_is_that_of_the_rows_that_lie_in_partitions(
    server: Server, connection: duckdb.DuckDBPyConnection
) -> None:
    create(server)
    source = source_of(server)
    assert source.span(connection) is None
    told = ["2003-01-01", "2024-01-02 23:59:59", "2024-01-05 10:00:00", "2099-01-01", None]
    server.insert("events", [event(n, at) for n, at in enumerate(told)])
    assert source.span(connection) == Window(date(2024, 1, 2), date(2024, 1, 6))
    server.execute("delete from events where event_time < '2024-01-05'")
    assert source.span(connection) == Window(date(2024, 1, 5), date(2024, 1, 6))
    server.execute("delete from events")
    assert source.span(connection) is None


def test_fingerprints_are_counted_by_the_server(
    server: Server, connection: duckdb.DuckDBPyConnection
) -> None:
    create(server)
    server.insert("events", [event(1, "2024-01-03")])
    with server.statements() as statements:
        source_of(server).delivered(day(2), connection)
    told = [line for line in asked(server, statements) if "count(*)" in line]
    assert told
    assert all("'2024-01-03 00:00:00'" in line and "group by" in line for line in told)


# Names.


def test_tables_and_columns_have_the_names_that_the_mapping_tells(
    server: Server, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    odd = {"mariadb": "`what \"it's`", "postgresql": '"what ""it\'s"'}[server.kind]
    server.execute(f"create table {odd} (ts bigint, what varchar(20), who int, pennies int)")
    server.execute(f"insert into {odd} values (1704276000, 'buy', 7, 350)")
    path = tmp_path / "mapping.yaml"
    path.write_text(
        "events_table: what \"it's\n"
        "columns: {event_time: ts, event_type: what, user_id: who, unit_price: pennies}\n"
        "values: {event_type: {buy: purchase}}\ntime_format: epoch_seconds\n"
        "units: {money: cents}\n"
    )
    shown = "event_time, event_type, user_id, unit_price, source_file"
    assert read(source_of(server, path), connection, day(2), shown) == [
        ("2024-01-03 10:00:00.000000", "purchase", "7", "3.50", "what \"it's")
    ]


@pytest.mark.parametrize(
    ("setup", "mapping", "told"),
    [
        ("select 1", "", "there is no table 'events'"),
        ("create table events (event_time timestamp)", "events_table: evnts", "no table 'evnts'"),
        (
            "create table events (happened timestamp)",
            "",
            "has no column 'event_time' (found happened)",
        ),
        (
            "create table events (event_time timestamp)",
            "updated_at: changed",
            "has no column 'changed', which PROMO_MAPPING names under updated_at",
        ),
        (
            "create table events (event_time timestamp, price int)",
            "columns: {unit_price: pirce}",
            "unit_price: nothing has a column 'pirce'; did you mean 'price'?",
        ),
    ],
)
def test_what_is_not_there_is_told_with_what_to_do(
    server: Server, tmp_path: Path, setup: str, mapping: str, told: str
) -> None:
    server.execute(setup)
    (tmp_path / "mapping.yaml").write_text(mapping)
    with pytest.raises(SourceError) as error:
        source_of(server, tmp_path / "mapping.yaml").check()
    assert told in str(error.value)
    assert f"@127.0.0.1:{server.port}/shop" in str(error.value)
    assert "PROMO_MAPPING" in str(error.value)


def test_what_the_user_may_not_read_is_as_if_it_was_not_there(
    server: Server, connection: duckdb.DuckDBPyConnection
) -> None:
    account = {"mariadb": f"{USER}@'127.0.0.1'", "postgresql": USER}[server.kind]
    everything = {"mariadb": "shop.*", "postgresql": "all tables in schema public"}[server.kind]
    create(server)
    server.insert("events", [event(1, "2024-01-02", colour="hidden")])
    source = source_of(server)
    server.execute(f"revoke select on {everything} from {account}; create table other (a int)")
    server.execute(f"grant select on other to {account}")
    try:
        with pytest.raises(SourceError, match="no table 'events', or 'reader' may not read it"):
            source.check()
        server.execute(f"grant select (id, event_time, user_id) on events to {account}")
        assert read(source, connection, shown="user_id, extra") == [("user 1", None)]
    finally:
        server.execute(f"grant select on {everything} to {account}")


def test_a_mapping_that_is_not_there_is_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"PROMO_MAPPING=.*nowhere\.yaml: there is no such file"):
        source_of(server, tmp_path / "nowhere.yaml")


# The tables beside the events.


def test_items_users_identities_and_consents_are_those_of_the_same_files(
    server: Server, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    create(server)
    time_type = TIMES[server.kind]["wall"]
    tables: Mapping[str, tuple[str, list[Row]]] = {
        "items": (
            "item_id varchar(20) primary key, category varchar(99), brand varchar(20), "
            "list_price decimal(18, 2), unit_cost decimal(18, 2), in_stock boolean",
            [
                {"item_id": "a", "category": "Food/Tea", "brand": "Käse", "list_price": "3.50",
                 "unit_cost": None, "in_stock": True},
                {"item_id": "b", "category": None, "brand": None, "list_price": None,
                 "unit_cost": "1.20", "in_stock": False},
            ],
        ),
        "users": (
            f"user_id varchar(20) primary key, signup_time {time_type}, consent_marketing boolean, "
            "consent_analytics boolean, city varchar(20), age int",
            [
                {"user_id": "u1", "signup_time": "2023-06-01 12:00:00", "consent_marketing": True,
                 "consent_analytics": None, "city": "北京", "age": 40},
                {"user_id": "u2", "signup_time": None, "consent_marketing": False,
                 "consent_analytics": True, "city": None, "age": 7},
            ],
        ),
        "identities": (
            f"device_id varchar(20), user_id varchar(20), linked_at {time_type}",
            [{"device_id": "d1", "user_id": "u1", "linked_at": "2024-01-02 00:00:00"}],
        ),
        "consents": (
            "user_id varchar(20), device_id varchar(20), purpose varchar(20), granted boolean, "
            f"since {time_type}",
            [{"user_id": None, "device_id": "d1", "purpose": "marketing", "granted": False,
              "since": "2024-01-02 10:00:00"}],
        ),
    }  # fmt: skip
    (tmp_path / "events").mkdir()
    for name, (columns, rows) in tables.items():
        server.execute(f"create table {name} ({columns})")
        server.insert(name, rows)
        pl.DataFrame(rows).write_csv(tmp_path / f"{name}.csv")
    told = {"start": FIRST, "timezone": "America/New_York", "home": tmp_path}
    files = Files.at(tmp_path, installation.delivery(Settings(source=f"files:{tmp_path}", **told)))
    source = source_of(server, timezone="America/New_York")
    for method in ("items", "users", "device_links", "consents"):
        found, expected = (
            rows_of(getattr(one, method)(connection), connection) for one in (source, files)
        )
        if method == "users":  # A file has no numbers, so its attributes are text.
            expected = [
                (*row[:3], (row[3] or "").replace('"7"', "7").replace('"40"', "40"))
                for row in expected
            ]
        assert found, method
        assert found == expected, method


def rows_of(query: Query, connection: duckdb.DuckDBPyConnection) -> list[Any]:
    sql = f"from ({query.sql}) order by all"
    return connection.execute(sql, dict(query.parameters)).fetchall()


def test_tables_that_are_not_there_have_no_rows_unless_they_are_named(
    server: Server, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    create(server)
    source = source_of(server)
    for query in (source.items, source.users, source.device_links, source.consents):
        assert rows_of(query(connection), connection) == []
    (tmp_path / "mapping.yaml").write_text("users_table: people")
    with pytest.raises(SourceError, match=r"there is no table 'people'.*users_table"):
        source_of(server, tmp_path / "mapping.yaml").users(connection)


def test_a_table_that_is_something_else_can_be_left_out(
    server: Server, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    create(server)
    server.execute("create table users (login varchar(20), password varchar(20))")
    with pytest.raises(SourceError, match="'users': has no column 'user_id'"):
        source_of(server).users(connection)
    (tmp_path / "mapping.yaml").write_text("users_table: null")
    source = source_of(server, tmp_path / "mapping.yaml")
    assert rows_of(source.users(connection), connection) == []
    assert rows_of(source.consents(connection), connection) == []


def test_a_value_that_cant_be_used_is_told_with_its_row(
    server: Server, connection: duckdb.DuckDBPyConnection
) -> None:
    create(server)
    server.execute("create table items (item_id int primary key, list_price varchar(20))")
    server.insert("items", [{"item_id": 17, "list_price": "dear"}])
    with pytest.raises(SourceError, match="'items': the row with item_id 17, column list_price"):
        source_of(server).items(connection)


# Connections.


def test_queries_run_after_their_making_again_and_beside_another_connections(
    server: Server, tmp_path: Path
) -> None:
    create(server)
    server.execute("create table items (item_id int)")
    server.insert("events", [event(1, "2024-01-02"), event(2, "2024-01-03")])
    source = source_of(server)
    with duckdb.connect(tmp_path / "a.duckdb") as one, duckdb.connect(tmp_path / "b.duckdb") as two:
        queries = [source.take(day(1), one).query, source.take(MONTH, one).query, source.items(one)]
        other = source.take(MONTH, two).query
        with duckdb.connect(tmp_path / "a.duckdb") as third:  # Of the same database as `one`.
            assert len(rows_of(source.take(MONTH, third).query, third)) == 2
        assert [len(rows_of(query, one)) for query in (*queries, queries[0])] == [1, 2, 0, 1]
        assert len(rows_of(other, two)) == 2


def test_nothing_can_be_written(server: Server, connection: duckdb.DuckDBPyConnection) -> None:
    create(server)
    source = source_of(server)
    source.take(MONTH, connection)
    with pytest.raises(duckdb.Error, match="read-only"):
        connection.execute(f"create table {source.address.alias}.x (i int)")


# Addresses and passwords.


@given(
    user=st.text(min_size=1, max_size=9).filter(str.isprintable),
    password=st.text(min_size=1, max_size=12),
    options=st.sampled_from(["", "?sslmode=require"]),
)
def test_a_password_leaves_the_url_whatever_characters_it_has(
    user: str, password: str, options: str
) -> None:
    told = f"{quote(user, safe='')}:{quote(password, safe='')}"
    settings = Settings(source=f"mysql://{told}@db.example:3307/shop{options}")
    assert settings.source == f"mysql://{quote(user, safe='')}@db.example:3307/shop{options}"
    assert settings.source_password
    assert settings.source_password.get_secret_value() == password
    address = Address.of(settings.source, settings.source_password)
    assert (address.user, address.host, address.port) == (user, "db.example", 3307)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:s3cret/@:?#x@host:1/shop",
        "postgresql://me:s3cret@s3cret@host/shop?bad=option",
        "postgresql://host/shop?user=me&password=s3cret&sslmode=require",
        "sqlserver://me:s3cret@host/shop",
        "mysql:me:s3cret@host/shop",
        "mysql://me:s3cret@host:port/shop",
        "mysql://me:s3cret@host",
        "postgres://me:s3cret@host/a/b",
    ],
)
def test_no_message_about_a_url_tells_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(source=url)
    assert "s3cret" not in repr(settings) + str(settings)
    try:
        told = repr(open_source(installation.delivery(settings)))
    except SourceError as error:
        told = "".join(traceback.format_exception(error))
    assert "s3cret" not in told
    monkeypatch.setenv("PROMO_SOURCE", url)
    monkeypatch.setenv("PROMO_BUDGET", "-1")
    load_settings.cache_clear()
    with pytest.raises(SettingsError) as wrong:
        load_settings()
    assert "s3cret" not in "".join(traceback.format_exception(wrong.value))


def test_a_password_may_be_a_setting_of_its_own(server: Server) -> None:
    create(server)
    url = f"{server.kind}://{USER}@127.0.0.1:{server.port}/shop"
    told = Settings(source=url, source_password=SecretStr(PASSWORD), start=FIRST)
    source = open_source(installation.delivery(told))
    assert isinstance(source, Database)
    source.check()


def test_a_socket_is_an_address_too(server: Server) -> None:
    create(server)
    option = {"mariadb": "socket", "postgresql": "host"}[server.kind]
    port = {"mariadb": "", "postgresql": f"localhost:{server.port}"}[server.kind]
    url = f"{server.kind}://{USER}:{quote(PASSWORD, safe='')}@{port}/shop?{option}={server.socket}"
    source = open_source(installation.delivery(Settings(source=url, start=FIRST)))
    assert isinstance(source, Database)
    source.check()


@pytest.mark.parametrize(
    ("change", "type_"),
    [
        ({"password": "wr0ng s3cret '\"%"}, SourceError),
        ({"database": "nowhere"}, SourceError),
        ({"options": "?sslmode=require"}, SourceError),  # The servers have no certificate.
        ({"port": 1}, UnreachableError),
    ],
)
def test_a_server_that_refuses_or_is_down_is_told_without_the_password(
    server: Server, change: dict[str, Any], type_: type[SourceError]
) -> None:
    source = open_source(installation.delivery(Settings(source=server.url(**change), start=FIRST)))
    assert isinstance(source, Database)
    with pytest.raises(SourceError) as told:
        source.check()
    assert type(told.value) is type_
    assert NEEDLE not in "".join(traceback.format_exception(told.value))
    assert f"127.0.0.1:{change.get('port', server.port)}" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("dialect", [MYSQL, POSTGRESQL])
def test_an_extension_that_is_not_there_is_told_with_what_to_install(
    tmp_path: Path, dialect: Dialect
) -> None:
    config = {
        "custom_extension_repository": str(tmp_path / "nothing"),
        "extension_directory": str(tmp_path / "extensions"),
    }
    with duckdb.connect(config=config) as connection, pytest.raises(SourceError) as told:
        load_extension(connection, replace(dialect, package="no_such_package"))
    assert "pip install 'promo-assets[databases]'" in str(told.value)
