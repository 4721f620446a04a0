"""Every SQL model of ``dbt_like_sql/`` as a table; a new file there needs no Python."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from promo_assets.contract.tables import ContractError, TableContract
from promo_assets.sources.deliveries import balance
from promo_assets.tables.table import Production, Table
from promo_assets.warehouse.models.kept import load_models
from promo_assets.warehouse.models.model import SqlModel
from promo_assets.warehouse.publish import Query

NOTES = {"core.events": balance}
"""What is told of a table's days beside their rows."""

GROUPS = {"core": "events"}
"""Schemas whose group has another name; elsewhere the schema is the group."""


def tables(
    root: Path, contracts: Mapping[str, TableContract], python_tables: Collection[str]
) -> list[Table]:
    """One table for each model, with its inputs parsed from the SQL.

    Raises `KeyError` for a model without a suite and `ModelError` for a model that is wrong.
    """
    windowed = {name: contract.window is not None for name, contract in contracts.items()}
    models = load_models(root, known=python_tables, windowed=windowed)
    schemas = {name: contract.types for name, contract in contracts.items()}
    return [_table(model, contracts, schemas) for model in models.values()]


def _table(
    model: SqlModel,
    contracts: Mapping[str, TableContract],
    schemas: Mapping[str, Mapping[str, str]],
) -> Table:
    contract = contracts[model.table].model_copy(
        update={"owner": model.owner, "description": model.description, "grain": model.grain}
    )
    if unlike := set(contract.types) ^ set(model.columns):
        raise ContractError(
            f"{model.path}: its columns differ from its suite's in {', '.join(sorted(unlike))}; "
            f"change the model or expectations/{model.table.replace('.', '/')}.yaml"
        )
    by_day = {name for name in model.depends_on if contracts[name].window is not None}
    schema = contract.schema_name
    return Table(
        contract,
        GROUPS.get(schema, schema),
        partial(_select, model),
        model.code_version,
        inputs={name: model.lookback.get(name, 0) for name in sorted(by_day)},
        whole=tuple(sorted(set(model.depends_on) - by_day)),
        kinds=frozenset({"duckdb", "sql", "table"}),
        lineage=partial(_lineage, model, schemas),
        spills=True,
    )


def _select(model: SqlModel, production: Production) -> Query:
    assert production.window is not None
    if told := NOTES.get(model.table):
        production.note(told(production.connection, production.window))
    return Query(model.sql, {"start": production.window.start, "end": production.window.end})


def _lineage(
    model: SqlModel, schemas: Mapping[str, Mapping[str, str]]
) -> Mapping[str, Sequence[tuple[str, str]]]:
    from promo_assets.warehouse.models.lineage import column_lineage

    return column_lineage(model, schemas)
