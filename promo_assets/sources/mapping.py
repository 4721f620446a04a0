"""``mapping.yaml``: how a shop's own columns become the event contract's.

Here: the file's model, its error messages, and the select list that follows from it, the same for
files and databases. Not here: reading what is delivered.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import duckdb
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from promo_assets.contract.events import EVENT_COLUMNS
from promo_assets.contract.limits import Gates
from promo_assets.contract.limits import problems as limit_problems
from promo_assets.contract.located_yaml import Location, Problem, load, nearest
from promo_assets.people.identifiers import Spelling
from promo_assets.sources import (
    CONSENT_COLUMNS,
    ITEM_COLUMNS,
    LINK_COLUMNS,
    USER_COLUMNS,
    SourceError,
)
from promo_assets.sources.values import NumberFormat, literal, moment_sql, to_utc

Text = Annotated[str, Field(min_length=1)]
Unit = Literal["cents", "currency"]

COLUMNS = tuple(column.name for column in EVENT_COLUMNS if column.name != "event_date")
"""What a source may deliver; ``event_date`` follows from the time."""

IDENTIFIERS = ("user_id", "device_id")
MONEY = ("unit_price", "discount")
NUMBERS = ("quantity", *MONEY)
EPOCHS = {"epoch_seconds": 1_000_000, "epoch_millis": 1_000, "epoch_micros": 1}
"""Time formats that count from 1970-01-01 UTC, in microseconds a unit."""

ISO = "iso"
"""The time format of `moment_sql`, which is meant where none is told."""

EXCEL = "excel_serial"
"""The time format of cells without one: days since 1899-12-30, and their fraction."""

LATEST_EPOCH = 253_402_300_800_000_000
"""Microseconds of the year 10000: what is later was told in another unit."""

RELATION = "delivered"
"""The alias that the relation behind a select list must have."""

REPEATED = re.compile(r"_\d+$")
"""What readers put behind the name of a column that has the name of another."""

STRPTIME = re.compile(r"%(?:-?[dmyHIMSj]|[aAbBcfgGnpuUVwWxXYzZ%])")
TIME_TEXT = "%Y-%m-%d %H:%M:%S.%f"


class MappingError(SourceError):
    """The mapping is wrong: for each problem its file, line and key, and what was expected."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Constant(_Strict):
    """A value that every row has, in place of a delivered column."""

    value: str | None


class Joined(_Strict):
    """Several delivered columns with a blank between them: a date and a time of day."""

    join: tuple[Text, ...] = Field(min_length=2)


class Condition(_Strict):
    """Rows by one delivered column, as it is written: those whose value is (or is not) one of a
    list, where null is no value, or matches a pattern as a whole (RE2)."""

    column: Text
    one_of: tuple[str | None, ...] = ()
    none_of: tuple[str | None, ...] = ()
    matches: Text | None = None

    @field_validator("matches")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        try:
            if value:
                with duckdb.connect() as connection:
                    connection.execute("select regexp_full_match('', ?)", [value]).fetchall()
        except duckdb.Error as error:
            raise ValueError(f"should be a pattern such as TEST.*|POST ({error})") from error
        return value

    @model_validator(mode="after")
    def _says_one_thing(self) -> Condition:
        if sum(map(bool, (self.one_of, self.none_of, self.matches))) != 1:
            raise ValueError("should have one of one_of, none_of, matches beside its column")
        return self

    def sql(self, text: str) -> str:
        """Whether it holds for a text; never null."""
        if self.matches:
            return f"coalesce(regexp_full_match({text}, {literal(self.matches)}), false)"
        told = self.one_of or self.none_of
        values = ", ".join(literal(value) for value in told if value is not None)
        found = [f"coalesce({text} in ({values}), false)"] if values else []
        found += [f"{text} is null"] if None in told else []
        return f"{'not ' if self.none_of else ''}({' or '.join(found)})"


class Case(Condition):
    """The value of rows for which a condition holds."""

    value: str | None


class Chosen(_Strict):
    """The value of the first of several cases that holds, ``otherwise`` if none does."""

    cases: tuple[Case, ...] = Field(min_length=1)
    otherwise: str | None


