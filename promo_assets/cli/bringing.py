"""Commands about data that comes in: the check of a folder, and the simulated shop."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from promo_assets.cli.arguments import DATA, Count, Day, UsageError, settings
from promo_assets.contract.days import Window

if TYPE_CHECKING:
    import polars as pl

    from promo_assets.settings import Settings


def add_to(app: App) -> None:
    """Make the commands known."""
    for command in (check, simulate):
        app.command(command, group=DATA)


def check(
    source: Annotated[
        str, Parameter(help="A folder of event files, or a database's URL; as PROMO_SOURCE, too.")
    ],
    /,
) -> int:
    """Tell what a folder or a database of events holds, and what the gates would hold back."""
    from promo_assets.settings import Settings
    from promo_assets.sources import DATABASES

    scheme = source.partition(":")[0]
    if "://" in source or scheme in DATABASES:
        if scheme not in DATABASES:  # What follows may be a password: it isn't repeated.
            raise UsageError(f"expected a folder, or a URL of {', '.join(DATABASES)}")
        settings()  # Wrong settings are told as always.
        return _check_database(Settings(source=source))
    return _check_folder(Path(source.removeprefix("files:")).expanduser().resolve())


def _check_folder(folder: Path) -> int:
    from promo_assets import installation
    from promo_assets.cli.check_report import add_offers, report
    from promo_assets.cli.rehearsal import Rehearsal, rehearse
    from promo_assets.settings import Settings
    from promo_assets.sources.check import look
    from promo_assets.sources.files import Files

    told = settings()
    source = Files.at(folder, installation.delivery(told))
    first = told.start if "start" in told.model_fields_set else None
    facts = look(source, threads=told.threads, first=first)
    add_offers(facts, told.offers or source.folder / "offers.yaml")
    rehearsed = Rehearsal()
    if facts.days:
        tried = Settings(source=f"files:{folder}")
        rehearsed = rehearse(tried, facts.first, Window.of(facts.days))
    start = _start(told, facts.first)
    print(report(facts, source, installation.consent(told), rehearsed, start))
    return 0 if facts.accepted and rehearsed.passed else 1


def _check_database(told: Settings) -> int:
    from promo_assets import installation
    from promo_assets.cli.check_report import report_database
    from promo_assets.cli.rehearsal import rehearse
    from promo_assets.sources import SourceError
    from promo_assets.sources.check import span_of

    try:
        days = span_of(installation.delivery(told))
    except SourceError as error:
        raise UsageError(str(error)) from error
    days = days or Window.of([told.start, told.last_day or date.today() - timedelta(days=1)])
    rehearsed = rehearse(told, max(told.start, days.start), days)
    print(report_database(told.source, days, rehearsed, _start(told, days.start)))
    return 0 if rehearsed.passed else 1


def _start(told: Settings, first: date) -> date:
    """The ``PROMO_START`` to run with: the first day that is delivered, unless the installation
    exists and began with another."""
    return told.start if told.places.warehouse.exists() else first


def simulate(
    *,
    users: Annotated[Count | None, Parameter(help="At the start; 10000 if not told.")] = None,
    days: Annotated[Count | None, Parameter(help="To play; 30 if not told.")] = None,
    start: Annotated[Day | None, Parameter(help="The first day; PROMO_START if not told.")] = None,
    seed: Annotated[int | None, Parameter(help="Equal seeds, equal files; 1 if not told.")] = None,
    format: Annotated[
        Literal["parquet", "csv", "jsonl"] | None, Parameter(help="Of the files.")
    ] = None,
    assignment: Annotated[
        Literal["random", "biased", "none"] | None, Parameter(help="Who gets offers.")
    ] = None,
    warm_up: Annotated[
        int | None, Parameter(help="Days without campaigns at the start; 0 if not told.")
    ] = None,
    mess: Annotated[
        Literal["none", "some", "wild"] | None, Parameter(help="What is wrong with the data.")
    ] = None,
    out: Annotated[
        Path | None, Parameter(help="The folder; PROMO_HOME/simulated if not told.")
    ] = None,
    step: Annotated[
        bool,
        Parameter(negative=(), help="One more day of the folder, under yesterday's assignments."),
    ] = False,
) -> int:
    """Write a shop with known truth as event files."""
    from promo_assets.cli.simulation import run_simulation
    from promo_assets.simulation.folder import Options, SimulationError

    installed = settings()
    default = installed.places.simulated
    folder = (out or default).expanduser().resolve()
    given: dict[str, Any] = {"users": users, "start": start, "seed": seed, "format": format}
    given |= {"assignment": assignment, "warm_up": warm_up, "mess": mess}
    told = {name: value for name, value in given.items() if value is not None}
    try:
        if step:
            if days or told:
                name = "days" if days else min(told).replace("_", "-")
                raise UsageError(
                    f"--step plays one day of {folder} as it was begun; it takes no --{name}"
                )
            _step(folder, installed, named=folder != default)
        else:
            wanted = Options(**{"start": installed.start} | told)
            run_simulation(wanted, days or 30, folder, named=folder != default)
    except SimulationError as error:
        raise UsageError(str(error)) from error
    return 0


def _step(folder: Path, told: Settings, *, named: bool) -> None:
    from promo_assets import installation
    from promo_assets.cli.simulation import run_step
    from promo_assets.simulation.simulate import Simulation

    simulation = Simulation.open(folder)
    day = simulation.next_date
    assignments = _assignments(day - timedelta(days=1), told)
    key = installation.pseudonym_keys(told)[0] if assignments is not None else ""
    run_step(simulation, assignments, key, f"{told.experiment}/{day}", named=named)


def _assignments(day: date, told: Settings) -> pl.DataFrame | None:
    """What the platform decided on ``day`` for the day after; None = it decided nothing."""
    from promo_assets import installation

    if not told.places.warehouse.exists():
        return None
    with installation.reading(told) as read:
        found = read(
            "select user_id, offer_id, arm, assignment_probability from strategy.assignments"
            " where as_of_date = $day",
            {"day": day},
        )
    return found if found.height else None
