"""A table's contract as a suite: the rules that a staged slice must meet. Pure text, no engine.

A rule is either a select of offending rows or a Great Expectations type with arguments. What
the contract says of its columns, grain and window becomes one select for each kind of rule, not
one expectation a column: not-null on 110 columns is one scan.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from promo_assets.contract.tables import ContractError, Expectation, Severity, TableContract

PLACEHOLDER = re.compile(r"\{([a-zA-Z_]+)\}")
COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")


@dataclass(frozen=True)
class Rule:
    """One rule of a suite.

    With ``query``: a select of the offending rows of ``{batch}`` over the days of ``{window}``;
    ``dated`` when it returns the column ``day`` of each. Else: the Great Expectations type
    ``type`` with ``arguments``.
    """

    title: str
    severity: Severity
    definition: str
    query: str = ""
    dated: bool = False
    type: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


def suite_of(contract: TableContract) -> tuple[Rule, ...]:
    """The rules of a table: those that its columns, grain and window imply, then its own.

    Raises `ContractError` on an unknown column or placeholder.
    """
    implied = (_columns(contract), _never_null(contract), _unique(contract), _inside(contract))
    own = (_own(contract, expectation) for expectation in contract.expectations)
    return (*(rule for rule in implied if rule is not None), *own)


def fault(contract: TableContract, title: str, problem: str) -> ContractError:
    """The error for an expectation that can't be built, naming its file."""
    file = f"expectations/{contract.schema_name}/{contract.table_name}.yaml"
    return ContractError(f"{file}: expectation {title!r}: {problem}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names that look most like ``name``, or else all of them."""
    names = sorted(known)
    return ", ".join(difflib.get_close_matches(name, names, n=3) or names)


def own_columns(arguments: Mapping[str, Any]) -> list[str]:
    """The columns that an expectation's arguments name."""
    values = (arguments[name] for name in COLUMN_ARGUMENTS if name in arguments)
    return [name for value in values for name in ((value,) if isinstance(value, str) else value)]


def quoted(name: str) -> str:
    """A (dotted) name as SQL identifiers."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def select_of_days(window: tuple[date, date] | None) -> str:
    """A select of the days of a window (the end is not in it), as column ``day``."""
    if window is None:
        return "select cast(null as date) as day where false"
    start, end = window
    return (
        "select cast(range as date) as day "
        f"from range(date '{start}', date '{end}', interval 1 day)"
    )


def _columns(contract: TableContract) -> Rule:
    # typeof(cast(null ...)) turns spellings such as TEXT into the name that describe reports.
    expected = ", ".join(
        f"('{name}', typeof(cast(null as {type_})))" for name, type_ in contract.types.items()
    )
    return Rule(
        "columns and types",
        "critical",
        f"The slice has the contract's {len(contract.columns)} columns, of its types, no others.",
        "with expected(column_name, column_type) as (values " + expected + "),\n"
        "found as (select column_name, column_type from (describe select * from {batch}))\n"
        "select coalesce(e.column_name, f.column_name) as column_name,\n"
        "  e.column_type as expected, f.column_type as found\n"
        "from expected as e full join found as f on e.column_name = f.column_name\n"
        "where e.column_type is distinct from f.column_type",
    )


def _never_null(contract: TableContract) -> Rule | None:
    names = [name for name, column in contract.columns.items() if not column.nullable]
    if not names:
        return None
    missing = ", ".join(f"case when \"{name}\" is null then '{name}' end" for name in names)
    anywhere = " or ".join(f'"{name}" is null' for name in names)
    return Rule(
        "no nulls",
        "critical",
        f"In one query, none of these columns is null: {', '.join(names)}.",
        f"select {_shown(contract)}concat_ws(', ', {missing}) as null_columns\n"
        f"from {{batch}} where {anywhere}",
        dated=contract.window is not None,
    )


def _unique(contract: TableContract) -> Rule | None:
    if not contract.grain:
        return None
    keys = ", ".join(f'"{name}"' for name in contract.grain)
    same = " and ".join(f'b."{name}" is not distinct from d."{name}"' for name in contract.grain)
    return Rule(
        f"unique ({', '.join(contract.grain)})",
        "critical",
        "The grain: no two rows of the slice share these columns. All rows that do are counted.",
        f"select {_shown(contract).removesuffix(', ')} from {{batch}} as b\n"
        f"semi join (select {keys} from {{batch}} group by {keys} having count(*) > 1) as d\n"
        f"on {same}",
        dated=contract.window is not None,
    )


def _inside(contract: TableContract) -> Rule | None:
    if contract.window is None:
        return None
    return Rule(
        f"{contract.window} lies in the slice",
        "critical",
        "A row belongs to a day that is being written; a row of another day fails all of them.",
        f"select {_shown(contract).removesuffix(', ')} from {{batch}}\n"
        f'where "{contract.window}" is null\n'
        f'  or "{contract.window}" < (select min(day) from {{window}})\n'
        f'  or "{contract.window}" > (select max(day) from {{window}})',
        dated=True,
    )


def _shown(contract: TableContract) -> str:
    """The select list that names a row: its day, then its key, with a comma at the end."""
    day = f'"{contract.window}" as day, ' if contract.window else ""
    return day + "".join(f'"{name}", ' for name in contract.grain if name != contract.window)


def _own(contract: TableContract, expectation: Expectation) -> Rule:
    if expectation.type == "rows":
        _known_placeholders(contract, expectation)
        return Rule(
            expectation.name,
            expectation.severity,
            " ".join(expectation.description.split()),
            expectation.query.strip().rstrip(";"),
            dated=contract.window is not None,
        )
    title = expectation.name or _in_words(expectation)
    _known_columns(contract, expectation, title)
    return Rule(
        title,
        expectation.severity,
        " ".join(expectation.description.split()) or _in_words(expectation),
        type=expectation.type,
        arguments=expectation.arguments,
    )


def _known_placeholders(contract: TableContract, expectation: Expectation) -> None:
    known = {"batch", "window"} if contract.window else {"batch"}
    for name in PLACEHOLDER.findall(expectation.query):
        if name not in known:
            raise fault(
                contract,
                expectation.name,
                f"unknown placeholder {{{name}}}; expected {{batch}}, and {{window}} where the "
                "table has a window",
            )


def _known_columns(contract: TableContract, expectation: Expectation, title: str) -> None:
    for name in own_columns(expectation.arguments):
        if name not in contract.columns:
            raise fault(
                contract,
                title,
                f"{name!r} is not a column of {contract.table}; "
                f"did you mean: {nearest(name, contract.columns)}?",
            )


def _in_words(expectation: Expectation) -> str:
    """A readable name, such as ``spend between 0 and …``."""
    arguments = expectation.arguments
    subject = ", ".join(own_columns(arguments))
    arguments = {name: value for name, value in arguments.items() if name not in COLUMN_ARGUMENTS}
    phrase = expectation.type
    for filler in ("expect_", "column_", "values_", "to_", "be_"):
        phrase = phrase.removeprefix(filler)
    if {"min_value", "max_value"} & arguments.keys():
        low, high = arguments.pop("min_value", "…"), arguments.pop("max_value", "…")
        phrase += f" {low} and {high}"
    rest = ", ".join(str(value) for value in arguments.values())
    return " ".join(filter(None, (subject, phrase.replace("_", " "), rest)))
