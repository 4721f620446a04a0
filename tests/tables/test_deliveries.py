"""Published rows and what becomes of them when the source shrinks, moves, breaks or goes on.

Days are written as the platform writes them (stage, audit, publish), without Dagster.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import SecretStr

from promo_assets.contract.days import Window
from promo_assets.contract.project import EXPECTATIONS
from promo_assets.contract.tables import load_contracts
from promo_assets.gates.audit import Auditor
from promo_assets.people.consent import ConsentRule
from promo_assets.people.links import Rules
from promo_assets.sources import Delivery, SourceError, open_source
from promo_assets.sources.deliveries import Late, accept, late_days
from promo_assets.sources.files import Files
from promo_assets.sources.inventory import Inventory
from promo_assets.tables.events import Intake, tables
from promo_assets.tables.table import ProductionError
from promo_assets.tables.writing import Request, Run, Written, write
from promo_assets.warehouse.connection import Warehouse

FIRST = date(2024, 6, 1)
HEADER = "event_id,event_time,event_type,user_id\n"
KEY = SecretStr("a key for tests only")
KEPT = "published_rows_are_kept"


def day(number: int) -> date:
    return FIRST + timedelta(days=number - 1)


def lines(*numbers: int, day_: int = 1, who: str = "anna") -> str:
    rows = (f"{day_}-{number},{day(day_)} 10:00:00,view,{who}\n" for number in numbers)
    return HEADER + "".join(rows)


class Shop:
    """A folder of events, and a warehouse that takes its days in."""

    def __init__(self, place: Path) -> None:
        self.events = place / "shop" / "events"
        self.events.mkdir(parents=True)
        delivery = Delivery(
            f"files:{place / 'shop'}", place / "shop", FIRST, "UTC", place / "inventory.sqlite"
        )
        self.warehouse = Warehouse.at(
            place / "warehouse.duckdb", memory_limit="500MB", threads=1, spill=place / "spill"
        )
        self.auditor = Auditor(self.warehouse, None)
        self.serve(delivery)
        self.runs = 0

    def serve(self, delivery: Delivery) -> None:
        self.delivery = delivery
        intake = Intake(delivery, KEY, Rules(), Path("offers.yaml"), ConsentRule((), False))
        made = tables(load_contracts(EXPECTATIONS), intake)
        self.tables = {table.contract.table: table for table in made}
        self.raw = self.tables["raw.events"]

    def put(self, name: str, content: str) -> Path:
        path = self.events / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def take(self, first: int, last: int | None = None) -> Written:
        self.runs += 1
        window = Window(day(first), day((last or first) + 1))
        run = Run(f"run {self.runs}", FIRST, lambda line: None)
        return write(self.raw, Request(window), run, self.warehouse, self.auditor)

    def take_table(self, name: str) -> bool:
        """Take in a table beside the events; whether its gate lets it through."""
        run = Run("whole", FIRST, lambda line: None)
        for one in ("core.gate_limits", name):
            written = write(self.tables[one], Request(None), run, self.warehouse, self.auditor)
        return not written.verdict.blocked

    def late(self) -> Late | None:
        with self.warehouse.get_connection() as connection:
            return late_days(connection, open_source(self.delivery), None)

    def accept(self, *numbers: int) -> None:
        with self.warehouse.get_connection() as connection:
            accept(connection, open_source(self.delivery), [day(number) for number in numbers])

    def query(self, sql: str) -> list[Any]:
        with self.warehouse.get_connection() as connection:
            return connection.execute(sql).fetchall()

    def rows(self) -> dict[int, int]:
        told = self.query("select event_date, count(*) from raw.events group by all order by all")
        return {(at - FIRST).days + 1: count for at, count in told}


def red(written: Written) -> dict[str, set[int]]:
    """The days that the gate holds back, by expectation."""
    found: dict[str, set[int]] = {}
    for one in written.verdict.failed:
        if one.severity == "critical":
            found.setdefault(one.expectation, set()).update(
                (at - FIRST).days + 1 for at in one.days
            )
    return found


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.auditor.close()


def deliver(shop: Shop, last: int) -> None:
    """Days of two files each, of 2 and 3 rows, all taken in."""
    for number in range(1, last + 1):
        shop.put(f"{day(number)}-a.csv", lines(1, 2, day_=number))
        shop.put(f"{day(number)}-b.csv", lines(3, 4, 5, day_=number))
    assert red(shop.take(1, last)) == {}
    assert shop.late() is None


@pytest.fixture
def shop(empty: Shop) -> Shop:
    deliver(empty, 3)
    return empty


def gone(shop: Shop, name: str) -> None:
    (shop.events / name).unlink()


SHRUNK: Sequence[tuple[Callable[[Shop, int], object], str]] = [
    (lambda shop, n: gone(shop, f"{day(n)}-b.csv"), "b.csv: 3 rows before, 0 now"),
    (lambda shop, n: shop.put(f"{day(n)}-b.csv", HEADER), "b.csv: 3 rows before, 0 now"),
    (lambda shop, n: shop.put(f"{day(n)}-b.csv", lines(3, 4, day_=n)), "b.csv: 3 rows before, 2"),
    (
        lambda shop, n: [gone(shop, f"{day(n)}-{name}.csv") for name in "ab"],
        "a.csv: 2 rows before, 0 now",
    ),
    (
        lambda shop, n: shop.put(f"{day(n)}-b.csv", lines(13, 14, 15, day_=n + 1)),
        "b.csv: 3 rows before, 0 now",
    ),
]
"""A file is deleted, emptied, cut, all files of a day are, a file's rows move to another day."""


