"""What each treatment does for whom: learners of effects, behind one interface.

A learner takes a randomised `Trial` and gives `Effects`: covariates in, [n, treatments] out, on
the outcome's scale. S, T, X, DR and R on LightGBM, baselines, and the levels above the user:
``offer`` (everybody alike) and ``segment``. Models of outcomes that correct other models are
cross-fitted by group. Deterministic. Not here: which learner is used (``levels.py``), how
rankings are judged (``ranking.py``), the model of the daily decision (``response.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from promo_assets.strategy.effects.estimators import (
    Normal,
    between_variance,
    precision_mean,
    shrunk,
)
from promo_assets.strategy.effects.ranking import (
    CONTROL,
    Labels,
    Mask,
    Matrix,
    Vector,
    arm_scores,
    clustered_mean,
)

FOLDS = 3
OUTER = 1
"""The seed of the folds by which learners are compared; that of their own models is 0."""
TREES = 40
SETTINGS: Mapping[str, Any] = {
    "objective": "regression",
    "learning_rate": 0.08,
    "num_leaves": 8,
    "lambda_l2": 10.0,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
    "seed": 1,
}
"""Shallow and few trees: effects are small beside the outcome's noise."""
SMOOTH: Mapping[str, Any] = {"num_leaves": 4, "learning_rate": 0.05}
"""Of models whose target is an effect: it varies less than an outcome, and is noisier."""
LEAF_SHARE, SMOOTH_SHARE, LEAST_LEAF = 0.01, 0.05, 20
"""A leaf holds at least this share of the rows (where the target is an effect), and so many."""

Effects = Callable[[Matrix, Labels], Matrix]
"""Covariates [m, p] and segments [m] -> effects of each treatment [m, treatments]."""


@dataclass(frozen=True)
class Trial:
    """A randomised experiment, a row a person (and day).

    ``covariates`` [n, p], known before the draw; NaN is unknown. ``arm`` [n]: 0 the control, then
    the treatments. ``probability`` [n, arms]: with which each arm was drawn, as logged; 0 where it
    could not be drawn. ``group`` [n]: the person or household; its rows stay in one fold.
    ``segment`` [n]: a number; -1 unknown. ``chains``: treatments that are the same offer, less
    deep to deeper, by number from 1: a deeper one never lowers the response. ``parts``: into so
    many folds it is cut; two are enough for 100,000 rows, and twice as quick as three.
    """

    covariates: Matrix
    arm: Labels
    outcome: Vector
    probability: Matrix
    group: Labels
    segment: Labels
    chains: Sequence[Sequence[int]] = field(default=())
    parts: int = FOLDS

    @property
    def treatments(self) -> int:
        return self.probability.shape[1] - 1

    def rows(self, where: Mask | Labels) -> Trial:
        """Some of the rows."""
        names = ("covariates", "arm", "outcome", "probability", "group", "segment")
        return replace(self, **{name: getattr(self, name)[where] for name in names})

    def pair(self, treatment: int) -> tuple[Mask, Vector, Vector]:
        """Rows in a treatment (from 1) or in the control that could have been in either; of those
        whether treated, and the probability of that given one of both."""
        inside = np.isin(self.arm, (CONTROL, treatment))
        inside &= (self.probability[:, [CONTROL, treatment]] > 0).all(axis=1)
        chance = self.probability[inside, treatment]
        chance = chance / (chance + self.probability[inside, CONTROL])
        return inside, (self.arm[inside] == treatment).astype(float), chance

    def folds(self, seed: int = 0) -> Iterator[Mask]:
        """The rows of each fold, groups in one piece."""
        fold = folds_of(self.group, self.parts, seed)
        return (fold == part for part in range(self.parts))

    def out_of_fold(self, name: str) -> Matrix:
        """[n, treatments]: effects by a learner that did not see the row's group."""
        found = np.zeros((len(self.arm), self.treatments))
        for inside, rest in self._outer:
            effects = fit(name, rest)
            found[inside] = effects(self.covariates[inside], self.segment[inside])
        return found

    @cached_property
    def expected(self) -> Matrix:
        """[n, arms]: outcome under each arm, from models of the arm's rows in other folds."""
        found: Matrix = np.zeros_like(self.probability)
        for inside in self.folds():
            rest = self.rows(~inside)
            for arm in range(found.shape[1]):
                found[inside, arm] = _fitted_arm(rest, arm)(self.covariates[inside])
        return found

    @cached_property
    def _outer(self) -> list[tuple[Mask, Trial]]:
        """Each fold's rows, and the trial without them: its models serve all learners."""
        return [(inside, self.rows(~inside)) for inside in self.folds(seed=OUTER)]

    @cached_property
    def scores(self) -> Matrix:
        """[n, treatments]: doubly robust effects of single rows, noisy but unbiased."""
        scores = arm_scores(self.outcome, self.arm, self.probability, self.expected)
        return scores[:, 1:] - scores[:, [CONTROL]]


