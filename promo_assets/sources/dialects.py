"""What MySQL (MariaDB) and PostgreSQL do not have in common: how DuckDB reaches them, their types,
their way to write a time and to floor it.

Here: statements that the server runs, as text. Not here: running them, and what the rows mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Clock = Literal["instant", "wall", "day", "number", "text"]
"""How a column can tell a time: with a zone, without one, as a date, counted, or as text."""

ISO_TIME = (
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}"
    "([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?"
    "(Z|[+-](0[0-9]|1[0-8])(:?[0-9]{2})?)?)?$"
)
"""Times as text whose first ten characters are a date at most a day from the UTC day."""

LAST_READABLE = "294247-01-01"
"""DuckDB's timestamps end ten days later; PostgreSQL's go on, up to 'infinity'."""

QUARTER = 900
"""Seconds to which times are floored: days of every zone of today begin at a quarter of an hour."""


@dataclass(frozen=True)
class Column:
    """A column of a table: ``told`` is what the server selects so that no value changes on its
    way, ``read`` what DuckDB makes of it (``{}`` is the column) where its type says too little."""

    name: str
    told: str
    clock: Clock | None = None
    read: str = "{}"
    is_key: bool = False


@dataclass(frozen=True)
class Dialect:
    """One kind of server.

    ``query`` is DuckDB's function that sends a statement as it is, ``arguments`` what it takes
    besides. ``options`` maps what a URL may ask for to the name in a connection string,
    and ``values`` PostgreSQL's words for it to the server's own.
    ``columns_sql`` gives the statement that lists a table's columns, ``column`` a `Column` of each
    row of it. ``utc`` ends a time with a zone as UTC. ``floor`` holds, by clock, a time floored to
    `QUARTER`. ``no_time`` finds what has the type of a time and is none that DuckDB can read,
    ``iso_text`` what may be a time between two dates. ``denied`` is in messages of servers that
    answer and refuse.
    """

    name: str
    secret: str
    port: int
    package: str
    query: str
    quote: str
    utc: str
    columns_sql: Callable[[str | None, str], str]
    column: Callable[[Sequence[Any]], Column]
    floor: Mapping[Clock, str]
    no_time: str
    iso_text: str
    denied: tuple[str, ...]
    arguments: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def quoted(self, name: str) -> str:
        return self.quote + name.replace(self.quote, 2 * self.quote) + self.quote


def _mysql_literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _mysql_columns(schema: str | None, table: str) -> str:
    where = _mysql_literal(schema) if schema else "database()"
    # A cast, because MySQL tells its own catalogue as bytes.
    return (
        "select cast(column_name as char), cast(data_type as char), cast(column_type as char), "
        "coalesce(numeric_precision, 0), column_key = 'PRI' and (select count(*) from "
        "information_schema.columns as keyed where keyed.table_schema = c.table_schema and "
        "keyed.table_name = c.table_name and keyed.column_key = 'PRI') = 1 "
        f"from information_schema.columns as c where table_schema = {where} "
        f"and table_name = {_mysql_literal(table)} order by ordinal_position"
    )


MYSQL_WHOLE = ("tinyint", "smallint", "mediumint", "int", "bigint")
MYSQL_CLOCKS: Mapping[str, Clock] = {
    "timestamp": "instant",
    "datetime": "wall",
    "date": "day",
    "decimal": "number",
    **dict.fromkeys(MYSQL_WHOLE, "number"),
    **dict.fromkeys(("char", "varchar", "text", "tinytext", "mediumtext", "longtext"), "text"),
}
MYSQL_AS_IT_IS = (
    "float double year date datetime timestamp binary varbinary geometry "
    "tinyblob blob mediumblob longblob"
)


def _mysql_column(row: Sequence[Any]) -> Column:
    name, type_, full_type, precision, is_key = row
    column = "`" + name.replace("`", "``") + "`"
    whole = type_ in MYSQL_WHOLE
    if full_type.startswith(("tinyint(1)", "bit")):
        told = f"cast({column} as {'signed' if whole else 'unsigned'})"  # DuckDB makes booleans.
    elif whole or type_ in MYSQL_AS_IT_IS.split() or (type_ == "decimal" and precision <= 38):
        told = column
    else:  # Text of a binary collation, JSON, uuid would be bytes, longer decimals rounded.
        told = f"cast({column} as char)"
    read = {"timestamp": "timezone('UTC', {})", "json": "try_cast({} as json)"}.get(type_, "{}")
    return Column(name, told, MYSQL_CLOCKS.get(type_), read, whole and bool(int(is_key)))


# 62167219200 = to_seconds('1970-01-01').
_MYSQL_FLOOR = (
    f"timestampadd(second, {QUARTER} * (to_seconds({{0}}) div {QUARTER}) - 62167219200, "
    "cast('1970-01-01' as datetime))"
)

MYSQL = Dialect(
    name="mysql",
    secret="mysql",
    port=3306,
    package="duckdb_extension_mysql_scanner",
    query="mysql_query",
    quote="`",
    utc="",
    columns_sql=_mysql_columns,
    column=_mysql_column,
    floor={
        "instant": _MYSQL_FLOOR,
        "wall": _MYSQL_FLOOR,
        "day": "{}",
        "number": "{0} - mod({0}, {1})",
        "text": "{}",
    },
    # Zero and incomplete dates such as 2024-02-00, which some servers let in; DuckDB's null.
    no_time="month({0}) = 0 or dayofmonth({0}) = 0",
    iso_text="({time} not regexp '{iso}' or left({time}, 10) between '{first}' and '{last}')",
    denied=("Access denied", "not allowed to connect"),
    arguments=", stream_results := true",
    options={
        "socket": "socket",
        "sslmode": "ssl_mode",
        "ssl_mode": "ssl_mode",
        "ssl-mode": "ssl_mode",
        "ssl_ca": "ssl_ca",
        "ssl_cert": "ssl_cert",
        "ssl_key": "ssl_key",
    },
    values={
        "disable": "disabled",
        "prefer": "preferred",
        "require": "required",
        "verify-ca": "verify_ca",
        "verify-full": "verify_identity",
    },
    # Times with a zone come as UTC; a date with a zero month is null, not an error.
    settings={"mysql_session_time_zone": "+00:00", "mysql_incomplete_dates_as_nulls": True},
)


def _postgres_literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _postgres_columns(schema: str | None, table: str) -> str:
    parts = [part for part in (schema, table) if part]
    name = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
    return (
        "select attname::text, format_type(coalesce(nullif(typbasetype, 0), t.oid), null), "
        "typtype::text, typcategory::text, exists (select 1 from pg_index as i where "
        "i.indrelid = a.attrelid and i.indisprimary and i.indnkeyatts = 1 and "
        "i.indkey[0] = a.attnum) from pg_attribute as a join pg_type as t on t.oid = a.atttypid "
        f"where attrelid = to_regclass({_postgres_literal(name)}) and attnum > 0 "
        "and not attisdropped and has_column_privilege(attrelid, attnum, 'select') order by attnum"
    )


POSTGRES_WHOLE = ("smallint", "integer", "bigint")
POSTGRES_CLOCKS: Mapping[str, Clock] = {
    "timestamp with time zone": "instant",
    "timestamp without time zone": "wall",
    "date": "day",
    "numeric": "number",
    **dict.fromkeys(POSTGRES_WHOLE, "number"),
    **dict.fromkeys(("text", "character varying", "character"), "text"),
}
POSTGRES_AS_IT_IS = (*POSTGRES_WHOLE, "boolean", "uuid", "real", "double precision", "bytea")


def _postgres_column(row: Sequence[Any]) -> Column:
    name, type_, kind, category, is_key = row
    column = '"' + name.replace('"', '""') + '"'
    clock = POSTGRES_CLOCKS.get(type_)
    read = "{}"
    if category == "A" or kind == "c":  # Arrays and records keep their shape as JSON.
        told, read = f"to_json({column})::text", "cast({} as json)"
    elif type_ in ("json", "jsonb"):
        told, read = f"{column}::text", "cast({} as json)"
    elif clock in ("instant", "wall", "day"):
        told = f"case when {column} < '{LAST_READABLE}' then {column} end"
    elif type_ in POSTGRES_AS_IT_IS:
        told = column
    else:  # DuckDB reads numeric as floating point where it has no precision, and NaN as 0.
        told = f"{column}::text"
    return Column(name, told, clock, read, type_ in POSTGRES_WHOLE and bool(is_key))


_POSTGRES_FLOOR = (
    "case when {0} < '" + LAST_READABLE + "' then date_trunc('hour', {0}) "
    "+ floor(date_part('minute', {0}) / 15) * interval '15 minutes' end"
)

POSTGRESQL = Dialect(
    name="postgresql",
    secret="postgres",
    port=5432,
    package="duckdb_extension_postgres_scanner",
    query="postgres_query",
    quote='"',
    utc="+00",
    columns_sql=_postgres_columns,
    column=_postgres_column,
    floor={
        "instant": _POSTGRES_FLOOR,
        "wall": _POSTGRES_FLOOR,
        "day": "case when {0} < '" + LAST_READABLE + "' then {0} end",
        "number": "({0} - mod({0}, {1}))::text",
        "text": "{}::text",
    },
    no_time="{0} >= '" + LAST_READABLE + "'",
    iso_text=(
        "({time}::text !~ '{iso}' or "
        "left({time}::text, 10) collate \"C\" between '{first}' and '{last}')"
    ),
    denied=("authentication failed", "does not exist", "no pg_hba.conf entry", "no password"),
    options={
        "host": "host",
        "sslmode": "sslmode",
        "sslrootcert": "sslrootcert",
        "sslcert": "sslcert",
        "sslkey": "sslkey",
        "connect_timeout": "connect_timeout",
        "application_name": "application_name",
    },
    defaults={
        "client_encoding": "UTF8",
        "connect_timeout": "10",
        "application_name": "promo-assets",
    },
)

DIALECTS: Mapping[str, Dialect] = {
    "mysql": MYSQL,
    "mariadb": MYSQL,
    "postgresql": POSTGRESQL,
    "postgres": POSTGRESQL,
}
"""By a URL's scheme."""
