"""Forgetting a user: their rows leave every table and export, and don't come back.

A source would deliver them again, so a tombstone stays: the SHA-256 of the user's id, by which
``raw.events`` and ``core.users`` leave them out from then on. Not here: sums that hold a user's
part without naming them (summaries, models, effects) change when their days are rebuilt.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import polars as pl

from promo_assets.settings import Settings
from promo_assets.strategy.export import write_export
from promo_assets.warehouse.publish import prepare

NAMING = """
select schema_name, table_name from duckdb_columns()
where column_name = 'user_id' and not internal and table_name in (
    select table_name from duckdb_tables() where not temporary
) order by all
"""
TOMBSTONE = """
insert into audit.erased
select sha256($user), cast(current_timestamp as timestamp)
where sha256($user) not in (select key from audit.erased)
"""


def erase(user: str, connection: duckdb.DuckDBPyConnection, settings: Settings) -> dict[str, int]:
    """Delete a user's rows and return their number by table and exported file.

    Empty where the user has none, and then nothing was changed. The tables change in one
    transaction, together with the tombstone.
    """
    prepare(connection)
    erased: dict[str, int] = {}
    connection.execute("begin")
    try:
        for schema, table in connection.execute(NAMING).fetchall():
            deleted = connection.execute(
                f'delete from "{schema}"."{table}" where user_id = $user', {"user": user}
            ).fetchone()
            if deleted and deleted[0]:
                erased[f"{schema}.{table}"] = deleted[0]
        if erased:
            connection.execute(TOMBSTONE, {"user": user})
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise
    return erased | _erase_exports(user, settings.exports)


def _erase_exports(user: str, folder: Path) -> dict[str, int]:
    """Write the days anew whose assignments name the user; rows by file."""
    erased = {}
    for path in sorted(folder.glob("????-??-??/assignments.parquet")):
        assignments = pl.read_parquet(path)
        kept = assignments.filter(pl.col("user_id") != user)
        if rows := assignments.height - kept.height:
            day = date.fromisoformat(path.parent.name)
            write_export(kept, pl.read_parquet(path.with_name("strategy.parquet")), folder, day)
            erased[f"exports/{day}"] = rows
    return erased
