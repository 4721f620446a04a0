"""90 days of Complete Journey: one range run against 90 runs of a day. The rows must be equal.

Run: python benchmarks/range_vs_days.py [days] [job ...]; the jobs default to dimensions and
daily_tables (events, features, profiles).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.definitions import build_definitions
from promo_assets.orchestration.runs import Phase, open_instance, plan, run_phase
from promo_assets.settings import Settings

FIRST = date(2017, 1, 1)
DAYS = 90
JOBS = ("dimensions", "daily_tables")
TARGET = 5
"""A range must take at most a fifth of the time of its single days."""

DIFFERENCE = """
select
    (select count(*) from (select * from days.{0} except all select * from whole.{0}))
    + (select count(*) from (select * from whole.{0} except all select * from days.{0})),
    (select count(*) from whole.{0})
"""


def main(days: int = DAYS, jobs: Sequence[str] = JOBS) -> None:
    """Run both, compare every table, print rows and times."""
    window = Window(FIRST, date.fromordinal(FIRST.toordinal() + days))
    with tempfile.TemporaryDirectory(prefix="promo-bench-") as folder:
        whole = Settings(home=Path(folder) / "range", source="complete_journey", start=FIRST)
        apart = Settings(home=Path(folder) / "days", source="complete_journey", start=FIRST)
        run(Settings(home=Path(folder) / "warm"), [Window.of(window.days[:1])], jobs)  # Imports.
        range_seconds = run(whole, [window], jobs)
        print(f"one range of {days} days: {range_seconds:.1f} s", flush=True)
        days_seconds = run(apart, [Window.of([day]) for day in window.days], jobs)
        ratio = days_seconds / range_seconds
        print(f"{days} runs of a day: {days_seconds:.1f} s, {days_seconds / days:.2f} s each")
        different = compare(whole.places.warehouse, apart.places.warehouse)
    print(f"the range is {ratio:.1f} times as fast (target {TARGET})")
    if different or ratio < TARGET:
        sys.exit(f"tables that differ: {different or 'none'}; times as fast: {ratio:.1f}")


def run(settings: Settings, windows: Sequence[Window], jobs: Sequence[str]) -> float:
    """The seconds that the jobs take over all windows, one run a window and job."""
    definitions = build_definitions(settings)
    with open_instance(settings.places) as instance:
        began = time.perf_counter()
        for window in windows:
            for phase in phases(window, settings, jobs):
                result = run_phase(phase, definitions, instance, batch="benchmark")
                assert result is not None
                if not result.success:
                    sys.exit(f"{phase}: {result.failures}")
        return time.perf_counter() - began


def phases(window: Window, settings: Settings, jobs: Sequence[str]) -> list[Phase]:
    """The phases of a window that belong to the jobs; tables without days once, with the first."""
    wanted = [
        phase for phase in plan(window, installation.partitions(settings)) if phase.job in jobs
    ]
    return [phase for phase in wanted if phase.first or window.start == FIRST]


def compare(whole: Path, apart: Path) -> list[str]:
    """Print every table's rows and return the tables whose rows differ."""
    different = []
    with attached(whole, apart) as connection:
        names = connection.execute(
            "select schema_name || '.' || table_name from duckdb_tables()"
            " where database_name = 'whole' and schema_name not in ('audit', 'staging')"
            " order by all"
        ).fetchall()
        for (name,) in names:
            found = connection.execute(DIFFERENCE.format(name)).fetchone()
            assert found is not None
            unlike, rows = found
            print(f"{name:<28} {rows:>10,} rows, {unlike} differ")
            if unlike:
                different.append(name)
    return different


@contextmanager
def attached(whole: Path, apart: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Both warehouses, read-only, as catalogues ``whole`` and ``days``."""
    connection = duckdb.connect()
    try:
        connection.execute(f"attach '{whole}' as whole (read_only)")
        connection.execute(f"attach '{apart}' as days (read_only)")
        yield connection
    finally:
        connection.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DAYS, sys.argv[2:] or JOBS)