def test_a_day_that_shrank_keeps_its_rows_is_red_and_is_told_by_name(empty: Shop) -> None:
    deliver(empty, 6)
    days = range(1, len(SHRUNK) + 1)
    for number, (change, _) in zip(days, SHRUNK, strict=True):
        change(empty, number)
    late = empty.late()
    assert late is not None
    for number, (_, told) in zip(days, SHRUNK, strict=True):
        assert told in late.lost[day(number)]
    assert f"promo accept {day(1)}" in late.told

    assert red(empty.take(1, 6)) == {KEPT: set(days)}
    assert empty.rows() == dict.fromkeys(days, 5) | {6: 8}
    again = empty.late()
    assert again is not None
    assert again.lost == late.lost, "it is told until it is repaired or accepted"
    assert again.days == (), "but not asked for again"


def test_good_days_of_the_range_are_published_beside_one_that_shrank(shop: Shop) -> None:
    gone(shop, f"{day(1)}-a.csv")
    shop.put(f"{day(3)}-c.csv", lines(6, day_=3))
    written = shop.take(1, 3)
    assert red(written) == {KEPT: {1}}
    (finding,) = (one for one in written.verdict.failed if one.expectation == KEPT)
    assert finding.examples[0] | {"day": None} == {
        "day": None,
        "source_file": f"events/{day(1)}-a.csv",
        "rows_before": 2,
        "rows_now": 0,
    }
    assert shop.rows() == {1: 5, 2: 5, 3: 6}


def test_an_acceptance_lets_go_what_is_delivered_now_and_nothing_else(shop: Shop) -> None:
    gone(shop, f"{day(2)}-b.csv")
    shop.take(2)
    shop.accept(2)
    assert shop.query("select day, rows_before, rows_now, files from audit.accepted") == [
        (day(2), 5, 2, f"events/{day(2)}-b.csv: 3 rows before, 0 now")
    ]
    assert shop.late() == Late((day(2),), day(3))
    gone(shop, f"{day(2)}-a.csv")
    assert red(shop.take(2)) == {KEPT: {2}}, "it shrank further"
    shop.put(f"{day(2)}-a.csv", lines(1, 2, day_=2))
    assert red(shop.take(2)) == {}
    assert shop.rows() == {1: 5, 2: 2, 3: 5}
    assert shop.late() is None


def test_only_published_rows_can_be_accepted_to_go(shop: Shop) -> None:
    with pytest.raises(SourceError, match=f"raw.events of {day(9)} has no published rows"):
        shop.accept(2, 9)
    assert shop.query("from audit.accepted") == []


def test_a_day_whose_rows_come_back_is_as_it_was(shop: Shop) -> None:
    gone(shop, f"{day(2)}-b.csv")
    shop.take(2)
    shop.put(f"{day(2)}-b.csv", lines(3, 4, 5, day_=2))
    assert red(shop.take(2)) == {}
    assert shop.late() is None


