from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from promo_assets.learning import evaluation
from promo_assets.propensity import candidates
from promo_assets.propensity.calibration import METHODS, choose_calibration
from promo_assets.propensity.candidates import CANDIDATES, Candidate
from promo_assets.propensity.comparison import METRICS, compare, gap_closed, select
from promo_assets.propensity.dataset import (
    MissingFeatureError,
    TrainingError,
    feature_names,
    labels,
    rolling_folds,
)

Snapshots = Callable[..., pl.DataFrame]
BY_NAME = {candidate.name: candidate for candidate in CANDIDATES}
MODELS = [candidate for candidate in CANDIDATES if candidate.kind == "model"]
each = pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda one: one.name)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small matrices: threads would only wait for each other, and a few trees tell enough."""
    monkeypatch.setattr(candidates, "THREADS", 1)
    monkeypatch.setitem(candidates.FOREST, "n_estimators", 30)
    with threadpool_limits(1):
        yield


def split(frame: pl.DataFrame, weeks: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All but the last ``weeks`` weeks, and those."""
    last = pl.col("as_of_date") > frame["as_of_date"].max() - timedelta(weeks=weeks)
    return frame.filter(~last), frame.filter(last)


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def truth(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True probabilities, what happened, and users of two rows each."""
    rng = np.random.default_rng(seed)
    p = logistic(rng.normal(-0.5, 1.5, rows))
    return p, (rng.random(rows) < p).astype(float), np.arange(rows) // 2


# Folds


@given(
    offsets=st.sets(st.integers(0, 400), min_size=1, max_size=120),
    horizon=st.integers(1, 28),
    origins=st.integers(1, 6),
    calibration_weeks=st.integers(1, 3),
    test_weeks=st.integers(1, 4),
)
@settings(max_examples=200)
def test_no_two_label_windows_of_a_fold_share_a_day_and_no_test_date_counts_twice(
    offsets: set[int], horizon: int, origins: int, calibration_weeks: int, test_weeks: int
) -> None:
    days = [date(2024, 1, 1) + timedelta(days=offset) for offset in offsets]
    try:
        folds = rolling_folds(
            days,
            horizon=horizon,
            origins=origins,
            calibration_weeks=calibration_weeks,
            test_weeks=test_weeks,
        )
    except TrainingError:
        return
    assert len(folds) == origins
    for fold in folds:
        taken: set[date] = set()
        for day in (*fold.train, *fold.calibration, *fold.test):
            window = {day + timedelta(days=ahead) for ahead in range(1, horizon + 1)}
            assert not taken & window
            taken |= window
        assert max(fold.train) < min(fold.calibration) <= max(fold.calibration) < min(fold.test)
        assert len(fold.train) >= 4
        assert (len(fold.calibration), len(fold.test)) == (calibration_weeks, test_weeks)
        assert max(fold.calibration) + timedelta(days=horizon) <= min(fold.test)
    for earlier, later in pairwise(folds):
        assert set(earlier.train) < set(later.train), "the window expands"
        assert max(earlier.test) < min(later.test)
    assert folds[-1].test[-1] == max(days)


def test_five_origins_of_four_weeks_on_a_year_by_hand() -> None:
    sundays = [date(2017, 1, 1) + timedelta(weeks=week) for week in range(52)]
    folds = rolling_folds(sundays, horizon=7)
    assert [len(fold.train) for fold in folds] == [30, 34, 38, 42, 46]
    assert folds[0].calibration == tuple(sundays[30:32])
    assert folds[0].test == tuple(sundays[32:36])


def test_too_short_a_history_for_the_origins_says_so() -> None:
    days = [date(2024, 1, 7) + timedelta(weeks=week) for week in range(25)]
    with pytest.raises(TrainingError, match=r"25 snapshot dates .* expected 26 for 5 origins of 4"):
        rolling_folds(days, horizon=7)


# Candidates


@each
def test_a_candidate_gives_probabilities_that_tell_who_buys(
    candidate: Candidate, snapshots: Snapshots
) -> None:
    train, test = split(snapshots(weeks=10, users=400), 3)
    p = candidate.fit(train, feature_names(train), 1)(test)
    assert p.shape == (test.height,)
    assert ((p >= 0) & (p <= 1)).all()
    assert evaluation.auc(labels(test), p) > 0.6


@each
def test_a_candidate_bears_missing_values_constants_and_columns_without_any_value(
    candidate: Candidate, snapshots: Snapshots
) -> None:
    frame = snapshots(weeks=10, users=200).with_columns(
        recency_days=pl.when(pl.col("user_id").hash(seed=1) % 3 > 0).then("recency_days"),
        constant=pl.lit(3.0),
        empty=pl.lit(None, pl.Float64),
    )
    train, test = split(frame, 2)
    unseen = test.with_columns(spend_28d=pl.lit(None, pl.Float64), empty=pl.lit(1.0))
    predict = candidate.fit(train, feature_names(train), 1)
    for part in (test, unseen):
        assert np.isfinite(predict(part)).all()


@each
def test_the_same_seed_gives_the_same_probabilities(
    candidate: Candidate, snapshots: Snapshots
) -> None:
    train, test = split(snapshots(weeks=8, users=200), 2)
    one, two = (candidate.fit(train, feature_names(train), 3)(test) for _ in range(2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("candidate", MODELS, ids=lambda one: one.name)
def test_a_model_reads_the_named_features_only(candidate: Candidate, snapshots: Snapshots) -> None:
    train, test = split(snapshots(weeks=8, users=100), 2)
    predict = candidate.fit(train, ("orders_90d", "spend_28d"), 1)
    changed = test.with_columns(recency_days=pl.lit(1.0))
    np.testing.assert_array_equal(predict(test), predict(changed))
    with pytest.raises(MissingFeatureError, match="orders_90d"):
        predict(test.drop("orders_90d"))


# Calibration


def distorted(p: np.ndarray, how: str) -> np.ndarray:
    """``p`` as a model would give it that needs the method ``how`` to be put right."""
    odds = np.log(p / (1 - p))
    if how == "none":
        return p
    if how == "platt":
        return logistic(2.5 * odds + 1)
    if how == "beta":  # The inverse of a beta curve with weights 2 and 0.5 by bisection.
        low, high = np.zeros_like(p), np.ones_like(p)
        for _ in range(60):
            middle = (low + high) / 2
            above = 2 * np.log(middle) - 0.5 * np.log1p(-middle) > odds
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return (low + high) / 2
    steps = np.array([0.02, 0.04, 0.06, 0.5, 0.94, 0.96, 0.98])
    return np.interp(p, np.linspace(0, 1, len(steps)), steps)


@pytest.mark.parametrize("how", ["none", "platt", "beta", "isotonic"])
def test_the_method_that_undoes_a_distortion_is_chosen_and_undoes_it(how: str) -> None:
    p, y, users = truth(40_000, seed=1)
    choice = choose_calibration(y, distorted(p, how), users, seed=1)
    assert choice.method == how
    fresh, fresh_y, _ = truth(40_000, seed=2)
    repaired = choice.calibrate(distorted(fresh, how))
    assert np.abs(repaired - fresh).mean() < 0.015
    assert evaluation.calibration_error(fresh_y, repaired) < 0.015


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["none", "platt", "beta", "isotonic"])
def test_no_method_turns_the_order_round(method: str, how: str) -> None:
    p, y, _ = truth(2_000, seed=3)
    calibrated = METHODS[method](y, distorted(p, how))(np.linspace(0, 1, 500))
    assert (np.diff(calibrated) >= -1e-12).all()
    assert ((calibrated >= 0) & (calibrated <= 1)).all()


def test_beta_weights_are_never_negative_even_where_the_score_misleads() -> None:
    p, y, _ = truth(2_000, seed=4)
    turned = METHODS["beta"](y, 1 - p)(np.linspace(0.01, 0.99, 50))
    np.testing.assert_allclose(turned, y.mean(), atol=1e-6)


def test_a_step_function_stays_as_far_from_certainty_as_its_rows_can_tell() -> None:
    p, y = np.linspace(0.1, 0.9, 98), np.repeat([0.0, 1.0], 49)
    np.testing.assert_allclose(METHODS["isotonic"](y, p)(np.array([0.0, 1.0])), [0.01, 0.99])


def test_with_few_buyers_a_probability_stays_as_it_is() -> None:
    p, _, users = truth(1_000, seed=5)
    y = (np.arange(1_000) < 49).astype(float)
    choice = choose_calibration(y, p, users, seed=1)
    assert choice.method == "none"
    np.testing.assert_array_equal(choice.calibrate(p), p)


# Comparison and selection


def test_a_comparison_is_the_same_again_and_measures_what_its_definition_says(
    snapshots: Snapshots,
) -> None:
    frame = snapshots(weeks=14, users=120)
    folds = rolling_folds(
        frame["as_of_date"].to_list(), horizon=7, origins=3, calibration_weeks=1, test_weeks=2
    )
    chosen = [BY_NAME[name] for name in ("frequency alone", "logistic regression")]
    once = compare(frame, folds, chosen, seed=1)
    again = compare(frame.sample(fraction=1, shuffle=True, seed=2), folds, chosen, seed=1)
    for metric in METRICS:
        assert once.values(metric) == again.values(metric)
    assert once.difference("logistic regression", "frequency alone") == again.difference(
        "logistic regression", "frequency alone"
    )
    assert len(once.users) == 3 * 2 * 120
    for score in once.scores["frequency alone"]:
        assert score.metrics["log_loss"] == pytest.approx(score.losses.mean())
    mean, low, high = once.difference("logistic regression", "frequency alone")
    gap = np.subtract(*(once.values("log_loss")[candidate.name] for candidate in chosen[::-1]))
    assert mean == pytest.approx(gap.mean())
    assert low < mean < high


def test_what_happens_on_the_test_dates_changes_no_probability(snapshots: Snapshots) -> None:
    frame = snapshots(weeks=10, users=150)
    folds = rolling_folds(
        frame["as_of_date"].to_list(), horizon=7, origins=1, calibration_weeks=2, test_weeks=2
    )
    tested = pl.col("as_of_date").is_in(folds[0].test)
    turned = frame.with_columns(
        label=pl.when(tested).then(~pl.col("label")).otherwise(pl.col("label"))
    )
    ours = [BY_NAME["LightGBM"]]
    one, other = (compare(part, folds, ours).scores["LightGBM"][0] for part in (frame, turned))
    assert one.calibration == other.calibration
    np.testing.assert_allclose(np.exp(-one.losses) + np.exp(-other.losses), 1)


def test_a_fold_with_one_class_is_named(snapshots: Snapshots) -> None:
    frame = snapshots(weeks=10, users=50)
    folds = rolling_folds(frame["as_of_date"].to_list(), horizon=7, origins=1)
    none = frame.with_columns(
        label=pl.col("label") & ~pl.col("as_of_date").is_in(folds[0].calibration)
    )
    with pytest.raises(TrainingError, match=r"calibration part \(100 rows\) of the origin"):
        compare(none, folds, [replace(BY_NAME["frequency alone"])])


def test_the_simplest_within_one_standard_error_is_chosen_by_hand() -> None:
    # best: mean 0.5, standard deviation 0.1, of 4 folds: standard error 0.05.
    step = 0.1 * np.sqrt(3) / 2
    best = [0.5 - step, 0.5 - step, 0.5 + step, 0.5 + step]
    losses = {"far": [0.56] * 4, "near": [0.549] * 4, "nearer": [0.51] * 4, "best": best}
    selection = select(losses)
    assert selection.mean["best"] == pytest.approx(0.5)
    assert selection.error["best"] == pytest.approx(0.05)
    assert (selection.chosen, selection.best) == ("near", "best")
    assert selection.why == (
        "near (0.5490) is the simplest within one standard error of best, 0.5000 (standard error "
        "0.0500)"
    )


def test_the_best_is_chosen_where_nothing_simpler_is_near() -> None:
    selection = select({"simple": [0.7, 0.7], "best": [0.5, 0.52], "other": [0.505, 0.52]})
    assert selection.chosen == selection.best == "best"
    assert "nothing simpler" in selection.why


def test_one_fold_has_no_standard_error() -> None:
    with pytest.raises(ValueError, match="1 folds, expected at least 2"):
        select({"one": [0.5]})


def test_the_gap_is_from_the_best_rule_to_the_best_of_all() -> None:
    closed = gap_closed({"a": 0.7, "b": 0.6, "model": 0.55, "best": 0.5}, ["a", "b"])
    assert closed == pytest.approx({"a": -1.0, "b": 0.0, "model": 0.5, "best": 1.0})
    assert np.isnan(list(gap_closed({"a": 0.5, "model": 0.6}, ["a"]).values())).all()


def test_rules_come_first_and_names_are_unique() -> None:
    assert len(BY_NAME) == len(CANDIDATES) == 9
    assert [candidate.kind for candidate in CANDIDATES[:2]] == ["rule", "rule"]
    assert len(MODELS) == 7
