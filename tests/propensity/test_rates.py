"""Rates of groups against made-up groups of known rates, closed forms and limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, betabinom

from promo_assets.propensity.rates import (
    CONCENTRATION,
    JEFFREYS,
    BetaPrior,
    RateError,
    fit_prior,
    posterior,
)

TRUTHS = (BetaPrior(2.0, 38.0), BetaPrior(8.0, 12.0), BetaPrior(0.5, 1.5))
counts = st.lists(
    st.integers(0, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    max_size=12,
)


def groups(truth: BetaPrior, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True rates, successes and trials (0 to some hundreds) of made-up groups."""
    rng = np.random.default_rng(seed)
    rates = rng.beta(truth.alpha, truth.beta, count)
    trials = rng.geometric(0.02, count) - 1
    return rates, rng.binomial(trials, rates), trials


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_prior_of_many_groups_is_the_true_one(truth: BetaPrior) -> None:
    _, won, tried = groups(truth, 3000, 1)
    found = fit_prior(won, tried)
    assert found.mean == pytest.approx(truth.mean, rel=0.05)
    assert found.concentration == pytest.approx(truth.concentration, rel=0.15)


@pytest.mark.parametrize("truth", TRUTHS)
def test_intervals_hold_true_rates_as_often_as_said(truth: BetaPrior) -> None:
    held = []
    for seed in range(20):
        rates, won, tried = groups(truth, 60, seed)
        told = posterior(fit_prior(won, tried), won, tried, 0.9)
        held.append(((told.low <= rates) & (rates <= told.high)).mean())
    assert 0.85 <= np.mean(held) <= 0.95


@pytest.mark.parametrize("truth", TRUTHS)
def test_intervals_of_a_handful_of_groups_are_not_far_too_narrow(truth: BetaPrior) -> None:
    held = []
    for seed in range(60):
        rates, won, tried = groups(truth, 6, seed)
        told = posterior(fit_prior(won, tried), won, tried, 0.9)
        held.append(((told.low <= rates) & (rates <= told.high)).mean())
    assert 0.8 <= np.mean(held) <= 0.95


@pytest.mark.parametrize("truth", TRUTHS)
def test_shrunk_rates_are_nearer_to_the_truth_than_raw_ones(truth: BetaPrior) -> None:
    rates, won, tried = groups(truth, 200, 3)
    told = posterior(fit_prior(won, tried), won, tried).mean
    raw = np.divide(won, tried, out=np.full(len(won), won.sum() / tried.sum()), where=tried > 0)
    assert ((told - rates) ** 2).mean() < ((raw - rates) ** 2).mean()


def test_no_other_prior_is_likelier() -> None:
    _, won, tried = groups(TRUTHS[1], 40, 4)
    best = fit_prior(won, tried)

    def likelihood(a: float, b: float) -> float:
        return betabinom.logpmf(won, tried, a, b).sum() - np.log1p(a + b)

    highest = likelihood(best.alpha, best.beta)
    for a in (0.9, 0.999, 1.001, 1.1):
        for b in (0.9, 0.999, 1.001, 1.1):
            assert likelihood(best.alpha * a, best.beta * b) < highest


def test_a_posterior_is_the_beta_of_prior_and_counts() -> None:
    told = posterior(BetaPrior(2, 6), [3], [10], 0.8)
    assert told.mean[0] == pytest.approx(5 / 18)
    assert told.low[0] == pytest.approx(beta.ppf(0.1, 5, 13))
    assert told.high[0] == pytest.approx(beta.ppf(0.9, 5, 13))


@settings(max_examples=60, deadline=None)
@given(counts)
def test_a_mean_lies_between_the_raw_rate_and_the_priors(pairs: list[tuple[int, int]]) -> None:
    won, tried = (np.array([pair[side] for pair in pairs], float) for side in (0, 1))
    prior = fit_prior(won, tried)
    told = posterior(prior, won, tried)
    assert prior.alpha > 0
    assert prior.beta > 0
    for rate, low, high, k, n in zip(*told, won, tried, strict=True):
        raw = k / n if n else prior.mean
        assert min(raw, prior.mean) - 1e-12 <= rate <= max(raw, prior.mean) + 1e-12
        assert 0 <= low <= high <= 1


def test_groups_of_no_trials_get_the_prior_and_change_nothing() -> None:
    won, tried = [3, 8, 1, 0, 0], [40, 50, 30, 0, 0]
    prior = fit_prior(won, tried)
    assert prior == fit_prior(won[:3], tried[:3])
    told = posterior(prior, won, tried)
    assert told.mean[3] == told.mean[4] == prior.mean
    assert told.low[3] == pytest.approx(beta.ppf(0.05, prior.alpha, prior.beta))


@pytest.mark.parametrize(
    ("won", "tried"), [([], []), ([0, 0], [0, 0]), ([3], [9]), ([3, 0], [9, 0])]
)
def test_below_two_groups_nothing_tells_how_rates_vary(won: list[int], tried: list[int]) -> None:
    assert fit_prior(won, tried) == JEFFREYS
    assert len(posterior(JEFFREYS, won, tried).mean) == len(won)


def test_groups_that_all_ended_alike() -> None:
    none, all_ = fit_prior([0, 0], [10, 30]), fit_prior([10, 30], [10, 30])
    assert none == BetaPrior(0.5, 20.5)
    assert all_ == BetaPrior(20.5, 0.5)
    told = posterior(none, [0, 0, 0], [10, 30, 0])
    assert told.high[1] < told.high[0] < told.high[2] < 0.1


def test_groups_of_one_rate_and_groups_that_share_nothing() -> None:
    alike = fit_prior([50] * 20, [100] * 20)
    assert 500 < alike.concentration < CONCENTRATION[1]
    assert alike.mean == pytest.approx(0.5)
    apart = fit_prior([0, 100] * 20, [100] * 40)
    assert apart.concentration < 0.1
    assert np.isfinite(posterior(apart, [0, 100, 0], [100, 100, 0])).all()


@pytest.mark.parametrize(
    ("won", "tried", "told"),
    [
        ([1, 5], [2, 4], r"5.0 successes of 4.0 trials in group 1 \(1 such\): expected whole"),
        ([-1], [2], r"-1.0 successes"),
        ([0.5], [2], r"0.5 successes"),
        ([1], [np.nan], r"of nan trials"),
        ([1], [np.inf], r"of inf trials"),
        ([np.nan], [2], r"nan successes"),
        ([1, 2], [3], r"expected vectors of one length"),
    ],
)
def test_bad_counts_are_told(won: list[float], tried: list[float], told: str) -> None:
    with pytest.raises(RateError, match=told):
        fit_prior(won, tried)
    with pytest.raises(RateError, match=told):
        posterior(JEFFREYS, won, tried)
    with pytest.raises(RateError, match=r"level 1.0: expected"):
        posterior(JEFFREYS, [1], [2], 1.0)
