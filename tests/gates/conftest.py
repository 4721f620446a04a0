"""A gate on a fresh warehouse: contracts are written as in the YAML files, slices as frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from promo_assets.contract.tables import TableContract
from promo_assets.gates.audit import Auditor, Verdict
from promo_assets.warehouse.connection import Warehouse

FIRST = date(2024, 1, 1)
COLUMNS = {
    "day": {"type": "date", "description": "d"},
    "user_id": {"type": "varchar", "description": "u"},
    "spend": {"type": "decimal(18,2)", "nulls": "keep", "description": "s"},
}
CONFIG = {"custom_user_agent": "dagster", "threads": 1}


class Gate:
    """Stages rows of (day offset, user, spend) and audits them as a window of three days."""

    days = tuple(FIRST + timedelta(days=offset) for offset in range(3))
    staged = "staging.core__things"

    def __init__(self, folder: Path) -> None:
        self.database = folder / "warehouse.duckdb"
        self.docs = folder / "gx"
        self.auditor = Auditor(Warehouse.with_options(self.database, CONFIG), self.docs)

    def contract(self, *expectations: dict[str, Any], **changes: Any) -> TableContract:
        raw = {"table": "core.things", "window": "day", "grain": ["day", "user_id"]}
        raw |= {"columns": COLUMNS, "expectations": list(expectations)}
        return TableContract.model_validate(raw | changes)

    def execute(self, *statements: str) -> None:
        with duckdb.connect(self.database, config=CONFIG) as connection:
            connection.execute("create schema if not exists staging")
            for statement in statements:
                connection.execute(statement)

    def stage(self, *rows: tuple[int | None, str | None, float | None]) -> None:
        values = [
            (None if offset is None else FIRST + timedelta(days=offset), user, spend)
            for offset, user, spend in rows
        ]
        frame = pl.DataFrame(
            values, schema={"day": pl.Date, "user_id": pl.String, "spend": pl.Float64}, orient="row"
        )
        with duckdb.connect(self.database, config=CONFIG) as connection:
            connection.register("frame", frame.to_arrow())
            connection.execute("create schema if not exists staging")
            connection.execute(
                f"create or replace table {self.staged} as"
                " select day, user_id, cast(spend as decimal(18,2)) as spend from frame"
            )

    def audit(self, *expectations: dict[str, Any], **changes: Any) -> Verdict:
        contract = self.contract(*expectations, **changes)
        window = (FIRST, FIRST + timedelta(days=3)) if contract.window else None
        return self.auditor.audit(contract, self.staged, window)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.auditor.close()


@pytest.fixture(scope="session")
def new_gate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Gate]:
    """For properties, which need one gate for many examples."""
    return lambda: Gate(tmp_path_factory.mktemp("gate"))
