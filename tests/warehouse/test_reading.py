"""Reading: empty before the first publication, an error where nobody knows the name."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl
import pytest

from promo_assets.contract.tables import TableContract
from promo_assets.warehouse.connection import Warehouse
from promo_assets.warehouse.publish import Slice, prepare, publish, stage
from promo_assets.warehouse.reading import reading, row

THINGS = TableContract.model_validate(
    {"table": "core.things", "columns": {"name": {"type": "varchar", "description": "n"}}}
)


def test_a_known_table_is_empty_before_it_was_published_and_has_its_rows_after(
    tmp_path: Path,
) -> None:
    warehouse = Warehouse(tmp_path / "w.duckdb")
    sql = "select name from core.things where name <> $name"
    with reading(warehouse, {"core.things": THINGS}) as read:
        assert read(sql, {"name": "b", "left_out": 1}).schema == {"name": pl.String}
        assert row(read, sql, {"name": "b"}) is None
        assert read("from audit.publications").height == 0
    with warehouse.get_connection() as connection:
        prepare(connection)
        target = Slice(THINGS, None)
        stage(connection, target, pl.DataFrame({"name": ["a", "b"]}))
        publish(connection, target, run_id="r", code_version="1")
    with reading(warehouse, {"core.things": THINGS}) as read:
        assert row(read, sql, {"name": "b"}) == {"name": "a"}


def test_a_name_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    with (
        reading(Warehouse(tmp_path / "w.duckdb"), {"core.things": THINGS}) as read,
        pytest.raises(duckdb.CatalogException, match="thinks"),
    ):
        read("from core.thinks")
