"""What a day of a table needs, what it waits for, and where that began.

Here: `needs`, the one definition of what a partition reads, and its consequences: which days can't
be made yet, and which bad day they wait for in the end. Not here: whether what was made is still
true (``stale.py``), and the write itself (``writing.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import NamedTuple

import duckdb

from promo_assets.contract.days import Window, cut_off, week_of
from promo_assets.tables.causes import cause_of, held_back
from promo_assets.tables.table import Table
from promo_assets.warehouse.publish import ALWAYS

WEEK = timedelta(days=7)
NEVER = "not made yet"
"""The cause where nothing is known to be wrong: nobody has asked for it."""


class Place(NamedTuple):
    """A partition of a table: a day (the Monday of a table by week, `ALWAYS` of a table without
    partitions) and a segment or ''."""

    table: str
    day: date
    part: str = ""

    def __str__(self) -> str:
        day = "" if self.day == ALWAYS else f" of {self.day}"
        return f"{self.table}{day}{' ' + self.part if self.part else ''}"


@dataclass(frozen=True)
class Reason:
    """Why something waits: the place where it began, and what is wrong there."""

    origin: Place
    cause: str = NEVER

    def __str__(self) -> str:
        return f"waits for {self.origin} ({self.cause})"


Published = Callable[[str], frozenset[tuple[date, str]]]
"""The published days and segments of a table."""


def publications(connection: duckdb.DuckDBPyConnection) -> Published:
    """What is published, as of now; each table is looked up once."""

    @cache
    def published(table: str) -> frozenset[tuple[date, str]]:
        found = connection.execute(
            "select day, part from audit.publications where table_name = ?", [table]
        ).fetchall()
        return frozenset((day, part) for day, part in found)

    return published


def needs(table: Table, day: date, part: str, first_day: date) -> Iterator[Place]:
    """Every partition that ``table`` reads to make its ``day`` and ``part``, its own past last.

    Nothing is needed from before ``first_day``, nor of a week that began before it.
    """
    own = table.contract.table
    for name in table.whole:
        yield Place(name, ALWAYS)
    last = cut_off(day) if table.grid == "week" else day
    for name, lookback in table.inputs.items():
        if name != own:
            since = max(first_day, day - timedelta(days=lookback))
            for offset in range((last - since).days + 1):
                yield Place(name, since + timedelta(days=offset))
    for name in table.segmented:
        yield Place(name, day, part)
    for name, (first, newest) in table.weekly.items():
        for offset in range(first, newest + 1):
            week = week_of(day) + offset * WEEK
            if week >= first_day:
                yield Place(name, week)
    if own in table.inputs and day > first_day:
        yield Place(own, day - timedelta(days=1))


def waiting(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    window: Window | None,
    parts: Sequence[str],
    first_day: date,
) -> dict[date, Place]:
    """The days of ``window`` that can't be made yet, each with what is missing.

    The own past counts as there where the same window makes it. A week is made of all of its
    days or not at all.
    """
    if window is None:
        return {}
    published = publications(connection)
    own = table.contract.table
    missing: dict[date, Place] = {}
    days = {week_of(day): None for day in window.days} if table.grid == "week" else window.days
    for day in days:
        for part in parts or ("",):
            for need in needs(table, day, part, first_day):
                made_here = need.table == own and need.day in window.days
                if need.day in missing if made_here else need[1:] not in published(need.table):
                    missing.setdefault(day, need)
                    break
    if table.grid == "week":
        return {day: missing[week_of(day)] for day in window.days if week_of(day) in missing}
    return missing


class Origins:
    """Where it began that places are not published: the first gate that holds something back, or
    what nobody has made yet. Each place on the way is looked at once."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        tables: Mapping[str, Table],
        first_day: date,
        published: Published,
    ) -> None:
        self.connection, self.tables = connection, tables
        self.first_day, self.published = first_day, published
        self.held_back = set(held_back(connection))
        self.known: dict[Place, Reason] = {}

    def of(self, place: Place) -> Reason:
        """Why ``place`` is not published."""
        way = [place]
        while way[-1] not in self.known:
            found = self._step(way[-1])
            if isinstance(found, Reason):
                self.known[way[-1]] = found
            else:
                way.append(found)
        reason = self.known[way[-1]]
        self.known |= dict.fromkeys(way, reason)
        return reason

    def _step(self, place: Place) -> Place | Reason:
        """What ``place`` waits for, or the reason if it began here."""
        if place in self.held_back:
            return Reason(place, cause_of(self.connection, *place) or NEVER)
        table = self.tables.get(place.table)
        found = needs(table, place.day, place.part, self.first_day) if table else ()
        missing = [need for need in found if need[1:] not in self.published(need.table)]
        if not missing:
            return Reason(place)
        # The own past first: it leads to the earliest day.
        return next((need for need in missing if need.table == place.table), missing[0])


def unpublished(
    connection: duckdb.DuckDBPyConnection,
    tables: Mapping[str, Table],
    asked: Mapping[str, Window],
    first_day: date,
) -> dict[Reason, list[Place]]:
    """What the ``asked`` ones of all ``tables`` don't have of their days, by the reason, the
    earliest day first. A week belongs to the window that holds its cut-off."""
    published = publications(connection)
    origins = Origins(connection, tables, first_day, published)
    found: dict[Reason, list[Place]] = {}
    for name, window in asked.items():
        for place in _partitions(tables[name], window, first_day):
            if place[1:] not in published(name):
                found.setdefault(origins.of(place), []).append(place)
    return dict(sorted(found.items(), key=lambda item: item[0].origin[1:]))


def waits_by_day(
    connection: duckdb.DuckDBPyConnection,
    tables: Mapping[str, Table],
    asked: Collection[str],
    window: Window,
    first_day: date,
) -> dict[date, list[Reason]]:
    """For each day of ``window`` that lacks any of the ``asked`` tables: what it waits for."""
    found: dict[date, list[Reason]] = {}
    lacking = unpublished(connection, tables, dict.fromkeys(asked, window), first_day)
    for reason, places in lacking.items():
        for day in sorted({place.day for place in places}):
            found.setdefault(day, []).append(reason)
    return found


def _partitions(table: Table, window: Window, first_day: date) -> Iterator[Place]:
    name = table.contract.table
    if table.grid == "whole":
        yield Place(name, ALWAYS)
        return
    for day in window.days:
        if table.grid == "week":
            if day == cut_off(week_of(day)) and week_of(day) >= first_day:
                yield Place(name, week_of(day))
        else:
            yield from (Place(name, day, part) for part in table.parts)
