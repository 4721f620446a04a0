"""Where files name a person, and how a name is overwritten there.

Files of every kind are looked into in the form that their reader sees: SQLite by its columns,
Parquet and gzip decoded, everything else byte by byte. Not here: the warehouse's tables
(`promo_assets.privacy.erasure`), and who a person is.
"""

from __future__ import annotations

import gzip
import os
import re
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

SHORTEST_ID = 6
"""Characters: a shorter id is looked for in columns, but not in texts, where it can be a word or
a number of anything."""

KEY_COLUMNS = ("event_id", "event_key", "order_id", "session_id")
"""Columns whose values name one person's row without naming the person: gates quote them."""

CHUNK = 16 * 2**20
MARGIN = 512
"""Bytes around a chunk, for what lies across its border."""

BUSY_SECONDS = 30.0

TEXTS = {".csv", ".err", ".html", ".json", ".jsonl", ".log", ".md", ".out", ".txt", ".yaml"}
"""Suffixes of files in which a name can be overwritten where it stands."""

SQLITE, PARQUET, GZIP = b"SQLite format 3\0", b"PAR1", b"\x1f\x8b"

_KEY = re.compile(
    rb"(?:\b(?:%s)(?:=|\\*\"\s*:\s*\\*\"|&quot;\s*:\s*&quot;)|>)([^<>\"\\,;|&\r\n]{1,200})"
    % "|".join(KEY_COLUMNS).encode()
)


class BusyFileError(RuntimeError):
    """A file can't be changed because another process uses it; the message says what to do."""


@dataclass(frozen=True)
class Names:
    """What a person is called: ``pseudonyms`` of accounts and devices, the ``delivered`` id, and
    the ``keys`` of their rows (values of `KEY_COLUMNS`)."""

    pseudonyms: frozenset[str]
    delivered: str
    keys: frozenset[str] = field(default=frozenset())

    @cached_property
    def _names(self) -> re.Pattern[bytes]:
        """Pseudonyms anywhere, and the delivered id where it is a word of its own."""
        alternatives = [re.escape(name.encode()) for name in sorted(self.pseudonyms)]
        if len(self.delivered) >= SHORTEST_ID:
            # Ids are texts: a number of JSON or a part of another number is not one.
            number = self.delivered.isdecimal()
            before = r"(?<![\w.:-])(?<!: )(?<!, )(?<!\[)" if number else r"(?<!\w)"
            after = r"(?![\w.:-])" if number else r"(?!\w)"
            alternatives.append(f"{before}{re.escape(self.delivered)}{after}".encode())
        return re.compile(b"|".join(alternatives) if alternatives else rb"(?!)")

    @cached_property
    def _plain(self) -> tuple[bytes, ...]:
        return tuple(name.encode() for name in (*sorted(self.pseudonyms), self.delivered))

    @cached_property
    def _keys(self) -> frozenset[bytes]:
        return frozenset(key.encode() for key in self.keys)

    def spans(self, data: bytes, *, text: bool = True) -> list[tuple[int, int]]:
        """Where ``data`` names the person: ``[start, end)``, in order, apart from each other.
        Keys of rows are recognised by what stands around them, in a text."""
        found: set[tuple[int, int]] = set()
        if any(name in data for name in self._plain):  # Much faster than any expression.
            found.update(match.span() for match in self._names.finditer(data))
        if text and self._keys:
            keys = (match for match in _KEY.finditer(data) if match[1].strip() in self._keys)
            found.update(match.span(1) for match in keys)
        return sorted(found)

    @property
    def in_sql(self) -> str:
        """The names as a regular expression of DuckDB. A number is no word there: it would be
        found as an item's id and an order's."""
        alternatives = sorted(self.pseudonyms)
        if len(self.delivered) >= SHORTEST_ID and not self.delivered.isdecimal():
            alternatives.append(rf"(?:^|\W){re.escape(self.delivered)}(?:$|\W)")
        return "|".join(alternatives)

    def overwritten(self, data: bytes) -> bytes:
        """``data`` with every name replaced by a filler of the same length, so that nothing
        moves: JSON stays JSON, and a number a number."""
        changed = bytearray(data)
        for start, end in self.spans(data):
            changed[start:end] = filler(data[start:end])
        return bytes(changed)


def filler(name: bytes) -> bytes:
    """What stands in the place of ``name``, of its length."""
    if name.isdigit():
        return (b"2" if name.startswith(b"1") else b"1") * len(name)
    return (b"erased" + b"-" * len(name))[: len(name)]


def files(home: Path, left_out: Collection[Path] = ()) -> Iterator[Path]:
    """Every file under ``home`` but those in the folders ``left_out``, in order."""
    for folder, folders, names in os.walk(home):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if here / name not in left_out)
        yield from (here / name for name in sorted(names) if (here / name).is_file())


