"""SIGKILL leaves whole days, as the bookkeeping tells them, and the next run completes them."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from datetime import date
from typing import TYPE_CHECKING

import pytest

from promo_assets.definitions import build_tables
from promo_assets.warehouse.publish import ALWAYS

if TYPE_CHECKING:
    from tests.support.shop import Rows, Shop

DAY = 29

KILLED_AT = """
import os, signal, sys
from promo_assets.orchestration import table_asset
from promo_assets.warehouse import publish

module, function, nth = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
place = {"table_asset": table_asset, "publish": publish}[module]
original = getattr(place, function)
calls = []

def counted(*arguments, **named):
    calls.append(1)
    if len(calls) == nth:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **named)

setattr(place, function, counted)
"""
PROMO = "import sys; from promo_assets.cli.main import main; sys.exit(main())"
"""The command, as the console script runs it."""


def promo(shop: Shop, *arguments: str, before: str = "") -> subprocess.Popen[bytes]:
    """``promo`` in a process of its own; ``before`` is Python that it runs first."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", before + PROMO, *arguments],
        env=shop.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def days_of(shop: Shop) -> dict[str, dict[tuple[date, str], Rows]]:
    """Every windowed table's rows by day and part."""
    found: dict[str, dict[tuple[date, str], Rows]] = {}
    contracts = {table.contract.table: table.contract for table in build_tables(shop.settings)}
    for name, rows in shop.tables().items():
        contract = contracts[name]
        if contract.window is not None:
            columns = [column for column in contract.columns if column != "run_id"]
            day = columns.index(contract.window)
            part = columns.index(contract.part) if contract.part else None
            places = found.setdefault(name, {})
            for row in rows:
                place = (row[day], row[part] if part is not None else "")
                places.setdefault(place, []).append(row)
    return found


def assert_whole_days(shop: Shop, *states: dict[str, dict[tuple[date, str], Rows]]) -> None:
    """Each day of each table is that of one of ``states``, and as many rows as is told of it."""
    held = {
        (name, *place): rows for name, days in days_of(shop).items() for place, rows in days.items()
    }
    for (name, *place), rows in held.items():
        assert any(state.get(name, {}).get(tuple(place)) == rows for state in states), (name, place)
    told = {key: rows for key, rows in shop.publications().items() if rows and key[1] != ALWAYS}
    assert told == {key: len(rows) for key, rows in held.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        pytest.param(("publish", "_record", 8), id="in the transaction, after delete and insert"),
        pytest.param(("table_asset", "results", 8), id="after the commit, before Dagster knows"),
    ],
)
def test_a_run_killed_while_it_publishes_leaves_whole_days_and_can_be_repeated(
    open_shop: Shop, thirty_days: Shop, point: tuple[str, str, int]
) -> None:
    good = days_of(thirty_days)
    events = open_shop.events(DAY)
    open_shop.deliver(
        DAY, [*events, *({**one, "event_id": f"more {one['event_id']}"} for one in events)]
    )
    day = str(open_shop.day(DAY))
    command = ("run", "--from", day, "--to", day, "--select", "events")
    killed = promo(open_shop, *map(str, point), *command, before=KILLED_AT)
    output, _ = killed.communicate(timeout=100)
    assert killed.returncode == -signal.SIGKILL, output.decode()

    doubled = open_shop.copy(open_shop.folder.parent / "doubled")
    assert doubled.run(DAY, DAY, groups=["events"])[-1].success
    assert_whole_days(open_shop, good, days_of(doubled))
    assert days_of(doubled)["core.events"] != good["core.events"]

    again = promo(open_shop, *command)
    output, _ = again.communicate(timeout=100)
    assert again.returncode == 0, output.decode()
    assert open_shop.tables() == doubled.tables()


@pytest.mark.slow
def test_runs_killed_at_random_moments_leave_whole_days_and_the_last_one_completes(
    new_shop: Shop, thirty_days: Shop
) -> None:
    new_shop.deliver_all(DAY + 1)
    good = days_of(thirty_days)
    command = ("run", "--from", str(new_shop.day(0)), "--to", str(new_shop.day(DAY)))
    draw = random.Random(20260)
    for _ in range(8):
        running = promo(new_shop, *command)
        time.sleep(draw.uniform(4, 20))
        running.kill()
        running.communicate()
        assert_whole_days(new_shop, good)
    finishing = promo(new_shop, *command)
    output, _ = finishing.communicate(timeout=200)
    assert finishing.returncode == 0, output.decode()
    assert new_shop.tables() == thirty_days.tables()
