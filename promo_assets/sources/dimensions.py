"""The tables beside the events: items, users, identities, consents, of a folder or a database.

They are read whole and used whole: a value that can't be read, a missing or a repeated key is an
error that names file, row and value, since half an item table would be wrong and look right.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb

from promo_assets.people.identifiers import value_sql
from promo_assets.sources import (
    CONSENT_COLUMNS,
    ITEM_COLUMNS,
    LINK_COLUMNS,
    USER_COLUMNS,
    SourceError,
    nothing,
)
from promo_assets.sources.content import (
    UnreadableFileError,
    address_of,
    cause_of,
    content_of,
    unfinished,
)
from promo_assets.sources.formats import KNOWN, ROW, Layout, format_of, layout_of
from promo_assets.sources.mapping import (
    RELATION,
    SourceMapping,
    as_text,
    cents_sql,
    column_sql,
    json_sql,
)
from promo_assets.warehouse.publish import Query

CONSENT = "consent_"
EXACT = "decimal(28, 8)"
"""What amounts are read as, before they are found to be of two decimals."""

EXPECTED = {
    "decimal(18, 2)": "an amount such as 3.50",
    "boolean": "true or false",
    "timestamp": "a time such as 2026-11-24 10:00:00",
    "varchar": "a value",
}


class Delivered(Protocol):
    """A table as it is delivered."""

    @property
    def place(self) -> str:
        """What messages call it."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns."""

    def types(self, aside: Collection[str]) -> Mapping[str, str]:
        """Their DuckDB types; ``aside`` names those that are wanted as JSON."""

    def rows(self, aside: Collection[str]) -> Query:
        """Every row: the columns, and `ROW`."""

    def row(self, number: int) -> str:
        """What messages call the row that has ``number`` as `ROW`."""

    def failure(self, error: duckdb.Error) -> SourceError:
        """The error for a table that can't be read."""


@dataclass(frozen=True)
class Table:
    """A delivered table, and which of its columns become which: target to delivered."""

    stem: str
    delivered: Delivered
    names: Mapping[str, str]


@dataclass(frozen=True)
class TableFile:
    """A table that is a file of its own."""

    stem: str
    path: Path
    layout: Layout

    @classmethod
    def find(
        cls, folder: Path, stem: str, mapping: SourceMapping, connection: duckdb.DuckDBPyConnection
    ) -> TableFile | None:
        """The file of a table in ``folder``, if there is one."""
        called = [
            path
            for path in sorted(folder.iterdir())
            if path.name.split(".")[0].casefold() == stem and path.is_file()
        ]
        found = [path for path in called if format_of(path)]
        if called and not found:
            raise _unreadable(called[0], f"its ending is none of {KNOWN}")
        if len(found) > 1:
            raise SourceError(
                f"{folder}: {' and '.join(path.name for path in found)} are both there; "
                "keep one of them"
            )
        if not found:
            return None
        format_ = format_of(found[0])
        try:
            content = content_of(found[0], text=format_ != "parquet", lines=format_ == "csv")
            if content.unfinished and mapping.unfinished == "hold":
                raise UnreadableFileError(unfinished(content))
            return cls(stem, found[0], layout_of(found[0], connection))
        except UnreadableFileError as error:
            raise _unreadable(found[0], str(error)) from error

    @property
    def place(self) -> str:
        return str(self.path)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.layout.columns)

    def types(self, aside: Collection[str]) -> Mapping[str, str]:
        return self.layout.types(aside)

    def rows(self, aside: Collection[str]) -> Query:
        file = f"file_{self.stem}"
        return Query(self.layout.relation(f"${file}", aside), {file: [address_of(self.path)]})

    def row(self, number: int) -> str:
        return f"row {number} (counted from 0)"

    def failure(self, error: duckdb.Error) -> SourceError:
        return _unreadable(self.path, cause_of(self.path, error))


