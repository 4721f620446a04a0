"""Rows a second from a database into DuckDB, through the source and bare, and what a day costs.

Starts a MariaDB and a PostgreSQL on this machine (Debian's packages; one that is not installed is
left out), each with a million events that have an index on their time. Bare is ``create table as
select * from attached.events``, which does less: no mapping, no text, no exact types.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.settings import Settings
from promo_assets.sources import open_source
from promo_assets.sources.database import Database
from tests.support.servers import KINDS, Kind, Server, missing, running

ROWS = 1_000_000
ROUNDS = 3
FIRST = date(2024, 1, 1)
DAYS = 29
DELIVERED = f"""
select
    i as id,
    timestamp '{FIRST}' + to_microseconds(cast(i * {DAYS}.0 * 86400e6 / {ROWS} as bigint)),
    if(i % 10 = 0, 'purchase', 'view'),
    'user-' || hash(i) % 50000,
    'device-' || hash(i) % 70000,
    'item-' || hash(7 * i) % 5000,
    if(i % 10 = 0, 1 + i % 3, null),
    if(i % 10 = 0, cast(i % 9999 / 100 as decimal(18, 2)), null),
    if(i % 10 = 0, 'order-' || i, null),
    'app',
from range({ROWS}) as rows (i)
"""
TABLE = """
create table events (
    id bigint primary key, event_time {time}, event_type varchar(20), user_id varchar(40),
    device_id varchar(40), item_id varchar(40), quantity int, unit_price decimal(18, 2),
    order_id varchar(40), channel varchar(20));
"""
LOAD = {
    "mariadb": "load data local infile '{file}' into table events; ",
    "postgresql": "\\copy events from '{file}'\n",
}
TIME = {"mariadb": "datetime(6)", "postgresql": "timestamp"}


def load(server: Server, file: Path) -> None:
    """Put the rows into the server and index their time."""
    server.execute(TABLE.format(time=TIME[server.kind]) + LOAD[server.kind].format(file=file))
    server.execute("create index on_time on events (event_time)")
    server.execute("analyze table events" if server.kind == "mariadb" else "analyze events")


def seconds(source: Database, window: Window, bare: bool) -> tuple[float, int]:
    """The best time of taking the window in, and its rows."""
    best, rows = float("inf"), 0
    for _ in range(ROUNDS):
        with (
            tempfile.TemporaryDirectory() as folder,
            duckdb.connect(f"{folder}/warehouse.duckdb") as connection,
        ):
            connection.execute("set TimeZone = 'UTC'; set threads = 2")
            connection.execute("set preserve_insertion_order = false; set memory_limit = '1GB'")
            source.address.attach(connection)
            began = time.perf_counter()
            if bare:
                select, parameters = f"select * from {source.address.alias}.events", {}
            else:
                query = source.take(window, connection).query
                select, parameters = query.sql, dict(query.parameters)
            connection.execute(f"create table events as {select}", parameters)
            best = min(best, time.perf_counter() - began)
            (rows,) = connection.execute("select count(*) from events").fetchone() or (0,)
    return best, rows


def measure(kind: Kind, file: Path) -> None:
    with running(kind) as server:
        load(server, file)
        source = open_source(installation.delivery(Settings(source=server.url(), start=FIRST)))
        assert isinstance(source, Database)
        all_days = Window(FIRST, FIRST + timedelta(days=DAYS))
        bare, _ = seconds(source, all_days, bare=True)
        whole, rows = seconds(source, all_days, bare=False)
        assert rows == ROWS
        one_day = Window(FIRST + timedelta(days=9), FIRST + timedelta(days=10))
        day, day_rows = seconds(source, one_day, bare=False)
        with duckdb.connect() as connection:
            source.address.attach(connection)
            began = time.perf_counter()
            source.delivered(all_days, connection)
            counted = time.perf_counter() - began
    print(
        f"{kind}: {rows / whole:,.0f} rows/s through the source ({whole:.2f} s), "
        f"{rows / bare:,.0f} bare ({bare:.2f} s), ratio {bare / whole:.2f}; "
        f"a day of {day_rows:,} rows {day:.3f} s; counts of {DAYS} days {counted:.2f} s"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder) / "rows.csv"
        duckdb.sql(f"copy ({DELIVERED}) to '{file}' (header false, delim '\t', nullstr '\\N')")
        for kind in KINDS:
            if reason := missing(kind):
                print(f"LEFT OUT: {reason}")
            else:
                measure(kind, file)


if __name__ == "__main__":
    main()
