"""How finely an offer's effect is told apart: for all alike, by segment, or by user.

User-level effects are earned by data, not by method: a finer level is in force only where its
ranking is worth more out of fold, by an interval that knows how many were tried. Else everybody
has the effect of the level above. Here: the comparison, what is in force, and whom it is known
for. Not here: learners (``learners.py``), metrics (``ranking.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.strategy.effects.estimators import normal_quantile
from promo_assets.strategy.effects.learners import OF_USERS, OUTER, Effects, Trial, fit
from promo_assets.strategy.effects.ranking import (
    CONTROL,
    Compared,
    Interval,
    Labels,
    Matrix,
    Vector,
    aucc,
    bootstrap,
    clustered_mean,
    qini,
    random_rankings,
    ranking_gains,
)

USER, SEGMENT, OFFER, PRIOR = "user", "segment", "offer", "prior"
LEAST_ROWS = 50
"""In a treatment's arm and in its control; below it the treatment has its prior."""
ERROR = 0.05
"""Probability of any finer level in force where none is better (two-sided, Bonferroni)."""


class InForce(NamedTuple):
    """What one treatment's effects are told by.

    ``learner``: None where users are not told apart; ``by_segment``: whether segments are.
    ``slope`` and ``segment_slope``: how much of the told differences is true (calibration).
    ``gains``: by candidate the policy value of its ranking over a random one's.
    """

    level: str
    learner: str | None
    slope: float
    by_segment: bool
    segment_slope: float
    reason: str
    gains: Mapping[str, Interval]


class Known(NamedTuple):
    """[m, treatments]: effects, and the level by which each is known."""

    effects: Matrix
    level: npt.NDArray[np.str_]


@dataclass(frozen=True)
class Levels:
    """What is in force for each treatment, and the models of it."""

    in_force: Sequence[InForce]
    prior: Vector
    models: Mapping[str, Effects]

    def effects(self, covariates: Matrix, segments: Labels) -> Known:
        """Effects by the finest level in force for the person.

        Who has no known covariate falls back to the segment, whose segment is unknown (-1) to the
        offer; a treatment that was not tried has its prior.
        """
        told = {name: model(covariates, segments) for name, model in self.models.items()}
        found = np.tile(self.prior, (len(covariates), 1))
        level = np.full(found.shape, PRIOR, dtype="<U7")
        warm, placed = ~np.isnan(covariates).all(axis=1), segments >= 0
        for column, standing in enumerate(self.in_force):
            if standing.level == PRIOR:
                continue
            usual = told["offer"][:, column]
            found[:, column], level[:, column] = usual, OFFER
            if standing.by_segment:
                apart = told["segment"][:, column] - usual
                found[placed, column] += (standing.segment_slope * apart)[placed]
                level[placed, column] = SEGMENT
            if standing.learner:
                apart = told[standing.learner][:, column] - usual
                found[warm, column] = (usual + standing.slope * apart)[warm]
                level[warm, column] = USER
        return Known(found, level)

    def told(self, names: Sequence[str]) -> list[str]:
        """One line a treatment: its name, the level in force, and why."""
        return [
            f"{name}: by {standing.level}"
            + (f" ({standing.learner}-learner)" if standing.learner else "")
            + f"; {standing.reason}"
            for name, standing in zip(names, self.in_force, strict=True)
        ]


def choose(trial: Trial, prior: Vector | None = None, learners: Sequence[str] = OF_USERS) -> Levels:
    """Compare the levels out of fold and fit what wins.

    ``prior`` [treatments]: effects before any trial, on the outcome's scale; 0 unless given. A
    level wins where the policy value of its ranking, averaged over all budgets (`ranking_gains`),
    is above that of the level in force before it, by the paired interval clustered by group at
    `ERROR` over all treatments and candidates. Of users' learners the one with the highest value
    is put to that test.
    """
    assumed = np.zeros(trial.treatments) if prior is None else prior
    told = {name: trial.out_of_fold(name) for name in ("segment", *learners)}
    in_force = [
        _standing(trial, treatment, told, learners) for treatment in range(1, trial.treatments + 1)
    ]
    used = {standing.learner for standing in in_force if standing.learner}
    if any(standing.by_segment for standing in in_force):
        used.add("segment")
    return Levels(in_force, assumed, {name: fit(name, trial) for name in ["offer", *sorted(used)]})


