from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promo_assets import installation
from promo_assets.propensity.dataset import OUTCOMES, MissingFeatureError
from promo_assets.propensity.model import BASE, PropensityModel
from promo_assets.propensity.reasons import MEANINGS, reasons, topics
from promo_assets.propensity.training import TrainingSettings, train

Snapshots = Callable[..., pl.DataFrame]

COLUMNS = installation.contracts()["features.user_features"].columns
FEATURES = {
    name: column
    for name, column in COLUMNS.items()
    if column.type.lower() not in ("varchar", "date") and name not in OUTCOMES
}


@pytest.fixture(scope="module")
def model() -> PropensityModel:
    from tests.propensity.conftest import make

    return train(make(weeks=12), TrainingSettings(date(2024, 3, 31), threads=1)).model


def test_every_feature_has_words_and_nothing_else_has() -> None:
    assert MEANINGS.keys() == FEATURES.keys()


def values_of(name: str) -> st.SearchStrategy[float | int | None]:
    column = FEATURES[name]
    kind = column.type.lower()
    numbers = st.integers(0, 10**6) if "int" in kind else st.floats(0, 1e6)
    return st.none() | numbers if column.nulls == "keep" else numbers


@given(snapshot=st.fixed_dictionaries({name: values_of(name) for name in FEATURES}))
def test_words_tell_any_value_and_what_is_missing(
    snapshot: dict[str, float | int | None],
) -> None:
    for name, (topic, words) in MEANINGS.items():
        told = words(snapshot, name)
        assert topic
        assert told.strip() == told != ""
        assert not re.search(r"None|nan|[{}]", told), (name, told)
        if snapshot[name] is not None and name not in ("recency_over_gap",):
            assert told != words(dict.fromkeys(FEATURES), name) or snapshot[name] == 0, name


@pytest.mark.parametrize(
    ("days", "gap", "told"),
    [
        (23, 9.2, "no order for 23 days (usual gap 9)"),
        (1, None, "no order for 1 day"),
        (0, 9.0, "ordered that day (usual gap 9)"),
        (None, None, "never ordered"),
    ],
)
def test_the_last_order_is_told_beside_the_usual_gap(
    days: int | None, gap: float | None, told: str
) -> None:
    _, words = MEANINGS["recency_days"]
    assert words({"recency_days": days, "gap_mean_days": gap}, "recency_days") == told


@pytest.mark.parametrize(
    ("name", "number", "told"),
    [
        ("orders_28d", 0, "no orders in 28 days"),
        ("orders_28d", 1, "1 order in 28 days"),
        ("carts_life", 3, "3 items put into the cart so far"),
        ("discount_share_90d", 0.384, "38% discount on what was bought in 90 days"),
        ("discount_share_90d", None, "nothing bought in 90 days"),
    ],
)
def test_words_by_hand(name: str, number: float | None, told: str) -> None:
    assert MEANINGS[name][1]({name: number}, name) == told


def test_the_topics_of_a_score_add_up_to_its_log_odds(
    model: PropensityModel, snapshots: Snapshots
) -> None:
    frame = snapshots(weeks=1, seed=4)
    for place in range(20):
        snapshot = frame[place]
        p = model.predict(snapshot)[0]
        base = model.contributions(snapshot)[0][BASE]
        together = base + sum(reason.weight for reason in topics(model, snapshot))
        np.testing.assert_allclose(together, np.log(p / (1 - p)))


def test_the_strongest_reasons_come_first_and_point_where_the_score_goes(
    model: PropensityModel, snapshots: Snapshots
) -> None:
    frame = snapshots(weeks=1, seed=4).sort("orders_90d")
    for snapshot, way in ((frame[-1], 1), (frame[0], -1)):
        told = reasons(model, snapshot)
        weights = [abs(reason.weight) for reason in told]
        assert len(told) == 3
        assert weights == sorted(weights, reverse=True)
        assert len({reason.topic for reason in told}) == 3
        assert told[0].feature == "orders_90d"
        assert told[0].weight * way > 0
        assert told[0].words == MEANINGS["orders_90d"][1](snapshot.row(0, named=True), "orders_90d")


def test_a_snapshot_without_a_feature_says_which(
    model: PropensityModel, snapshots: Snapshots
) -> None:
    with pytest.raises(MissingFeatureError, match="features missing: orders_90d"):
        reasons(model, snapshots(weeks=1)[0].drop("orders_90d"))
