"""How long loading the definitions takes, in units of ``import dagster`` (best of five processes).

Dagster loads them for every run that it launches and whenever the code is reloaded. The aim is a
ratio of at most 2: half of the time is Dagster itself, whatever we do.
"""

from __future__ import annotations

import json
import subprocess
import sys

ROUNDS = 5
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
    ratio = (dagster + modules + definitions) / dagster
    print(
        f"import dagster {dagster:.2f} s, our modules {modules:.2f} s, "
        f"definitions {definitions:.2f} s: {ratio:.2f} times import dagster"
    )


if __name__ == "__main__":
    main()
