"""What a run led to: what failed, what a gate holds back, who waits for it, and what to do.

Not here: progress while it runs (``progress.py``), and the summary of a range (``summary.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.definitions import build_tables
from promo_assets.orchestration.runs import PhaseResult, made_days
from promo_assets.settings import Settings
from promo_assets.tables.causes import cause_of, held_back
from promo_assets.tables.waiting import NEVER, Place, Reason, unpublished
from promo_assets.warehouse.publish import ALWAYS, prepare, staged_slices

SHOWN_DAYS = 5


def tell(
    results: Sequence[PhaseResult],
    window: Window,
    settings: Settings,
    groups: Sequence[str] = (),
    decide: int | None = None,
) -> int:
    """Print what went wrong with the tables of ``groups``, one line each, and the command that
    repairs it; return 1 if anything did. ``decide`` as in `plan`."""
    tables = {table.contract.table: table for table in build_tables(settings)}
    asked = {
        name: made_days(table, window, decide)
        for name, table in tables.items()
        if not groups or table.group in groups
    }
    runs = [result.run_id for result in results]
    with installation.warehouse(settings).get_connection() as connection:
        prepare(connection)
        found = held_back(connection, runs)
        causes = {Place(*place): cause_of(connection, *place) or "" for place in found}
        waits = unpublished(connection, tables, asked, settings.start)
        staged = {place: staged_slices(connection, *place[:2]) for place in causes}
    for step, message in (failure for result in results for failure in result.failures):
        name = step.replace("__", ".")
        if not any(place.table == name for place in causes):
            print(f"FAILED {name}: {message}")
    for name, places, cause in _alike(causes):
        kept = staged[places[0]]
        look = f"; the rows are in {kept[0]}" if kept else ""
        print(f"HELD BACK {name}{of(places)}: {cause}{look}")
    for reason, places in waits.items():
        behind = [place for place in places if place not in causes]
        if behind:
            print(f"WAITS for {reason.origin} ({reason.cause}): {_listed(behind)}")
    failed = any(result.failures for result in results)
    if causes or waits:
        print(_repair(causes, waits, window))
    return int(failed or bool(causes) or bool(waits))


def of(places: Sequence[Place]) -> str:
    """`` of <days> <segments>`` in short; '' for a table without days."""
    days = sorted({place.day for place in places} - {ALWAYS})
    if not days:
        return ""
    runs: list[list[date]] = []
    for day in days:
        if runs and day - runs[-1][-1] == timedelta(days=1):
            runs[-1].append(day)
        else:
            runs.append([day])
    shown = [f"{run[0]}" if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs]
    more = f" and {len(shown) - SHOWN_DAYS} more" if len(shown) > SHOWN_DAYS else ""
    return f" of {', '.join(shown[:SHOWN_DAYS])}{more}"


def _alike(causes: Mapping[Place, str]) -> list[tuple[str, list[Place], str]]:
    """The held-back places of a table that have the same cause, together."""
    groups: dict[tuple[str, str], list[Place]] = {}
    for place, cause in causes.items():
        groups.setdefault((place.table, cause), []).append(place)
    return [(table, places, cause) for (table, cause), places in groups.items()]


def _listed(places: Sequence[Place]) -> str:
    tables: dict[str, list[Place]] = {}
    for place in places:
        tables.setdefault(place.table, []).append(place)
    return ", ".join(f"{table}{of(group)}" for table, group in tables.items())


def _repair(
    causes: Mapping[Place, str], waits: Mapping[Reason, Sequence[Place]], window: Window
) -> str:
    """What to do, and the command that does the rest; dimensions are made by every run."""
    origins = [*causes, *(reason.origin for reason in waits)]
    first = min([place.day for place in origins if place.day != ALWAYS] or [window.start])
    command = f"`promo run --from {min(first, window.days[-1])} --to {window.days[-1]}`"
    if not causes and all(reason.cause == NEVER for reason in waits):
        return f"NEXT {command}"
    return f"REPAIR mend the cause, then {command}. What was published before is unchanged"
