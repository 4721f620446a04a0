"""A delivered file: its format, its columns, and the DuckDB relation of everything in it.

Every value is read as it was written (text in CSV and JSON Lines, its own type in Parquet), with
the file it was in and its row there. Not here: what the columns mean (``mapping.py``) and which
files there are (``inventory.py``).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal, cast

import duckdb
import pyarrow as pa

Format = Literal["parquet", "csv", "jsonl"]

NAME = re.compile(r"[^._].*\.(parquet|csv|jsonl)(\.gz|\.zst)?")
"""Files that hold rows; names that start with . or _ are other programs' own, as everywhere."""

FILE = "promo file"
ROW = "promo row"
"""Columns that a reader adds: the file's place in the list, and the row's place in the file (in
Parquet) or in all files together (else), from 0."""

RESERVED = ("file_index", "file_row_number")
"""DuckDB's readers give columns of these names, which hide delivered ones."""

DELIMITERS = ",;\t|"
LONGEST_HEADER = 1 << 20
CHUNK = 1 << 20

KIND = re.compile(r"^[A-Z]\w*( \w+)? Error: ")
"""How DuckDB's messages begin."""

CLOSED = r'([^\s:,\[{\\]"\s*:\s*)'
"""The end of a JSON key: a quote that neither opens a text nor is part of one."""
ROUNDED = r"-?\d+(?:\.\d*0|\.\d{10,}|(?:\.\d+)?[eE][-+]?\d+)"
"""Numbers that JSON readers don't give back as written: 3.50, 1e3, more digits than a double."""
DECIMAL = r"-?\d+(?:\.\d+(?:[eE][-+]?\d+)?|[eE][-+]?\d+)"
END = r"(\s*[,}])"


class UnreadableFileError(ValueError):
    """A file can't be read; the message says why, in one line, without its name."""


@dataclass(frozen=True)
class Layout:
    """How a file is read; files of the same layout are read together.

    ``columns`` are names with DuckDB types (of JSON Lines: JSON). ``exact`` is false for JSON
    Lines with numbers that have to be kept from becoming floating point.
    """

    format: Format
    columns: tuple[tuple[str, str], ...]
    delimiter: str = ""
    exact: bool = True

    def types(self, aside: Collection[str] = ()) -> dict[str, str]:
        """The columns as `relation` gives them. JSON Lines: those ``aside`` as JSON, others as
        text."""
        if self.format != "jsonl":
            return dict(self.columns)
        return {name: "JSON" if name in aside else "VARCHAR" for name, _ in self.columns}

    def relation(self, files: str, aside: Collection[str] = ()) -> str:
        """A select of every row of ``files`` (an SQL list of paths): `types`, `FILE` and `ROW`."""
        place = f'cast(file_index as bigint) as "{FILE}"'
        if self.format == "parquet":
            return (
                f'select *, {place}, file_row_number as "{ROW}" '
                f"from read_parquet({files}, binary_as_string = true, hive_partitioning = false)"
            )
        place += f', row_number() over () - 1 as "{ROW}"'
        types = self.types(aside)
        if self.format == "csv":
            return (
                f"select *, {place} from read_csv({files}, auto_detect = false, header = true, "
                f"columns = {_struct(types)}, delim = '{self.delimiter}', quote = '\"', "
                "escape = '\"', nullstr = '', strict_mode = true, hive_partitioning = false)"
            )
        if self.exact:
            return (
                f"select *, {place} from read_json({files}, format = 'newline_delimited', "
                f"columns = {_struct(types)}, hive_partitioning = false)"
            )
        quoted = f"regexp_replace(json, '{CLOSED}({DECIMAL}){END}', '\\1\"\\2\"\\3', 'g')"
        structure = json.dumps(types).replace("'", "''")
        return (
            f"select unnest(json_transform(cast({quoted} as json), '{structure}')), "
            f'"{FILE}", "{ROW}" from (select json, {place} from read_ndjson_objects({files}))'
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Layout:
        told = json.loads(text)
        return cls(**(told | {"columns": tuple((name, type_) for name, type_ in told["columns"])}))


def layout_of(path: Path, connection: duckdb.DuckDBPyConnection) -> Layout:
    """Find out how ``path`` is read; raises `UnreadableFileError`."""
    match = NAME.fullmatch(path.name)
    assert match is not None
    format_, packed = cast(Format, match[1]), match[2]
    if format_ == "csv":
        layout = _csv_layout(path, packed)
    elif format_ == "jsonl":
        layout = _jsonl_layout(path, connection)
    elif packed:
        raise UnreadableFileError(f"Parquet is compressed inside; unpack the {packed}")
    else:
        query = "select * from read_parquet([$path], binary_as_string = true)"
        layout = Layout("parquet", _described(query, path, connection))
    for name, _ in layout.columns:
        if name.casefold() in RESERVED:
            raise UnreadableFileError(f"the column name {name!r} is reserved; rename it")
    return layout


def digest_of(path: Path) -> str:
    """The content's fingerprint. A compressed file is unpacked too, since DuckDB's reader takes
    one that was cut off as complete; raises `UnreadableFileError`."""
    try:
        with path.open("rb") as file:
            told = hashlib.file_digest(file, "sha256").hexdigest()[:32]
        if path.suffix in (".gz", ".zst"):
            with _unpacked(path) as unpacked:
                while unpacked.read(CHUNK):
                    pass
    except (OSError, EOFError, ValueError) as error:
        raise UnreadableFileError(reason_of(error)) from error
    return told


def reason_of(error: Exception) -> str:
    """What is wrong with a file, in one line: DuckDB's first lines, without its advice and
    without the row, which may be personal."""
    kept: list[str] = []
    for line in filter(None, map(str.strip, str(error).splitlines())):
        if line.startswith(("Possible", "* ", "file = ", "LINE ")):
            break
        if not line.startswith("Original Line"):
            kept.append(line)
    text = KIND.sub("", ", ".join(kept) or type(error).__name__)
    return text if len(text) <= 300 else f"{text[:297]}..."


def _unpacked(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path))
    if path.suffix == ".zst":
        return cast(IO[bytes], pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def _csv_layout(path: Path, packed: str | None) -> Layout:
    try:
        with _unpacked(path) as file:
            head = file.read(LONGEST_HEADER)
    except (OSError, EOFError, ValueError) as error:
        raise UnreadableFileError(reason_of(error)) from error
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableFileError("it is UTF-16, expected UTF-8; save it again as UTF-8")
    try:
        text = head.decode(
            "utf-8-sig", errors="ignore" if len(head) == LONGEST_HEADER else "strict"
        )
    except UnicodeDecodeError as error:
        raise UnreadableFileError(
            f"byte {error.start} is not UTF-8 ({head[error.start : error.start + 1]!r}); save it "
            "again as UTF-8"
        ) from error
    records = [(_first_record(text, delimiter), delimiter) for delimiter in DELIMITERS]
    header, delimiter = max(records, key=lambda told: len(told[0]))
    if not any(name.strip() for name in header):
        raise UnreadableFileError("it has no header line with column names")
    return Layout("csv", tuple((name, "VARCHAR") for name in _unique(header)), delimiter)


def _first_record(text: str, delimiter: str) -> list[str]:
    lines = io.StringIO(text, newline="")
    return next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), [])


