"""What a terminal shows: progress while a range runs, and the summary after it."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid

from promo_assets import installation
from promo_assets.cli import outcome
from promo_assets.cli.stopping import stoppable
from promo_assets.contract.days import Window
from promo_assets.contract.segments import SEGMENTS
from promo_assets.orchestration.runs import (
    Phase,
    PhaseResult,
    cancel,
    new_batch,
    open_instance,
    plan,
    prepare_home,
    run_days,
    steps,
)
from promo_assets.settings import Settings
from promo_assets.sources import open_source
from promo_assets.sources.database import Database
from promo_assets.strategy.offers.catalogue import load_catalogue
from promo_assets.warehouse.publish import ALWAYS
from promo_assets.warehouse.reading import Read

ENDED = {"STEP_SUCCESS": "", "STEP_FAILURE": "failed or waits", "STEP_SKIPPED": "skipped"}
Listen = Callable[[Phase, str, str], None]
"""Is told each phase's events and their steps."""
SHOWN_FINDINGS = 8
PLAIN_WIDTH = 120
"""Columns when nobody tells (a pipe, a log of CI): the widest table fits."""


def run_with_progress(
    window: Window, settings: Settings, groups: Sequence[str] = (), decide: int | None = None
) -> int:
    """Run a range with a progress bar; print what failed; return the exit code."""
    results = _run(window, settings, groups, decide)
    return outcome.tell(results, window, settings, groups, decide)


def run_demo(window: Window, settings: Settings, decide: int) -> int:
    """The demo: the whole range of a source, decisions of its last days, then the summary."""
    began = time.perf_counter()
    results = _run(window, settings, (), decide)
    code = outcome.tell(results, window, settings, decide=decide)
    print_summary(window, settings, results)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"\nThe demo took {time.perf_counter() - began:.0f} s; peak memory {peak:.1f} GiB.")
    return code


def _run(
    window: Window, settings: Settings, groups: Sequence[str], decide: int | None
) -> list[PhaseResult]:
    partitions = installation.partitions(settings)
    phases = plan(window, partitions, decide)  # A wrong range is refused before anything is loaded.
    _check(settings, groups)
    with open_instance(settings.places) as instance:
        from promo_assets.definitions import build_definitions

        definitions = build_definitions(settings)
        totals = {phase.job: len(steps(phase, definitions, groups)) for phase in phases}
        shown = [phase for phase in phases if totals[phase.job]]
        batch = new_batch()
        with (
            stoppable(partial(cancel, instance, batch)) as stopped,
            _progress(shown, totals) as listen,
        ):
            try:
                return run_days(
                    window,
                    partitions,
                    definitions,
                    instance,
                    batch=batch,
                    groups=groups,
                    listen=listen,
                    stopped=stopped,
                    decide=decide,
                )
            except KeyboardInterrupt:
                cancel(instance, batch)
                raise


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def _check(settings: Settings, groups: Sequence[str]) -> None:
    """Refuse what would make the run fail at its first steps, while one line can tell it."""
    chosen = set(groups or ("events", "strategy"))
    prepare_home(settings.places)
    with installation.warehouse(settings).get_connection():
        pass
    if "events" in chosen:
        installation.pseudonym_keys(settings)
        source = open_source(installation.delivery(settings))
        if isinstance(source, Database):
            source.check()
    if chosen & {"events", "strategy"}:
        load_catalogue(settings.catalogue, SEGMENTS)


@contextmanager
def _progress(phases: Sequence[Phase], totals: Mapping[str, int]) -> Iterator[Listen]:
    """What is told of each step: a bar a phase on a terminal, elsewhere a line a finished step."""
    if not sys.stdout.isatty():
        yield _lines(totals)
        return
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[step]}"),
    )
    with Progress(*columns, console=_console()) as progress:
        bars = {
            phase.job: progress.add_task(phase.title, total=totals[phase.job], step="", start=False)
            for phase in phases
        }

        def tell(phase: Phase, event: str, step: str) -> None:
            bar = bars[phase.job]
            if event == "STEP_START":
                progress.start_task(bar)
                progress.update(bar, step=_table(step))
            elif event in ENDED:
                progress.advance(bar)
                progress.update(bar, step=_ended(event, step))

        yield tell


