"""The command ``promo``: arguments in, messages and exit codes out.

Exit codes: 0 done; 1 a gate or a run failed; 2 wrong usage or wrong settings. A user's mistake
gives one line, never a traceback. Heavy imports happen inside the commands.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from promo_assets.contract.tables import ContractError
from promo_assets.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    import polars as pl

    from promo_assets.contract.days import Window
    from promo_assets.tables.table import Table

GROUPS = ("events", "features", "profiles", "propensity", "segments", "strategy", "report")
DEMO = (date(2017, 1, 1), date(2017, 12, 31))


class UsageError(Exception):
    """A wrong argument; exits 2 with one line."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    try:
        settings = load_settings()
        return int(options.command(options, settings))
    except (UsageError, SettingsError, ContractError) as error:
        return _complain(error, 2)
    except KeyboardInterrupt:
        print("promo: stopped; what was published before stays published", file=sys.stderr)
        return 130
    except Exception as error:
        if known := _expected(error):
            return _complain(error, known)
        raise


def _expected(error: Exception) -> int | None:
    """The exit code of an error whose message is meant for users; None for a defect."""
    from promo_assets.cli.explanation import UnknownUserError
    from promo_assets.orchestration.runs import RunError
    from promo_assets.people.pseudonyms import PseudonymKeyError
    from promo_assets.privacy.erasure import UnknownPersonError
    from promo_assets.privacy.mentions import BusyFileError
    from promo_assets.sources import SourceError
    from promo_assets.strategy.offers.catalogue import CatalogueError
    from promo_assets.warehouse.connection import WarehouseError
    from promo_assets.warehouse.models.model import ModelError

    usage = (RunError, PseudonymKeyError, SourceError, CatalogueError, ModelError, UnknownUserError)
    if isinstance(error, (*usage, UnknownPersonError)):
        return 2
    return 1 if isinstance(error, (WarehouseError, BusyFileError)) else None


def _complain(error: Exception, code: int) -> int:
    print(f"promo: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="promo", description="Personalised promotions, decided and measured daily."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def command(
        name: str, run: Callable[[argparse.Namespace, Settings], int], about: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(command=run)
        return added

    run = command("run", _run, "materialise a range of days through Dagster")
    run.add_argument("--from", dest="first", type=_day, required=True, metavar="D")
    run.add_argument("--to", dest="last", type=_day, required=True, metavar="D")
    run.add_argument("--select", action="append", type=_group, default=[], metavar="GROUP")
    demo = command("demo", _demo, "the default source end to end, then a summary")
    demo.add_argument("--from", dest="first", type=_day, default=DEMO[0], metavar="D")
    demo.add_argument("--to", dest="last", type=_day, default=DEMO[1], metavar="D")
    demo.add_argument(
        "--train-every",
        type=int,
        default=8,
        metavar="WEEKS",
        help="weeks between trainings (default 8; PROMO_TRAIN_EVERY_WEEKS elsewhere)",
    )
    late = command("late", _late, "days whose delivery changed after they were taken in")
    late.add_argument("--run", action="store_true", help="rebuild them and what follows")
    summary = command("summary", _summary, "what a range of days holds: rows, gates, strategies")
    summary.add_argument("--from", dest="first", type=_day, required=True, metavar="D")
    summary.add_argument("--to", dest="last", type=_day, required=True, metavar="D")
    check = command("check", _check, "what a folder of events holds and would be rejected of it")
    check.add_argument("folder", type=Path, metavar="DIR")
    dev = command("dev", _dev, "the Dagster UI and the MLflow UI on 127.0.0.1")
    dev.add_argument("--port", type=_port, default=3000, help="of Dagster (default 3000)")
    dev.add_argument("--mlflow-port", type=_port, default=5000, help="of MLflow (default 5000)")
    simulate = command("simulate", _simulate, "a shop with known truth, written as event files")
    simulate.add_argument("--users", type=_count, metavar="N", help="at the start (default 10000)")
    simulate.add_argument("--days", type=_count, metavar="D", help="days to play (default 30)")
    simulate.add_argument("--start", type=_day, metavar="D", help="first day (PROMO_START)")
    simulate.add_argument("--seed", type=int, metavar="S", help="equal seeds, equal files (1)")
    simulate.add_argument("--format", choices=("parquet", "csv", "jsonl"))
    simulate.add_argument(
        "--assignment", choices=("random", "biased", "none"), help="who gets offers (random)"
    )
    simulate.add_argument(
        "--mess", choices=("none", "some", "wild"), help="what is wrong with the data (none)"
    )
    simulate.add_argument("--out", type=Path, metavar="DIR", help="(PROMO_HOME/simulated)")
    simulate.add_argument(
        "--step", action="store_true", help="one more day of DIR, under yesterday's assignments"
    )
    sql = command("sql", _sql, "print the SQL that a day of a table runs")
    sql.add_argument("table", metavar="TABLE")
    sql.add_argument("--date", dest="day", type=_day, required=True, metavar="D")
    explain = command("explain", _explain, "why a user got which offer")
    explain.add_argument("user", metavar="USER")
    explain.add_argument("--date", dest="day", type=_day, required=True, metavar="D")
    names = command(
        "pseudonym", _pseudonym, "the pseudonyms of account ids, to match an export with your users"
    )
    names.add_argument(
        "users", nargs="*", metavar="USER", help="none: one a line, on standard input"
    )
    erase = command("erase", _erase, "delete a person from everything under PROMO_HOME, for good")
    erase.add_argument("user", metavar="USER")
    retain = command("retain", _retain, "remove what is older than it may be kept")
    retain.add_argument("--dry-run", action="store_true", help="only tell what would go")
    retain.add_argument("--as-of", type=_day, metavar="D", help="the day that ages count from")
    export = command("export", _export, "write a day's assignments as Parquet and CSV")
    export.add_argument("--date", dest="day", type=_day, required=True, metavar="D")
    drop = command("drop", _drop, "drop a table, to be backfilled after its contract changed")
    dropped = drop.add_mutually_exclusive_group(required=True)
    dropped.add_argument("table", metavar="TABLE", nargs="?")
    dropped.add_argument(
        "--all", action="store_true", help="every table; who was erased stays erased"
    )
    return parser


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.max
    if day == date.max:  # It has no day after it, at which a window could end.
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a date; expected YYYY-MM-DD such as 2017-03-01"
        )
    return day


