"""Everything assembled: tables, jobs, schedules, sensors, resources.

Loading reads the models, expectations and settings of the checkout; it opens no database and
imports neither Great Expectations nor MLflow nor LightGBM; a test holds that.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import dagster as dg

from promo_assets.contract.tables import ContractError, load_contracts
from promo_assets.orchestration import automation, late
from promo_assets.orchestration import report_assets as report
from promo_assets.orchestration.partitions import Partitions
from promo_assets.orchestration.table_asset import Table, table_asset
from promo_assets.settings import PROJECT, Settings, load_settings
from promo_assets.tables import events, propensity, strategy
from promo_assets.tables import models as sql
from promo_assets.warehouse.connection import Warehouse

MODELS = PROJECT / "dbt_like_sql"
EXPECTATIONS = PROJECT / "expectations"


def build_tables(settings: Settings) -> list[Table]:
    """Every table of the platform, those of SQL models and those that Python makes.

    Raises `ContractError` when a table has no suite, or a suite no table.
    """
    contracts = load_contracts(EXPECTATIONS)
    try:
        python = [
            *events.tables(contracts, settings),
            *propensity.tables(contracts, settings),
            *strategy.tables(contracts, settings),
        ]
        known = [table.contract.table for table in python]
        models = sql.tables(MODELS, contracts, known)
    except KeyError as error:
        table = str(error.args[0])
        raise ContractError(
            f"{table} has no suite: write {EXPECTATIONS / table.replace('.', '/')}.yaml"
        ) from error
    tables = [*python, *models]
    surplus = contracts.keys() - {table.contract.table for table in tables}
    if surplus:
        raise ContractError(
            f"expectations for unknown tables: {', '.join(sorted(surplus))}; write their models "
            f"in {MODELS}, or remove the files"
        )
    by_name = {table.contract.table: table for table in tables}
    complete = [table.with_audit_inputs(by_name) for table in tables]
    for reader in complete:
        check_kept(reader, by_name)
    return [automation.automated(table) for table in complete]


def check_kept(table: Table, tables: Mapping[str, Table]) -> None:
    """Raises `ContractError` where an input's days are removed while ``table`` still reads them:
    its newest day could not be computed."""
    weeks = {name: 7 * (1 - first) for name, (first, _) in table.weekly.items()}
    for name, days in {**table.inputs, **weeks}.items():
        kept = tables[name].contract.kept_days
        if kept is not None and days >= kept:
            raise ContractError(
                f"{EXPECTATIONS / name.replace('.', '/')}.yaml: days are kept for {kept} days, but "
                f"{table.contract.table} reads {days} days back; set keep_days to more than {days}"
            )


def build_definitions(settings: Settings | None = None) -> dg.Definitions:
    """The Dagster definitions of one installation; tests pass their own settings."""
    settings = settings or load_settings()
    partitions = Partitions.starting(settings.start, settings.last_day)
    with warnings.catch_warnings():
        # Dagster's version is locked: what may change with the next one is no news in every log.
        for category in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("ignore", category)
        assets = [table_asset(table, settings, partitions) for table in build_tables(settings)]
        assets += report.assets(settings, partitions)
    retention = automation.retention(settings)
    return dg.Definitions(
        assets=assets,
        jobs=[*automation.jobs(), retention.job],
        schedules=[*automation.schedules(), retention],
        sensors=[*automation.sensors(settings), late.sensor(settings)],
        resources={"warehouse": Warehouse.of(settings)},
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads; a function, so that the command line does not build everything twice."""
    return build_definitions()