def mentions(path: Path, names: Names) -> int:
    """How often a file names the person, as its reader sees it."""
    with path.open("rb") as file:
        start = file.read(16)
    if start == SQLITE and (values := _sqlite_values(path, names, None)):
        return values
    if start.startswith(PARQUET):
        return _parquet_values(path, names)
    decoded = start.startswith(GZIP)
    text = decoded or path.suffix in TEXTS
    return sum(1 for _ in _spans(path, names, text=text, decoded=decoded))


def overwrite(path: Path, names: Names) -> int:
    """Overwrite the person's names in a text file or an SQLite database, and return how many
    (an SQLite value that names the person counts once). Other files are left as they are.

    Raises `BusyFileError` where another process keeps a database locked.
    """
    with path.open("rb") as file:
        start = file.read(16)
    if start == SQLITE:
        return _sqlite_values(path, names, names.overwritten)
    if path.suffix not in TEXTS or start.startswith((PARQUET, GZIP)):
        return 0
    spans = list(_spans(path, names))
    if spans:
        # In place: whoever appends to the file meanwhile goes on, and no copy of it is left.
        with path.open("r+b") as file:
            for start_at, end_at in spans:
                file.seek(start_at)
                name = file.read(end_at - start_at)
                file.seek(start_at)
                file.write(filler(name))
            file.flush()
            os.fsync(file.fileno())
    return len(spans)


def _spans(
    path: Path, names: Names, *, text: bool = True, decoded: bool = False
) -> Iterator[tuple[int, int]]:
    """The spans of a file's bytes, each once; read in chunks, however large it is."""
    with gzip.open(path) if decoded else path.open("rb") as file:
        before, at = b"", 0  # ``before``: the end of the last chunk, read again.
        block = file.read(CHUNK)
        while block:
            after = file.read(CHUNK)
            data = before + block + after[:MARGIN]
            first = at - len(before)
            for start, end in names.spans(data, text=text):
                if at <= first + start < at + len(block):
                    yield first + start, first + end
            before, at, block = block[-MARGIN:], at + len(block), after


def _parquet_values(path: Path, names: Names) -> int:
    import polars as pl

    frame = pl.read_parquet(path)
    texts = frame.select(pl.col(pl.String)).unique()
    return sum(
        len(names.spans(text.encode()))
        for column in texts.iter_columns()
        for text in column.unique().drop_nulls()
    )


def _sqlite_values(path: Path, names: Names, change: Callable[[bytes], bytes] | None) -> int:
    """How many values of an SQLite database name the person; ``change`` is put in their place.

    By columns and not by bytes: SQLite cuts a long value across pages. Freed pages keep what was
    on them, so a changed database is written anew (VACUUM), and its log emptied.
    """

    def named(value: object) -> bool:
        return bool(names.spans(_bytes(value)))

    def changed(value: object) -> str | bytes:
        assert change is not None
        new = change(_bytes(value))
        return new.decode() if isinstance(value, str) else new

    found = 0
    with sqlite(path, "ro" if change is None else "rw") as opened:
        opened.create_function("named", 1, named, deterministic=True)
        opened.create_function("changed", 1, changed, deterministic=True)
        for table, column in _sqlite_columns(opened):
            where = f"where typeof({column}) in ('text', 'blob') and named({column})"
            if change is None:
                (count,) = opened.execute(f"select count(*) from {table} {where}").fetchone()
            else:
                count = opened.execute(
                    f"update {table} set {column} = changed({column}) {where}"
                ).rowcount
            found += count
    if change is not None and (found or _in_freed_pages(path, names)):
        vacuum(path)
    return found


def vacuum(path: Path) -> None:
    """Write an SQLite database anew, because freed pages keep what was on them, and empty its log.

    Raises `BusyFileError` where another process keeps it locked.
    """
    with sqlite(path, "rw") as opened:
        opened.execute("vacuum")
        opened.execute("pragma wal_checkpoint(truncate)")


@contextmanager
def sqlite(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """A connection, ``rw`` or ``ro``, whose statements commit by themselves.

    Raises `BusyFileError` where another process keeps the database locked.
    """
    place = f"{path.as_uri()}?mode={mode}"
    try:
        with closing(
            sqlite3.connect(place, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        ) as opened:
            yield opened
    except sqlite3.OperationalError as error:
        if "locked" not in str(error) and "busy" not in str(error):
            raise
        raise BusyFileError(
            f"{path}: another process keeps this database locked ({error}). Stop the Dagster "
            "daemon, the MLflow server or the run that uses it, and try again"
        ) from error


def _in_freed_pages(path: Path, names: Names) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return any(
        True for file in (path, log) if file.exists() for _ in _spans(file, names, text=False)
    )


def _sqlite_columns(opened: sqlite3.Connection) -> list[tuple[str, str]]:
    found = opened.execute(
        "select t.name, c.name from sqlite_master as t, pragma_table_info(t.name) as c"
        " where t.type = 'table' and t.name not like 'sqlite_%'"
    ).fetchall()
    return [(_quoted(table), _quoted(column)) for table, column in found]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
