"""Measures of a propensity, each a small function with its definition.

``y``: labels 0/1, shape (n,). ``p``: probabilities in [0, 1], shape (n,).
"""

from __future__ import annotations

import numpy as np

CALIBRATION_BINS = 10
BOOTSTRAPS = 200


def auc(y: np.ndarray, p: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a buyer is ranked above another user, ties
    counting half (Mann-Whitney U / n+ n-)."""
    positive = float(y.sum())
    negative = len(y) - positive
    if positive == 0 or negative == 0:
        return float("nan")
    return float((_ranks(p)[y == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))


def auc_interval(y: np.ndarray, p: np.ndarray, users: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the AUC, resampling whole users (200 draws): a user's weeks are
    alike, rows are not independent.

    The weighted AUC of a draw is computed from the scores sorted once.
    """
    _, codes = np.unique(users, return_inverse=True)
    order = np.argsort(p, kind="stable")
    sorted_y, sorted_codes = y[order], codes[order]
    _, first = np.unique(p[order], return_index=True)
    rng = np.random.default_rng(seed)
    size = codes.max() + 1
    draws = []
    for _ in range(BOOTSTRAPS):
        drawn = np.bincount(rng.integers(0, size, size), minlength=size)
        weight = drawn[sorted_codes].astype(float)
        positive = np.add.reduceat(weight * sorted_y, first)
        negative = np.add.reduceat(weight * (1 - sorted_y), first)
        below = np.cumsum(negative) - negative / 2
        draws.append((positive * below).sum() / (positive.sum() * negative.sum()))
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def average_precision(y: np.ndarray, p: np.ndarray) -> float:
    """Sum over thresholds of (recall step) x precision; ties share a threshold."""
    order = np.argsort(-p, kind="stable")
    last = np.flatnonzero(np.append(np.diff(p[order]) != 0, True))
    hits = np.cumsum(y[order])[last]
    precision = hits / (last + 1)
    return float(np.sum(np.diff(np.append(0.0, hits)) * precision) / y.sum())


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Mean of -log of the probability given to what happened, in nats."""
    clipped = np.clip(p, 1e-12, 1 - 1e-12)
    return float(-np.mean(y * np.log(clipped) + (1 - y) * np.log(1 - clipped)))


def brier(y: np.ndarray, p: np.ndarray) -> float:
    """Mean squared distance of probability and label (Brier 1950)."""
    return float(np.mean((p - y) ** 2))


def calibration_curve(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean score, share of buyers and rows in 10 bins of (nearly) equal size by score."""
    order = np.argsort(p, kind="stable")
    bins = np.array_split(order, min(CALIBRATION_BINS, len(y)))
    return (
        np.array([p[index].mean() for index in bins]),
        np.array([y[index].mean() for index in bins]),
        np.array([len(index) for index in bins]),
    )


def calibration_error(y: np.ndarray, p: np.ndarray) -> float:
    """Expected calibration error: mean |score - share of buyers| over the bins, by rows."""
    scores, shares, rows = calibration_curve(y, p)
    return float(np.sum(np.abs(scores - shares) * rows) / len(y))


def best_f1_threshold(y: np.ndarray, p: np.ndarray) -> float:
    """The threshold with the highest F1 (predict "buys" at or above it)."""
    order = np.argsort(-p, kind="stable")
    last = np.flatnonzero(np.append(np.diff(p[order]) != 0, True))
    hits = np.cumsum(y[order])[last]
    f1 = 2 * hits / (last + 1 + y.sum())
    return float(p[order][last[np.argmax(f1)]])


def confusion(y: np.ndarray, p: np.ndarray, threshold: float) -> dict[str, int]:
    """Counts of true/false positives/negatives, predicting "buys" at or above ``threshold``."""
    predicted = p >= threshold
    actual = y == 1
    return {
        "true_positives": int((predicted & actual).sum()),
        "false_positives": int((predicted & ~actual).sum()),
        "false_negatives": int((~predicted & actual).sum()),
        "true_negatives": int((~predicted & ~actual).sum()),
    }


def decisions(counts: dict[str, int]) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of a confusion matrix; 0 where undefined."""
    tp, fp = counts["true_positives"], counts["false_positives"]
    fn, tn = counts["false_negatives"], counts["true_negatives"]
    return {
        "accuracy": (tp + tn) / max(tp + fp + fn + tn, 1),
        "precision": tp / max(tp + fp, 1),
        "recall": tp / max(tp + fn, 1),
        "f1": 2 * tp / max(2 * tp + fp + fn, 1),
    }


def gain_curve(y: np.ndarray, p: np.ndarray, points: int = 101) -> tuple[np.ndarray, np.ndarray]:
    """Share of all buyers among the top share of users by score; both shape (points,)."""
    hits = np.append(0.0, np.cumsum(y[np.argsort(-p, kind="stable")])) / y.sum()
    shares = np.linspace(0, 1, points)
    return shares, hits[np.round(shares * len(y)).astype(int)]


def gains(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Gain and lift of the top 10, 20 and 30 % by score: the share of all buyers among them, and
    that share over what a random choice of as many would hold."""
    shares, reached = gain_curve(y, p)
    told = {}
    for percent in (10, 20, 30):
        told[f"gain_{percent}"] = float(reached[percent])
        told[f"lift_{percent}"] = float(reached[percent] / shares[percent])
    return told


def roc_curve(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates over falling thresholds, from (0, 0) to (1, 1)."""
    order = np.argsort(-p, kind="stable")
    last = np.flatnonzero(np.append(np.diff(p[order]) != 0, True))
    hits = np.cumsum(y[order])[last]
    misses = last + 1 - hits
    return np.append(0.0, misses / (len(y) - y.sum())), np.append(0.0, hits / y.sum())


def precision_recall_curve(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision over falling thresholds."""
    order = np.argsort(-p, kind="stable")
    last = np.flatnonzero(np.append(np.diff(p[order]) != 0, True))
    hits = np.cumsum(y[order])[last]
    return hits / y.sum(), hits / (last + 1)


def measures(y: np.ndarray, p: np.ndarray, threshold: float) -> dict[str, float]:
    """Every measure of a calibrated score at a threshold."""
    return {
        "auc": auc(y, p),
        "average_precision": average_precision(y, p),
        "log_loss": log_loss(y, p),
        "brier": brier(y, p),
        "calibration_error": calibration_error(y, p),
        "base_rate": float(y.mean()),
        **decisions(confusion(y, p, threshold)),
        **gains(y, p),
    }


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + 1 + ends) / 2)[inverse]
