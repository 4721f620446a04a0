"""Days, weeks and segments as Dagster's partitions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import dagster as dg

from promo_assets.contract.segments import SEGMENTS

DAY = "date"
SEGMENT = "segment"


@dataclass(frozen=True)
class Partitions:
    """The partition definitions of one installation; they differ in the first and last day."""

    first: date
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
        by_segment = dg.MultiPartitionsDefinition({DAY: days, SEGMENT: segments})
        return cls(start, days, weeks, by_segment)

    def of(self, grid: str) -> dg.PartitionsDefinition[Any] | None:
        """How a table of ``grid`` is partitioned; None for one that is written whole."""
        grids: dict[str, dg.PartitionsDefinition[Any] | None] = {
            "day": self.days,
            "week": self.weeks,
            "day_segment": self.day_segments,
            "whole": None,
        }
        return grids[grid]
