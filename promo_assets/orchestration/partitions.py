"""Days, weeks and segments as Dagster's partitions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg

from promo_assets.contract.segments import SEGMENTS

DAY = "date"
SEGMENT = "segment"


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
