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

from promo_assets.contract.events import EQUAL_ROWS_KEPT, EVENT_KEY, EVENT_TYPES
from promo_assets.contract.tables import TableContract
from promo_assets.people.consent import ConsentRule
from promo_assets.people.identifiers import (
    Spellings,
    identifier_sql,
    test_account_sql,
    value_sql,
    word_sql,
)
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
from promo_assets.tables.findings import FILES_ARE_READ
from promo_assets.tables.table import Produce, Production, ProductionError, Table
from promo_assets.warehouse.publish import Query

if TYPE_CHECKING:
    import polars as pl

    from promo_assets.gates.verdict import Finding


@dataclass(frozen=True)
class Intake:
    """What the group depends on: the delivery, the key of pseudonyms (None for public data), the
    rules of identity, the offer catalogue's file, and what consent an offer needs."""

    delivery: Delivery
    pseudonym_key: SecretStr | None
    identity_rules: Rules
    catalogue: Path
    consent: ConsentRule


CALENDAR = (date(2000, 1, 1), date(2050, 1, 1))

KEYS = ("event_id", "order_id", "item_id")
KEYS_ENTERED = ", ".join(
    f"case when not {word_sql(f'known.{name}')} then known.{name} end as {name}" for name in KEYS
)
NO_KEY = " or ".join(word_sql(f"known.{name}") for name in KEYS)
NO_KEYS = ", ".join(f"case when {word_sql(f'known.{name}')} then '{name}' end" for name in KEYS)
"""Words for nothing are no key, and the row's note says so."""

ENTRY = f"""
with delivered as materialized ({{select}}),
known as (select * from delivered where {{kept}}),
accounts as materialized (
    select
        user_id,
        {pseudonym_sql("spelled", "account")} as pseudonym,
        spelled is null as is_nobody,
        {test_account_sql("spelled")} as test_account
    from (
        select user_id, {{user_id}} as spelled
        from (select distinct user_id from known where user_id is not null)
    )
),
devices as materialized (
    select
        device_id,
        {pseudonym_sql("spelled", "device")} as pseudonym,
        spelled is null as is_nobody
    from (
        select device_id, {{device_id}} as spelled
        from (select distinct device_id from known where device_id is not null)
    )
),
entered as (
    select
        known.* replace (
            accounts.pseudonym as user_id, devices.pseudonym as device_id,
            {KEYS_ENTERED},
            case
                when accounts.is_nobody or devices.is_nobody or {NO_KEY} then concat_ws(
                    '; ', known.note, 'no_id: ' || concat_ws(
                        ', ', case when accounts.is_nobody then 'user_id' end,
                        case when devices.is_nobody then 'device_id' end, {NO_KEYS}
                    )
                )
                when accounts.test_account is not null
                    then concat_ws('; ', known.note, 'test_account: ' || accounts.test_account)
                else known.note
            end as note
        ),
    from known
    left join accounts on accounts.user_id = known.user_id
    left join devices on devices.device_id = known.device_id
)
select *, {{key}} as event_key
from entered
"""
"""Pseudonyms on entry, and the key that finds repeated rows: of what is stored, not of what was
delivered, since a hash of an id would give it away. Each id is spelled and hashed once, not once a
row."""

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
    if skipped := sum(day.skipped for day in taken.days.values()):
        production.note({"rows_skipped": skipped})
    production.found.extend(_unreadable(taken.problems))
    kinds: dict[str, Kind] = {"user_id": "account", "device_id": "device"}
    keys = _keys(intake)
    before, retired = _erased_before(production, keys, kinds, source.ids)
    kept = _whose({name: NOT_ERASED.format(column=name) for name in kinds})
    key = EQUAL_ROWS_KEPT if source.equal_rows_kept else EVENT_KEY
    spelled = _spelled(source.ids)
    entered = ENTRY.format(select=taken.query.sql, kept=before, key=key, **spelled)
    sql = f"select * from ({entered}) where {kept}"
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
        yield Finding(FILES_ARE_READ, "critical", False, 0, tuple(held), (), observed, about)


def items(production: Production, intake: Intake) -> Query:
    """The source's item table."""
    with _explained():
        query = open_source(intake.delivery).items(production.connection)
    listed = f"select * replace ({value_sql('item_id')} as item_id) from ({query.sql})"
    return Query(listed, query.parameters)


def users(production: Production, intake: Intake) -> Query:
    """The source's user table, under pseudonyms."""
    with _explained():
        source = open_source(intake.delivery)
        query = source.users(production.connection)
    query = _pseudonymous(production, intake, source.ids, query)
    return Query(f"select * from ({query.sql}) where user_id is not null", query.parameters)


def device_links(production: Production, intake: Intake) -> Query:
    """The links of devices to accounts that the source states, under pseudonyms."""
    with _explained():
        source = open_source(intake.delivery)
        query = source.device_links(production.connection)
    query = _pseudonymous(production, intake, source.ids, query, "device_id")
    known = "user_id is not null and device_id is not null"
    return Query(f"select * from ({query.sql}) where {known}", query.parameters)


