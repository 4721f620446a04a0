"""What must be written in two places, since SQL, YAML, Python and prose share no constants: the
places agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from promo_assets.contract.project import EXPECTATIONS, MODELS
from promo_assets.contract.segments import SEGMENTS
from promo_assets.people.consent import ATTRIBUTIONS


def plain(path: Path) -> str:
    """A file's text without comments, in single spaces."""
    text = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
    return " ".join(text.split())


def constant(model: Path, name: str) -> str:
    """A value that a model names ``as name`` among its thresholds."""
    (value,) = re.findall(rf"([\d.]+) as {name}\b", plain(model))
    return value


PROFILES = MODELS / "profiles" / "user_profiles.sql"
USER_SEGMENTS = MODELS / "segments" / "user_segments.sql"


def test_events_and_consent_attribute_an_identifier_over_the_same_days() -> None:
    interval = re.compile(r"as_of_date as valid_from,.*?from core\.identities where [^)]*")
    (of_events,) = interval.findall(plain(MODELS / "core" / "events.sql"))
    (of_consent,) = interval.findall(" ".join(ATTRIBUTIONS.split()))
    assert of_events == of_consent


def test_every_place_that_names_segments_names_those_of_the_contract() -> None:
    said = plain(USER_SEGMENTS)
    decided = said[said.index("case when lifecycle = 'dormant'") : said.index("end as segment")]
    assert set(re.findall(r"(?:then|else) '(\w+)'", decided)) == set(SEGMENTS)
    summary = plain(MODELS / "segments" / "segment_summary.sql")
    assert tuple(sorted(re.findall(r"select '(\w+)' as segment", summary))) == tuple(
        sorted(SEGMENTS)
    )
    suite = plain(EXPECTATIONS / "segments" / "user_segments.yaml")
    meaning = suite[suite.index("case segment") : suite.index("end and (segment")]
    assert set(re.findall(r"when '(\w+)' then", meaning)) == set(SEGMENTS)


def test_a_segments_reason_tells_the_threshold_that_decided() -> None:
    said = plain(USER_SEGMENTS)
    assert f"> {constant(PROFILES, 'at_risk_gaps')} x typical gap of" in said
    assert f"no activity for {constant(PROFILES, 'dormant_days')} d or more" in said


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (r"orders_life = 1 and recency_days >= (\d+)", "one_time_days"),
        (r"'deal_seeker' then orders_90d >= (\d+)", "deal_seeker_orders"),
        (r"'loyal' then orders_90d >= (\d+)", "loyal_orders"),
    ],
)
def test_the_gate_of_segments_has_the_models_thresholds(pattern: str, name: str) -> None:
    (found,) = re.findall(pattern, plain(EXPECTATIONS / "segments" / "user_segments.yaml"))
    assert found == constant(USER_SEGMENTS, name)
