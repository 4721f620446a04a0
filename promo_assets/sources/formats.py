"""A delivered file: its format, its columns, and the DuckDB relation of everything in it.

Every value is read as it was written (text in CSV and JSON Lines, its own type in Parquet), with
the file it was in and its row there. Not here: what the columns mean (``mapping.py``) and which
files there are (``inventory.py``).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import duckdb

from promo_assets.sources.content import (
    UnreadableFileError,
    address_of,
    cause_of,
    head_of,
    packing_of,
)

Format = Literal["parquet", "csv", "jsonl"]
Shape = Literal["lines", "values", "array"]
"""How JSON objects follow one another: one a line, over several lines, or in an array."""

FORMATS: dict[str, Format] = {
    "parquet": "parquet",
    "csv": "csv",
    "tsv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
}
KNOWN = ", ".join(f".{ending}" for ending in FORMATS)
ENDING = re.compile(rf"\.({'|'.join(FORMATS)})(\.gz|\.zst)?$", re.I)

SHAPES: dict[Shape, str] = {
    "lines": "newline_delimited",
    "values": "unstructured",
    "array": "array",
}
"""As DuckDB calls them."""

FILE = "promo file"
ROW = "promo row"
"""Columns that a reader adds: the file's place in the list, and the row's place in the file (in
Parquet) or in all files together (else), from 0."""

ELEMENT = "promo element"
"""Of a list that is exploded, while its fields are taken; then comes how many lists it is in."""

RESERVED = ("file_index", "file_row_number")
"""DuckDB's readers give columns of these names, which hide delivered ones."""

DELIMITERS = ",;\t|"
LONGEST_HEADER = 1 << 20

BOM = b"\xef\xbb\xbf"
PARQUET = "select * from read_parquet([$path], binary_as_string = true, hive_partitioning = false)"

IN_FOLDER = re.compile(r"([^=/]+)=([^/]*)")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"

CLOSED = r'([^\s:,\[{\\]"\s*:\s*)'
"""The end of a JSON key: a quote that neither opens a text nor is part of one."""
ROUNDED = r"-?\d+(?:\.\d*0|\.\d{10,}|(?:\.\d+)?[eE][-+]?\d+)"
"""Numbers that JSON readers don't give back as written: 3.50, 1e3, more digits than a double."""
DECIMAL = r"-?\d+(?:\.\d+(?:[eE][-+]?\d+)?|[eE][-+]?\d+)"
END = r"(\s*[,}])"