def _unique(header: list[str]) -> Iterator[str]:
    """Names as DuckDB's own reader gives them where some are empty or repeated."""
    seen: set[str] = set()
    for position, name in enumerate(header):
        wanted = name.strip() or f"column{position}"
        number, found = 0, wanted
        while found.casefold() in seen:
            number += 1
            found = f"{wanted}_{number}"
        seen.add(found.casefold())
        yield found


def _jsonl_layout(path: Path, connection: duckdb.DuckDBPyConnection) -> Layout:
    columns = _described(
        "select * from read_json([$path], format = 'newline_delimited', sample_size = -1, "
        "maximum_depth = 1, map_inference_threshold = -1, hive_partitioning = false)",
        path,
        connection,
    )
    lines = "from read_ndjson_objects([$path]) where"
    told = {"path": str(path)}
    if [name for name, _ in columns] == ["json"]:  # So it calls lines that are no objects, or none.
        no_objects = f"select json {lines} json_type(json) <> 'OBJECT' limit 1"
        if found := connection.execute(no_objects, told).fetchone():
            raise UnreadableFileError(
                f"expected one JSON object a line, found {str(found[0])[:60]}"
            )
        if not connection.execute(f"select 1 {lines} true limit 1", told).fetchone():
            columns = ()
    rounded = f"select 1 {lines} regexp_matches(json, '{CLOSED}{ROUNDED}{END}') limit 1"
    exact = connection.execute(rounded, told).fetchone() is None
    return Layout("jsonl", columns, exact=exact)


def _described(
    query: str, path: Path, connection: duckdb.DuckDBPyConnection
) -> tuple[tuple[str, str], ...]:
    try:
        rows = connection.execute(f"describe {query}", {"path": str(path)}).fetchall()
    except duckdb.Error as error:
        raise UnreadableFileError(reason_of(error)) from error
    return tuple((name, type_) for name, type_, *_ in rows)


def _struct(types: dict[str, str]) -> str:
    fields = ", ".join(f"{_quoted(name)}: '{type_}'" for name, type_ in types.items())
    return f"{{{fields}}}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
