"""The export: whole files, exact Parquet, CSV that no spreadsheet runs."""

from __future__ import annotations

import csv
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promo_assets.report.export import FORMULA_STARTS, write_export

DAY = date(2017, 5, 1)
STRATEGY = pl.DataFrame(
    {"segment": ["loyal"], "offer_id": [None], "reason": ["=cmd|' /C calc'!A0"]},
    schema={"segment": pl.String, "offer_id": pl.String, "reason": pl.String},
)
ASSIGNMENTS = pl.DataFrame(
    {"user_id": ["u1", "-2+3"], "expected_value": [Decimal("-1.25"), Decimal("3.00")]},
    schema_overrides={"expected_value": pl.Decimal(18, 2)},
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def cells(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def test_a_day_is_two_tables_in_two_formats(tmp_path: Path) -> None:
    written = write_export(ASSIGNMENTS, STRATEGY, tmp_path, DAY)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in written) == [
        "2017-05-01/assignments.csv",
        "2017-05-01/assignments.parquet",
        "2017-05-01/strategy.csv",
        "2017-05-01/strategy.parquet",
    ]
    assert sorted(written) == sorted((tmp_path / "2017-05-01").iterdir())


def test_formulas_become_text_and_numbers_stay_numbers(tmp_path: Path) -> None:
    write_export(ASSIGNMENTS, STRATEGY, tmp_path, DAY)
    folder = tmp_path / "2017-05-01"
    assert cells(folder / "assignments.csv")[1:] == [["u1", "-1.25"], ["'-2+3", "3.00"]]
    assert cells(folder / "strategy.csv")[1] == ["loyal", "", "'=cmd|' /C calc'!A0"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", *FORMULA_STARTS]), TEXT), min_size=1, max_size=5))
def test_any_text_survives_the_csv_and_none_starts_a_formula(tmp_path: Path, parts) -> None:
    texts = [start + text for start, text in parts]
    frame = pl.DataFrame({"user_id": texts, "n": range(len(texts))})
    write_export(frame, STRATEGY, tmp_path, DAY)
    found = cells(tmp_path / "2017-05-01" / "assignments.csv")[1:]
    assert [int(number) for _, number in found] == list(range(len(texts)))
    for text, (cell, _) in zip(texts, found, strict=True):
        assert not cell.startswith(FORMULA_STARTS)
        assert cell == (f"'{text}" if text.startswith(FORMULA_STARTS) else text)


def test_parquet_holds_every_value_as_it_was(tmp_path: Path) -> None:
    write_export(ASSIGNMENTS, STRATEGY, tmp_path, DAY)
    folder = tmp_path / "2017-05-01"
    assert pl.read_parquet(folder / "assignments.parquet").equals(ASSIGNMENTS)
    assert pl.read_parquet(folder / "strategy.parquet").equals(STRATEGY)


def test_names_in_other_scripts_are_marked_as_utf_8(tmp_path: Path) -> None:
    write_export(ASSIGNMENTS.with_columns(user_id=pl.lit("李")), STRATEGY, tmp_path, DAY)
    assert (tmp_path / "2017-05-01/assignments.csv").read_bytes().startswith(b"\xef\xbb\xbf")


def test_a_second_export_replaces_the_first_and_an_empty_day_has_headers(tmp_path: Path) -> None:
    write_export(ASSIGNMENTS, STRATEGY, tmp_path, DAY)
    write_export(ASSIGNMENTS.clear(), STRATEGY.clear(), tmp_path, DAY)
    assert cells(tmp_path / "2017-05-01/assignments.csv") == [["user_id", "expected_value"]]


def test_a_failed_write_leaves_the_earlier_file_and_no_remains(tmp_path: Path) -> None:
    write_export(ASSIGNMENTS, STRATEGY, tmp_path, DAY)
    nested = ASSIGNMENTS.with_columns(expected_value=pl.concat_list("user_id"))
    with pytest.raises(pl.exceptions.ComputeError):  # CSV can't hold lists.
        write_export(nested, STRATEGY, tmp_path, DAY)
    folder = tmp_path / "2017-05-01"
    assert cells(folder / "assignments.csv")[1] == ["u1", "-1.25"]
    assert len(list(folder.iterdir())) == 4
