"""What is older than it may be kept is removed for good; nothing that is still read goes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.contract.project import PROJECT
from promo_assets.contract.tables import ContractError, TableContract, load_contracts
from promo_assets.definitions import build_definitions, build_tables, check_kept
from promo_assets.orchestration.run_history import DagsterRuns
from promo_assets.orchestration.runs import open_instance
from promo_assets.privacy.retention import Removal, enforce, first_kept, plan, retain, table, today
from promo_assets.settings import Settings
from promo_assets.warehouse.publish import Query, Slice, prepare, publish, published_days, stage
from promo_assets.warehouse.rewrite import announce, is_due
from tests.support.shop import assert_consistent, failures

if TYPE_CHECKING:
    from tests.support.shop import Rows, Shop

CONTRACTS = load_contracts(PROJECT / "expectations")
FEATURES_END = date(2026, 1, 12)
"""730 days after the shop's 13th day; what is kept for 1,095 days is all there."""


def removed(shop: Shop, as_of: date, *, dry_run: bool = False) -> str:
    return "\n".join(told(shop, CONTRACTS, as_of, dry_run=dry_run))


def told(
    shop: Shop, contracts: Mapping[str, TableContract], as_of: date, *, dry_run: bool = False
) -> list[str]:
    places, warehouse = shop.settings.places, installation.warehouse(shop.settings)
    with open_instance(places) as instance:
        runs = DagsterRuns(instance)
        return list(retain(places, warehouse, contracts, runs, as_of, dry_run=dry_run))