def _lines(totals: Mapping[str, int]) -> Listen:
    done: dict[str, int] = {}
    began: dict[tuple[str, str], float] = {}

    def tell(phase: Phase, event: str, step: str) -> None:
        began.setdefault((phase.job, step), time.perf_counter())
        if event in ENDED:
            done[phase.job] = done.get(phase.job, 0) + 1
            seconds = time.perf_counter() - began[phase.job, step]
            of = f"{done[phase.job]}/{totals[phase.job]}"
            told = _ended(event, step) or _table(step)
            print(f"{phase.title:<28} {of:>6}  {seconds:6.1f} s  {told}", flush=True)

    return tell


def _ended(event: str, step: str) -> str:
    """What stays to be seen of a step."""
    return f"{_table(step)} {ENDED[event]}" if ENDED[event] else ""


def _table(step: str) -> str:
    return step.replace("__", ".")


def print_summary(window: Window, settings: Settings, results: Sequence[PhaseResult]) -> None:
    """One screen: rows, gates, rejected rows, model, strategies of the last day, time, where to
    look next."""
    console = _console()
    last = window.days[-1]
    bounds = {"start": window.start, "end": window.end, "always": ALWAYS}
    with installation.reading(settings) as read:
        _print_tables(console, read, bounds)
        _print_gates(console, read, bounds)
        _print_rejected(console, read, bounds)
        _print_model(console, read, last)
        _print_strategies(console, read, last)
    if results:
        stages = ", ".join(f"{result.phase.title} {result.seconds:.0f} s" for result in results)
        console.print(f"\n[bold]Time[/bold]  {stages}")
    _print_next(console, settings, last)


def _rows(read: Read, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Any]:
    return read(sql, parameters).rows()


def _print_tables(console: Console, read: Read, bounds: dict[str, date]) -> None:
    grid = Grid("table", title="Materialised", title_justify="left", box=None, pad_edge=False)
    grid.add_column("days", justify="right")
    grid.add_column("rows", justify="right")
    for table, days, rows in _rows(
        read,
        "select table_name, count(distinct day), sum(row_count) from audit.publications"
        " where (day >= $start and day < $end) or day = $always group by all order by"
        " min(published_at)",
        bounds,
    ):
        grid.add_row(table, f"{days:,}", f"{rows:,}")
    console.print(grid)


def _print_gates(console: Console, read: Read, bounds: dict[str, date]) -> None:
    found = _rows(
        read,
        "select count(*) filter (passed), count(*) filter (not passed and severity = 'warning'),"
        " count(*) filter (not passed and severity = 'critical') from (select table_name,"
        " expectation, severity, bool_and(passed) as passed from audit.findings"
        " where (day >= $start and day < $end) or day = $always group by all)",
        bounds,
    )
    if not found:
        return
    passed, warned, failed = found[0]
    console.print(
        f"\n[bold]Gates[/bold]  {passed} expectations passed, {warned} warned, {failed} failed"
    )
    worst = _rows(
        read,
        "select table_name, expectation, severity, count(distinct day), sum(row_count)"
        " from audit.findings where not passed"
        " and ((day >= $start and day < $end) or day = $always)"
        " group by all order by severity, 4 desc, 1, 2",
        bounds,
    )
    for table, expectation, severity, days, rows in worst[:SHOWN_FINDINGS]:
        console.print(
            f"  {severity}: {table} {expectation} on {days} day(s){_counted(rows)}", highlight=False
        )
    if len(worst) > SHOWN_FINDINGS:
        console.print(f"  and {len(worst) - SHOWN_FINDINGS} more in audit.findings")


def _counted(rows: int | None) -> str:
    """The offending rows of a finding; nothing where it is on a statistic or can't tell days."""
    return f", {rows:,} row(s)" if rows else ""


def _print_rejected(console: Console, read: Read, bounds: dict[str, date]) -> None:
    for title, counted in (
        ("Rejected", "select reason, count(*) from core.rejected_events where true"),
        (
            "Mended by the source",
            "select split_part(note, ':', 1), count(*) from raw.events where note is not null",
        ),
    ):
        within = " and event_date >= $start and event_date < $end group by all order by 2 desc, 1"
        found = _rows(read, counted + within, bounds)
        told = ", ".join(f"{code} {count:,}" for code, count in found) or "none"
        console.print(f"[bold]{title}[/bold]  {told}", highlight=False)


