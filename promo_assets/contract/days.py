"""Days and weeks, as every table counts them.

Partition ``D`` holds ``[D 00:00, D+1 00:00)`` UTC. Week ``W`` is named by its Monday; its cut-off
is its Sunday: a model of week ``W`` knows events up to the end of that Sunday and no later.
Not here: Dagster's partitions (`promo_assets.orchestration.partitions`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta


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


def cut_off(week: date) -> date:
    """The last day that a model of the week starting at ``week`` (a Monday) may know."""
    return week + timedelta(days=6)


def every_nth(week: date, weeks: int, after: int = 0) -> bool:
    """Whether a week is one of every n-th by the calendar, whatever the range is: counted from a
    fixed week, ``after`` as many of them."""
    return (week.toordinal() // 7) % weeks == after


def week_of(day: date) -> date:
    """The Monday of the week that holds ``day``."""
    return day - timedelta(days=day.weekday())
