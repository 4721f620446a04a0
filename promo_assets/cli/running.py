"""Commands of those who run the platform: days, tables, servers."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal

from cyclopts import App, Parameter

from promo_assets.cli.arguments import (
    ENGINEERS,
    Count,
    Day,
    From,
    On,
    Port,
    Select,
    To,
    UsageError,
    known,
    made,
    settings,
    tables,
    window,
)

DEMO = (date(2017, 1, 1), date(2017, 12, 31))
SHOP_PEOPLE, SHOP_START, SHOP_DAYS = 20_000, date(2024, 1, 1), 60
"""The simulated shop of the demo: long enough for trials to close and offers to earn."""
DECIDED = 28
"""The last days of the demo are decided: who gets which products and offers."""


def add_to(app: App) -> None:
    """Make the commands known."""
    for command in (run, demo, late, accept, stale, rollback, summary, sql, drop, dev):
        app.command(command, group=ENGINEERS)


def run(
    *,
    first: From | None = None,
    last: To | None = None,
    select: Select = (),
    decide: Annotated[
        Count | None,
        Parameter(
            help="Of a history: how many of its last days get products, strategies, exports and "
            "reports; all, if not told."
        ),
    ] = None,
    stale: Annotated[
        bool, Parameter(negative=(), help="The stale days and what follows, instead of a range.")
    ] = False,
) -> int:
    """Materialise a range of days through Dagster, in one go, and tell how it goes."""
    from promo_assets.cli.progress import run_with_progress

    if stale:
        if first or last or select or decide:
            raise UsageError("run takes --from and --to, or --stale; see `promo run --help`")
        return _stale(rebuild=True)
    if first is None or last is None:
        missing = "--from" if first is None else "--to"
        raise UsageError(f"run needs {missing} (or --stale); see `promo run --help`")
    return run_with_progress(window(first, last), settings(), select, decide)


def stale() -> int:
    """List published days that are older than their inputs, their code or the settings."""
    return _stale(rebuild=False)


def _stale(*, rebuild: bool) -> int:
    from promo_assets import installation
    from promo_assets.cli.progress import run_with_progress
    from promo_assets.tables.stale import look

    told = made()
    found = look(installation.warehouse(told), tables(told), told.start)
    if found is None:
        print("every published day is as new as what it was made of")
        return 0
    for line in found.lines():
        print(line)
    print(found.told)
    if rebuild:
        return run_with_progress(found.window, told)
    print("rebuild them with `promo run --stale`, or turn on the sensor rebuild_stale_days")
    return 0


def demo(
    *,
    first: From = DEMO[0],
    last: To = DEMO[1],
    train_every: Annotated[
        int | None, Parameter(help="Weeks between trainings; 12, of the simulated shop 4.")
    ] = None,
    source: Annotated[
        Literal["complete_journey", "simulated"],
        Parameter(help="Of the days; simulated: a shop of its own, with its own days."),
    ] = "complete_journey",
) -> int:
    """A source end to end, then a summary: a real year, or a simulated shop whose truth is known.

    The last four weeks are decided, as nothing can be sent on the days before. Elsewhere
    PROMO_TRAIN_EVERY_WEEKS says how often a model is trained.
    """
    from promo_assets.cli.progress import run_demo

    told = settings()
    weeks = train_every or (12 if source == "complete_journey" else 4)
    update: dict[str, object] = {"train_every_weeks": max(weeks, 1)}
    if source == "complete_journey":
        return run_demo(window(first, last), told.model_copy(update=update), DECIDED)
    from promo_assets.cli.simulation import run_simulation
    from promo_assets.contract.days import Window
    from promo_assets.simulation.folder import Options, SimulationError

    end = SHOP_START + timedelta(days=SHOP_DAYS)
    update |= {"source": source, "start": SHOP_START, "end": end - timedelta(days=1)}
    shop = told.model_copy(update=update)
    try:
        options = Options(users=SHOP_PEOPLE, start=SHOP_START)
        run_simulation(options, SHOP_DAYS, shop.places.simulated, named=True)
    except SimulationError as error:
        raise UsageError(str(error)) from error
    return run_demo(Window(SHOP_START, end), shop, DECIDED)


def late(
    *, run: Annotated[bool, Parameter(negative=(), help="Rebuild them and what follows.")] = False
) -> int:
    """List the days whose delivery changed after they were taken in."""
    from promo_assets import installation
    from promo_assets.cli.progress import run_with_progress
    from promo_assets.sources.deliveries import look

    told = made()
    found = look(installation.warehouse(told), installation.delivery(told), told.late_days)
    if found is None:
        print("every published day is as it is delivered")
        return 0
    print(found.told)
    if found.window is None:
        return 1
    if run:
        return run_with_progress(found.window, told)
    print("rebuild them with `promo late --run`, or turn on the sensor rebuild_late_days")
    return 1 if found.lost else 0


def accept(*days: Annotated[Day, Parameter(help="Days, such as 2024-01-31.")]) -> int:
    """Let published rows of days go that are delivered no longer."""
    from promo_assets import installation
    from promo_assets.sources import open_source
    from promo_assets.sources.deliveries import accept as note

    if not days:
        raise UsageError("accept takes the days whose rows may go; see `promo accept --help`")
    told = made()
    with installation.warehouse(told).get_connection() as connection:
        accepted = note(connection, open_source(installation.delivery(told)), days)
    for one in accepted:
        files = f" ({one.files})" if one.files else ""
        print(f"{one.day}: {one.before:,} rows are published, {one.now:,} delivered{files}")
    print("accepted as delivered now; take it in with `promo late --run`")
    return 0


def rollback(
    *,
    day: On,
    to: Annotated[
        int | None, Parameter(help="The model's version; the one before, if not told.")
    ] = None,
    why: Annotated[str, Parameter(help="Kept in propensity.champions.")],
    run: Annotated[bool, Parameter(negative=(), help="Rebuild what was scored since.")] = False,
) -> int:
    """Let an earlier model score again, from the week of a day on."""
    from promo_assets import installation
    from promo_assets.tables.rollback import roll_back

    contracts = installation.contracts()
    with installation.warehouse(made()).get_connection() as connection:
        done = roll_back(connection, contracts, day, to, why)
    print(
        f"version {done.version} scores the days after the week of {done.week}, in place of "
        f"version {done.instead_of}, until a newer one clearly beats it"
    )
    return _stale(rebuild=run)


def summary(*, first: From, last: To) -> int:
    """Tell what a range of days holds: rows, gates, model, strategies."""
    days = window(first, last)
    from promo_assets.cli.progress import print_summary

    print_summary(days, made(), ())
    return 0


def sql(table: Annotated[str, Parameter(help="Its name, schema.table.")], /, *, day: On) -> int:
    """Print the SQL that a day of a table runs."""
    from promo_assets.contract.project import MODELS
    from promo_assets.warehouse.models.parsing import load_model, render

    name = known(table, tables(settings())).contract.table
    path = MODELS / f"{name.replace('.', '/')}.sql"
    if not path.exists():
        raise UsageError(
            f"{name} is made by Python, not by SQL; see promo_assets/tables for what makes it"
        )
    print(render(load_model(path, MODELS), day, day + timedelta(days=1)))
    return 0


def drop(
    table: Annotated[str | None, Parameter(help="Its name, schema.table.")] = None,
    /,
    *,
    all: Annotated[
        bool, Parameter(negative=(), help="Every table; who was erased stays erased.")
    ] = False,
) -> int:
    """Drop a table, to be backfilled after its contract changed."""
    from promo_assets import installation
    from promo_assets.warehouse.publish import drop as forget
    from promo_assets.warehouse.publish import drop_all
    from promo_assets.warehouse.rewrite import announce, rewrite

    if (table is None) != all:
        raise UsageError("drop takes a TABLE or --all, one of them; see `promo drop --help`")
    if table is None:
        warehouse = installation.warehouse(made())
        announce(warehouse)
        with warehouse.get_connection() as connection:
            drop_all(connection)
        rewrite(warehouse)
        print("every table is dropped; build the history again with `promo run --from D --to D`")
        return 0
    name = known(table, tables(settings())).contract.table
    with installation.warehouse(made()).get_connection() as connection:
        forget(connection, name)
    print(f"{name} is dropped; backfill it from the Dagster UI or with `promo run`")
    return 0


def dev(
    *,
    port: Annotated[Port, Parameter(help="Of Dagster.")] = 3000,
    mlflow_port: Annotated[Port, Parameter(help="Of MLflow.")] = 5000,
) -> int:
    """Serve the Dagster UI and the MLflow UI on 127.0.0.1."""
    from promo_assets.cli.servers import serve

    return serve(settings(), port, mlflow_port)