class SourceMapping(_Strict):
    """What ``mapping.yaml`` says; every key may be left out.

    A column is taken from the first of its names that is delivered, the contract's own name being
    the last: a history whose early files had another name stays readable.
    """

    columns: dict[str, Constant | Chosen | Joined | Text | tuple[Text, ...]] = {}
    values: dict[str, dict[str, str | None]] = {}
    time_zone: str | None = Field(default=None, description="IANA zone of times without offset.")
    time_format: str | tuple[str, ...] | None = Field(
        default=None,
        description="`iso`, `excel_serial`, one of EPOCHS, or for strptime; of several the first.",
    )
    number_format: NumberFormat | None = Field(
        default=None, description="How quantities and amounts are written, if not as 1234.50."
    )
    negative_quantity: Literal["reject", "return"] = Field(
        default="reject", description="A purchase of less than nothing: a mistake, or a return."
    )
    units: dict[str, Unit] = Field(default={}, description="By column, or `money` for all.")
    drop: tuple[Text, ...] = Field(default=(), description="Delivered columns never taken.")
    not_delivered: tuple[str, ...] = Field(
        default=(), description="Contract columns that the shop no longer delivers."
    )
    gates: Gates = Field(default=Gates(), description="What the gates of events tolerate.")
    ids: dict[str, tuple[Spelling, ...]] = Field(
        default={}, description="How identifiers that are spelled in several ways become one."
    )
    equal_rows: Literal["drop", "keep"] = Field(
        default="drop", description="Rows without an event_id that are equal: one event, or many."
    )
    skip_rows_where: tuple[Condition, ...] = Field(
        default=(), description="Rows that are no events, where any of the conditions holds."
    )
    explode: Text | tuple[Text, ...] = Field(
        default=(),
        description="Files: a list of which each element is a row, and lists in its elements.",
    )
    header: tuple[Text, ...] = Field(
        default=(), description="The columns of CSV event files that have no header line."
    )
    events: Text | tuple[Text, ...] = Field(default=(), description="Globs of the event files.")
    ignore: tuple[Text, ...] = Field(
        default=(), description="Globs of files among them that are no event files."
    )
    unfinished: Literal["hold", "take"] = Field(
        default="hold", description="Text files that may be half written."
    )
    item_columns: dict[str, Text] = {}
    user_columns: dict[str, Text] = {}
    identity_columns: dict[str, Text] = {}
    consent_columns: dict[str, Text] = {}
    events_table: Text | None = Field(default=None, description="Databases: the events' table.")
    updated_at: Text | None = Field(default=None, description="Databases: when a row changed.")
    items_table: Text | None = None
    users_table: Text | None = None
    identities_table: Text | None = None
    consents_table: Text | None = None

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        try:
            ZoneInfo(value or "UTC")
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("should be an IANA zone such as America/New_York") from error
        return value

    @field_validator("time_format")
    @classmethod
    def _known_format(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for told in (value,) if isinstance(value, str) else value or ():
            rest = STRPTIME.sub("", told)
            if told not in (*EPOCHS, ISO, EXCEL) and ("%" in rest or rest == told):
                which = "" if isinstance(value, str) else f" in place of {told!r}"
                raise ValueError(
                    f"should be one of {', '.join((*EPOCHS, ISO, EXCEL))}, or a pattern such as "
                    f"%d/%m/%Y %H:%M:%S{which}"
                )
        return value

    @property
    def time_formats(self) -> tuple[str, ...]:
        """How times may be written, in the order in which it is tried."""
        told = self.time_format
        return ((told,) if isinstance(told, str) else told) or (ISO,)

    @property
    def exploded(self) -> tuple[str, ...]:
        """The lists of which each element is a row, the outermost first."""
        return (self.explode,) if isinstance(self.explode, str) else self.explode

    @property
    def paths(self) -> tuple[str, ...]:
        """The names with dots: what may stand within a delivered column."""
        told = [name for one in self.columns.values() for name in _names_in(one)]
        told += [one.column for one in self.skip_rows_where]
        return tuple(dict.fromkeys(name for name in told if "." in name))

    @property
    def epoch(self) -> int | None:
        """Microseconds a unit where all times are counted in one unit."""
        return EPOCHS.get(self.time_formats[0]) if len(self.time_formats) == 1 else None

    def dropped(self, name: str) -> bool:
        """Whether a delivered column must not be taken."""
        return name.casefold() in {dropped.casefold() for dropped in self.drop}

    def unit_of(self, column: str) -> Unit:
        """The unit in which a money column is delivered."""
        return self.units.get(column, self.units.get("money", "currency"))

    def delivered_as(self, column: str, delivered: Iterable[str]) -> str | None:
        """The delivered column that becomes ``column``, of several that are joined the first; None
        for constants and where there is none."""
        return next(iter(self.all_delivered_as(column, delivered)), None)

    def all_delivered_as(self, column: str, delivered: Iterable[str]) -> tuple[str, ...]:
        """The delivered columns that become ``column``, more than one where they are joined. Names
        match whatever their case, as in SQL."""
        told = self.columns.get(column, ())
        if isinstance(told, Constant | Chosen):
            return ()
        names = {name.casefold(): name for name in delivered}
        if isinstance(told, Joined):
            joined = [names.get(name.casefold()) for name in told.join]
            found = [name for name in joined if name]
            return tuple(found) if len(found) == len(joined) else ()
        wanted = ((told,) if isinstance(told, str) else told) + (column,)
        usable = (names.get(name.casefold()) for name in wanted)
        return tuple(name for name in usable if name and not self.dropped(name))[:1]

    def unknown(self, delivered: Collection[str]) -> Iterator[str]:
        """The columns of the contract for which the mapping names only columns that are not among
        the ``delivered``, and conditions on such ones: what is told of each."""
        names = {name.casefold() for name in delivered}
        for one in self.skip_rows_where:
            if one.column.casefold() not in names:
                yield f"skip_rows_where: {_unknown(one.column, delivered)}"
        for column, told in self.columns.items():
            lost = [name for name in _names_in(told) if name.casefold() not in names]
            instead = self.all_delivered_as(column, delivered) or column in self.not_delivered
            if lost and not instead:
                yield f"columns: {column}: {_unknown(lost[0], delivered)}"

    def kept_aside(self, delivered: Iterable[str]) -> tuple[str, ...]:
        """The delivered columns that go to ``extra``: those not taken and not dropped.

        A column named like an identifier of the contract never goes there: the mapping took
        another one in its place, and nothing stores identifiers as delivered. Nor does one that is
        named as an identifier is, for the second time (``user_id_1``, as readers call it).
        """
        names = tuple(delivered)
        taken = {name for column in COLUMNS for name in self.all_delivered_as(column, names)}
        own = {name for one in IDENTIFIERS for name in self.all_delivered_as(one, names)}
        ids = {*IDENTIFIERS, *(name.casefold() for name in own)}
        return tuple(
            name
            for name in names
            if name not in taken
            and not self.dropped(name)
            and REPEATED.sub("", name.casefold()) not in ids
        )

    def skipped_sql(self, delivered: Mapping[str, str]) -> str:
        """Whether a row is skipped; never null. A condition on a column that is not delivered holds
        for no row."""
        names = {name.casefold(): name for name in delivered}
        found = [
            one.sql(as_text(column_sql(name), delivered[name].upper()))
            for one in self.skip_rows_where
            if (name := names.get(one.column.casefold()))
        ]
        return " or ".join(found) or "false"

    def note_sql(self) -> str:
        """The ``note`` of every row: by it the gates know which columns nobody waits for."""
        if not self.not_delivered:
            return "cast(null as varchar)"
        return f"cast({literal('not_delivered: ' + ', '.join(self.not_delivered))} as varchar)"

    def select_list(self, delivered: Mapping[str, str], zone: str) -> str:
        """The contract's event columns as text, as ``raw.events`` wants them, then ``extra`` and
        ``happened_at``.

        ``delivered`` maps the delivered columns to their DuckDB types; the relation must have the
        alias `RELATION`. ``zone`` is that of times without offset where the mapping names none.
        ``event_time`` is UTC with microseconds, or as delivered where it is no time;
        ``happened_at`` is the same as a timestamp, or null. ``extra`` is a JSON object of the
        columns `kept_aside` that have a value, or null.
        """
        happened = self.time_sql(delivered, zone)
        told = {column: self._text_sql(column, delivered) for column in COLUMNS}
        if self.negative_quantity == "return":
            back = (
                f"try_cast({told['quantity']} as double) < 0 "
                f"and {told['event_type']} in ('purchase', 'return')"
            )
            told |= {
                "event_type": f"case when {back} then 'return' else {told['event_type']} end",
                "quantity": f"case when {back} then substr(trim({told['quantity']}), 2) "
                f"else {told['quantity']} end",
            }
        told["event_time"] = (
            f"coalesce(strftime({happened}, '{TIME_TEXT}'), {told['event_time']})"
            if happened != "cast(null as timestamp)"
            else told["event_time"]
        )
        told["extra"] = json_sql({name: delivered[name] for name in self.kept_aside(delivered)})
        told["happened_at"] = happened
        return ",\n    ".join(f"{sql} as {name}" for name, sql in told.items())

    def time_sql(self, delivered: Mapping[str, str], zone: str) -> str:
        """When a row happened: a UTC timestamp, null where the delivered value is no time."""
        told = self.columns.get("event_time")
        if isinstance(told, Constant):
            return self._time_of(literal(told.value), "VARCHAR", zone)
        name = self.delivered_as("event_time", delivered)
        if name is None:
            return "cast(null as timestamp)"
        if isinstance(told, Joined):
            return self._time_of(_joined_sql(told, delivered), "VARCHAR", zone)
        return self._time_of(column_sql(name), delivered[name].upper(), zone)

    def _time_of(self, column: str, type_: str, zone: str) -> str:
        zone = self.time_zone or zone
        if type_ in ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"):
            return _finite(f"timezone('UTC', {column})")
        if type_.startswith(("TIMESTAMP", "DATE")):
            return _finite(to_utc(f"cast({column} as timestamp)", zone))
        text = as_text(column, type_)
        tried = [_written_sql(text, format_, zone) for format_ in self.time_formats]
        return tried[0] if len(tried) == 1 else f"coalesce({', '.join(tried)})"

    def moment_sql(self, column: str, type_: str, zone: str) -> str:
        """`time_sql` of a table beside the events, whose times may be ISO in spite of the
        ``time_format``."""
        told = self._time_of(column, type_.upper(), zone)
        if ISO in self.time_formats or type_.upper().startswith(("TIMESTAMP", "DATE")):
            return told
        plain = self.model_copy(update={"time_format": None})
        return f"coalesce({told}, {plain._time_of(column, type_.upper(), zone)})"

    def _text_sql(self, column: str, delivered: Mapping[str, str]) -> str:
        told = self.columns.get(column)
        name = self.delivered_as(column, delivered)
        if isinstance(told, Constant):
            text = f"cast({literal(told.value)} as varchar)"
        elif isinstance(told, Chosen):
            text = _chosen_sql(told, delivered)
        elif name is None:
            return "cast(null as varchar)"
        elif isinstance(told, Joined):
            text = _joined_sql(told, delivered)
        else:
            text = as_text(column_sql(name), delivered[name].upper())
        if values := self.values.get(column):
            cases = " ".join(
                f"when {literal(found)} then {literal(meant)}" for found, meant in values.items()
            )
            text = f"case {text} {cases} else {text} end"
        if column in NUMBERS and self.number_format:
            text = self.number_format.sql(text)
        if column in MONEY and self.unit_of(column) == "cents":
            text = cents_sql(text)
        return text


def load_mapping(path: Path) -> SourceMapping:
    """Read and check the mapping; a file that is not there says nothing.

    Raises `MappingError` with one line a problem.
    """
    if not path.exists():
        return SourceMapping()
    return load(
        path,
        SourceMapping,
        MappingError,
        holds="keys such as 'columns:' and 'values:'",
        texts=True,
        shapes=_shape,
        check=_contradictions,
    )


def cents_sql(text: str) -> str:
    """Minor units as an amount, exactly; what is no whole number of them stays no amount."""
    number = f"try_cast({text} as decimal(18, 4))"
    return (
        f"case when {number} is null then {text} "
        f"when {number} <> trunc({number}) then {text} || ' cents' "
        f"else cast(cast({number} as decimal(18, 0)) * cast(0.01 as decimal(2, 2)) as varchar) end"
    )


def _contradictions(mapping: SourceMapping) -> Iterator[Problem]:
    """What each key alone allows, but not together: where, and what is wrong."""
    yield from limit_problems(mapping.gates)
    for name in mapping.ids:
        if name not in IDENTIFIERS:
            yield ("ids", name), f"ids: {name!r} is spelled as it is; {nearest(name, IDENTIFIERS)}"
    known: dict[str, tuple[Collection[str], str]] = {
        "columns": (COLUMNS, "is no column of the contract"),
        "values": (tuple(name for name in COLUMNS if name != "event_time"), "takes no values"),
        "units": (("money", *MONEY, "list_price", "unit_cost"), "has no unit"),
        "item_columns": (ITEM_COLUMNS, "is no column of items"),
        "user_columns": (tuple(USER_COLUMNS)[:-1], "is no column of users"),
        "identity_columns": (LINK_COLUMNS, "is no column of identities"),
        "consent_columns": (CONSENT_COLUMNS, "is no column of consents"),
    }
    for key, (names, problem) in known.items():
        for name in getattr(mapping, key):
            if name not in names and not (key == "user_columns" and name.startswith("consent_")):
                yield (key, name), f"{key}: {name!r} {problem}; {nearest(name, names)}"
    for column, told in mapping.columns.items():
        if isinstance(told, Chosen) and column == "event_time":
            yield ("columns", column), "columns: event_time: expected a column: times have no cases"
        for name in _names_in(told):
            if mapping.dropped(name):
                yield ("columns", column), f"columns: {column}: {name!r} is under drop: too"
    for outer, inner in pairwise(mapping.exploded):
        if not inner.startswith(f"{outer}."):
            yield ("explode",), f"explode: {inner!r} should lie in {outer!r}: {outer}.{inner}"
    for name in mapping.not_delivered:
        if name not in COLUMNS:
            yield (
                ("not_delivered",),
                f"not_delivered: {name!r} is no column; {nearest(name, COLUMNS)}",
            )
    for place, name in enumerate(mapping.header):
        if name.casefold() in {before.casefold() for before in mapping.header[:place]}:
            yield ("header",), f"header: {name!r} is named twice"
    for name in mapping.drop:
        if name.casefold() in ("event_time", "event_type") and name not in mapping.columns:
            yield ("drop",), f"drop: {name!r} is required; without it no row can be used"


def _unknown(name: str, delivered: Collection[str]) -> str:
    return f"nothing has a column {name!r}; {nearest(name, delivered)}"


def _names_in(told: Constant | Chosen | Joined | str | tuple[str, ...]) -> tuple[str, ...]:
    """The delivered columns that are named in place of one of the contract's."""
    match told:
        case Constant():
            return ()
        case Chosen():
            return tuple(one.column for one in told.cases)
        case Joined():
            return told.join
        case str():
            return (told,)
        case _:
            return told


def _shape(at: Location) -> tuple[Location, str] | None:
    """What is expected where several shapes are allowed, each of which failed."""
    if at[0] == "columns" and len(at) > 2:
        return at[:2], (
            "expected a delivered column's name, a list of names, {value: a constant}, "
            "{join: [a date, a time]}, or {cases: [{column: …, one_of: […], value: …}], "
            "otherwise: …}"
        )
    if at[0] == "time_format" and len(at) > 1:
        return at[:1], "expected a time format such as '%d.%m.%Y %H:%M', or a list of them"
    if at[0] == "explode" and len(at) > 1:
        return at[:1], "expected what holds a list, such as orders, or [orders, orders.line_items]"
    if at[0] == "events" and len(at) > 1:
        return at[:1], "expected a glob such as logs/**/*.csv, or a list of them"
    return None


def _written_sql(text: str, format_: str, zone: str) -> str:
    """The UTC timestamp that a text tells in one time format, null where it is not written so."""
    if format_ == ISO:
        return moment_sql(text, zone)
    if format_ in EPOCHS:
        micros = f"try_cast({text} as decimal(24, 6)) * {EPOCHS[format_]}"
        return (
            f"case when abs({micros}) < {LATEST_EPOCH} "
            f"then make_timestamp(cast({micros} as bigint)) end"
        )
    if format_ == EXCEL:
        days = f"try_cast({text} as decimal(28, 10))"  # Of a day, as exactly as a cell has it.
        millis = f"cast(round({days} * 86400000, 0) as bigint)"
        moment = f"timestamp '1899-12-30' + to_milliseconds({millis})"
        return f"case when {days} between 1 and 2958465 then {to_utc(moment, zone)} end"
    parsed = f"try_strptime({text}, {literal(format_)})"
    if re.search(r"%[zZ]", format_.replace("%%", "")):
        return f"timezone('UTC', {parsed})"
    return to_utc(parsed, zone)


def _chosen_sql(told: Chosen, delivered: Mapping[str, str]) -> str:
    """A case on a column that is not delivered holds for no row."""
    names = {name.casefold(): name for name in delivered}
    cases = " ".join(
        f"when {one.sql(as_text(column_sql(name), delivered[name].upper()))} "
        f"then {literal(one.value)}"
        for one in told.cases
        if (name := names.get(one.column.casefold()))
    )
    otherwise = f"cast({literal(told.otherwise)} as varchar)"
    return f"case {cases} else {otherwise} end" if cases else otherwise


def _joined_sql(told: Joined, delivered: Mapping[str, str]) -> str:
    names = {name.casefold(): name for name in delivered}
    found = [names[name.casefold()] for name in told.join]
    texts = ", ".join(as_text(column_sql(name), delivered[name].upper()) for name in found)
    return f"nullif(concat_ws(' ', {texts}), '')"


def as_text(column: str, type_: str) -> str:
    """A delivered value as text; empty text is no value. Whole numbers that came as floating
    point (ids beside nulls do, in Python) have no decimals."""
    if type_.startswith("VARCHAR"):
        return f"nullif({column}, '')"
    if type_ == "JSON":
        return f"nullif({column} ->> '$', '')"
    if type_ in ("DOUBLE", "FLOAT"):
        return (
            f"case when {column} = trunc({column}) and abs({column}) < 1e15 "
            f"then cast(cast({column} as bigint) as varchar) else cast({column} as varchar) end"
        )
    if type_.startswith(("STRUCT", "MAP", "UNION")) or type_.endswith("]"):
        return f"cast(to_json({column}) as varchar)"
    return f"cast({column} as varchar)"


def json_sql(kept: Mapping[str, str]) -> str:
    """A JSON object of the columns that have a value, as text; null where none has."""
    if not kept:
        return "cast(null as varchar)"
    fields = ", ".join(_field_sql(name, type_.upper()) for name, type_ in kept.items())
    return f"nullif('{{' || concat_ws(', ', {fields}) || '}}', '{{}}')"


def _field_sql(name: str, type_: str) -> str:
    key = "to_json(" + literal(name) + ") || ': ' || "
    if type_ == "JSON":
        return f"{key}nullif(cast({column_sql(name)} as varchar), 'null')"
    if type_.startswith("VARCHAR"):
        return f"{key}to_json(nullif({column_sql(name)}, ''))"
    column = column_sql(name)
    if type_ in ("DOUBLE", "FLOAT"):  # JSON knows no infinity.
        return f"{key}case when isfinite({column}) then {column} else null end"
    if type_.startswith(("DECIMAL", "HUGEINT", "UHUGEINT", "BIGINT", "UBIGINT", "INTEGER")):
        return f"{key}{column}"  # Exactly; to_json makes them floating point.
    return f"{key}to_json({column})"


def _finite(timestamp: str) -> str:
    """DuckDB reads 'infinity' as a time; it lies in no partition."""
    return f"case when isfinite({timestamp}) then {timestamp} end"


def column_sql(name: str) -> str:
    quoted = name.replace('"', '""')
    return f'{RELATION}."{quoted}"'


def globs(mapping: SourceMapping) -> Sequence[str]:
    """Where a folder's event files are."""
    told = (mapping.events,) if isinstance(mapping.events, str) else mapping.events
    return told or ("events/**/*",)
