"""A contract becomes a suite: what it implies, readable names, and typos that can't hide."""

from __future__ import annotations

from typing import Any

import pytest

from promo_assets.contract.project import PROJECT
from promo_assets.contract.tables import ContractError, TableContract, load_contracts
from promo_assets.gates.engine import check_rules
from promo_assets.gates.suites import suite_of

COLUMNS = {
    "day": {"type": "date", "description": "d"},
    "spend": {"type": "double", "nulls": "keep", "description": "s"},
}


def contract(*expectations: dict[str, Any], **changes: Any) -> TableContract:
    raw = {"table": "core.things", "columns": COLUMNS, "expectations": list(expectations)}
    return TableContract.model_validate(raw | changes)


def titles(of: TableContract) -> list[str]:
    return [rule.title for rule in suite_of(of)]


def test_columns_nulls_grain_and_window_imply_one_rule_each() -> None:
    assert titles(contract(window="day", grain=["day", "spend"])) == [
        "columns and types",
        "no nulls",
        "unique (day, spend)",
        "day lies in the slice",
    ]


def test_what_a_contract_does_not_say_is_not_checked() -> None:
    nullable = {"spend": COLUMNS["spend"]}
    assert titles(contract(columns=nullable)) == ["columns and types"]


@pytest.mark.parametrize(
    ("expectation", "title"),
    [
        (
            {"type": "expect_column_values_to_be_between", "column": "spend", "min_value": 0},
            "spend between 0 and …",
        ),
        (
            {"type": "expect_column_mean_to_be_between", "column": "spend", "max_value": 9},
            "spend mean to be between … and 9",
        ),
        (
            {"type": "expect_column_values_to_be_in_set", "column": "spend", "value_set": [1, 2]},
            "spend in set [1, 2]",
        ),
        (
            {"type": "expect_table_row_count_to_be_between", "min_value": 1},
            "table row count to be between 1 and …",
        ),
        (
            {"type": "expect_column_max_to_be_between", "column": "spend", "name": "spend_is_sane"},
            "spend_is_sane",
        ),
    ],
)
def test_titles_can_be_read(expectation: dict[str, Any], title: str) -> None:
    assert titles(contract(expectation))[-1] == title


def test_an_unknown_column_is_named_with_the_nearest_one() -> None:
    typo = {"type": "expect_column_values_to_be_between", "column": "spnd", "min_value": 0}
    with pytest.raises(
        ContractError,
        match=r"expectations/core/things.yaml: expectation 'spnd between 0 and …': 'spnd' is not "
        r"a column of core.things; did you mean: spend\?",
    ):
        suite_of(contract(typo))


def test_an_unknown_column_in_a_list_is_found_too() -> None:
    typo = {"type": "expect_compound_columns_to_be_unique", "column_list": ["day", "dey"]}
    with pytest.raises(ContractError, match="'dey' is not a column"):
        suite_of(contract(typo))


@pytest.mark.parametrize("placeholder", ["{bach}", "{window}"])
def test_a_placeholder_that_means_nothing_here_is_an_error(placeholder: str) -> None:
    audit = {"type": "rows", "name": "r", "description": "d", "query": f"from {placeholder}"}
    with pytest.raises(ContractError, match=f"'r': unknown placeholder {placeholder}"):
        suite_of(contract(audit))


def test_an_unknown_type_is_named_with_the_nearest_ones() -> None:
    typo = contract({"type": "expect_column_values_to_be_betwen", "column": "spend"})
    with pytest.raises(
        ContractError,
        match=r"expectations/core/things.yaml.*unknown type 'expect_column_values_to_be_betwen'; "
        r"did you mean: expect_column_values_to_be_between",
    ):
        check_rules(typo, suite_of(typo))


def test_an_unknown_argument_is_named_with_those_that_exist() -> None:
    typo = contract({"type": "expect_column_values_to_be_between", "column": "spend", "min": 0})
    with pytest.raises(
        ContractError,
        match=r"min: extra fields not permitted; .* takes column, max_value, min_value",
    ):
        check_rules(typo, suite_of(typo))


def test_every_contract_of_the_project_is_a_suite() -> None:
    contracts = load_contracts(PROJECT / "expectations")
    assert contracts
    for known in contracts.values():
        check_rules(known, suite_of(known))
