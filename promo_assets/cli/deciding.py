"""Commands of those who take decisions further: why somebody got what, exports, pseudonyms."""

from __future__ import annotations

import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from promo_assets.cli.arguments import MERCHANDISERS, On, UsageError, made, settings


def add_to(app: App) -> None:
    """Make the commands known."""
    for command in (explain, plan, export, power, pseudonym):
        app.command(command, group=MERCHANDISERS)


def explain(
    user: Annotated[str, Parameter(help="As the source delivers it, or as an export shows it.")],
    /,
    *,
    day: On,
) -> int:
    """Tell why a user got which offer: segment, propensity, offers, arm."""
    from promo_assets import installation
    from promo_assets.cli.explanation import explain as told

    installed = made()
    with installation.reading(installed) as read:
        print(told(user, day, read, installed))
    return 0


def plan(
    *,
    day: On,
    budget: Annotated[
        Decimal | None, Parameter(help="Of the day; PROMO_BUDGET if not told.")
    ] = None,
    offers: Annotated[
        Path | None, Parameter(help="Another catalogue; PROMO_OFFERS if not told.")
    ] = None,
    user: Annotated[str | None, Parameter(help="Only what this user would get.")] = None,
) -> int:
    """Tell what another budget or catalogue would change; nothing is published."""
    from promo_assets import installation
    from promo_assets.cli.explanation import known_as
    from promo_assets.cli.planning import plan as told
    from promo_assets.tables.table import ProductionError

    if budget is not None and (not budget.is_finite() or budget < 0):
        raise UsageError(f"--budget {budget}: expected an amount of 0 or more")
    installed = made()
    was = installation.deciding(installed)
    given = replace(was, budget=was.budget if budget is None else budget)
    if offers is not None:
        given = replace(given, catalogue=offers.resolve())
    try:
        with installation.reading(installed) as read:
            key = None if user is None else known_as(user, read, installed)
            for line in told(read, day, given, was, key):
                print(line)
    except ProductionError as error:
        raise UsageError(str(error)) from error
    return 0


def export(*, day: On) -> int:
    """Write a day's assignments and strategies as Parquet and CSV, the first time with a record."""
    from promo_assets import installation
    from promo_assets.report.export import changed, export_day

    installed = made()
    with installation.reading(installed) as read:
        consent, folder = installation.consent(installed), installed.places.exports
        written = export_day(read, day, consent, folder)
    if not written:
        raise UsageError(
            f"no assignments for {day}; materialise them first with "
            f"`promo run --from {day} --to {day}`"
        )
    print("\n".join(str(path) for path in written))
    if differs := changed(folder, day):
        print(
            f"{differs:,} users would be decided otherwise now than in the day's first export; "
            f"what was sent stands in {written[-1].name}",
            file=sys.stderr,
        )
    return 0


def power(
    *,
    day: On,
    users: Annotated[
        int | None, Parameter(help="An arm; those whom the exploration draws if not told.")
    ] = None,
) -> int:
    """Tell how small an effect the exploration can see, and when it will be known."""
    from promo_assets import installation
    from promo_assets.cli.power import power as told

    with installation.reading(made()) as read:
        print("\n".join(told(read, day, users)))
    return 0


def pseudonym(
    *users: Annotated[str, Parameter(help="Account ids; none: one a line on standard input.")],
) -> int:
    """Print the pseudonyms of account ids, to match an export with your users."""
    from promo_assets import installation
    from promo_assets.people.pseudonyms import pseudonym as of

    key = installation.pseudonym_keys(settings())[0]
    for user in users or (line.rstrip("\n") for line in sys.stdin):
        print(user, of(user, "account", key), sep="\t")
    return 0
