"""Which features the purchase model could do without, and what leaving them out costs.

Features that say nearly the same stand in for each other, so that shuffling one alone seems to cost
nothing. So they are clustered by rank correlation first, and a cluster is shuffled as a whole on
rows that the model has not seen. Not here: putting a chosen set in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from promo_assets.learning import evaluation
from promo_assets.propensity.candidates import Candidate, Names, Predictor, fit_lightgbm
from promo_assets.propensity.comparison import Comparison, compare
from promo_assets.propensity.dataset import Fold, feature_matrix, feature_names, labels
from promo_assets.propensity.training import LIGHTGBM

ALL, CHOSEN = "all features", "chosen features"

ALIKE = 0.9
"""Absolute Spearman correlation from which on two features say the same."""
MOST_ROWS = 20_000
"""Drawn rows by which features are clustered."""


@dataclass(frozen=True)
class Cluster:
    """Features of which every two are alike, the most typical first (the highest mean correlation
    with the others). ``importance``: by how much the mean log loss of unseen rows rises where their
    values are shuffled together (nats), with its 95 % interval, users resampled."""

    features: tuple[str, ...]
    importance: float
    low: float
    high: float

    @property
    def kept(self) -> bool:
        """Whether it tells something beyond chance; then its most typical feature is chosen."""
        return self.low > 0

    @property
    def rise(self) -> str:
        """The importance with its interval."""
        return f"{self.importance:+.5f} [{self.low:+.5f}, {self.high:+.5f}]"

    @property
    def reason(self) -> str:
        """Why a feature of it is chosen or not, in words."""
        worth = "costs" if self.kept else "costs nothing beyond chance:"
        others = f" (with it {', '.join(self.features[1:])})" if self.features[1:] else ""
        return f"shuffled, {self.features[0]}{others} {worth} {self.rise}"


@dataclass(frozen=True)
class Choice:
    """``clusters``, the most important first, and the ``features`` chosen of them, sorted;
    ``judged`` compares a model of those with one of all on later origins."""

    clusters: tuple[Cluster, ...]
    features: tuple[str, ...]
    judged: Comparison

    @property
    def cost(self) -> tuple[float, float, float]:
        """Mean log loss with the chosen features less that with all (nats, above 0 is a loss), and
        its 95 % interval, users resampled."""
        return self.judged.difference(CHOSEN, ALL)


def choose(
    frame: pl.DataFrame,
    folds: Sequence[Fold],
    judged_on: int,
    seed: int = 20240229,
    alike: float = ALIKE,
) -> Choice:
    """Choose features on all ``folds`` but the newest ``judged_on``, which judge the choice.

    Raises ValueError where either part would be without an origin or nothing is chosen.
    Deterministic, but for the seconds.
    """
    if not 0 < judged_on < len(folds):
        raise ValueError(
            f"{len(folds)} origins of which {judged_on} judge: expected one on either side"
        )
    names = feature_names(frame)
    searched = folds[:-judged_on]
    seen = frame.filter(pl.col("as_of_date").is_in(searched[-1].train))
    groups = clusters(seen, names, seed, alike)
    measured = importances(frame, searched, groups, names, seed)
    chosen = tuple(sorted(cluster.features[0] for cluster in measured if cluster.kept))
    if not chosen:
        raise ValueError(f"none of {len(names)} features tells anything beyond chance")
    rivals = [Candidate(ALL, fit_lightgbm, LIGHTGBM), _of(chosen)]
    return Choice(measured, chosen, compare(frame, folds[-judged_on:], rivals, seed))


def clusters(
    frame: pl.DataFrame, names: Sequence[str], seed: int, alike: float = ALIKE
) -> list[tuple[str, ...]]:
    """Groups of features of which every two have a Spearman correlation of at least ``alike``,
    whichever way it points (complete linkage, SciPy), the most typical of each first.

    A missing value ranks lowest; a constant column is like no other. 20,000 rows are drawn at most.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform
    from scipy.stats import rankdata

    if frame.height > MOST_ROWS:
        frame = frame.sample(MOST_ROWS, seed=seed)
    ranks = rankdata(np.nan_to_num(feature_matrix(frame, names), nan=-np.inf), axis=0)
    ranks -= ranks.mean(axis=0)
    length = np.sqrt((ranks**2).sum(axis=0))
    ranks /= np.where(length > 0, length, 1.0)
    likeness = np.abs(ranks.T @ ranks)
    np.fill_diagonal(likeness, 1.0)
    if len(names) == 1:
        return [tuple(names)]
    distance = squareform(np.clip(1 - likeness, 0, None), checks=False)
    of = fcluster(linkage(distance, "complete"), 1 - alike, "distance")
    groups = []
    for group in np.unique(of):
        inside = np.flatnonzero(of == group)
        typical = likeness[np.ix_(inside, inside)].mean(axis=1)
        order = inside[np.argsort(-typical, kind="stable")]
        groups.append(tuple(names[place] for place in order))
    return groups


def importances(
    frame: pl.DataFrame,
    folds: Sequence[Fold],
    groups: Sequence[tuple[str, ...]],
    names: Names,
    seed: int,
) -> tuple[Cluster, ...]:
    """Permutation importance (Breiman 2001) of each group of features, the highest first.

    LightGBM learns from each fold's train part; in its test part the rows of a group's columns are
    shuffled together, the others left as they are.
    """
    rng = np.random.default_rng(seed)
    rises: list[list[np.ndarray]] = [[] for _ in groups]
    users = []
    for fold in folds:
        train, test = (
            frame.filter(pl.col("as_of_date").is_in(days)).sort("as_of_date", "user_id")
            for days in (fold.train, fold.test)
        )
        predict, y = fit_lightgbm(train, names, seed), labels(test)
        before = evaluation.log_losses(y, predict(test))
        users.append(test["user_id"].to_numpy())
        for group, rise in zip(groups, rises, strict=True):
            drawn = test.select(group)[rng.permutation(test.height)]
            rise.append(evaluation.log_losses(y, predict(test.with_columns(drawn))) - before)
    tested = np.concatenate(users)
    found = []
    for group, parts in zip(groups, rises, strict=True):
        rise_of_row = np.concatenate(parts)
        low, high = evaluation.paired_interval(rise_of_row, tested, seed)
        found.append(Cluster(group, float(rise_of_row.mean()), low, high))
    return tuple(sorted(found, key=lambda cluster: (-cluster.importance, cluster.features)))


def _of(chosen: tuple[str, ...]) -> Candidate:
    def fit(train: pl.DataFrame, names: Names, seed: int) -> Predictor:
        return fit_lightgbm(train, chosen, seed)

    return Candidate(CHOSEN, fit, {**LIGHTGBM, "features": len(chosen)})
