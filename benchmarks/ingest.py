"""Ingest of one day's file through the files source, in units of DuckDB's bare insert of it.

Writes 5 million events (or as many as the first argument says) as Parquet, CSV and JSON Lines, each
of which is inserted into a fresh DuckDB file (``create table as``), and staged as ``raw.events`` by
a fresh installation. The aim for Parquet and CSV is at most 3 times bare.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb
from pydantic import SecretStr

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.contract.project import PROJECT
from promo_assets.contract.tables import load_contracts
from promo_assets.settings import Settings
from promo_assets.tables.events import raw_events
from promo_assets.tables.table import Production
from promo_assets.warehouse.publish import Slice, prepare, stage

ROWS = 5_000_000
DAY = date(2024, 1, 3)
LIMITS = ("2GB", "6GB")
"""Of DuckDB's memory: the default, which 5 million rows exceed, and one that holds them."""

CONFIG: dict[str, str | bool | int | float | list[str]] = {"threads": 2, "memory_limit": "2GB"}
FORMATS = {"parquet": "parquet", "csv": "csv", "jsonl": "json"}
EVENTS = """
select
    'e' || i as event_id,
    strftime(timestamp '{day}' + to_microseconds(cast(i * 86400e6 / {rows} as bigint)),
        '%Y-%m-%d %H:%M:%S.%f') as event_time,
    case when i % 20 = 0 then 'purchase' else 'view' end as event_type,
    'user-' || (hash(i) % 200000) as user_id,
    'dev-' || (hash(i) % 300000) as device_id,
    's-' || (i // 7) as session_id,
    'app' as channel,
    'item-' || (hash(i * 7) % 5000) as item_id,
    case when i % 20 = 0 then '2' end as quantity,
    case when i % 20 = 0 then '3.50' end as unit_price,
    case when i % 20 = 0 then '0.00' end as discount,
    case when i % 20 = 0 then 'o-' || i end as order_id
from range({rows}) as t(i)
"""
BARE = {
    "parquet": "from read_parquet($file)",
    "csv": "from read_csv($file, all_varchar = true)",
    "jsonl": "from read_json($file, format = 'newline_delimited')",
}


def write(folder: Path, rows: int) -> dict[str, Path]:
    """A source's folder for each format, with one day's events; returns its file."""
    files = {}
    with duckdb.connect(config=CONFIG) as connection:
        for name, format_ in FORMATS.items():
            files[name] = folder / name / "events" / f"{DAY}.{name}"
            files[name].parent.mkdir(parents=True)
            connection.execute(
                f"copy ({EVENTS.format(day=DAY, rows=rows)}) to '{files[name]}' (format {format_})"
            )
    return files


class Clock:
    """Seconds since it was made: on the wall, and of the processor, which other work on the machine
    changes less."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def passed(self) -> tuple[float, float]:
        wall, cpu = self._began
        return time.perf_counter() - wall, time.process_time() - cpu


def bare(name: str, file: Path, folder: Path) -> tuple[float, float]:
    """Seconds to insert the file into a fresh database, as DuckDB does it itself."""
    database = folder / "bare.duckdb"
    database.unlink(missing_ok=True)
    with duckdb.connect(database, config=CONFIG) as connection:
        began = Clock()
        connection.execute(f"create table bare as {BARE[name]}", {"file": str(file)})
        return began.passed()


def staged(file: Path, folder: Path, rows: int, limit: str) -> tuple[float, float]:
    """Seconds to stage the day's ``raw.events`` in a fresh installation: inventory, mapping,
    pseudonyms, and all that `stage` checks."""
    settings = Settings(
        home=folder / "home",
        source=f"files:{file.parent.parent}",
        start=DAY,
        threads=2,
        memory_limit=limit,
        pseudonym_key=SecretStr("a key for benchmarks"),
    )
    shutil.rmtree(settings.home, ignore_errors=True)
    settings.home.mkdir()
    window = Window(DAY, DAY + timedelta(days=1))
    contract = load_contracts(PROJECT / "expectations")["raw.events"]
    with installation.warehouse(settings).get_connection() as connection:
        prepare(connection)
        production = Production(
            contract, connection, window, (), (), "benchmark", print, lambda notes: None
        )
        began = Clock()
        found = stage(
            connection,
            Slice(contract, window),
            raw_events(production, installation.intake(settings)),
        )
        passed = began.passed()
    assert found == rows
    return passed


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, file in write(folder, rows).items():
            unit, unit_cpu = bare(name, file, folder)
            print(f"{name:<8} bare {rows / unit / 1e6:.2f} million rows a second")
            for limit in LIMITS:
                wall, cpu = staged(file, folder, rows, limit)
                print(
                    f"{'':<8} staged with {limit} {rows / wall / 1e6:.2f}: {wall / unit:.1f} times "
                    f"bare ({cpu / unit_cpu:.1f} by the processor's time)"
                )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"peak memory {peak:.1f} GiB")


if __name__ == "__main__":
    main()
