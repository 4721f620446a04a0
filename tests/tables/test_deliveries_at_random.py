"""No published row vanishes without a named acceptance, whatever is delivered in whatever order.

The oracle is a model in plain Python of what a shop may expect; it knows neither SQL nor bytes.
Days are written without Great Expectations: only the gate's own select is asked, so that many
sequences can be played.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from pydantic import SecretStr

from promo_assets.contract.days import Window
from promo_assets.contract.project import EXPECTATIONS
from promo_assets.contract.tables import load_contracts
from promo_assets.people.consent import ConsentRule
from promo_assets.people.links import Rules
from promo_assets.sources import Delivery, open_source
from promo_assets.sources.deliveries import accept, late_days
from promo_assets.tables.events import Intake, raw_events
from promo_assets.tables.table import Production
from promo_assets.warehouse.connection import Warehouse
from promo_assets.warehouse.publish import Slice, prepare, publish, stage

FIRST = date(2024, 6, 1)
DAYS = 3
RAW = load_contracts(EXPECTATIONS)["raw.events"]
(KEPT,) = (one for one in RAW.expectations if one.name == "published_rows_are_kept")
GATE = f"with window_days as (select unnest($days) as day) select distinct day from ({KEPT.query})"
KEY = SecretStr("a key for tests only")

Row = tuple[str, int, str]
"""Its id, its day from 0, and what it says."""

days = st.integers(0, DAYS - 1)
names = st.sampled_from("abc")


class Deliveries(RuleBasedStateMachine):
    """A folder that changes at random, and a warehouse that takes days in.

    ``files`` is what lies in the folder; ``published`` what the warehouse must hold: rows by day
    and file. ``accepted`` are days with the files that may replace what is published of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        place = Path(self.place.name)
        self.events = place / "shop" / "events"
        self.events.mkdir(parents=True)
        self.delivery = Delivery(
            f"files:{place / 'shop'}", place / "shop", FIRST, "UTC", place / "inventory.sqlite"
        )
        self.intake = Intake(
            self.delivery, KEY, Rules(), Path("offers.yaml"), ConsentRule((), False)
        )
        self.warehouse = Warehouse.at(
            place / "w.duckdb", memory_limit="500MB", threads=1, spill=place / "spill"
        )
        self.files: dict[str, list[Row]] = {}
        self.published: dict[int, dict[str, list[Row]]] = {}
        self.accepted: dict[int, dict[str, list[Row]]] = {}
        self.broken: set[str] = set()
        self.spans: list[tuple[int, int]] = []
        self.number = 0

    def teardown(self) -> None:
        self.place.cleanup()

    @initialize()
    def begin(self) -> None:
        """Every day is published, of two files."""
        for day in range(DAYS):
            self.add("a", day, 2)
            self.add("b", day, 1)
        self.take(0, DAYS)

    # What the shop does.

    @rule(name=names, day=days, count=st.integers(1, 4))
    def more(self, name: str, day: int, count: int) -> None:
        self.add(name, day, count)

    def add(self, name: str, day: int, count: int) -> None:
        """New rows: in a new file, or late at the end of one that is there."""
        rows = [(f"e{self.number + n}", day, "first") for n in range(count)]
        self.number += count
        self.write(name, [*self.files.get(name, []), *rows])

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def correct(self, data: st.DataObject) -> None:
        """Every row says something else; none comes or goes."""
        name = data.draw(st.sampled_from(sorted(self.files)))
        self.number += 1
        self.write(name, [(id_, day, f"v{self.number}") for id_, day, _ in self.files[name]])
        self.perhaps_take(data)

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        """Some rows are there no more."""
        name = data.draw(st.sampled_from(sorted(self.files)))
        kept = data.draw(st.integers(0, max(len(self.files[name]) - 1, 0)))
        self.write(name, self.files[name][:kept])
        self.perhaps_take(data)

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.files)))
        del self.files[name]
        self.broken.discard(name)
        (self.events / f"{name}.csv").unlink()
        self.perhaps_take(data)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), to=names)
    def rename(self, data: st.DataObject, to: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.files)))
        if to not in self.files:
            rows = self.files.pop(name)
            self.broken.discard(name)
            (self.events / f"{name}.csv").unlink()
            self.write(to, rows)
        self.perhaps_take(data)

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def break_(self, data: st.DataObject) -> None:
        """A file is half written; the next write repairs it."""
        name = data.draw(st.sampled_from(sorted(self.files)))
        with (self.events / f"{name}.csv").open("a") as file:
            file.write("half")
        self.broken.add(name)

    def perhaps_take(self, data: st.DataObject) -> None:
        """Half of the changes are taken in at once."""
        if data.draw(st.booleans()):
            self.take(0, DAYS)

    # What the platform does.

    @rule(first=days, more=days)
    def take(self, first: int, more: int) -> None:
        window = list(range(first, min(first + more + 1, DAYS)))
        held = self.run(window)
        gone = self.retained(window)
        for day in window:
            delivered = self.delivered(day)
            published = self.published.get(day, {})
            if day in gone:
                assert day not in held
            elif self.broken or (
                shrinks(published, delivered) and self.accepted.get(day) != self.whole(day)
            ):
                assert day in held, (day, published, delivered)
            else:
                assert day not in held, (day, published, delivered)
                self.published[day] = delivered

    @precondition(lambda self: any(self.published.values()) and not self.broken)
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        day = data.draw(st.sampled_from(sorted(d for d, rows in self.published.items() if rows)))
        with self.warehouse.get_connection() as connection:
            accept(connection, open_source(self.delivery), [at(day)])
        self.accepted[day] = self.whole(day)

    @precondition(lambda self: self.published and not self.broken)
    @rule()
    def look(self) -> None:
        """What is told to be lost has fewer rows; what has fewer rows is told."""
        with self.warehouse.get_connection() as connection:
            late = late_days(connection, open_source(self.delivery), None)
        gone = self.retained(sorted(self.published))
        for day, published in self.published.items():
            delivered = self.delivered(day)
            told = late is not None and at(day) in {*late.days, *late.lost}
            if day in gone or delivered == published:
                assert not (late and at(day) in late.lost), (day, published, delivered)
            elif size(delivered) < size(published) and self.accepted.get(day) != self.whole(day):
                assert told, (day, published, delivered)

    @invariant()
    def the_warehouse_holds_what_was_published(self) -> None:
        if not self.published:
            return
        with self.warehouse.get_connection() as connection:
            found = connection.execute(
                "select event_date, source_file, event_id, search_query from raw.events"
            ).fetchall()
        expected = [
            (at(day), f"events/{name}.csv", id_, says)
            for day, files in self.published.items()
            for name, rows in files.items()
            for id_, _, says in rows
        ]
        assert sorted(found) == sorted(expected)

    # The model.

    def write(self, name: str, rows: list[Row]) -> None:
        self.files[name] = rows
        self.broken.discard(name)
        told = (f"{id_},{at(day)} 10:00:00,search,anna,{says}\n" for id_, day, says in rows)
        header = "event_id,event_time,event_type,user_id,search_query\n"
        (self.events / f"{name}.csv").write_text(header + "".join(told))

    def delivered(self, day: int) -> dict[str, list[Row]]:
        """The day's rows by file, of the files that can be read."""
        found = {
            name: [row for row in rows if row[1] == day]
            for name, rows in self.files.items()
            if name not in self.broken
        }
        return {name: rows for name, rows in found.items() if rows}

    def whole(self, day: int) -> dict[str, list[Row]]:
        """The files that hold rows of the day, with all their rows."""
        return {name: self.files[name] for name in self.delivered(day)}

    def retained(self, window: list[int]) -> set[int]:
        """Old days that went as newer ones came."""
        there = [day for day in range(DAYS) if self.delivered(day)]
        if not there:
            return set()
        first, last = there[0], there[-1]
        self.spans.append((first, last))
        return {
            day
            for day in window
            if self.published.get(day)
            and day < first
            and last > [end for begin, end in self.spans if begin <= day][-1]
            and self.accepted.get(day) != {}
        }

    def run(self, window: list[int]) -> set[int]:
        """Write the days; those that are held back."""
        self.number += 1
        told = Window(at(window[0]), at(window[-1] + 1))
        target = Slice(RAW, told)
        with self.warehouse.get_connection() as connection:
            prepare(connection)
            production = Production(
                RAW, connection, told, (), (), f"run {self.number}", print, lambda notes: None
            )
            stage(connection, target, raw_events(production, self.intake))
            sql = GATE.replace("{batch}", target.staged).replace("{window}", "window_days")
            rows = connection.execute(sql, {"days": list(told.days)}).fetchall()
            held = {one for (one,) in rows} | {
                one for found in production.found for one in found.days
            }
            connection.executemany(
                "insert into audit.findings by name select 'raw.events' as table_name, ? as day,"
                " '' as part, 'critical' as severity, false as passed, ? as run_id",
                [(one, f"run {self.number}") for one in held] or [(date(1999, 1, 1), "none")],
            )
            publish(
                connection, target, held_back=held, run_id=f"run {self.number}", code_version="1"
            )
        return {(one - FIRST).days for one in held}


def at(day: int) -> date:
    return FIRST + timedelta(days=day)


def size(files: dict[str, list[Row]]) -> int:
    return sum(map(len, files.values()))


def shrinks(published: dict[str, list[Row]], delivered: dict[str, list[Row]]) -> bool:
    """Fewer rows of the day; or files have fewer rows, and most of these are nowhere else."""
    fewer = {
        name: len(rows) - len(delivered.get(name, []))
        for name, rows in published.items()
        if len(delivered.get(name, [])) < len(rows)
    }
    if size(delivered) < size(published):
        return True
    ids = Counter(row[0] for rows in delivered.values() for row in rows)
    before = Counter(row[0] for name in fewer for row in published[name])
    return 2 * (before - ids).total() > sum(fewer.values())


QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


class TestDeliveries(Deliveries.TestCase):
    settings = settings(max_examples=5, stateful_step_count=10, **QUIET)


@pytest.mark.slow
class TestManyDeliveries(Deliveries.TestCase):
    settings = settings(max_examples=40, stateful_step_count=25, **QUIET)
