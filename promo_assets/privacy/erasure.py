"""Forgetting a person: nothing under ``PROMO_HOME`` names them, and they don't come back.

A person is an account, the accounts merged with it, and the devices that are theirs alone. A
source would deliver them again, so tombstones stay: the SHA-256 of each pseudonym, by which
`promo_assets.tables.events` leaves them out from then on. Not here: sums that hold a person's
part without naming them (summaries, models, effects) change when they are rebuilt; the source
itself must forget the person itself.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import duckdb

from promo_assets.contract.home import Home
from promo_assets.contract.tables import TableContract
from promo_assets.people.identifiers import identifier
from promo_assets.people.pseudonyms import PSEUDONYM, fingerprint, pseudonym
from promo_assets.privacy.mentions import (
    KEY_COLUMNS,
    SHORTEST_ID,
    Names,
    files,
    mentions,
    overwrite,
)
from promo_assets.report.export import leave_out
from promo_assets.warehouse.connection import Warehouse
from promo_assets.warehouse.publish import ALWAYS, prepare
from promo_assets.warehouse.rewrite import Rewritten, announce, check_room, rewrite

IDENTIFIERS = ("user_id", "account_id", "device_id", "identifier")
"""Columns that hold a pseudonym of an account or a device, in whichever table."""

COLUMNS = """
select schema_name, table_name, column_name, data_type from duckdb_columns()
where not internal and database_name = current_database() and table_name in (
    select table_name from duckdb_tables() where not temporary
) and table_name not in (select view_name from duckdb_views() where not internal)
order by schema_name, table_name, column_index
"""
IDENTITIES = """
select
    identifier, any_value(kind) as kind, arg_max(status, as_of_date) as status,
    coalesce(list(distinct user_id) filter (user_id is not null), []) as users,
    max_by(coalesce(user_id, ''), as_of_date) as newest
from core.identities group by identifier
"""
TOMBSTONES = """
insert into audit.erased
select sha256(name), cast(current_timestamp as timestamp) from (select unnest($names) as name)
where sha256(name) not in (select key from audit.erased)
"""
# Events that were attributed to the person although they came without an account.
ATTRIBUTED = """
delete from {table} where user_id is null and (event_date, event_key) in (
    select event_date, event_id from core.events where list_contains($names, user_id)
)
"""


@dataclass(frozen=True)
class Place:
    """Where a person is looked for: everything under ``home`` but what lies there of the source
    (``delivered``), which is the source's business."""

    home: Home
    warehouse: Warehouse
    delivered: Path | None = None

    @property
    def files(self) -> Iterator[Path]:
        sources = {self.home.simulated, self.delivered or self.home.simulated}
        return files(self.home.root, sources)


class UnknownPersonError(ValueError):
    """Nothing under ``PROMO_HOME`` names the person, and nobody of that name was erased."""


@dataclass(frozen=True)
class Person:
    """Pseudonyms of a person's accounts (under every key) and of the devices that are theirs
    alone."""

    accounts: frozenset[str]
    devices: frozenset[str] = frozenset()

    @property
    def pseudonyms(self) -> frozenset[str]:
        return self.accounts | self.devices


@dataclass(frozen=True)
class Erased:
    """What an erasure did: rows by table, names by file (relative to home; overwritten, or rows
    of an export), and where the person is still named, by file.

    ``models`` are the versions in MLflow whose training data held the person.
    """

    tables: Mapping[str, int]
    files: Mapping[str, int]
    rewritten: Rewritten
    left: Mapping[str, int]
    searched_files: int
    searched_bytes: int
    models: tuple[int, ...] = ()
    receipt: Path = field(default=Path())

    def lines(self) -> Iterator[str]:
        """What was done, for people; at most some 40 lines, whatever the number of files."""
        for place, rows in self.tables.items():
            yield f"{place:<40} {rows:>9,} rows"
        folders: dict[str, list[int]] = {}
        for place, found in self.files.items():
            folders.setdefault(place.split("/")[0], []).append(found)
        for folder, counts in folders.items():
            yield f"{f'{folder} ({len(counts):,} files)':<40} {sum(counts):>9,} rows or mentions"
        yield (
            f"{'warehouse.duckdb, written anew':<40} "
            f"{self.rewritten.bytes_before / 2**20:,.1f} to "
            f"{self.rewritten.bytes_after / 2**20:,.1f} MiB in {self.rewritten.seconds:,.1f} s"
        )
        searched = f"{self.searched_files:,} files, {self.searched_bytes / 2**20:,.1f} MiB searched"
        if not self.left:
            yield f"{searched}: the person is in none of them"
        for place, found in self.left.items():
            yield f"STILL NAMED in {place}: {found:,} times; remove it, and erase again"
        if self.models:
            versions = ", ".join(map(str, self.models))
            yield (
                f"Models trained with the person: promo_propensity {versions}. The next weekly "
                "training is without them; for one now, run the last whole week: "
                "promo run --from MONDAY --to SUNDAY --select propensity"
            )
        yield (
            "Sums without names (summaries, effects, reports) change when their days are run again."
        )
        yield "The source must forget the person itself, and so must backups and what was exported."
        yield f"receipt {self.receipt}"


