"""Databases, as a real MariaDB and a real PostgreSQL have them: values, times, days, secrets.

What the servers got is read from their own logs. Files are the oracle: the same rows in a folder
must give the same events.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from promo_assets.partitions import Window
from promo_assets.settings import Settings
from promo_assets.sources import Source, open_source
from promo_assets.sources.database import Database
from promo_assets.sources.files import Files
from promo_assets.sources.mapping import COLUMNS, SourceMapping
from tests.sources.servers import Server

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
    source = open_source(settings)
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
    query = source.events(window, connection)
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
    *(Window(date(2024, month, first), date(2024, month, first + 1))
      for month, days in ((1, (1, 2, 3)), (3, (9, 10, 11)), (11, (2, 3, 4))) for first in days),
    Window(date(2024, 1, 1), date(2024, 12, 1)),
    Window(date(2024, 3, 9), date(2024, 11, 4)),
]  # fmt: skip


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
        ("text", "UTC"),
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
    files = Files.at(tmp_path, settings)
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
        told = source.fingerprints(window, connection)
        assert {at: int(text.split()[0]) for at, text in told.items()} == counted, window
