"""From files to models: one plain select each, its dependencies and columns parsed with sqlglot.

Here: reading ``dbt_like_sql/<schema>/<table>.sql``, checking it, writing ephemeral models (dbt's
word: a step that is no table) into those that read them, and rendering it for people.
Not here: what flows from column to column (lineage), what Spark makes of it (spark), running it
(publish). Nothing here opens a database; nothing is templated.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from graphlib import CycleError, TopologicalSorter
from itertools import zip_longest
from pathlib import Path

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token

from promo_assets.warehouse.models.model import ModelError, SqlModel

DUCKDB = Dialect.get_or_raise("duckdb")
BOUNDS = ("start", "end")
REQUIRED = ("description", "grain", "owner")
KEYS = (*REQUIRED, "lookback", "materialized")
MATERIALIZED = ("table", "ephemeral")
HEADER_LINE = re.compile(r"-- (?P<key>\w+):\s*(?P<value>.*)")
CONTINUATION = re.compile(r"-- {2,}(?P<more>\S.*)")
LOOKBACK = re.compile(r"(?:(?P<table>\w+\.\w+)\s+)?(?P<days>[1-9]\d*) days?")
TEMPLATING = re.compile(r"\{\{|\{%|\{#")


@dataclass(frozen=True)
class _Source:
    """A file's select with blank lines in place of its header: lines are those of the file."""

    path: Path
    text: str
    tokens: list[Token]

    @classmethod
    def of(cls, path: Path, sql: str, first_line: int) -> _Source:
        text = "\n" * (first_line - 1) + sql
        try:
            return cls(path, text, DUCKDB.tokenize(text))
        except TokenError:
            raise ModelError.at(path, *_unreadable(text)) from None

    def error(self, offset: int, message: str) -> ModelError:
        return ModelError.at(self.path, line_at(self.text, offset), message)

    def error_at(self, node: exp.Expr, message: str) -> ModelError:
        return ModelError.at(self.path, line_of(node, self.text), message)

    def raw(self, token: Token) -> str:
        return self.text[token.start : token.end + 1]


def load_models(
    root: Path, known: Collection[str], windowed: Mapping[str, bool]
) -> dict[str, SqlModel]:
    """Read every model under ``root``, keyed by table, upstream first.

    ``known`` names the tables that Python makes; ``windowed`` says by table whether its contract
    has a window column. Raises `ModelError` for a model that is wrong alone (see `load_model`),
    reads an unknown table, is part of a cycle, or disagrees with its contract's window.
    """
    files: dict[Path, _File] = {}
    loaded = [_load(path, root, files) for path in sorted(root.rglob("*.sql"))]
    models = {model.table: model for model in loaded if not model.ephemeral}
    tables = {*known, *models}
    for model in loaded:
        for table, (path, line) in model.reads.items():
            if table not in tables:
                raise _unknown_table(path, line, table, tables)
    read = {table for model in loaded for table in model.steps}
    for model in loaded:
        if model.ephemeral and model.table not in read:
            raise ModelError.at(
                model.path,
                1,
                "an ephemeral model that no model reads; expected one; remove it, or read it",
            )
    for model in models.values():
        _check_window(model, windowed.get(model.table))
    return {table: models[table] for table in _upstream_first(models)}


def load_model(path: Path, root: Path) -> SqlModel:
    """Read and check one model; its table is its path under ``root``, ``<schema>/<table>.sql``.

    Ephemeral models that it reads, directly or through others, are written into it. Raises
    `ModelError` for anything but one select of named columns from qualified tables, with a
    complete header, both bounds or none, and no other parameter; and for ephemeral models that
    read each other in a circle or would take the name of a CTE.
    """
    return _load(path, root, {})


@dataclass(frozen=True)
class _File:
    """A file's model alone, and what it was read from."""

    model: SqlModel
    source: _Source
    tree: exp.Query


def _load(path: Path, root: Path, files: dict[Path, _File]) -> SqlModel:
    """`load_model`; ``files`` keeps what was read, for the models that come after."""
    file = _read(path, root, files)
    steps: dict[str, _File] = {}
    _collect_steps(file.model, root, files, steps, (file.model.table,))
    return _joined(file, steps) if steps else file.model


def _read(path: Path, root: Path, files: dict[Path, _File]) -> _File:
    if path not in files:
        files[path] = _read_alone(path, root)
    return files[path]