def erase(
    user: str,
    place: Place,
    keys: Sequence[str],
    contracts: Mapping[str, TableContract],
) -> Erased:
    """Erase the person with the account id ``user``, as delivered or as a pseudonym that an
    export shows, under any of the ``keys`` (the current one first), and return what was done.

    It can be repeated, and must be after a kill: files are cleaned first, then rows are deleted
    together with the tombstone in one transaction, then the warehouse is written anew. Raises
    `UnknownPersonError`, before anything was changed; `WarehouseError` and `BusyFileError` where
    something is in use.
    """
    named = {user, identifier(user)}
    own = frozenset(pseudonym(name, "account", key) for name in named for key in keys)
    if PSEUDONYM.fullmatch(user):
        own |= {user}
    warehouse = place.warehouse
    with warehouse.get_connection() as connection:  # Held to the end: no run comes in between.
        prepare(connection)
        person = person_of(own, connection)
        names = Names(person.pseudonyms, user, _row_keys(person, connection))
        models = _trained_on(person, connection)
        if not _known(person, names, connection, place):
            raise UnknownPersonError(
                f"user {user!r} has no rows in {place.home.warehouse} and is in no file beside it; "
                "check the id, it is the account id as the source delivers it"
            )
        check_room(warehouse)
        empty_spill(place.home)
        cleaned = _clean_files(names, place)
        announce(warehouse)
        tables = delete_rows(person, names, connection, contracts)
    rewritten = rewrite(warehouse)
    left, searched_files, searched_bytes = search(names, place)
    done = Erased(tables, cleaned, rewritten, left, searched_files, searched_bytes, models)
    return _with_receipt(done, keys, place.home)


def person_of(own: Collection[str], connection: duckdb.DuckDBPyConnection) -> Person:
    """The accounts that ``core.identities`` (where there is one) merges with any of ``own``, and
    the devices that were linked to them only and on which nobody else was ever seen."""
    accounts = set(own)
    if "core.identities" not in _columns(connection):
        return Person(frozenset(accounts))
    known = connection.execute(IDENTITIES).fetchall()
    merged = [
        {identifier, newest}
        for identifier, kind, status, _, newest in known
        if kind == "account" and status == "merged"
    ]
    while joined := [pair for pair in merged if pair & accounts and not pair <= accounts]:
        accounts.update(*joined)
    # A link ends some time after the last log-in; the device is still nobody else's.
    linked = {
        identifier
        for identifier, kind, status, users, _ in known
        if kind == "device" and status in ("linked", "unlinked") and users and {*users} <= accounts
    }
    return Person(frozenset(accounts), frozenset(linked - _others(linked, accounts, connection)))


def _others(
    devices: Collection[str], accounts: Collection[str], connection: duckdb.DuckDBPyConnection
) -> set[str]:
    """Those of ``devices`` on which an account that is not among ``accounts`` was seen."""
    found: set[str] = set()
    columns = _columns(connection)
    for table in ("core.logins", "core.device_links", "core.events", "raw.events"):
        if {"user_id", "device_id"} <= columns.get(table, {}).keys():
            rows = connection.execute(
                f"select distinct device_id from {table} where list_contains($devices, device_id)"
                " and user_id is not null and not list_contains($accounts, user_id)",
                {"devices": sorted(devices), "accounts": sorted(accounts)},
            ).fetchall()
            found.update(device for (device,) in rows)
    return found


