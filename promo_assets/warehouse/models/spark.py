"""A model's text on Spark. Not here: whether it means the same there, which a lint of the tests
finds (sqlglot translates syntax and gives no warning where the meaning changes)."""

from __future__ import annotations

from sqlglot import exp

from promo_assets.warehouse.models.model import SqlModel
from promo_assets.warehouse.models.parsing import parse


def to_spark(model: SqlModel) -> str:
    """The model for ``spark.sql(text, args={"start": …, "end": …})``, with ``:start``, ``:end``.

    The same meaning only where `spark_findings` is empty.
    """
    tree, _ = parse(model)
    for node in list(tree.find_all(exp.DateDiff)):
        # datediff(DAY, a, b) counts full 24 hours of timestamps, DuckDB and datediff(b, a) days.
        node.replace(exp.func("datediff", node.this, node.expression, dialect="hive"))
    return tree.sql("spark", pretty=True, comments=False)
