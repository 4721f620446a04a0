"""Rolling back: a person's word that an earlier model scores from a day on.

The word is kept in ``audit.overrides`` and outlives rebuilds: whenever the week is decided again,
it is decided so. It makes the week's champion stale. Later weeks go on from that model: a newer one
takes over again only if it clearly beats it. Not here: the rebuild (``stale.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import duckdb

from promo_assets.contract.days import week_of
from promo_assets.contract.tables import TableContract
from promo_assets.warehouse.publish import create_table, prepare
from promo_assets.warehouse.reading import reader, row

CHAMPIONS, TRAININGS = "propensity.champions", "propensity.trainings"

IN_FORCE = """
select week, model_version from propensity.champions
where week < $week and model_version is not null
order by week desc limit 1
"""
BEFORE = """
select model_version from propensity.champions
where week < $week and model_version <> $version
order by week desc limit 1
"""
TRAINED = """
select model_version, week from propensity.trainings
where status = 'trained' and week <= $week order by week
"""
OVERRIDE = """
insert into audit.overrides by name
select $table_name as table_name, $day as day, $value as value, $note as note,
    cast(current_timestamp as timestamp) as told_at
"""


class RollbackError(Exception):
    """There is nothing to roll back, or not to that model; the message is meant for people."""


@dataclass(frozen=True)
class Rollback:
    """What was told: ``version`` scores the days after ``week`` in place of ``instead_of``."""

    week: date
    version: int
    instead_of: int


def roll_back(
    connection: duckdb.DuckDBPyConnection,
    contracts: Mapping[str, TableContract],
    day: date,
    version: int | None,
    note: str,
) -> Rollback:
    """Note that the days of ``day``'s week and those after are scored by ``version``; None: by the
    model that was in force before the present one.

    Raises `RollbackError` where no model is in force on ``day``, or none such was trained by then.
    """
    prepare(connection)
    for table in (CHAMPIONS, TRAININGS):  # Empty before its first publication, not missing.
        create_table(connection, contracts[table])
    read = reader(connection)
    present = row(read, IN_FORCE, {"week": week_of(day)})
    if present is None:
        raise RollbackError(f"no model scores {day}: none was trained in a week before it")
    week, instead_of = present["week"], present["model_version"]
    if version is None:
        before = row(read, BEFORE, {"week": week, "version": instead_of})
        version = before["model_version"] if before else None
    trained = dict(read(TRAINED, {"week": week}).iter_rows())
    known = ", ".join(f"{number} (week of {at})" for number, at in trained.items()) or "none"
    if version is None:
        raise RollbackError(
            f"version {instead_of}, which scores {day}, is the first champion: tell which is to "
            f"score with --to; trained by then: {known}"
        )
    if version == instead_of:
        raise RollbackError(f"version {version} scores {day} already")
    if version not in trained:
        raise RollbackError(f"version {version} was not trained by {week}; trained: {known}")
    told = {"table_name": CHAMPIONS, "day": week, "value": str(version), "note": note}
    connection.execute(OVERRIDE, told)
    return Rollback(week, version, instead_of)
