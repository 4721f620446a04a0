"""What ``promo simulate`` shows: progress, what was written, and what to run next."""

from __future__ import annotations

import shlex
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from promo_assets.simulation.folder import Manifest, Options, size_of
from promo_assets.simulation.simulate import Simulation, refuse, simulate


def run_simulation(options: Options, days: int, folder: Path, *, named: bool) -> None:
    """Simulate into ``folder`` with a progress bar, and tell what was written. ``named``: the
    folder is not where ``PROMO_SOURCE=simulated`` looks."""
    refuse(options, days, folder)
    began = time.perf_counter()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[rows]:,} events"),
    )
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 100)
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("simulating days", total=days, rows=0)
        written = 0

        def tell(_: date, rows: int) -> None:
            nonlocal written
            written += rows
            progress.update(bar, advance=1, rows=written)

        manifest = simulate(options, days, folder, tell)
    _report(manifest, folder, time.perf_counter() - began)
    _next(manifest, folder, named)


def run_step(
    simulation: Simulation,
    assignments: pl.DataFrame | None,
    key: str,
    campaign: str,
    *,
    named: bool,
) -> None:
    """Play the next day under the platform's ``assignments``, and tell what came of it."""
    step = simulation.step(assignments, key, campaign)
    if assignments is None:
        print(f"{step.day}: no assignments of the day before, so a day without offers")
    else:
        print(
            f"{step.day}: {step.offers:,} offers sent, {step.withheld:,} withheld, "
            f"{step.unknown:,} assignments of users or offers that the shop doesn't know"
        )
    print(f"{step.rows:,} events written to {simulation.folder / 'events' / str(step.day)}")
    _next(simulation.manifest, simulation.folder, named, step.day)


def _report(manifest: Manifest, folder: Path, seconds: float) -> None:
    total = sum(manifest.rows.values())
    print(f"{folder}")
    for name, rows in manifest.rows.items():
        print(f"  {name:<18} {rows:>12,}")
    print(f"  {'events':<18} {total:>12,}")
    if manifest.delivered != total:
        print(f"  {'rows delivered':<18} {manifest.delivered:>12,}  (truth/mess.json says why)")
    size = size_of(folder / "events")
    print(
        f"{manifest.people:,} people, {manifest.days} days, {size / 1e6:,.1f} MB of events, "
        f"{seconds:.1f} s, {total / seconds:,.0f} events/s"
    )


def _next(manifest: Manifest, folder: Path, named: bool, only: date | None = None) -> None:
    """The command lines that read what was written."""
    start = manifest.options.start
    last = start + timedelta(days=manifest.days - 1)
    source = f"files:{folder}" if named else "simulated"
    settings = f"PROMO_SOURCE={shlex.quote(source)} PROMO_START={start} PROMO_END={last}"
    print(f"next: {settings} promo run --from {only or start} --to {last}")
    if named:
        print("      (PROMO_PSEUDONYM_KEY must be set: ids of a files source are pseudonymised)")
