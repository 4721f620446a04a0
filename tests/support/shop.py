"""A small shop whose days are files, and the platform on top of it, as whole-pipeline tests use.

Here: what happens in the shop, its installation (`Shop`), and how two installations are compared.
Not here: when one is made and who shares it (``tests/conftest.py``).
"""

from __future__ import annotations

import csv
import fcntl
import os
import random
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from promo_assets import installation
from promo_assets.cli.explanation import explain
from promo_assets.contract.days import Window
from promo_assets.contract.events import EVENT_COLUMNS
from promo_assets.contract.tables import TableContract
from promo_assets.definitions import build_definitions, build_tables
from promo_assets.orchestration.runs import Phase, PhaseResult, open_instance, run_days, run_phase
from promo_assets.settings import Settings
from promo_assets.warehouse.publish import ALWAYS

WITH_RUNS = ("propensity.trainings", "strategy.effect_levels")
"""Tables that name runs of MLflow, whose ids differ from run to run."""
FIRST = date(2024, 1, 1)
DAYS = 30
USERS = 40
ITEMS = 12
TRIAL_DAY = 2
"""Days after the first on which a randomised campaign is sent; it closes 27 days later."""

KEY = "a key for tests only"

COLUMNS = [column.name for column in EVENT_COLUMNS if column.name != "event_date"]
OFFERS = """
offers:
  - {id: five_off, name: Five off, kind: amount_off, value: 5.00, valid_days: 14, send_cost: 0.10,
     expected_redemption_rate: 0.2, expected_cost_per_redemption: 5.00, prior_lift: 0.3}
  - {id: letter, name: A letter, kind: informational, send_cost: 0.05, prior_lift: 0.05,
     frequency_cap: {times: 1, days: 28}}
"""

DELIVERED = ("raw.events", "core.rejected_events")
"""What a delivery changes before the gate of core.events has looked at it."""

Event = dict[str, Any]
Rows = list[tuple[Any, ...]]


def day_of(offset: int) -> date:
    """The shop's day number ``offset``, from 0."""
    return FIRST + timedelta(days=offset)


def events_of(day: date) -> list[Event]:
    """What happened in the shop on ``day``: the same rows whenever it is asked."""
    draw = random.Random(f"shop {day}")
    offset = (day - FIRST).days
    rows = [row for user in range(USERS) for row in _visit(draw, day, user, offset)]
    if offset == TRIAL_DAY:
        rows += [row for user in range(USERS) for row in _trial(draw, day, user)]
    # Somebody unknown closes every day: its feed is complete.
    rows.append({"event_time": _at(day, 86_399), "event_type": "view", "device_id": "till"})
    return [{"event_id": f"{day}-{number}", **row} for number, row in enumerate(rows)]


def _visit(draw: random.Random, day: date, user: int, offset: int) -> list[Event]:
    """A user's visit, if any: users come one after the other, and not equally often."""
    came = draw.random() < 0.15 + 0.6 * (user % 5) / 5
    if not came or offset < user - 30:
        return []
    start = draw.randrange(8 * 3600, 22 * 3600)
    seen = [f"item-{draw.randrange(ITEMS)}" for _ in range(draw.randint(1, 4))]
    who = {"user_id": f"user-{user:02}", "session_id": f"{day}-{user}", "channel": "app"}
    rows: list[Event] = [
        {"event_time": _at(day, start + 60 * step), "event_type": "view", "item_id": item, **who}
        for step, item in enumerate(seen)
    ]
    if draw.random() < 0.3:
        query = {"event_type": "search", "search_query": "tea"}
        rows.append({"event_time": _at(day, start + 300), **query, **who})
    if draw.random() < 0.5:
        for step, item in enumerate(seen[:2]):
            cents = draw.randrange(199, 2999)
            quantity = draw.randint(1, 3)
            line = {
                "event_type": "purchase",
                "item_id": item,
                "quantity": quantity,
                "unit_price": f"{cents / 100:.2f}",
                "discount": f"{draw.choice((0, 0, cents // 5)) / 100:.2f}",
                "order_id": f"order-{day}-{user}",
            }
            rows.append({"event_time": _at(day, start + 600 + step), **line, **who})
    return rows


