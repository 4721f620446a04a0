"""Measures of a propensity, each with its definition: scikit-learn's where it has them.

Our own: the interval that resamples whole users, calibration in bins of equal size, and gains.

``y``: labels 0/1, shape (n,). ``p``: probabilities in [0, 1], shape (n,).
"""

from __future__ import annotations

import numpy as np

CALIBRATION_BINS = 10
BOOTSTRAPS = 200
PAIRED_BOOTSTRAPS = 1000


def auc(y: np.ndarray, p: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a buyer is ranked above another user, ties
    counting half; NaN where there are no two classes."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(y, p)) if 0 < y.sum() < len(y) else float("nan")


def auc_interval(
    y: np.ndarray, p: np.ndarray, users: np.ndarray, seed: int
) -> tuple[float, float] | None:
    """95 % percentile interval of the AUC, resampling whole users (200 draws): a user's weeks are
    alike, rows are not independent. None where a draw holds no buyer or nobody else, which has no
    AUC: so few of them give no interval.

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
        pairs = positive.sum() * negative.sum()
        if not pairs:
            return None
        below = np.cumsum(negative) - negative / 2
        draws.append((positive * below).sum() / pairs)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def average_precision(y: np.ndarray, p: np.ndarray) -> float:
    """Sum over thresholds of (recall step) x precision; ties share a threshold."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(y, p))


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Mean of -log of the probability given to what happened, in nats."""
    return float(log_losses(y, p).mean())


def log_losses(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """-log of the probability given to what happened, by row, in nats."""
    clipped = np.clip(p, 1e-12, 1 - 1e-12)
    return -np.log(np.where(y == 1, clipped, 1 - clipped))


def paired_interval(difference: np.ndarray, users: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean over rows of ``difference`` (shape (n,), one model's
    loss less another's on the same row), resampling whole users (1,000 draws)."""
    _, codes = np.unique(users, return_inverse=True)
    total, rows = np.bincount(codes, difference), np.bincount(codes)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(PAIRED_BOOTSTRAPS):
        drawn = rng.integers(0, len(rows), len(rows))
        means.append(total[drawn].sum() / rows[drawn].sum())
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def brier(y: np.ndarray, p: np.ndarray) -> float:
    """Mean squared distance of probability and label (Brier 1950)."""
    from sklearn.metrics import brier_score_loss

    return float(brier_score_loss(y, p, pos_label=1))


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
    from sklearn import metrics

    precision, recall, thresholds = metrics.precision_recall_curve(y, p)
    total = precision[:-1] + recall[:-1]
    f1 = 2 * precision[:-1] * recall[:-1] / np.where(total > 0, total, 1.0)
    best = np.flatnonzero(f1 == f1.max())[-1]  # Of equally good ones the highest.
    return float(thresholds[best])


def confusion(y: np.ndarray, p: np.ndarray, threshold: float) -> dict[str, int]:
    """Counts of true/false positives/negatives, predicting "buys" at or above ``threshold``."""
    from sklearn.metrics import confusion_matrix

    (tn, fp), (fn, tp) = confusion_matrix(y == 1, p >= threshold, labels=[False, True]).tolist()
    return {
        "true_positives": tp,
        "false_positives": fp,
        "false_negatives": fn,
        "true_negatives": tn,
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
    from sklearn import metrics

    false_positives, true_positives, _ = metrics.roc_curve(y, p, drop_intermediate=False)
    return false_positives, true_positives


def precision_recall_curve(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision over falling thresholds."""
    from sklearn import metrics

    precision, recall, _ = metrics.precision_recall_curve(y, p)
    return recall[-2::-1], precision[-2::-1]


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
