"""A lint: does a model mean the same on Spark?

Here: what SQL is known to mean the same on DuckDB 1.5 and on Spark 4 (ANSI mode, its default), and
the search of a model for anything else. sqlglot translates syntax and gives no warning where the
meaning changes, so whatever is not listed is a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from sqlglot import exp

from promo_assets.warehouse.models.model import SqlModel
from promo_assets.warehouse.models.parsing import branches, cte_of, is_recursive, line_of, parse

Schemas = Mapping[str, Mapping[str, str]]

STRUCTURE = (
    # Queries. UNION BY NAME, recursion, LIMIT and sampling are not standard or not deterministic.
    *(exp.Select, exp.Union, exp.Except, exp.Intersect, exp.With, exp.CTE, exp.Subquery),
    *(exp.From, exp.Join, exp.Table, exp.TableAlias, exp.Where, exp.Group, exp.Having),
    # Spark has no QUALIFY and no DISTINCT ON: sqlglot writes both as a subquery with a window.
    *(exp.Qualify, exp.Distinct, exp.Exists),
    # Nulls come last in DuckDB and first in Spark: sqlglot writes NULLS LAST.
    *(exp.Order, exp.Ordered, exp.Window, exp.WindowSpec, exp.Filter),
    *(exp.Column, exp.Identifier, exp.Alias, exp.Star, exp.Tuple, exp.Paren),
    *(exp.Literal, exp.Boolean, exp.Null, exp.Placeholder, exp.Var, exp.Interval),
)
OPERATORS = (
    *(exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE),
    *(exp.Between, exp.In, exp.Is, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Like),
    # Both give null when a side of || is null; concat() differs, see REASONS.
    *(exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg, exp.DPipe),
    *(exp.Case, exp.If, exp.Cast, exp.TryCast, exp.DataType, exp.DataTypeParam),
)
FUNCTIONS = (
    *(exp.Count, exp.Sum, exp.Min, exp.Max, exp.Avg),
    *(exp.RowNumber, exp.Rank, exp.DenseRank, exp.PercentRank, exp.CumeDist, exp.Ntile),
    *(exp.Lag, exp.Lead),
    # greatest and least skip nulls on both.
    *(exp.Coalesce, exp.Nullif, exp.Greatest, exp.Least),
    # Outside their domain DuckDB fails (sqrt(-1), ln(0)), so that no value can differ.
    *(exp.Abs, exp.Floor, exp.Ceil, exp.Round, exp.Sqrt, exp.Ln, exp.Exp),
    *(exp.Length, exp.Replace, exp.SplitPart, exp.MD5, exp.SHA2),
    *(exp.DateDiff, exp.TimestampTrunc, exp.Year, exp.Month, exp.Day, exp.Hour),
)
ALLOWED = frozenset((*STRUCTURE, *OPERATORS, *FUNCTIONS))

REASONS: dict[type[exp.Expr], str] = {
    exp.Anonymous: "the function is not in the list of those that mean the same",
    exp.ArgMax: "DuckDB skips rows whose value is null, Spark returns the null; ties are arbitrary:"
    " use row_number() with a complete order",
    exp.ArgMin: "DuckDB skips rows whose value is null, Spark returns the null; ties are arbitrary:"
    " use row_number() with a complete order",
    exp.ArrayAgg: "Spark loses the order of an ordered list()",
    exp.Columns: "Spark has no COLUMNS(): write the columns out",
    exp.Concat: "concat() skips nulls on DuckDB only: use || with coalesce",
    exp.DayOfWeek: "DuckDB counts 0-6 from Sunday, Spark 1-7: join core.calendar",
    exp.DayOfWeekIso: "sqlglot's isodow gives other numbers on Spark: join core.calendar",
    exp.Explode: "unnest() drops or keeps empty lists differently: join a table",
    exp.GenerateSeries: "Spark has no generate_series: join core.calendar",
    exp.IntDiv: "// of doubles is a double on DuckDB and an integer on Spark: use floor(a / b)",
    exp.Limit: "which rows LIMIT keeps is not defined: use row_number() with a complete order",
    exp.Log: "log(x) is base 10 on DuckDB, base e on Spark: use ln(x)",
    exp.Lower: "letters beyond ASCII differ: normalise them in the source",
    exp.Pivot: "PIVOT differs: use sum(…) filter (where …)",
    exp.PercentileCont: "Spark has no quantile_cont, and percentile_cont interpolates differently:"
    " rank the rows",
    exp.Slice: "Spark has no list slices: use row_number()",
    exp.Upper: "letters beyond ASCII differ: normalise them in the source",
    exp.Unnest: "unnest() drops or keeps empty lists differently: join a table",
}
INTEGERS = frozenset({"TINYINT", "SMALLINT", "INT", "BIGINT"})
CASTS = INTEGERS | {"DECIMAL", "DOUBLE", "TEXT", "DATE", "TIMESTAMPNTZ", "BOOLEAN"}
TRUNCATIONS = frozenset({"DAY", "WEEK", "MONTH", "QUARTER", "YEAR"})


@dataclass(frozen=True, order=True)
class Finding:
    """What may differ on Spark, and the line of the model's file where it is."""

    line: int
    message: str


