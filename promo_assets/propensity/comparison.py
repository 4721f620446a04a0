"""Candidates compared over rolling origins, and the one that the numbers speak for."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from promo_assets.learning import evaluation
from promo_assets.propensity.calibration import choose_calibration
from promo_assets.propensity.candidates import CANDIDATES, Candidate
from promo_assets.propensity.dataset import Fold, TrainingError, feature_names, labels

METRICS = ("log_loss", "brier", "auc", "average_precision", "calibration_error", "f1")


@dataclass(frozen=True)
class Score:
    """A candidate on one fold: `METRICS` and ``seconds`` (of fitting and scoring, by the clock),
    how its probability was calibrated, and -log of what happened by test row (nats)."""

    metrics: Mapping[str, float]
    calibration: str
    losses: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """``scores`` by candidate, one for each fold; ``users`` of all test rows in their order."""

    folds: tuple[Fold, ...]
    scores: Mapping[str, tuple[Score, ...]]
    users: np.ndarray
    rows: int
    features: int
    seed: int

    def values(self, metric: str) -> dict[str, list[float]]:
        """A metric by candidate and fold."""
        return {
            name: [score.metrics[metric] for score in scores]
            for name, scores in self.scores.items()
        }

    def difference(self, name: str, other: str) -> tuple[float, float, float]:
        """Mean log loss of ``name`` less that of ``other`` over all test rows (nats, negative is
        better), and its 95 % interval with users resampled."""
        one, two = (
            np.concatenate([score.losses for score in self.scores[who]]) for who in (name, other)
        )
        low, high = evaluation.paired_interval(one - two, self.users, self.seed)
        return float((one - two).mean()), low, high


@dataclass(frozen=True)
class Selection:
    """``best`` has the lowest mean log loss over folds, ``chosen`` is the simplest within one
    standard error of it. ``mean`` and ``error`` (standard error of the mean) are by candidate."""

    chosen: str
    best: str
    why: str
    mean: Mapping[str, float]
    error: Mapping[str, float]


def compare(
    frame: pl.DataFrame,
    folds: Sequence[Fold],
    candidates: Sequence[Candidate] = CANDIDATES,
    seed: int = 20240229,
) -> Comparison:
    """Fit, calibrate and measure every candidate on every fold of labelled snapshots.

    All have the same rows, features and labels. How a candidate is calibrated, and its threshold
    of F1, is chosen on the fold's calibration part. The same input gives the same result, but for
    the seconds. Raises `TrainingError` where a part holds one class only.
    """
    frame = frame.sort("as_of_date", "user_id")
    names = feature_names(frame)
    scores: dict[str, list[Score]] = {candidate.name: [] for candidate in candidates}
    tested = []
    for fold in folds:
        train, calibration, test = _parts(frame, fold)
        tested.append(test["user_id"].to_numpy())
        for candidate in candidates:
            scores[candidate.name].append(_score(candidate, train, calibration, test, names, seed))
    return Comparison(
        folds=tuple(folds),
        scores={name: tuple(told) for name, told in scores.items()},
        users=np.concatenate(tested),
        rows=frame.height,
        features=len(names),
        seed=seed,
    )


def select(log_losses: Mapping[str, Sequence[float]]) -> Selection:
    """The one-standard-error rule (Breiman et al. 1984) on log losses by candidate, simplest first,
    and fold: the first whose mean is at most the best mean plus the best one's standard error.

    Raises ValueError with fewer than two folds, which have no standard error.
    """
    mean, error = {}, {}
    for name, values in log_losses.items():
        mean[name], error[name] = mean_and_error(values)
    best = min(mean, key=lambda name: mean[name])
    limit = mean[best] + error[best]
    chosen = next(name for name in mean if mean[name] <= limit)
    told = f"{mean[best]:.4f} (standard error {error[best]:.4f})"
    why = (
        f"{best} has the lowest log loss, {told}, and nothing simpler is within one standard error"
        if chosen == best
        else f"{chosen} ({mean[chosen]:.4f}) is the simplest within one standard error of {best}, "
        f"{told}"
    )
    return Selection(chosen, best, why, mean, error)


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean over folds and its standard error. Raises ValueError with fewer than two."""
    if len(values) < 2:
        raise ValueError(f"{len(values)} folds, expected at least 2 for a standard error")
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def gap_closed(mean: Mapping[str, float], rules: Sequence[str]) -> dict[str, float]:
    """By candidate: the share of the way from the best of ``rules`` to the best of all that its
    mean log loss has gone. NaN where a rule is the best of all."""
    start, end = min(mean[rule] for rule in rules), min(mean.values())
    way = start - end if start > end else math.nan
    return {name: (start - value) / way for name, value in mean.items()}


def _parts(frame: pl.DataFrame, fold: Fold) -> tuple[pl.DataFrame, ...]:
    parts = {
        "train": frame.filter(pl.col("as_of_date").is_in(fold.train)),
        "calibration": frame.filter(pl.col("as_of_date").is_in(fold.calibration)),
        "test": frame.filter(pl.col("as_of_date").is_in(fold.test)),
    }
    for name, part in parts.items():
        if part["label"].n_unique() != 2:
            raise TrainingError(
                f"the {name} part ({part.height} rows) of the origin {fold.test[0]} holds one "
                "class only"
            )
    return tuple(parts.values())


def _score(
    candidate: Candidate,
    train: pl.DataFrame,
    calibration: pl.DataFrame,
    test: pl.DataFrame,
    names: Sequence[str],
    seed: int,
) -> Score:
    began = time.perf_counter()
    predict = candidate.fit(train, names, seed)
    held, raw = predict(calibration), predict(test)
    seconds = time.perf_counter() - began
    held_y, y = labels(calibration), labels(test)
    choice = choose_calibration(held_y, held, calibration["user_id"].to_numpy(), seed)
    p = choice.calibrate(raw)
    threshold = evaluation.best_f1_threshold(held_y, choice.calibrate(held))
    measured = evaluation.measures(y, p, threshold)
    return Score(
        {name: measured[name] for name in METRICS} | {"seconds": seconds},
        choice.method,
        evaluation.log_losses(y, p),
    )