def consents(production: Production, intake: Intake) -> Query:
    """What people allowed and refused, under pseudonyms: one row a statement."""
    with _explained():
        source = open_source(intake.delivery)
        query = source.consents(production.connection)
    query = _pseudonymous(production, intake, source.ids, query, "device_id")
    return Query(CONSENTS.format(select=query.sql), query.parameters)


STATED = """
with before as (
    select device_id, user_id, linked_at, is_stated
    from core.link_statements
    where as_of_date < $since
    qualify row_number() over (partition by device_id, user_id order by as_of_date desc) = 1
),
now as (
    select device_id, user_id, linked_at from core.device_links
)
select
    $since as as_of_date,
    coalesce(now.device_id, before.device_id) as device_id,
    coalesce(now.user_id, before.user_id) as user_id,
    coalesce(now.linked_at, before.linked_at) as linked_at,
    now.device_id is not null as is_stated
from now
full join (select * from before where is_stated) as before
    on before.device_id = now.device_id and before.user_id = now.user_id
where now.device_id is null
    or before.device_id is null
    or now.linked_at is distinct from before.linked_at
"""

PUBLISHED = """
select min(day) as first, max(day) as newest from audit.publications where table_name = $table
"""

STATEMENTS = """
select
    device_id,
    user_id,
    linked_at,
    nullif(as_of_date, $first) as known_from,
    lead(as_of_date) over (partition by device_id, user_id order by as_of_date) as known_until,
    is_stated
from core.link_statements
qualify is_stated
"""


def link_statements(production: Production) -> Query:
    """What the shop began or ceased to state, found on the newest day that is published, or on the
    first of the window that is later (or earlier than all); other days keep what they had."""
    window, own = production.days, production.contract.table
    told = production.row(PUBLISHED, {"table": own}) or {}
    first, newest = (told.get(name) or window.start for name in ("first", "newest"))
    since = window.start if window.start < first else max(window.start, newest)
    kept = f"select * from {own} where as_of_date >= $start and as_of_date < $end"
    bounds = {"start": window.start, "end": window.end}
    if since >= window.end:
        return Query(kept, bounds)
    sql = f"{kept} and as_of_date <> $since union all by name ({STATED})"
    return Query(sql, bounds | {"since": since})


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
    published = production.row(PUBLISHED, {"table": "core.link_statements"}) or {}
    statements = production.read(STATEMENTS, {"first": published.get("first")})
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
    production: Production, keys: Sequence[str], kinds: Mapping[str, Kind], ids: Spellings
) -> tuple[str, dict[str, bytes]]:
    """The condition on ``delivered`` that holds for people who were not erased under a retired
    key, with its parameters; "true" where there is no such key, or nobody was erased."""
    retired = dict(enumerate(keys[1:], 1))
    if not retired or production.row("from audit.erased limit 1") is None:
        return "true", {}
    conditions = {
        name: " and ".join(
            NOT_ERASED_BEFORE.format(
                column=name,
                pseudonym=pseudonym_sql(identifier_sql(name, ids.get(name, ())), kind, number),
            )
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


def _spelled(ids: Spellings) -> dict[str, str]:
    """The identifiers of a row as they count, in SQL, by column."""
    names = ("user_id", "device_id")
    return {name: identifier_sql(name, ids.get(name, ())) for name in names}


def _pseudonymous(
    production: Production, intake: Intake, ids: Spellings, query: Query, *device: str
) -> Query:
    kinds: dict[str, Kind] = {"user_id": "account", **dict.fromkeys(device, "device")}
    spelled = _spelled(ids)
    entered = ", ".join(
        f"{pseudonym_sql(spelled[name], kind)} as {name}" for name, kind in kinds.items()
    )
    kept = _whose({name: NOT_ERASED.format(column=name) for name in kinds})
    keys = _keys(intake)
    before, retired = _erased_before(production, keys, kinds, ids)
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


def gate_limits(production: Production, intake: Intake) -> pl.DataFrame:
    """What the source's gates tolerate, so that SQL can compare."""
    with _explained():
        return production.frame(open_source(intake.delivery).gates.limits())


def consent_purposes(production: Production, intake: Intake) -> pl.DataFrame:
    """What consent an offer needs, so that gates can check it anew."""
    rule = intake.consent
    return production.frame(
        [{"purpose": name, "unknown_allowed": rule.unknown_allowed} for name in rule.purposes]
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
        "core.gate_limits": partial(gate_limits, intake=intake),
        "core.calendar": calendar,
        "core.items": partial(items, intake=intake),
        "core.users": partial(users, intake=intake),
        "core.offers": partial(offers, intake=intake),
        "core.device_links": partial(device_links, intake=intake),
        "core.consents": partial(consents, intake=intake),
        "core.consent_purposes": partial(consent_purposes, intake=intake),
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
            inputs={
                "core.logins": intake.identity_rules.link_days,
                "core.link_statements": 0,
                "core.identities": 1,
            },
        ),
        Table(
            contracts["core.link_statements"],
            "events",
            link_statements,
            version,
            whole=("core.device_links",),
        ),
        *(
            Table(contracts[name], "events", produce, version, grid="whole")
            for name, produce in made.items()
        ),
    ]
