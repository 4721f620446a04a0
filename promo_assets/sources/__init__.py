"""Where events come from: one module a source, each a select that DuckDB runs.

Here: finding delivered data and naming its columns as the event contract does. Not here:
cleaning. A source delivers every row; what can't be used is rejected later, with a reason.
"""

from __future__ import annotations

import difflib
from typing import Protocol

import duckdb

from promo_assets.partitions import Window
from promo_assets.settings import Settings
from promo_assets.warehouse.publish import Query


class SourceError(RuntimeError):
    """A source can't be read; the message says what is missing and how to get it."""


class Source(Protocol):
    """What the ``events`` assets read."""

    @property
    def name(self) -> str:
        """As in ``PROMO_SOURCE`` and ``raw.events.source``."""

    @property
    def version(self) -> str:
        """Of the delivered data, where it has one."""

    def events(self, window: Window, connection: duckdb.DuckDBPyConnection) -> Query:
        """The rows delivered for the days of ``window``: the columns of ``raw.events`` without
        ``event_key``. The query runs on ``connection``."""

    def items(self) -> Query:
        """The item table: item_id, category (a path ``A/B/C``), brand, list_price, unit_cost,
        in_stock."""

    def users(self) -> Query:
        """The user table: user_id, signup_time, consent_marketing, attributes (JSON text)."""


def open_source(settings: Settings) -> Source:
    """The source that ``PROMO_SOURCE`` names.

    Raises `SourceError` when there is no such source, or when its data is not there.
    """
    kind, _, place = settings.source.partition(":")
    if kind == "complete_journey" and not place:
        from promo_assets.sources.complete_journey import CompleteJourney

        return CompleteJourney.installed(settings.start)
    if kind == "files" and place:
        from promo_assets.sources.files import Files

        return Files.at(place, settings)
    near = difflib.get_close_matches(kind, ["complete_journey", "files:DIR"], n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise SourceError(
        f"PROMO_SOURCE={settings.source!r} is not a source: expected complete_journey or "
        f"files:DIR.{hint}"
    )