def _read_alone(path: Path, root: Path) -> _File:
    place = path.relative_to(root)
    if len(place.parts) != 2:
        raise ModelError.at(path, 1, f"the file is {place}; expected <schema>/<table>.sql; move it")
    table = f"{place.parent}.{place.stem}"
    text = path.read_text(encoding="utf-8")
    header, first_line = _header(path, text)
    body = "".join(text.splitlines(keepends=True)[first_line - 1 :])
    source = _Source.of(path, body, first_line)
    _check_templating(source)
    source = _one_statement(source, body, first_line)
    bounds = _bounds(source)
    tree = _parse(source)
    ephemeral = _materialized(path, header) == "ephemeral"
    columns = _columns(source, tree, stars=ephemeral)
    reads = _reads(source, tree)
    lookback = _lookback(path, header, reads)
    if table in reads and table not in lookback and not ephemeral:
        raise source.error(
            reads[table],
            f"{table} reads itself without a lookback: a cycle; expected it to read only days "
            f"before $start; add the header line '-- lookback: {table} 1 days'",
        )
    model = SqlModel(
        table=table,
        path=path,
        sql=source.text.strip("\n"),
        first_line=first_line + len(body) - len(body.lstrip("\n")),
        description=header["description"][1],
        owner=header["owner"][1],
        grain=_grain(path, header["grain"], columns, stars=ephemeral),
        windowed=bounds,
        lookback=lookback,
        reads={name: (path, line_at(source.text, at)) for name, at in reads.items()},
        columns=columns,
        code_version=_version(source),
        ephemeral=ephemeral,
    )
    return _File(model, source, tree)


def _collect_steps(
    model: SqlModel,
    root: Path,
    files: dict[Path, _File],
    steps: dict[str, _File],
    reading: tuple[str, ...],
) -> None:
    """Add the ephemeral models that ``model`` reads to ``steps``, upstream first. ``reading`` is
    the way to it, from the model that is loaded."""
    for table, place in model.reads.items():
        path = root / f"{table.replace('.', '/')}.sql"
        if table in steps or not path.exists():
            continue
        step = _read(path, root, files)
        if not step.model.ephemeral:
            continue
        if table in reading:
            circle = (*reading[reading.index(table) :], table)
            raise ModelError.at(
                *place,
                f"ephemeral models in a circle: {' reads '.join(circle)}; expected steps that "
                "don't read what they make; take the shared part into a step of its own",
            )
        _collect_steps(step.model, root, files, steps, (*reading, table))
        steps[table] = step


def _joined(file: _File, steps: Mapping[str, _File]) -> SqlModel:
    """The model with its steps as CTEs before its own, in one statement."""
    _check_names(file, steps)
    ctes = ", ".join(
        f"{table.split('.')[1]} as (\n{_unqualified(step, steps)}\n)"
        for table, step in steps.items()
    )
    own = _unqualified(file, steps)
    words = [file.source.raw(token).lower() for token in file.source.tokens[:2]]
    if words[0] == "with":
        above = len(file.source.text) - len(file.source.text.lstrip("\n"))
        opening = file.source.tokens[int(words[1] == "recursive")].end + 1 - above
        sql = f"{own[:opening]} {ctes},\n{own[opening:].lstrip()}"
    else:
        sql = f"with {ctes}\n\n{own}"
    lookback: dict[str, int] = {}
    reads: dict[str, tuple[Path, int]] = {}
    every = [*(step.model for step in steps.values()), file.model]
    for each in every:
        for name, days in each.lookback.items():
            lookback[name] = max(days, lookback.get(name, 0))
        reads |= {name: place for name, place in each.reads.items() if name not in steps}
    versions = "\n".join(each.code_version for each in every)
    return replace(
        file.model,
        sql=sql,
        windowed=any(each.windowed for each in every),
        lookback=lookback,
        reads=reads,
        code_version=hashlib.sha256(versions.encode()).hexdigest()[:12],
        steps=tuple(steps),
    )


def _check_names(file: _File, steps: Mapping[str, _File]) -> None:
    """Within one statement a name means one thing."""
    taken = {cte.alias.lower(): file.model.path for cte in file.tree.ctes}
    for step in (step.model for step in steps.values()):
        name = step.table.split(".")[1]
        if name in taken:
            raise ModelError.at(
                step.path,
                step.first_line,
                f"{name!r} is a CTE or a step of {file.model.table} already ({taken[name]}); "
                "expected different names within one statement; rename one",
            )
        taken[name] = step.path


