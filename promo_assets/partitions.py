"""Days, weeks and segments, and how they map onto each other.

Partition ``D`` holds ``[D 00:00, D+1 00:00)`` UTC. Week ``W`` is named by its Monday; its cut-off
is its Sunday: a model of week ``W`` knows events up to the end of that Sunday and no later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg

SEGMENTS = ("new", "loyal", "promising", "deal_seeker", "at_risk", "one_time", "dormant")
DAY = "date"
SEGMENT = "segment"


@dataclass(frozen=True)
class Window:
    """Whole days ``[start, end)``, at least one."""

    start: date
    end: date

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"window [{self.start}, {self.end}) holds no day")

    @classmethod
    def of(cls, days: Iterable[date]) -> Window:
        """The window that runs from the first to the last of ``days``."""
        ordered = sorted(days)
        return cls(ordered[0], ordered[-1] + timedelta(days=1))

    @property
    def days(self) -> tuple[date, ...]:
        return tuple(
            self.start + timedelta(days=offset) for offset in range((self.end - self.start).days)
        )

    def __str__(self) -> str:
        last = self.end - timedelta(days=1)
        return str(self.start) if last == self.start else f"{self.start}..{last}"


@dataclass(frozen=True)
class Partitions:
    """The partition definitions of one installation; they differ in the first and last day."""

    days: dg.DailyPartitionsDefinition
    weeks: dg.WeeklyPartitionsDefinition
    day_segments: dg.MultiPartitionsDefinition

    @classmethod
    def starting(cls, start: date, last: date | None = None) -> Partitions:
        """Whole days and weeks from ``start`` to ``last``; None = to yesterday, as days pass."""
        end = (last + timedelta(days=1)).isoformat() if last else None
        days = dg.DailyPartitionsDefinition(start.isoformat(), end_date=end, timezone="UTC")
        weeks = dg.WeeklyPartitionsDefinition(
            start.isoformat(), end_date=end, timezone="UTC", day_offset=1
        )
        segments = dg.StaticPartitionsDefinition(list(SEGMENTS))
        return cls(days, weeks, dg.MultiPartitionsDefinition({DAY: days, SEGMENT: segments}))


def cut_off(week: date) -> date:
    """The last day that a model of the week starting at ``week`` (a Monday) may know."""
    return week + timedelta(days=6)


def week_of(day: date) -> date:
    """The Monday of the week that holds ``day``."""
    return day - timedelta(days=day.weekday())