OTHERWISE: Sequence[tuple[Callable[[Shop, int], object], int]] = [
    (
        lambda shop, n: (shop.events / f"{day(n)}-b.csv").rename(shop.events / f"{day(n)}-x.csv"),
        5,
    ),
    (
        lambda shop, n: [
            gone(shop, f"{day(n)}-b.csv"),
            shop.put(f"{day(n)}-a.csv", lines(1, 2, 3, 4, 5, day_=n)),
        ],
        5,
    ),
    (
        lambda shop, n: [
            shop.put(f"{day(n)}-b.csv", lines(3, day_=n)),
            shop.put(f"{day(n)}-c.csv", lines(4, 5, day_=n)),
        ],
        5,
    ),
    (lambda shop, n: shop.put(f"{day(n)}-b.csv", lines(3, 4, 5, day_=n, who="bert")), 5),
    (
        lambda shop, n: [
            gone(shop, f"{day(n)}-b.csv"),
            shop.put(f"{day(n)}-b2.csv", lines(3, 4, 6, 7, day_=n, who="bert")),
        ],
        6,
    ),
    (lambda shop, n: shop.put("late.csv", lines(6, day_=n)), 6),
]
"""A file is renamed, joined to another one, split, corrected in its place, corrected under another
name, late; with the day's rows afterwards."""


def test_a_day_that_is_delivered_otherwise_with_its_rows_is_simply_taken_in(empty: Shop) -> None:
    days = range(1, len(OTHERWISE) + 1)
    deliver(empty, len(OTHERWISE))
    for number, (change, _) in zip(days, OTHERWISE, strict=True):
        change(empty, number)
    late = empty.late()
    assert late is not None
    assert late.days == tuple(day(number) for number in days)
    assert late.lost == {}
    assert red(empty.take(1, len(OTHERWISE))) == {}
    assert empty.rows() == {n: rows for n, (_, rows) in zip(days, OTHERWISE, strict=True)}
    assert empty.late() is None


def test_a_file_that_gives_way_to_one_with_other_rows_is_not_let_go(shop: Shop) -> None:
    gone(shop, f"{day(2)}-b.csv")
    shop.put(f"{day(2)}-c.csv", lines(6, 7, 8, day_=2))
    assert red(shop.take(2)) == {KEPT: {2}}
    assert f"{day(2)}-b.csv: 3 rows before, 0 now" in shop.late().told


@pytest.mark.parametrize("range_", [(1, 4), (1, 1), (4, 4)])
def test_days_that_the_source_keeps_no_longer_keep_their_rows_and_need_nothing(
    shop: Shop, range_: tuple[int, int]
) -> None:
    for path in shop.events.glob(f"{day(1)}-*"):
        path.unlink()
    shop.put(f"{day(4)}.csv", lines(1, 2, day_=4))
    shop.take(4)
    assert shop.late() is None
    before = shop.query("from raw.events order by all")
    assert red(shop.take(*range_)) == {}
    assert shop.query("from raw.events order by all") == before
    assert shop.late() is None
    shop.put("again.csv", lines(1, 2, 3, 4, 5, 6))
    assert shop.late().days == (day(1),), "what comes back late is late"
    assert red(shop.take(1)) == {}
    assert shop.rows() == {1: 6, 2: 5, 3: 5, 4: 2}


def test_the_oldest_day_that_goes_while_nothing_comes_is_lost(shop: Shop) -> None:
    for path in shop.events.glob(f"{day(1)}-*"):
        path.unlink()
    assert shop.late().lost.keys() == {day(1)}
    assert red(shop.take(1, 3)) == {KEPT: {1}}
    assert red(shop.take(1)) == {KEPT: {1}}
    assert shop.rows() == {1: 5, 2: 5, 3: 5}


def test_a_source_without_any_row_is_told_and_empties_nothing(shop: Shop) -> None:
    for path in shop.events.iterdir():
        path.unlink()
    assert shop.late().lost.keys() == {day(1), day(2), day(3)}
    assert red(shop.take(1, 3)) == {KEPT: {1, 2, 3}}
    shop.events.rmdir()
    with pytest.raises(ProductionError, match=r"is not a folder .is what it lies on mounted"):
        shop.take(1, 3)
    assert shop.rows() == {1: 5, 2: 5, 3: 5}