def _unqualified(file: _File, steps: Collection[str]) -> str:
    """The model's SQL with its steps named as CTEs: without their schemas."""
    text = file.source.text
    pieces, done = [], 0
    tables = (table for table in file.tree.find_all(exp.Table) if table.db)
    for table in sorted(tables, key=lambda table: table.args["db"].meta["start"]):
        if f"{table.db}.{table.name}".lower() in steps:
            pieces.append(text[done : table.args["db"].meta["start"]])
            done = table.this.meta["start"]
    return "".join([*pieces, text[done:]]).strip("\n")


def render(model: SqlModel, start: date, end: date) -> str:
    """The model's SQL for ``[start, end)`` with its bounds as literals, for a DuckDB shell.

    For people only: what runs is ``model.sql`` with bound parameters.
    """
    literals = {"start": f"date '{start}'", "end": f"date '{end}'"}
    source = _Source.of(model.path, model.sql, 1)
    pieces, done = [], 0
    for name, first, last in _parameters(source):
        pieces += [source.text[done:first], literals[name]]
        done = last + 1
    # On a line of its own, so that a closing comment can't swallow it.
    return "".join([*pieces, source.text[done:], "\n;"])


def parse(model: SqlModel) -> tuple[exp.Query, str]:
    """A fresh syntax tree of a loaded model, and the text that its positions refer to."""
    source = _Source.of(model.path, model.sql, model.first_line)
    return _parse(source), source.text


def line_at(text: str, offset: int) -> int:
    """The line of an offset. sqlglot's own line numbers are wrong after a ``$`` (30.30)."""
    return text.count("\n", 0, offset) + 1


def line_of(node: exp.Expr, text: str) -> int:
    """The line of the nearest position: in the node, or around it (few nodes carry one)."""
    around: exp.Expr | None = node
    while around is not None:
        offsets = [found.meta["start"] for found in around.walk() if "start" in found.meta]
        if offsets:
            return line_at(text, min(offsets))
        around = around.parent
    return 1


def branches(tree: exp.Expr) -> Iterator[exp.Select]:
    """The selects that give a query's rows: itself, or every operand of a union."""
    if isinstance(tree, exp.SetOperation):
        yield from branches(tree.left)
        yield from branches(tree.right)
    elif isinstance(tree, exp.Subquery):
        yield from branches(tree.unnest())
    elif isinstance(tree, exp.Select):
        yield tree


def is_recursive(cte: exp.CTE) -> bool:
    """Whether a CTE may read itself."""
    return isinstance(cte.parent, exp.With) and bool(cte.parent.recursive)


def cte_of(table: exp.Table) -> exp.CTE | None:
    """The CTE that an unqualified name means: the nearest around it that is written before it."""
    inside: list[exp.Expr] = [table]
    while (around := inside[-1].parent) is not None:
        for cte in around.ctes if isinstance(around, exp.Query) else ():
            within = any(node is cte for node in inside)
            if within and not is_recursive(cte):
                break
            if cte.alias.lower() == table.name.lower():
                return cte
        inside.append(around)
    return None


def _header(path: Path, text: str) -> tuple[dict[str, tuple[int, str]], int]:
    """Header values with their lines, and the first line after the header."""
    header: dict[str, tuple[int, str]] = {}
    key, number = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("--"):
            break
        more, found = CONTINUATION.fullmatch(line), HEADER_LINE.fullmatch(line)
        if more and key:
            first, value = header[key]
            header[key] = (first, f"{value} {more['more'].rstrip()}")
        elif found and found["key"] in KEYS and found["key"] not in header:
            key = found["key"]
            header[key] = (number, found["value"].strip())
        else:
            raise ModelError.at(path, number, _bad_header_line(line, found, header))
    else:
        number += 1
    for name in REQUIRED:
        if not header.get(name, (0, ""))[1]:
            raise ModelError.at(
                path,
                header.get(name, (1, ""))[0],
                f"the header has no {name}; expected a line '-- {name}: …' at the top; add it",
            )
    return header, number


def _bad_header_line(line: str, found: re.Match[str] | None, header: Collection[str]) -> str:
    if found and found["key"] in header:
        return f"a second header line {found['key']!r}; expected one; join them"
    near = difflib.get_close_matches(found["key"], KEYS, n=1) if found else []
    hint = f"did you mean {near[0]!r}" if near else "leave an empty line before other comments"
    return f"header line {line!r}; expected '-- KEY: value' with KEY of {', '.join(KEYS)}; {hint}"


def _materialized(path: Path, header: Mapping[str, tuple[int, str]]) -> str:
    line, told = header.get("materialized", (1, "table"))
    if told not in MATERIALIZED:
        raise ModelError.at(
            path, line, f"materialized {told!r}; expected one of {', '.join(MATERIALIZED)}"
        )
    return told