def delete_rows(
    person: Person,
    names: Names,
    connection: duckdb.DuckDBPyConnection,
    contracts: Mapping[str, TableContract],
) -> dict[str, int]:
    """Delete the person's rows from all tables of all schemas, write the tombstones, and return
    the rows by table: one transaction, in which ``audit.publications`` stays true."""
    columns = _columns(connection)
    erased: dict[str, int] = {}
    told = {"names": sorted(person.pseudonyms)}
    connection.execute("begin")
    try:
        for table in ("raw.events", "core.rejected_events"):
            if {table, "core.events"} <= columns.keys():
                _delete(connection, ATTRIBUTED.format(table=table), told, table, erased, contracts)
        for table, types in columns.items():
            if held := [name for name in IDENTIFIERS if name in types]:
                where = " or ".join(f"list_contains($names, {name})" for name in held)
                sql = f"delete from {_quoted(table)} where {where}"
                _delete(connection, sql, told, table, erased, contracts)
        _redact_audit(names, connection, columns)
        connection.execute(TOMBSTONES, told)
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise
    return erased


def _delete(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    parameters: Mapping[str, list[str]],
    table: str,
    erased: dict[str, int],
    contracts: Mapping[str, TableContract],
) -> None:
    """Run a delete, take its rows off the table's publications, and add them to ``erased``."""
    contract = contracts.get(table)
    window = f'"{contract.window}"' if contract and contract.window else f"date '{ALWAYS}'"
    part = f'"{contract.part}"' if contract and contract.part else "''"
    deleted = connection.execute(f"{sql} returning {window}, {part}", dict(parameters)).fetchall()
    if not deleted:
        return
    erased[table] = erased.get(table, 0) + len(deleted)
    counts: dict[tuple[object, str], int] = {}
    for place in deleted:
        counts[place] = counts.get(place, 0) + 1
    connection.executemany(
        "update audit.publications set row_count = row_count - ?"
        " where table_name = ? and day = ? and part = ?",
        [[count, table, day, part_] for (day, part_), count in counts.items()],
    )


def _redact_audit(
    names: Names,
    connection: duckdb.DuckDBPyConnection,
    columns: Mapping[str, Mapping[str, str]],
) -> None:
    """Overwrite the person's names in what the gates found: ``observed`` quotes examples."""
    if "audit.findings" not in columns:
        return
    texts = connection.execute("select distinct observed from audit.findings").fetchall()
    changed = [
        (names.overwritten(text.encode()).decode(), text)
        for (text,) in texts
        if text and names.spans(text.encode())
    ]
    if changed:
        connection.executemany(
            "update audit.findings set observed = ? where observed = ?", [*map(list, changed)]
        )


def _known(
    person: Person, names: Names, connection: duckdb.DuckDBPyConnection, place: Place
) -> bool:
    """Whether a tombstone, a row or a file names the person; the likeliest is asked first."""
    told = {"names": sorted(person.pseudonyms)}
    conditions = [
        (_quoted(table), f"list_contains($names, {name})")
        for table, types in _columns(connection).items()
        for name in IDENTIFIERS
        if name in types
    ]
    tombstone = "list_contains(list_transform($names, lambda name: sha256(name)), key)"
    for table, where in [("audit.erased", tombstone), *conditions]:
        if connection.execute(f"select 1 from {table} where {where} limit 1", told).fetchall():
            return True
    return any(mentions(path, names) for path in place.files if path != place.home.warehouse)


