"""Features that seem to know the future: a training on one is refused.

Two controls, each of one feature at a time. *Implausible*: no behaviour of the past ranks buyers as
well as that. *Time-shuffled*: each user's values are shuffled among their weeks. What tells who the
user is stays, what tells of the week to come goes; the past tells little of a single week beyond
the user's habits, the future tells it all. A cart of yesterday tells of one week, too, so only what
ranks better than such intent is refused. Not here: leaks of whole lives (a total that counts
future orders in every week alike), which only a change of the future shows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from promo_assets.propensity.dataset import feature_matrix, labels

IMPLAUSIBLE_AUC = 0.95
SHUFFLED_DROP = 0.10
"""Bounds of a single feature's AUC, and of what shuffling takes of it."""
INTENT_AUC = 0.80
"""What intent, such as a full cart, may tell of the week to come: up to it nothing is shuffled."""
ERRORS = 3
"""Standard errors beyond a bound."""
MOST_USERS = 1000
"""Drawn users that are looked at, so that a shop of a million costs no more."""


class LeakError(ValueError):
    """Features seem to know the label; the message names them and says what to do."""


@dataclass(frozen=True)
class Leak:
    """A feature's AUC for the label, whichever way it points, and with its weeks shuffled."""

    feature: str
    auc: float
    shuffled_auc: float


def refuse_leaks(
    frame: pl.DataFrame, names: Sequence[str], seed: int, trusted: Collection[str]
) -> None:
    """Raises `LeakError` where `find_leaks` finds a feature that is not ``trusted``."""
    leaks = [leak for leak in find_leaks(frame, names, seed) if leak.feature not in trusted]
    if leaks:
        told = "; ".join(
            f"{leak.feature} (AUC {leak.auc:.3f}, {leak.shuffled_auc:.3f} with its weeks shuffled)"
            for leak in leaks
        )
        raise LeakError(
            f"features seem to know the future: {told}; expected an AUC of at most "
            f"{IMPLAUSIBLE_AUC} that shuffling lowers by at most {SHUFFLED_DROP}. Mend what "
            "computes them, or name in PROMO_TRUSTED_FEATURES those that are right (orders that "
            "recur on fixed days can look so)"
        )


def find_leaks(frame: pl.DataFrame, names: Sequence[str], seed: int) -> list[Leak]:
    """The features among ``names`` beyond a bound by 3 standard errors, the highest AUC first.

    ``frame``: labelled snapshots with ``user_id``, of which 1,000 users are drawn at most. Users
    repeat, so errors count users, not rows: at most sqrt(auc (1 - auc) / n) for the n users of the
    rarer class (van Dantzig 1951). So below 172 buyers no AUC is implausible, and below 15
    no shuffling fails. A missing value ranks lowest. Deterministic.
    """
    rng = np.random.default_rng(seed)
    drawn = frame["user_id"].unique().sort().to_numpy()
    if len(drawn) > MOST_USERS:
        drawn = rng.choice(drawn, MOST_USERS, replace=False)
    rows = frame.filter(pl.col("user_id").is_in(drawn.tolist())).sort("user_id", "as_of_date")
    y = labels(rows) == 1
    users = np.unique(rows["user_id"].to_numpy(), return_inverse=True)[1]
    rarer = min(len(np.unique(users[y])), len(np.unique(users[~y])))
    if not rarer:
        return []
    values = feature_matrix(rows, names)
    weeks = np.lexsort((rng.random(len(users)), users))
    plain = _aucs(values, y)
    shuffled, ranking = plain.copy(), plain > INTENT_AUC
    shuffled[ranking] = _aucs(values[weeks][:, ranking], y)
    implausible = IMPLAUSIBLE_AUC + ERRORS * _error(IMPLAUSIBLE_AUC, rarer)
    dropped = SHUFFLED_DROP + ERRORS * _error(0.5, rarer)
    found = np.flatnonzero((plain > implausible) | (plain - shuffled > dropped))
    return [
        Leak(names[place], float(plain[place]), float(shuffled[place]))
        for place in found[np.argsort(-plain[found], kind="stable")]
    ]


def _aucs(values: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each column of ``values``, shape (rows, features), at least 0.5; ties count half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.nan_to_num(values, nan=-np.inf, posinf=np.inf, neginf=-np.inf), axis=0)
    buyers, others = int(y.sum()), int((~y).sum())
    auc = (ranks[y].sum(axis=0) - buyers * (buyers + 1) / 2) / (buyers * others)
    return np.maximum(auc, 1 - auc)


def _error(auc: float, users: int) -> float:
    return float(np.sqrt(auc * (1 - auc) / users))
