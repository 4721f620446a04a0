"""From a contract to the checks of its gate.

What the columns and the grain demand is written as a few audits of whole rows: one scan for all
columns that must not be null, where Great Expectations' own expectations take one query a column.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

from promo_assets.contract.tables import TableContract


@dataclass(frozen=True)
class Check:
    """One expectation to run: a Great Expectations type with arguments, or with ``query`` an
    audit whose select returns the offending rows."""

    name: str
    severity: str
    definition: str
    type: str = "rows"
    query: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


def checks_of(contract: TableContract) -> list[Check]:
    """The contract's own demands, then its expectations. ``{batch}`` and ``{window}`` are still
    placeholders; ``{start}`` and ``{end}`` too, in the demand that rows lie in the window."""
    return [
        Check(
            "columns are those of the contract",
            "critical",
            "Exactly the contract's columns, in its order.",
            "expect_table_columns_to_match_ordered_list",
            arguments={"column_list": list(contract.columns)},
        ),
        *_not_null(contract),
        *_unique(contract),
        *_in_window(contract),
        *(
            Check(
                item.name or _described(item.type, item.arguments),
                item.severity,
                item.description or _described(item.type, item.arguments),
                item.type,
                item.query,
                item.arguments,
            )
            for item in contract.expectations
        ),
    ]


def window_sql(window: tuple[date, date]) -> str:
    """One row a day of ``[start, end)``, column ``day``."""
    start, end = window
    return (
        f"(select cast(unnest(generate_series(date '{start}', date '{end}' - interval 1 day, "
        "interval 1 day)) as date) as day)"
    )


def _day(contract: TableContract) -> str:
    return f'"{contract.window}" as day, ' if contract.window else ""


def _not_null(contract: TableContract) -> list[Check]:
    names = [name for name, column in contract.columns.items() if not column.nullable]
    if not names:
        return []
    missing = ", ".join(f"case when \"{name}\" is null then '{name}' end" for name in names)
    shown = ", ".join(f'"{name}"' for name in contract.grain)
    condition = " or ".join(f'"{name}" is null' for name in names)
    return [
        Check(
            "required columns are not null",
            "critical",
            f"No null in the {len(names)} columns whose strategy for missing values is not keep.",
            query=f"select {_day(contract)}concat_ws(', ', {missing}) as null_columns"
            f"{', ' if shown else ''}{shown} from {{batch}} where {condition}",
        )
    ]


def _unique(contract: TableContract) -> list[Check]:
    if not contract.grain:
        return []
    keys = list(dict.fromkeys([*([contract.window] if contract.window else []), *contract.grain]))
    columns = ", ".join(f'"{name}"' for name in keys)
    return [
        Check(
            f"unique ({', '.join(contract.grain)})",
            "critical",
            "One row for each value of the grain.",
            query=f"select {_day(contract)}{columns}, count(*) as copies from {{batch}} "
            f"group by {columns} having count(*) > 1",
        )
    ]


def _in_window(contract: TableContract) -> list[Check]:
    if not contract.window:
        return []
    return [
        Check(
            f"{contract.window} lies in the slice",
            "critical",
            "Every row belongs to a day of the slice that is written.",
            query=f'select {_day(contract)}count(*) as outside from {{batch}} where "'
            f'{contract.window}" not in (select day from {{window}}) group by "{contract.window}"',
        )
    ]


def _described(type_: str, arguments: dict[str, Any]) -> str:
    words = type_.removeprefix("expect_").replace("_", " ")
    told = ", ".join(f"{name} {value}" for name, value in arguments.items())
    return f"{words} ({told})" if told else words
