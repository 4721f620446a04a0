"""A MySQL, MariaDB or PostgreSQL database: tables ``events``, ``items``, ``users``,
``identities``, ``consents``, or as ``PROMO_MAPPING`` names them.

The server gets one select a table that names the columns and, for events, the bounds of the days:
a filter on the bare time column, which an index on it serves. What the server can't know (a zone's
clock changes, text that is no time) DuckDB decides afterwards, exactly. Not here: connecting
(``addresses.py``), and how the servers differ (``dialects.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path

import duckdb

from promo_assets.contract.days import Window
from promo_assets.contract.limits import Gates
from promo_assets.people.identifiers import Spellings
from promo_assets.sources import DeliveredDay, Delivery, SourceError, Taken
from promo_assets.sources.addresses import Address
from promo_assets.sources.content import reason_of
from promo_assets.sources.dialects import ISO_TIME, QUARTER, Column
from promo_assets.sources.dimensions import Dimensions
from promo_assets.sources.formats import ROW
from promo_assets.sources.mapping import (
    COLUMNS,
    ISO,
    LATEST_EPOCH,
    RELATION,
    SourceMapping,
    load_mapping,
)
from promo_assets.warehouse.publish import Query

EVENTS = """
with mapped as (
    select {mapped}, {place} as place
    from ({delivered}) as {relation}
    where not ({skipped})
),
dated as (
    select *, greatest(coalesce(cast(happened_at as date), $first), $first) as event_date
    from mapped
)
select
    * exclude (happened_at, place),
    $source as source,
    $table as source_file,
    {source_row} as source_row,
    {note} as note,
from dated
where event_date >= $start and event_date < $end
"""

LARGEST = 2**63 - 1

FINGERPRINTS = """
with counted as (
    select
        {happened_at} as happened_at,
        if({skipped}, 0, row_count) as row_count,
        if({skipped}, row_count, 0) as skipped,
        updated_at
    from ({delivered}) as {relation}
),
dated as (
    select *, greatest(coalesce(cast(happened_at as date), $first), $first) as day from counted
)
select day, cast(sum(row_count) as bigint), cast(sum(skipped) as bigint), {updated_at}
from dated
where day >= $start and day < $end
group by day
"""

# Clocks changed by less than a day nearly everywhere: offsets a day around a moment are all that
# the times of its day can have.
LOCAL_BOUNDS = """
select
    min(timezone($zone, timezone('UTC', $start + to_hours(hour))) - to_hours(hour)),
    max(timezone($zone, timezone('UTC', $end + to_hours(hour))) - to_hours(hour)),
