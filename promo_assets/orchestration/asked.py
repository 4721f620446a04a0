"""What a Dagster run asks of a table: partition keys as days, segments and weeks.

Not here: the write (``tables/writing.py``), and what comes of it (``results.py``).
"""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg

from promo_assets.contract.days import Window
from promo_assets.orchestration.partitions import DAY, SEGMENT
from promo_assets.tables.table import Table
from promo_assets.tables.writing import Request


def asked(context: dg.AssetExecutionContext, table: Table) -> Request:
    """The window, the segments and the weeks that the run asks for."""
    if table.grid == "whole":
        return Request()
    keys = context.partition_keys
    if table.grid == "day_segment":
        multi = [key for key in keys if isinstance(key, dg.MultiPartitionKey)]
        days = {date.fromisoformat(key.keys_by_dimension[DAY]) for key in multi}
        parts = tuple(sorted({key.keys_by_dimension[SEGMENT] for key in multi}))
        return Request(Window.of(days), parts)
    days = {date.fromisoformat(key) for key in keys}
    if table.grid == "week":
        window = Window(min(days), max(days) + timedelta(days=7))
        return Request(window, weeks=tuple(sorted(days)))
    return Request(Window.of(days))


def days_of(table: Table, key: str) -> tuple[tuple[date, ...], str]:
    """The days of a partition key, and its segment or ''."""
    if isinstance(key, dg.MultiPartitionKey):
        return (date.fromisoformat(key.keys_by_dimension[DAY]),), key.keys_by_dimension[SEGMENT]
    day = date.fromisoformat(key)
    span = 7 if table.grid == "week" else 1
    return tuple(day + timedelta(days=offset) for offset in range(span)), ""
