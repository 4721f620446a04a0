"""Every measure against scikit-learn, on scores with and without ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from promo_assets.learning import evaluation

Sample = tuple[np.ndarray, np.ndarray]
quick = settings(max_examples=30, deadline=None)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Labels of both classes and scores with a drawn number of distinct values."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(12, 300))
    p = rng.integers(1, draw(st.integers(2, 400)), rows) / 401
    y = (rng.random(rows) < draw(st.floats(0.1, 0.9))).astype(float)
    assume(0 < y.sum() < rows)
    return y, p


@quick
@given(samples())
def test_ranking_measures_equal_sklearns(sample: Sample) -> None:
    y, p = sample
    assert evaluation.auc(y, p) == pytest.approx(oracle.roc_auc_score(y, p))
    assert evaluation.average_precision(y, p) == pytest.approx(oracle.average_precision_score(y, p))


@quick
@given(samples())
def test_probability_measures_equal_sklearns(sample: Sample) -> None:
    y, p = sample
    assert evaluation.log_loss(y, p) == pytest.approx(oracle.log_loss(y, p))
    assert evaluation.brier(y, p) == pytest.approx(oracle.brier_score_loss(y, p))


@quick
@given(samples(), st.floats(0, 1))
def test_decisions_equal_sklearns_at_any_threshold(sample: Sample, threshold: float) -> None:
    y, p = sample
    counts = evaluation.confusion(y, p, threshold)
    (tn, fp), (fn, tp) = oracle.confusion_matrix(y, p >= threshold, labels=[0, 1])
    assert list(counts.values()) == [tp, fp, fn, tn]
    told = evaluation.decisions(counts)
    assert told["accuracy"] == pytest.approx(oracle.accuracy_score(y, p >= threshold))
    for name in ("precision", "recall", "f1"):
        expected = getattr(oracle, f"{name}_score")(y, p >= threshold, zero_division=0)
        assert told[name] == pytest.approx(expected)


@quick
@given(samples())
def test_curves_equal_sklearns(sample: Sample) -> None:
    y, p = sample
    fpr, tpr, _ = oracle.roc_curve(y, p, drop_intermediate=False)
    np.testing.assert_allclose(evaluation.roc_curve(y, p), (fpr, tpr))
    precision, recall, _ = oracle.precision_recall_curve(y, p)
    ours = evaluation.precision_recall_curve(y, p)
    np.testing.assert_allclose(ours, (recall[-2::-1], precision[-2::-1]))


@quick
@given(samples())
def test_no_threshold_has_a_higher_f1_than_the_chosen_one(sample: Sample) -> None:
    y, p = sample
    chosen = oracle.f1_score(y, p >= evaluation.best_f1_threshold(y, p))
    others = np.unique(p)[:: max(len(np.unique(p)) // 20, 1)]
    assert chosen >= max(oracle.f1_score(y, p >= other) for other in others) - 1e-12


def test_calibration_error_is_zero_where_scores_are_shares_and_else_their_distance() -> None:
    p = np.repeat([0.2, 0.6], 500)
    y = np.concatenate([np.tile([1, 0, 0, 0, 0], 100), np.tile([1, 1, 1, 0, 0], 100)])
    assert evaluation.calibration_error(y, p) == pytest.approx(0, abs=1e-12)
    assert evaluation.calibration_error(y, p + 0.1) == pytest.approx(0.1)


def test_the_top_tenth_of_a_perfect_score_holds_its_share_of_buyers() -> None:
    y = np.repeat([1.0, 0.0], [250, 750])
    told = evaluation.gains(y, y * 0.8 + 0.1)
    assert told["gain_10"] == pytest.approx(0.4)
    assert told["lift_10"] == pytest.approx(4)
    assert told["gain_30"] == pytest.approx(1)
    assert told["lift_30"] == pytest.approx(1 / 0.3)


def test_resampling_users_gives_the_same_draws_as_copying_their_rows() -> None:
    rng = np.random.default_rng(5)
    users = np.repeat(np.arange(40), 6)
    p = np.round(rng.random(240), 2)
    y = (rng.random(240) < p).astype(float)
    again = np.random.default_rng(9)
    draws = []
    for _ in range(evaluation.BOOTSTRAPS):
        rows = np.concatenate([np.flatnonzero(users == u) for u in again.integers(0, 40, 40)])
        draws.append(oracle.roc_auc_score(y[rows], p[rows]))
    expected = np.percentile(draws, [2.5, 97.5])
    assert evaluation.auc_interval(y, p, users, 9) == pytest.approx(tuple(expected))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_users_who_repeat_widen_the_interval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random(60)
    y = (rng.random(60) < p).astype(float)
    assume(10 < y.sum() < 50)
    many_p, many_y = np.tile(p, 8), np.tile(y, 8)
    low, high = evaluation.auc_interval(many_y, many_p, np.tile(np.arange(60), 8), 1)
    as_if_low, as_if_high = evaluation.auc_interval(many_y, many_p, np.arange(480), 1)
    assert high - low > as_if_high - as_if_low
