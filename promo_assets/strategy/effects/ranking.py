"""How good a ranking or a policy is, told by a randomised experiment.

Here: one definition each of Qini, AUUC, uplift at k, AUCC and the value of a policy with several
costly arms; intervals that resample users; what a random ranking would get. Pure functions over
NumPy. Not here: where rankings come from (``learners.py``), which of them is used (``levels.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from promo_assets.strategy.effects.estimators import Z95

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]

CONTROL = 0
"""The arm without treatment: the first column of scores and probabilities."""
DRAWS = 200


class Compared(NamedTuple):
    """One treatment and its control, a row a person. ``weight``: 1 / p of the row's own arm, times
    how often the row counts; 1 where all had the same probability."""

    outcome: Vector
    treated: Mask
    weight: Vector

    def times(self, count: Vector) -> Compared:
        """Each row counted so often."""
        return self._replace(weight=self.weight * count)


class Interval(NamedTuple):
    """An estimate, its standard error and its bounds."""

    value: float
    error: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Above zero, by its interval."""
        return self.low > 0

    def told(self, name: str) -> dict[str, float]:
        """The estimate under ``name``, its bounds under ``name``_low and ``name``_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


class Curve(NamedTuple):
    """Points from the origin on: share of people by falling score, and what they gain."""

    share: Vector
    gain: Vector


def uplift_curve(compared: Compared, score: Vector) -> Curve:
    """Gain a person of the population, were the best-scored share treated.

    g(s) = s x (mean outcome of the treated - of the controls, among the best s), weighted means.
    People of the same score count together. Devriendt, Guns and Verbeke (2020), "Learning to rank
    for uplift modeling": their curve "separate, relative" over the number of people.
    """
    total = _totals(compared, score)
    difference = _ratio(total.won, total.treated) - _ratio(total.usual, total.controls)
    share = total.people / total.people[-1]
    return Curve(share, share * difference)


def qini_curve(compared: Compared, score: Vector) -> Curve:
    """Outcome added a treated person: (Y_t(s) - Y_c(s) N_t(s) / N_c(s)) / N_t(1).

    Y and N: summed outcome and number of the arm's people among the best s. Radcliffe (2007),
    "Using control groups to target on predicted lift".
    """
    total = _totals(compared, score)
    added = total.won - total.usual * _ratio(total.treated, total.controls)
    return Curve(total.people / total.people[-1], added / max(total.treated[-1], 1e-12))


def qini(compared: Compared, score: Vector) -> float:
    """The area between the Qini curve and the line to its end; 0 for a random ranking."""
    curve = qini_curve(compared, score)
    return _area(curve.share, curve.gain) - float(curve.gain[-1]) / 2


def auuc(compared: Compared, score: Vector) -> float:
    """The area under the uplift curve; half the average effect for a random ranking."""
    return _area(*uplift_curve(compared, score))


def uplift_at(compared: Compared, score: Vector, share: float) -> float:
    """The effect on the best-scored ``share``: treated less controls among them, weighted means.

    Who ties at the edge counts by the share of the tie that is inside.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share} found, expected more than 0 and at most 1")
    return float(np.interp(share, *uplift_curve(compared, score))) / share


def aucc(compared: Compared, cost: Vector, score: Vector) -> float:
    """The area under incremental reward against incremental cost, both as shares of their totals.

    Treating everybody from the best score down buys reward at a cost: the curve's points are the
    uplift curves of ``outcome`` and of ``cost`` (what each row did cost). .5 for a random ranking;
    NaN where all together add no reward or no cost. Du, Lee and Ghaffarizadeh (2019), "Improve
    user retention with causal learning".
    """
    reward = uplift_curve(compared, score).gain
    paid = uplift_curve(compared._replace(outcome=cost), score).gain
    if reward[-1] <= 0 or paid[-1] <= 0:
        return float("nan")
    return _area(paid / paid[-1], reward / reward[-1])


