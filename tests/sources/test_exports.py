"""What shops' own exports need of the mapping, in folders: files without a header line."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.settings import Settings
from promo_assets.sources import Source, Taken, open_source

FIRST = date(2024, 1, 1)
MONTH = Window(FIRST, date(2024, 2, 1))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "events").mkdir()
    return tmp_path


def source_of(shop: Path) -> Source:
    told = Settings(home=shop / "home", source=f"files:{shop}", start=FIRST)
    return open_source(installation.delivery(told))


def taken(shop: Path, shown: str) -> tuple[list[tuple[Any, ...]], Taken]:
    """The rows of January in the order of their files, and what was said of them."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        told = source_of(shop).take(MONTH, connection)
        sql = f"select {shown} from ({told.query.sql}) order by source_file, source_row"
        return connection.execute(sql, told.query.parameters).fetchall(), told


def problems(told: Taken) -> set[str]:
    return {problem for day in told.problems.values() for problem in day}


def test_files_without_a_header_line_have_the_columns_of_the_mapping(shop: Path) -> None:
    (shop / "mapping.yaml").write_text("header: [user_id, item_id, event_type, event_time]\n")
    plain = "u1,i1,view,2024-01-03 10:00:00\nu2,i2,view,2024-01-03 11:00:00\n"
    (shop / "events" / "a.csv").write_text(plain)
    (shop / "events" / "b.tsv").write_text("u3\ti3\tview\t2024-01-04\n")
    (shop / "events" / "c.csv").write_text(
        "user_id;item_id;event_type;event_time\nu4;i4;view;2024-01-05\n"
    )
    (shop / "events" / "d.csv").write_text("u5,i5,view\n")
    rows, told = taken(shop, "user_id, item_id, source_row, extra")
    assert rows == [("u1", "i1", 0, None), ("u2", "i2", 1, None), ("u3", "i3", 0, None),
                    ("u4", "i4", 0, None)]  # fmt: skip
    assert problems(told) == {
        "events/d.csv: its first line has 3 fields, but header: names 4 columns"
    }


def test_a_header_that_is_told_later_reads_the_known_files_anew(shop: Path) -> None:
    (shop / "events" / "a.csv").write_text("u1,view,2024-01-03\nu2,view,2024-01-03\n")
    assert len(taken(shop, "user_id")[0]) == 1
    mapping = shop / "mapping.yaml"
    mapping.write_text("header: [user_id, event_type, event_time]\n")
    assert taken(shop, "user_id")[0] == [("u1",), ("u2",)]
    mapping.write_text("header: [device_id, event_type, event_time]\n")
    assert taken(shop, "user_id, device_id")[0] == [(None, "u1"), (None, "u2")]
    mapping.unlink()
    assert len(taken(shop, "user_id")[0]) == 1
