"""Column lineage of SQL models, parsed from their SQL.

Here: from which stored columns an output column is computed. Not here: the lineage of tables
that Python makes (their contracts declare it) and how Dagster shows it (assets).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from sqlglot import exp
from sqlglot.errors import SqlglotError

from promo_assets.warehouse.models.model import ModelError, SqlModel
from promo_assets.warehouse.models.parsing import parse

Sources = tuple[tuple[str, str], ...]
Columns = tuple[tuple[str, str], ...]


def column_lineage(model: SqlModel, schemas: Mapping[str, Mapping[str, str]]) -> dict[str, Sources]:
    """For each output column, in order, the sorted ``(table, column)`` that it is computed from.

    These are the columns that its expression reads, through CTEs, subqueries and every branch of
    a union, with the partition and order of its windows; not those that only select, join or
    group rows. ``count(*)`` and constants have no source. ``schemas`` gives column types by table
    for at least ``model.depends_on``. Raises `ModelError` for a column that no such table has.
    """
    if missing := set(model.depends_on) - schemas.keys():
        raise ModelError.at(
            model.path,
            model.first_line,
            f"no columns known of {', '.join(sorted(missing))}; expected those of every table "
            "that is read; write its contract under expectations/",
        )
    read = tuple((table, tuple(schemas[table].items())) for table in model.depends_on)
    return dict(_lineage(model, read))


@lru_cache(maxsize=256)
def _lineage(
    model: SqlModel, read: tuple[tuple[str, Columns], ...]
) -> tuple[tuple[str, Sources], ...]:
    """Cached by the model's SQL and the columns that it reads: both decide the answer."""
    from sqlglot.lineage import lineage

    tree, _ = parse(model)
    for select in tree.find_all(exp.Select):
        _inline_windows(select)
    schema: dict[str, dict[str, dict[str, str]]] = {}
    for table, columns in read:
        folder, name = table.split(".")
        schema.setdefault(folder, {})[name] = dict(columns)
    try:
        # One call for all columns qualifies the tree once; trimming would copy it for each node.
        nodes = lineage(
            None,
            tree,
            schema,
            dialect="duckdb",
            trim_selects=False,
            copy=False,
            validate_qualify_columns=True,
        )
    except SqlglotError as error:
        raise ModelError.at(
            model.path,
            model.first_line,
            f"{str(error).splitlines()[0]}; expected columns of {', '.join(model.depends_on)} as "
            "their contracts name them; correct the name, or the contract",
        ) from error
    found = []
    for name in model.columns:
        sources = {
            (f"{node.expression.db}.{node.expression.name}", node.name.rpartition(".")[2])
            for node in nodes[name].walk()
            if isinstance(node.expression, exp.Table)
        }
        found.append((name, tuple(sorted(sources))))
    return tuple(found)


def _inline_windows(select: exp.Select) -> None:
    """Write ``over w`` as ``over (…)``: sqlglot's lineage does not look into named windows."""
    named = {window.this.name.lower(): window for window in select.args.get("windows") or ()}
    for window in list(select.find_all(exp.Window)):
        definition = named.get(window.alias.lower())
        if definition is not None and window.parent_select is select:
            inlined = definition.copy()
            inlined.set("this", window.this)
            window.replace(inlined)