def _row_keys(person: Person, connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """The keys of the person's events, orders and sessions, which examples of gates quote."""
    found: set[str] = set()
    told = {"names": sorted(person.pseudonyms)}
    for table, types in _columns(connection).items():
        held = [name for name in IDENTIFIERS if name in types]
        where = " or ".join(f"list_contains($names, {name})" for name in held)
        for key in KEY_COLUMNS:
            if held and types.get(key) == "VARCHAR":
                rows = connection.execute(
                    f"select distinct {key} from {_quoted(table)} where ({where})"
                    f" and length({key}) >= {SHORTEST_ID}",
                    told,
                ).fetchall()
                found.update(value for (value,) in rows)
    return frozenset(found)


def _trained_on(person: Person, connection: duckdb.DuckDBPyConnection) -> tuple[int, ...]:
    """The versions in MLflow whose training data held the person: a model of a week reads the
    snapshots of that week and of those before it, from the first that it was trained on."""
    if not {"propensity.training_set", "propensity.trainings"} <= _columns(connection).keys():
        return ()
    rows = connection.execute(
        "select distinct trainings.model_version from propensity.trainings as trainings"
        " join propensity.training_set as sets on sets.week <= trainings.week"
        " and sets.as_of_date >= trainings.first_as_of"
        " where trainings.model_version is not null and list_contains($names, sets.user_id)"
        " order by all",
        {"names": sorted(person.pseudonyms)},
    ).fetchall()
    return tuple(found for (found,) in rows)


def empty_spill(home: Home) -> None:
    """Remove what killed processes left in DuckDB's folder for what exceeds its memory.

    Only for who holds the warehouse: nobody else's queries can be using it then.
    """
    for left in home.spill.glob("duckdb_temp*"):
        left.unlink(missing_ok=True)


def _clean_files(names: Names, place: Place) -> dict[str, int]:
    """Take the person out of everything beside the warehouse; rows or names by file."""
    cleaned = {
        _told(path, names, place.home): rows
        for path, rows in leave_out(names.pseudonyms, place.home.exports).items()
    }
    for path in place.files:
        if path != place.home.warehouse and (found := overwrite(path, names)):
            cleaned[_told(path, names, place.home)] = found
    return cleaned


def search(names: Names, place: Place) -> tuple[dict[str, int], int, int]:
    """Where the person is still named, by file or table column, and how many files and bytes
    were searched."""
    left: dict[str, int] = {}
    looked_at, size = 0, 0
    for path in place.files:
        looked_at, size = looked_at + 1, size + path.stat().st_size
        in_its_name = len(names.spans(str(path.relative_to(place.home.root)).encode()))
        if found := mentions(path, names) + in_its_name:
            left[_told(path, names, place.home)] = found
    return left | _in_tables(names, place.warehouse), looked_at, size


def _in_tables(names: Names, warehouse: Warehouse) -> dict[str, int]:
    """Rows by text column of the warehouse that name the person: DuckDB compresses texts, so
    their bytes alone tell too little."""
    found: dict[str, int] = {}
    with warehouse.get_connection() as connection:
        for table, types in _columns(connection).items():
            texts = [name for name, type_ in types.items() if type_ == "VARCHAR"]
            if not texts:
                continue
            counts = ", ".join(
                f"count(*) filter (regexp_matches({_quoted(name)}, $pattern))" for name in texts
            )
            row = connection.execute(
                f"select {counts} from {_quoted(table)}", {"pattern": names.in_sql}
            ).fetchone()
            found |= {f"{table}.{name}": n for name, n in zip(texts, row or (), strict=False) if n}
    return found


def _told(path: Path, names: Names, home: Home) -> str:
    """A path as it may be told and kept: relative to home, without the person's names."""
    return names.overwritten(str(path.relative_to(home.root)).encode()).decode()


def _columns(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """The type of every column of every table."""
    found: dict[str, dict[str, str]] = {}
    for schema, table, column, type_ in connection.execute(COLUMNS).fetchall():
        found.setdefault(f"{schema}.{table}", {})[column] = type_
    return found


def _quoted(name: str) -> str:
    return ".".join(f'"{part}"' for part in name.split("."))


def _with_receipt(done: Erased, keys: Collection[str], home: Home) -> Erased:
    """Write the receipt, which holds nothing that is personal or made of it."""
    name = secrets.token_hex(8)
    told = {
        "receipt": name,
        "what": "erasure of one person",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": f"promo-assets {version('promo-assets')}, DuckDB {duckdb.__version__}",
        "keys": [fingerprint(key) for key in keys],
        "rows": dict(done.tables),
        "files": dict(done.files),
        "warehouse": {
            "bytes_before": done.rewritten.bytes_before,
            "bytes_after": done.rewritten.bytes_after,
        },
        "models_trained_with_the_person": list(done.models),
        "verified": {
            "files": done.searched_files,
            "bytes": done.searched_bytes,
            "still_named_in": dict(done.left),
        },
    }
    receipt = home.receipts / f"{name}.json"
    receipt.parent.mkdir(parents=True, exist_ok=True)
    unfinished = receipt.with_name(f".{receipt.name}.partial")
    unfinished.write_text(json.dumps(told, indent=1) + "\n")
    unfinished.replace(receipt)
    return replace(done, receipt=receipt)
