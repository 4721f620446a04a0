from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from promo_assets.learning import evaluation
from promo_assets.propensity.dataset import MissingFeatureError, TrainingError, labels
from promo_assets.propensity.training import LIGHTGBM, TrainingSettings, fit_platt, sized, train

SETTINGS = TrainingSettings(date(2024, 5, 26), threads=1)
Snapshots = Callable[..., pl.DataFrame]


def test_the_same_rows_in_any_order_give_the_same_model_byte_by_byte(snapshots: Snapshots) -> None:
    frame = snapshots()
    once = train(frame, SETTINGS)
    again = train(frame.sample(fraction=1, shuffle=True, seed=3), SETTINGS)
    assert once.model.booster_text == again.model.booster_text
    assert once.model.sha256 == again.model.sha256
    assert once.metrics == again.metrics


def test_the_seed_matters(snapshots: Snapshots) -> None:
    frame = snapshots()
    one, other = (train(frame, replace(SETTINGS, seed=seed)) for seed in (1, 2))
    assert one.model.booster_text != other.model.booster_text


def test_a_model_finds_who_buys_and_its_scores_are_probabilities(snapshots: Snapshots) -> None:
    result = train(snapshots(users=500), SETTINGS)
    assert result.metrics["auc"] > 0.7
    assert result.metrics["auc_low"] < result.metrics["auc"] < result.metrics["auc_high"]
    assert result.metrics["calibration_error"] < 0.08
    assert next(iter(result.attention.features)) == "orders_90d"
    assert sum(result.confusion.values()) == result.split["test"]["rows"] == 2000


def test_shuffled_labels_teach_nothing(snapshots: Snapshots) -> None:
    frame = snapshots(users=500)
    shuffled = frame.with_columns(label=pl.col("label").shuffle(seed=4))
    result = train(shuffled, SETTINGS)
    assert result.metrics["auc"] == pytest.approx(0.5, abs=0.05)


def test_the_test_part_changes_no_tested_model_and_the_refitted_one(snapshots: Snapshots) -> None:
    frame = snapshots()
    last = pl.col("as_of_date") > frame["as_of_date"].max() - timedelta(weeks=4)
    changed = frame.with_columns(
        label=pl.when(last).then(~pl.col("label")).otherwise(pl.col("label")),
        orders_90d=pl.when(last).then(0).otherwise(pl.col("orders_90d")),
    )
    one, other = (train(part, SETTINGS).model for part in (frame, changed))
    assert one.tested == other.tested
    assert one.booster_text != other.booster_text


def test_figures_are_the_tested_models_and_the_refit_keeps_its_rounds(
    snapshots: Snapshots,
) -> None:
    frame = snapshots()
    result = train(frame, SETTINGS)
    tested = result.model.tested
    assert tested is not None
    test = frame.filter(pl.col("as_of_date") >= result.split["test"]["first"])
    loss = evaluation.log_loss(labels(test), tested.predict(test))
    assert result.metrics["log_loss"] == pytest.approx(loss)
    assert (result.model.platt, result.model.threshold) == (tested.platt, tested.threshold)
    rounds = [model.booster.num_trees() for model in (result.model, tested)]
    assert rounds == [result.metrics["rounds"]] * 2


def test_a_model_knows_until_when_it_was_fitted(snapshots: Snapshots) -> None:
    frame = snapshots()
    result = train(frame, SETTINGS)
    assert result.model.tested is not None
    assert result.model.tested.fitted_until == result.split["test"]["first"]
    assert result.model.fitted_until == frame["as_of_date"].max() + timedelta(days=7)


def test_a_model_learns_from_the_chosen_features_alone(snapshots: Snapshots) -> None:
    frame = snapshots()
    chosen = ("orders_90d", "recency_days")
    some = train(frame, replace(SETTINGS, features=chosen))
    assert some.model.features == chosen
    changed = frame.with_columns(spend_28d=pl.lit(7.0), fresh=pl.lit(1.0))
    assert train(changed, replace(SETTINGS, features=chosen)).model == some.model
    for wrong in ("orders_80d", "user_id", "label"):
        with pytest.raises(MissingFeatureError, match=f"{wrong}: no features; expected in PROMO_"):
            train(frame, replace(SETTINGS, features=(*chosen, wrong)))


