"""The statistics behind ``effects.py``: estimators of a difference, and shrinkage.

Here: arrays in, numbers out. Not here: campaigns, segments, catalogue.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Arm = tuple[float, float, float]
"""Mean, its variance, the effective number of users."""
Mask = npt.NDArray[np.bool_]

Z95 = 1.959964
MIN_ARM = 5
"""Below five users an arm's variance says nothing: no effect is estimated."""
RIDGE = 1.0
"""Penalty on standardised coefficients: as if each had been seen once to be zero."""
MAX_SCORE = 0.9
"""Users likelier than this to be treated have no peers to speak of: nine of ten were treated.
Without this cut a few untreated ones carry all the weight (the rule of Crump et al. 2009)."""
STEADY = 20.0
"""Users that the arms' common spread counts as, where an arm's own is smaller."""
MISMATCH = 10.828
"""The chi-square statistic (one degree of freedom) that chance exceeds once in a thousand."""
CONCENTRATION = (4.0, 1000.0)
"""How alike segments may be taken to be: pseudo-users of the beta prior, least and most."""
LEAST_COUNT = 0.05
"""Of a beta's parameters: below it the mean lies outside the central 95 %."""


def normal_quantile(probability: float) -> float:
    """Below which a standard normal lies with ``probability``."""
    from scipy.special import ndtri

    return float(ndtri(probability))


class Estimate(NamedTuple):
    """An effect on an outcome (money a user); None where it can't be told. ``lift`` is relative
    to ``baseline``, the outcome without treatment. Standard errors of small arms are widened so
    that +-1.96 of them covers as Student's t would. ``overlap``: share of the treated compared."""

    difference: float | None
    difference_se: float | None
    baseline: float | None
    lift: float | None
    lift_se: float | None
    overlap: float


UNTOLD = Estimate(None, None, None, None, None, 1.0)
"""Of arms that tell nothing."""


class Normal(NamedTuple):
    """What is believed of a number: a mean and its standard deviation."""

    mean: float
    sd: float


class Nuisance(NamedTuple):
    """[n] each: outcome, its prediction without treatment, probability of treatment, arm."""

    outcome: Vector
    predicted: Vector
    score: Vector
    treated: Mask