@dataclass(frozen=True)
class Layout:
    """How a file is read; files of the same layout are read together.

    ``columns`` are names with DuckDB types (of JSON: JSON). ``exact`` is false for JSON with
    numbers that have to be kept from becoming floating point. ``folders`` are columns that the
    names of folders tell (`values_in_folders`). ``headless`` CSV has no line of column names.
    ``paths`` are columns taken from within others (``user.id`` from ``user``, in whose place they
    stand); of the list ``explode`` each element is a row, of several each in an element of the one
    before (`reaching`).
    """

    format: Format
    columns: tuple[tuple[str, str], ...]
    delimiter: str = ""
    exact: bool = True
    packed: str = ""
    shape: Shape = "lines"
    folders: tuple[str, ...] = ()
    headless: bool = False
    paths: tuple[str, ...] = ()
    explode: tuple[str, ...] = ()

    def reaching(self, paths: Sequence[str], explode: Sequence[str]) -> Layout:
        """The layout with those of ``paths``, and the lists to ``explode``, that it has. A column
        whose own name has a dot is no path."""
        names = {name.casefold(): name for name, _ in self.columns}
        found = tuple(
            path
            for path in paths
            if path.casefold() not in names and path.partition(".")[0].casefold() in names
        )
        has = explode and explode[0].partition(".")[0].casefold() in names
        return replace(self, paths=found, explode=tuple(explode) if has else ())

    @property
    def row_of_file(self) -> bool:
        """Whether `ROW` counts in each file; else in all files together."""
        return self.format == "parquet" and not self.explode

    def told_by(self, header: Sequence[str]) -> bool:
        """Whether it is what `layout_of` finds where the mapping names the columns ``header``."""
        if self.format != "csv" or not header:
            return not self.headless
        return [name for name, _ in self.columns] == list(header)

    def types(self, aside: Collection[str] = ()) -> dict[str, str]:
        """The columns as `relation` gives them. JSON: those ``aside`` as JSON, others as text."""
        roots = self._roots()
        told = {name: type_ for name, type_ in self._delivered(aside).items() if name not in roots}
        return told | dict.fromkeys((*self.paths, *self.folders), "VARCHAR")

    def _roots(self) -> frozenset[str]:
        """The columns in whose place others stand."""
        within = {path.partition(".")[0].casefold() for path in (*self.paths, *self.explode)}
        return frozenset(name for name, _ in self.columns if name.casefold() in within)

    def _delivered(self, aside: Collection[str]) -> dict[str, str]:
        """The columns that are in the file itself."""
        if self.format != "jsonl":
            return dict(self.columns)
        whole = {*aside, *self._roots()}
        return {name: "JSON" if name in whole else "VARCHAR" for name, _ in self.columns}

    def relation(self, files: str, aside: Collection[str] = (), folders: str = "") -> str:
        """A select of every row of ``files`` (an SQL list of addresses): `types`, `FILE` and
        `ROW`. ``folders`` is an SQL list of the files' values of `folders`."""
        rows, roots = self._whole(files, aside, folders), self._roots()
        if not roots:
            return rows
        left_out, told = [*map(_named, sorted(roots))], []
        for level, path in enumerate(self.explode):
            listed = self._reached(path, "json_extract", level)
            # A row whose list has no element stays a row.
            elements = (
                f"case when json_array_length({listed}) > 0 then json_extract({listed}, '$[*]') "
                "else [cast(null as json)] end"
            )
            rows = f"select *, unnest({elements}) as {_element(level)} from ({rows})"
            left_out.append(_element(level))
        if self.explode:
            left_out.append(_named(ROW))
            told.append(f"row_number() over () - 1 as {_named(ROW)}")
        told += [f"{self._reached(path)} as {_named(path)}" for path in self.paths]
        return f"select * exclude ({', '.join(left_out)}), {', '.join(told)} from ({rows})"

    def _reached(self, path: str, extract: str = "json_extract_string", levels: int = 9) -> str:
        """What is at a path, or null: in the innermost of the first ``levels`` exploded lists in
        which it lies, else in its column."""
        root, *steps = path.split(".")
        within = self._json(root)
        for level, listed in enumerate(self.explode[:levels]):
            if f"{path}.".casefold().startswith(f"{listed}.".casefold()):
                within, steps = _element(level), path.split(".")[listed.count(".") + 1 :]
        pointer = "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in steps)
        return f"{extract}({within}, {_quoted(pointer)})"

    def _json(self, root: str) -> str:
        """A column as JSON, null where its text is none."""
        name, type_ = next(one for one in self.columns if one[0].casefold() == root.casefold())
        if self.format == "jsonl":
            return _named(name)
        if type_ == "VARCHAR":
            return f"try_cast({_named(name)} as json)"
        return f"to_json({_named(name)})"

    def _whole(self, files: str, aside: Collection[str], folders: str) -> str:
        """`relation` without `paths` and `explode`."""
        place = f'cast(file_index as bigint) as "{FILE}"'
        for number, name in enumerate(self.folders, 1):
            told = f"cast({folders} as varchar[][])[cast(file_index as bigint) + 1][{number}]"
            place += f", {told} as {_named(name)}"
        if self.format == "parquet":
            return (
                f'select *, {place}, file_row_number as "{ROW}" '
                f"from read_parquet({files}, binary_as_string = true, hive_partitioning = false)"
            )
        place += f', row_number() over () - 1 as "{ROW}"'
        types = self._delivered(aside)
        read = "hive_partitioning = false"
        if self.packed:  # DuckDB knows it by endings in small letters only.
            read += f", compression = '{self.packed}'"
        if self.format == "csv":
            return (
                f"select *, {place} from read_csv({files}, auto_detect = false, "
                f"header = {not self.headless}, columns = {_struct(types)}, "
                f"delim = '{self.delimiter}', quote = '\"', "
                f"escape = '\"', nullstr = '', strict_mode = true, {read})"
            )
        read = f"format = '{SHAPES[self.shape]}', {read}"
        if self.exact:
            return f"select *, {place} from read_json({files}, columns = {_struct(types)}, {read})"
        quoted = f"regexp_replace(json, '{CLOSED}({DECIMAL}){END}', '\\1\"\\2\"\\3', 'g')"
        structure = json.dumps(types).replace("'", "''")
        others = "".join(f", {_named(name)}" for name in (FILE, *self.folders, ROW))
        return (
            f"select unnest(json_transform(cast({quoted} as json), '{structure}')){others} "
            f"from (select json, {place} from read_json_objects({files}, {read}))"
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Layout:
        told = json.loads(text)
        columns = tuple((name, type_) for name, type_ in told["columns"])
        listed = {name: tuple(told[name]) for name in ("folders", "paths", "explode")}
        return cls(**(told | listed | {"columns": columns}))


def format_of(path: Path) -> Format | None:
    """The format that a file's ending names, whatever its case; None for an unknown ending."""
    match = ENDING.search(path.name)
    return FORMATS[match[1].lower()] if match else None


def values_in_folders(path: str) -> dict[str, str | None]:
    """What folders such as ``channel=app`` tell, as Hive and Spark write them."""
    told = {unquote(name): unquote(value) for name, value in IN_FOLDER.findall(path)}
    return {name: None if value == NO_VALUE else value for name, value in told.items()}


def layout_of(
    path: Path,
    connection: duckdb.DuckDBPyConnection,
    folders: Collection[str] = (),
    header: Sequence[str] = (),
) -> Layout:
    """Find out how ``path`` is read; ``folders`` are the columns that its folders tell, ``header``
    those of CSV without a header line.

    Raises `UnreadableFileError`, whatever is wrong with the file.
    """
    try:
        match format_of(path):
            case "csv":
                layout = _csv_layout(path, header)
            case "jsonl":
                layout = _json_layout(path, connection)
            case _ if packing_of(path):
                raise UnreadableFileError("Parquet is compressed inside; unpack it")
            case _:
                layout = Layout("parquet", _described(PARQUET, path, connection))
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise  # No file's fault.
    except duckdb.Error as error:
        raise UnreadableFileError(cause_of(path, error)) from error
    names = {name.casefold() for name, _ in layout.columns}
    if reserved := names.intersection(RESERVED):
        raise UnreadableFileError(f"the column name {min(reserved)!r} is reserved; rename it")
    more = tuple(sorted(name for name in folders if name.casefold() not in names))
    return replace(layout, packed=packing_of(path), folders=more)


def _csv_layout(path: Path, told: Sequence[str]) -> Layout:
    head = head_of(path, LONGEST_HEADER)
    text = head.decode("utf-8-sig", errors="ignore")
    tabs = ENDING.search(path.name)
    known = "\t" if tabs and tabs[1].lower() == "tsv" else DELIMITERS
    records = [(_first_record(text, delimiter), delimiter) for delimiter in known]
    header, delimiter = max(records, key=lambda one: (len(one[0]) == len(told), len(one[0])))
    if told and [name.strip() for name in header] != list(told):
        if header and len(header) != len(told):
            raise UnreadableFileError(
                f"its first line has {len(header)} fields, but header: names {len(told)} columns"
            )
        columns = tuple((name, "VARCHAR") for name in told)
        return Layout("csv", columns, delimiter, headless=True)
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
        wanted = name.strip().lstrip("\ufeff") or f"column{position}"  # A second mark, too.
        number, found = 0, wanted
        while found.casefold() in seen:
            number += 1
            found = f"{wanted}_{number}"
        seen.add(found.casefold())
        yield found


def _json_layout(path: Path, connection: duckdb.DuckDBPyConnection) -> Layout:
    shape = _shape_of(head_of(path, LONGEST_HEADER))
    read = f"format = '{SHAPES[shape]}', hive_partitioning = false"
    if packed := packing_of(path):
        read += f", compression = '{packed}'"
    columns = _described(
        f"select * from read_json([$path], {read}, sample_size = -1, maximum_depth = 1, "
        "map_inference_threshold = -1)",
        path,
        connection,
    )
    rows = f"from read_json_objects([$path], {read}) where"
    told = {"path": address_of(path)}
    if [name for name, _ in columns] == ["json"]:  # So it calls lines that are no objects, or none.
        no_objects = f"select json {rows} json_type(json) <> 'OBJECT' limit 1"
        if found := connection.execute(no_objects, told).fetchone():
            raise UnreadableFileError(
                f"expected one JSON object a line, found {str(found[0])[:60]}"
            )
        if not connection.execute(f"select 1 {rows} true limit 1", told).fetchone():
            columns = ()
    rounded = f"select 1 {rows} regexp_matches(json, '{CLOSED}{ROUNDED}{END}') limit 1"
    exact = connection.execute(rounded, told).fetchone() is None
    return Layout("jsonl", columns, exact=exact, shape=shape)


def _shape_of(head: bytes) -> Shape:
    """How the objects follow one another, by the first ones."""
    if head.startswith(BOM):
        raise UnreadableFileError(
            "it begins with a byte order mark, which JSON has not; save it again as UTF-8 without"
        )
    text = head.lstrip()
    if text.startswith(b"["):
        return "array"
    try:
        json.loads(text.split(b"\n", 1)[0] or b"{}")
    except ValueError:
        return "values" if b"\n" in text else "lines"
    return "lines"


def _described(
    query: str, path: Path, connection: duckdb.DuckDBPyConnection
) -> tuple[tuple[str, str], ...]:
    rows = connection.execute(f"describe {query}", {"path": address_of(path)}).fetchall()
    return tuple((name, type_) for name, type_, *_ in rows)


def _element(level: int) -> str:
    return _named(f"{ELEMENT} {level}")


def _struct(types: dict[str, str]) -> str:
    fields = ", ".join(f"{_quoted(name)}: '{type_}'" for name, type_ in types.items())
    return f"{{{fields}}}"


def _named(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
