"""Data Docs: one page a table, of its newest result, built by any process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promo_assets.gates.audit import Auditor
from promo_assets.warehouse.connection import Warehouse

if TYPE_CHECKING:
    from conftest import Gate

NOT_NEGATIVE = {"type": "expect_column_values_to_be_between", "column": "spend", "min_value": 0}


def pages(gate: Gate) -> list[str]:
    found = sorted(gate.docs.glob("validations/**/*.html"))
    return [page.read_text(encoding="utf-8") for page in found]


def test_the_site_shows_every_table_with_its_findings(gate: Gate) -> None:
    gate.stage((0, "a", -1.0), (0, "a", 1.0))
    gate.audit(NOT_NEGATIVE)
    gate.audit(table="core.others", grain=["day", "user_id", "spend"])
    index = gate.auditor.build_docs()
    assert index == gate.docs / "index.html"
    text = index.read_text(encoding="utf-8")
    assert "core.things" in text
    assert "core.others" in text
    assert any("unique (day, user_id)" in page and "Failed" in page for page in pages(gate))


def test_the_site_keeps_only_the_newest_result_of_a_table(gate: Gate) -> None:
    gate.stage((0, "a", -1.0))
    gate.audit(NOT_NEGATIVE)
    gate.auditor.build_docs()
    gate.stage((0, "a", 1.0))
    gate.audit(NOT_NEGATIVE)
    gate.auditor.build_docs()
    (page,) = pages(gate)
    assert "Succeeded" in page
    assert len(list(gate.docs.glob("results/**/*.json"))) == 1


def test_another_process_builds_the_site_from_kept_results(gate: Gate) -> None:
    gate.stage((0, "a", 1.0))
    gate.audit(NOT_NEGATIVE)
    Auditor(Warehouse(gate.database), gate.docs).build_docs()
    assert len(pages(gate)) == 1


def test_without_a_folder_nothing_is_kept(gate: Gate) -> None:
    gate.stage((0, "a", 1.0))
    auditor = Auditor(Warehouse.with_options(gate.database, {"threads": 1}), None)
    assert not auditor.audit(gate.contract(window=None), gate.staged, None).blocked
    assert auditor.build_docs() is None
    assert not gate.docs.exists()
