"""Putting a probability right on rows that its model has not seen, and choosing how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from promo_assets.learning import evaluation
from promo_assets.propensity.training import fit_platt

Calibrator = Callable[[np.ndarray], np.ndarray]
"""From probabilities to better ones, shape (rows,)."""

GROUPS = 5
"""Of users, each measured by what was fitted to the others."""

FEWEST = 50
"""Rows of either class below which nothing is fitted."""


@dataclass(frozen=True)
class CalibrationChoice:
    """``log_loss`` holds each method's mean on held-out users; ``calibrate`` is the chosen one,
    fitted to all rows."""

    method: str
    log_loss: Mapping[str, float]
    calibrate: Calibrator


def uncalibrated(y: np.ndarray, p: np.ndarray) -> Calibrator:
    """The probability as it is."""
    return lambda probability: probability


def platt(y: np.ndarray, p: np.ndarray) -> Calibrator:
    """A logistic curve on the log-odds (Platt 1999): two numbers."""
    slope, intercept = fit_platt(y, _log_odds(p))
    return lambda probability: 1 / (1 + np.exp(-(slope * _log_odds(probability) + intercept)))


def beta(y: np.ndarray, p: np.ndarray) -> Calibrator:
    """A logistic regression on ln p and -ln(1 - p) (Kull, Silva Filho and Flach 2017): three
    numbers. One whose weight is negative is left out, as they do: the curve never falls."""
    from sklearn.linear_model import LogisticRegression

    kept = [0, 1]
    while kept:
        model = LogisticRegression(C=np.inf, max_iter=1000).fit(_beta_terms(p)[:, kept], y)
        if (model.coef_[0] >= 0).all():
            return lambda probability: model.predict_proba(_beta_terms(probability)[:, kept])[:, 1]
        del kept[int(np.argmin(model.coef_[0]))]
    return lambda probability: np.full(len(probability), y.mean())


def isotonic(y: np.ndarray, p: np.ndarray) -> Calibrator:
    """The best curve that never falls (Zadrozny and Elkan 2002): as many numbers as steps. Kept as
    far from 0 and 1 as a share of ``n`` rows can tell: 1 / (n + 2)."""
    from sklearn.isotonic import IsotonicRegression

    edge = 1 / (len(y) + 2)
    model = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(p, y)
    return lambda probability: np.asarray(model.predict(probability))


METHODS: Mapping[str, Callable[[np.ndarray, np.ndarray], Calibrator]] = {
    "none": uncalibrated,
    "platt": platt,
    "beta": beta,
    "isotonic": isotonic,
}
"""Simplest first: by how many numbers are fitted."""


def choose_calibration(
    y: np.ndarray, p: np.ndarray, users: np.ndarray, seed: int
) -> CalibrationChoice:
    """The simplest of `METHODS` whose log loss is within one standard error of the best one's.

    Log losses are of held-out users (5 groups, drawn; buyers dealt evenly), as a step function
    always fits its own rows best. The standard error is that of the paired difference to the best,
    users taken as clusters. With fewer than 50 rows of a class the probability stays as it is.
    """
    if min(y.sum(), len(y) - y.sum()) < FEWEST:
        return CalibrationChoice("none", {"none": evaluation.log_loss(y, p)}, uncalibrated(y, p))
    group = _groups(y, users, seed)
    losses = {}
    for name, fit in METHODS.items():
        held_out = np.empty(len(y))
        for held in range(GROUPS):
            inside = group == held
            held_out[inside] = fit(y[~inside], p[~inside])(p[inside])
        losses[name] = evaluation.log_losses(y, held_out)
    best = min(losses, key=lambda name: losses[name].mean())
    method = next(
        name
        for name in METHODS
        if (worse := losses[name] - losses[best]).mean() <= _clustered_error(worse, users)
    )
    return CalibrationChoice(
        method,
        {name: float(loss.mean()) for name, loss in losses.items()},
        METHODS[method](y, p),
    )


def _groups(y: np.ndarray, users: np.ndarray, seed: int) -> np.ndarray:
    """Each row's group, shape (rows,): users in random order, those who bought first, dealt."""
    _, codes = np.unique(users, return_inverse=True)
    bought = np.bincount(codes, y) > 0
    drawn = np.random.default_rng(seed).random(len(bought))
    dealt = np.empty(len(bought), np.int64)
    dealt[np.lexsort((drawn, ~bought))] = np.arange(len(bought)) % GROUPS
    return dealt[codes]


def _clustered_error(values: np.ndarray, users: np.ndarray) -> float:
    """Standard error of the mean over rows, rows of a user taken as one."""
    _, codes = np.unique(users, return_inverse=True)
    sums = np.bincount(codes, values - values.mean())
    return float(np.sqrt(np.sum(sums**2)) / len(values))


def _inside(p: np.ndarray) -> np.ndarray:
    return np.clip(p, 1e-6, 1 - 1e-6)


def _log_odds(p: np.ndarray) -> np.ndarray:
    inside = _inside(p)
    return np.log(inside / (1 - inside))


def _beta_terms(p: np.ndarray) -> np.ndarray:
    inside = _inside(p)
    return np.column_stack([np.log(inside), -np.log1p(-inside)])
