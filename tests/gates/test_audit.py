"""The gate: it finds what is wrong, on which days, and never passes what it could not check."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promo_assets.contract.project import PROJECT
from promo_assets.contract.tables import ContractError, load_contracts
from promo_assets.gates.verdict import Finding, Verdict
from promo_assets.warehouse.publish import prepare

if TYPE_CHECKING:
    from conftest import Gate

FIRST = date(2024, 1, 1)
GOOD = [(0, "a", 1.0), (1, "a", 2.0), (2, "a", None)]
NOT_NEGATIVE = {"type": "expect_column_values_to_be_between", "column": "spend", "min_value": 0}


def rows_audit(query: str, severity: str = "critical") -> dict[str, Any]:
    return {
        "type": "rows",
        "name": "audit",
        "description": "d",
        "query": query,
        "severity": severity,
    }


def finding(verdict: Verdict, expectation: str) -> Finding:
    (found,) = [each for each in verdict.findings if each.expectation == expectation]
    return found


def test_a_good_slice_passes(gate: Gate) -> None:
    gate.stage(*GOOD)
    verdict = gate.audit(NOT_NEGATIVE, rows_audit("select day from {batch} where spend > 5"))
    assert (verdict.rows, verdict.blocked, verdict.warned) == (3, False, False)
    assert all(each.passed and each.rows == 0 and not each.days for each in verdict.findings)
    assert verdict.summary() == "6 of 6 expectations met on 3 rows"


def test_a_duplicate_key_blocks_its_day_only(gate: Gate) -> None:
    gate.stage(*GOOD, (1, "a", 9.0))
    verdict = gate.audit()
    assert verdict.blocked_days == {gate.days[1]}
    found = finding(verdict, "unique (day, user_id)")
    assert (found.rows, found.observed) == (2, "2 rows")
    assert found.examples == ({"day": "2024-01-02", "user_id": "a"},) * 2


def test_a_key_that_repeats_on_two_days_blocks_both(gate: Gate) -> None:
    gate.stage((0, "a", 1.0), (1, "b", 1.0), (2, "a", 1.0))
    verdict = gate.audit(grain=["user_id"])
    assert verdict.blocked_days == {gate.days[0], gate.days[2]}


def test_null_keys_are_equal_to_each_other(gate: Gate) -> None:
    gate.stage((0, "a", None), (0, "a", None), (1, "a", None))
    verdict = gate.audit(grain=["day", "spend"])
    assert finding(verdict, "unique (day, spend)").days == (gate.days[0],)


def test_a_null_where_never_blocks_its_day_and_names_the_column(gate: Gate) -> None:
    gate.stage((0, "a", 1.0), (1, None, 1.0), (2, "a", None))
    verdict = gate.audit()
    assert verdict.blocked_days == {gate.days[1]}
    (example,) = finding(verdict, "no nulls").examples
    assert example == {"day": "2024-01-02", "user_id": None, "null_columns": "user_id"}


@pytest.mark.parametrize("offset", [-1, 3, None])
def test_a_row_outside_the_window_fails_all_days(gate: Gate, offset: int | None) -> None:
    gate.stage(*GOOD, (offset, "z", 1.0))
    verdict = gate.audit()
    assert finding(verdict, "day lies in the slice").rows == 1
    assert verdict.blocked_days == set(gate.days)


@pytest.mark.parametrize(
    ("select", "example"),
    [
        (
            "day, user_id, 1.5::double as spend",
            {"column_name": "spend", "expected": "DECIMAL(18,2)", "found": "DOUBLE"},
        ),
        (
            "day, user_id",
            {"column_name": "spend", "expected": "DECIMAL(18,2)", "found": None},
        ),
        (
            "day, user_id, 1::decimal(18,2) as spend, 1 as more",
            {"column_name": "more", "expected": None, "found": "INTEGER"},
        ),
    ],
    ids=["wrong type", "missing column", "extra column"],
)
def test_columns_other_than_the_contracts_fail_all_days(
    gate: Gate, select: str, example: dict[str, Any]
) -> None:
    source = "(select date '2024-01-01' as day, 'a' as user_id)"
    gate.execute(f"create table {gate.staged} as select {select} from {source}")
    verdict = gate.audit()
    found = finding(verdict, "columns and types")
    assert (found.days, found.examples) == (gate.days, (example,))
    assert verdict.blocked_days == set(gate.days)


def test_another_spelling_of_a_type_is_the_same_type(gate: Gate) -> None:
    gate.stage(*GOOD)
    columns = gate.contract().model_dump(by_alias=True)["columns"]
    columns["user_id"]["type"] = "TEXT"
    assert not gate.audit(columns=columns).blocked


def test_offending_values_are_counted_shown_and_attributed(gate: Gate) -> None:
    gate.stage((0, "a", -1.0), (1, "a", 1.0), (2, "a", -2.5), (2, "b", -2.5))
    verdict = gate.audit(NOT_NEGATIVE)
    found = finding(verdict, "spend between 0 and …")
    assert (found.rows, found.days) == (3, (gate.days[0], gate.days[2]))
    assert {"day": "2024-01-03", "user_id": "b", "spend": "-2.50"} in found.examples
    assert found.observed.startswith("3 rows of 4, such as -")


def test_an_expectation_on_the_window_column_is_attributed_too(gate: Gate) -> None:
    gate.stage(*GOOD)
    early = {"type": "expect_column_values_to_be_between", "column": "day"}
    verdict = gate.audit({**early, "max_value": date(2024, 1, 2)})
    assert verdict.blocked_days == {gate.days[2]}


def test_a_statistic_of_the_slice_fails_all_its_days(gate: Gate) -> None:
    gate.stage(*GOOD)
    mean = {"type": "expect_column_mean_to_be_between", "column": "spend", "min_value": 100}
    found = finding(gate.audit(mean), "spend mean to be between 100 and …")
    assert (found.days, found.rows, found.observed) == (gate.days, 0, "observed 1.5")


def test_severity_decides_between_blocking_and_warning(gate: Gate) -> None:
    gate.stage(*GOOD)
    query = "select day, user_id from {batch} where spend = 2"
    critical, warning = gate.audit(rows_audit(query)), gate.audit(rows_audit(query, "warning"))
    assert (critical.blocked_days, critical.warned_days) == ({gate.days[1]}, set())
    assert (warning.blocked_days, warning.warned_days) == (set(), {gate.days[1]})
    assert (warning.blocked, warning.warned) == (False, True)


def test_a_rows_audit_may_use_braces_colons_percent_signs_and_comments(gate: Gate) -> None:
    gate.stage(*GOOD)
    query = """
        with named as (select *, {'a': 1, 'b': ':x'} as s from {batch})
        select n.day, s, '12:30 :x' as t from named as n join {window} as w on w.day = n.day
        where user_id like 'a%' and spend::integer % 2 = 0 -- so :x is no parameter
    """
    found = finding(gate.audit(rows_audit(query)), "audit")
    assert found.days == (gate.days[1],)
    assert found.examples == ({"day": "2024-01-02", "s": {"a": 1, "b": ":x"}, "t": "12:30 :x"},)


def test_a_rows_audit_reads_published_tables(gate: Gate) -> None:
    gate.stage(*GOOD)
    gate.execute("create schema core", "create table core.users as select 'b' as user_id")
    query = "select b.day from {batch} as b anti join core.users using (user_id)"
    assert gate.audit(rows_audit(query)).blocked_days == set(gate.days)


def test_hundreds_of_offending_days_are_all_found_and_five_rows_shown(gate: Gate) -> None:
    days = "select date '2024-01-01' + cast(range as integer) as day from range(300)"
    columns = "day, 'a' as user_id, (-1)::decimal(18,2) as spend"
    gate.execute(f"create table {gate.staged} as select {columns} from ({days})")
    contract = gate.contract(NOT_NEGATIVE, rows_audit("select day from {batch} where spend < 0"))
    window = (FIRST, FIRST + timedelta(days=300))
    verdict = gate.auditor.audit(contract, gate.staged, window)
    for name in ("audit", "spend between 0 and …"):
        found = finding(verdict, name)
        assert (found.rows, len(found.days), len(found.examples)) == (300, 300, 5)


def test_a_rows_audit_without_a_day_fails_all_days(gate: Gate) -> None:
    gate.stage(*GOOD)
    verdict = gate.audit(rows_audit("select null as day from {batch} where spend = 1"))
    assert finding(verdict, "audit").days == gate.days


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select nope from {batch}", "nope"),
        ("select user_id from {batch} where spend = 1", "day"),
        ("select day, cast(user_id as integer) as n from {batch}", "Could not convert"),
        ("selec day from {batch}", "syntax error"),
    ],
    ids=["unknown column", "no day", "conversion", "syntax"],
)
def test_an_audit_that_fails_to_run_is_critical_on_all_days(
    gate: Gate, query: str, message: str
) -> None:
    gate.stage(*GOOD)
    found = finding(gate.audit(rows_audit(query, "warning")), "audit")
    assert (found.passed, found.severity, found.days) == (False, "critical", gate.days)
    assert found.observed.startswith("could not be evaluated")
    assert message in found.observed


def test_an_expectation_that_fails_to_run_does_not_fail_its_neighbours(gate: Gate) -> None:
    gate.stage(*GOOD)
    broken = {"type": "expect_column_values_to_be_between", "column": "user_id", "min_value": 0}
    verdict = gate.audit(broken, NOT_NEGATIVE)
    assert finding(verdict, "user_id between 0 and …").severity == "critical"
    assert "could not be evaluated" in finding(verdict, "user_id between 0 and …").observed
    assert finding(verdict, "spend between 0 and …").passed


def test_two_equal_expectations_give_two_findings(gate: Gate) -> None:
    gate.stage(*GOOD)
    assert len(gate.audit(NOT_NEGATIVE, NOT_NEGATIVE).findings) == 6


def test_an_unknown_type_or_argument_stops_the_audit(gate: Gate) -> None:
    gate.stage(*GOOD)
    with pytest.raises(ContractError, match=r"core/things.yaml.*unknown type"):
        gate.audit({"type": "expect_columns_to_shine"})


def test_an_empty_slice_passes_what_is_said_of_rows(gate: Gate) -> None:
    gate.stage()
    assert not gate.audit(NOT_NEGATIVE).failed


def test_an_empty_day_can_fail_an_audit_over_the_window(gate: Gate) -> None:
    gate.stage((0, "a", 1.0), (2, "a", 1.0))
    volume = """
        select w.day, count(b.day) as row_count from {window} as w
        left join {batch} as b on b.day = w.day group by w.day having count(b.day) = 0
    """
    verdict = gate.audit(rows_audit(volume))
    assert verdict.blocked_days == {gate.days[1]}
    assert finding(verdict, "audit").examples == ({"day": "2024-01-02", "row_count": 0},)


def test_a_table_without_a_window_blocks_as_a_whole(gate: Gate) -> None:
    gate.stage(*GOOD)
    audit = rows_audit("select user_id, spend from {batch} where spend = 2")
    verdict = gate.audit(NOT_NEGATIVE, audit, window=None)
    assert (verdict.blocked, verdict.blocked_days) == (True, set())
    found = finding(verdict, "audit")
    assert (found.days, found.examples) == ((), ({"user_id": "a", "spend": "2.00"},))


def test_quantiles_of_a_table_without_a_window_are_checked(gate: Gate) -> None:
    gate.stage(*GOOD)
    ranges = {"quantiles": [0.5], "value_ranges": [[50, 60]]}
    quantiles = {
        "type": "expect_column_quantile_values_to_be_between",
        "column": "spend",
        "quantile_ranges": ranges,
        "name": "median",
    }
    found = finding(gate.audit(quantiles, window=None), "median")
    assert not found.passed
    assert "'values': ['1.00']" in found.observed


def test_a_slice_that_was_not_staged_is_an_error(gate: Gate) -> None:
    gate.execute()
    with pytest.raises(duckdb.CatalogException, match="core__things does not exist"):
        gate.audit()


def test_the_window_must_fit_the_contract(gate: Gate) -> None:
    gate.stage(*GOOD)
    with pytest.raises(ValueError, match=r"core\.things: window column day"):
        gate.auditor.audit(gate.contract(), gate.staged, None)


def test_a_slice_staged_anew_is_read_anew(gate: Gate) -> None:
    gate.stage(*GOOD)
    assert not gate.audit(NOT_NEGATIVE).blocked
    gate.stage((0, "a", -1.0))
    assert gate.audit(NOT_NEGATIVE).blocked
    gate.execute(f"alter table {gate.staged} rename spend to spent")
    assert finding(gate.audit(NOT_NEGATIVE), "columns and types").rows == 2


def test_findings_are_safe_for_json_and_markdown(gate: Gate) -> None:
    gate.stage((0, "a|b\nc", -1.0))
    verdict = gate.audit(NOT_NEGATIVE)
    json.dumps([each.examples for each in verdict.findings])
    lines = verdict.to_markdown().splitlines()
    assert len(lines) == 2 + len(verdict.findings)
    assert lines[2].startswith("| ❌ | spend between 0 and … | critical | 1 | 2024-01-01 |")
    assert "user_id=a\\|b c" in lines[2]


def test_another_process_can_open_the_file_after_an_audit(gate: Gate) -> None:
    gate.stage(*GOOD)
    gate.audit(NOT_NEGATIVE)
    code = f"import duckdb; duckdb.connect({str(gate.database)!r}).close()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_gate_does_not_import_great_expectations() -> None:
    code = "import sys, promo_assets.gates.audit; assert 'great_expectations' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_every_audit_of_the_project_can_be_evaluated(gate: Gate) -> None:
    contracts = load_contracts(PROJECT / "expectations")
    with duckdb.connect(gate.database) as connection:
        prepare(connection)
    for name, contract in contracts.items():
        columns = ", ".join(f'"{column}" {type_}' for column, type_ in contract.types.items())
        staged = f"staging.{name.replace('.', '__')}"
        gate.execute(
            f"create schema if not exists {contract.schema_name}",
            f"create table {name} ({columns})",
            f"create table {staged} ({columns})",
        )
    for name, contract in contracts.items():
        window = (FIRST, FIRST + timedelta(days=7)) if contract.window else None
        verdict = gate.auditor.audit(contract, f"staging.{name.replace('.', '__')}", window)
        assert "could not be evaluated" not in verdict.summary()


slices = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["a", "b", "c", None]),
        st.sampled_from([None, -1.0, 0.0, 1.0]),
    ),
    max_size=6,
)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=slices)
def test_blocked_days_are_those_of_an_independent_oracle(
    new_gate: Callable[[], Gate], shared: list[Gate], rows: list[tuple[int, str | None, float]]
) -> None:
    gate = shared[0] if shared else new_gate()
    shared[:] = [gate]
    gate.stage(*rows)
    frame = pl.DataFrame(
        rows, schema={"day": pl.Int64, "user": pl.String, "spend": pl.Float64}, orient="row"
    )
    bad = frame.filter(
        pl.struct("day", "user").is_duplicated()
        | pl.col("user").is_null()
        | (pl.col("spend") < 0).fill_null(False)
    )
    expected = {gate.days[offset] for offset in bad["day"]}
    assert gate.audit(NOT_NEGATIVE).blocked_days == expected


@pytest.fixture(scope="session")
def shared() -> list[Gate]:
    """The one gate of all examples of a property."""
    return []