def best_of_users(standing: InForce) -> str:
    """The learner whose ranking of users is worth most."""
    gains = {name: gained for name, gained in standing.gains.items() if name != SEGMENT}
    return max(gains, key=lambda name: gains[name].value)


def compared(
    trial: Trial, candidates: Sequence[str], treatments: Sequence[str], cost: Vector | None = None
) -> pl.DataFrame:
    """One row a treatment and candidate: policy value of its ranking less a random one's, and
    Qini, each with its 95 % interval; Qini's 95th percentile of random rankings; AUCC.

    ``cost`` [n]: what each row did cost; without it no AUCC is told. All out of fold.
    """
    rows = []
    for name in candidates:
        told = trial.out_of_fold(name)
        for number, treatment in enumerate(treatments, 1):
            value = clustered_mean(_gained(trial, number, told[:, number - 1]), trial.group)
            rows.append(
                {"treatment": treatment, "candidate": name, **value.told("policy_value")}
                | _metrics(trial, number, told[:, number - 1], cost)
            )
    return pl.DataFrame(rows).sort("treatment", "policy_value", descending=[False, True])


def _standing(
    trial: Trial, treatment: int, told: Mapping[str, Matrix], learners: Sequence[str]
) -> InForce:
    """The finest level that won, from the offer down."""
    rows = min((trial.arm == arm).sum() for arm in (CONTROL, treatment))
    if rows < LEAST_ROWS:
        why = f"{rows} rows in an arm, {LEAST_ROWS} needed"
        return InForce(PRIOR, None, 0, False, 0, why, {})
    score = {name: effects[:, treatment - 1] for name, effects in told.items()}
    gains = {name: _gained(trial, treatment, values) for name, values in score.items()}
    z = normal_quantile(1 - ERROR / 2 / (trial.treatments * len(told)))
    segment = clustered_mean(gains["segment"], trial.group, z)
    above = gains["segment"] if segment.is_clear else np.zeros(len(trial.arm))
    best = max(learners, key=lambda name: gains[name].mean())
    user = clustered_mean(gains[best] - above, trial.group, z)
    level = USER if user.is_clear else SEGMENT if segment.is_clear else OFFER
    return InForce(
        level,
        best if user.is_clear else None,
        _slope(trial, treatment, score[best]),
        segment.is_clear,
        _slope(trial, treatment, score["segment"]),
        f"segments gain {_words(segment)}, users by {best} {_words(user)} more",
        {name: clustered_mean(gained, trial.group) for name, gained in gains.items()},
    )


def _gained(trial: Trial, treatment: int, score: Vector) -> Vector:
    """[n]: what the ranking gains over a random one, places taken within folds."""
    effects = trial.scores[:, treatment - 1]
    gains = np.zeros(len(effects))
    for inside in trial.folds(seed=OUTER):
        gains[inside] = ranking_gains(effects[inside], score[inside]) - effects[inside] / 2
    return gains


def _slope(trial: Trial, treatment: int, score: Vector) -> float:
    """How much of the told differences is true, 0 to 1: the slope of unbiased scores on effects
    told out of fold (best linear predictor: Chernozhukov, Demirer, Duflo and Fernandez-Val 2018).
    """
    over = under = 0.0
    for inside in trial.folds(seed=OUTER):
        if inside.any():
            apart = score[inside] - score[inside].mean()
            over += float(apart @ trial.scores[inside, treatment - 1])
            under += float(apart @ apart)
    return float(np.clip(over / under, 0, 1)) if under > 0 else 0.0


def _metrics(trial: Trial, treatment: int, score: Vector, cost: Vector | None) -> dict[str, Any]:
    inside, treated, chance = trial.pair(treatment)
    own = np.where(treated == 1, chance, 1 - chance)
    pair = Compared(trial.outcome[inside], treated == 1, 1 / own)
    group = trial.group[inside]
    found = bootstrap(lambda times: qini(pair.times(times), score[inside]), group)
    null = random_rankings(lambda drawn: qini(pair, drawn), group)
    told = found.told("qini") | {"qini_random_95": float(np.quantile(null, 0.95))}
    if cost is not None:
        paid = cost[inside]
        found = bootstrap(lambda times: aucc(pair.times(times), paid, score[inside]), group)
        told |= found.told("aucc")
    return told


def _words(interval: Interval) -> str:
    return f"{interval.value:+.4g} ({interval.low:+.4g} to {interval.high:+.4g})"
