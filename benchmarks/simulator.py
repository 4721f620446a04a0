"""How fast the simulator writes Parquet, in how much memory, and how its shop compares.

Each size runs in a process of its own (best of `ROUNDS`, wall clock from start to end, imports and
truth included). ``python benchmarks/simulator.py 100`` adds 100 million events (3 GB of disk).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from promo_assets.simulation.calibration import table
from promo_assets.simulation.folder import Manifest, size_of

DAYS = 90
PEOPLE_A_MILLION = 11_900
"""Who make a million events in 90 days."""
ROUNDS = 3


def measure(millions: int, folder: Path) -> tuple[float, float, float, Manifest]:
    """Seconds, seconds of CPU, GiB at the peak, and what was written."""
    users = millions * PEOPLE_A_MILLION
    command = [sys.executable, "-m", "promo_assets.cli.main", "simulate", "--out", str(folder)]
    command += ["--users", str(users), "--days", str(DAYS)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    assert status == 0, command
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024**2, Manifest.read(folder)


def main() -> None:
    sizes = sorted({1, 10, *map(int, sys.argv[1:])})
    print(f"{Path(__file__).stem}: {DAYS} days, Parquet, randomised campaigns, truth included")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "shop"
        for millions in sizes:
            rounds = [measure(millions, folder) for _ in range(ROUNDS if millions < 100 else 1)]
            took, used, _, manifest = min(rounds, key=lambda found: found[0])
            peak = max(found[2] for found in rounds)
            rows = sum(manifest.rows.values())
            print(
                f"  {rows:>11,} events {took:6.1f} s ({used:6.1f} s of CPU) {rows / took:>9,.0f} a"
                f" second, {peak:.2f} GiB, {size_of(folder / 'events') / rows:.1f} bytes an event"
            )
            if millions == 10:
                print(table(folder, manifest.options.users))


if __name__ == "__main__":
    main()