def arm_scores(
    outcome: Vector, arm: Labels, probability: Matrix, expected: Matrix | float = 0.0
) -> Matrix:
    """[n, arms]: unbiased scores of each person's outcome under each arm.

    expected + (outcome - expected) 1{arm} / p. ``probability`` [n, arms]: as logged. ``expected``
    [n, arms]: outcomes predicted by models that did not see the row: doubly robust (Robins,
    Rotnitzky and Zhao 1994; Dudik, Langford and Li 2011); 0: inverse probability weighting
    (Horvitz and Thompson 1952). Raises ValueError where an arm that was drawn has no probability.
    """
    row = np.arange(len(arm))
    drawn = probability[row, arm]
    if not (drawn > 0).all():
        raise ValueError(
            f"{(~(drawn > 0)).sum()} rows are in an arm whose probability is 0 or missing; "
            "give each row the probability with which it was drawn"
        )
    scores = np.broadcast_to(np.asarray(expected, dtype=float), probability.shape).copy()
    scores[row, arm] += (outcome - scores[row, arm]) / drawn
    return scores


def policy_gains(scores: Matrix, choice: Labels) -> Vector:
    """[n]: score of each person's chosen arm less that of the control; its mean is the policy's
    value over treating nobody. ``choice``: 0, 1, ... an arm after the control, -1 none."""
    return scores[np.arange(len(choice)), choice + 1] - scores[:, CONTROL]


def ranking_gains(effects: Vector, score: Vector) -> Vector:
    """[n]: effects x (1 - place / n), whose mean is the policy value of the ranking, averaged over
    all budgets: what treating the best share gains, for a share drawn evenly from 0 to 1.

    ``effects``: a treatment's `arm_scores` less the control's. Ties share their places, so that a
    constant score is a random ranking: half the average effect. (AUUC with unbiased scores.)
    """
    place, count = np.unique(-score, return_inverse=True, return_counts=True)[1:]
    middle = np.cumsum(count) - count / 2
    return effects * (1 - middle[place] / len(score))


def clustered_mean(values: Vector, group: Labels, z: float = Z95) -> Interval:
    """The mean, with an error that knows who belongs to whom (Liang and Zeger 1986)."""
    place = np.unique(group, return_inverse=True)[1]
    mean = float(values.mean())
    sums = np.bincount(place, values - mean)
    groups = len(sums)
    inflation = groups / max(groups - 1, 1)
    error = float(np.sqrt(inflation * (sums**2).sum())) / len(values)
    return Interval(mean, error, mean - z * error, mean + z * error)


def bootstrap(
    statistic: Callable[[Vector], float], group: Labels, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """A statistic with its 95 % percentile interval, users drawn anew with all their rows.

    ``statistic`` takes how often each row counts. ``group``: the user (or household) of each row.
    Efron (1979); by cluster: Field and Welsh (2007).
    """
    place = np.unique(group, return_inverse=True)[1]
    groups = int(place.max()) + 1
    rng = np.random.default_rng(seed)
    found = np.array(
        [
            statistic(rng.multinomial(groups, np.full(groups, 1 / groups))[place].astype(float))
            for _ in range(draws)
        ]
    )
    low, high = np.nanquantile(found, [0.025, 0.975])
    value = statistic(np.ones(len(place)))
    return Interval(value, float(np.nanstd(found, ddof=1)), float(low), float(high))


def random_rankings(
    statistic: Callable[[Vector], float], group: Labels, draws: int = DRAWS, seed: int = 0
) -> Vector:
    """[draws]: what a statistic of a ranking is when the ranking is drawn, users in one piece."""
    place = np.unique(group, return_inverse=True)[1]
    groups = int(place.max()) + 1
    rng = np.random.default_rng(seed)
    return np.array([statistic(rng.random(groups)[place]) for _ in range(draws)])


class _Totals(NamedTuple):
    """Sums from the best score down, from zero on, a point a distinct score."""

    people: Vector
    treated: Vector
    controls: Vector
    won: Vector
    usual: Vector


def _totals(compared: Compared, score: Vector) -> _Totals:
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    treated = compared.weight * compared.treated
    controls = compared.weight - treated

    def total(values: Vector) -> Vector:
        return np.concatenate([[0.0], np.cumsum(values[order])[last]])

    return _Totals(
        total(compared.weight),
        total(treated),
        total(controls),
        total(treated * compared.outcome),
        total(controls * compared.outcome),
    )


def _ratio(over: Vector, under: Vector) -> Vector:
    return np.divide(over, under, out=np.zeros_like(over), where=under > 0)


def _area(x: Vector, y: Vector) -> float:
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2)
