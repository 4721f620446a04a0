"""``promo check DIR``: what the platform would make of a folder, before anything is written.

The folder is read as the source reads it, some days at a time into memory, and its rows are judged
by the platform's own SQL (``dbt_like_sql/core/rejected_events.sql``). Nothing is written anywhere.
Not here: what the gates say (``cli/rehearsal.py``), and how it is told (``cli/check_report.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from typing import Any, get_args

import duckdb

from promo_assets.contract.days import Window
from promo_assets.contract.events import EQUAL_ROWS_KEPT, EVENT_KEY, EVENT_TYPES
from promo_assets.contract.project import MODELS
from promo_assets.people.identifiers import Spelling, identifier_sql
from promo_assets.sources import Delivery, SourceError, open_source
from promo_assets.sources.files import Files
from promo_assets.sources.hints import COLUMN_NAMES
from promo_assets.sources.inventory import DeliveredFile, Inventory
from promo_assets.warehouse.publish import Query

REJECTED = MODELS / "core" / "rejected_events.sql"
AT_ONCE = 1_000_000
"""Rows in memory at a time, or those of one day where it has more."""

REPEATS = """
select count(*) - count(distinct value)
from (select json_extract_string(extra, $path) as value from raw.events)
"""

TIMED = "select 1 from raw.events where event_time like '____-__-__ __:__:__.______'"
READABLE = """
select distinct told
from (
    select unnest([quantity, unit_price, discount]) as told, source_file, source_row from raw.events
)
anti join (
    select source_file, source_row from core.rejected_events
    where reason like '%_unreadable' or reason like '%_too_precise'
) using (source_file, source_row)
where told is not null
order by told limit 100
"""

ACCOUNTS = """
insert into core.accounts
select distinct user_id from raw.events
where user_id is not null and user_id not in (select user_id from core.accounts)
"""
LISTED = """
select count(*)
from (select distinct {accounts} as id from core.accounts)
semi join (select {listed} as id from ({table})) using (id)
"""
SPELLINGS = [
    tried
    for size in range(1 + len(get_args(Spelling)))
    for tried in combinations(get_args(Spelling), size)
]
"""Every way in which identifiers can be made alike, the simplest first."""

PLAUSIBLE = date(2000, 1, 1)
"""Where ``PROMO_START`` is not set, the data starts with its first day from here on."""

SHOWN = 3
"""Rejected rows that are kept as examples, by reason."""


@dataclass
class Facts:
    """What was found in a folder.

    ``days`` are rows by day; rows on ``later`` days wait for them. ``columns`` counts the files
    that have a column. ``skipped`` rows are no events, by the mapping, and in no other number.
    ``rejected`` counts rows by reason. ``types`` are the unknown event types
    with their rows, ``times`` and ``numbers`` some unreadable ones, ``timed`` whether others can be
    read, ``readable`` some numbers that can. ``repeats``: of the columns that are called
    like an event's id, the rows that have the value of another. ``tables`` are the rows of the
    tables beside the events, ``consents`` the statements by purpose and answer, ``wrong`` what
    makes one of them unusable. ``spelling`` is how most accounts of events are found in users or
    consents, where hardly any are as they are spelled now.
    """

    files: list[DeliveredFile]
    first: date
    days: dict[date, int]
    later: dict[date, int]
    columns: Counter[str]
    skipped: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    types: Counter[str] = field(default_factory=Counter)
    times: list[str] = field(default_factory=list)
    timed: bool = False
    numbers: list[str] = field(default_factory=list)
    readable: list[str] = field(default_factory=list)
    repeats: Counter[str] = field(default_factory=Counter)
    tables: dict[str, int] = field(default_factory=dict)
    consents: dict[tuple[str, bool], int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    spelling: tuple[Spelling, ...] = ()
    lost: list[str] = field(default_factory=list)
    """What the mapping names and no file has."""

    @property
    def rows(self) -> int:
        return sum(self.days.values())

    @property
    def broken(self) -> list[DeliveredFile]:
        return [file for file in self.files if file.problem]

    @property
    def accepted(self) -> bool:
        """Whether there are rows, and every file, table and column that is named could be read."""
        return bool(self.rows) and not (self.broken or self.wrong or self.lost)


def look(source: Files, *, threads: int, first: date | None) -> Facts:
    """Read all of ``source`` and say what it holds, from the day ``first`` on or from the first day
    that has rows, whichever is later; None: from the first plausible day.

    Raises `SourceError` where a day is too large for memory.
    """
    with duckdb.connect(config={"threads": threads}) as connection:
        # Without a folder to spill to, nothing is ever written.
        connection.execute("set TimeZone = 'UTC'; set temp_directory = ''")
        with replace(source, store=None).inventory(connection) as inventory:
            facts = _facts(inventory, first)
            facts.lost = source.unknown(inventory)
            _judge(facts, source, inventory, connection)
        _look_beside(facts, source, connection)
    return facts


def span_of(delivery: Delivery) -> Window | None:
    """The days of which the source has rows; None where it does not know. Raises `SourceError`."""
    with duckdb.connect() as connection:
        return open_source(delivery).span(connection)


def _facts(inventory: Inventory, first: date | None) -> Facts:
    if first is None:
        inventory.first = inventory.first_day(PLAUSIBLE) or inventory.first
    files, days = inventory.files(), inventory.days()
    columns = Counter(name for file in files if file.layout for name in file.layout.types())
    today = datetime.now(UTC).date()
    later = {day: count for day, count in days.items() if day > today}
    known = {day: count for day, count in days.items() if day <= today}
    # A shop begins with its first day: of those before, no run could ever be done.
    inventory.first = max(inventory.first, min(known, default=inventory.first))
    return Facts(files, inventory.first, known, later, columns, inventory.skipped())


def _judge(
    facts: Facts, source: Files, inventory: Inventory, connection: duckdb.DuckDBPyConnection
) -> None:
    """Reject rows as ``core.rejected_events`` does."""
    _declare_event_types(connection)
    key = EQUAL_ROWS_KEPT if source.equal_rows_kept else EVENT_KEY
    for window in _windows(facts.days):
        query = source.rows(window, inventory)
        try:
            connection.execute(
                f"create or replace table raw.events as select *, {key} as event_key "
                f"from ({query.sql})",
                dict(query.parameters),
            )
            connection.execute(
                f"create or replace table core.rejected_events as {REJECTED.read_text()}",
                {"start": window.start, "end": window.end},
            )
        except duckdb.OutOfMemoryException as error:
            raise SourceError(
                f"{window}: {sum(facts.days[day] for day in facts.days if day in window.days):,} "
                "rows don't fit into memory; check a folder with a part of them"
            ) from error
        _count(facts, connection)
        connection.execute(ACCOUNTS)
        for name in source.mapping.kept_aside(facts.columns):
            if name.casefold() in COLUMN_NAMES["event_id"]:
                told = connection.execute(REPEATS, {"path": f'$."{name}"'}).fetchone() or (0,)
                facts.repeats[name] += told[0]


def _windows(days: Mapping[date, int]) -> Iterator[Window]:
    """Windows that hold all ``days``, each of about `AT_ONCE` rows."""
    start, rows = None, 0
    for day, count in sorted(days.items()):
        start = start or day
        rows += count
        if rows >= AT_ONCE or day == max(days):
            yield Window(start, day + timedelta(days=1))
            start, rows = None, 0


def _declare_event_types(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "create schema raw; create schema core; create table core.accounts (user_id varchar); "
        "create table core.event_types "
        "(event_type varchar, needs_order_line boolean, needs_offer boolean)"
    )
    connection.executemany(
        "insert into core.event_types values (?, ?, ?)",
        [(kind.name, kind.needs_order_line, kind.needs_offer) for kind in EVENT_TYPES],
    )


def _count(facts: Facts, connection: duckdb.DuckDBPyConnection) -> None:
    """Add what ``core.rejected_events`` holds now."""

    def ask(sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return connection.execute(sql, parameters or None).fetchall()

    rejected = "from core.rejected_events where"
    facts.rejected.update(
        dict(ask(f"select reason, count(*) {rejected} true group by reason order by all"))
    )
    facts.types.update(
        dict(
            ask(
                "select coalesce(event_type, ''), count(*) from raw.events "
                "where event_type is null "
                "or event_type not in (select event_type from core.event_types) "
                "group by all order by all"
            )
        )
    )
    unreadable = ask(
        f"select distinct event_time {rejected} reason = 'event_time_unreadable' "
        "and event_time is not null order by event_time limit 100"
    )
    facts.times = (facts.times + [time for (time,) in unreadable])[:100]
    unreadable = ask(
        f"select distinct coalesce(case reason when 'quantity_unreadable' then quantity "
        f"when 'discount_unreadable' then discount else unit_price end, '') as told {rejected} "
        "(reason like '%_unreadable' and try_cast(told as double) is null "
        "or reason = 'price_too_precise') "
        "and reason <> 'event_time_unreadable' order by told limit 100"
    )
    facts.numbers = (facts.numbers + [told for (told,) in unreadable if told])[:100]
    if facts.numbers:
        readable = ask(READABLE)
        facts.readable = (facts.readable + [told for (told,) in readable])[:100]
    facts.timed = facts.timed or bool(ask(f"{TIMED} limit 1"))
    found = connection.execute(
        f"select * {rejected} true qualify row_number() over "
        "(partition by reason order by source_file, source_row) <= $shown",
        {"shown": SHOWN},
    )
    names = [column[0] for column in found.description or ()]
    for values in found.fetchall():
        row = dict(zip(names, values, strict=True))
        kept = facts.examples.setdefault(row["reason"], [])
        if len(kept) < SHOWN:
            kept.append(row)


def _look_beside(facts: Facts, source: Files, connection: duckdb.DuckDBPyConnection) -> None:
    """The tables beside the events, each of which may be missing or wrong."""
    beside = source.dimensions(connection)

    def count(query: Query) -> int:
        found = connection.execute(f"select count(*) from ({query.sql})", dict(query.parameters))
        return int((found.fetchone() or (0,))[0])

    questions = {
        "items": beside.items,
        "users": beside.users,
        "identities": beside.device_links,
        "consents": beside.consents,
    }
    for stem, question in questions.items():
        try:
            query = question()
            if stem in ("users", "consents") and beside.table(stem) and not facts.spelling:
                facts.spelling = _spelling(source, query, connection)
            if stem == "consents":
                told = connection.execute(
                    f"select purpose, granted, count(*) from ({query.sql}) "
                    "group by all order by all",
                    dict(query.parameters),
                )
                facts.consents = {(purpose, yes): rows for purpose, yes, rows in told.fetchall()}
            elif beside.table(stem):
                facts.tables[stem] = count(query)
        except SourceError as error:
            if str(error) not in facts.wrong:
                facts.wrong.append(str(error))


def _spelling(
    source: Files, table: Query, connection: duckdb.DuckDBPyConnection
) -> tuple[Spelling, ...]:
    """The spelling that finds at least twice as many of the events' accounts in a table of users as
    the mapping's, and most of them; () where there is none."""

    def found(spelled: Sequence[Spelling]) -> int:
        sql = identifier_sql("user_id", spelled)
        asked = LISTED.format(accounts=sql, listed=sql, table=table.sql)
        return int(connection.execute(asked, dict(table.parameters)).fetchall()[0][0])

    accounts = connection.execute("select count(*) from core.accounts").fetchall()[0][0]
    now = found(source.ids.get("user_id", ()))
    if 2 * now >= accounts:
        return ()
    counts = {tried: found(tried) for tried in SPELLINGS}
    best = max(SPELLINGS, key=lambda tried: (counts[tried], -len(tried)))
    return best if 2 * counts[best] > max(accounts, 4 * now) else ()
