"""Group ``events``: what was delivered, what of it can be used, and what it refers to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from promo_assets.contract.events import EVENT_KEY, EVENT_TYPES
from promo_assets.contract.tables import TableContract
from promo_assets.people.links import Rules
from promo_assets.people.pseudonyms import (
    Kind,
    PseudonymKeyError,
    key_parameters,
    keys_of,
    pseudonym_sql,
)
from promo_assets.sources import Delivery, SourceError, UnreachableError, open_source
from promo_assets.sources.deliveries import record, retained
from promo_assets.strategy.offers.catalogue import CatalogueError, load_catalogue
from promo_assets.tables.table import Produce, Production, ProductionError, Table
from promo_assets.warehouse.publish import Query

if TYPE_CHECKING:
    import polars as pl

    from promo_assets.gates.verdict import Finding


@dataclass(frozen=True)
class Intake:
    """What the group depends on: the delivery, the key of pseudonyms (None for public data), the
    rules of identity, and the offer catalogue's file."""

    delivery: Delivery
    pseudonym_key: SecretStr | None
    identity_rules: Rules
    catalogue: Path


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


KEPT = "select * from raw.events where list_contains($retained, event_date)"


def raw_events(production: Production, intake: Intake) -> Query:
    """The delivered rows of the window under pseudonyms, without those of erased people; of days
    that the source keeps no longer the rows that are published."""
    connection, window = production.connection, production.days
    with _explained():
        source = open_source(intake.delivery)
        taken = source.take(window, connection)
        gone = retained(connection, source, taken.days, window)
    record(connection, window, {**taken.days, **gone}, production.run_id)
    production.note({"source": f"{source.name} {source.version}"})
    production.found.extend(_unreadable(taken.problems))
    kinds: dict[str, Kind] = {"user_id": "account", "device_id": "device"}
    keys = _keys(intake)
    before, retired = _erased_before(production, keys, kinds)
    kept = _whose({name: NOT_ERASED.format(column=name) for name in kinds})
    sql = f"select * from ({ENTRY.format(select=taken.query.sql, kept=before)}) where {kept}"
    parameters = {**taken.query.parameters, **key_parameters(keys[0]), **retired}
    if gone:
        sql, parameters = f"{sql} union all by name {KEPT}", parameters | {"retained": list(gone)}
    return Query(sql, parameters)


def _unreadable(problems: Mapping[date, Sequence[str]]) -> Iterator[Finding]:
    """One finding a file, on the days that it may hold."""
    from promo_assets.gates.verdict import Finding

    days: dict[str, list[date]] = {}
    for day, files in sorted(problems.items()):
        for told in files:
            days.setdefault(told, []).append(day)
    for told, held in days.items():
        observed = f"{told}. Repair or remove the file"
        about = "Every delivered file of the day is read."
        yield Finding("files_are_read", "critical", False, 0, tuple(held), (), observed, about)


def items(production: Production, intake: Intake) -> Query:
    """The source's item table."""
    with _explained():
        return open_source(intake.delivery).items(production.connection)


def users(production: Production, intake: Intake) -> Query:
    """The source's user table, under pseudonyms."""
    with _explained():
        query = open_source(intake.delivery).users(production.connection)
    return _pseudonymous(production, intake, query)


def device_links(production: Production, intake: Intake) -> Query:
    """The links of devices to accounts that the source states, under pseudonyms."""
    with _explained():
        query = open_source(intake.delivery).device_links(production.connection)
    return _pseudonymous(production, intake, query, "device_id")


def consents(production: Production, intake: Intake) -> Query:
    """What people allowed and refused, under pseudonyms: one row a statement."""
    with _explained():
        query = open_source(intake.delivery).consents(production.connection)
    query = _pseudonymous(production, intake, query, "device_id")
    return Query(CONSENTS.format(select=query.sql), query.parameters)