def folds_of(group: Labels, count: int, seed: int) -> Labels:
    """A fold for each row, by group."""
    place = np.unique(group, return_inverse=True)[1]
    return np.random.default_rng(seed).integers(0, count, place.max(initial=0) + 1)[place]


def offer(trial: Trial) -> Effects:
    """Everybody alike: the average effect of each treatment."""
    mean = trial.scores.mean(axis=0)
    return lambda covariates, segments: np.tile(mean, (len(covariates), 1))


def segment(trial: Trial) -> Effects:
    """The average effect in each segment, drawn towards the offer's by how much segments really
    differ (empirical Bayes: Efron and Morris 1975); a segment that was not seen has the offer's."""
    columns = [_segment_effects(trial, scores) for scores in trial.scores.T]

    def effects(covariates: Matrix, segments: Labels) -> Matrix:
        named = segments.tolist()
        return np.column_stack([[own.get(name, usual) for name in named] for own, usual in columns])

    return effects


def s_learner(trial: Trial) -> Effects:
    """One model of outcomes with the arm among the covariates; effects are its differences.

    Within a chain the arm is told in steps (at least this deep), on which the model is monotone.
    """
    steps, rising = _steps(trial.treatments, trial.chains)
    columns = np.column_stack([trial.covariates, steps[trial.arm]])
    constraints = [0] * trial.covariates.shape[1] + rising
    weight = 1 / trial.probability[np.arange(len(trial.arm)), trial.arm]
    model = _regression(columns, trial.outcome, weight, monotone_constraints=constraints)

    def effects(covariates: Matrix, segments: Labels) -> Matrix:
        under = [
            model(np.column_stack([covariates, np.tile(step, (len(covariates), 1))]))
            for step in steps
        ]
        return np.column_stack(under[1:]) - under[CONTROL][:, None]

    return effects


def t_learner(trial: Trial) -> Effects:
    """A model of outcomes for each arm; effects are their differences."""
    models = [_fitted_arm(trial, arm) for arm in range(trial.treatments + 1)]

    def effects(covariates: Matrix, segments: Labels) -> Matrix:
        under = np.column_stack([model(covariates) for model in models])
        return under[:, 1:] - under[:, [CONTROL]]

    return effects


def x_learner(trial: Trial) -> Effects:
    """Models of the effects imputed for the treated and for the controls, joined by the
    probability of treatment (Kuenzel, Sekhon, Bickel and Yu 2019)."""

    def fit(treatment: int) -> Callable[[Matrix], Vector]:
        inside, treated, chance = trial.pair(treatment)
        columns, outcome = trial.covariates[inside], trial.outcome[inside]
        usual, under = trial.expected[inside][:, [CONTROL, treatment]].T
        imputed = np.where(treated == 1, outcome - usual, under - outcome)
        arms = [treated == arm for arm in (0, 1)]
        of_controls, of_treated = (_smooth(columns[arm], imputed[arm]) for arm in arms)
        share = float(chance.mean()) if len(chance) else 0.0
        return lambda new: share * of_controls(new) + (1 - share) * of_treated(new)

    return _by_treatment(trial, fit)


def dr_learner(trial: Trial) -> Effects:
    """A model of the doubly robust scores (Kennedy 2023)."""

    def fit(treatment: int) -> Callable[[Matrix], Vector]:
        could = (trial.probability[:, [CONTROL, treatment]] > 0).all(axis=1)
        return _smooth(trial.covariates[could], trial.scores[could, treatment - 1])

    return _by_treatment(trial, fit)


def r_learner(trial: Trial) -> Effects:
    """What minimises the squared error of residual outcome - effect x residual treatment, each
    treatment against the control (Nie and Wager 2021), by weighted regression."""

    def fit(treatment: int) -> Callable[[Matrix], Vector]:
        inside, treated, chance = trial.pair(treatment)
        usual, under = trial.expected[inside][:, [CONTROL, treatment]].T
        residual = trial.outcome[inside] - (chance * under + (1 - chance) * usual)
        weight = (treated - chance) ** 2
        return _smooth(trial.covariates[inside], residual / (treated - chance), weight)

    return _by_treatment(trial, fit)


def class_transformation(trial: Trial) -> Effects:
    """Baseline: a model of the transformed outcome, Y (W - e) / (e (1 - e)), whose mean is the
    effect (Jaskowski and Jaroszewicz 2012 for classes; Athey and Imbens 2016)."""

    def fit(treatment: int) -> Callable[[Matrix], Vector]:
        inside, treated, chance = trial.pair(treatment)
        outcome = trial.outcome[inside] * (treated - chance) / (chance * (1 - chance))
        return _smooth(trial.covariates[inside], outcome)

    return _by_treatment(trial, fit)


