"""What every test may use: its environment, shops, and word of what could not be tested."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tests.support.shop import DAYS, Shop, failures, made_once


@event.listens_for(Engine, "connect")
def _quick_sqlite(connection: Any, record: object) -> None:
    """Dagster's and MLflow's files of a test outlive a killed process, and no power cut."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("pragma synchronous = off")


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

    def make(shop: Shop) -> None:
        assert failures(shop.deliver_all(DAYS).run(0, DAYS - 1)) == []

    return made_once("thirty_days", make, tmp_path_factory)


@pytest.fixture
def open_shop(thirty_days: Shop, tmp_path: Path) -> Shop:
    """A copy of `thirty_days`, to be changed at will."""
    return thirty_days.copy(tmp_path / "open")
