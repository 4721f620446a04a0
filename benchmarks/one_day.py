"""One day of a shop from its events to who gets what, on a history that is there already.

Simulates a shop, takes in all of its days, trains, and then times the last day alone, from taking
in its events to the export, phase by phase, with the process's peak memory. The aim is 10 minutes
and 24 GiB for a million users on 2 cores; other numbers of users are told as they are.

    python benchmarks/one_day.py [users] [days]
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.definitions import build_definitions
from promo_assets.orchestration.runs import PhaseResult, open_instance, plan, run_phase
from promo_assets.settings import Settings
from promo_assets.simulation.folder import Options
from promo_assets.simulation.simulate import simulate

FIRST = date(2024, 1, 1)
USERS, DAYS = 20_000, 60
HISTORY = ("dimensions", "daily_tables", "weekly_training")
"""The jobs that make what a day is decided by."""
DECISIONS = ("daily_decisions", "daily_lists", "segment_strategies", "daily_reports")
MOST_SECONDS, MOST_GIB = 600, 24


def main(users: int = USERS, days: int = DAYS) -> None:
    """Make the history, time the last day, print both; exit 1 if a million users miss the aim."""
    last = FIRST + timedelta(days=days - 1)
    with tempfile.TemporaryDirectory(prefix="promo-bench-") as folder:
        home, end = Path(folder), last + timedelta(days=1)
        whole = Settings(home=home, source="simulated", start=FIRST, end=end)
        simulate(Options(users=users, seed=7, start=FIRST), days, whole.places.simulated)
        before = run(whole, Window(FIRST, last), HISTORY)
        day = run(whole, Window(last, end), HISTORY)
        # An installation that begins on the last day waits for no decision of the days before.
        day += run(whole.model_copy(update={"start": last}), Window(last, end), DECISIONS)
    history = sum(result.seconds for result in before)
    seconds = sum(result.seconds for result in day)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{users:,} people, {days} days: history {history:.0f} s; the last day:")
    for result in day:
        print(f"  {result.phase.title:<28}{result.seconds:8.1f} s")
    print(f"  {'in all':<28}{seconds:8.1f} s, peak memory of the process {peak:.1f} GiB")
    if seconds > MOST_SECONDS or peak > MOST_GIB:
        sys.exit(f"the aim is {MOST_SECONDS} s and {MOST_GIB} GiB")


def run(settings: Settings, window: Window, jobs: Sequence[str]) -> list[PhaseResult]:
    """The range through these jobs."""
    definitions = build_definitions(settings)
    phases = plan(window, installation.partitions(settings))
    with open_instance(settings.places) as instance:
        found = [
            run_phase(phase, definitions, instance, batch="benchmark")
            for phase in phases
            if phase.job in jobs
        ]
    results = [result for result in found if result is not None]
    wrong = [failure for result in results for failure in result.failures]
    if wrong:
        sys.exit(f"the platform failed: {wrong}")
    return results


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
