"""What a model looks at: against LightGBM's own margin, scikit-learn, and a shop that is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.inspection import partial_dependence

from promo_assets.propensity.attention import MOST_ROWS, SHOWN, attention, dependence
from promo_assets.propensity.dataset import feature_matrix
from promo_assets.propensity.model import PropensityModel
from promo_assets.propensity.reasons import topic_of
from promo_assets.propensity.training import TrainingSettings, train
from tests.propensity.conftest import FIRST, make

Snapshots = Callable[..., pl.DataFrame]


@pytest.fixture(scope="module")
def model() -> PropensityModel:
    return train(make(weeks=12), TrainingSettings(FIRST, threads=1)).model


class Asked(ClassifierMixin, BaseEstimator):
    """A model as scikit-learn asks one: by a matrix."""

    def __init__(self, model: PropensityModel | None = None) -> None:
        self.model = model
        self.classes_ = np.array([0, 1])

    def fit(self, *_: Any) -> Asked:
        return self

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        assert self.model is not None
        p = self.model.predict(pl.DataFrame(matrix, schema=self.model.features))
        return np.column_stack([1 - p, p])


def test_shap_values_of_a_row_and_the_mean_add_up_to_lightgbms_margin(
    model: PropensityModel, snapshots: Snapshots
) -> None:
    frame = snapshots(weeks=1, seed=9).with_columns(
        recency_days=pl.when(pl.col("orders_90d") > 3).then("recency_days")
    )
    values = model.shap(frame)
    slope, intercept = model.platt
    margin = model.booster.predict(feature_matrix(frame, model.features), raw_score=True)
    assert values.shape == (frame.height, len(model.features) + 1)
    np.testing.assert_allclose(values.sum(axis=1), slope * margin + intercept)


def test_importance_is_the_mean_absolute_shap_value_by_feature_and_by_topics_sum(
    model: PropensityModel, snapshots: Snapshots
) -> None:
    frame = snapshots(weeks=1, users=MOST_ROWS)
    told = attention(model, frame, 1)
    values = dict(zip(model.features, model.shap(frame).T[:-1], strict=True))
    for name, weight in told.features.items():
        assert weight == pytest.approx(np.abs(values[name]).mean())
    for topic, weight in told.topics.items():
        parts = [values[name] for name in model.features if topic_of(name) == topic]
        assert weight == pytest.approx(np.abs(sum(parts)).mean())
    for weights in (told.features, told.topics, told.shares):
        assert [*weights.values()] == sorted(weights.values(), reverse=True)
    assert next(iter(told.features)) == "orders_90d"
    assert sum(told.shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("missing", [False, True])
def test_partial_dependence_is_scikit_learns(
    model: PropensityModel, snapshots: Snapshots, missing: bool
) -> None:
    frame = snapshots(weeks=1, users=60, seed=4)
    if missing:
        odd = pl.int_range(pl.len()) % 3 == 0
        frame = frame.with_columns(recency_days=pl.when(odd).then("recency_days"))
    told = dependence(model, frame, ["recency_days", "orders_90d"])
    for name, (values, scores) in told.items():
        place = model.features.index(name)
        oracle = partial_dependence(
            Asked(model).fit(),
            feature_matrix(frame, model.features),
            [place],
            custom_values={place: values},
            method="brute",
            response_method="predict_proba",
        )
        np.testing.assert_allclose(scores, oracle["average"][0])
        assert {*values} <= {*frame[name].drop_nulls().to_list()}
        assert [*values] == sorted({*values})


def test_more_orders_mean_a_higher_score_and_repeating_it_gives_the_same(
    model: PropensityModel, snapshots: Snapshots
) -> None:
    frame = snapshots(weeks=3)
    told = attention(model, frame, 1)
    assert told.rows == MOST_ROWS < frame.height
    assert 1 <= len(told.dependence) <= SHOWN
    _, scores = told.dependence["orders_90d"]
    assert scores[-1] > scores[0] + 0.1
    again = attention(model, frame, 1)
    assert (again.features, again.topics) == (told.features, told.topics)


def test_a_model_that_looks_at_nothing_has_no_shares(snapshots: Snapshots) -> None:
    frame = snapshots(weeks=12).with_columns(label=pl.Series(np.arange(3000) % 2 == 0))
    still = frame.with_columns(pl.lit(1.0).alias(name) for name in frame.columns[4:])
    told = train(still, TrainingSettings(FIRST, threads=1)).attention
    assert told.shares == {}
    assert told.dependence == {}