def _count(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text) < 10**9:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port; expected a number from 1 to 65535")


def _group(text: str) -> str:
    if text in GROUPS:
        return text
    near = difflib.get_close_matches(text, GROUPS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise argparse.ArgumentTypeError(
        f"{text!r} is not a group; expected one of {', '.join(GROUPS)}{hint}"
    )


def _window(options: argparse.Namespace) -> Window:
    from promo_assets.contract.days import Window

    if options.first > options.last:
        raise UsageError(f"--from {options.first} is after --to {options.last}")
    return Window(options.first, options.last + timedelta(days=1))


def _made(settings: Settings) -> Settings:
    """``settings``, if their warehouse was ever written."""
    if not settings.places.warehouse.exists():
        raise UsageError(
            f"{settings.places.warehouse}: there is no warehouse; run `promo demo` or `promo run` "
            "first, or set PROMO_HOME to where it is"
        )
    return settings


def _tables(settings: Settings) -> dict[str, Table]:
    from promo_assets.definitions import build_tables

    return {table.contract.table: table for table in build_tables(settings)}


def _known(name: str, tables: Mapping[str, Table]) -> Table:
    if name in tables:
        return tables[name]
    near = difflib.get_close_matches(name, tables, n=1, cutoff=0.4)
    raise UsageError(
        f"{name!r} is not a table{f'; did you mean {near[0]}?' if near else ''} "
        f"(tables: {', '.join(sorted(tables))})"
    )


def _run(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets.cli.progress import run_with_progress

    return run_with_progress(_window(options), settings, options.select)


def _demo(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets.cli.progress import run_demo

    weeks = max(options.train_every, 1)
    return run_demo(_window(options), settings.model_copy(update={"train_every_weeks": weeks}))


def _late(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets import installation
    from promo_assets.cli.progress import run_with_progress
    from promo_assets.sources.deliveries import look

    made = _made(settings)
    warehouse, delivery = installation.warehouse(made), installation.delivery(made)
    late = look(warehouse, delivery, made.late_days)
    if late is None:
        print("every published day is as it is delivered")
        return 0
    print(late.told)
    if options.run:
        return run_with_progress(late.window, settings, ())
    print("rebuild them with `promo late --run`, or turn on the sensor rebuild_late_days")
    return 0


def _summary(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets.cli.progress import print_summary

    print_summary(_window(options), _made(settings), ())
    return 0


def _check(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets import installation
    from promo_assets.cli.check_report import add_offers, report
    from promo_assets.sources.check import look
    from promo_assets.sources.files import Files

    source = Files.at(options.folder, installation.delivery(settings))
    first = settings.start if "start" in settings.model_fields_set else None
    facts = look(source, threads=settings.threads, first=first)
    add_offers(facts, settings.offers or source.folder / "offers.yaml")
    print(report(facts, source, installation.consent(settings)))
    return 0 if facts.accepted else 1


def _dev(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets.cli.servers import serve

    return serve(settings, options.port, options.mlflow_port)


def _simulate(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets.cli.simulation import run_simulation
    from promo_assets.simulation.folder import Options, SimulationError

    folder = (options.out or settings.places.simulated).expanduser().resolve()
    named = folder != settings.places.simulated
    names = ("users", "start", "seed", "format", "assignment", "mess")
    told = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    try:
        if options.step:
            _step(options, folder, settings, sorted(told), named=named)
        else:
            wanted = Options(**{"start": settings.start} | told)
            run_simulation(wanted, options.days or 30, folder, named=named)
    except SimulationError as error:
        raise UsageError(str(error)) from error
    return 0


def _step(
    options: argparse.Namespace,
    folder: Path,
    settings: Settings,
    told: Sequence[str],
    *,
    named: bool,
) -> None:
    from promo_assets import installation
    from promo_assets.cli.simulation import run_step
    from promo_assets.simulation.simulate import Simulation

    if options.days or told:
        raise UsageError(
            f"--step plays one day of {folder} as it was begun; it takes no "
            f"--{'days' if options.days else told[0]}"
        )
    simulation = Simulation.open(folder)
    day = simulation.next_date
    assignments = _assignments(day - timedelta(days=1), settings)
    campaign = f"{settings.experiment}/{day}"
    key = installation.pseudonym_keys(settings)[0] if assignments is not None else ""
    run_step(simulation, assignments, key, campaign, named=named)


def _assignments(day: date, settings: Settings) -> pl.DataFrame | None:
    """What the platform decided on ``day`` for the day after; None = it decided nothing."""

    from promo_assets import installation

    if not settings.places.warehouse.exists():
        return None
    with installation.reading(settings) as read:
        found = read(
            "select user_id, offer_id, arm, assignment_probability from strategy.assignments"
            " where as_of_date = $day",
            {"day": day},
        )
    return found if found.height else None


def _sql(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets.contract.project import MODELS
    from promo_assets.warehouse.models.model import load_model, render

    name = _known(options.table, _tables(settings)).contract.table
    path = MODELS / f"{name.replace('.', '/')}.sql"
    if not path.exists():
        raise UsageError(
            f"{name} is made by Python, not by SQL; see promo_assets/tables for what makes it"
        )
    print(render(load_model(path, MODELS), options.day, options.day + timedelta(days=1)))
    return 0


def _explain(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets import installation
    from promo_assets.cli.explanation import explain

    with installation.reading(_made(settings)) as read:
        print(explain(options.user, options.day, read, settings))
    return 0


def _pseudonym(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets import installation
    from promo_assets.people.pseudonyms import pseudonym

    key = installation.pseudonym_keys(settings)[0]
    for user in options.users or (line.rstrip("\n") for line in sys.stdin):
        print(user, pseudonym(user, "account", key), sep="\t")
    return 0


def _erase(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets import installation
    from promo_assets.privacy.erasure import erase

    place = installation.erasure(_made(settings))
    keys = installation.pseudonym_keys(settings)
    done = erase(options.user, place, keys, installation.contracts())
    print("\n".join(done.lines()))
    return 1 if done.left else 0


def _retain(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets import installation
    from promo_assets.orchestration.run_history import DagsterRuns
    from promo_assets.orchestration.runs import open_instance
    from promo_assets.people.pseudonyms import PUBLIC_SOURCES
    from promo_assets.privacy.retention import retain

    if options.as_of and options.as_of > datetime.now(UTC).date():
        raise UsageError(f"--as-of {options.as_of} lies in the future: nothing is so old yet")
    with open_instance(_made(settings).places) as instance:
        told = retain(
            settings.places,
            installation.warehouse(settings),
            installation.contracts(),
            DagsterRuns(instance),
            options.as_of,
            public=settings.source in PUBLIC_SOURCES,
            dry_run=options.dry_run,
        )
        for line in told:
            print(line)
    return 0


def _export(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets import installation
    from promo_assets.report.export import export_day

    with installation.reading(_made(settings)) as read:
        consent, folder = installation.consent(settings), settings.places.exports
        written = export_day(read, options.day, consent, folder)
    if not written:
        raise UsageError(
            f"no assignments for {options.day}; materialise them first with "
            f"`promo run --from {options.day} --to {options.day}`"
        )
    print("\n".join(str(path) for path in written))
    return 0


def _drop(options: argparse.Namespace, settings: Settings) -> int:
    from promo_assets import installation
    from promo_assets.warehouse.publish import drop, drop_all
    from promo_assets.warehouse.rewrite import announce, rewrite

    if options.all:
        warehouse = installation.warehouse(_made(settings))
        announce(warehouse)
        with warehouse.get_connection() as connection:
            drop_all(connection)
        rewrite(warehouse)
        print("every table is dropped; build the history again with `promo run --from D --to D`")
        return 0
    table = _known(options.table, _tables(settings)).contract.table
    with installation.warehouse(_made(settings)).get_connection() as connection:
        drop(connection, table)
    print(f"{table} is dropped; backfill it from the Dagster UI or with `promo run`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
