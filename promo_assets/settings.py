"""Typed settings: the only reader of the environment (``PROMO_*`` variables and ``.env``)."""

from __future__ import annotations

import difflib
import os
import re
from datetime import date
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from promo_assets.contract.home import Home
from promo_assets.contract.project import SAMPLE_OFFERS

CLOSED_SOURCES = {"complete_journey": date(2017, 12, 31)}
"""Sources whose last day has passed: later partitions could only stay missing."""


PASSWORD = re.compile(
    r"(?P<before>(?!files:)[\w+.-]+:(?://)?[^:@/]*):(?P<password>.*)@(?P<after>[^@]*)", re.S
)
PASSWORD_OPTION = re.compile(r"([?&;])(?:password|passwd|pwd)=(?P<password>[^&;]*)", re.I)


class SettingsError(ValueError):
    """A setting is wrong; the message names it, what was found, and what is expected."""


class Settings(BaseSettings):
    """Everything that may differ between two installations."""

    model_config = SettingsConfigDict(
        env_prefix="PROMO_", env_file=".env", extra="ignore", frozen=True
    )

    home: Path = Field(default=Path(".promo"), description="Where all state lives.")
    source: str = Field(default="complete_journey", description="Where events come from.")
    source_password: SecretStr | None = Field(
        default=None, description="Of a database; taken out of the URL in `source` if it is there."
    )
    mapping: Path | None = Field(
        default=None, description="The mapping.yaml of a database; a files source has its own."
    )
    start: date = Field(default=date(2017, 1, 1), description="The first daily partition.")
    end: date | None = Field(
        default=None, description="The last daily partition; by default the source's, or yesterday."
    )
    offers: Path | None = Field(
        default=None,
        description="The offer catalogue; by default the offers.yaml of a files source.",
    )
    budget: Decimal = Field(default=Decimal(100), ge=0, description="Promotion budget of a day.")
    exploration_budget: Decimal = Field(
        default=Decimal(10), ge=0, description="What may be spent on top, a day, to learn."
    )
    worth_probability: float = Field(
        default=0.8, gt=0, lt=1, description="How probably an offer must be worth its cost."
    )
    margin_rate: float = Field(default=0.25, gt=0, le=1, description="Margin per unit of spend.")
    holdout_share: float = Field(default=0.1, ge=0, lt=1, description="Users who get no offer.")
    experiment: str = Field(
        default="holdout-1",
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Names the holdout; another name draws other users.",
    )
    holdout_start: date | None = Field(
        default=None, description="First day of the holdout's first round; PROMO_START if unset."
    )
    holdout_days: int = Field(
        default=91, ge=7, description="Days of a round; then others are held out."
    )
    holdout_analysis_days: int = Field(
        default=28, ge=0, le=90, description="Days after a round whose purchases count for it."
    )
    horizon_days: int = Field(default=7, ge=1, le=28, description="Propensity: days ahead.")
    train_every_weeks: int = Field(default=1, ge=1, description="Weeks between trainings.")
    trusted_features: str = Field(
        default="", description="Features that a training doesn't refuse as leaks; commas between."
    )
    propensity_features: str = Field(
        default="", description="The features that a training uses; commas between; all if empty."
    )
    timezone: str = Field(default="UTC", description="Of naive times in a files source.")
    memory_limit: str = Field(default="2GB", description="DuckDB's memory limit.")
    threads: int = Field(default=os.cpu_count() or 2, ge=1, description="DuckDB's threads.")
    webhook: SecretStr | None = Field(default=None, description="URL that gets failure messages.")
    pseudonym_key: SecretStr | None = Field(
        default=None, description="Keys pseudonyms: the current key, then retired ones, commas."
    )

    identity_link_days: int = Field(default=180, ge=1, description="A log-in links so long.")
    identity_people_per_device: int = Field(
        default=1, ge=1, description="More people than that on a device quarantine it."
    )
    identity_max_identifiers: int = Field(
        default=20, ge=2, description="More accounts and devices than that are no person."
    )
    identity_hindsight_days: int = Field(
        default=0, ge=0, description="Days ahead whose log-ins attribute a day's events."
    )
    late_days: int | None = Field(
        default=None, ge=0, description="Days back that are watched for late data; all if unset."
    )
    consent_purposes: str = Field(
        default="marketing", description="What a user must allow to get an offer; commas between."
    )
    consent_unknown: Literal["deny", "allow"] = Field(
        default="deny", description="Whether silence allows or refuses."
    )

    @model_validator(mode="before")
    @classmethod
    def _password_apart(cls, told: Any) -> Any:
        """No password stays in ``source``, which messages and logs may show."""
        if not isinstance(told, dict) or not isinstance(told.get("source"), str):
            return told
        source, password = split_password(told["source"])
        return told | {"source": source} | ({"source_password": password} if password else {})

    @field_validator("home", "offers", "mapping")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().resolve() if value else None

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{value!r} is not an IANA zone such as America/New_York") from error
        return value

    @property
    def last_day(self) -> date | None:
        """The last day that can be materialised; None = yesterday, whatever day it is."""
        return self.end or CLOSED_SOURCES.get(self.source)

    @property
    def source_folder(self) -> Path | None:
        """The folder that a files source or the simulated shop delivers to; None for others."""
        kind, _, place = self.source.partition(":")
        if kind == "files" and place:
            return Path(place).expanduser().resolve()
        return self.places.simulated if self.source == "simulated" else None

    @property
    def catalogue(self) -> Path:
        """The offer catalogue's file: ``offers``, or else what comes with the source."""
        if self.offers:
            return self.offers
        if self.source_folder:
            return self.source_folder / "offers.yaml"
        return SAMPLE_OFFERS

    @property
    def places(self) -> Home:
        """Where state lives under ``home``."""
        return Home(self.home)


OF_OTHERS = {"PROMO_EVENT_LOG", "PROMO_REQUIRE_DATABASES", "PROMO_WRITE_GRAPH"}
"""Variables of Dagster's instance file and of the tests."""


def unknown_names() -> list[str]:
    """``PROMO_*`` variables of the environment and ``.env`` that are no settings, each told with
    the setting that was probably meant."""
    known = {f"PROMO_{name.upper()}" for name in Settings.model_fields}
    found = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    told = []
    for name in sorted(found - known - OF_OTHERS):
        if name.startswith("PROMO_"):
            near = difflib.get_close_matches(name, known, n=1)
            told.append(f"{name} is no setting{f'; did you mean {near[0]}?' if near else ''}")
    return told


def split_password(source: str) -> tuple[str, str | None]:
    """A source without the password of its URL, and that password.

    The user ends at the first colon and the password at the last @, so that a password with
    reserved characters that are not percent-encoded leaves nothing behind either.
    """
    asked = PASSWORD_OPTION.search(source)
    if asked:
        source = PASSWORD_OPTION.sub(r"\1", source)
    found = PASSWORD.fullmatch(source)
    if found:
        source = f"{found['before']}@{found['after']}"
    password = found["password"] if found else asked["password"] if asked else None
    return source, unquote(password) if password else None


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """Read the settings once per process; `SettingsError` names each wrong one."""
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"PROMO_{str(item['loc'][0]).upper()}={item['input']!r}: {item['msg']}"
            for item in error.errors()
        )
        raise SettingsError(f"{problems}. Fix the environment or .env.") from error