def _grain(
    path: Path, header: tuple[int, str], columns: Collection[str], *, stars: bool
) -> tuple[str, ...]:
    line, text = header
    grain = tuple(name.strip() for name in text.split(","))
    for name in grain:
        if name not in columns and not stars:
            raise ModelError.at(
                path,
                line,
                f"grain column {name!r} is not in the output; expected some of "
                f"{_listed(name, columns)}; correct the header or select it",
            )
    return grain


def _lookback(
    path: Path, header: Mapping[str, tuple[int, str]], reads: Collection[str]
) -> dict[str, int]:
    """Days by table; a lookback without a table holds for every table that is read."""
    if "lookback" not in header:
        return {}
    line, text = header["lookback"]
    days: dict[str, int] = {}
    for part in text.split(","):
        found = LOOKBACK.fullmatch(part.strip())
        if not found:
            raise ModelError.at(
                path,
                line,
                f"lookback {part.strip()!r}; expected '90 days' or 'schema.table 90 days' with at "
                "least 1 day; correct it, or remove it",
            )
        if found["table"] and found["table"] not in reads:
            raise ModelError.at(
                path,
                line,
                f"a lookback for {found['table']}, which the model does not read; expected one "
                f"of {_listed(found['table'], reads)}; correct or remove it",
            )
        for table in [found["table"]] if found["table"] else sorted(reads):
            days[table] = int(found["days"])
    return days


def _unreadable(text: str) -> tuple[int, str]:
    """Line and message of text that has no tokens, such as an open string."""
    try:
        # Without '$' the tokenizer's own line numbers are right; see `line_at`.
        DUCKDB.tokenize(text.replace("$", ":"))
    except TokenError as error:
        reason = str(error.__cause__ or error)
        at = re.search(r" from (\d+):\d+", reason)
        line = int(at[1]) if at else line_at(text, len(text.rstrip()))
        return line, f"syntax error: {reason}; expected DuckDB SQL; close what is left open"
    return 1, "syntax error: unreadable text after '$'; expected DuckDB SQL; write $start or $end"


def _check_templating(source: _Source) -> None:
    strings = [token for token in source.tokens if source.raw(token)[0] == "'"]
    for found in TEMPLATING.finditer(source.text):
        if not any(token.start <= found.start() <= token.end for token in strings):
            raise source.error(
                found.start(),
                f"a template ({found[0]!r}); expected plain SQL; write the table's name, and "
                "$start and $end for the window",
            )


def _one_statement(source: _Source, body: str, first_line: int) -> _Source:
    """The source without a closing semicolon, which could not be wrapped in another statement."""
    ends = [place for place, token in enumerate(source.tokens) if source.raw(token) == ";"]
    if not ends:
        return source
    if ends[0] + 1 < len(source.tokens):
        raise source.error(
            source.tokens[ends[0] + 1].start,
            "a second statement after ';'; expected one select a file; remove it, or give it "
            "a file of its own",
        )
    keep = source.tokens[ends[0]].start - (first_line - 1)
    return _Source.of(source.path, body[:keep].rstrip(), first_line)


def _parameters(source: _Source) -> Iterator[tuple[str, int, int]]:
    """Bound parameters: name, first and last offset."""
    for token, after in zip_longest(source.tokens, source.tokens[1:]):
        if source.raw(token) == "$" and after is not None and after.start == token.end + 1:
            yield source.raw(after), token.start, after.end
        elif source.raw(token) in ("?", "$"):
            yield source.raw(token), token.start, token.end


def _bounds(source: _Source) -> bool:
    """Whether the model has a window: it binds both bounds, and nothing else."""
    used = {}
    for name, first, last in _parameters(source):
        if name not in BOUNDS:
            raise source.error(
                first,
                f"parameter {source.text[first : last + 1]!r}; expected only $start and $end; "
                "write the value into the SQL",
            )
        used[name] = first
    for name, other in (BOUNDS, BOUNDS[::-1]):
        if name in used and other not in used:
            raise source.error(
                used[name],
                f"${name} without ${other}; expected both bounds of the window [$start, $end), "
                f"or neither; add the condition on ${other}",
            )
    return bool(used)