class Dimensions:
    """The tables of one source, each as a query; no row where ``find`` knows no such table.

    Every method raises `SourceError` where a table can't be used as it is.
    """

    def __init__(
        self,
        find: Callable[[str], Delivered | None],
        mapping: SourceMapping,
        zone: str,
        connection: duckdb.DuckDBPyConnection,
    ) -> None:
        self._find, self._mapping, self._zone = find, mapping, zone
        self._connection = connection

    def items(self) -> Query:
        table = self.table("items")
        if table is None:
            return nothing(ITEM_COLUMNS)
        self._check(table, ITEM_COLUMNS, keys=("item_id",), required=("item_id",))
        return self._select(table, self._typed(table, ITEM_COLUMNS))

    def users(self) -> Query:
        table = self.table("users")
        if table is None:
            return nothing(USER_COLUMNS)
        purposes = self._purposes(table)
        told = {name: type_ for name, type_ in USER_COLUMNS.items() if name != "attributes"}
        checked = told | {CONSENT + purpose: "boolean" for purpose in purposes}
        self._check(table, checked, keys=("user_id",), required=("user_id",))
        types = self._types(table)
        listed = self._typed(table, told) | {
            "attributes": json_sql({name: types[name] for name in self.attributes(table)})
        }
        return self._select(table, listed)

    def device_links(self) -> Query:
        table = self.table("identities")
        if table is None:
            return nothing(LINK_COLUMNS)
        pair = ("device_id", "user_id")
        self._check(table, LINK_COLUMNS, keys=pair, required=pair)
        return self._select(table, self._typed(table, LINK_COLUMNS))

    def consents(self) -> Query:
        """What ``consents.*`` states, and every ``consent_<purpose>`` of ``users.*``, as since
        ever."""
        selects: list[Query] = []
        if table := self.table("consents"):
            keys = ("user_id", "device_id", "purpose", "since")
            self._check(table, CONSENT_COLUMNS, keys=keys, required=("purpose", "granted"))
            self._whose(table)
            selects.append(self._select(table, self._typed(table, CONSENT_COLUMNS)))
        if users := self.table("users"):
            self.users()
            selects += [
                self._select(users, self._consent(users, purpose), f"{purpose_column} is not null")
                for purpose, purpose_column in self._purposes(users).items()
            ]
        if not selects:
            return nothing(CONSENT_COLUMNS)
        told = " union all ".join(query.sql for query in selects)
        return Query(told, {k: v for query in selects for k, v in query.parameters.items()})

    def table(self, stem: str) -> Table | None:
        """A table with the columns that are taken of it, if it is delivered."""
        found = self._find(stem)
        return Table(stem, found, self._names(stem, found.columns)) if found else None

    def attributes(self, users: Table) -> list[str]:
        """The columns of ``users.*`` that become its ``attributes``."""
        taken = {name.casefold() for name in (*users.names.values(), *users.names)}
        return [
            name
            for name in users.delivered.columns
            if name.casefold() not in taken
            and not name.casefold().startswith(CONSENT)
            and not self._mapping.dropped(name)
        ]

    def _names(self, stem: str, told: tuple[str, ...]) -> dict[str, str]:
        renames, columns = {
            "items": (self._mapping.item_columns, ITEM_COLUMNS),
            "users": (self._mapping.user_columns, USER_COLUMNS),
            "identities": (self._mapping.identity_columns, LINK_COLUMNS),
            "consents": (self._mapping.consent_columns, CONSENT_COLUMNS),
        }[stem]
        delivered = {name.casefold(): name for name in told}
        names: dict[str, str] = {}
        for column in dict.fromkeys((*columns, *renames)):
            for wanted in filter(None, (renames.get(column), column)):
                name = delivered.get(wanted.casefold())
                if name and column != "attributes" and not self._mapping.dropped(name):
                    names.setdefault(column, name)
        return names

    def _purposes(self, users: Table) -> dict[str, str]:
        """The purposes that ``users.*`` states consent for, with the SQL of each as text."""
        found = {
            name.casefold().removeprefix(CONSENT): name
            for name in users.delivered.columns
            if name.casefold().startswith(CONSENT) and not self._mapping.dropped(name)
        }
        found |= {
            column.removeprefix(CONSENT): name
            for column, name in users.names.items()
            if column.startswith(CONSENT)
        }
        return {purpose: self._text(users, name) for purpose, name in found.items()}

    def _consent(self, users: Table, purpose: str) -> dict[str, str]:
        return {
            "user_id": self._text(users, users.names["user_id"]),
            "device_id": "cast(null as varchar)",
            "purpose": "'" + purpose.lower().replace("'", "''") + "'",
            "granted": f"cast({self._purposes(users)[purpose]} as boolean)",
            "since": "cast(null as timestamp)",
        }

    def _types(self, table: Table) -> Mapping[str, str]:
        return table.delivered.types(self._aside(table))

    def _aside(self, table: Table) -> Collection[str]:
        return self.attributes(table) if table.stem == "users" else ()

    def _text(self, table: Table, name: str) -> str:
        return as_text(column_sql(name), self._types(table)[name])

    def _texts(self, table: Table, columns: Mapping[str, str]) -> dict[str, str]:
        """Every column as delivered; null where it is not."""
        purposes = self._purposes(table) if table.stem == "users" else {}
        return {
            column: purposes[column.removeprefix(CONSENT)]
            if column.removeprefix(CONSENT) in purposes
            else self._text(table, table.names[column])
            if column in table.names
            else "cast(null as varchar)"
            for column in columns
        }

    def _typed(self, table: Table, columns: Mapping[str, str]) -> dict[str, str]:
        """Every column in its type, null where it can't be."""
        types = self._types(table)
        found = {}
        for column, text in self._texts(table, columns).items():
            type_ = columns[column]
            if column == "purpose":  # However a refusal spells it, it is one.
                text = f"lower({value_sql(text)})"
            if type_ == "timestamp" and column in table.names:
                name = table.names[column]
                found[column] = self._mapping.moment_sql(column_sql(name), types[name], self._zone)
            elif type_ == "decimal(18, 2)":
                found[column] = self._amount(column, text)
            else:
                found[column] = f"try_cast({text} as {type_})"
        return found

    def _amount(self, column: str, text: str) -> str:
        """An amount: as ``number_format`` has it, or else plain; null where a part of it would be
        lost."""
        format_ = self._mapping.number_format
        told = [format_.sql(text)] if format_ else []
        if self._mapping.unit_of(column) == "cents":
            tried = [f"try_cast({cents_sql(one)} as {EXACT})" for one in (*told, text)]
        else:
            tried = [f"try_cast(replace({one}, '_', '?') as {EXACT})" for one in (*told, text)]
        amount = f"coalesce({', '.join(tried)})"
        rest = f"abs({amount} - round({amount}, 2))"
        return f"case when {rest} <= 0.000001 then try_cast({amount} as decimal(18, 2)) end"

    def _check(
        self,
        table: Table,
        columns: Mapping[str, str],
        *,
        keys: tuple[str, ...],
        required: tuple[str, ...],
    ) -> None:
        if missing := [name for name in required if name not in table.names]:
            raise SourceError(self._without(table, missing[0]))
        texts, typed = self._texts(table, columns), self._typed(table, columns)
        listed = {f"{name} text": text for name, text in texts.items()} | typed
        rows = self._select(table, listed, row=True)
        wrong = " or ".join(
            f'("{name} text" is not null and "{name}" is null)' for name in columns
        ) + "".join(f' or "{name}" is null' for name in required)
        found = self._one(
            table, Query(f"from ({rows.sql}) where {wrong} order by source_row", rows.parameters)
        )
        if found:
            raise SourceError(_wrong_value(table, columns, required, found))
        same = ", ".join(f'"{name}"' for name in keys)
        twice = self._one(
            table,
            Query(
                f"select min(source_row) as first_row, max(source_row) as last_row, {same} "
                f"from ({rows.sql}) group by {same} having count(*) > 1 order by all",
                rows.parameters,
            ),
        )
        if twice:
            told = ", ".join(f"{name} {twice[name]!r}" for name in keys if twice[name] is not None)
            first, last = (table.delivered.row(twice[name]) for name in ("first_row", "last_row"))
            raise SourceError(
                f"{table.delivered.place}: {first} and {last} have the same {told}; "
                "keep one of them"
            )

    def _whose(self, consents: Table) -> None:
        texts = self._texts(consents, {"user_id": "varchar", "device_id": "varchar"})
        rows = self._select(consents, texts, row=True)
        found = self._one(
            consents,
            Query(
                f"from ({rows.sql}) where (user_id is null) = (device_id is null) "
                "order by source_row",
                rows.parameters,
            ),
        )
        if found:
            place, row = consents.delivered.place, consents.delivered.row(found["source_row"])
            raise SourceError(
                f"{place}: {row}: expected either a user_id or a device_id, found "
                f"{found['user_id']!r} and {found['device_id']!r}"
            )

    def _without(self, table: Table, column: str) -> str:
        names = table.delivered.columns
        near = difflib.get_close_matches(column, names, n=1, cutoff=0.4)
        key = {"items": "item", "users": "user", "identities": "identity", "consents": "consent"}
        told = f"; did you mean {near[0]!r}?" if near else ""
        return (
            f"{table.delivered.place}: has no column {column!r} (found {', '.join(names)}){told} "
            f"Rename it, or add to mapping.yaml: {key[table.stem]}_columns: "
            f"{{{column}: {near[0] if near else '...'}}}"
        )

    def _select(
        self, table: Table, listed: Mapping[str, str], where: str = "true", row: bool = False
    ) -> Query:
        rows = table.delivered.rows(self._aside(table))
        shown = ", ".join(f'{sql} as "{name}"' for name, sql in listed.items())
        place = f', {RELATION}."{ROW}" as source_row' if row else ""
        return Query(
            f"select {shown}{place} from ({rows.sql}) as {RELATION} where {where}",
            rows.parameters,
        )

    def _one(self, table: Table, query: Query) -> dict[str, Any]:
        """The first row of a query over the table, or nothing."""
        try:
            rows = self._connection.execute(f"{query.sql} limit 1", dict(query.parameters))
            names = [column[0] for column in rows.description or ()]
            found = rows.fetchone()
        except duckdb.Error as error:
            raise table.delivered.failure(error) from None
        return dict(zip(names, found, strict=True)) if found else {}


def _wrong_value(
    table: Table,
    columns: Mapping[str, str],
    required: tuple[str, ...],
    row: Mapping[str, Any],
) -> str:
    column = next(
        name
        for name in columns
        if row[name] is None and (row[f"{name} text"] is not None or name in required)
    )
    value = row[f"{column} text"]
    found = "nothing" if value is None else repr(value)
    return (
        f"{table.delivered.place}: {table.delivered.row(row['source_row'])}, column "
        f"{table.names.get(column, column)}: {found} found, expected {EXPECTED[columns[column]]}"
    )


def _unreadable(path: Path, reason: str) -> SourceError:
    return SourceError(f"{path}: can't be read: {reason}. Repair or remove the file")
