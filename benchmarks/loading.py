"""How long loading the definitions takes, in units of ``import dagster``.

Dagster loads them for every run that it launches and whenever the code is reloaded. Both are
measured in the same process, so that other work on the machine slows both: the ratio is the median
of the processes' own. More than `TARGET` fails: most of the time is Dagster itself, whatever we do.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

ROUNDS = 7
TARGET = 1.8
PROBE = """
import json, time
began = time.perf_counter()
import dagster
imported = time.perf_counter()
from promo_assets.definitions import build_definitions
ready = time.perf_counter()
build_definitions()
print(json.dumps([imported - began, ready - imported, time.perf_counter() - ready]))
"""


def measure() -> list[float]:
    """Seconds for Dagster, our modules, and the definitions, in a process of their own."""
    told = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
    ).stdout
    return [float(value) for value in json.loads(told)]


def main() -> None:
    rounds = [measure() for _ in range(ROUNDS)]
    dagster, modules, definitions = (min(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(sum(each) / each[0] for each in rounds)
    print(
        f"import dagster {dagster:.2f} s, our modules {modules:.2f} s, "
        f"definitions {definitions:.2f} s: {ratio:.2f} times import dagster (target {TARGET})"
    )
    if ratio > TARGET:
        sys.exit(f"loading the definitions takes {ratio:.2f} times import dagster")


if __name__ == "__main__":
    main()