def nuisance(covariates: npt.NDArray[np.float64], outcome: Vector, treated: Mask) -> Nuisance:
    """Predict outcome (ridge, on the untreated) and treatment (ridge logistic) from covariates.

    ``covariates`` [n, p], in any unit: they are standardised here. Where everybody or nobody was
    treated nothing can be compared: the scores are then 1 or 0.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    if treated.all() or not treated.any():
        return Nuisance(outcome, np.zeros(len(outcome)), treated.astype(np.float64), treated)
    spread = covariates.std(axis=0)
    scaled = (covariates - covariates.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    outcomes = Ridge(alpha=RIDGE).fit(scaled[~treated], outcome[~treated])
    arms = LogisticRegression(C=1 / RIDGE, max_iter=500, tol=1e-8).fit(scaled, treated)
    return Nuisance(outcome, outcomes.predict(scaled), arms.predict_proba(scaled)[:, 1], treated)


def adjusted_difference(fitted: Nuisance, inside: Mask) -> Estimate:
    """Effect on the treated among ``inside`` [n], doubly robust: right if either model is.

    The treated beyond the untreated's range of scores have no peers and are left out. The
    untreated's residuals are weighted by their odds of treatment, normalised (the AIPW estimator
    of the effect on the treated: Hirano, Imbens and Ridder 2003; Crump et al. 2009 on trimming).
    """
    common = inside & (fitted.score <= MAX_SCORE)
    untreated = common & ~fitted.treated
    scores = fitted.score[untreated]
    low, high = scores.min(initial=1.0), scores.max(initial=0.0)
    peers = common & fitted.treated & (fitted.score >= low) & (fitted.score <= high)
    overlap = float(peers.sum() / max((inside & fitted.treated).sum(), 1))
    residual = fitted.outcome - fitted.predicted
    baseline, baseline_variance, size = _weighted_mean(residual[untreated], scores / (1 - scores))
    gain, gain_variance, count = _weighted_mean(residual[peers], np.ones(peers.sum()))
    if min(size, count) < MIN_ARM:
        return UNTOLD._replace(overlap=overlap)
    expected = float(fitted.predicted[peers].mean())
    arms = ((expected + gain, gain_variance, count), (expected + baseline, baseline_variance, size))
    return _compare(*arms, overlap)


def weighted_difference(outcome: Vector, treated: Mask, weight: Vector) -> Estimate:
    """Effect in a randomised trial: the difference of the arms' means, weighted by the inverse
    of the assignment probability and normalised within the arm (Hájek 1971)."""
    one = _weighted_mean(outcome[treated], weight[treated])
    zero = _weighted_mean(outcome[~treated], weight[~treated])
    if min(one[2], zero[2]) < MIN_ARM:
        return UNTOLD
    return _compare(*_steadied((one, zero)), 1.0)


def _steadied(arms: tuple[Arm, Arm]) -> tuple[Arm, Arm]:
    """Means with variances of at least `STEADY` users' worth of what the arms' common spread would
    give: an arm in which nobody bought has a spread all the same."""
    spreads = [variance * size for _, variance, size in arms]
    sizes = [size for *_, size in arms]
    common = sum(s * n for s, n in zip(spreads, sizes, strict=True)) / sum(sizes)
    one, zero = (
        (mean, max(spread, common * STEADY / (size + STEADY)) / size, size)
        for (mean, _, size), spread in zip(arms, spreads, strict=True)
    )
    return one, zero


def sample_ratio(treated: Mask, probability: Vector) -> float:
    """How far the arms' sizes are from what was drawn: chi-square with one degree of freedom.

    ``probability`` [n]: that of the arm that each user is in. Both arms' inverse probabilities
    estimate how many were drawn (Horvitz and Thompson 1952); their difference has the variance
    sum 1 / p². With constant probabilities of two arms it is Pearson's statistic (Fabijan et al.
    2019 on sample ratio mismatch). Above `MISMATCH` p < .001. Differing propensities and several
    arms are allowed.
    """
    inverse = 1 / probability
    difference = inverse[treated].sum() - inverse[~treated].sum()
    return float(difference**2 / (inverse**2).sum()) if len(inverse) else 0.0


def is_mismatched(treated: Mask, probability: Vector) -> bool:
    """Whether chance alone gives arms of such sizes less than once in a thousand times."""
    return sample_ratio(treated, probability) > MISMATCH


def _weighted_mean(values: Vector, weight: Vector) -> tuple[float, float, float]:
    """Mean, its variance (linearised) and the effective number of values (Kish)."""
    total = weight.sum()
    if total <= 0:
        return 0.0, 0.0, 0.0
    size = float(total**2 / (weight**2).sum())
    mean = float((weight * values).sum() / total)
    variance = float((weight**2 * (values - mean) ** 2).sum() / total**2)
    return mean, variance * size / max(size - 1, 1e-9), size


def _compare(
    one: tuple[float, float, float], zero: tuple[float, float, float], overlap: float
) -> Estimate:
    """Difference and ratio of two arms, each as mean, variance of the mean, size."""
    from scipy.special import stdtrit

    (mean, variance, size), (baseline, baseline_variance, baseline_size) = one, zero
    total = variance + baseline_variance
    if total <= 0:
        return UNTOLD._replace(overlap=overlap)
    parts = variance**2 / (size - 1) + baseline_variance**2 / (baseline_size - 1)
    widen = float(stdtrit(total**2 / parts, 0.975)) / Z95  # Welch's degrees of freedom.
    difference, error = mean - baseline, widen * math.sqrt(total)
    if baseline <= 2 * math.sqrt(baseline_variance):
        # A ratio to something that may be nothing has no usable error.
        return Estimate(difference, error, baseline, None, None, overlap)
    lift = difference / baseline
    relative = math.sqrt(variance + baseline_variance * (1 + lift) ** 2) / baseline
    return Estimate(difference, error, baseline, lift, widen * relative, overlap)


def between_variance(estimates: Vector, variances: Vector, group: npt.NDArray[np.int64]) -> float:
    """How much true effects vary within groups: DerSimonian and Laird's moment estimate (1986),
    pooled over groups. ``group`` [n]: which group each estimate is of. 0 where none can tell."""
    heterogeneity = freedom = scale = 0.0
    for member in np.unique(group):
        values, weight = estimates[group == member], 1 / variances[group == member]
        mean = (weight * values).sum() / weight.sum()
        heterogeneity += float((weight * (values - mean) ** 2).sum())
        freedom += len(values) - 1
        scale += float(weight.sum() - (weight**2).sum() / weight.sum())
    return max((heterogeneity - freedom) / scale, 0.0) if freedom and scale > 0 else 0.0


def precision_mean(estimates: Vector, variances: Vector) -> Normal:
    """The mean of independent estimates, each weighted by its precision."""
    weight = 1 / variances
    return Normal(
        float((weight * estimates).sum() / weight.sum()), float(1 / math.sqrt(weight.sum()))
    )


def shrunk(own: Normal | None, group: Normal, spread: float) -> Normal:
    """A member of a group, given its own estimate, what the group's mean is believed to be (own
    estimate included) and the members' variance ``spread`` about it: the posterior of the
    normal-normal model (Gelman et al., Bayesian Data Analysis, section 5.4)."""
    if own is None:
        return Normal(group.mean, math.sqrt(group.sd**2 + spread))
    pull = own.sd**2 / (own.sd**2 + spread)
    mean = (1 - pull) * own.mean + pull * group.mean
    return Normal(mean, math.sqrt((1 - pull) * own.sd**2 + pull**2 * group.sd**2))


def beta_prior(
    successes: Vector, trials: Vector, expected: float | None, weight: float
) -> tuple[float, float]:
    """The beta distribution of groups' rates: alpha, beta.

    The mean is the pooled rate together with ``expected``, which counts as ``weight`` trials;
    the concentration is Kleinman's moment estimate (1973) over the groups, within
    `CONCENTRATION`, or ``weight`` where fewer than two groups have trials. With nothing known it
    is Jeffreys' prior.
    """
    if expected is None and not trials.sum():
        return 0.5, 0.5
    prior, size = (0.5, 1.0) if expected is None else (expected, weight)
    mean = (successes.sum() + prior * size) / (trials.sum() + size)
    concentration = _concentration(successes, trials, weight)
    return (
        max(float(mean) * concentration, LEAST_COUNT),
        max(float(1 - mean) * concentration, LEAST_COUNT),
    )


def _concentration(successes: Vector, trials: Vector, fallback: float) -> float:
    seen = trials > 0
    count, total = int(seen.sum()), trials.sum()
    if count < 2:
        return fallback
    mean = successes.sum() / total
    noise = mean * (1 - mean)
    scatter = (trials[seen] * (successes[seen] / trials[seen] - mean) ** 2).sum()
    scale = noise * ((trials[seen] * (1 - trials[seen] / total)).sum() - (count - 1))
    correlation = (scatter - noise * (count - 1)) / scale if scale > 0 else 0.0
    least, most = CONCENTRATION
    return most if correlation <= 0 else float(np.clip(1 / correlation - 1, least, most))


def beta_interval(alpha: Vector, beta: Vector) -> tuple[Vector, Vector]:
    """The central 95 % of beta distributions."""
    from scipy.special import betaincinv

    return betaincinv(alpha, beta, 0.025), betaincinv(alpha, beta, 0.975)
