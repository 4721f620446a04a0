"""Commands that delete for people's sake."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from cyclopts import App, Parameter

from promo_assets.cli.arguments import PRIVACY, Day, UsageError, made


def add_to(app: App) -> None:
    """Make the commands known."""
    for command in (erase, retain):
        app.command(command, group=PRIVACY)


def erase(user: Annotated[str, Parameter(help="As the source delivers the id.")], /) -> int:
    """Delete a person from everything under PROMO_HOME, for good."""
    from promo_assets import installation
    from promo_assets.privacy.erasure import erase as forget

    told = made()
    keys = installation.pseudonym_keys(told)
    done = forget(user, installation.erasure(told), keys, installation.contracts())
    print("\n".join(done.lines()))
    return 1 if done.left else 0


def retain(
    *,
    dry_run: Annotated[bool, Parameter(negative=(), help="Only tell what would go.")] = False,
    as_of: Annotated[
        Day | None, Parameter(help="The day that ages count from; today if it is not told.")
    ] = None,
) -> int:
    """Remove what is older than it may be kept."""
    from promo_assets import installation
    from promo_assets.orchestration.run_history import DagsterRuns
    from promo_assets.orchestration.runs import open_instance
    from promo_assets.people.pseudonyms import PUBLIC_SOURCES
    from promo_assets.privacy.retention import retain as remove

    if as_of and as_of > datetime.now(UTC).date():
        raise UsageError(f"--as-of {as_of} lies in the future: nothing is so old yet")
    told = made()
    with open_instance(told.places) as instance:
        removals = remove(
            told.places,
            installation.warehouse(told),
            installation.contracts(),
            DagsterRuns(instance),
            as_of,
            public=told.source in PUBLIC_SOURCES,
            dry_run=dry_run,
        )
        for line in removals:
            print(line)
    return 0
