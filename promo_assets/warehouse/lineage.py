"""Column lineage: which columns of which tables an output column of a model is made of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from sqlglot import exp
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from promo_assets.warehouse.models import SqlModel

Origin = tuple[str, str]
Schemas = Mapping[str, Mapping[str, str]]


def column_lineage(model: SqlModel, schemas: Schemas) -> dict[str, tuple[Origin, ...]]:
    """For each output column the ``(schema.table, column)`` that its value is computed from.

    ``schemas`` maps a table to its columns and types. Columns that only filter, join or order
    rows are not origins; ``count(*)`` has none. Cached by the model's code version.
    """
    read = tuple(
        (table, tuple(schemas[table].items()))
        for table in model.depends_on
        if table in schemas
    )
    return _lineage(model.sql, model.columns, read)


@lru_cache(maxsize=64)
def _lineage(
    sql: str,
    columns: tuple[str, ...],
    read: tuple[tuple[str, tuple[Origin, ...]], ...],
) -> dict[str, tuple[Origin, ...]]:
    import sqlglot

    schema: dict[str, dict[str, dict[str, str]]] = {}
    for table, types in read:
        db, name = table.split(".")
        schema.setdefault(db, {})[name] = dict(types)
    tree = qualify(
        sqlglot.parse_one(sql, read="duckdb"),
        dialect="duckdb",
        schema=schema,
        validate_qualify_columns=False,
        identify=False,
    )
    root = build_scope(tree)
    assert root is not None, "a model is a query, which has a scope"
    memo: dict[tuple[int, str], frozenset[Origin]] = {}
    return {column: tuple(sorted(_origins(root, column, memo))) for column in columns}


def _origins(
    scope: Scope, column: str, memo: dict[tuple[int, str], frozenset[Origin]]
) -> frozenset[Origin]:
    key = (id(scope), column)
    if key not in memo:
        memo[key] = frozenset()  # A recursive common table expression ends here.
        memo[key] = frozenset(_walk(scope, column, memo))
    return memo[key]


def _walk(
    scope: Scope, column: str, memo: dict[tuple[int, str], frozenset[Origin]]
) -> set[Origin]:
    if scope.set_operation_scopes:
        position = scope.expression.named_selects.index(column)
        return {
            origin
            for branch in scope.set_operation_scopes
            for origin in _origins(branch, branch.expression.named_selects[position], memo)
        }
    projection = next(
        (select for select in scope.expression.selects if select.alias_or_name == column), None
    )
    found: set[Origin] = set()
    for reference in projection.find_all(exp.Column) if projection else ():
        source = _source(scope, reference)
        if isinstance(source, Scope):
            found |= _origins(source, reference.name, memo)
        elif isinstance(source, exp.Table) and source.db:
            found.add((f"{source.db}.{source.name}", reference.name))
    return found


def _source(scope: Scope, reference: exp.Column) -> Scope | exp.Expr | None:
    """Where a column comes from; a subquery's column may come from the scope around it."""
    inner: Scope | None = scope
    while inner is not None:
        if reference.table in inner.sources:
            return inner.sources[reference.table]
        inner = inner.parent
    for child in scope.traverse():
        if reference.table in child.sources:
            return child.sources[reference.table]
    return None
