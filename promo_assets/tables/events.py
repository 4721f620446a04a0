"""Group ``events``: what was delivered, what of it can be used, and what it refers to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta

import polars as pl

from promo_assets.contract.events import EVENT_KEY, EVENT_TYPES
from promo_assets.contract.tables import TableContract
from promo_assets.orchestration.table_asset import Produce, Production, ProductionError, Table
from promo_assets.people import identity
from promo_assets.people.pseudonyms import Kind, key_parameters, keys_of, pseudonym_sql
from promo_assets.settings import Settings, SettingsError
from promo_assets.sources import SourceError, UnreachableError, open_source
from promo_assets.sources.deliveries import record
from promo_assets.strategy.offers.catalogue import CatalogueError, load_catalogue
from promo_assets.warehouse.publish import Query

CALENDAR = (date(2000, 1, 1), date(2050, 1, 1))

ENTRY = f"""
with delivered as materialized ({{select}}),
known as (select * from delivered where {{kept}}),
accounts as materialized (
    select user_id, {pseudonym_sql("user_id", "account")} as pseudonym
    from (select distinct user_id from known where user_id is not null)
),
devices as materialized (
    select device_id, {pseudonym_sql("device_id", "device")} as pseudonym
    from (select distinct device_id from known where device_id is not null)
),
entered as (
    select
        known.* replace (accounts.pseudonym as user_id, devices.pseudonym as device_id),
    from known
    left join accounts on accounts.user_id = known.user_id
    left join devices on devices.device_id = known.device_id
)
select *, {EVENT_KEY} as event_key
from entered
"""
"""Pseudonyms on entry, and the key that finds repeated rows: of what is stored, not of what was
delivered, since a hash of an id would give it away. Each id is hashed once, not once a row."""

CONSENTS = """
select distinct
    coalesce(user_id, device_id) as identifier,
    if(user_id is null, 'device', 'account') as kind,
    purpose,
    granted,
    coalesce(since, timestamp '0001-01-01') as since
from ({select})
where granted is not null and (user_id is not null or device_id is not null)
"""

NOT_ERASED = "({column} is null or sha256({column}) not in (select key from audit.erased))"
"""Leaves out people whom `promo erase` deleted: a source delivers them again."""

NOT_ERASED_BEFORE = """
({column} is null or {column} not in (
    select {column} from (select distinct {column} from delivered where {column} is not null)
    where sha256({pseudonym}) in (select key from audit.erased)
))
"""
"""Leaves out those who were erased under a retired key, by the ids that were delivered."""


def raw_events(production: Production) -> Query:
    """The delivered rows of the window under pseudonyms, without those of erased people."""
    assert production.window is not None
    with _explained():
        source = open_source(production.settings)
        query = source.events(production.window, production.connection)
        fingerprints = source.fingerprints(production.window, production.connection)
    record(production.connection, production.window, fingerprints, production.run_id)
    production.note({"source": f"{source.name} {source.version}"})
    kinds: dict[str, Kind] = {"user_id": "account", "device_id": "device"}
    before, retired = _erased_before(production, kinds)
    kept = _whose({name: NOT_ERASED.format(column=name) for name in kinds})
    return Query(
        f"select * from ({ENTRY.format(select=query.sql, kept=before)}) where {kept}",
        {**query.parameters, **_key(production), **retired},
    )


def items(production: Production) -> Query:
    """The source's item table."""
    with _explained():
        return open_source(production.settings).items(production.connection)


def users(production: Production) -> Query:
    """The source's user table, under pseudonyms."""
    with _explained():
        query = open_source(production.settings).users(production.connection)
    return _pseudonymous(production, query)


def device_links(production: Production) -> Query:
    """The links of devices to accounts that the source states, under pseudonyms."""
    with _explained():
        query = open_source(production.settings).device_links(production.connection)
    return _pseudonymous(production, query, "device_id")


def consents(production: Production) -> Query:
    """What people allowed and refused, under pseudonyms: one row a statement."""
    with _explained():
        query = open_source(production.settings).consents(production.connection)
    query = _pseudonymous(production, query, "device_id")
    return Query(CONSENTS.format(select=query.sql), query.parameters)


