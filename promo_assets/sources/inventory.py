"""What is delivered in a folder, file by file: a cache, so that a day costs what the day holds.

``PROMO_HOME/inventory.sqlite`` keeps of every file its size and times of change, a fingerprint of
its content, its layout, and its rows by day. Only new and changed files are read; deleting the
inventory costs one scan of the folder and nothing else. Several processes may use it. Not here:
which files there are (``listing.py``).
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb

from promo_assets.contract.days import Window
from promo_assets.sources import DeliveredDay, SourceError
from promo_assets.sources.content import (
    Content,
    UnreadableFileError,
    address_of,
    cause_of,
    content_of,
    unfinished,
)
from promo_assets.sources.formats import FILE, Layout, format_of, layout_of, values_in_folders
from promo_assets.sources.listing import Seen, listed
from promo_assets.sources.mapping import COLUMNS, RELATION, SourceMapping, column_sql

SCHEMA = """
create table if not exists files (
    folder text, path text, size integer, stamp text, digest text, layout text,
    problem text, read_as text, row_count integer, primary key (folder, path)
) without rowid;
create table if not exists days (
    folder text, path text, day integer, row_count integer, skipped integer,
    primary key (folder, path, day)
) without rowid;
create index if not exists by_day on days (folder, day, path, row_count);
"""
VERSION = 5
"""Of the schema and of what is counted; a new one starts the inventory anew."""

PATIENCE = 60
"""Seconds that a process waits while another one writes what it found."""

EPOCH = date(1970, 1, 1)
EARLIEST = date(1990, 1, 1)
DAYS_AHEAD = 366
"""A time before `EARLIEST`, or more than so many days after the day in its file's name, is that of
a wrong clock: its row belongs to the file's day, and makes no other day late."""
UNDATED = -(10**9)
"""The day of rows without a readable time in a file without a date in its name: before all."""

DATE_IN_NAME = re.compile(r"(?<!\d)((?:19|20)\d\d)(-?)(\d\d)\2(\d\d)(?!\d)")
ROUND = 2_000
"""Files that one scan reads: enough to keep it busy, few enough to name a broken one quickly."""


@dataclass(frozen=True)
class DeliveredFile:
    """A file of the folder: ``path`` relative to it, and how it is read. ``problem`` says why it
    can't be, in one line; then ``layout`` is None and ``rows`` 0. ``rows`` are all that are in it,
    skipped ones too."""

    path: str
    digest: str
    layout: Layout | None
    rows: int
    problem: str = ""

    @property
    def day(self) -> date | None:
        """The day in the file's name, to which its rows without a time belong."""
        return day_in(self.path)


@dataclass(frozen=True)
class _Known:
    """What the inventory has of a file; ``layout`` is empty where it couldn't be read."""

    size: int
    stamp: str
    digest: str
    layout: str
    read_as: str


@dataclass
class _Found:
    """A file that is being read; ``days`` None = its rows are as they were."""

    seen: Seen
    digest: str = ""
    layout: str = ""
    problem: str = ""
    days: dict[int, tuple[int, int]] | None = field(default_factory=dict)
    """Rows, and skipped ones beside them, by day."""

    def add(self, day: int | None, count: int, skipped: int) -> None:
        named = day_in(self.seen.path)
        own = (named - EPOCH).days if named else UNDATED
        if day is None or day < (EARLIEST - EPOCH).days or (named and day > own + DAYS_AHEAD):
            day = own
        assert self.days is not None
        before = self.days.get(day, (0, 0))
        self.days[day] = (before[0] + count, before[1] + skipped)


def day_in(path: str) -> date | None:
    """The first date in a path, as 2026-11-24 or 20261124."""
    for year, _, month, day in DATE_IN_NAME.findall(path):
        try:
            return date(int(year), int(month), int(day))
        except ValueError:
            continue
    return None


