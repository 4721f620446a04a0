"""What is published and older than what it was made of: by its inputs, its code or its settings.

Here: the judgement. Not here: the rebuild (``orchestration/stale.py``), and what a source delivers
otherwise now (``sources/deliveries.py``).

Tables without partitions are what they are today: a day read them as they were then, so that a new
user or price makes no day stale. The catalogue counts among the settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from graphlib import TopologicalSorter
from typing import NamedTuple

import duckdb

from promo_assets.contract.days import Window, cut_off
from promo_assets.tables.table import Table
from promo_assets.tables.waiting import Place, needs
from promo_assets.warehouse.connection import Warehouse
from promo_assets.warehouse.publish import ALWAYS, prepare

CHANGED = "its code or a setting has changed since"
OVERRIDDEN = "somebody told it otherwise since"
SHOWN = 5


PUBLISHED = """
select table_name, day, part, published_at, code_version, max(told_at)
from audit.publications
left join audit.overrides using (table_name, day)
group by all
"""


class _Made(NamedTuple):
    at: datetime
    code: str
    told: datetime | None = None
    """When somebody overrode it."""


@dataclass(frozen=True)
class Stale:
    """What is stale, in order, each with the reason; ``last`` is the last published day."""

    reasons: Mapping[Place, str]
    last: date

    @property
    def window(self) -> Window:
        """What to rebuild: from the first stale day to the last one that is published."""
        return Window(min(place.day for place in self.reasons), self.last + timedelta(days=1))

    @property
    def told(self) -> str:
        """In one line."""
        days = sorted({place.day for place in self.reasons})
        shown = ", ".join(map(str, days[:SHOWN]))
        more = f" and {len(days) - SHOWN} more" if len(days) > SHOWN else ""
        return f"{len(days)} stale day(s): {shown}{more}; to rebuild: {self.window}"

    def lines(self) -> Iterator[str]:
        """One line a table and reason: its days in short."""
        groups: dict[tuple[str, str], list[date]] = {}
        for place, reason in self.reasons.items():
            groups.setdefault((place.table, reason), []).append(place.day)
        for (table, reason), days in groups.items():
            first, last = min(days), max(days)
            yield f"{table} of {first if first == last else f'{first}..{last}'}: {reason}"


def find_stale(
    connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Table], first_day: date
) -> Stale | None:
    """Every published partition that would be made otherwise now, or has to be asked; None where
    there is none. What follows from a stale one is stale, too."""
    prepare(connection)
    made: dict[str, dict[tuple[date, str], _Made]] = {name: {} for name in tables}
    for name, day, part, *rest in connection.execute(PUBLISHED).fetchall():
        if name in made and day != ALWAYS:
            made[name][day, part] = _Made(*rest)
    reasons: dict[Place, str] = {}
    for name in _in_order(tables):
        for place in _partitions(tables[name], made[name]):
            if reason := _reason(place, tables[name], made, reasons, first_day):
                reasons[place] = reason
    if not reasons:
        return None
    last = max(day for days in made.values() for day, _ in days)
    return Stale(dict(sorted(reasons.items(), key=lambda item: item[0][1:])), last)


def look(warehouse: Warehouse, tables: Mapping[str, Table], first_day: date) -> Stale | None:
    """`find_stale` of a warehouse."""
    with warehouse.get_connection() as connection:
        return find_stale(connection, tables, first_day)


def _reason(
    place: Place,
    table: Table,
    made: Mapping[str, Mapping[tuple[date, str], _Made]],
    stale: Mapping[Place, str],
    first_day: date,
) -> str | None:
    mine = made[place.table][place[1:]]
    if mine.code != table.code_version:
        return CHANGED
    if mine.told and mine.told > mine.at:
        return OVERRIDDEN
    follows = None
    for need in needs(table, place.day, place.part, first_day):
        input_ = made.get(need.table, {}).get(need[1:])
        if input_ and input_.at > mine.at:
            return f"{need} was published after it"
        if follows is None and need in stale:
            follows = f"it follows from {need}"
    return follows


def _in_order(tables: Mapping[str, Table]) -> Sequence[str]:
    """The tables, each after those that it reads."""
    graph = {
        name: {*table.inputs, *table.whole, *table.weekly, *table.segmented} - {name}
        for name, table in tables.items()
    }
    return [name for name in TopologicalSorter(graph).static_order() if name in tables]


def _partitions(table: Table, made: Mapping[tuple[date, str], _Made]) -> Iterator[Place]:
    """What is published of a table, in the order of its days; a week once, with its Monday."""
    name = table.contract.table
    for day, part in sorted(made):
        if table.grid != "week" or (day.weekday() == 0 and (cut_off(day), part) in made):
            yield Place(name, day, part)
