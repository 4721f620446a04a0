"""A small shop whose days are files, and the platform on top of it, as whole-pipeline tests use."""

from __future__ import annotations

import csv
import fcntl
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.contract.events import EVENT_COLUMNS
from promo_assets.definitions import build_definitions
from promo_assets.orchestration.runs import Phase, PhaseResult, open_instance, run_days, run_phase
from promo_assets.settings import Settings

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

    def tables(self, *, but: Sequence[str] = ()) -> dict[str, Rows]:
        """Every published table's rows, in order. MLflow's run ids differ from run to run."""
        found: dict[str, Rows] = {}
        with installation.warehouse(self.settings).get_connection() as connection:
            names = connection.execute(
                "select schema_name || '.' || table_name from duckdb_tables()"
                " where schema_name not in ('staging', 'audit') order by all"
            ).fetchall()
            for (name,) in names:
                if name not in but:
                    shown = "* exclude (run_id)" if name == "propensity.trainings" else "*"
                    rows = connection.execute(f"select {shown} from {name} order by all")
                    found[name] = rows.fetchall()
        return found

    def publications(self) -> dict[tuple[str, date, str], int]:
        """Rows by table, day and part, as the bookkeeping has them."""
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Skipped tests are easily overlooked: those of databases are told with the remedy."""
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for package in ("mariadb-server", "postgresql"):
        skipped = sum(f"apt-get install {package}" in reason for reason in reasons)
        if skipped:
            terminalreporter.write_line(
                f"NOT TESTED: {skipped} tests need a database server: apt-get install {package}",
                red=True,
                bold=True,
            )


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Runs point Dagster at their own home; afterwards the variables are as they were."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def new_shop(tmp_path: Path) -> Shop:
    """A shop of which nothing is delivered and nothing run."""
    return Shop(tmp_path / "new")


@pytest.fixture(scope="session")
def thirty_days(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop after its first 30 days went through every phase in one range. Only to be read:
    tests that change anything take a `copy`."""
    folder = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = folder.parent  # Made once, by the worker that comes first.
    with (folder / "thirty_days.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shop = Shop(folder / "thirty_days")
        if not shop.folder.exists():
            making = Shop(folder / "thirty_days.making").deliver_all(DAYS)
            before = dict(os.environ)
            results = making.run(0, DAYS - 1)
            os.environ.clear()
            os.environ.update(before)
            assert [result.failures for result in results] == [()] * len(results)
            making.folder.rename(shop.folder)
    return shop


@pytest.fixture
def open_shop(thirty_days: Shop, tmp_path: Path) -> Shop:
    """A copy of `thirty_days`, to be changed at will."""
    return thirty_days.copy(tmp_path / "open")
