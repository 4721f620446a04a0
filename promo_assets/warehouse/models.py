"""SQL models: ``dbt_like_sql/<schema>/<table>.sql``, read, checked and understood.

A model is a comment header and one plain ``select`` with the bound parameters ``$start``
(inclusive) and ``$end`` (exclusive). What it reads and what it gives is parsed from it. Not here:
running it (publish), and what its table must look like (contract).
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import traverse_scope

BOUNDS = ("start", "end")
KEYS = ("description", "grain", "owner", "lookback")
HEADER_LINE = re.compile(r"--\s?(?P<key>[a-z]+):\s*(?P<value>.*)")
LOOKBACK = re.compile(r"(?P<table>[a-z_]+\.[a-z_0-9]+) (?P<days>\d+) days?")


class ModelError(ValueError):
    """A model is wrong; the message is ``path:line: found; expected; what to do``."""


@dataclass(frozen=True)
class SqlModel:
    """A model as parsed. ``lookback`` maps a table to the days read before the window;
    ``code_version`` is the same for the same SQL in another layout."""

    table: str
    path: Path
    sql: str
    description: str
    owner: str
    grain: tuple[str, ...]
    windowed: bool
    lookback: Mapping[str, int]
    depends_on: tuple[str, ...]
    columns: tuple[str, ...]
    code_version: str
    tree: exp.Query = field(repr=False, compare=False)
    offset: int = field(default=0, repr=False)


def load_models(
    root: Path, known: Collection[str], windowed: Mapping[str, bool]
) -> dict[str, SqlModel]:
    """Every model under ``root`` by table, checked on its own and together.

    ``known`` are the tables that Python makes; ``windowed`` says which tables have a window.
    Raises `ModelError` on an unknown table, a cycle, or a windowed model without its bounds.
    """
    models = {model.table: model for model in map(load_model, sorted(root.glob("*/*.sql")))}
    tables = {*models, *known}
    for model in models.values():
        for name in model.depends_on:
            if name not in tables:
                near = difflib.get_close_matches(name, tables, n=1)
                hint = f"did you mean {near[0]}?" if near else "add its model or its asset"
                raise _error(model, _line_of(model, name), f"unknown table {name}; {hint}")
        if windowed.get(model.table) and not model.windowed:
            raise _error(
                model,
                1,
                f"{model.table} has a window but its SQL does not use both $start and $end; "
                "bound every table it reads",
            )
    _refuse_cycles(models)
    return models


def load_model(path: Path) -> SqlModel:
    """Read and check one model. Raises `ModelError` with file and line."""
    text = path.read_text(encoding="utf-8")
    header, sql, offset = _split_header(path, text)
    tree = _parse(path, sql, offset)
    table = f"{path.parent.name}.{path.stem}"
    depends_on = tuple(sorted(set(_tables_read(path, tree, sql, offset))))
    model = SqlModel(
        table=table,
        path=path,
        sql=sql,
        description=header["description"],
        owner=header["owner"],
        grain=tuple(part.strip() for part in header["grain"].split(",")),
        windowed=_windowed(path, tree, sql, offset),
        lookback=_lookback(path, header.get("lookback", "")),
        depends_on=depends_on,
        columns=_columns(path, tree, offset),
        code_version=_fingerprint(tree),
        tree=tree,
        offset=offset,
    )
    _consistent(model)
    return model


def render(model: SqlModel, start: date, end: date) -> str:
    """The SQL with the window's bounds in place of the parameters, for people to run."""
    sql = model.sql
    for name, value in (("start", start), ("end", end)):
        sql = re.sub(rf"\${name}\b", f"date '{value.isoformat()}'", sql)
    return sql.strip()


def real_tables(tree: exp.Expr) -> list[exp.Table]:
    """The tables that are read, without names of common table expressions."""
    return [
        source
        for scope in traverse_scope(tree)
        for source in scope.sources.values()
        if isinstance(source, exp.Table)
    ]


def _split_header(path: Path, text: str) -> tuple[dict[str, str], str, int]:
    """The header's values, the SQL after it, and the number of header lines."""
    header: dict[str, str] = {}
    key = ""
    lines = text.splitlines(keepends=True)
    number = 0
    for number, line in enumerate(lines):
        if not line.startswith("--"):
            break
        match = HEADER_LINE.fullmatch(line.rstrip())
        if match and not line.startswith("--   "):
            key = match["key"]
            if key not in KEYS:
                near = difflib.get_close_matches(key, KEYS, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(KEYS)}"
                raise ModelError(f"{path}:{number + 1}: unknown header {key!r}; {hint}")
            header[key] = match["value"].strip()
        elif key:
            header[key] += " " + line.removeprefix("--").strip()
        else:
            raise ModelError(
                f"{path}:{number + 1}: the header starts with {line.strip()!r}; "
                "expected '-- description: …'"
            )
    for required in ("description", "grain", "owner"):
        if not header.get(required):
            raise ModelError(
                f"{path}:1: header '-- {required}: …' is missing; add it above the select"
            )
    return header, "".join(lines[number:]), number