from (select unnest(range(-26, 27)) as hour)
"""


@dataclass(frozen=True)
class DeliveredTable:
    """A table of the database: its name as told, its columns, and their DuckDB types."""

    name: str
    quoted: str
    columns: Mapping[str, Column]
    types: Mapping[str, str]

    @property
    def key(self) -> str | None:
        """The column that is its primary key, if that is one whole number."""
        return next((name for name, column in self.columns.items() if column.is_key), None)


@dataclass(frozen=True)
class DimensionTable:
    """A table beside the events: ``copy`` is what the server sent of it."""

    place: str
    table: DeliveredTable
    copy: str

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.table.columns)

    def types(self, aside: Collection[str]) -> Mapping[str, str]:
        return self.table.types

    def rows(self, aside: Collection[str]) -> Query:
        return Query(f"from {self.copy}", {})

    def row(self, number: int) -> str:
        if self.table.key:
            return f"the row with {self.table.key} {number}"
        return f"row {number} in the order of all columns (counted from 0)"

    def failure(self, error: duckdb.Error) -> SourceError:
        return SourceError(f"{self.place}: {reason_of(error)}")


@dataclass(frozen=True)
class Database:
    """The database at ``address``; ``first`` is the first partition, which takes older rows and
    those without a readable time too."""

    address: Address
    first: date
    zone: str
    mapping: SourceMapping
    version: str = "1"

    @classmethod
    def at(cls, delivery: Delivery) -> Database:
        """The database that the delivery names. Nothing is connected yet.

        Raises `SourceError` where the URL or the mapping is wrong.
        """
        address = Address.of(delivery.source, delivery.password)
        return cls(address, delivery.first, delivery.zone, _mapping(delivery.mapping))

    @property
    def name(self) -> str:
        return self.address.dialect.name

    def check(self) -> None:
        """Raise `SourceError` where the database can't be read as things are now."""
        with duckdb.connect() as connection:
            self._event_table(connection)

    @property
    def gates(self) -> Gates:
        return self.mapping.gates

    @property
    def ids(self) -> Spellings:
        return self.mapping.ids

    @property
    def equal_rows_kept(self) -> bool:
        return self.mapping.equal_rows == "keep"

    def take(self, window: Window, connection: duckdb.DuckDBPyConnection) -> Taken:
        """Counted first, read afterwards: a row that comes between is read, and makes its day late
        the next time somebody looks. The other way round it would be lost."""
        days = self.delivered(window, connection)
        return Taken(self._rows(window, connection), days)

    def _rows(self, window: Window, connection: duckdb.DuckDBPyConnection) -> Query:
        table = self._event_table(connection)
        where = self._where(table, window, connection)
        key = self._usable_key(table, connection)
        if key:
            place, source_row = f"{RELATION}.{_name(key)}", "cast(place as bigint)"
        else:
            place = f"row({', '.join(f'{RELATION}.{_name(name)}' for name in table.types)})"
            source_row = "row_number() over (partition by event_date order by place) - 1"
        sql = EVENTS.format(
            mapped=self.mapping.select_list(self._contents(table), self.zone),
            place=place,
            delivered=self._select(table, where),
            skipped=self.mapping.skipped_sql(table.types),
            relation=RELATION,
            source_row=source_row,
            note=self.mapping.note_sql(),
        )
        bounds = {"first": self.first, "start": window.start, "end": window.end}
        return Query(sql, bounds | {"source": self.name, "table": table.name})

    def items(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return self._dimensions(connection).items()

    def users(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return self._dimensions(connection).users()

    def device_links(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return self._dimensions(connection).device_links()

    def consents(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return self._dimensions(connection).consents()

    def delivered(
        self, window: Window, connection: duckdb.DuckDBPyConnection
    ) -> Mapping[date, DeliveredDay]:
        """Rows of each day, how they are read and, where a column tells it, when the newest of them
        was updated: counted by the server, a quarter of an hour at a time. Without such a column a
        row that changed in its place is not seen."""
        table = self._event_table(connection)
        times = self._time_columns(table)
        where = self._where(table, window, connection)
        read = ", ".join(
            f"{one.read.format(_name(one.name))} as {_name(one.name)}"
            for one in (*times, *self._asked(table, times))
        )
        counted = f"select * replace ({read}) from {self._sent(self._counts(table, times, where))}"
        types = self._types_of(counted, connection)
        skipped = self.mapping.skipped_sql(types)
        listed = self.mapping.select_list(self._contents(table), self.zone)
        read_as = sha256(f"{listed} {skipped}".encode()).hexdigest()[:8]
        sql = FINGERPRINTS.format(
            happened_at=self.mapping.time_sql(
                {one.name: types[one.name] for one in times}, self.zone
            ),
            skipped=skipped,
            updated_at=self._updated_text(table),
            delivered=counted,
            relation=RELATION,
        )
        bounds = {"first": self.first, "start": window.start, "end": window.end}
        try:
            rows = connection.execute(sql, bounds).fetchall()
        except duckdb.Error as error:
            raise self.address.explained(error) from None
        return {
            day: DeliveredDay(
                f"{count} rows read as {read_as}" + (f", updated {updated}" if updated else ""),
                {table.name: count},
                skipped,
            )
            for day, count, skipped, updated in rows
        }

    def span(self, connection: duckdb.DuckDBPyConnection) -> Window | None:
        """By the least and the largest time, which an index has. Text is not asked, nor times that
        are joined: they need not sort as their times do."""
        table = self._event_table(connection)
        column, *joined = self._time_columns(table)
        today = Window(self.first, max(self.first, datetime.now(UTC).date()) + timedelta(days=1))
        where = self._where(table, today, connection, older=False)
        if joined or column.clock == "text" or not where:
            return None
        quoted, name = self.address.dialect.quoted(column.name), _name(column.name)
        ends = " union all ".join(
            f"select {end}({quoted}) as {quoted} from {table.quoted}{where}"
            for end in ("min", "max")
        )
        read = f"select {column.read.format(name)} as {name} from {self._sent(ends)}"
        types = self._types_of(read, connection)
        happened = self.mapping.time_sql({column.name: types[column.name]}, self.zone)
        try:
            found = connection.execute(
                f"select cast(min({happened}) as date), cast(max({happened}) as date) "
                f"from ({read}) as {RELATION}"
            ).fetchone()
        except duckdb.Error as error:
            raise self.address.explained(error) from None
        first, last = found or (None, None)
        return None if first is None else Window.of((max(first, self.first), last))

    def _contents(self, table: DeliveredTable) -> dict[str, str]:
        """The columns that tell something of an event: not the row's number, which
        ``source_row`` has, nor when the row was updated, unless the mapping takes them."""
        apart = {table.key, self._updated_column(table)}
        apart -= {self.mapping.delivered_as(name, table.types) for name in COLUMNS}
        return {name: type_ for name, type_ in table.types.items() if name not in apart}

    # What the server is asked.

    def _dimensions(self, connection: duckdb.DuckDBPyConnection) -> Dimensions:
        named = {
            "items": self.mapping.items_table,
            "users": self.mapping.users_table,
            "identities": self.mapping.identities_table,
            "consents": self.mapping.consents_table,
        }

        @cache  # Each is asked for more than once, and is to be one and the same.
        def find(stem: str) -> DimensionTable | None:
            if f"{stem}_table" in self.mapping.model_fields_set and named[stem] is None:
                return None  # Told as null: a table of that name is something else.
            name = named[stem] or stem
            table = self._table(name, connection)
            if table is None and named[stem]:
                raise self._no_table(name, f"{stem}_table")
            return self._copied(stem, table, connection) if table else None

        return Dimensions(find, self.mapping, self.zone, connection)

    def _copied(
        self, stem: str, table: DeliveredTable, connection: duckdb.DuckDBPyConnection
    ) -> DimensionTable:
        """The table in a temporary one of the connection: it is checked before it is used, and
        the server is to send it once."""
        copy = f"{self.address.alias}_{stem}"
        key = table.key
        order = ", ".join(_name(name) for name in table.columns)
        number = _name(key) if key else f"row_number() over (order by {order}) - 1"
        try:
            connection.execute(
                f"create or replace temporary table {copy} as "
                f"select *, {number} as {_name(ROW)} from ({self._select(table)})"
            )
        except duckdb.Error as error:
            raise self.address.explained(error) from None
        return DimensionTable(f"{self.address}: table {table.name!r}", table, copy)

    def _no_table(self, name: str, key: str) -> SourceError:
        return SourceError(
            f"{self.address}: there is no table {name!r}, or {self.address.user!r} may not read "
            f"it. Create it, grant it, or name another one in PROMO_MAPPING: {key}"
        )

    def _event_table(self, connection: duckdb.DuckDBPyConnection) -> DeliveredTable:
        name = self.mapping.events_table or "events"
        table = self._table(name, connection)
        if table is None:
            raise self._no_table(name, "events_table")
        self._time_columns(table)
        self._updated_column(table)
        for told in self.mapping.unknown(table.columns):
            raise SourceError(f"{self.address}: table {table.name!r}: PROMO_MAPPING: {told}")
        return table

    def _table(self, name: str, connection: duckdb.DuckDBPyConnection) -> DeliveredTable | None:
        """The table ``name`` (or ``schema.table``), None where there is none."""
        self.address.attach(connection)
        dialect = self.address.dialect
        schema, _, bare = name.rpartition(".")
        listed = self._sent(dialect.columns_sql(schema or None, bare))
        quoted = ".".join(dialect.quoted(part) for part in (schema, bare) if part)
        try:
            rows = connection.execute(f"from {listed}").fetchall()
            columns = {row[0]: dialect.column(row) for row in rows}
            if not columns:
                return None
            table = DeliveredTable(name, quoted, columns, {})
            types = self._types_of(self._select(table), connection)
        except duckdb.Error as error:
            raise self.address.explained(error) from None
        return replace(table, types=types)

    def _time_columns(self, table: DeliveredTable) -> list[Column]:
        """The columns of ``event_time``, more than one where the mapping joins them; a database
        that has none has no events for any day."""
        names = self.mapping.all_delivered_as("event_time", table.columns)
        if not names:
            raise SourceError(
                f"{self.address}: table {table.name!r} has no column 'event_time' (found "
                f"{', '.join(table.columns)}). Name the one that tells when an event happened in "
                "PROMO_MAPPING: columns: {event_time: …}"
            )
        return [table.columns[name] for name in names]

    def _updated_column(self, table: DeliveredTable) -> str | None:
        wanted = self.mapping.updated_at or "updated_at"
        found = {name.casefold(): name for name in table.columns}.get(wanted.casefold())
        if found is None and self.mapping.updated_at:
            raise SourceError(
                f"{self.address}: table {table.name!r} has no column {wanted!r}, which "
                f"PROMO_MAPPING names under updated_at (found {', '.join(table.columns)})"
            )
        return found

    def _usable_key(
        self, table: DeliveredTable, connection: duckdb.DuckDBPyConnection
    ) -> str | None:
        """The primary key, if every value of it can be a row number as it is."""
        key = table.key
        if key is None:
            return None
        quoted = self.address.dialect.quoted(key)
        sent = self._sent(
            f"select min({quoted}) as least, max({quoted}) as most from {table.quoted}"
        )
        sql = f"select least >= 0 and most <= {LARGEST} from {sent}"
        (fits,) = connection.execute(sql).fetchone() or (None,)
        return key if fits is not False else None

    def _select(self, table: DeliveredTable, where: str = "") -> str:
        """The table's rows as DuckDB reads them from the server."""
        dialect = self.address.dialect
        told = ", ".join(
            f"{column.told} as {dialect.quoted(name)}" for name, column in table.columns.items()
        )
        read = ", ".join(
            f"{column.read.format(_name(name))} as {_name(name)}"
            for name, column in table.columns.items()
        )
        return f"select {read} from {self._sent(f'select {told} from {table.quoted}{where}')}"

    def _counts(self, table: DeliveredTable, times: Sequence[Column], where: str) -> str:
        """Rows, and the newest update, by (floored) time and what may say that rows are skipped.
        What the mapping joins to a time is not floored: its parts are."""
        asked = self._asked(table, times)
        if len(times) == 1:
            told = [self._floored(times[0]), *(one.told for one in asked)]
        else:
            told = [one.told for one in (*times, *asked)]
        named = ", ".join(
            f"{what} as {self.address.dialect.quoted(one.name)}"
            for what, one in zip(told, (*times, *asked), strict=True)
        )
        updated = self._updated_column(table)
        newest = f"max({table.columns[updated].told})" if updated else "null"
        groups = ", ".join(str(1 + number) for number in range(len(told)))
        return (
            f"select {named}, count(*) as row_count, {newest} as updated_at "
            f"from {table.quoted}{where} group by {groups}"
        )

    def _floored(self, column: Column) -> str:
        dialect = self.address.dialect
        step = 0
        if column.clock == "number":
            step = QUARTER * (1_000_000 // (self.mapping.epoch or 1_000_000))
        return dialect.floor[column.clock or "text"].format(dialect.quoted(column.name), step)

    def _asked(self, table: DeliveredTable, times: Sequence[Column]) -> list[Column]:
        """The columns by which the mapping skips rows, beside those of the time."""
        wanted = {one.column.casefold() for one in self.mapping.skip_rows_where}
        found = (column for name, column in table.columns.items() if name.casefold() in wanted)
        return [column for column in found if column not in times]

    def _updated_text(self, table: DeliveredTable) -> str:
        """The newest update as text that no session's zone changes."""
        updated = self._updated_column(table)
        if updated is None:
            return "cast(null as varchar)"
        column = table.columns[updated]
        newest = column.read.format("max(updated_at)")
        if column.clock == "instant":
            newest = f"timezone('UTC', {newest})"
        return f"cast({newest} as varchar)"

    def _where(
        self,
        table: DeliveredTable,
        window: Window,
        connection: duckdb.DuckDBPyConnection,
        *,
        older: bool = True,
    ) -> str:
        """The bounds of the window's days on the bare time column; '' where they can't be told,
        so that every row is sent. What it lets through beyond the window DuckDB leaves out.
        ``older`` rows, and those without a time, belong to the first partition."""
        dialect, (column, *joined) = self.address.dialect, self._time_columns(table)
        name = dialect.quoted(column.name)
        start, end = (datetime.combine(day, time()) for day in (window.start, window.end))
        first = older and window.start <= self.first
        zone = self.mapping.time_zone or self.zone
        epoch = self.mapping.epoch
        no_time = dialect.no_time.format(name)
        match column.clock:
            case "day" if joined:
                least, most = _local(start, end, zone, connection)
                low, high = f"'{least.date()}'", f"'{_next_day(most)}'"
            case _ if joined:
                return ""
            case "instant":
                low, high = f"'{start}{dialect.utc}'", f"'{end}{dialect.utc}'"
            case "wall":
                low, high = (f"'{at}'" for at in _local(start, end, zone, connection))
            case "day":
                low, high = (f"'{_next_day(at)}'" for at in _local(start, end, zone, connection))
            case "number" if epoch:
                unit = 1_000_000 // epoch
                low, high = (str(_seconds(at) * unit) for at in (start, end))
                no_time = f"{name} >= {LATEST_EPOCH // epoch}"
            case "text" if self.mapping.time_formats == (ISO,) and not first:
                day_before = window.start - timedelta(days=1)
                near = {"iso": ISO_TIME, "first": day_before, "last": window.end}
                return f" where {dialect.iso_text.format(time=name, **near)}"
            case _:
                return ""
        if first:
            return f" where {name} < {high} or {name} is null or {no_time}"
        return f" where {name} >= {low} and {name} < {high}"

    def _sent(self, statement: str) -> str:
        """DuckDB's table function that sends the statement as it is."""
        dialect = self.address.dialect
        told = statement.replace("'", "''")
        return f"{dialect.query}('{self.address.alias}', '{told}'{dialect.arguments})"

    def _types_of(self, sql: str, connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
        try:
            return {row[0]: row[1] for row in connection.execute(f"describe {sql}").fetchall()}
        except duckdb.Error as error:
            raise self.address.explained(error) from None


def _mapping(path: Path | None) -> SourceMapping:
    if path is not None and not path.is_file():
        raise SourceError(f"PROMO_MAPPING={path}: there is no such file")
    mapping = load_mapping(path) if path else SourceMapping()
    if mapping.explode:
        raise SourceError(
            f"PROMO_MAPPING={path}: explode: is for files; make a view with a row for each element "
            "and name it under events_table:"
        )
    return mapping


def _local(
    start: datetime, end: datetime, zone: str, connection: duckdb.DuckDBPyConnection
) -> tuple[datetime, datetime]:
    """The least and the largest time that clocks of ``zone`` can show within UTC times, by
    DuckDB's own rules of the zone, which decide afterwards."""
    if zone == "UTC":
        return start, end
    bounds = {"zone": zone, "start": start, "end": end}
    found = connection.execute(LOCAL_BOUNDS, bounds).fetchone()
    assert found is not None
    return found[0], found[1]


def _next_day(at: datetime) -> date:
    """The first day that begins at or after a time."""
    return at.date() + timedelta(days=at.time() > time())


def _seconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1)) // timedelta(seconds=1)


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