def identities(production: Production) -> pl.DataFrame:
    """Whose attribution changes on the days of the window."""
    assert production.window is not None
    rules, window = identity_rules(production.settings), production.window
    logins = production.connection.execute(
        "select event_date, device_id, user_id from core.logins"
        " where event_date >= $start and event_date < $end",
        {
            "start": window.start - timedelta(days=rules.link_days),
            "end": window.end + timedelta(days=rules.hindsight_days),
        },
    ).pl()
    statements = production.connection.execute(
        "select device_id, user_id, linked_at from core.device_links"
    ).pl()
    return identity.changes(logins, statements, window.days, rules, first=production.settings.start)


def identity_rules(settings: Settings) -> identity.Rules:
    """The settings of `promo_assets.people.identity`."""
    return identity.Rules(
        link_days=settings.identity_link_days,
        people_per_device=settings.identity_people_per_device,
        identifiers=settings.identity_max_identifiers,
        hindsight_days=settings.identity_hindsight_days,
    )


@contextmanager
def _explained() -> Iterator[None]:
    """A source's error as one of the table's; where nobody answers, a later try may help."""
    try:
        yield
    except UnreachableError:
        raise
    except SourceError as error:
        raise ProductionError(str(error)) from error


def _key(production: Production) -> dict[str, bytes]:
    return key_parameters(_keys(production)[0])


def _keys(production: Production) -> tuple[str, ...]:
    try:
        return keys_of(production.settings)
    except SettingsError as error:
        raise ProductionError(str(error)) from error


def _erased_before(
    production: Production, kinds: Mapping[str, Kind]
) -> tuple[str, dict[str, bytes]]:
    """The condition on ``delivered`` that holds for people who were not erased under a retired
    key, with its parameters; "true" where there is no such key, or nobody was erased."""
    retired = dict(enumerate(_keys(production)[1:], 1))
    if not retired or not production.connection.execute("from audit.erased limit 1").fetchall():
        return "true", {}
    conditions = {
        name: " and ".join(
            NOT_ERASED_BEFORE.format(column=name, pseudonym=pseudonym_sql(name, kind, number))
            for number in retired
        )
        for name, kind in kinds.items()
    }
    parameters: dict[str, bytes] = {}
    for number, key in retired.items():
        parameters |= key_parameters(key, number)
    return _whose(conditions), parameters


def _whose(conditions: Mapping[str, str]) -> str:
    """The condition on a row by those on its ids: a row of an account is that account's, and
    only a row without one is its device's."""
    if "device_id" not in conditions:
        return conditions["user_id"]
    of_device = f"(user_id is not null or ({conditions['device_id']}))"
    return f"({conditions['user_id']}) and {of_device}"


def _pseudonymous(production: Production, query: Query, *device: str) -> Query:
    kinds: dict[str, Kind] = {"user_id": "account", **dict.fromkeys(device, "device")}
    entered = ", ".join(f"{pseudonym_sql(name, kind)} as {name}" for name, kind in kinds.items())
    kept = _whose({name: NOT_ERASED.format(column=name) for name in kinds})
    before, retired = _erased_before(production, kinds)
    return Query(
        f"with delivered as materialized ({query.sql}) select * from "
        f"(select * replace ({entered}) from delivered where {before}) where {kept}",
        {**query.parameters, **_key(production), **retired},
    )


def offers(production: Production) -> pl.DataFrame:
    """The offer catalogue as a table."""
    try:
        return load_catalogue(production.settings.catalogue).frame()
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
        "core.device_links": device_links,
        "core.consents": consents,
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
        Table(
            contracts["core.identities"],
            "events",
            identities,
            version,
            # Its own day before: a day that is held back would lose its changes for later ones.
            inputs={"core.logins": settings.identity_link_days, "core.identities": 1},
            whole=("core.device_links",),
        ),
        *(
            Table(contracts[name], "events", produce, version, grid="whole")
            for name, produce in made.items()
        ),
    ]
