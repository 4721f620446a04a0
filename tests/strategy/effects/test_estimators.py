"""Estimators against closed forms, limits, and simulations with a known effect."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promo_assets.strategy.effects.estimators import (
    CONCENTRATION,
    Normal,
    adjusted_difference,
    beta_interval,
    beta_prior,
    between_variance,
    nuisance,
    precision_mean,
    shrunk,
    weighted_difference,
)


def confounded(seed: int, treated: int, untreated: int = 300, lift: float = 0.1):
    """Skewed spend; heavier spenders are likelier to be treated; the true lift is known."""
    rng = np.random.default_rng(seed)
    habit = rng.gamma(2.0, 50.0, 20 * (treated + untreated))
    before = habit * rng.gamma(4.0, 0.25, len(habit))
    long_before = habit * rng.gamma(12.0, 1 / 12, len(habit)) * 3
    odds = np.exp(0.006 * (long_before / 3 - 100) + 0.2 * np.log1p(before))
    picked = rng.random(len(habit)) < odds / (1 + odds)
    chosen = np.concatenate([np.flatnonzero(picked)[:treated], np.flatnonzero(~picked)[:untreated]])
    is_treated = np.arange(len(chosen)) < treated
    before, long_before = before[chosen], long_before[chosen]
    after = habit[chosen] * rng.gamma(4.0, 0.25, len(chosen))
    after *= np.where(is_treated, 1 + lift, 1.0)
    covariates = np.column_stack([before, long_before, np.log1p(before), np.log1p(long_before)])
    return covariates, after, is_treated


@pytest.mark.parametrize(
    ("treated", "runs"),
    [(20, 80), *(pytest.param(many, 300, marks=pytest.mark.slow) for many in (20, 200))],
)
def test_adjustment_recovers_a_known_lift_despite_targeting(treated: int, runs: int) -> None:
    true, covered, naive, adjusted = 0.1, 0, [], []
    for seed in range(runs):
        covariates, after, arm = confounded(seed, treated, lift=true)
        effect = adjusted_difference(nuisance(covariates, after, arm), np.ones(len(arm), bool))
        assert effect.lift is not None
        assert effect.lift_se is not None
        covered += abs(effect.lift - true) <= 1.96 * effect.lift_se
        adjusted.append(effect.lift)
        naive.append(after[arm].mean() / after[~arm].mean() - 1)
    # Four standard errors of the mean of the runs, and a twentieth of the naive bias: the ridge
    # and a straight line through a curved expectation leave a little.
    error = abs(np.mean(adjusted) - true)
    assert error < 4 * np.std(adjusted) / math.sqrt(runs) + 0.05 * abs(np.mean(naive) - true)
    # 95 % coverage, less three binomial standard errors of the runs (300: 3.8 points).
    assert covered / runs >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)


def test_the_treated_beyond_everyone_elses_scores_are_left_out() -> None:
    covariates = np.concatenate([np.linspace(0, 1, 50), np.linspace(0, 3, 40)])[:, None]
    treated = np.arange(90) >= 50
    outcome = covariates[:, 0] * 10 + 1 + np.tile([0.5, -0.5], 45)
    effect = adjusted_difference(nuisance(covariates, outcome, treated), np.ones(90, bool))
    assert effect.overlap == pytest.approx(1 / 3, abs=0.03)
    assert effect.difference == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize(("treated", "untreated"), [(4, 50), (50, 4), (0, 50), (50, 0)])
def test_arms_of_fewer_than_five_tell_nothing(treated: int, untreated: int) -> None:
    arm = np.arange(treated + untreated) < treated
    outcome = np.random.default_rng(0).gamma(2.0, 5.0, len(arm))
    fitted = nuisance(outcome[:, None], outcome, arm)
    assert adjusted_difference(fitted, np.ones(len(arm), bool)).lift is None
    assert weighted_difference(outcome, arm, np.ones(len(arm))).lift is None


def test_equal_probabilities_give_the_difference_of_means_and_welchs_interval() -> None:
    rng = np.random.default_rng(5)
    one, zero = rng.normal(12, 3, 15), rng.normal(10, 2, 40)
    effect = weighted_difference(
        np.concatenate([one, zero]), np.arange(55) < 15, np.repeat([2.0, 4.0], [15, 40])
    )
    from scipy.stats import ttest_ind

    interval = ttest_ind(one, zero, equal_var=False).confidence_interval(0.95)
    assert effect.difference == pytest.approx(one.mean() - zero.mean())
    assert effect.difference_se * 1.959964 == pytest.approx((interval.high - interval.low) / 2)


def test_unequal_probabilities_are_undone_by_their_weights() -> None:
    rng, covered, runs = np.random.default_rng(6), 0, 300
    for _ in range(runs):
        spend = rng.gamma(2.0, 50.0, 400)
        probability = np.where(spend > 100, 0.8, 0.4)
        treated = rng.random(400) < probability
        outcome = spend * np.where(treated, 1.2, 1.0)
        weight = 1 / np.where(treated, probability, 1 - probability)
        effect = weighted_difference(outcome, treated, weight)
        covered += abs(effect.lift - 0.2) <= 1.96 * effect.lift_se
    assert covered / runs >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)


def test_between_variance_is_dersimonian_and_lairds_formula() -> None:
    # Their formula written out for one group of three with equal variances: s^2 - v.
    values, variances = np.array([0.1, 0.2, 0.6]), np.full(3, 0.01)
    group = np.zeros(3, dtype=np.int64)
    assert between_variance(values, variances, group) == pytest.approx(values.var(ddof=1) - 0.01)
    assert between_variance(values / 100, variances, group) == 0


def test_between_variance_ignores_how_far_groups_lie_apart() -> None:
    values, variances = np.array([0.0, 0.1, 5.0, 5.1]), np.full(4, 1e-4)
    group = np.array([0, 0, 1, 1])
    assert between_variance(values, variances, group) == pytest.approx(0.005 - 1e-4)
    assert between_variance(values[:1], variances[:1], group[:1]) == 0


def test_the_posterior_is_that_of_the_joint_normal_model() -> None:
    """Brute force: condition the joint normal of (member, estimates) on the estimates."""
    estimates, variances, spread, prior = (
        np.array([0.3, -0.1, 0.2]),
        np.array([0.04, 0.01, 0.09]),
        0.02,
        0.15,
    )
    total = shrunk(precision_mean(estimates, variances + spread), Normal(0.05, 0.0), prior**2)
    own = shrunk(Normal(estimates[0], math.sqrt(variances[0])), total, spread)
    members = np.full((3, 3), prior**2) + spread * np.eye(3)
    gain = members[0] @ np.linalg.inv(members + np.diag(variances))
    assert own.mean == pytest.approx(0.05 + gain @ (estimates - 0.05))
    assert own.sd**2 == pytest.approx(members[0, 0] - gain @ members[:, 0])


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.01, 1), st.floats(1e-4, 0.1))
def test_much_evidence_keeps_its_own_mean_and_none_takes_the_groups(own, group, sd, spread) -> None:
    exact = shrunk(Normal(own, 1e-6), Normal(group, sd), spread)
    assert exact.mean == pytest.approx(own, abs=1e-4)
    nothing = shrunk(None, Normal(group, sd), spread)
    assert nothing == (group, pytest.approx(math.sqrt(sd**2 + spread)))
    vague = shrunk(Normal(own, 1e4), Normal(group, sd), spread)
    assert vague.mean == pytest.approx(group, abs=1e-4)


def test_the_beta_prior_of_groups_drawn_from_a_beta_is_near_it() -> None:
    rng = np.random.default_rng(8)
    trials = rng.integers(200, 400, 500).astype(float)
    successes = rng.binomial(trials.astype(int), rng.beta(6, 54, 500)).astype(float)
    alpha, beta = beta_prior(successes, trials, None, 20.0)
    assert alpha / (alpha + beta) == pytest.approx(0.1, abs=0.01)
    assert alpha + beta == pytest.approx(60, rel=0.25)


def test_equal_rates_are_pooled_as_much_as_allowed_and_no_trials_leave_the_prior() -> None:
    trials = np.full(4, 100.0)
    assert sum(beta_prior(trials / 10, trials, None, 20.0)) == pytest.approx(CONCENTRATION[1])
    nothing = np.zeros(4)
    assert beta_prior(nothing, nothing, 0.25, 20.0) == (5.0, 15.0)
    assert beta_prior(nothing, nothing, None, 20.0) == (0.5, 0.5)


COUNTS = st.sampled_from([0, 1, 7, 500, 10**6])


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=4), st.none() | st.floats(0, 1))
def test_every_posterior_mean_lies_in_its_interval(counts, expected) -> None:
    successes, failures = np.array(counts, dtype=float).T
    alpha, beta = beta_prior(successes, successes + failures, expected, 20.0)
    alphas, betas = alpha + successes, beta + failures
    low, high = beta_interval(alphas, betas)
    mean = alphas / (alphas + betas)
    assert ((low >= 0) & (low <= mean) & (mean <= high) & (high <= 1)).all()