def _parse(source: _Source) -> exp.Query:
    # A context as long as the file: `start_context` then ends where the error is.
    parser = DUCKDB.parser(error_message_context=len(source.text))
    try:
        statements = parser.parse(source.tokens, source.text)
    except ParseError as error:
        told = error.errors[0]
        raise source.error(
            len(str(told["start_context"] or "")),
            f"syntax error near {told['highlight']!r}: {told['description']}; expected DuckDB "
            "SQL; correct it (run it in a DuckDB shell for details)",
        ) from None
    tree = statements[0] if statements else None
    if not isinstance(tree, exp.Select | exp.SetOperation):
        kind = "nothing" if tree is None else f"{type(tree).__name__.upper()} statement"
        first = source.tokens[0].start if source.tokens else len(source.text)
        raise source.error(
            first, f"{kind}; expected one plain select (with or without CTEs); write a select"
        )
    for node in tree.find_all(exp.DDL, exp.DML, exp.Command, exp.Into):
        if not isinstance(node, exp.Query):
            raise source.error_at(
                node,
                f"{type(node).__name__.lower()} inside the select; expected a select that only "
                "reads; the platform writes the table",
            )
    return tree


def _columns(source: _Source, tree: exp.Query, *, stars: bool) -> tuple[str, ...]:
    """Output names in order; every branch of a union must name its columns. An ephemeral model
    is a CTE of others and may hold ``stars``, which are left out."""
    for branch in () if stars else branches(tree):
        for column in branch.selects:
            if column.is_star or isinstance(column, exp.Columns):
                raise source.error_at(
                    column,
                    "'*' in the final select; expected every column by name; write them out "
                    "('*' is fine in a CTE)",
                )
    columns: list[str] = []
    for column in tree.selects:
        if stars and column.is_star:
            continue
        if not isinstance(column, exp.Column | exp.Alias):
            raise source.error_at(
                column,
                f"output column {len(columns) + 1} ({column.sql('duckdb')}) has no name; "
                "expected 'expression as name'; name it",
            )
        if column.alias_or_name.lower() in columns:
            raise source.error_at(
                column,
                f"output column {column.alias_or_name!r} is there twice; expected each name "
                "once; rename or remove one",
            )
        columns.append(column.alias_or_name.lower())
    return tuple(columns)


def _reads(source: _Source, tree: exp.Query) -> dict[str, int]:
    """The tables that are read, each with the offset of its first mention."""
    reads: dict[str, int] = {}
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            raise source.error_at(
                table,
                f"table function {table.this.sql('duckdb')}; expected a table: models read no "
                "files and make no rows; bring the data in as a source or a table",
            )
        if table.catalog or (not table.db and cte_of(table) is None):
            raise source.error_at(
                table,
                f"table {table.sql('duckdb', comments=False)!r}; expected schema.table or the "
                "name of a CTE; qualify it with its schema",
            )
        if table.db:
            name = f"{table.db}.{table.name}".lower()
            reads[name] = min(table.this.meta["start"], reads.get(name, len(source.text)))
    return reads


def _version(source: _Source) -> str:
    """Tokens, not the tree: what the parser does not keep must change the version too."""
    words = []
    for token in source.tokens:
        raw = source.raw(token)
        exact = "'" in raw or '"' in raw or (len(raw) > 1 and "$" in raw)
        words.append(raw if exact else " ".join(raw.lower().split()))
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def _check_window(model: SqlModel, expected: bool | None) -> None:
    """A contract with a window wants both bounds, one without wants none (None: no contract)."""
    if expected is None or expected == model.windowed:
        return
    if expected:
        message = (
            f"{model.table} has a window column in its contract, but its SQL has no bounds; "
            "expected the window [$start, $end); add a condition on $start and $end"
        )
    else:
        message = (
            f"{model.table} uses $start and $end, but its contract has no window column; "
            "expected 'window: COLUMN' there; add it, or remove the bounds"
        )
    raise ModelError.at(model.path, model.first_line, message)


def _unknown_table(path: Path, line: int, table: str, tables: Collection[str]) -> ModelError:
    return ModelError.at(
        path,
        line,
        f"unknown table {table}; expected a model or a table made by Python; did you mean "
        f"{_listed(table, tables)}",
    )


def _upstream_first(models: Mapping[str, SqlModel]) -> list[str]:
    graph = {
        table: [name for name in model.depends_on if name in models and name != table]
        for table, model in models.items()
    }
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        # graphlib lists each table before the one that reads it.
        path = list(reversed(error.args[1]))
        raise ModelError.at(
            *models[path[0]].reads[path[1]],
            f"a cycle: {' reads '.join(path)}; expected tables that don't read what they make; "
            "take the shared part into a table of its own",
        ) from None


def _listed(name: str, choices: Collection[str]) -> str:
    """Near matches first, or everything when nothing is near."""
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    return " or ".join(near) if near else ", ".join(sorted(choices))
