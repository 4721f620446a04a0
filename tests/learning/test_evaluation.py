"""Every measure against its definition, counted one by one, with and without ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

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


def wins(y: np.ndarray, p: np.ndarray) -> float:
    """Share of pairs of a buyer and another user in which the buyer is ranked higher."""
    over = p[y == 1][:, None] - p[y == 0][None, :]
    return float(((over > 0) + 0.5 * (over == 0)).mean())


def at(y: np.ndarray, p: np.ndarray, threshold: float) -> tuple[int, int, int, int]:
    """True positives, false positives, false negatives, true negatives, counted one by one."""
    rows = [(score >= threshold, label == 1) for score, label in zip(p, y, strict=True)]
    return tuple(rows.count(kind) for kind in ((True, True), (True, False), (False, True),
                                               (False, False)))  # type: ignore[return-value]  # fmt: skip


def f1(counts: tuple[int, int, int, int]) -> float:
    tp, fp, fn, _ = counts
    return 2 * tp / max(2 * tp + fp + fn, 1)


@quick
@given(samples())
def test_ranking_measures_are_what_they_are_defined_as(sample: Sample) -> None:
    y, p = sample
    assert evaluation.auc(y, p) == pytest.approx(wins(y, p))
    total, before = 0.0, 0.0
    for threshold in sorted(set(p), reverse=True):
        tp, fp, fn, _ = at(y, p, threshold)
        total += (tp / (tp + fn) - before) * tp / (tp + fp)
        before = tp / (tp + fn)
    assert evaluation.average_precision(y, p) == pytest.approx(total)


@quick
@given(samples())
def test_probability_measures_are_what_they_are_defined_as(sample: Sample) -> None:
    y, p = sample
    nats = [-math.log(score if label else 1 - score) for label, score in zip(y, p, strict=True)]
    assert evaluation.log_loss(y, p) == pytest.approx(sum(nats) / len(nats))
    assert evaluation.brier(y, p) == pytest.approx(((p - y) ** 2).mean())


@quick
@given(samples(), st.floats(0, 1))
def test_decisions_are_counted_right_at_any_threshold(sample: Sample, threshold: float) -> None:
    y, p = sample
    counts = evaluation.confusion(y, p, threshold)
    tp, fp, fn, tn = at(y, p, threshold)
    assert list(counts.values()) == [tp, fp, fn, tn]
    told = evaluation.decisions(counts)
    assert told["accuracy"] == pytest.approx((tp + tn) / len(y))
    assert told["precision"] == pytest.approx(tp / (tp + fp) if tp + fp else 0)
    assert told["recall"] == pytest.approx(tp / (tp + fn))
    assert told["f1"] == pytest.approx(f1((tp, fp, fn, tn)))


@quick
@given(samples())
def test_curves_go_through_the_rates_of_every_threshold(sample: Sample) -> None:
    y, p = sample
    rates = [at(y, p, threshold) for threshold in sorted(set(p), reverse=True)]
    roc = [(0.0, 0.0), *((fp / (fp + tn), tp / (tp + fn)) for tp, fp, fn, tn in rates)]
    np.testing.assert_allclose(np.transpose(evaluation.roc_curve(y, p)), roc)
    recall = [(tp / (tp + fn), tp / (tp + fp)) for tp, fp, fn, _ in rates]
    found = np.transpose(evaluation.precision_recall_curve(y, p))
    np.testing.assert_allclose(found[: len(recall)], recall[: len(found)])


@quick
@given(samples())
def test_no_threshold_has_a_higher_f1_than_the_chosen_one(sample: Sample) -> None:
    y, p = sample
    chosen = f1(at(y, p, evaluation.best_f1_threshold(y, p)))
    assert chosen >= max(f1(at(y, p, other)) for other in set(p)) - 1e-12


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
        draws.append(wins(y[rows], p[rows]))
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


def test_two_buyers_give_no_interval_rather_than_a_wrong_one() -> None:
    p = np.linspace(0.1, 0.9, 50)
    y = np.zeros(50)
    y[[30, 40]] = 1
    assert evaluation.auc_interval(y, p, np.arange(50), 1) is None
    assert evaluation.auc_interval(1 - y, p, np.arange(50), 1) is None


@quick
@given(samples(), st.integers(0, 2**32))
def test_an_auc_interval_is_never_nan(sample: Sample, seed: int) -> None:
    y, p = sample
    interval = evaluation.auc_interval(y, p, np.arange(len(y)), seed)
    assert interval is None or 0 <= interval[0] <= interval[1] <= 1


def test_a_paired_interval_resamples_users_with_all_their_rows() -> None:
    rng = np.random.default_rng(5)
    users = rng.integers(0, 40, 240)
    difference = rng.normal(size=240)
    _, codes = np.unique(users, return_inverse=True)
    again = np.random.default_rng(9)
    draws = [
        difference[np.concatenate([np.flatnonzero(codes == code) for code in drawn])].mean()
        for drawn in (
            again.integers(0, codes.max() + 1, codes.max() + 1)
            for _ in range(evaluation.PAIRED_BOOTSTRAPS)
        )
    ]
    expected = np.percentile(draws, [2.5, 97.5])
    assert evaluation.paired_interval(difference, users, 9) == pytest.approx(tuple(expected))


def test_a_paired_interval_holds_the_mean_of_independent_users_19_times_in_20() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for seed in range(40):
        low, high = evaluation.paired_interval(rng.normal(0.2, 1, 200), np.arange(200), seed)
        held += low < 0.2 < high
    assert 34 <= held <= 40
