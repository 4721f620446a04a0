"""Group ``events``: what was delivered, what of it can be used, and what it refers to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import polars as pl

from promo_assets.assets.table import Produce, Production, ProductionError, Table
from promo_assets.contract.events import EVENT_COLUMNS, EVENT_TYPES
from promo_assets.contract.tables import TableContract
from promo_assets.settings import Settings
from promo_assets.sources import SourceError, open_source
from promo_assets.strategy.catalogue import CatalogueError, load_catalogue
from promo_assets.warehouse.publish import Query

CALENDAR = (date(2000, 1, 1), date(2050, 1, 1))

# The hash keeps the place of every value: 'a', null and null, 'a' are different rows.
_HASH = ", ".join(
    f"coalesce({column.name}, chr(0))"
    for column in EVENT_COLUMNS
    if column.name not in ("event_id", "event_date")
)
NOT_ERASED = "(user_id is null or sha256(user_id) not in (select user_key from audit.erased_users))"
"""Leaves out users whom `promo erase` deleted: a source delivers them again."""

KEYED = (
    "select delivered.*, coalesce(event_id, md5(concat_ws(chr(31), {hash}))) as event_key "
    f"from ({{select}}) as delivered where {NOT_ERASED}"
)


def raw_events(production: Production) -> Query:
    """The delivered rows of the window, with the key that finds repeated ones."""
    assert production.window is not None
    try:
        source = open_source(production.settings)
        query = source.events(production.window, production.connection)
    except SourceError as error:
        raise ProductionError(str(error)) from error
    production.note({"source": f"{source.name} {source.version}"})
    return Query(KEYED.format(hash=_HASH, select=query.sql), query.parameters)


def items(production: Production) -> Query:
    """The source's item table."""
    try:
        return open_source(production.settings).items()
    except SourceError as error:
        raise ProductionError(str(error)) from error


def users(production: Production) -> Query:
    """The source's user table."""
    try:
        query = open_source(production.settings).users()
    except SourceError as error:
        raise ProductionError(str(error)) from error
    return Query(f"select * from ({query.sql}) where {NOT_ERASED}", query.parameters)


def offers(production: Production) -> pl.DataFrame:
    """The offer catalogue as a table."""
    try:
        return load_catalogue(production.settings.offers).frame()
    except CatalogueError as error:
        raise ProductionError(str(error)) from error


def event_types(production: Production) -> pl.DataFrame:
    """The contract's event types, so that SQL need not repeat them."""
    return pl.DataFrame(
        {
            "event_type": [kind.name for kind in EVENT_TYPES],
            "description": [kind.description for kind in EVENT_TYPES],
            "needs_order_line": [kind.needs_order_line for kind in EVENT_TYPES],
            "needs_offer": [kind.needs_offer for kind in EVENT_TYPES],
        }
    )


def calendar(production: Production) -> pl.DataFrame:
    """Every day of `CALENDAR` with its weekday and week."""
    first, end = CALENDAR
    days = pl.date_range(first, end - timedelta(days=1), eager=True).alias("day")
    return pl.DataFrame({"day": days}).with_columns(
        weekday=pl.col("day").dt.weekday().cast(pl.Int32),
        is_weekend=pl.col("day").dt.weekday() > 5,
        week_start=pl.col("day").dt.truncate("1w"),
    )


def tables(contracts: Mapping[str, TableContract], settings: Settings) -> list[Table]:
    """The group's tables that Python makes; the SQL models come from ``dbt_like_sql/core``."""
    made: dict[str, Produce] = {
        "core.event_types": event_types,
        "core.calendar": calendar,
        "core.items": items,
        "core.users": users,
        "core.offers": offers,
    }
    version = "1"
    return [
        Table(
            contracts["raw.events"],
            "events",
            raw_events,
            f"{version}+{settings.source.partition(':')[0]}",
            kinds=frozenset({"duckdb", "table", "bronze"}),
        ),
        *(
            Table(contracts[name], "events", produce, version, grid="whole")
            for name, produce in made.items()
        ),
    ]
