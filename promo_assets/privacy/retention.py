"""How long everything is kept, and the removal of what is older.

Tables say it in their contracts (``keep_days``), files here. Removal is physical, as an erasure:
the warehouse is written anew, SQLite files are vacuumed. Not here: when it runs
(`promo_assets.orchestration.automation`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Protocol

import duckdb

from promo_assets.contract.days import week_of
from promo_assets.contract.home import Home
from promo_assets.contract.tables import TableContract
from promo_assets.privacy.erasure import empty_spill
from promo_assets.privacy.mentions import vacuum
from promo_assets.sources.deliveries import RAW
from promo_assets.warehouse.connection import Warehouse
from promo_assets.warehouse.publish import STAGED, prepare
from promo_assets.warehouse.rewrite import announce, check_room, is_due, rewrite

STAGED_DAYS = 30
DATA_DOCS_DAYS = 90
RUN_LOG_DAYS = 90
RUN_DAYS = 1095
EXPORT_DAYS = 730
REPORT_DAYS = 1825
MODEL_DAYS = 730
RECEIPT_DAYS = 1825

FILES: Mapping[str, int | None] = {
    "slices that a gate held back (`staging`)": STAGED_DAYS,
    "Data Docs (`gx/`): the newest result of a table": DATA_DOCS_DAYS,
    "logs of Dagster's runs (`dagster/history/runs/`, `dagster/storage/`)": RUN_LOG_DAYS,
    "Dagster's memory of runs and materialisations": RUN_DAYS,
    "`exports/`": EXPORT_DAYS,
    "`reports/`": REPORT_DAYS,
    "runs and versions in MLflow that were never champion": MODEL_DAYS,
    "`receipts/`": RECEIPT_DAYS,
    "`spill/`, what killed processes left there": 0,
    "`inventory.sqlite`: names of delivered files": None,
    "tombstones of erased people (`audit.erased`)": None,
}
"""Everything that is no published table: how many days it is kept; None: not by age."""


@dataclass(frozen=True)
class Removal:
    """One thing to remove: ``count`` rows of a table or a staged slice, or files of a folder,
    from before the day ``before``. ``where`` selects a published table's rows."""

    place: str
    before: date
    count: int
    where: str = ""
    paths: tuple[Path, ...] = ()

    def __str__(self) -> str:
        kind = "files" if self.paths else "rows"
        return f"{self.place:<44} before {self.before} {self.count:>11,} {kind}"


class RunHistory(Protocol):
    """What remembers the runs that wrote the tables."""

    def ended_before(self, day: date) -> Sequence[str]:
        """The ids of runs that ended before ``day`` (UTC)."""

    def forget(self, runs: Sequence[str]) -> None:
        """Remove them, and that they materialised anything."""


def today(connection: duckdb.DuckDBPyConnection, *, public: bool) -> date:
    """The day that ages are counted from. Where nobody real is in the data (``public``), time ends
    with it: a sample of 2017 is not old."""
    now = datetime.now(UTC).date()
    if not public:
        return now
    newest = connection.execute(
        "select max(day) from audit.publications where table_name = 'raw.events'"
    ).fetchone()
    return min(now, newest[0]) if newest and newest[0] else now


def first_kept(contract: TableContract, as_of: date) -> date | None:
    """The first day of which a table's rows stay; of tables by week the Monday of its week. None
    where nothing goes by age."""
    if contract.kept_days is None:
        return None
    day = as_of - timedelta(days=contract.kept_days)
    return week_of(day) if contract.window == "week" else day


def plan(
    connection: duckdb.DuckDBPyConnection,
    contracts: Mapping[str, TableContract],
    home: Home,
    as_of: date,
) -> list[Removal]:
    """What is older than it may be on ``as_of``: rows, staged slices, files."""
    return [
        *_old_rows(connection, contracts, as_of),
        *_old_slices(connection, contracts, as_of),
        *_old_files(home, as_of),
    ]


def enforce(
    removals: Sequence[Removal],
    connection: duckdb.DuckDBPyConnection,
    contracts: Mapping[str, TableContract],
    warehouse: Warehouse,
) -> None:
    """Remove what was planned; rows in one transaction with what is told of their days."""
    tables = [removal for removal in removals if not removal.paths]
    if tables:
        announce(warehouse)
    connection.execute("begin")
    try:
        for removal in tables:
            if removal.place.startswith("staging."):
                connection.execute(f"drop table {removal.place}")
            else:
                _delete(connection, contracts[removal.place], removal)
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise
    for removal in removals:
        for path in removal.paths:
            path.unlink(missing_ok=True)
            _remove_empty(path.parent)


