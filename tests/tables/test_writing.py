"""One write: what is published, what is held back, and what an interruption leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from promo_assets.contract.days import Window
from promo_assets.contract.tables import TableContract
from promo_assets.gates.audit import Auditor
from promo_assets.orchestration.news import message
from promo_assets.tables import writing
from promo_assets.tables.table import Production, ProductionError, Table, WaitingError
from promo_assets.tables.writing import Request, Run, write
from promo_assets.warehouse.connection import Warehouse
from promo_assets.warehouse.reading import Read

FIRST = date(2024, 1, 1)
"""A Monday."""
BAD = "select day, part from {batch} where value < 0"
GOOD = [{"type": "rows", "name": "is_good", "description": "No value is bad.", "query": BAD}]


def contract(name: str, **more: Any) -> TableContract:
    columns = {
        "day": {"type": "date", "description": "d"},
        "part": {"type": "varchar", "description": "p"},
        "value": {"type": "bigint", "description": "v"},
    }
    told = {"table": name, "window": "day", "grain": ["day", "part"], "columns": columns}
    return TableContract.model_validate(told | {"expectations": GOOD} | more)


@dataclass
class Shop:
    """A warehouse whose tables hold the values of ``values`` by day; a negative one is bad."""

    warehouse: Warehouse
    auditor: Auditor
    values: dict[date, int]
    run: Run

    def produce(self, production: Production) -> pl.DataFrame:
        days = production.weeks or production.days.days
        rows = [
            {"day": day, "part": part, "value": self.values.get(day, 1)}
            for day in days
            for part in production.parts or ("all",)
        ]
        return production.frame(rows)

    def table(self, name: str, **told: Any) -> Table:
        part = {"part": "part"} if told.get("grid") == "day_segment" else {}
        return Table(contract(name, **part), "group", self.produce, "1", **told)

    def write(self, table: Table, days: Sequence[int], *parts: str, **more: Any) -> Any:
        window = Window.of(FIRST + timedelta(days=number) for number in days)
        weeks = tuple(day for day in window.days if day.weekday() == 0)
        weekly = weeks if table.grid == "week" else ()
        asked = Request(window, parts, weekly)
        return write(table, asked, self.run, self.warehouse, self.auditor, **more)

    def query(self, sql: str) -> list[Any]:
        with self.warehouse.get_connection() as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    warehouse = Warehouse(tmp_path / "w.duckdb")
    run = Run("aaaabbbb-1", FIRST, lambda line: None)
    return Shop(warehouse, Auditor(warehouse, None), {}, run)


def published(shop: Shop, name: str) -> list[int]:
    days = shop.query(
        f"select distinct day from audit.publications where table_name = '{name}' order by all"
    )
    return [(day - FIRST).days for (day,) in days]


def test_a_bad_day_is_held_back_and_what_follows_waits_for_it_by_name(shop: Shop) -> None:
    events, totals = shop.table("core.events"), shop.table("features.totals")
    totals = replace(totals, inputs={"core.events": 0, "features.totals": 1})
    shop.values[FIRST + timedelta(days=2)] = -1
    written = shop.write(events, range(5))
    assert published(shop, "core.events") == [0, 1, 3, 4]
    assert written.blocked == {FIRST + timedelta(days=2): "is_good: 1 row"}
    shop.run = replace(shop.run, tables={"core.events": events})
    written = shop.write(totals, range(5))
    assert published(shop, "features.totals") == [0, 1]
    assert {str(reason) for reason in written.waiting.values()} == {
        "waits for core.events of 2024-01-03 (is_good: 1 row)"
    }
    with pytest.raises(WaitingError, match=r"2024-01-04 waits for core\.events of"):
        shop.write(totals, [3])


def test_the_day_after_a_bad_one_waits_for_it_in_a_table_that_reads_itself(shop: Shop) -> None:
    totals = shop.table("features.totals", inputs={"features.totals": 1})
    shop.values[FIRST + timedelta(days=1)] = -1
    written = shop.write(totals, range(3))
    assert list(written.blocked) == [FIRST + timedelta(days=1)]
    (reason,) = written.waiting.values()
    assert str(reason) == "waits for features.totals of 2024-01-02 (is_good: 1 row)"


def test_a_week_is_held_back_whole(shop: Shop) -> None:
    weekly = shop.table("propensity.set", grid="week")
    shop.values[FIRST + timedelta(days=7)] = -1
    shop.write(weekly, range(21))
    assert published(shop, "propensity.set") == [*range(7), *range(14, 21)]


def test_an_interrupted_training_keeps_the_weeks_that_are_finished(shop: Shop) -> None:
    def until_the_third(production: Production) -> pl.DataFrame:
        if production.weeks[0] >= FIRST + timedelta(days=14):
            raise KeyboardInterrupt
        return shop.produce(production)

    table = replace(shop.table("propensity.trainings", grid="week"), produce=until_the_third)
    told: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        shop.write(replace(table, apart=lambda week: True), range(28), finished=told.append)
    assert published(shop, "propensity.trainings") == [*range(14)]
    assert [piece.target.window.start for piece in told] == [FIRST, FIRST + timedelta(days=7)]


@pytest.mark.parametrize(("dear", "pieces"), [({0, 1, 2}, 3), ({1}, 2), (set(), 1)])
def test_weeks_that_are_written_apart_end_as_weeks_that_are_written_together(
    shop: Shop, dear: set[int], pieces: int
) -> None:
    shop.values |= {FIRST: 3, FIRST + timedelta(days=7): -1, FIRST + timedelta(days=14): 5}
    table = shop.table(
        "propensity.apart", grid="week", apart=lambda week: (week - FIRST).days // 7 in dear
    )
    told: list[Any] = []
    apart = shop.write(table, range(21), finished=told.append)
    assert len(told) == pieces
    together = shop.write(shop.table("propensity.whole", grid="week"), range(21))
    assert apart.waiting.keys() == together.waiting.keys()
    for name in ("staged_rows", "blocked", "held_back", "nothing_published"):
        assert getattr(apart, name) == getattr(together, name), name
    assert apart.published.rows == together.published.rows
    for one, other in zip(apart.verdict.findings, together.verdict.findings, strict=True):
        assert replace(one, examples=()) == replace(other, examples=())


def test_what_follows_a_publication_sees_it_and_does_not_happen_behind_a_red_gate(
    shop: Shop,
) -> None:
    seen: list[list[int]] = []

    def look(read: Read) -> None:
        seen.append(read("select value from core.events order by day")["value"].to_list())

    events = shop.table("core.events", then=look)
    shop.write(events, [0])
    shop.values[FIRST] = -1
    shop.write(events, [0])
    assert seen == [[1]]


def test_findings_are_of_a_day_and_segment_and_go_with_its_repair(shop: Shop) -> None:
    decided = shop.table("strategy.decided", grid="day_segment")
    shop.values |= {FIRST: -1, FIRST + timedelta(days=1): -1}
    shop.write(decided, range(3), "loyal", "new")
    failed = (
        "select day, part, row_count from audit.findings where not passed and expectation ="
        " 'is_good' order by all"
    )
    assert [(day - FIRST, part) for day, part, _ in shop.query(failed)] == [
        (timedelta(days=number), part) for number in (0, 1) for part in ("loyal", "new")
    ]
    shop.values = {}
    shop.write(decided, [0], "loyal")
    assert [((day - FIRST).days, part) for day, part, _ in shop.query(failed)] == [
        (0, "new"),
        (1, "loyal"),
        (1, "new"),
    ]


def test_a_day_that_could_not_be_made_says_why_to_those_that_wait(shop: Shop) -> None:
    def broken(production: Production) -> pl.DataFrame:
        raise ProductionError("events/a.csv: can't be read. Repair or remove it")

    events = replace(shop.table("raw.events"), produce=broken)
    with pytest.raises(ProductionError):
        shop.write(events, [0])
    shop.run = replace(shop.run, tables={"raw.events": events})
    with pytest.raises(WaitingError, match=r"raw\.events of 2024-01-01 .*events/a\.csv: can't be"):
        shop.write(shop.table("core.events", inputs={"raw.events": 0}), [0])


def test_a_finding_is_told_once_with_what_waits_and_what_to_do(shop: Shop) -> None:
    events = shop.table("core.events")
    daily = shop.table("features.daily", inputs={"core.events": 0})
    totals = shop.table("features.totals", inputs={"features.daily": 0})
    tables = {one.contract.table: one for one in (events, daily, totals)}
    shop.values[FIRST + timedelta(days=1)] = -1
    told = message(events, shop.write(events, range(3)), tables)
    assert told.splitlines()[:3] == [
        "core.events of 2024-01-02 is held back by its gate: is_good: 1 row.",
        "- is_good (critical) of 2024-01-02, 1 row(s): 1 row",
        "Now waiting from 2024-01-02 on: features.daily, features.totals.",
    ]
    assert "`promo run --from 2024-01-02 --to DAY`" in told
    assert message(events, shop.write(events, range(3)), tables) == ""
    shop.values = {}
    assert message(events, shop.write(events, range(3)), tables) == ""
    shop.values[FIRST + timedelta(days=1)] = -1
    assert "2024-01-02" in message(events, shop.write(events, range(3)), tables)


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ROWS_AT_ONCE", 2)


@pytest.mark.usefixtures("few_rows")
def test_a_wide_range_is_written_in_pieces_of_so_many_rows(shop: Shop) -> None:
    """The first piece knows the rows of the input, each day of which has one."""
    base = shop.table("core.base")
    shop.write(base, range(5))
    table = shop.table("core.made", inputs={"core.base": 0})
    pieces: list[Any] = []
    written = shop.write(table, range(5), finished=pieces.append)
    assert [len(piece.target.window.days) for piece in pieces] == [2, 2, 1]
    assert written.published.total == written.staged_rows == 5
    assert written.target.window == Window(FIRST, FIRST + timedelta(days=5))
    assert published(shop, "core.made") == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize(("grain", "pieces"), [("user_id", [2, 1]), ("part", [3])])
def test_weeks_of_users_are_written_in_pieces_of_so_many_rows(
    shop: Shop, grain: str, pieces: list[int]
) -> None:
    """Other tables by week have few rows."""
    base = shop.table("core.base")
    shop.write(base, range(21))
    kinds = {"day": "date", "part": "varchar", "value": "bigint", "user_id": "varchar"}
    columns = {name: {"type": kind, "description": "d"} for name, kind in kinds.items()}
    columns["user_id"]["nulls"] = "keep"
    table = shop.table("core.made", inputs={"core.base": 0}, grid="week")
    table = replace(table, contract=contract("core.made", columns=columns, grain=["day", grain]))
    made: list[Any] = []
    shop.write(table, range(21), finished=made.append)
    assert [len(piece.target.window.days) // 7 for piece in made] == pieces
    assert published(shop, "core.made") == [*range(21)]


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize(("itself", "kept"), [(True, [0, 1]), (False, [0, 1, 3, 4])])
def test_pieces_after_a_bad_day_wait_only_where_the_table_reads_itself(
    shop: Shop, itself: bool, kept: list[int]
) -> None:
    """As in one piece: what is published of the bad day from before is not built upon."""
    base = shop.table("core.base")
    shop.write(base, range(5))
    inputs = {"core.base": 0} | ({"core.made": 1} if itself else {})
    table = shop.table("core.made", inputs=inputs)
    shop.write(table, range(3))
    shop.values[FIRST + timedelta(days=2)] = -1
    shop.values[FIRST + timedelta(days=3)] = 7
    written = shop.write(table, range(5))
    assert set(written.blocked) | set(written.waiting) == {
        FIRST + timedelta(days=number) for number in range(5) if number not in kept
    }
    told = dict(shop.query("select day, value from core.made"))
    assert told[FIRST + timedelta(days=2)] == 1
    assert {(day - FIRST).days for day in told} == {2, *kept}
    if itself:
        assert "is_good" in str(written.waiting[FIRST + timedelta(days=4)])


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("published_before", [False, True])
def test_pieces_after_one_that_waits_wait_for_the_same(shop: Shop, published_before: bool) -> None:
    """Also where an earlier run has published days of it: they are older than what is missing."""
    for name in ("core.base", "core.more"):
        shop.write(shop.table(name), range(6))
    inputs = {"core.base": 0, "core.more": 0, "core.made": 1}
    table = shop.table("core.made", inputs=inputs)
    if published_before:
        shop.write(table, range(6))
    with shop.warehouse.get_connection() as connection:
        connection.execute(
            "delete from audit.publications where table_name = 'core.base' and day = ?",
            [FIRST + timedelta(days=2)],
        )
    written = shop.write(table, range(6))
    assert {(day - FIRST).days for day in written.waiting} == {2, 3, 4, 5}
    assert len({str(reason) for reason in written.waiting.values()}) == 1
    assert {day for day, _ in written.published.rows} == {FIRST, FIRST + timedelta(days=1)}
