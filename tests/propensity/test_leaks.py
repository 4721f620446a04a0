from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from promo_assets.propensity.dataset import feature_names
from promo_assets.propensity.leaks import LeakError, find_leaks, refuse_leaks
from promo_assets.propensity.training import TrainingSettings, train

Snapshots = Callable[..., pl.DataFrame]
SETTINGS = TrainingSettings(date(2024, 5, 26), threads=1)
SEED = SETTINGS.seed


@pytest.fixture
def frame(snapshots: Snapshots) -> pl.DataFrame:
    return snapshots(users=400)


def planted(frame: pl.DataFrame, noise: float, sign: int = 1) -> pl.DataFrame:
    """The frame with a feature that is the label beside noise of that standard deviation."""
    drawn = np.random.default_rng(5).normal(0, noise, frame.height)
    return frame.with_columns(spend_next=sign * pl.col("label").cast(pl.Float64) + pl.Series(drawn))


def found(frame: pl.DataFrame) -> list[str]:
    return [leak.feature for leak in find_leaks(frame, feature_names(frame), SEED)]


def test_past_behaviour_is_no_leak(frame: pl.DataFrame) -> None:
    assert found(frame) == []


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("noise", [0.0, 0.25, 0.5])
def test_a_planted_leak_is_found_whichever_way_it_points(
    frame: pl.DataFrame, noise: float, sign: int
) -> None:
    assert found(planted(frame, noise, sign)) == ["spend_next"]


def test_intent_that_tells_of_one_week_is_no_leak(frame: pl.DataFrame) -> None:
    """A cart of yesterday ranks well, and shuffling takes it away; so would a leak of so little."""
    assert found(planted(frame, 1.2)) == []


def test_a_leak_that_is_missing_for_all_but_buyers_is_found(frame: pl.DataFrame) -> None:
    missing = frame.with_columns(next_order_value=pl.when("label").then(1.0))
    assert found(missing) == ["next_order_value"]


def test_what_tells_who_a_user_is_falls_by_no_shuffling(frame: pl.DataFrame) -> None:
    habit = frame.with_columns(habit=pl.col("label").mean().over("user_id"))
    assert found(habit) == []


def test_an_implausible_rank_is_found_even_where_shuffling_takes_nothing(
    frame: pl.DataFrame,
) -> None:
    always = pl.col("user_id").str.slice(1).cast(pl.Int64) % 2 == 0
    split = frame.with_columns(label=always, knows=always)
    (leak,) = find_leaks(split, ["knows", "tenure_days"], SEED)
    assert (leak.feature, leak.auc, leak.shuffled_auc) == ("knows", 1.0, 1.0)


def test_a_leaks_auc_is_scikit_learns(frame: pl.DataFrame) -> None:
    leaking = planted(frame, 0.5)
    (leak,) = find_leaks(leaking, ["orders_90d", "spend_next"], SEED)
    assert leak.auc == pytest.approx(roc_auc_score(leaking["label"], leaking["spend_next"]))


def test_few_users_are_no_evidence(snapshots: Snapshots) -> None:
    assert found(planted(snapshots(users=10), 0.0)) == []


def test_a_training_on_a_leak_is_refused_and_says_what_to_do(frame: pl.DataFrame) -> None:
    with pytest.raises(LeakError, match=r"spend_next \(AUC 0\.\d+, .*PROMO_TRUSTED_FEATURES"):
        train(planted(frame, 0.5), SETTINGS)


def test_a_trusted_feature_is_learned_from(frame: pl.DataFrame) -> None:
    leaking = planted(frame, 0.5)
    result = train(leaking, replace(SETTINGS, trusted=("spend_next",)))
    assert "spend_next" in result.model.features
    refuse_leaks(leaking, ["spend_next"], SEED, ["spend_next"])


def test_rows_in_any_order_give_the_same_finding(frame: pl.DataFrame) -> None:
    leaking = planted(frame, 0.5)
    names = feature_names(leaking)
    shuffled = leaking.sample(fraction=1, shuffle=True, seed=2)
    assert find_leaks(shuffled, names, SEED) == find_leaks(leaking, names, SEED)
