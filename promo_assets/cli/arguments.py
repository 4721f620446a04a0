"""What commands take: days, windows, groups, counts and ports, and what every command needs first.

Here: text into values, with an error that says what was expected. Not here: what commands do.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter, Token

if TYPE_CHECKING:
    from promo_assets.contract.days import Window
    from promo_assets.settings import Settings
    from promo_assets.tables.table import Table

GROUPS = (
    "events",
    "features",
    "profiles",
    "propensity",
    "segments",
    "strategy",
    "recommendations",
    "report",
)

ENGINEERS = Group("Run and repair", sort_key=1)
MERCHANDISERS = Group("Decide and export", sort_key=2)
PRIVACY = Group("Privacy", sort_key=3)
DATA = Group("Bring or make data", sort_key=4)
SHELL = Group("Shell", sort_key=5)


class UsageError(Exception):
    """A wrong argument; exits 2 with one line."""


def _of_text(convert: Callable[[str], Any]) -> Callable[[Any, Sequence[Token]], Any]:
    def converter(type_: Any, tokens: Sequence[Token]) -> Any:
        return convert(tokens[0].value)

    return converter


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.max
    if day == date.max:  # It has no day after it, at which a window could end.
        raise ValueError(f"{text!r} is not a date; expected YYYY-MM-DD such as 2017-03-01")
    return day


def _count(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text) < 10**9:
        return int(text)
    raise ValueError(f"{text!r} is not a number of 1 or more")


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise ValueError(f"{text!r} is not a port; expected a number from 1 to 65535")


def _groups(type_: Any, tokens: Sequence[Token]) -> list[str]:
    for token in tokens:
        if token.value not in GROUPS:
            near = difflib.get_close_matches(token.value, GROUPS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"{token.value!r} is not a group; expected one of {', '.join(GROUPS)}{hint}"
            )
    return [token.value for token in tokens]


_DAY = Parameter(converter=_of_text(_day), n_tokens=1)
_COUNT = Parameter(converter=_of_text(_count), n_tokens=1)
_PORT = Parameter(converter=_of_text(_port), n_tokens=1)

Day = Annotated[date, _DAY]
From = Annotated[date, _DAY, Parameter(name="--from", help="The first day, YYYY-MM-DD.")]
To = Annotated[date, _DAY, Parameter(name="--to", help="The last day, YYYY-MM-DD.")]
On = Annotated[date, _DAY, Parameter(name="--date", help="The day, YYYY-MM-DD.")]
Count = Annotated[int, _COUNT]
Port = Annotated[int, _PORT]
Select = Annotated[
    Sequence[str],
    Parameter(
        name="--select",
        converter=_groups,
        n_tokens=1,
        negative=(),
        show_default=False,
        help=f"Only this group of tables; may be repeated. One of {', '.join(GROUPS)}.",
    ),
]


def settings() -> Settings:
    """The installation's settings; names that are none are told on stderr."""
    from promo_assets.settings import load_settings, unknown_names

    told = load_settings()
    for line in unknown_names():
        print(f"promo: {line}", file=sys.stderr)
    return told


def made() -> Settings:
    """The settings, if their warehouse was ever written."""
    told = settings()
    if not told.places.warehouse.exists():
        raise UsageError(
            f"{told.places.warehouse}: there is no warehouse; run `promo demo` or `promo run` "
            "first, or set PROMO_HOME to where it is"
        )
    return told


def window(first: date, last: date) -> Window:
    """The days from the first to the last."""
    from promo_assets.contract.days import Window

    if first > last:
        raise UsageError(f"--from {first} is after --to {last}")
    return Window(first, last + timedelta(days=1))


def known(name: str, tables: Mapping[str, Table]) -> Table:
    """The table of that name."""
    if name in tables:
        return tables[name]
    near = difflib.get_close_matches(name, tables, n=1, cutoff=0.4)
    raise UsageError(
        f"{name!r} is not a table{f'; did you mean {near[0]}?' if near else ''} "
        f"(tables: {', '.join(sorted(tables))})"
    )


def tables(told: Settings) -> dict[str, Table]:
    """Every table of the platform by its name."""
    from promo_assets.definitions import build_tables

    return {table.contract.table: table for table in build_tables(told)}
