"""The tables beside a folder's events: ``items.*``, ``users.*``, ``identities.*``, ``consents.*``.

They are read whole and used whole: a value that can't be read, a missing or a repeated key is an
error that names file, row and value, since half an item table would be wrong and look right.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from promo_assets.sources import (
    CONSENT_COLUMNS,
    ITEM_COLUMNS,
    LINK_COLUMNS,
    USER_COLUMNS,
    SourceError,
    nothing,
)
from promo_assets.sources.formats import (
    NAME,
    ROW,
    Layout,
    UnreadableFileError,
    digest_of,
    layout_of,
    reason_of,
)
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

EXPECTED = {
    "decimal(18, 2)": "an amount such as 3.50",
    "boolean": "true or false",
    "timestamp": "a time such as 2026-11-24 10:00:00",
    "varchar": "a value",
}


@dataclass(frozen=True)
class TableFile:
    """One table's file, and which of its columns become which: target to delivered."""

    stem: str
    path: Path
    layout: Layout
    names: Mapping[str, str]


class Dimensions:
    """The tables of one folder, each as a query over its file; no row where there is no file.

    Every method raises `SourceError` where the file can't be used as it is.
    """

    def __init__(
        self,
        folder: Path,
        mapping: SourceMapping,
        zone: str,
        connection: duckdb.DuckDBPyConnection,
    ) -> None:
        self._folder, self._mapping, self._zone = folder, mapping, zone
        self._connection = connection

    def items(self) -> Query:
        table = self.file("items")
        if table is None:
            return nothing(ITEM_COLUMNS)
        self._check(table, ITEM_COLUMNS, keys=("item_id",), required=("item_id",))
        return self._select(table, self._typed(table, ITEM_COLUMNS))

    def users(self) -> Query:
        table = self.file("users")
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
        table = self.file("identities")
        if table is None:
            return nothing(LINK_COLUMNS)
        pair = ("device_id", "user_id")
        self._check(table, LINK_COLUMNS, keys=pair, required=pair)
        return self._select(table, self._typed(table, LINK_COLUMNS))

    def consents(self) -> Query:
        """What ``consents.*`` states, and every ``consent_<purpose>`` of ``users.*``, as since
        ever."""
        selects: list[Query] = []
        if table := self.file("consents"):
            keys = ("user_id", "device_id", "purpose", "since")
            self._check(table, CONSENT_COLUMNS, keys=keys, required=("purpose", "granted"))
            self._whose(table)
            selects.append(self._select(table, self._typed(table, CONSENT_COLUMNS)))
        if users := self.file("users"):
            self.users()
            selects += [
                self._select(users, self._consent(users, purpose), f"{purpose_column} is not null")
                for purpose, purpose_column in self._purposes(users).items()
            ]
        if not selects:
            return nothing(CONSENT_COLUMNS)
        told = " union all ".join(query.sql for query in selects)
        return Query(told, {k: v for query in selects for k, v in query.parameters.items()})

    def file(self, stem: str) -> TableFile | None:
        """The file of a table, if there is one."""
        found = [
            path
            for path in sorted(self._folder.glob(f"{stem}.*"))
            if NAME.fullmatch(path.name) and path.name.split(".")[0] == stem and path.is_file()
        ]
        if len(found) > 1:
            raise SourceError(
                f"{self._folder}: {' and '.join(path.name for path in found)} are both there; "
                "keep one of them"
            )
        if not found:
            return None
        try:
            digest_of(found[0])
            layout = layout_of(found[0], self._connection)
        except UnreadableFileError as error:
            raise _unreadable(found[0], str(error)) from error
        return TableFile(stem, found[0], layout, self._names(stem, layout))

    def attributes(self, users: TableFile) -> list[str]:
        """The columns of ``users.*`` that become its ``attributes``."""
        taken = {name.casefold() for name in (*users.names.values(), *users.names)}
        return [
            name
            for name, _ in users.layout.columns
            if name.casefold() not in taken
            and not name.casefold().startswith(CONSENT)
            and not self._mapping.dropped(name)
        ]

    def _names(self, stem: str, layout: Layout) -> dict[str, str]:
        renames, columns = {
            "items": (self._mapping.item_columns, ITEM_COLUMNS),
            "users": (self._mapping.user_columns, USER_COLUMNS),
            "identities": (self._mapping.identity_columns, LINK_COLUMNS),
            "consents": (self._mapping.consent_columns, CONSENT_COLUMNS),
        }[stem]
        delivered = {name.casefold(): name for name, _ in layout.columns}
        names: dict[str, str] = {}
        for column in dict.fromkeys((*columns, *renames)):
            for wanted in filter(None, (renames.get(column), column)):
                name = delivered.get(wanted.casefold())
                if name and column != "attributes" and not self._mapping.dropped(name):
                    names.setdefault(column, name)
        return names

    def _purposes(self, users: TableFile) -> dict[str, str]:
        """The purposes that ``users.*`` states consent for, with the SQL of each as text."""
        found = {
            name.casefold().removeprefix(CONSENT): name
            for name, _ in users.layout.columns
            if name.casefold().startswith(CONSENT) and not self._mapping.dropped(name)
        }
        found |= {
            column.removeprefix(CONSENT): name
            for column, name in users.names.items()
            if column.startswith(CONSENT)
        }
        return {purpose: self._text(users, name) for purpose, name in found.items()}

    def _consent(self, users: TableFile, purpose: str) -> dict[str, str]:
        return {
            "user_id": self._text(users, users.names["user_id"]),
            "device_id": "cast(null as varchar)",
            "purpose": "'" + purpose.replace("'", "''") + "'",
            "granted": f"cast({self._purposes(users)[purpose]} as boolean)",
            "since": "cast(null as timestamp)",
        }

    def _types(self, table: TableFile) -> dict[str, str]:
        aside = self.attributes(table) if table.stem == "users" else ()
        return table.layout.types(aside)

    def _text(self, table: TableFile, name: str) -> str:
        return as_text(column_sql(name), self._types(table)[name])

    def _texts(self, table: TableFile, columns: Mapping[str, str]) -> dict[str, str]:
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

    def _typed(self, table: TableFile, columns: Mapping[str, str]) -> dict[str, str]:
        """Every column in its type, null where it can't be."""
        types = self._types(table)
        found = {}
        for column, text in self._texts(table, columns).items():
            type_ = columns[column]
            if type_ == "timestamp" and column in table.names:
                name = table.names[column]
                found[column] = self._mapping.moment_sql(column_sql(name), types[name], self._zone)
            elif type_ == "decimal(18, 2)" and self._mapping.unit_of(column) == "cents":
                found[column] = f"try_cast({cents_sql(text)} as {type_})"
            else:
                found[column] = f"try_cast({text} as {type_})"
        return found

    def _check(
        self,
        table: TableFile,
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
            raise SourceError(
                f"{table.path}: rows {twice['first_row']} and {twice['last_row']} (counted from 0) "
                f"have the same {told}; keep one of them"
            )

    def _whose(self, consents: TableFile) -> None:
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
            raise SourceError(
                f"{consents.path}: row {found['source_row']} (counted from 0): expected either a "
                f"user_id or a device_id, found {found['user_id']!r} and {found['device_id']!r}"
            )

    def _without(self, table: TableFile, column: str) -> str:
        names = [name for name, _ in table.layout.columns]
        near = difflib.get_close_matches(column, names, n=1, cutoff=0.4)
        key = {"items": "item", "users": "user", "identities": "identity", "consents": "consent"}
        told = f"; did you mean {near[0]!r}?" if near else ""
        return (
            f"{table.path}: has no column {column!r} (found {', '.join(names)}){told} Rename it, "
            f"or add to mapping.yaml: {key[table.stem]}_columns: "
            f"{{{column}: {near[0] if near else '...'}}}"
        )

    def _select(
        self, table: TableFile, listed: Mapping[str, str], where: str = "true", row: bool = False
    ) -> Query:
        aside = self.attributes(table) if table.stem == "users" else ()
        rows = table.layout.relation(f"$file_{table.stem}", aside)
        shown = ", ".join(f'{sql} as "{name}"' for name, sql in listed.items())
        place = f', {RELATION}."{ROW}" as source_row' if row else ""
        return Query(
            f"select {shown}{place} from ({rows}) as {RELATION} where {where}",
            {f"file_{table.stem}": [str(table.path)]},
        )

    def _one(self, table: TableFile, query: Query) -> dict[str, object]:
        """The first row of a query over the file, or nothing."""
        try:
            rows = self._connection.execute(f"{query.sql} limit 1", dict(query.parameters))
            names = [column[0] for column in rows.description or ()]
            found = rows.fetchone()
        except duckdb.Error as error:
            raise _unreadable(table.path, reason_of(error)) from error
        return dict(zip(names, found, strict=True)) if found else {}


def _wrong_value(
    table: TableFile,
    columns: Mapping[str, str],
    required: tuple[str, ...],
    row: Mapping[str, object],
) -> str:
    column = next(
        name
        for name in columns
        if row[name] is None and (row[f"{name} text"] is not None or name in required)
    )
    value = row[f"{column} text"]
    found = "nothing" if value is None else repr(value)
    return (
        f"{table.path}: row {row['source_row']} (counted from 0), column "
        f"{table.names.get(column, column)}: {found} found, expected {EXPECTED[columns[column]]}"
    )


def _unreadable(path: Path, reason: str) -> SourceError:
    return SourceError(f"{path}: can't be read: {reason}. Repair or remove the file")