def plain_response(trial: Trial) -> Effects:
    """Baseline: the outcome expected under treatment, as if nobody came without it."""
    return _by_treatment(trial, lambda treatment: _fitted_arm(trial, treatment))


LEARNERS: Mapping[str, Callable[[Trial], Effects]] = {
    "offer": offer,
    "segment": segment,
    "S": s_learner,
    "T": t_learner,
    "X": x_learner,
    "DR": dr_learner,
    "R": r_learner,
    "class transformation": class_transformation,
    "plain response": plain_response,
}
"""The levels above the user, learners of users, and two baselines."""
OF_USERS = ("S", "T", "X", "DR", "R")


def fit(name: str, trial: Trial) -> Effects:
    """Fit a learner of `LEARNERS` by name.

    Its mean over the trial is set to the doubly robust average effect: a learner tells people
    apart, the average is known better without it (S draws it to zero). Effects within a chain are
    put in rising order, which never takes them further from effects that rise with depth
    (Chernozhukov, Fernandez-Val and Galichon 2009).
    """
    effects = LEARNERS[name](trial)
    told = effects(trial.covariates, trial.segment)
    level = (trial.scores - told).mean(axis=0) if len(told) else np.zeros(trial.treatments)

    def levelled(covariates: Matrix, segments: Labels) -> Matrix:
        found = effects(covariates, segments) + level
        for chain in trial.chains:
            columns = np.array(chain) - 1
            found[:, columns] = np.sort(found[:, columns], axis=1)
        return found

    return levelled


def _by_treatment(trial: Trial, fit: Callable[[int], Callable[[Matrix], Vector]]) -> Effects:
    models = [fit(treatment) for treatment in range(1, trial.treatments + 1)]
    return lambda covariates, segments: np.column_stack([model(covariates) for model in models])


def _fitted_arm(trial: Trial, arm: int) -> Callable[[Matrix], Vector]:
    inside = trial.arm == arm
    weight = 1 / trial.probability[inside, arm]
    return _regression(trial.covariates[inside], trial.outcome[inside], weight)


def _regression(
    columns: Matrix,
    target: Vector,
    weight: Vector | None = None,
    share: float = LEAF_SHARE,
    **settings: Any,
) -> Callable[[Matrix], Vector]:
    """A LightGBM model of the mean; the mean itself where rows are too few for two leaves."""
    least = max(LEAST_LEAF, int(share * len(target)))
    if len(target) < 2 * least:
        mean = float(np.average(target, weights=weight)) if len(target) else 0.0
        return lambda new: np.full(len(new), mean)
    import lightgbm

    data = lightgbm.Dataset(columns, target, weight=weight)
    model = lightgbm.train({**SETTINGS, "min_data_in_leaf": least, **settings}, data, TREES)
    return lambda new: np.asarray(model.predict(new, num_threads=1), dtype=np.float64)


def _smooth(
    columns: Matrix, target: Vector, weight: Vector | None = None
) -> Callable[[Matrix], Vector]:
    """A model whose target is an effect."""
    return _regression(columns, target, weight, SMOOTH_SHARE, **SMOOTH)


def _steps(treatments: int, chains: Sequence[Sequence[int]]) -> tuple[Matrix, list[int]]:
    """[arms, treatments]: how a model is told the arm, and the sign of each column's constraint.

    A treatment has a column of its own, which deeper ones of its chain share: the first of a chain
    may do harm, the others do no worse than it.
    """
    steps, rising = np.eye(treatments + 1)[:, 1:], [0] * treatments
    for chain in chains:
        for place, treatment in enumerate(chain):
            steps[list(chain[place:]), treatment - 1] = 1.0
            rising[treatment - 1] = int(place > 0)
    return steps, rising


def _segment_effects(trial: Trial, scores: Vector) -> tuple[dict[int, float], float]:
    """Shrunk effects by segment, and the offer's."""
    usual = clustered_mean(scores, trial.group)
    known, means = [], []
    for name in np.unique(trial.segment[trial.segment >= 0]).tolist():
        inside = trial.segment == name
        told = clustered_mean(scores[inside], trial.group[inside])
        if told.error > 0:
            known.append(name)
            means.append(told)
    if not means:
        return {}, usual.value
    values = np.array([told.value for told in means])
    variances = np.array([told.error**2 for told in means])
    spread = between_variance(values, variances, np.zeros(len(means), dtype=np.int64))
    level = precision_mean(values, variances + spread)
    own = {
        name: shrunk(Normal(told.value, told.error), level, spread).mean
        for name, told in zip(known, means, strict=True)
    }
    return own, usual.value