def test_a_file_that_cant_be_read_holds_back_its_day_and_no_other(shop: Shop) -> None:
    shop.put(f"{day(5)}.csv", HEADER + "one,two\n")
    shop.put(f"{day(2)}-b.csv", lines(3, 4, 5, day_=2)[:-3])
    shop.put(f"{day(4)}.csv", lines(1, day_=4))
    written = shop.take(1, 5)
    assert red(written)["files_are_read"] == {2, 5}
    observed = {one.observed for one in written.verdict.failed if one.severity == "critical"}
    assert any(f"{day(2)}-b.csv: it may be half written: its last line has no end" in told
               for told in observed)  # fmt: skip
    assert shop.rows() == {1: 5, 2: 5, 3: 5, 4: 1}


def test_what_comes_between_the_looks_is_taken_in_or_late(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = shop.events / f"{day(4)}-small.csv"
    shop.put(f"{day(4)}-big.csv", lines(*range(1_000), day_=4))
    look = Inventory.refresh

    def then_a_file_comes(self: Inventory, connection: duckdb.DuckDBPyConnection) -> None:
        look(self, connection)
        dropped.write_text(lines(*range(2_000, 2_025), day_=4))

    with monkeypatch.context() as patched:
        patched.setattr(Inventory, "refresh", then_a_file_comes)
        shop.take(4)
    assert shop.rows()[4] == 1_000
    assert shop.late().days == (day(4),)
    shop.take(4)
    assert shop.rows()[4] == 1_025
    assert shop.late() is None


def empty_days(written: Written) -> set[int]:
    return {
        (at - FIRST).days + 1
        for one in written.verdict.failed
        if one.expectation == "day_was_delivered"
        for at in one.days
    }


def test_a_missing_daily_file_is_told_and_a_day_that_is_always_empty_is_not(empty: Shop) -> None:
    weekdays = [number for number in range(1, 36) if day(number).weekday() != 6]
    for number in weekdays:
        empty.put(f"{day(number)}.csv", lines(1, day_=number))
    # 1 June is a Saturday: the Sundays are 2, 9, 16, 23 and 30.
    assert empty_days(empty.take(1, 35)) == {2, 9}, "Sundays are told until they are a habit"
    assert empty_days(empty.take(36)) == {36}, "the missing file of a Saturday"
    assert empty_days(empty.take(37)) == set(), "a Sunday"


def test_the_first_days_of_an_installation_may_be_empty(empty: Shop) -> None:
    empty.put(f"{day(3)}.csv", lines(1, day_=3))
    assert empty_days(empty.take(1, 3)) == set()


def test_a_shop_that_is_copied_elsewhere_loses_nothing(shop: Shop, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "shop", moved)
    shop.serve(Delivery(f"files:{moved}", moved, FIRST, "UTC", tmp_path / "inventory.sqlite"))
    assert shop.late() is None
    assert red(shop.take(1, 3)) == {}
    assert isinstance(open_source(shop.delivery), Files)


TABLES = {
    "users": ("user_id,consent_marketing\n", "u-{n},true\n"),
    "items": ("item_id,brand\n", "i-{n},kiln\n"),
    "identities": ("device_id,user_id\n", "d-{n},u-{n}\n"),
    "consents": ("user_id,purpose,granted\n", "u-{n},marketing,false\n"),
}


@pytest.mark.slow
@pytest.mark.parametrize("stem", TABLES)
def test_a_table_beside_the_events_is_not_emptied_by_a_file_that_was(
    empty: Shop, stem: str
) -> None:
    """A register of refusals that is cut or gone would let everybody get offers again."""
    header, line = TABLES[stem]
    name = "core.device_links" if stem == "identities" else f"core.{stem}"
    path = empty.events.parent / f"{stem}.csv"

    def deliver(rows: int) -> bool:
        path.write_text(header + "".join(line.format(n=n) for n in range(rows)))
        return empty.take_table(name)

    def published() -> int:
        return int(empty.query(f"select count(*) from {name}")[0][0])

    assert deliver(20)
    assert deliver(10), "people leave"
    assert not deliver(4)
    assert not deliver(0)
    path.unlink()
    assert not empty.take_table(name)
    assert published() == 10
    mapping = empty.events.parent / "mapping.yaml"
    mapping.write_text("gates: {tolerated: {rows_gone: {at_most: 1, note: a new register}}}\n")
    assert deliver(4)
    assert published() == 4
    mapping.unlink()
    assert deliver(0), "a handful is no register"
