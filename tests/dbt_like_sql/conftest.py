"""A warehouse with random shoppers, and models run through the real write path."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import polars as pl
import pytest

from promo_assets.contract.days import Window
from promo_assets.contract.tables import load_contracts
from promo_assets.warehouse.models.parsing import load_model
from promo_assets.warehouse.publish import Query, Slice, ensure_table, prepare, publish, stage

PROJECT = Path(__file__).resolve().parents[2]
MODELS = PROJECT / "dbt_like_sql"
CONTRACTS = load_contracts(PROJECT / "expectations")
CHAIN = (
    "features.user_daily",
    "features.user_features",
    "profiles.user_interests",
    "profiles.user_profiles",
    "segments.user_segments",
    "segments.segment_summary",
)
FIRST = date(2024, 1, 1)
EVENT_COLUMNS = {
    "event_id": pl.String,
    "event_time": pl.Datetime("us"),
    "event_date": pl.Date,
    "event_type": pl.String,
    "user_id": pl.String,
    "device_id": pl.String,
    "session_id": pl.String,
    "channel": pl.String,
    "item_id": pl.String,
    "quantity": pl.Int64,
    "unit_price": pl.Decimal(18, 2),
    "discount": pl.Decimal(18, 2),
    "order_id": pl.String,
    "search_query": pl.String,
    "offer_id": pl.String,
    "campaign_id": pl.String,
    "assignment_probability": pl.Float64,
}
KINDS = ["view", "search", "click", "favourite", "add_to_cart", "return", "offer_sent"]
KINDS += ["offer_withheld", "offer_viewed", "offer_redeemed", "purchase", "purchase", "purchase"]
Event = dict[str, Any]


def event(kind: str, user: str | None, day: int | date, **columns: Any) -> Event:
    """One event; ``day`` counts from FIRST. Order lines are one i0 of 10.00 unless told."""
    on = day if isinstance(day, date) else FIRST + timedelta(days=day)
    row: Event = dict.fromkeys(EVENT_COLUMNS)
    row |= {
        "event_time": datetime.combine(on, time(columns.pop("hour", 12), 30)),
        "event_date": on,
        "event_type": kind,
        "user_id": user,
        "channel": "web",
        "discount": Decimal(0),
    }
    if kind in ("purchase", "return"):
        row |= {"item_id": "i0", "quantity": 1, "unit_price": Decimal(10)}
        row["order_id"] = f"order/{user}/{on}"
    if kind.startswith("offer"):
        row |= {"offer_id": "type_a", "campaign_id": "c1"}
    row |= columns
    row["event_id"] = "/".join(str(value) for value in row.values())
    return row


def shoppers(days: int, seed: int = 7, users: int = 14) -> list[Event]:
    """Random events: quiet days, users who come late or leave, returns, lines without an order,
    events of devices only, offers sent, withheld and redeemed."""
    rng = random.Random(seed)
    quiet = set(rng.sample(range(days), days // 10))
    rows: list[Event] = []
    for number in range(users):
        first = rng.choice([0, 0, rng.randrange(days)])
        last = rng.choice([days, days, rng.randrange(first, days) + 1])
        rate = rng.choice([0.05, 0.15, 0.4, 0.8])
        for day in range(first, last):
            if day not in quiet and rng.random() < rate:
                rows += _visit(rng, f"u{number}" if number else None, day)
    for number, row in enumerate(rows):
        row["event_id"] = f"e{number}"
    return rows


def _visit(rng: random.Random, user: str | None, day: int) -> list[Event]:
    rows = []
    for _ in range(rng.randint(1, 6)):
        kind = rng.choice(KINDS)
        columns: dict[str, Any] = {
            "hour": rng.randrange(24),
            "channel": rng.choice(["app", "web", "store", "phone"]),
            "device_id": "d0",
        }
        if kind in ("view", "click", "favourite", "add_to_cart"):
            columns["item_id"] = rng.choice(["i0", "i3", "i5", None])
        if kind in ("purchase", "return"):
            quantity, cents = rng.randint(1, 4), rng.randint(0, 3000)
            columns |= {
                "item_id": rng.choice(["i0", "i1", "i2", "i3", "i4", "i5", "i9"]),
                "quantity": quantity,
                "unit_price": Decimal(cents) / 100,
                "discount": Decimal(rng.randint(0, quantity * cents)) / 100,
                "order_id": rng.choice([f"o{user}{day}a", f"o{user}{day}b", None]),
            }
        if kind == "offer_redeemed":
            columns["discount"] = Decimal(rng.randint(0, 500)) / 100
        rows.append(event(kind, user, day, **columns))
    return rows


@cache
def _sql(table: str) -> str:
    return load_model(MODELS / f"{table.replace('.', '/')}.sql", MODELS).sql


@dataclass
class Shop:
    """A warehouse in one file, and the models that run on it."""

    connection: duckdb.DuckDBPyConnection
    path: Path
    chain: ClassVar = CHAIN
    contracts: ClassVar = CONTRACTS
    event: ClassVar = staticmethod(event)
    shoppers: ClassVar = staticmethod(shoppers)

    @classmethod
    def at(cls, path: Path) -> Shop:
        """An empty warehouse with a calendar, six items, and every table of the chain."""
        connection = duckdb.connect(
            str(path), config={"threads": 1, "preserve_insertion_order": False}
        )
        connection.execute("set TimeZone = 'UTC'")
        prepare(connection)
        inputs = ("core.events", "core.items", "core.calendar", "propensity.scores")
        for table in (*inputs, *CHAIN):
            ensure_table(connection, CONTRACTS[table])
        connection.execute("""
            insert into core.calendar
            select day, isodow(day), isodow(day) >= 6, cast(date_trunc('week', day) as date)
            from (select unnest(generate_series(
                date '2023-01-01', date '2025-12-31', interval 1 day))::date as day)
        """)
        connection.execute("""
            insert into core.items (item_id, category, brand) values
            ('i0', 'FOOD/BREAD/RYE', 'alba'), ('i1', 'FOOD/BREAD/WHEAT', 'alba'),
            ('i2', 'FOOD/CHEESE/BLUE', 'bora'), ('i3', 'HOME/SOAP/BAR', 'cima'),
            ('i4', 'HOME', 'bora'), ('i5', null, null)
        """)
        return cls(connection, path)

    def deliver(self, events: Collection[Event]) -> None:
        """Replace core.events."""
        frame = pl.DataFrame(list(events), schema=EVENT_COLUMNS, orient="row")
        self.connection.register("delivered", frame.to_arrow())
        self.connection.execute("delete from core.events")
        self.connection.execute("insert into core.events by name select * from delivered")
        self.connection.unregister("delivered")

    def run(self, start: date, end: date, tables: Collection[str] = CHAIN) -> None:
        """Stage and publish ``[start, end)`` of ``tables``, one after the other."""
        for table in tables:
            target = Slice(CONTRACTS[table], Window(start, end))
            stage(self.connection, target, self.query(table, start, end))
            publish(self.connection, target, run_id="test", code_version="test")

    def query(self, table: str, start: date, end: date) -> Query:
        return Query(_sql(table), {"start": start, "end": end})

    def rows(self, table: str, where: str = "true") -> list[tuple[Any, ...]]:
        """The published rows in one order, so that two states can be compared."""
        return self.connection.execute(
            f"select * from {table} where {where} order by all"
        ).fetchall()

    def frame(self, table: str, where: str = "true") -> pl.DataFrame:
        return self.select(f"select * from {table} where {where} order by all")

    def select(self, sql: str) -> pl.DataFrame:
        return pl.DataFrame(self.connection.execute(sql).to_arrow_table())

    def one(self, table: str, user: str, day: date) -> dict[str, Any]:
        """The row of one user as of one day."""
        frame = self.frame(table, f"user_id = '{user}' and as_of_date = date '{day}'")
        assert frame.height == 1, f"{table} has {frame.height} rows of {user} as of {day}"
        return frame.row(0, named=True)

    def offending(self, table: str, audit: str, start: date, end: date) -> list[tuple[Any, ...]]:
        """What a ``rows`` audit finds in the published ``[start, end)`` as if it were staged."""
        contract = CONTRACTS[table]
        (expectation,) = [item for item in contract.expectations if item.name == audit]
        self.connection.execute(
            f"create or replace temp table batch as select * from {table}"
            f" where {contract.window} >= $start and {contract.window} < $end",
            {"start": start, "end": end},
        )
        self.connection.execute(
            "create or replace temp table audited as select day from core.calendar"
            " where day >= $start and day < $end",
            {"start": start, "end": end},
        )
        query = expectation.query.replace("{batch}", "batch").replace("{window}", "audited")
        return self.connection.execute(query).fetchall()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop.at(tmp_path / "shop.duckdb")
    yield made
    made.connection.close()


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Random shoppers over 130 days, all tables in one range; tests of a module share it and
    don't change it."""
    made = Shop.at(tmp_path_factory.mktemp("year") / "shop.duckdb")
    made.deliver(shoppers(days=130))
    made.run(FIRST, FIRST + timedelta(days=130))
    yield made
    made.connection.close()