def _trial(draw: random.Random, day: date, user: int) -> list[Event]:
    """A coin for every user: sent the offer, or kept as control."""
    sent = draw.random() < 0.5
    return [
        {
            "event_time": _at(day, 9 * 3600),
            "event_type": "offer_sent" if sent else "offer_withheld",
            "user_id": f"user-{user:02}",
            "offer_id": "five_off" if sent else None,
            "campaign_id": "new-year",
            "assignment_probability": 0.5,
        }
    ]


def _at(day: date, second: int) -> str:
    return (datetime.combine(day, time()) + timedelta(seconds=second)).isoformat()


@dataclass(frozen=True)
class Shop:
    """A folder with a source (``shop/events/<day>.csv``) and an installation (``home``)."""

    folder: Path

    @cached_property
    def settings(self) -> Settings:
        offers = self.folder / "offers.yaml"
        if not offers.exists():
            offers.write_text(OFFERS)
        return Settings(
            home=self.folder / "home",
            source=f"files:{self.folder / 'shop'}",
            start=FIRST,
            offers=offers,
            budget=20,
            threads=1,
            pseudonym_key=KEY,
            consent_unknown="allow",
        )

    @cached_property
    def definitions(self) -> dg.Definitions:
        return build_definitions(self.settings)

    @property
    def environment(self) -> dict[str, str]:
        """The variables under which ``promo`` runs this installation."""
        told = self.settings.model_dump(mode="json", exclude_none=True)
        wanted = ("home", "source", "start", "offers", "budget", "threads", "consent_unknown")
        variables = {f"PROMO_{name.upper()}": str(told[name]) for name in wanted}
        return os.environ | variables | {"PROMO_PSEUDONYM_KEY": KEY}

    def file(self, day: date) -> Path:
        return self.folder / "shop" / "events" / f"{day}.csv"

    @staticmethod
    def day(number: int) -> date:
        """The shop's day ``number``, from 0."""
        return day_of(number)

    @staticmethod
    def events(number: int) -> list[Event]:
        """What happens on the shop's day ``number``: the same whenever it is asked."""
        return events_of(day_of(number))

    def deliver(self, number: int, events: Sequence[Event] | None = None) -> None:
        """Write the day's file, in place of what was delivered before."""
        path = self.file(day_of(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.events(number) if events is None else events)

    def deliver_all(self, days: int) -> Shop:
        """Deliver the first ``days`` days."""
        for number in range(days):
            self.deliver(number)
        return self

    def copy(self, folder: Path) -> Shop:
        """The same shop and installation elsewhere, to be changed at will."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Shop(folder)

    def run(self, first: int, last: int, groups: Sequence[str] = ()) -> list[PhaseResult]:
        """Run the days ``first`` to ``last`` through every phase, as ``promo run`` does."""
        window = Window(day_of(first), day_of(last + 1))
        with open_instance(self.settings.places) as instance:
            partitions = installation.partitions(self.settings)
            return run_days(window, partitions, self.definitions, instance, groups=groups)

    def run_job(self, job: str, first: str, last: str) -> PhaseResult:
        """Run one job over a range of its partition keys."""
        with open_instance(self.settings.places) as instance:
            phase = Phase(job, job, first, last)
            result = run_phase(phase, self.definitions, instance, batch="test")
        assert result is not None
        return result

    def query(self, sql: str) -> Rows:
        with installation.warehouse(self.settings).get_connection() as connection:
            return connection.execute(sql).fetchall()

    def explained(self, user: str, day: date, heading: str) -> str:
        """The line of ``promo explain`` that begins so."""
        with installation.reading(self.settings) as read:
            told = explain(user, day, read, self.settings)
        return next(line for line in told.splitlines() if line.startswith(heading))

    def tables(self, *, but: Sequence[str] = ()) -> dict[str, Rows]:
        """Every published table's rows, in order, but for runs of MLflow."""
        found: dict[str, Rows] = {}
        with installation.warehouse(self.settings).get_connection() as connection:
            names = connection.execute(
                "select schema_name || '.' || table_name from duckdb_tables()"
                " where schema_name not in ('staging', 'audit') order by all"
            ).fetchall()
            for (name,) in names:
                if name not in but:
                    shown = "* exclude (run_id)" if name in WITH_RUNS else "*"
                    rows = connection.execute(f"select {shown} from {name} order by all")
                    found[name] = rows.fetchall()
        return found

    def publications(self) -> dict[tuple[str, date, str], int]:
        """Rows by table, day and part, as the bookkeeping has them; none before the first."""
        begun = (
            "select 1 from duckdb_tables() where schema_name || table_name = 'auditpublications'"
        )
        if not self.query(begun):
            return {}
        rows = self.query("select table_name, day, part, row_count from audit.publications")
        return {(table, day, part): count for table, day, part, count in rows}

    def gates(self, table: str, check: str = "gate") -> dict[str | None, dg.AssetCheckEvaluation]:
        """The newest evaluation of a table's check by partition; None is a whole run's."""
        key = dg.AssetCheckKey(dg.AssetKey(table.split(".")), check)
        newest: dict[str | None, dg.AssetCheckEvaluation] = {}
        with open_instance(self.settings.places) as instance:
            history = instance.event_log_storage.get_asset_check_execution_history(key, 10_000)
        for record in history:
            data = record.event.get_dagster_event().event_specific_data if record.event else None
            if isinstance(data, dg.AssetCheckEvaluation):
                newest.setdefault(record.partition, data)
        return newest


def made_once(
    name: str, make: Callable[[Shop], None], tmp_path_factory: pytest.TempPathFactory
) -> Shop:
    """The shop ``name`` of this whole test run: the worker that comes first makes it, the others
    wait for it. Only to be read: tests that change anything take a `copy`."""
    folder = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = folder.parent
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shop = Shop(folder / name)
        if not shop.folder.exists():
            making = Shop(folder / f"{name}.making")
            before = dict(os.environ)
            make(making)
            os.environ.clear()
            os.environ.update(before)
            making.folder.rename(shop.folder)
    return shop


def failures(results: list[PhaseResult]) -> list[tuple[str, str]]:
    return [failure for result in results for failure in result.failures]


def contracts(shop: Shop) -> dict[str, TableContract]:
    return {table.contract.table: table.contract for table in build_tables(shop.settings)}


def unlike(found: dict[str, Rows], expected: dict[str, Rows]) -> dict[str, tuple[Any, Any]]:
    """For each table that differs: the rows that are only here, and only there."""
    return {
        name: (
            [row for row in found.get(name, []) if row not in expected.get(name, [])][:3],
            [row for row in expected.get(name, []) if row not in found.get(name, [])][:3],
        )
        for name in found.keys() | expected.keys()
        if found.get(name) != expected.get(name)
    }


def up_to(shop: Shop, day: date, tables: Collection[str]) -> dict[str, Rows]:
    """The rows of windowed tables with a date of at most ``day``."""
    found = {}
    for name in sorted(tables):
        column = contracts(shop)[name].window
        shown = "* exclude (run_id)" if name in WITH_RUNS else "*"
        where = f"{column} <= date '{day}'"
        found[name] = shop.query(f"select {shown} from {name} where {where} order by all")
    return found


def assert_consistent(shop: Shop) -> None:
    """Every table holds exactly the rows that its publications tell, day by day."""
    told: dict[str, dict[tuple[date, str], int]] = {}
    for (table, day, part), count in shop.publications().items():
        told.setdefault(table, {})[day, part] = count
    known = contracts(shop)
    for name, rows in shop.tables().items():
        window, part = known[name].window, known[name].part
        if window is None:
            counts = {(ALWAYS, ""): len(rows)}
            assert told.get(name, {(ALWAYS, ""): 0}) == counts, name
            continue
        found = shop.query(
            f"select {window}, {part or chr(39) * 2}, count(*) from {name} group by all"
        )
        assert {(day, segment): count for day, segment, count in found} == {
            place: count for place, count in told.get(name, {}).items() if count
        }, name