def retain(
    home: Home,
    warehouse: Warehouse,
    contracts: Mapping[str, TableContract],
    history: RunHistory,
    as_of: date | None = None,
    *,
    public: bool = False,
    dry_run: bool = False,
) -> Iterator[str]:
    """Remove what is too old on ``as_of`` (by default `today`) and tell of each; ``dry_run``
    removes nothing. Raises `WarehouseError` and `BusyFileError` where something is in use."""
    with warehouse.get_connection() as connection:
        prepare(connection)
        day = as_of or today(connection, public=public)
        removals = plan(connection, contracts, home, day)
        yield f"{'dry run, ' if dry_run else ''}as of {day}"
        yield from map(str, removals)
        champions = _champions(connection)
        if not dry_run:
            check_room(warehouse)
            empty_spill(home)
            enforce(removals, connection, contracts, warehouse)
    before = day - timedelta(days=MODEL_DAYS)
    models = old_models(home, before, champions, remove=not dry_run)
    yield f"{'MLflow, never champion':<44} before {before} {models:>11,} runs"
    before = day - timedelta(days=RUN_DAYS)
    runs = history.ended_before(before)
    yield f"{'Dagster':<44} before {before} {len(runs):>11,} runs"
    if not dry_run:
        history.forget(runs)
    if not dry_run and is_due(warehouse):
        done = rewrite(warehouse)
        yield (
            f"warehouse.duckdb, written anew: {done.bytes_before / 2**20:,.1f} to "
            f"{done.bytes_after / 2**20:,.1f} MiB in {done.seconds:,.1f} s"
        )


def old_models(home: Home, before: date, champions: Collection[int], *, remove: bool) -> int:
    """How many trainings from before a day have a model that was never in force; with ``remove``
    they are gone from MLflow, run, version and files."""
    if not home.tracking.exists():
        return 0
    from promo_assets.learning.tracking import Tracking
    from promo_assets.propensity.record import PROPENSITY

    tracking = Tracking(home.tracking_uri, home.model_store, PROPENSITY)
    runs = tracking.runs_before(datetime.combine(before, time(), UTC), champions)
    if runs and remove:
        tracking.remove_runs(runs)
        vacuum(home.tracking)
    return len(runs)


def table(contracts: Mapping[str, TableContract]) -> str:
    """What is kept how long, as a table in Markdown: docs/privacy.md holds it."""
    by_days: dict[int | None, list[str]] = {}
    for name, contract in sorted(contracts.items()):
        changes = ": changes that no longer hold" if contract.newest_by else ""
        by_days.setdefault(contract.kept_days, []).append(f"`{name}`{changes}")
    for what, days in FILES.items():
        by_days.setdefault(days, []).append(what)
    lines = ["| kept | what |", "| --- | --- |"]
    for days in sorted(by_days, key=lambda days: (days is None, -(days or 0))):
        told = "not by age" if days is None else f"{days:,} days"
        lines.append(f"| {told} | {'; '.join(by_days[days])} |")
    return "\n".join(lines)


def _champions(connection: duckdb.DuckDBPyConnection) -> frozenset[int]:
    """The versions in MLflow that were ever in force: scores of their days can be made again."""
    if ("propensity", "champions") not in _tables(connection):
        return frozenset()
    rows = connection.execute(
        "select distinct model_version from propensity.champions where model_version is not null"
    ).fetchall()
    return frozenset(version for (version,) in rows)


def _old_rows(
    connection: duckdb.DuckDBPyConnection, contracts: Mapping[str, TableContract], as_of: date
) -> Iterator[Removal]:
    existing = {f"{schema}.{table}" for schema, table in _tables(connection)}
    for name, contract in sorted(contracts.items()):
        first = first_kept(contract, as_of)
        if first is None or name not in existing:
            continue
        where = _superseded(contract, first) or f"\"{contract.window}\" < date '{first}'"
        rows = _count(connection, f"from {name} where {where}")
        told = f"from audit.publications where table_name = '{name}' and day < date '{first}'"
        if rows or (not contract.newest_by and _count(connection, told)):
            yield Removal(name, first, rows, where)


