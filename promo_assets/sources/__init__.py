"""Where events come from: one module a source, each a select that DuckDB runs.

Here: finding delivered data and naming its columns as the event contract does. Not here:
cleaning. A source delivers every row; what can't be used is rejected later, with a reason.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Protocol

import duckdb
from pydantic import SecretStr

from promo_assets.contract.days import Window
from promo_assets.contract.limits import Gates
from promo_assets.people.identifiers import Spellings
from promo_assets.warehouse.publish import Query


class SourceError(RuntimeError):
    """A source can't be read; the message says what is missing and how to get it."""


class UnreachableError(SourceError, ConnectionError):
    """A source does not answer; it may in a while."""


DATABASES = ("mysql", "mariadb", "postgresql", "postgres")
"""The schemes of URLs that name a database."""

ITEM_COLUMNS = {
    "item_id": "varchar",
    "category": "varchar",
    "brand": "varchar",
    "list_price": "decimal(18, 2)",
    "unit_cost": "decimal(18, 2)",
    "in_stock": "boolean",
}
USER_COLUMNS = {
    "user_id": "varchar",
    "signup_time": "timestamp",
    "consent_marketing": "boolean",
    "attributes": "varchar",
}
LINK_COLUMNS = {"device_id": "varchar", "user_id": "varchar", "linked_at": "timestamp"}
CONSENT_COLUMNS = {
    "user_id": "varchar",
    "device_id": "varchar",
    "purpose": "varchar",
    "granted": "boolean",
    "since": "timestamp",
}


@dataclass(frozen=True)
class DeliveredDay:
    """What is delivered for a day: a short text that changes whenever its rows may have changed,
    and its rows by file (or table; empty where the source does not count). ``skipped`` rows, which
    the mapping says are no events, are not among them."""

    fingerprint: str
    files: Mapping[str, int]
    skipped: int = 0

    @property
    def rows(self) -> int:
        return sum(self.files.values())


@dataclass(frozen=True)
class Taken:
    """Some days as they are taken in: the rows as a query, and what is delivered for each day that
    has any. Both are of one look, so that what comes meanwhile is either in both or late.

    ``problems`` says of the days that can't be taken in what is wrong, one text a file.
    """

    query: Query
    days: Mapping[date, DeliveredDay]
    problems: Mapping[date, tuple[str, ...]] = field(default_factory=dict)


class Source(Protocol):
    """What the ``events`` assets read. Every query runs on the given ``connection``; identifiers
    are as delivered and become pseudonyms on entry (``promo_assets/people/pseudonyms.py``)."""

    @property
    def name(self) -> str:
        """As in ``PROMO_SOURCE`` and ``raw.events.source``; without a password."""

    @property
    def version(self) -> str:
        """Of the delivered data, where it has one."""

    @property
    def gates(self) -> Gates:
        """What the gates of its events tolerate."""

    @property
    def ids(self) -> Spellings:
        """How its identifiers are made alike."""

    @property
    def equal_rows_kept(self) -> bool:
        """Whether equal rows without an event_id are different events."""

    def take(self, window: Window, connection: duckdb.DuckDBPyConnection) -> Taken:
        """The rows delivered for the days of ``window``: the columns of ``raw.events`` without
        ``event_key``."""

    def items(self, connection: duckdb.DuckDBPyConnection) -> Query:
        """The item table, `ITEM_COLUMNS`; ``category`` is a path ``A/B/C``."""

    def users(self, connection: duckdb.DuckDBPyConnection) -> Query:
        """The user table, `USER_COLUMNS`; ``attributes`` is JSON text."""

    def device_links(self, connection: duckdb.DuckDBPyConnection) -> Query:
        """Links of devices to accounts that the shop states itself, `LINK_COLUMNS` (UTC)."""

    def consents(self, connection: duckdb.DuckDBPyConnection) -> Query:
        """What a person allowed or refused, `CONSENT_COLUMNS`: of an account or a device (the
        other one null), for a purpose, from a time (UTC; null = always) until the next statement.
        """

    def delivered(
        self, window: Window, connection: duckdb.DuckDBPyConnection
    ) -> Mapping[date, DeliveredDay]:
        """What is delivered now for each day of ``window`` that has any row. Reads as little as it
        can."""

    def span(self, connection: duckdb.DuckDBPyConnection) -> Window | None:
        """From the first to the last day up to today that has rows of its own; None where the
        source does not know."""


def nothing(columns: Mapping[str, str]) -> Query:
    """No row with ``columns`` (name to DuckDB type): what a source does not know."""
    told = ", ".join(f"cast(null as {type_}) as {name}" for name, type_ in columns.items())
    return Query(f"select {told} where false", {})


@dataclass(frozen=True)
class Delivery:
    """What a source is opened with.

    ``source`` is ``PROMO_SOURCE`` without a password; ``folder`` is where its files lie, if they
    are files; ``first`` is the first partition; ``zone`` is that of naive times; ``mapping`` is the
    mapping.yaml of a database; ``inventory`` is the file that remembers what a folder held.
    """

    source: str
    folder: Path | None
    first: date
    zone: str
    inventory: Path
    mapping: Path | None = None
    password: SecretStr | None = None


def open_source(delivery: Delivery) -> Source:
    """The source that ``PROMO_SOURCE`` names.

    Raises `SourceError` when there is no such source, or when its data is not there.
    """
    kind, _, place = delivery.source.partition(":")
    if kind == "complete_journey" and not place:
        from promo_assets.sources.complete_journey import CompleteJourney

        return CompleteJourney.installed(delivery.first)
    if kind == "files" and place:
        from promo_assets.sources.files import Files

        return Files.at(place, delivery)
    if kind in DATABASES and place.startswith("//"):
        from promo_assets.sources.database import Database

        return Database.at(delivery)
    if kind == "simulated" and not place:
        from promo_assets.sources.files import Files

        folder = delivery.folder
        if folder is None or not (folder / "simulation.json").is_file():
            raise SourceError(f"{folder}: there is no simulated shop; run `promo simulate` first")
        return Files.at(folder, delivery, name="simulated")
    known = ["complete_journey", "simulated", "files:DIR"]
    known += [f"{scheme}://…" for scheme in DATABASES]
    near = difflib.get_close_matches(kind, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    # What has an @ may be a URL written wrong, with its password still in it.
    told = f"{kind}:…" if "@" in place else delivery.source
    raise SourceError(
        f"PROMO_SOURCE={told!r} is not a source: expected complete_journey, simulated, files:DIR, "
        f"or a database's URL (mysql://…, postgresql://…).{hint}"
    )