def identities(production: Production, intake: Intake) -> pl.DataFrame:
    """Whose attribution changes on the days of the window."""
    from promo_assets.people.identity import changes

    rules, window = intake.identity_rules, production.days
    logins = production.read(
        "select event_date, device_id, user_id from core.logins"
        " where event_date >= $start and event_date < $end",
        {
            "start": window.start - timedelta(days=rules.link_days),
            "end": window.end + timedelta(days=rules.hindsight_days),
        },
    )
    statements = production.read("select device_id, user_id, linked_at from core.device_links")
    return changes(logins, statements, window.days, rules, first=intake.delivery.first)


@contextmanager
def _explained() -> Iterator[None]:
    """A source's error as one of the table's; where nobody answers, a later try may help."""
    try:
        yield
    except UnreachableError:
        raise
    except SourceError as error:
        raise ProductionError(str(error)) from error


def _keys(intake: Intake) -> tuple[str, ...]:
    told = intake.pseudonym_key
    try:
        return keys_of(None if told is None else told.get_secret_value(), intake.delivery.source)
    except PseudonymKeyError as error:
        raise ProductionError(str(error)) from error


def _erased_before(
    production: Production, keys: Sequence[str], kinds: Mapping[str, Kind]
) -> tuple[str, dict[str, bytes]]:
    """The condition on ``delivered`` that holds for people who were not erased under a retired
    key, with its parameters; "true" where there is no such key, or nobody was erased."""
    retired = dict(enumerate(keys[1:], 1))
    if not retired or production.row("from audit.erased limit 1") is None:
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


def _pseudonymous(production: Production, intake: Intake, query: Query, *device: str) -> Query:
    kinds: dict[str, Kind] = {"user_id": "account", **dict.fromkeys(device, "device")}
    entered = ", ".join(f"{pseudonym_sql(name, kind)} as {name}" for name, kind in kinds.items())
    kept = _whose({name: NOT_ERASED.format(column=name) for name in kinds})
    keys = _keys(intake)
    before, retired = _erased_before(production, keys, kinds)
    return Query(
        f"with delivered as materialized ({query.sql}) select * from "
        f"(select * replace ({entered}) from delivered where {before}) where {kept}",
        {**query.parameters, **key_parameters(keys[0]), **retired},
    )


def offers(production: Production, intake: Intake) -> pl.DataFrame:
    """The offer catalogue as a table."""
    from promo_assets.strategy.offers.frame import catalogue_frame

    try:
        return catalogue_frame(load_catalogue(intake.catalogue))
    except CatalogueError as error:
        raise ProductionError(str(error)) from error


def event_types(production: Production) -> pl.DataFrame:
    """The contract's event types, so that SQL need not repeat them."""
    import polars as pl

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
    import polars as pl

    first, end = CALENDAR
    days = pl.date_range(first, end - timedelta(days=1), eager=True).alias("day")
    return pl.DataFrame({"day": days}).with_columns(
        weekday=pl.col("day").dt.weekday().cast(pl.Int32),
        is_weekend=pl.col("day").dt.weekday() > 5,
        week_start=pl.col("day").dt.truncate("1w"),
    )


def tables(contracts: Mapping[str, TableContract], intake: Intake) -> list[Table]:
    """The group's tables that Python makes; the SQL models come from ``dbt_like_sql/core``."""
    made: dict[str, Produce] = {
        "core.event_types": event_types,
        "core.calendar": calendar,
        "core.items": partial(items, intake=intake),
        "core.users": partial(users, intake=intake),
        "core.offers": partial(offers, intake=intake),
        "core.device_links": partial(device_links, intake=intake),
        "core.consents": partial(consents, intake=intake),
    }
    version = "1"
    return [
        Table(
            contracts["raw.events"],
            "events",
            partial(raw_events, intake=intake),
            f"{version}+{intake.delivery.source.partition(':')[0]}",
            kinds=frozenset({"duckdb", "table", "bronze"}),
        ),
        Table(
            contracts["core.identities"],
            "events",
            partial(identities, intake=intake),
            version,
            # Its own day before: a day that is held back would lose its changes for later ones.
            inputs={"core.logins": intake.identity_rules.link_days, "core.identities": 1},
            whole=("core.device_links",),
        ),
        *(
            Table(contracts[name], "events", produce, version, grid="whole")
            for name, produce in made.items()
        ),
    ]
