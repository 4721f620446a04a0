"""A budgeted search for LightGBM's parameters over rolling origins.

By optuna's tree-structured Parzen estimator (Bergstra et al. 2011) from the parameters in force on,
with hopeless trials pruned after an origin (median rule). What is found is judged on later origins
than it was searched on; nothing is put in force by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from promo_assets.propensity.candidates import Candidate, fit_lightgbm
from promo_assets.propensity.comparison import Comparison, compare
from promo_assets.propensity.dataset import Fold
from promo_assets.propensity.training import LIGHTGBM

if TYPE_CHECKING:
    import optuna

IN_FORCE, FOUND = "in force", "found"
UNJUDGED = 3
"""Trials before any is pruned."""


@dataclass(frozen=True)
class Search:
    """``parameters`` had the lowest mean log loss of the ``trials`` on the searched origins, of
    which ``log_losses`` holds each one's (a pruned one's: of the origins that it saw), the first
    being the parameters in force. ``judged`` compares the two on later origins."""

    parameters: Mapping[str, Any]
    log_losses: tuple[float, ...]
    judged: Comparison

    @property
    def trials(self) -> int:
        return len(self.log_losses)


def search(
    frame: pl.DataFrame, folds: Sequence[Fold], judged_on: int, trials: int, seed: int = 20240229
) -> Search:
    """Search on all ``folds`` but the newest ``judged_on``, which judge.

    Raises ValueError where either part would be without an origin. Deterministic.
    """
    import optuna

    if not 0 < judged_on < len(folds) or trials < 1:
        raise ValueError(
            f"{len(folds)} origins of which {judged_on} judge, {trials} trials: expected at least "
            "one trial, and one origin on either side"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNJUDGED),
    )
    study.enqueue_trial({name: LIGHTGBM[name] for name in SPACE})
    searched = folds[:-judged_on]
    study.optimize(
        lambda trial: _mean_loss(trial, frame, searched, seed), n_trials=trials, n_jobs=1
    )
    found = {**LIGHTGBM, **study.best_params}
    rivals = (_candidate(IN_FORCE, LIGHTGBM), _candidate(FOUND, found))
    return Search(
        found,
        tuple(float(trial.value) for trial in study.trials if trial.value is not None),
        compare(frame, folds[-judged_on:], rivals, seed),
    )


SPACE: Mapping[str, tuple[float, float]] = {
    "learning_rate": (0.02, 0.15),
    "num_leaves": (4, 31),
    "min_data_in_leaf": (20, 500),
    "feature_fraction": (0.1, 0.8),
    "bagging_fraction": (0.5, 1.0),
    "lambda_l2": (0.1, 100.0),
}
"""Least and largest of each parameter; whole numbers where both are."""


def _mean_loss(trial: optuna.Trial, frame: pl.DataFrame, folds: Sequence[Fold], seed: int) -> float:
    """Mean log loss of a trial's parameters over origins, calibrated as candidates are."""
    import optuna

    candidate = _candidate("trial", {**LIGHTGBM, **_drawn(trial)})
    losses: list[float] = []
    for number, fold in enumerate(folds):
        losses += compare(frame, [fold], [candidate], seed).values("log_loss")["trial"]
        trial.report(float(np.mean(losses)), number)
        if trial.should_prune():
            raise optuna.TrialPruned
    return float(np.mean(losses))


def _drawn(trial: optuna.Trial) -> dict[str, float]:
    """A point of `SPACE`, evenly in logarithms but for shares."""
    return {
        name: (
            trial.suggest_int(name, low, high, log=True)
            if isinstance(low, int) and isinstance(high, int)
            else trial.suggest_float(name, low, high, log=high > 1 or high < 0.5)
        )
        for name, (low, high) in SPACE.items()
    }


def _candidate(name: str, parameters: Mapping[str, Any]) -> Candidate:
    return Candidate(name, partial(fit_lightgbm, parameters=parameters), parameters)
