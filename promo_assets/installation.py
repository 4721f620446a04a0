"""What each room is handed of the settings: the only module that knows the rooms and the settings.

Here: one small function a room. Not here: assembling Dagster's definitions (``definitions.py``),
and reading the environment (``settings.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields

from promo_assets.contract.project import EXPECTATIONS
from promo_assets.contract.tables import TableContract, load_contracts
from promo_assets.orchestration.partitions import Partitions
from promo_assets.people.consent import ConsentRule
from promo_assets.people.links import Rules
from promo_assets.people.pseudonyms import keys_of
from promo_assets.privacy.erasure import Place
from promo_assets.settings import Settings
from promo_assets.sources import Delivery
from promo_assets.strategy.experiments.experiment import Holdout
from promo_assets.tables import events, propensity, recommendations, strategy
from promo_assets.warehouse.connection import Warehouse
from promo_assets.warehouse.reading import Read
from promo_assets.warehouse.reading import reading as read_tables


def contracts() -> Mapping[str, TableContract]:
    """The contract of every table, by its name."""
    return load_contracts(EXPECTATIONS)


def partitions(settings: Settings) -> Partitions:
    """The days, weeks and segments that can be materialised."""
    return Partitions.starting(settings.start, settings.last_day)


def warehouse(settings: Settings) -> Warehouse:
    return Warehouse.at(
        settings.places.warehouse,
        memory_limit=settings.memory_limit,
        threads=settings.threads,
        spill=settings.places.spill,
    )


@contextmanager
def reading(settings: Settings) -> Iterator[Read]:
    """A way to read published tables."""
    with read_tables(warehouse(settings), contracts()) as read:
        yield read


def delivery(settings: Settings) -> Delivery:
    return Delivery(
        settings.source,
        settings.source_folder,
        settings.start,
        settings.timezone,
        settings.places.inventory,
        settings.mapping,
        settings.source_password,
    )


def pseudonym_keys(settings: Settings) -> tuple[str, ...]:
    """Raises `PseudonymKeyError` where there is no usable key."""
    told = settings.pseudonym_key
    return keys_of(None if told is None else told.get_secret_value(), settings.source)


def identity_rules(settings: Settings) -> Rules:
    return Rules(
        link_days=settings.identity_link_days,
        people_per_device=settings.identity_people_per_device,
        identifiers=settings.identity_max_identifiers,
        hindsight_days=settings.identity_hindsight_days,
    )


def consent(settings: Settings) -> ConsentRule:
    purposes = _names(settings.consent_purposes.lower())
    return ConsentRule(purposes, settings.consent_unknown == "allow")


def erasure(settings: Settings) -> Place:
    """Where a person is looked for."""
    return Place(settings.places, warehouse(settings), settings.source_folder)


def intake(settings: Settings) -> events.Intake:
    """What the tables of events depend on."""
    return events.Intake(
        delivery(settings),
        settings.pseudonym_key,
        identity_rules(settings),
        settings.catalogue,
        consent(settings),
    )


def learning(settings: Settings) -> propensity.Learning:
    """What the propensity model depends on."""
    places = settings.places
    store = propensity.ModelStore(places.tracking_uri, places.model_store)
    return propensity.Learning(
        settings.horizon_days,
        settings.train_every_weeks,
        _names(settings.trusted_features),
        _names(settings.propensity_features),
        store,
    )


def _names(told: str) -> tuple[str, ...]:
    """The names of a list with commas between, each once and sorted."""
    return tuple(sorted({name.strip() for name in told.split(",")} - {""}))


def versions(settings: Settings) -> Mapping[str, str]:
    """The version of the settings that a group's rows depend on, the offer catalogue among them:
    with another version what is published of the group is stale."""
    given = deciding(settings)
    decided = {one.name: str(getattr(given, one.name)) for one in fields(given)}
    try:
        decided["catalogue"] = strategy.catalogue_version(settings.catalogue)
    except OSError:  # Whoever reads it says what is wrong.
        decided["catalogue"] = ""
    told = json.dumps(decided, sort_keys=True)
    version = hashlib.sha256(told.encode()).hexdigest()[:8]
    return dict.fromkeys(("strategy", "recommendations"), version)


def deciding(settings: Settings) -> strategy.Given:
    """What strategies depend on."""
    return strategy.Given(
        settings.catalogue,
        settings.budget,
        settings.exploration_budget,
        settings.worth_probability,
        settings.margin_rate,
        Holdout(
            settings.experiment,
            settings.holdout_share,
            settings.holdout_start or settings.start,
            settings.holdout_days,
            settings.holdout_analysis_days,
        ),
        consent(settings),
    )


def recommending(settings: Settings) -> recommendations.Recommending:
    """What recommendations depend on."""
    return recommendations.Recommending(consent(settings), settings.threads, deciding(settings))
