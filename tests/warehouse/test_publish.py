"""Write, audit, publish: only whole slices, only their own window, only from published days."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_assets.contract.days import Window
from promo_assets.contract.tables import TableContract
from promo_assets.warehouse.connection import Warehouse, WarehouseError
from promo_assets.warehouse.publish import (
    ALWAYS,
    PublishError,
    Query,
    Slice,
    drop,
    drop_leftovers,
    prepare,
    publish,
    published_days,
    stage,
)

FIRST = date(2024, 1, 1)
CONTRACT = TableContract.model_validate(
    {
        "table": "core.things",
        "window": "day",
        "columns": {
            "day": {"type": "date", "description": "d"},
            "name": {"type": "varchar", "description": "n"},
            "price": {"type": "decimal(18,2)", "nulls": "keep", "description": "p"},
        },
    }
)

OTHER = CONTRACT.model_copy(update={"table": "core.things_2"})


def days(count: int, start: date = FIRST) -> Window:
    return Window(start, start + timedelta(days=count))


def rows(*named: tuple[int, str, float]) -> pl.DataFrame:
    return pl.DataFrame(
        [(FIRST + timedelta(days=offset), name, price) for offset, name, price in named],
        schema={"day": pl.Date, "name": pl.String, "price": pl.Float64},
        orient="row",
    )


@pytest.fixture
def connection(tmp_path: Path):
    with Warehouse(tmp_path / "w.duckdb").get_connection() as opened:
        prepare(opened)
        yield opened


def put(connection, frame, window, held_back=()):
    target = Slice(CONTRACT, window)
    stage(connection, target, frame)
    return publish(connection, target, held_back=held_back, run_id="run", code_version="1")


def content(connection):
    return connection.execute("select day, name from core.things order by all").fetchall()


def test_a_rebuilt_day_replaces_that_day_only(connection) -> None:
    put(connection, rows((0, "a", 1), (1, "b", 2), (2, "c", 3)), days(3))
    put(connection, rows((1, "x", 9), (1, "y", 9)), days(1, FIRST + timedelta(days=1)))
    assert [name for _, name in content(connection)] == ["a", "x", "y", "c"]


def test_a_day_without_rows_is_published_as_empty(connection) -> None:
    put(connection, rows((0, "a", 1), (1, "b", 2)), days(2))
    result = put(connection, rows(), days(1))
    assert result.rows == {(FIRST, ""): 0}
    assert [name for _, name in content(connection)] == ["b"]
    assert FIRST in published_days(connection, "core.things", FIRST, FIRST + timedelta(days=1))


def test_days_held_back_stay_as_they_were_and_stay_in_staging(connection) -> None:
    put(connection, rows((0, "a", 1), (1, "b", 2)), days(2))
    put(connection, rows((0, "new", 1), (1, "bad", 2)), days(2), held_back=[days(2).days[1]])
    assert [name for _, name in content(connection)] == ["new", "b"]
    staged = connection.execute(f"select name from {Slice(CONTRACT, days(2)).staged}").fetchall()
    assert sorted(staged) == [("bad",), ("new",)]


def test_rows_outside_the_window_are_refused(connection) -> None:
    put(connection, rows((0, "a", 1)), days(1))
    with pytest.raises(PublishError, match="1 rows lie outside the slice 2024-01-01"):
        put(connection, rows((0, "x", 1), (5, "y", 1)), days(1))
    assert [name for _, name in content(connection)] == ["a"]


def test_a_null_day_is_outside_every_window(connection) -> None:
    with pytest.raises(PublishError, match="outside the slice"):
        put(connection, rows((0, "x", 1)).with_columns(day=pl.lit(None, pl.Date)), days(1))


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (rows((0, "a", 1)).drop("price"), "missing price; unknown none"),
        (rows((0, "a", 1)).with_columns(extra=1), "missing none; unknown extra"),
        (rows((0, "a", 1)).with_columns(price=pl.lit("much")), "Could not convert"),
    ],
)
def test_columns_that_differ_from_the_contract_are_named(connection, frame, told) -> None:
    with pytest.raises(PublishError, match=told):
        put(connection, frame, days(1))


def test_columns_are_matched_by_name(connection) -> None:
    query = Query("select 2.5 as price, 'a' as name, $start as day", {"start": FIRST})
    stage(connection, Slice(CONTRACT, days(1)), query)
    publish(connection, Slice(CONTRACT, days(1)), run_id="r", code_version="1")
    assert content(connection) == [(FIRST, "a")]


def test_a_new_column_is_added_and_a_changed_one_is_refused(connection) -> None:
    put(connection, rows((0, "a", 1)), days(1))
    wider = TableContract.model_validate(
        CONTRACT.model_dump(by_alias=True)
        | {
            "columns": {
                **{k: v.model_dump(by_alias=True) for k, v in CONTRACT.columns.items()},
                "more": {"type": "bigint", "nulls": "keep", "description": "m"},
            }
        }
    )
    stage(connection, Slice(wider, days(1)), rows((0, "b", 1)).with_columns(more=1))
    publish(connection, Slice(wider, days(1)), run_id="r", code_version="2")
    assert connection.execute("select more from core.things").fetchall() == [(1,)]
    with pytest.raises(PublishError, match="more: published BIGINT, contract nothing"):
        put(connection, rows((0, "a", 1)), days(1))
    drop(connection, "core.things")
    put(connection, rows((0, "a", 1)), days(1))
    assert content(connection) == [(FIRST, "a")]


def test_a_table_without_window_is_replaced_whole(connection) -> None:
    contract = TableContract.model_validate(
        {"table": "core.whole", "columns": {"name": {"type": "varchar", "description": "n"}}}
    )
    for names in (["a", "b"], ["c"]):
        stage(connection, Slice(contract, None), pl.DataFrame({"name": names}))
        result = publish(connection, Slice(contract, None), run_id="r", code_version="1")
    assert connection.execute("select * from core.whole").fetchall() == [("c",)]
    assert result.rows_of(ALWAYS) == 1


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 3), st.sets(st.integers(0, 6), max_size=2)),
        max_size=6,
    )
)
def test_any_sequence_of_writes_leaves_each_day_as_last_published(tmp_path_factory, writes) -> None:
    path = tmp_path_factory.mktemp("w") / "w.duckdb"
    expected: dict[int, str] = {}
    with Warehouse(path).get_connection() as connection:
        prepare(connection)
        for number, (start, length, held) in enumerate(writes):
            offsets = range(start, start + length)
            frame = rows(*((offset, f"{number}", 1.0) for offset in offsets))
            put(
                connection,
                frame,
                days(length, FIRST + timedelta(days=start)),
                [FIRST + timedelta(days=o) for o in offsets if o in held],
            )
            expected |= {offset: f"{number}" for offset in offsets if offset not in held}
        found = content(connection) if writes else []
    assert found == [(FIRST + timedelta(days=o), name) for o, name in sorted(expected.items())]


def _publish_for_ever(path: Path, ready) -> None:
    with Warehouse(path).get_connection() as connection:
        prepare(connection)
        for number in range(10_000):
            frame = pl.DataFrame(
                {"day": [FIRST] * 2000, "name": [str(number)] * 2000, "price": [1.0] * 2000}
            )
            put(connection, frame, days(1))
            ready.set()


@pytest.mark.parametrize("wait", [0.0, 0.013, 0.041])
def test_a_kill_leaves_the_last_good_state(tmp_path: Path, wait: float) -> None:
    path = tmp_path / "w.duckdb"
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_publish_for_ever, args=(path, ready))
    process.start()
    assert ready.wait(60)
    time.sleep(wait)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    with Warehouse(path).get_connection() as connection:
        names, count = connection.execute(
            "select count(distinct name), count(*) from core.things"
        ).fetchone()
        assert (names, count) == (1, 2000)
        put(connection, rows((0, "after", 1)), days(1))
        assert content(connection) == [(FIRST, "after")]


def _hold(path: Path, ready, done) -> None:
    with Warehouse(path).get_connection():
        ready.set()
        done.wait(60)


def test_another_processs_lock_is_waited_for_and_named(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(path, ready, done))
    process.start()
    try:
        assert ready.wait(60)
        with (
            pytest.raises(WarehouseError, match=f"PID {process.pid}"),
            Warehouse(path, retry=False).get_connection(),
        ):
            pass
        done.set()
        with Warehouse(path).get_connection() as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    finally:
        done.set()
        process.join()


def test_a_file_that_is_no_database_is_named_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    path.write_bytes(b"not a database" * 100)
    with (
        pytest.raises(WarehouseError, match="not a readable DuckDB database"),
        Warehouse(path).get_connection(),
    ):
        pass
    assert path.read_bytes() == b"not a database" * 100


def test_the_connection_is_closed_after_an_error(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "w.duckdb")
    with pytest.raises(RuntimeError, match="mine"), warehouse.get_connection() as connection:
        raise RuntimeError("mine")
    with pytest.raises(duckdb.ConnectionException):
        connection.execute("select 1")


def test_what_another_run_has_staged_is_not_published(connection) -> None:
    mine, other = (Slice(CONTRACT, days(1), run_id=run) for run in ("run-a", "run-b"))
    stage(connection, mine, rows((0, "mine", 1)))
    stage(connection, other, rows((0, "unaudited", 1)))
    publish(connection, mine, run_id="run-a", code_version="1")
    assert content(connection) == [(FIRST, "mine")]


@pytest.mark.parametrize(
    ("alive", "critical", "kept"),
    [(True, False, True), (False, False, False), (False, True, True)],
)
def test_what_a_run_left_in_staging_goes_unless_it_works_or_is_held_back(
    connection, alive: bool, critical: bool, kept: bool
) -> None:
    target = Slice(CONTRACT, days(1), run_id="11112222-3333")
    stage(connection, target, rows((0, "a", 1)))
    if critical:
        connection.execute(
            "insert into audit.findings (table_name, day, severity, passed, run_id)"
            " values ('core.things', ?, 'critical', false, '11112222-3333')",
            [FIRST],
        )
    stage(connection, Slice(OTHER, days(1), run_id="11112222-3333"), rows((0, "b", 1)))
    drop_leftovers(connection, "core.things", lambda run: alive and run == "11112222")
    left = connection.execute("select count(*) from duckdb_tables() where schema_name = 'staging'")
    assert left.fetchone() == (1 + kept,)