def _superseded(contract: TableContract, first: date) -> str:
    """The rows of a change log that no longer held on the day ``first``; '' for other tables."""
    if not contract.newest_by:
        return ""
    keys, window = ", ".join(contract.newest_by), contract.window
    return (
        f"({keys}, {window}) in (select ({keys}, {window}) from {contract.table} "
        f"where {window} <= date '{first}' qualify row_number() over "
        f"(partition by {keys} order by {window} desc) > 1)"
    )


def _delete(
    connection: duckdb.DuckDBPyConnection, contract: TableContract, removal: Removal
) -> None:
    """Delete the rows and forget that their days were published, so that nothing is computed
    from them; the days of a change log still hold what was in force."""
    told = {"table": contract.table, "before": removal.before}
    if contract.newest_by:
        window = f'"{contract.window}"'
        connection.execute(
            "update audit.publications set row_count = row_count - gone.rows from ("
            f"select {window} as day, count(*) as rows from {contract.table}"
            f" where {removal.where} group by all) as gone"
            " where publications.table_name = $table and publications.day = gone.day",
            {"table": contract.table},
        )
    connection.execute(f"delete from {contract.table} where {removal.where}")
    if not contract.newest_by:
        connection.execute(
            "delete from audit.publications where table_name = $table and day < $before", told
        )
    connection.execute(
        "delete from audit.findings where table_name = $table and day < $before", told
    )
    if contract.table == RAW:
        connection.execute("delete from audit.deliveries where day < ?", [removal.before])


def _old_slices(
    connection: duckdb.DuckDBPyConnection, contracts: Mapping[str, TableContract], as_of: date
) -> Iterator[Removal]:
    """Staged slices whose last audit is too long ago, or whose days are too old anyway. One that
    was never audited is of a run that was killed: its last day tells its age."""
    before = as_of - timedelta(days=STAGED_DAYS)
    for schema, name in _tables(connection):
        found = STAGED.fullmatch(name)
        if schema != "staging" or found is None:
            continue
        table = f"{found['schema']}.{found['name']}"
        bounds = filter(None, (found["start"], found["end"]))
        days = [datetime.strptime(day, "%Y%m%d").date() for day in bounds]
        audited = connection.execute(
            "select cast(max(audited_at) as date) from audit.findings where table_name = ?"
            + (" and day >= ? and day < ?" if days else ""),
            [table, *days],
        ).fetchone()
        last = audited[0] if audited and audited[0] else max(days, default=date.min)
        contract = contracts.get(table)
        first = first_kept(contract, as_of) if contract else None
        if last < before or (first and days and days[1] <= first):
            count = _count(connection, f'from staging."{name}"')
            yield Removal(f'staging."{name}"', before, count)


def _old_files(home: Home, as_of: date) -> Iterator[Removal]:
    """Files that were last written too long ago; exports and reports go by the day they are of."""
    history = home.dagster / "history" / "runs"
    logs = [path for path in history.glob("*.db*") if not path.name.startswith("index.")]
    stored = (home.dagster / "storage").rglob("*")
    kinds = (
        ("exports", EXPORT_DAYS, home.exports.glob("????-??-??/*")),
        ("reports", REPORT_DAYS, home.reports.glob("*.html")),
        ("gx/validations", DATA_DOCS_DAYS, home.data_docs.glob("validations/**/*.html")),
        ("gx/results", DATA_DOCS_DAYS, home.data_docs.glob("results/**/*.json")),
        ("dagster/history/runs", RUN_LOG_DAYS, logs),
        ("dagster/storage", RUN_LOG_DAYS, stored),
        ("receipts", RECEIPT_DAYS, home.receipts.glob("*.json")),
    )
    for place, days, paths in kinds:
        before = as_of - timedelta(days=days)
        old = tuple(path for path in sorted(paths) if path.is_file() and _day_of(path) < before)
        if old:
            yield Removal(place, before, len(old), paths=old)


def _day_of(path: Path) -> date:
    """The day that a file is of by its name or its folder's, or else the day it was written."""
    for name in (path.stem, path.parent.name):
        try:
            return date.fromisoformat(name)
        except ValueError:
            continue
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date()


def _remove_empty(folder: Path) -> None:
    """Remove a folder that has become empty; others are left."""
    if not any(folder.iterdir()):
        folder.rmdir()


def _tables(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    return connection.execute(
        "select schema_name, table_name from duckdb_tables()"
        " where database_name = current_database() and not temporary order by all"
    ).fetchall()


def _count(connection: duckdb.DuckDBPyConnection, source: str) -> int:
    row = connection.execute(f"select count(*) {source}").fetchone()
    return int(row[0]) if row else 0