class Inventory:
    """The inventory of one folder; ``store`` None keeps it in memory, for one look. ``first`` is
    the first partition, which takes older rows too."""

    def __init__(
        self, folder: Path, store: Path | None, mapping: SourceMapping, zone: str, first: date
    ) -> None:
        self._folder, self._mapping, self._zone = folder, mapping, zone
        self.first = first
        self._db = _open(store)
        self._here = str(folder)
        self._times: dict[str, str] = {}
        self._layouts: dict[str, Layout] = {}
        self._selects: dict[Layout, str] = {}

    def close(self) -> None:
        self._db.close()

    def refresh(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Read the files that are new or changed, and forget those that are gone."""
        seen = {found.path: found for found in listed(self._folder, self._mapping)}
        known = self._known()
        changed = [found for found in seen.values() if self._differs(found, known)]
        with closing(connection.cursor()) as cursor:  # Its errors don't end the caller's work.
            for begin in range(0, len(changed), ROUND):
                self._write(self._read(changed[begin : begin + ROUND], known, cursor))
        if gone := known.keys() - seen.keys():
            self._forget(gone)

    def files(self, window: Window | None = None) -> list[DeliveredFile]:
        """The readable files that hold rows of ``window``, or all files, in the order of their
        paths."""
        where, bounds = ("", {}) if window is None else self._within(window)
        held = f"and path in (select path from days where folder = :here {where})"
        rows = self._db.execute(
            "select path, digest, layout, row_count, problem from files where folder = :here "
            f"{held if window else ''} order by path",
            {"here": self._here, **bounds},
        )
        return [
            DeliveredFile(path, digest, self._layout(layout), count, why)
            for path, digest, layout, count, why in rows
        ]

    def broken(self, window: Window) -> list[DeliveredFile]:
        """The unreadable files that may hold rows of ``window``: by the day in their name, and
        all that have none."""
        days = frozenset(window.days)
        return [
            found
            for found in self.files()
            if found.problem and (found.day is None or max(found.day, self.first) in days)
        ]

    def days(self) -> dict[date, int]:
        """Rows by the day to which they belong; those after the last day of all count for it."""
        found: dict[date, int] = defaultdict(int)
        told = self._db.execute(
            "select day, sum(row_count) from days where folder = ? and row_count > 0 group by day",
            (self._here,),
        )
        for day, count in told:
            found[self._day(day)] += count
        return dict(sorted(found.items()))

    def first_day(self, since: date) -> date | None:
        """The first day from ``since`` on that has rows."""
        (day,) = self._db.execute(
            "select min(day) from days where folder = ? and day >= ? and row_count > 0",
            (self._here, (since - EPOCH).days),
        ).fetchone()
        return None if day is None else self._day(day)

    def skipped(self) -> int:
        """Rows that the mapping says are no events."""
        (count,) = self._db.execute(
            "select coalesce(sum(skipped), 0) from days where folder = ?", (self._here,)
        ).fetchone()
        return int(count)

    def delivered(self, window: Window) -> dict[date, DeliveredDay]:
        """By day, its rows by file and a hash over these files: path, content, how it is read,
        and how many rows."""
        where, bounds = self._within(window)
        rows = self._db.execute(
            "select day, path, row_count, skipped from days "
            f"where folder = :here {where} order by path",
            {"here": self._here, **bounds},
        )
        told = {found.path: self._told(found) for found in self.files(window)}
        hashes: dict[date, hashlib._Hash] = defaultdict(hashlib.sha256)
        counts: dict[date, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        skipped: dict[date, int] = defaultdict(int)
        for number, path, count, left_out in rows:
            day = self._day(number)
            hashes[day].update(f"{path}\0{told[path]}\0{count}\n".encode())
            counts[day][path] += count
            skipped[day] += left_out
        return {
            day: DeliveredDay(found.hexdigest()[:16], dict(counts[day]), skipped[day])
            for day, found in sorted(hashes.items())
        }

    def span(self, until: date) -> Window | None:
        """From the first to the last day that has rows of its own, up to ``until``."""
        first, last = self._db.execute(
            "select min(day), max(day) from days "
            "where folder = ? and day between ? and ? and row_count > 0",
            (self._here, (self.first - EPOCH).days, (until - EPOCH).days),
        ).fetchone()
        return None if first is None else Window.of((self._day(first), self._day(last)))

    def select_of(self, layout: Layout) -> str:
        """The select list over the layout's relation."""
        aside = self._mapping.kept_aside(layout.types())
        return self._mapping.select_list(layout.types(aside), self._zone)

    def files_of(self, layout: Layout, files: Sequence[str], name: str) -> dict[str, Any]:
        """What the parameters ``$<name>`` and ``$<name>_folders`` of the layout's relation are for
        the files with these paths."""
        told: dict[str, Any] = {name: [address_of(self._folder / path) for path in files]}
        if layout.folders:
            values = [values_in_folders(path) for path in files]
            told[f"{name}_folders"] = [[one[key] for key in layout.folders] for one in values]
        return told

    def _layout(self, text: str) -> Layout | None:
        # Files share few layouts. Of what folders tell the columns are taken that mean something.
        if text and text not in self._layouts:
            mapping = self._mapping
            layout = Layout.from_json(text).reaching(mapping.paths, mapping.exploded)
            taken = {self._mapping.delivered_as(name, layout.types()) for name in COLUMNS}
            folders = tuple(name for name in layout.folders if name in taken)
            self._layouts[text] = replace(layout, folders=folders)
        return self._layouts.get(text)

    def _told(self, found: DeliveredFile) -> str:
        # The mapping counts as far as it changes how this file is read.
        assert found.layout is not None
        if found.layout not in self._selects:
            skipped = self._mapping.skipped_sql(found.layout.types())
            how = f"{self.select_of(found.layout)} {skipped} {found.layout.explode}"
            self._selects[found.layout] = _short_hash(how)
        return f"{found.digest}/{self._selects[found.layout]}"

    def _known(self) -> dict[str, _Known]:
        rows = self._db.execute(
            "select path, size, stamp, digest, layout, read_as from files where folder = ?",
            (self._here,),
        )
        return {path: _Known(*rest) for path, *rest in rows}

    def _differs(self, seen: Seen, known: Mapping[str, _Known]) -> bool:
        before = known.get(seen.path)
        return (
            before is None
            or not before.layout  # It couldn't be read; the disk or the network may be better now.
            or (before.size, before.stamp) != (seen.size, seen.stamp)
            or before.read_as != self._read_as(before.layout)
        )

    def _read_as(self, layout: str) -> str:
        """How days are counted, which may change without the file. Files share few layouts."""
        if layout not in self._times:
            known = self._layout(layout)
            told = self._mapping.time_sql(known.types() if known else {}, self._zone)
            skipped = self._mapping.skipped_sql(known.types() if known else {})
            how = f"{told} {skipped} {self._mapping.unfinished} {self._mapping.header}"
            how += f" {known.explode if known else ()}"
            self._times[layout] = _short_hash(how)
        return self._times[layout]

    def _read(
        self, files: Sequence[Seen], known: Mapping[str, _Known], cursor: duckdb.DuckDBPyConnection
    ) -> list[_Found]:
        """Fingerprint, layout and days of the files; what can't be read says why."""
        found: list[_Found] = []
        to_count: dict[tuple[str, str], list[_Found]] = defaultdict(list)
        for seen in files:
            before = known.get(seen.path)
            try:
                content = self._content(seen)
                digest = content.digest
                same = before is not None and before.digest == digest and self._fits(before.layout)
                layout = before.layout if same and before else self._described(seen, cursor)
            except UnreadableFileError as error:
                found.append(_Found(seen, problem=str(error)))
                continue
            one = _Found(seen, digest, layout)
            if same and before and before.read_as == self._read_as(layout):
                one.days = None  # Only touched: its rows are known.
                found.append(one)
            else:
                # Of many files DuckDB leaves out, without a word, what an open quote swallows.
                to_count[layout, seen.path if content.unpaired else ""].append(one)
        for (layout, _), group in to_count.items():
            told = self._layout(layout)
            assert told is not None
            self._count(told, group, cursor)
            found += group
        return found

    def _fits(self, layout: str) -> bool:
        """Whether a known layout is what the mapping still makes of its file."""
        return bool(layout) and Layout.from_json(layout).told_by(self._mapping.header)

    def _content(self, seen: Seen) -> Content:
        """What a file holds that is whole."""
        if seen.problem:
            raise UnreadableFileError(seen.problem)
        path = self._folder / seen.path
        format_ = format_of(path)
        content = content_of(path, text=format_ != "parquet", lines=format_ == "csv")
        if content.unfinished and self._mapping.unfinished == "hold":
            raise UnreadableFileError(unfinished(content))
        return content

    def _described(self, seen: Seen, cursor: duckdb.DuckDBPyConnection) -> str:
        return layout_of(
            self._folder / seen.path,
            cursor,
            values_in_folders(seen.path).keys(),
            self._mapping.header,
        ).to_json()

    def _count(
        self, layout: Layout, group: Sequence[_Found], cursor: duckdb.DuckDBPyConnection
    ) -> None:
        """Count the rows of ``group`` by day in one scan that reads every value."""
        types = layout.types()
        values = ", ".join(f"count({column_sql(name)})" for name in types)
        happened = self._mapping.time_sql(types, self._zone)
        skipped = self._mapping.skipped_sql(types)
        relation = layout.relation("$files", folders="$files_folders")
        try:
            rows = cursor.execute(
                f"select \"{FILE}\", cast({happened} as date) - date '{EPOCH}' as day, "
                f"count(*) filter (not ({skipped})), count(*) filter ({skipped}), "
                f"greatest(0, {values or 0}) from ({relation}) as {RELATION} group by all",
                self.files_of(layout, [one.seen.path for one in group], "files"),
            ).fetchall()
        except (duckdb.OutOfMemoryException, duckdb.InterruptException):
            raise  # No file's fault.
        except duckdb.Error as error:
            if len(group) == 1:
                path = self._folder / group[0].seen.path
                group[0].layout, group[0].problem = "", cause_of(path, error)
                return
            half = len(group) // 2
            self._count(layout, group[:half], cursor)
            self._count(layout, group[half:], cursor)
            return
        for one in group:
            one.days = {}
        for place, day, count, skipped, _ in rows:
            group[place].add(day, count, skipped)

    def _write(self, found: Sequence[_Found]) -> None:
        recounted = [one for one in found if one.days is not None]
        with self._transaction():
            self._db.executemany(
                "delete from days where folder = ? and path = ?",
                [(self._here, one.seen.path) for one in recounted],
            )
            self._db.executemany(
                "insert into days values (?, ?, ?, ?, ?)",
                [
                    (self._here, one.seen.path, day, *counts)
                    for one in recounted
                    for day, counts in (one.days or {}).items()
                ],
            )
            self._db.executemany(
                "insert or replace into files values (?, ?, ?, ?, ?, ?, ?, ?, (select"
                " coalesce(sum(row_count + skipped), 0) from days"
                " where folder = ?1 and path = ?2))",
                [self._row(one) for one in found],
            )

    def _row(self, one: _Found) -> tuple[str | int, ...]:
        seen = one.seen
        how = (one.digest, one.layout, one.problem, self._read_as(one.layout))
        return (self._here, seen.path, seen.size, seen.stamp, *how)

    def _forget(self, gone: Iterable[str]) -> None:
        told = [(self._here, path) for path in gone]
        with self._transaction():
            for table in ("files", "days"):
                self._db.executemany(f"delete from {table} where folder = ? and path = ?", told)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def _within(self, window: Window) -> tuple[str, dict[str, int]]:
        """The condition on ``days.day`` for rows of ``window``: the first day has older ones."""
        low = UNDATED if window.start <= self.first else (window.start - EPOCH).days
        bounds = {"low": low, "high": (max(window.end, self.first) - EPOCH).days}
        return "and day >= :low and day < :high", bounds

    def _day(self, day: int) -> date:
        if day < (self.first - EPOCH).days:
            return self.first
        return EPOCH + timedelta(days=min(day, (date.max - EPOCH).days))


def _open(store: Path | None) -> sqlite3.Connection:
    """The cache; what is no inventory of this version is replaced, since nothing is lost."""
    if store is None:
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.executescript(SCHEMA)
        return db
    store.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _of_this_version(sqlite3.connect(store, timeout=PATIENCE, isolation_level=None))
    except sqlite3.OperationalError as error:
        raise SourceError(f"{store}: {error}; another process may hold it, try again") from error
    except sqlite3.DatabaseError:
        store.unlink(missing_ok=True)
        return _of_this_version(sqlite3.connect(store, timeout=PATIENCE, isolation_level=None))


def _of_this_version(db: sqlite3.Connection) -> sqlite3.Connection:
    (version,) = db.execute("pragma user_version").fetchone()
    if version != VERSION:
        db.executescript(
            "begin immediate; drop table if exists files; drop table if exists days;"
            f"{SCHEMA} pragma user_version = {VERSION}; commit;"
        )
    return db


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