def test_the_summary_has_a_value_for_every_column(snapshots: Snapshots) -> None:
    summary = train(snapshots(), SETTINGS).summary()
    assert len(summary) == 25
    empty = {name for name, value in summary.items() if value is None}
    assert empty == {"never_score", "never_share"}, "everyone in this shop has ordered once"


def test_two_buyers_in_the_test_part_leave_the_interval_null(snapshots: Snapshots) -> None:
    frame = snapshots().with_row_index()
    tested = pl.col("as_of_date") > frame["as_of_date"].max() - timedelta(weeks=4)
    buyers = frame.filter(tested & pl.col("label"))["index"].head(2).to_list()
    few = frame.with_columns(
        label=pl.when(tested).then(pl.col("index").is_in(buyers)).otherwise(pl.col("label"))
    ).drop("index")
    result = train(few, SETTINGS)
    summary = result.summary()
    assert summary["auc_low"] is None
    assert summary["auc_high"] is None
    assert np.isfinite(list(result.metrics.values())).all()


def test_a_population_with_a_rate_of_its_own_is_scored_by_it(snapshots: Snapshots) -> None:
    frame = snapshots(users=400)
    never = pl.col("user_id").str.ends_with("3")
    lapsed = pl.col("user_id").str.ends_with("4")
    rng = np.random.default_rng(6)
    rare = pl.Series(rng.random(frame.height) < 0.08)
    mixed = frame.with_columns(
        recency_days=pl.when(~never).then("recency_days"),
        orders_90d=pl.when(never | lapsed).then(0).otherwise(pl.col("orders_90d").clip(1)),
        label=pl.when(never).then(rare).otherwise("label"),
    )
    metrics = train(mixed, SETTINGS).metrics
    assert [metrics[f"{who}_rows"] for who in ("recent", "lapsed", "never")] == [1280, 160, 160]
    assert metrics["never_share"] < metrics["recent_share"] / 2
    for who in ("recent", "lapsed", "never"):
        assert metrics[f"{who}_score"] == pytest.approx(metrics[f"{who}_share"], abs=0.06)


@pytest.mark.parametrize("users", [40, 100])
def test_users_of_a_small_shop_are_told_apart(snapshots: Snapshots, users: int) -> None:
    result = train(snapshots(weeks=7, users=users), SETTINGS)
    assert len(np.unique(result.test_scores)) > users / 2
    assert result.settings.lightgbm["min_data_in_leaf"] == users * 4 // 20


def test_a_larger_shop_keeps_the_tuned_leaves() -> None:
    assert sized(LIGHTGBM, 4000) == LIGHTGBM
    assert sized(LIGHTGBM, 20)["min_data_in_leaf"] == 5


def test_too_little_history_is_refused(snapshots: Snapshots) -> None:
    with pytest.raises(TrainingError, match="wait for more weeks"):
        train(snapshots(weeks=5), SETTINGS)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    slope=st.floats(0.1, 5),
    intercept=st.floats(-3, 3),
    rows=st.integers(20, 500),
)
def test_platts_curve_equals_a_logistic_regression_on_his_targets(
    seed: int, slope: float, intercept: float, rows: int
) -> None:
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 2, rows)
    y = (rng.random(rows) < 1 / (1 + np.exp(-slope * margin - intercept))).astype(float)
    positive, negative = y.sum(), rows - y.sum()
    target = np.where(y == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(
        np.tile(margin, 2)[:, None],
        np.repeat([1, 0], rows),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    expected = (oracle.coef_[0, 0], oracle.intercept_[0])
    assert fit_platt(y, margin) == pytest.approx(expected, rel=1e-3, abs=1e-3)