def spark_findings(model: SqlModel, schemas: Schemas | None = None) -> list[Finding]:
    """Everything in a model that is not known to mean the same on Spark, by line.

    ``schemas`` gives the types of stored columns by table. Without them the rules go by what the
    SQL itself shows, and a stored double that is cast to an integer, say, is not found.
    """
    tree, text = parse(model)
    kinds = _Kinds(schemas or {})
    found = {
        Finding(line_of(node, text), message)
        for node in tree.walk()
        for message in _problems(node, kinds)
    }
    return sorted(found)


def _problems(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    kind = type(node)
    if kind not in ALLOWED:
        reason = REASONS.get(
            kind, "it is not in the list of what means the same; rewrite it, or check and list it"
        )
        name = node.name if kind is exp.Anonymous else kind.__name__
        yield f"{name}: {reason} (tests/warehouse/models/spark_lint.py)"
    elif kind in RULES:
        yield from RULES[kind](node, kinds)


def _division(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    if not _never_zero(node.expression):
        yield (
            f"divisor {node.expression.sql('duckdb')}: Spark fails on zero; expected a literal "
            "other than 0 or nullif(…, 0)"
        )
    pair = {kinds.of(node.this), kinds.of(node.expression)}
    if isinstance(node, exp.Div) and "double" not in pair and pair != {"integer"}:
        yield (
            f"{node.sql('duckdb')}: a quotient of decimals is a double on DuckDB and a rounded "
            "decimal on Spark; expected 'cast(… as double)' on one side"
        )


def _average(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    if kinds.of(node.this) not in ("double", "integer"):
        yield (
            f"{node.sql('duckdb')}: the mean of decimals is a double on DuckDB and a rounded "
            "decimal on Spark; expected avg(cast(… as double))"
        )


def _rounding(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    digits = node.args.get("decimals")
    if digits is not None and digits.name != "0" and kinds.of(node.this) != "fraction":
        yield (
            f"{node.sql('duckdb')}: halves of doubles round differently; expected round(x, 0) or "
            "round(cast(… as decimal(p, s)), digits)"
        )


def _cast(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    to = node.args["to"]
    kind = to.this.value
    if kind not in CASTS or to.args.get("nested"):
        yield f"a cast to {to.sql('duckdb')}: expected one of {', '.join(sorted(CASTS))}"
    elif kind in INTEGERS and kinds.of(node.this) in ("double", "fraction"):
        yield (
            f"{node.sql('duckdb')}: DuckDB rounds, Spark truncates; expected round(x, 0), floor "
            "or ceil inside the cast"
        )
    elif kind == "DECIMAL" and kinds.of(node.this) == "double":
        # 34.035 becomes 34.03 on DuckDB 1.5.6 and 34.04 on Spark, which rounds what is printed.
        yield (
            f"{node.sql('duckdb')}: halves of doubles round differently; expected decimals all "
            "the way, or cast(cast(round(100 * x, 0) as bigint) * 0.01 as decimal(18, 2))"
        )
    elif kind == "TEXT" and kinds.of(node.this) == "double":
        yield f"{node.sql('duckdb')}: doubles print differently; expected decimals or integers"


def _interval(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    amount, unit = node.this, node.args.get("unit")
    literal = isinstance(amount, exp.Literal) and amount.name.isdecimal()
    if not literal or unit is None or unit.name.upper() not in ("DAY", "DAYS"):
        yield f"{node.sql('duckdb')}: expected interval N day with a literal N"
    around = node.parent
    if not isinstance(around, exp.WindowSpec) and not _is_cast_to_date(around):
        yield (
            f"{around.sql('duckdb') if around else ''}: a timestamp on DuckDB, a date on Spark; "
            "expected cast(… as date) around it"
        )


def _truncation(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    if node.args["unit"].name.upper() not in TRUNCATIONS or not _is_cast_to_date(node):
        yield (
            f"{node.sql('duckdb')}: a timestamp on Spark; expected cast(date_trunc(…) as date) "
            f"with one of {', '.join(sorted(TRUNCATIONS)).lower()}"
        )


def _is_cast_to_date(node: exp.Expr | None) -> bool:
    around = node.parent if node else None
    return isinstance(around, exp.Cast) and around.to.is_type("date")


def _difference(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    if node.args["unit"].name.upper() != "DAY":
        yield (
            "date_diff in another unit than 'day': DuckDB counts boundaries, Spark full units; "
            "expected date_diff('day', a, b)"
        )


def _pattern(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    pattern = node.expression
    if not isinstance(pattern, exp.Literal) or "\\" in pattern.name:
        yield "like: a backslash escapes on Spark only; expected a literal pattern without one"


def _subtraction(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    if kinds.of(node.this) == kinds.of(node.expression) == "date":
        yield (
            f"{node.sql('duckdb')}: days on DuckDB, an interval on Spark; expected "
            "date_diff('day', a, b)"
        )


def _concatenation(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    if "double" in (kinds.of(node.this), kinds.of(node.expression)):
        yield f"{node.sql('duckdb')}: doubles print differently; expected decimals or integers"


def _join(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    if method := node.args.get("method"):
        yield f"{method.lower()} join: Spark has none, or pairs otherwise; expected join … on"


def _union(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    if node.args.get("by_name"):
        yield "union by name: Spark has none; expected the columns in the same order"


def _with(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    if node.args.get("recursive"):
        yield "with recursive: Spark has it only from 4.1; expected plain CTEs"


def _star(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    if any(node.args.get(part) for part in ("except_", "replace", "rename")):
        yield "* exclude/replace/rename: Spark has none; expected the columns written out"


def _split(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    index = node.args["part_index"]
    if not isinstance(index, exp.Literal) or index.name == "0":
        yield "split_part: Spark fails on part 0; expected a literal part from 1"


def _reused_aliases(node: exp.Expr, kinds: _Kinds) -> Iterator[str]:
    """Aliases in WHERE or in the select list, which only DuckDB resolves everywhere.

    An alias that shadows its own column (``trim(x) as x``) is that column in both.
    """
    fresh = {
        alias.alias.lower()
        for alias in node.args["expressions"]
        if isinstance(alias, exp.Alias)
        and alias.alias.lower() not in {name.name.lower() for name in alias.find_all(exp.Column)}
    }
    for part in (*node.args["expressions"], node.args.get("where")):
        if part is None:
            continue
        for column in part.walk(prune=lambda inner: isinstance(inner, exp.Query)):
            if not isinstance(column, exp.Column) or column.table:
                continue
            if column.name.lower() in fresh and not kinds.definitions(column):
                yield (
                    f"{column.name}: an alias of the same select, or a column that it hides; "
                    "expected the expression, a CTE, or the column with its table"
                )


RULES: dict[type[exp.Expr], Callable[[exp.Expr, _Kinds], Iterator[str]]] = {
    exp.Avg: _average,
    exp.Cast: _cast,
    exp.DateDiff: _difference,
    exp.Div: _division,
    exp.DPipe: _concatenation,
    exp.Interval: _interval,
    exp.Join: _join,
    exp.Like: _pattern,
    exp.Mod: _division,
    exp.Round: _rounding,
    exp.Select: _reused_aliases,
    exp.SplitPart: _split,
    exp.Star: _star,
    exp.Sub: _subtraction,
    exp.TimestampTrunc: _truncation,
    exp.TryCast: _cast,
    exp.Union: _union,
    exp.With: _with,
}

DOUBLES = (exp.Div, exp.Sqrt, exp.Ln, exp.Exp, exp.Avg, exp.PercentRank, exp.CumeDist)
INTEGRAL = (
    *(exp.Count, exp.RowNumber, exp.Rank, exp.DenseRank, exp.Ntile, exp.Length),
    *(exp.DateDiff, exp.Year, exp.Month, exp.Day, exp.Hour),
)
OF_THEIR_FIRST = (
    *(exp.Paren, exp.Neg, exp.Abs, exp.Nullif, exp.Window, exp.Filter, exp.Lag, exp.Lead),
    *(exp.Sum, exp.Min, exp.Max),
)
OF_THEIR_WIDEST = (exp.Add, exp.Sub, exp.Mul, exp.Coalesce, exp.Greatest, exp.Least)
WIDTH = ("integer", "", "date", "fraction", "double")


class _Kinds:
    """Kinds of values: double, fraction (a decimal with digits after the point), integer, date.

    ``""`` is any other kind, or one that neither the SQL nor the stored columns show.
    """

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._columns: dict[int, str] = {}

    def of(self, node: exp.Expr) -> str:
        if isinstance(node, exp.Column):
            if id(node) not in self._columns:
                self._columns[id(node)] = self._widest(self.definitions(node) or [])
            return self._columns[id(node)]
        if isinstance(node, exp.Cast):
            return _kind_of_type(node.to)
        if isinstance(node, exp.Literal):
            return _kind_of_literal(node)
        if isinstance(node, exp.Placeholder):
            return "date"
        if isinstance(node, DOUBLES):
            return "double"
        if isinstance(node, INTEGRAL):
            return "integer"
        if isinstance(node, exp.Floor | exp.Ceil):
            return "integer" if self.of(node.this) in ("double", "integer") else ""
        return self._widest(_operands(node))

    def definitions(self, column: exp.Column) -> list[exp.Expr] | None:
        """What a column of a FROM is computed from; empty: no such column, None: unknown."""
        select = column.parent_select
        return self._in_sources(select, column.table, column.name) if select else None

    def _widest(self, nodes: Iterable[exp.Expr]) -> str:
        kinds = [self.of(node) for node in nodes if not isinstance(node, exp.Null)]
        return max(kinds, key=WIDTH.index, default="")

    def _in_sources(self, select: exp.Expr, table: str, name: str) -> list[exp.Expr] | None:
        parts = [select.args.get("from_"), *select.args.get("joins", ())]
        sources = [part.this for part in parts if part]
        answers = [
            self._in_source(source, name)
            for source in sources
            if not table or source.alias_or_name.lower() == table.lower()
        ]
        if None not in answers and not any(answers):
            around = select.parent_select
            if around is None or select.find_ancestor(exp.CTE, exp.Select) is not around:
                return []
            return self._in_sources(around, table, name)
        return next((answer for answer in answers if answer), None)

    def _in_source(self, source: exp.Expr, name: str) -> list[exp.Expr] | None:
        if isinstance(source, exp.Table) and source.db:
            columns = self._schemas.get(f"{source.db}.{source.name}".lower())
            if columns is None:
                return None
            kind = columns.get(name.lower())
            return [exp.cast(exp.null(), kind, dialect="duckdb")] if kind else []
        cte = cte_of(source) if isinstance(source, exp.Table) else None
        query = cte or source
        if not isinstance(query, exp.CTE | exp.Subquery) or (cte and is_recursive(cte)):
            return None
        answers = [self._in_select(branch, name) for branch in branches(query.this)]
        # Branches of a union are matched by name: models write the same names in each.
        found = [value for answer in answers for value in answer or ()]
        return found if found or None not in answers else None

    def _in_select(self, select: exp.Select, name: str) -> list[exp.Expr] | None:
        for item in select.selects:
            if not item.is_star and item.alias_or_name.lower() == name.lower():
                return [item.unalias()]
        answers = [
            self._in_sources(select, getattr(item, "table", ""), name)
            for item in select.selects
            if item.is_star
        ]
        found = next((answer for answer in answers if answer), [])
        return found if found or None not in answers else None


def _kind_of_type(to: exp.DataType) -> str:
    name = to.this.value
    if name in INTEGERS:
        return "integer"
    if name == "DECIMAL":
        return "" if len(to.expressions) == 2 and to.expressions[1].name == "0" else "fraction"
    return {"DOUBLE": "double", "FLOAT": "double", "DATE": "date"}.get(name, "")


def _kind_of_literal(literal: exp.Literal) -> str:
    if literal.is_string:
        return ""
    if "e" in literal.name.lower():
        return "double"
    return "fraction" if "." in literal.name else "integer"


def _operands(node: exp.Expr) -> Iterator[exp.Expr]:
    """The operands whose kind an expression has, not the conditions that choose."""
    if isinstance(node, exp.Case):
        yield from (branch.args["true"] for branch in node.args["ifs"])
        yield from filter(None, [node.args.get("default")])
    elif isinstance(node, exp.If):
        yield from filter(None, [node.args["true"], node.args.get("false")])
    elif isinstance(node, OF_THEIR_FIRST):
        yield node.this
    elif isinstance(node, OF_THEIR_WIDEST):
        yield from node.iter_expressions()


def _never_zero(node: exp.Expr) -> bool:
    inner = node.unnest()
    if isinstance(inner, exp.Nullif):
        return isinstance(inner.expression, exp.Literal) and float(inner.expression.name) == 0
    if isinstance(inner, exp.Cast):
        return _never_zero(inner.this)
    if isinstance(inner, exp.Coalesce):
        # Each operand is null or not zero; a null quotient is the same on both.
        return all(_never_zero(value) for value in inner.iter_expressions())
    return isinstance(inner, exp.Literal) and not inner.is_string and float(inner.name) != 0
