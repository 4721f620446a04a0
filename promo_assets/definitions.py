"""Everything assembled: tables, jobs, schedules, sensors, resources.

Loading reads the models, expectations and settings of the checkout; it opens no database and
imports neither Great Expectations nor MLflow nor LightGBM; a test holds that.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import dagster as dg

from promo_assets import installation
from promo_assets.contract.project import EXPECTATIONS, MODELS
from promo_assets.contract.tables import ContractError
from promo_assets.orchestration import automation, report_assets
from promo_assets.orchestration import late as late_days
from promo_assets.orchestration import stale as stale_days
from promo_assets.orchestration.resources import WarehouseResource
from promo_assets.orchestration.table_asset import table_asset
from promo_assets.people.pseudonyms import PUBLIC_SOURCES
from promo_assets.privacy.retention import retain
from promo_assets.settings import Settings, load_settings
from promo_assets.sources import deliveries
from promo_assets.tables import (
    clusters,
    effect_levels,
    events,
    lifetimes,
    models,
    propensity,
    recommendations,
    stale,
    strategy,
)
from promo_assets.tables.table import Table


def build_tables(settings: Settings) -> list[Table]:
    """Every table of the platform, those of SQL models and those that Python makes.

    Raises `ContractError` when a table has no suite, or a suite no table.
    """
    contracts = installation.contracts()
    try:
        python = [
            *events.tables(contracts, installation.intake(settings)),
            *clusters.tables(contracts, installation.learning(settings).store),
            *lifetimes.tables(contracts),
            *propensity.tables(contracts, installation.learning(settings)),
            *strategy.tables(contracts, installation.deciding(settings)),
            *effect_levels.tables(
                contracts, installation.deciding(settings), installation.learning(settings)
            ),
            *recommendations.tables(contracts, installation.recommending(settings)),
        ]
        known = [table.contract.table for table in python]
        sql = models.tables(MODELS, contracts, known)
    except KeyError as error:
        table = str(error.args[0])
        raise ContractError(
            f"{table} has no suite: write {EXPECTATIONS / table.replace('.', '/')}.yaml"
        ) from error
    tables = [*python, *sql]
    surplus = contracts.keys() - {table.contract.table for table in tables}
    if surplus:
        raise ContractError(
            f"expectations for unknown tables: {', '.join(sorted(surplus))}; write their models "
            f"in {MODELS}, or remove the files"
        )
    by_name = {table.contract.table: table for table in tables}
    versions = installation.versions(settings)
    complete = [
        replace(
            table.with_audit_inputs(by_name),
            code_version="+".join(filter(None, (table.code_version, versions.get(table.group)))),
        )
        for table in tables
    ]
    for reader in complete:
        check_kept(reader, by_name)
    return complete


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
    partitions = installation.partitions(settings)
    places = settings.places
    warehouse = installation.warehouse(settings)
    tables = build_tables(settings)
    by_name = {table.contract.table: table for table in tables}
    contracts = {name: table.contract for name, table in by_name.items()}
    late = partial(deliveries.look, warehouse, installation.delivery(settings), settings.late_days)
    tell = partial(automation.tell, settings.webhook)
    older = partial(stale.look, warehouse, by_name, settings.start)
    with warnings.catch_warnings():
        # Dagster's version is locked: what may change with the next one is no news in every log.
        for category in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("ignore", category)
        assets = [
            table_asset(table, partitions, places.data_docs, by_name, tell) for table in tables
        ]
        assets += report_assets.assets(partitions, by_name, places, installation.consent(settings))
    retention = automation.retention(
        partial(
            retain,
            places,
            warehouse,
            contracts,
            public=settings.source in PUBLIC_SOURCES,
        )
    )
    return dg.Definitions(
        assets=assets,
        jobs=[*automation.jobs(), retention.job],
        schedules=[*automation.schedules(), retention],
        sensors=[
            *automation.sensors(settings.webhook),
            late_days.sensor(late, partitions),
            stale_days.sensor(older, partitions),
        ],
        resources={"warehouse": WarehouseResource.of(warehouse)},
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads; a function, so that the command line does not build everything twice."""
    return build_definitions()