def _print_model(console: Console, read: Read, last: date) -> None:
    """The model that scored the last day, and what became of a newer training."""
    scored = _rows(
        read,
        "select week, trained.model_version, auc, auc_low, auc_high, average_precision, log_loss,"
        " brier, calibration_error, logistic_auc, frequency_auc, recency_auc"
        " from propensity.trainings as trained where status = 'trained' and model_version in"
        " (select model_version from propensity.scores where as_of_date = $day)",
        {"day": last},
    )
    for week, version, auc, low, high, precision, loss, brier, error, *baselines in scored:
        interval = "no interval: too few buyers" if low is None else f"{low:.4f} to {high:.4f}"
        console.print(
            f"\n[bold]Model[/bold]  version {version} of week {week}: AUC {auc:.4f} "
            f"({interval}), average precision {precision:.3f}, log loss {loss:.4f}, "
            f"Brier {brier:.4f}, calibration error {error:.4f}\n"
            "  on the same rows: logistic {:.4f}, frequency {:.4f}, recency {:.4f}".format(
                *baselines
            ),
            highlight=False,
        )
    newer = _rows(
        read,
        "select trained.week, trained.model_version, decided.promoted, decided.reason"
        " from propensity.trainings as trained"
        " inner join propensity.champions as decided using (week)"
        " where trained.status = 'trained' and trained.week <= $day"
        " order by trained.week desc limit 1",
        {"day": last},
    )
    for week, version, promoted, reason in newer:
        if not any(version == used for _, used, *_ in scored):
            verdict = "scores from the next week on" if promoted else "lost"
            console.print(
                f"  the newest training, version {version} of week {week}, {verdict}: {reason}",
                highlight=False,
            )


def _print_strategies(console: Console, read: Read, last: date) -> None:
    prices = _rows(
        read,
        "select budget, price, expected_cost, gap from strategy.budget_prices"
        " where as_of_date = $day",
        {"day": last},
    )
    strategies = _rows(
        read,
        "select segment, coalesce(offer_id, 'no offer'), audience, held_out, explored,"
        " expected_margin, expected_margin_low, expected_margin_high,"
        " expected_cost + exploration_cost, evidence"
        " from strategy.segment_strategy where as_of_date = $day order by segment, audience desc",
        {"day": last},
    )
    if not strategies:
        return
    grid = Grid(
        "segment",
        "offer",
        title=f"\nStrategies of {last}, in effect the day after",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in ("to earn", "held out", "to learn", "exp. margin", "95 % interval", "exp. cost"):
        grid.add_column(name, justify="right")
    grid.add_column("evidence")
    for segment, offer, audience, held, explored, margin, low, high, cost, evidence in strategies:
        grid.add_row(
            segment,
            offer,
            f"{audience:,}",
            f"{held:,}",
            f"{explored:,}",
            f"{margin:,.2f}",
            f"{low:,.2f} to {high:,.2f}",
            f"{cost:,.2f}",
            evidence,
        )
    console.print(grid)
    console.print(_in_a_sentence(read, last), highlight=False)
    for budget, price, cost, gap in prices:
        console.print(
            f"Budget {budget:,.2f}, expected cost {cost:,.2f}, price of a unit of budget "
            f"{price:.4f}, optimality gap {gap:.2e}",
            highlight=False,
        )


def _in_a_sentence(read: Read, last: date) -> str:
    """Who gets what, why, and what will be known when."""
    row = _rows(
        read,
        "select count(*) filter (purpose = 'earn' and arm = 'offer'),"
        " count(*) filter (purpose = 'learn'), count(*) filter (purpose is null),"
        " coalesce(sum(expected_cost) filter (purpose = 'learn' and arm = 'offer'), 0)"
        " from strategy.assignments where as_of_date = $day",
        {"day": last},
    )
    ((earn, learn, none, cost),) = row
    told = (
        f"{earn:,} users get the offer that is worth its cost with the declared probability; "
        f"{learn:,} are drawn at random among their possible offers and none, to learn what these "
        f"do, for {cost:,.2f}; {none:,} get nothing."
    )
    horizons = _rows(read, "select min(horizon_days), max(horizon_days) from core.offers", {})
    if learn and horizons and horizons[0][0]:
        first, most = (last + timedelta(days=days) for days in horizons[0])
        until = f"{first}" if first == most else f"{first} to {most}"
        told += (
            f" What those do is known on {until}; `promo power --date {last}` tells how exactly."
        )
    return told


def _print_next(console: Console, settings: Settings, last: date) -> None:
    console.print(
        f"\n[bold]Next[/bold]  make dev  (Dagster http://127.0.0.1:3000, MLflow "
        f"http://127.0.0.1:5000)\n"
        f"  report      {settings.places.reports / f'{last}.html'}\n"
        f"  export      {settings.places.exports / str(last)}\n"
        f"  data docs   {settings.places.data_docs / 'index.html'}\n"
        f"  warehouse   {settings.places.warehouse}",
        highlight=False,
        soft_wrap=True,
    )