def _parse(path: Path, sql: str, offset: int) -> exp.Query:
    if "{{" in sql or "{%" in sql:
        line = sql[: sql.index("{")].count("\n") + 1 + offset
        raise ModelError(
            f"{path}:{line}: a template was found; models are plain SQL, use $start and $end"
        )
    try:
        trees = [tree for tree in sqlglot.parse(sql, read="duckdb") if tree is not None]
    except SqlglotError as error:
        details = getattr(error, "errors", None) or [{}]
        line = (details[0].get("line") or 1) + offset
        what = details[0].get("description") or str(error).splitlines()[0]
        raise ModelError(f"{path}:{line}: not valid SQL: {what}; expected one select") from error
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        found = ", ".join(type(tree).__name__.lower() for tree in trees) or "nothing"
        raise ModelError(f"{path}:{offset + 1}: {found} was found; expected one plain select")
    return trees[0]


def _tables_read(path: Path, tree: exp.Query, sql: str, offset: int) -> Iterator[str]:
    for table in real_tables(tree):
        if not isinstance(table.this, exp.Identifier):
            raise ModelError(
                f"{path}:{offset + 1}: table function {table.this.sql('duckdb')} was found; a model "
                "reads tables only: add a source for files"
            )
        if not table.db or table.catalog:
            line = _line(sql, table.name) + offset
            raise ModelError(
                f"{path}:{line}: table {table.sql('duckdb')} was found; expected schema.table"
            )
        yield f"{table.db}.{table.name}"


def _windowed(path: Path, tree: exp.Query, sql: str, offset: int) -> bool:
    used = {placeholder.name for placeholder in tree.find_all(exp.Placeholder, exp.Parameter)}
    if surplus := sorted(used - set(BOUNDS)):
        line = _line(sql, f"${surplus[0]}") + offset
        raise ModelError(
            f"{path}:{line}: parameter ${surplus[0]} was found; expected only $start and $end"
        )
    return used == set(BOUNDS)


def _columns(path: Path, tree: exp.Query, offset: int) -> tuple[str, ...]:
    if tree.is_star:
        raise ModelError(
            f"{path}:{offset + 1}: the last select holds a *; name its columns, so that a new "
            "upstream column can't change this table"
        )
    names = tuple(tree.named_selects)
    twice = sorted({name for name in names if names.count(name) > 1 or not name})
    if twice:
        raise ModelError(
            f"{path}:{offset + 1}: output column {twice[0] or 'without a name'!r} "
            "is not unique or has no name; alias it"
        )
    return names


def _lookback(path: Path, text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = LOOKBACK.fullmatch(part)
        if match is None:
            raise ModelError(
                f"{path}:1: lookback {part!r} was found; expected 'schema.table 90 days'"
            )
        found[match["table"]] = int(match["days"])
    return found


def _fingerprint(tree: exp.Query) -> str:
    """Twelve digits of the SHA-256 of the SQL without comments and layout."""
    normal = tree.sql("duckdb", comments=False, normalize=True)
    return hashlib.sha256(normal.encode()).hexdigest()[:12]


def _consistent(model: SqlModel) -> None:
    for column in model.grain:
        if column not in model.columns:
            raise _error(
                model, 1, f"grain column {column} is not an output column; expected one of them"
            )
    for table in model.lookback:
        if table not in model.depends_on:
            raise _error(model, 1, f"lookback names {table}, which is not read; remove it")
    if model.table in model.depends_on and model.lookback.get(model.table, 0) < 1:
        raise _error(
            model,
            _line_of(model, model.table),
            f"{model.table} reads itself; expected '-- lookback: {model.table} 1 days' and a bound "
            "before $start",
        )


def _refuse_cycles(models: Mapping[str, SqlModel]) -> None:
    done: set[str] = set()

    def visit(table: str, path: tuple[str, ...]) -> None:
        if table in path:
            cycle = (*path[path.index(table) :], table)
            raise _error(models[table], 1, f"a cycle: {' -> '.join(cycle)}; break it")
        if table in done or table not in models:
            return
        for upstream in models[table].depends_on:
            if upstream != table:
                visit(upstream, (*path, table))
        done.add(table)

    for table in models:
        visit(table, ())


def _error(model: SqlModel, line: int, message: str) -> ModelError:
    return ModelError(f"{model.path}:{line}: {message}")


def _line_of(model: SqlModel, text: str) -> int:
    return _line(model.sql, text) + model.offset


def _line(sql: str, text: str) -> int:
    """The line of the first mention of ``text``, from 1."""
    position = sql.lower().find(text.lower())
    return sql[: max(position, 0)].count("\n") + 1
