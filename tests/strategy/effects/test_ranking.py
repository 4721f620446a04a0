"""Metrics of rankings and policies: by hand, against scikit-uplift, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_assets.strategy.effects import ranking
from promo_assets.strategy.effects.ranking import Compared


def experiment(seed: int, people: int = 600, levels: int = 1000) -> tuple[Compared, np.ndarray]:
    """Binary outcomes whose effect grows with the score; scores with ties where levels are few."""
    rng = np.random.default_rng(seed)
    score = rng.integers(0, levels, people) / levels
    treated = rng.random(people) < 0.4
    outcome = (rng.random(people) < 0.3 + 0.4 * score * treated).astype(float)
    return Compared(outcome, treated, np.ones(people)), score


BY_HAND = Compared(
    outcome=np.array([1.0, 0.0, 1.0, 1.0]),
    treated=np.array([True, False, True, False]),
    weight=np.ones(4),
)
FALLING = np.array([4.0, 3.0, 2.0, 1.0])


def test_curves_by_hand():
    # Best 1: one treated, no control yet. Best 2: 1 - 0. Best 3: 1 - 0. All: 1 - 1/2.
    assert ranking.uplift_curve(BY_HAND, FALLING).gain == pytest.approx([0, 0.25, 0.5, 0.75, 0.5])
    # Y_t - Y_c N_t / N_c = 1, 1, 2, 1 of two treated.
    assert ranking.qini_curve(BY_HAND, FALLING).gain == pytest.approx([0, 0.5, 0.5, 1.0, 0.5])
    assert ranking.auuc(BY_HAND, FALLING) == pytest.approx((0.25 + 0.5 + 0.75 + 0.25) / 4)
    assert ranking.qini(BY_HAND, FALLING) == pytest.approx((0.5 + 0.5 + 1.0 + 0.25) / 4 - 0.25)
    assert ranking.uplift_at(BY_HAND, FALLING, 0.5) == pytest.approx(1.0)


def test_aucc_by_hand():
    # Cost 2 on each treated: its curve is 0, .5, 1, 1.5, 2; as shares 0, 1/4, 1/2, 3/4, 1.
    cost = np.where(BY_HAND.treated, 2.0, 0.0)
    reward = np.array([0, 0.25, 0.5, 0.75, 0.5]) / 0.5
    expected = ((reward[1:] + reward[:-1]) / 2 * 0.25).sum()
    assert ranking.aucc(BY_HAND, cost, FALLING) == pytest.approx(expected)


def test_aucc_is_not_told_where_nothing_is_added():
    nothing = BY_HAND._replace(outcome=np.zeros(4))
    assert np.isnan(ranking.aucc(nothing, np.where(BY_HAND.treated, 2.0, 0.0), FALLING))


@settings(max_examples=20, deadline=None)
@pytest.mark.filterwarnings("ignore:Function stable_cumsum:FutureWarning")
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([3, 20, 1000]))
def test_curves_and_coefficients_are_those_of_scikit_uplift(seed: int, levels: int):
    from sklearn.metrics import auc
    from sklift import metrics as oracle

    compared, score = experiment(seed, people=300, levels=levels)
    told = (compared.outcome, score, compared.treated.astype(int))
    people, treated = len(score), compared.treated.sum()
    for mine, theirs, scale in (
        (ranking.uplift_curve(compared, score), oracle.uplift_curve(*told), people),
        (ranking.qini_curve(compared, score), oracle.qini_curve(*told), treated),
    ):
        x = np.append(0, theirs[0]) if theirs[0][0] else theirs[0]
        y = np.append(0, theirs[1]) if theirs[0][0] else theirs[1]
        assert mine.share * people == pytest.approx(x)
        assert mine.gain * scale == pytest.approx(y)
    perfect = auc(*oracle.perfect_qini_curve(told[0], told[2])) / people / treated
    line = ranking.qini_curve(compared, score).gain[-1] / 2
    assert ranking.qini(compared, score) / (perfect - line) == pytest.approx(
        oracle.qini_auc_score(*told)
    )


def test_uplift_at_k_is_that_of_scikit_uplift():
    from sklift.metrics import uplift_at_k

    compared, _ = experiment(3)
    score = np.random.default_rng(5).permutation(600).astype(float)
    theirs = uplift_at_k(
        compared.outcome, score, compared.treated.astype(int), strategy="overall", k=0.25
    )
    assert ranking.uplift_at(compared, score, 0.25) == pytest.approx(theirs)
    with pytest.raises(ValueError, match="share 0 found"):
        ranking.uplift_at(compared, score, 0)


def test_a_row_that_counts_twice_is_two_rows():
    compared, score = experiment(1)
    count = np.random.default_rng(2).integers(0, 3, len(score))
    rows = np.repeat(np.arange(len(score)), count)
    twice = Compared(*(column[rows] for column in compared))
    for metric in (ranking.qini, ranking.auuc):
        assert metric(compared.times(count.astype(float)), score) == pytest.approx(
            metric(twice, score[rows])
        )


def test_inverse_probabilities_undo_who_was_treated_more_often():
    rng = np.random.default_rng(4)
    likely = rng.random(20_000) < 0.5
    probability = np.where(likely, 0.9, 0.2)
    treated = rng.random(20_000) < probability
    # Without any effect, the likely buy more: a naive difference would be large.
    outcome = np.where(likely, 2.0, 0.0) + rng.standard_normal(20_000)
    own = np.where(treated, probability, 1 - probability)
    weighted = Compared(outcome, treated, 1 / own)
    score = rng.random(20_000)
    assert abs(ranking.uplift_at(weighted, score, 1.0)) < 0.06
    assert ranking.uplift_at(weighted._replace(weight=np.ones(20_000)), score, 1.0) > 1


def test_a_policy_is_worth_what_its_arms_are():
    rng = np.random.default_rng(6)
    people = 60_000
    kind = rng.integers(0, 2, people)
    probability = np.tile([0.5, 0.3, 0.2], (people, 1))
    arm = (rng.random(people)[:, None] > probability.cumsum(axis=1)).sum(axis=1)
    effect = np.array([[0.0, 1.0, -1.0], [0.0, -1.0, 2.0]])
    outcome = 5 + effect[kind, arm] + rng.standard_normal(people)
    weighted = ranking.arm_scores(outcome, arm, probability)
    robust = ranking.arm_scores(outcome, arm, probability, 5.0)
    group = np.arange(people)
    best = ranking.clustered_mean(ranking.policy_gains(robust, kind), group)
    assert best.low < 1.5 < best.high
    rough = ranking.clustered_mean(ranking.policy_gains(weighted, kind), group)
    assert rough.low < 1.5 < rough.high
    assert best.error < rough.error / 2
    assert not ranking.policy_gains(robust, np.full(people, -1)).any()


def test_scores_need_the_probability_of_the_arm():
    with pytest.raises(ValueError, match="1 rows are in an arm whose probability is 0"):
        ranking.arm_scores(np.ones(2), np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]]))


def test_a_ranking_is_worth_the_average_over_all_budgets():
    effects, score = np.array([4.0, 0.0, 2.0, 1.0]), np.array([9.0, 1.0, 5.0, 5.0])
    # Places 1/8, 7/8, and 1/2 for the tie.
    assert ranking.ranking_gains(effects, score) == pytest.approx([3.5, 0, 1.0, 0.5])
    assert ranking.ranking_gains(effects, np.zeros(4)).mean() == pytest.approx(effects.mean() / 2)


def test_intervals_know_that_rows_of_one_user_are_not_news():
    values = np.random.default_rng(7).standard_normal(300)
    group = np.arange(300)
    once = ranking.clustered_mean(values, group)
    copied = ranking.clustered_mean(np.tile(values, 4), np.tile(group, 4))
    assert copied.error == pytest.approx(once.error)
    tiled = np.tile(values, 4)
    drawn = ranking.bootstrap(
        lambda times: float(np.average(tiled, weights=times)), np.tile(group, 4)
    )
    assert drawn.value == pytest.approx(once.value)
    assert drawn.error == pytest.approx(once.error, rel=0.15)


def test_bootstrap_of_a_good_ranking_is_above_what_chance_gets():
    compared, score = experiment(8, people=3000)
    group = np.arange(3000)
    found = ranking.bootstrap(lambda times: ranking.qini(compared.times(times), score), group)
    null = ranking.random_rankings(lambda drawn: ranking.qini(compared, drawn), group)
    assert found.is_clear
    assert abs(null.mean()) < 3 * null.std() / np.sqrt(len(null))
    assert found.value > np.quantile(null, 0.99)
