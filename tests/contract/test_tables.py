"""Table contracts: what a file may say, and what it is told when it says something else."""

from pathlib import Path

import pytest

from promo_assets.contract.events import EVENT_COLUMNS, EVENT_TYPES, REASONS
from promo_assets.contract.tables import ContractError, load_contract, load_contracts
from promo_assets.definitions import EXPECTATIONS, MODELS


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "core" / "things.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_contract_gives_types_strategies_and_expectations(tmp_path: Path) -> None:
    contract = load_contract(
        written(
            tmp_path,
            "window: day\n"
            "columns:\n"
            "  day: {type: date, description: d}\n"
            "  name: {type: varchar, nulls: keep, description: n}\n"
            "expectations:\n"
            "  - {type: expect_column_values_to_be_unique, column: name, severity: warning}\n",
        )
    )
    assert contract.table == "core.things"
    assert contract.types == {"day": "DATE", "name": "VARCHAR"}
    assert not contract.columns["day"].nullable
    assert contract.columns["name"].nullable
    assert contract.expectations[0].arguments == {"column": "name"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("columns: [", "not valid YAML"),
        ("just text", "expected a mapping"),
        ("columns: {a: {type: date, description: d, nuls: keep}}", "nuls"),
        ("columns: {a: {type: 'int; drop', description: d}}", "not a DuckDB type"),
        ("columns: {a: {type: date, description: d, nulls: maybe}}", "never, keep, drop"),
        ("columns: {A b: {type: date, description: d}}", "lower_snake_case"),
        ("window: day\ncolumns: {a: {type: date, description: d}}", "unknown columns: day"),
        ("keep_days: 9\ncolumns: {a: {type: date, description: d}}", "has no age"),
        ("window: a\nkeep_days: 0\ncolumns: {a: {type: date, description: d}}", "keep_days"),
        (
            "columns: {a: {type: date, description: d}}\n"
            "expectations: [{type: rows, query: select 1}]",
            "needs name, description and query",
        ),
        (
            "columns: {a: {type: date, description: d}}\n"
            "expectations: [{type: expect_column_values_to_not_be_null, column: a, mostly: 0.9}]",
            "mostly",
        ),
    ],
)
def test_a_wrong_contract_is_told_where_and_what(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ContractError) as caught:
        load_contract(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)


AUDITED = """
columns: {{a: {{type: date, description: d}}}}
expectations: [{{type: rows, name: holds, description: {described}, {told}}}]
"""


def suites(root: Path, told: str) -> None:
    """Two tables, of which the second has an audit with ``told``."""
    for name, described, query in (("one", "of one", "query: select 1"), ("two", "of two", told)):
        (root / "core").mkdir(exist_ok=True)
        text = AUDITED.format(described=described, told=query)
        (root / "core" / f"{name}.yaml").write_text(text)


def test_an_audit_that_is_the_same_as_another_tables_has_its_query(tmp_path: Path) -> None:
    suites(tmp_path, "same_as: core.one")
    (audit,) = load_contracts(tmp_path)["core.two"].expectations
    assert (audit.query, audit.description) == ("select 1", "of two")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("same_as: core.three", "core/two.yaml: expectation 'holds': same_as 'core.three'"),
        ("same_as: core.one, query: select 2", "not both"),
    ],
)
def test_an_audit_without_one_query_is_refused(tmp_path: Path, told: str, words: str) -> None:
    suites(tmp_path, told)
    with pytest.raises(ContractError, match=words):
        load_contracts(tmp_path)


def test_every_sql_model_has_a_suite_with_expectations() -> None:
    contracts = load_contracts(EXPECTATIONS)
    models = {
        f"{path.parent.name}.{path.stem}"
        for path in MODELS.glob("*/*.sql")
        if "-- materialized: ephemeral" not in path.read_text()
    }
    assert models <= contracts.keys()
    assert all(contract.expectations for contract in contracts.values())


def test_event_tables_hold_the_event_contract() -> None:
    contracts = load_contracts(EXPECTATIONS)
    names = [column.name for column in EVENT_COLUMNS]
    typed = {c.name: c.type for c in EVENT_COLUMNS}
    assert contracts["core.events"].types == typed | {"account_id": "VARCHAR"}
    assert set(names) <= contracts["raw.events"].types.keys()
    delivered = set(names) - {"event_date"}
    for table in ("raw.events", "core.rejected_events"):
        assert {contracts[table].types[name] for name in delivered} == {"VARCHAR"}


def test_reason_codes_are_those_of_the_sql_and_of_the_suite() -> None:
    contracts = load_contracts(EXPECTATIONS)
    sql = (MODELS / "core" / "rejected_events.sql").read_text()
    positions = [sql.index(f"'{reason}'") for reason in REASONS]
    assert positions == sorted(positions)
    assert sql.count("then '") == len(REASONS)
    (in_set,) = (
        expectation
        for expectation in contracts["core.rejected_events"].expectations
        if expectation.type == "expect_column_values_to_be_in_set"
    )
    assert in_set.arguments["value_set"] == list(REASONS)


def test_event_types_are_named_once() -> None:
    names = [kind.name for kind in EVENT_TYPES]
    assert len(set(names)) == len(names) == 12


@pytest.mark.parametrize(
    ("told", "kept"), [("window: day\n", 1095), ("window: day\nkeep_days: 30\n", 30), ("", None)]
)
def test_a_windowed_table_says_how_long_its_days_are_kept_or_its_schema_does(
    tmp_path: Path, told: str, kept: int | None
) -> None:
    columns = "columns: {day: {type: date, description: d}}"
    assert load_contract(written(tmp_path, told + columns)).kept_days == kept
