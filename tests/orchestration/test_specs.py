"""Every asset tells what it is, whose it is, and which gate stands before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from promo_assets.definitions import build_tables
from promo_assets.settings import Settings

if TYPE_CHECKING:
    from tests.support.shop import Shop

SETTINGS = Settings(_env_file=None)
TABLES = {table.contract.table: table for table in build_tables(SETTINGS)}
FILES = {"report/daily_report", "strategy/export"}
"""Assets that are files: what they show is audited as tables."""

GRAPH = {
    "events": {
        "raw/events",
        "core/calendar",
        "core/consent_purposes",
        "core/consents",
        "core/device_links",
        "core/event_types",
        "core/events",
        "core/gate_limits",
        "core/identities",
        "core/items",
        "core/link_statements",
        "core/logins",
        "core/offers",
        "core/rejected_events",
        "core/users",
    },
    "features": {"features/user_daily", "features/user_features"},
    "profiles": {
        "profiles/cluster_profiles",
        "profiles/user_clusters",
        "profiles/user_interests",
        "profiles/user_lifetimes",
        "profiles/user_profiles",
    },
    "propensity": {
        "propensity/champions",
        "propensity/drift",
        "propensity/score_quality",
        "propensity/scores",
        "propensity/training_set",
        "propensity/trainings",
    },
    "recommendations": {
        "recommendations/basket_rules",
        "recommendations/blends",
        "recommendations/item_neighbours",
        "recommendations/item_popularity",
        "recommendations/user_items",
        "recommendations/user_offers",
    },
    "report": {"report/daily_report"},
    "segments": {"segments/segment_summary", "segments/user_segments"},
    "strategy": {
        "strategy/assignments",
        "strategy/budget_prices",
        "strategy/campaign_effects",
        "strategy/effect_levels",
        "strategy/experiment_checks",
        "strategy/export",
        "strategy/holdout_effects",
        "strategy/offer_effects",
        "strategy/offer_trials",
        "strategy/segment_strategy",
        "strategy/user_margins",
    },
}


@pytest.fixture(scope="module")
def specs(thirty_days: Shop) -> dict[str, dg.AssetSpec]:
    return {
        spec.key.to_user_string(): spec
        for spec in thirty_days.definitions.resolve_all_asset_specs()
    }


def test_the_graph_is_what_it_was(specs: dict[str, dg.AssetSpec]) -> None:
    groups: dict[str | None, set[str]] = {}
    for name, spec in specs.items():
        groups.setdefault(spec.group_name, set()).add(name)
    assert groups == GRAPH


def test_every_asset_has_owner_description_kinds_and_code_version(
    specs: dict[str, dg.AssetSpec],
) -> None:
    lacking = {
        name: absent
        for name, spec in specs.items()
        if (
            absent := [
                field
                for field in ("owners", "description", "kinds", "code_version", "group_name")
                if not getattr(spec, field)
            ]
        )
    }
    assert lacking == {}


def test_every_table_shows_the_columns_of_its_contract_with_their_meaning(
    specs: dict[str, dg.AssetSpec],
) -> None:
    for table in TABLES.values():
        spec = specs[table.contract.table.replace(".", "/")]
        schema = spec.metadata["dagster/column_schema"]
        assert [(column.name, column.type) for column in schema.columns] == [
            *table.contract.types.items()
        ]
        assert all(column.description for column in schema.columns), spec.key
        assert spec.metadata["dagster/table_name"] == table.contract.table


def test_every_table_has_a_blocking_gate_and_a_check_that_warns_by_partition(
    thirty_days: Shop, specs: dict[str, dg.AssetSpec]
) -> None:
    graph = thirty_days.definitions.resolve_asset_graph()
    for check_name in ("gate", "warnings"):
        checks = {
            key.asset_key.to_user_string(): graph.get(key)
            for key in graph.asset_check_keys
            if key.name == check_name
        }
        assert checks.keys() == specs.keys() - FILES
        for name, check in checks.items():
            assert check.blocking == (check_name == "gate"), name
            assert check.partitions_def == graph.get(check.key.asset_key).partitions_def, name


def test_every_table_of_the_graph_has_a_contract_and_the_other_way_round(
    specs: dict[str, dg.AssetSpec],
) -> None:
    assert {name.replace(".", "/") for name in TABLES} == specs.keys() - FILES