def on_disk(shop: Shop) -> dict[Path, bytes]:
    kept = ("warehouse.duckdb", "exports", "reports", "gx", "receipts")
    return {
        path: path.read_bytes()
        for name in kept
        for path in sorted((shop.settings.home / name).rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_only_days_that_are_too_old_go_and_nothing_is_computed_from_them(
    open_shop: Shop, thirty_days: Shop
) -> None:
    first = open_shop.day(12)
    told = removed(open_shop, FEATURES_END)
    assert "features.user_features                       before 2024-01-13" in told
    assert "written anew" in told
    expected: dict[str, Rows] = {}
    for name in thirty_days.tables():
        contract = CONTRACTS[name]
        kept = first_kept(contract, FEATURES_END)
        where = f"where {contract.window} >= date '{kept}'" if kept else ""
        expected[name] = thirty_days.query(f"select * from {name} {where} order by all")
    found = {name: open_shop.query(f"select * from {name} order by all") for name in expected}
    assert found == expected
    assert_consistent(open_shop)
    since: dict[str, date] = {}
    for name, day, _ in open_shop.publications():
        since[name] = min(day, since.get(name, day))
    assert since["features.user_features"] == first
    assert since["propensity.training_set"] == date(2024, 1, 8), "weeks stay whole"
    assert since["core.events"] == open_shop.day(0)
    exports = sorted(path.name for path in open_shop.settings.places.exports.iterdir())
    assert exports[0] == str(first)

    # A removed day's follower says what it waits for.
    (result,) = open_shop.run(12, 12, groups=["features"])
    assert result.failures == ()
    assert f"waits for features.user_daily of {open_shop.day(0)}" in str(result.waiting)


def test_a_dry_run_tells_the_same_and_removes_nothing(open_shop: Shop) -> None:
    removed(open_shop, open_shop.day(29))  # Whatever opening the shop writes is written.
    before = on_disk(open_shop)
    dry = removed(open_shop, FEATURES_END, dry_run=True)
    assert on_disk(open_shop) == before
    wet = removed(open_shop, FEATURES_END)
    assert dry.splitlines()[1:] == wet.splitlines()[1:-1]
    assert "rows" not in removed(open_shop, FEATURES_END)


@pytest.mark.slow
def test_nothing_is_left_when_everything_is_too_old(open_shop: Shop) -> None:
    told = removed(open_shop, date(2040, 1, 1))
    for place in ("exports", "reports", "gx/validations", "dagster/history/runs", "raw.events"):
        assert place in told
    windowed = {name for name, contract in CONTRACTS.items() if contract.window}
    assert not any(open_shop.tables()[name] for name in windowed)
    told = {name for name, _, _ in open_shop.publications()}
    logs = {name for name in windowed if CONTRACTS[name].newest_by}
    assert told & windowed == logs
    assert list(open_shop.settings.places.exports.glob("*/*")) == []
    with open_instance(open_shop.settings.places) as instance:
        assert instance.get_runs() == []
    index = open_shop.settings.places.dagster / "history" / "runs" / "index.db"
    assert b"windows_add_up_to_daily_rows" not in index.read_bytes(), "a check's finding"


def test_a_run_that_was_killed_after_deleting_is_finished_by_the_next(open_shop: Shop) -> None:
    warehouse = installation.warehouse(open_shop.settings)
    with warehouse.get_connection() as connection:
        removals = plan(connection, CONTRACTS, open_shop.settings.places, FEATURES_END)
        enforce(removals, connection, CONTRACTS, warehouse)
    assert is_due(warehouse)
    assert "written anew" in removed(open_shop, FEATURES_END)
    assert not is_due(warehouse)
    announce(warehouse)
    assert "written anew" in removed(open_shop, FEATURES_END)


@pytest.mark.slow
def test_the_job_does_what_the_command_does(open_shop: Shop) -> None:
    jobs = {job.name: job for job in build_definitions(open_shop.settings).jobs or ()}
    with open_instance(open_shop.settings.places) as instance:
        result = jobs["retention"].execute_in_process(instance=instance)
        assert result.success
    old = datetime.now(UTC).date() - timedelta(days=730)
    assert all(
        date.fromisoformat(path.name) >= old for path in open_shop.settings.places.exports.iterdir()
    )
    assert_consistent(open_shop)


@pytest.mark.slow
def test_the_newest_day_needs_only_what_is_kept(new_shop: Shop, tmp_path: Path) -> None:
    """Features read 90 days back: with the 91 days before it, a day gives the same rows."""
    new_shop.deliver_all(101)
    assert failures(new_shop.run(0, 99, groups=["events", "features"])) == []
    short = new_shop.copy(tmp_path / "short")
    tight = {
        name: contract.model_copy(update={"keep_days": 91})
        if contract.schema_name == "features"
        else contract
        for name, contract in CONTRACTS.items()
    }
    assert told(short, tight, new_shop.day(100))
    first = short.query("select min(as_of_date) from features.user_features")
    assert first == [(new_shop.day(9),)]
    newest = f"from features.user_features where as_of_date = '{new_shop.day(100)}' order by all"
    for shop in (new_shop, short):
        assert failures(shop.run(100, 100, groups=["events", "features"])) == []
    assert short.query(newest) == new_shop.query(newest) != []


# Slices and change logs.

LOG = TableContract.model_validate(
    {
        "table": "core.log",
        "window": "day",
        "newest_by": ["who"],
        "keep_days": 10,
        "columns": {
            "day": {"type": "date", "description": "d"},
            "who": {"type": "varchar", "description": "w"},
            "what": {"type": "varchar", "description": "w"},
        },
    }
)


def test_a_change_log_keeps_what_is_in_force(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", _env_file=None)
    warehouse = installation.warehouse(settings)
    window = Window(date(2024, 1, 1), date(2024, 2, 1))
    rows = """
        select cast(day as date) as day, who, what from (values
            ('2024-01-01', 'ann', 'first'), ('2024-01-03', 'ann', 'then'),
            ('2024-01-01', 'bob', 'only'), ('2024-01-10', 'ann', 'that day'),
            ('2024-01-12', 'ann', 'later'), ('2024-01-25', 'ann', 'last')
        ) as rows(day, who, what)
    """
    with warehouse.get_connection() as connection:
        prepare(connection)
        target = Slice(LOG, window)
        stage(connection, target, Query(rows, {}))
        publish(connection, target, run_id="r", code_version="1")
        (removal,) = plan(connection, {"core.log": LOG}, settings.places, date(2024, 1, 20))
        assert removal.before == date(2024, 1, 10)
        enforce([removal], connection, {"core.log": LOG}, warehouse)
        left = connection.execute("select who, what from core.log order by who, day").fetchall()
        assert left == [("ann", "that day"), ("ann", "later"), ("ann", "last"), ("bob", "only")]
        told = connection.execute(
            "select day, row_count from audit.publications where row_count > 0 order by day"
        ).fetchall()
        assert [day.day for day, _ in told] == [1, 10, 12, 25]
        assert published_days(connection, "core.log", window.start, window.end) == {*window.days}
        assert plan(connection, {"core.log": LOG}, settings.places, date(2024, 1, 20)) == []


@pytest.mark.parametrize(
    ("name", "audited", "gone"),
    [
        ("core__log__20240101_20240102__run_1a2b3c4d", "2024-05-01", True),
        (
            "core__log__20240101_20240102__run_1a2b3c4d",
            "2024-05-25",
            True,
        ),  # Its day is too old anyway.
        ("core__log__20240525_20240526__run_1a2b3c4d", "2024-05-25", False),
        ("core__log__20240525_20240526__loyal__run_1a2b3c4d", "2024-05-25", False),
        (
            "core__log__20240525_20240526__run_1a2b3c4d",
            None,
            False,
        ),  # Of a run that was killed just now.
        ("core__log__20240401_20240402__run_1a2b3c4d", None, True),
        ("core__items__run_1a2b3c4d", "2024-04-01", True),
        ("core__items__run_1a2b3c4d", "2024-05-25", False),
    ],
)
def test_a_slice_stays_for_a_look_and_not_for_ever(
    tmp_path: Path, name: str, audited: str | None, gone: bool
) -> None:
    settings = Settings(home=tmp_path / "home", _env_file=None)
    with installation.warehouse(settings).get_connection() as connection:
        prepare(connection)
        connection.execute(f"create table staging.{name} as select 1 as x")
        day = f"date '{name[11:15]}-{name[15:17]}-{name[17:19]}'" if "2024" in name else "null"
        of = ".".join(name.split("__")[:2])
        if audited:
            connection.execute(
                f"insert into audit.findings (table_name, day, audited_at) values"
                f" ('{of}', {day}, '{audited}'), ('{of}', date '2020-01-01', '2024-05-29')"
                if "2024" in name
                else f"insert into audit.findings (table_name, audited_at) values"
                f" ('{of}', '{audited}')"
            )
        removals = plan(connection, {"core.log": LOG}, settings.places, date(2024, 6, 1))
    assert [removal.place for removal in removals] == [f'staging."{name}"'] * gone


# What is said of it.


def test_the_documented_table_is_what_is_enforced() -> None:
    assert table(CONTRACTS) in (PROJECT / "docs" / "privacy.md").read_text()


def test_time_ends_with_public_data_and_goes_on_for_real_people() -> None:
    now = datetime.now(UTC).date()
    with duckdb.connect() as connection:
        prepare(connection)
        assert today(connection, public=True) == now
        connection.execute(
            "insert into audit.publications (table_name, day, part) values"
            " ('raw.events', date '2017-12-31', '')"
        )
        assert today(connection, public=True) == date(2017, 12, 31)
        assert today(connection, public=False) == now


def test_what_is_read_back_must_be_kept_longer() -> None:
    tables = {table.contract.table: table for table in build_tables(Settings(_env_file=None))}
    short = {
        name: replace(table, contract=table.contract.model_copy(update={"keep_days": 90}))
        for name, table in tables.items()
    }
    check_kept(tables["features.user_features"], tables)
    with pytest.raises(ContractError) as told:
        check_kept(tables["features.user_features"], short)
    assert "expectations/features/user_features.yaml" in str(told.value)
    assert "set keep_days to more than 90" in str(told.value)
    with pytest.raises(ContractError, match=r"propensity\.trainings reads 182 days back"):
        check_kept(tables["propensity.trainings"], short)


def test_receipts_and_pages_go_by_their_age(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", _env_file=None)
    as_of = date(2026, 6, 1)
    made = {
        "receipts/0123.json": 1826,
        "receipts/0124.json": 1824,
        "gx/results/core/events/newest/t/s.json": 91,
        "gx/results/core/items/newest/t/s.json": 89,
        "gx/static/images/logo.png": 9999,
        "dagster/history/runs/abc.db": 91,
        "dagster/history/runs/index.db": 9999,
        "dagster/dagster.yaml": 9999,
        "mlartifacts/model.txt": 9999,
    }
    for name, age in made.items():
        path = settings.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(name))
        written = datetime(2026, 6, 1, tzinfo=UTC).timestamp() - age * 86_400
        os.utime(path, (written, written))
    with duckdb.connect() as connection:
        prepare(connection)
        removals: list[Removal] = plan(connection, {}, settings.places, as_of)
        gone = {str(path.relative_to(settings.home)) for r in removals for path in r.paths}
        assert gone == {
            "receipts/0123.json",
            "gx/results/core/events/newest/t/s.json",
            "dagster/history/runs/abc.db",
        }
        enforce(removals, connection, {}, installation.warehouse(settings))
    assert not (settings.home / "gx" / "results" / "core" / "events" / "newest" / "t").exists()
    assert (settings.home / "receipts" / "0124.json").exists()
