"""Clusters of users by behaviour: k-means on robustly scaled logarithms, k by stability.

Pure functions on arrays: scaling, fitting, and the choice of k. Not here: which columns are
behaviour and what they are called in words (``cluster_words.py``), which clusters are in force from
week to week (``cluster_standing.py``), and the tables (``tables/clusters.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

SEED = 13
SAMPLE = 5_000
"""Users that a fit reads, drawn at random where there are more; everybody is assigned."""
NUMBERS = range(2, 9)
PAIRS = 8
"""Pairs of bootstrap samples by which a number of clusters is judged."""
STARTS = 3
ROUNDS = 100
STIRRED = 0.001
STABLE = 0.8
"""Mean adjusted Rand index of a pair from which on clusters are taken for found, not made."""
LEAST_SHARE = 0.02
"""Of users in the smallest cluster: a smaller one is a handful of outliers."""
REACH = 2.0
"""Interquartile ranges from the median at which values end: nobody is a cluster for themselves."""
NORMAL_IQR = 1.349
"""Standard deviations in a normal distribution's interquartile range."""
PARTS = 10
"""Parts of the median in which values are counted before logarithms: zero has a place, and a
lognormal cloud is all but symmetric."""
SILHOUETTE_SAMPLE = 1_000
SHAPELESS = 19
"""Draws without clusters, all of which a number of clusters has to beat: by chance 1 in 20 does."""
APART = 0.03
"""By which silhouettes have to beat those: lognormal clouds of standard deviations of 1 to 1.8, a
bit skew, did so by up to 0.032 (1 of 46 by more than 0.027)."""


@dataclass(frozen=True)
class Scaling:
    """How a column becomes comparable: ``(log1p(x / unit) - centre) / spread``, cut at `REACH`.

    ``unit`` is the median of its positive values over `PARTS`: cents and euros are the same.
    ``centre`` and ``spread`` are median and interquartile range of the logarithms (where that is 0,
    `NORMAL_IQR` standard deviations). What is not known is the median. Arrays by column.
    """

    names: tuple[str, ...]
    unit: Floats
    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, values: Mapping[str, Floats]) -> Scaling:
        """The scaling of columns that are not negative, NaN = unknown; columns without any
        differences are left out."""
        told = {name: found for name, column in values.items() if (found := _scale(column))}
        unit, centre, spread = np.array([*told.values()], float).reshape(-1, 3).T
        return cls(tuple(told), unit, centre, spread)

    def only(self, names: Sequence[str]) -> Scaling:
        """The same of some columns, which must be in it."""
        places = [self.names.index(name) for name in names]
        return Scaling(tuple(names), self.unit[places], self.centre[places], self.spread[places])

    def apply(self, values: Mapping[str, Floats]) -> Floats:
        """Rows x columns, every value in -`REACH`..`REACH`."""
        users = len(next(iter(values.values())))
        raw = np.array([values[name] for name in self.names]).reshape(len(self.names), users).T
        scaled = (np.log1p(raw / self.unit) - self.centre) / self.spread
        return np.nan_to_num(np.clip(scaled, -REACH, REACH))


def _scale(column: Floats) -> tuple[float, float, float] | None:
    known = column[np.isfinite(column)]
    positive = known[known > 0]
    if not len(positive):
        return None
    unit = float(np.median(positive)) / PARTS
    logs = np.log1p(known / unit)
    low, centre, high = np.percentile(logs, [25, 50, 75])
    spread = float(high - low) or float(logs.std()) * NORMAL_IQR
    # Equal values differ by rounding once they are divided.
    return (unit, float(centre), spread) if spread > 1e-9 else None


@dataclass(frozen=True)
class Clustering:
    """Centres, clusters x columns of ``scaling``."""

    scaling: Scaling
    centres: Floats

    def assign(self, values: Mapping[str, Floats]) -> tuple[Labels, Floats, Floats]:
        """The nearest centre of each user, its distance, and how clearly it is the nearest: 1 less
        the distance over that of the second nearest, from 0 (between both) to 1."""
        return nearest(self.scaling.apply(values), self.centres)


@dataclass(frozen=True)
class Judged:
    """A number of clusters: adjusted Rand index of each pair of bootstrap samples, mean silhouette
    of at most `SILHOUETTE_SAMPLE` users, the share of users in the smallest cluster, and the
    largest silhouette of data without clusters (`_shapeless`), None where it was not needed."""

    number: int
    agreements: tuple[float, ...]
    silhouette: float
    smallest: float
    centres: Floats
    shapeless: float | None = None

    @property
    def stability(self) -> float:
        return float(np.mean(self.agreements))

    @property
    def repeats(self) -> bool:
        """Whether other users would have given the same clusters, none of a few outliers."""
        return self.stability >= STABLE and self.smallest >= LEAST_SHARE

    @property
    def excess(self) -> float:
        """How much further apart they are than those of a single cloud; none where not compared."""
        return self.silhouette - self.shapeless if self.shapeless is not None else -1.0

    @property
    def holds(self) -> bool:
        """Whether they repeat and are further apart than chance puts those of a single cloud."""
        return self.repeats and self.excess > APART


@dataclass(frozen=True)
class Choice:
    """Every number of clusters that was judged, and the one that was taken; None = none holds."""

    scaling: Scaling
    judged: tuple[Judged, ...]
    chosen: Judged | None


def choose(values: Mapping[str, Floats], preferred: int | None = None) -> Choice:
    """The number of clusters on which pairs of bootstrap samples agree for everybody (Fang and Wang
    2012) and whose silhouette is furthest above that of one normal cloud of the same covariance (as
    SigClust asks: Liu et al. 2008), without which a long cloud is always cut alike.

    ``values`` as `Scaling.of` takes them; ``preferred`` is taken wherever it repeats and is
    above chance at all: a change has a price, as people know clusters by name.
    """
    rng = np.random.default_rng(SEED)
    sample = drawn(values)
    scaling = Scaling.of(sample)
    if not scaling.names:
        return Choice(scaling, (), None)
    points = scaling.apply(sample)
    users = len(points)
    weights = rng.multinomial(users, np.full(users, 1 / users), (PAIRS, 2)).astype(float)
    judged = {number: _judge(points, number, weights) for number in NUMBERS}
    if preferred in judged:
        judged[preferred] = kept = _compared(points, judged[preferred])
        if kept.excess > 0:
            return Choice(scaling, tuple(judged.values()), kept)
    compared = [_compared(points, one) for one in judged.values()]
    holding = [one for one in compared if one.holds]
    best = max(holding, key=lambda one: one.excess, default=None)
    return Choice(scaling, tuple(compared), best)


def _compared(points: Floats, judged: Judged) -> Judged:
    """With the silhouette of a single cloud, where clusters repeat and it is not there yet."""
    if not judged.repeats or judged.shapeless is not None:
        return judged
    return replace(judged, shapeless=_shapeless(points, judged.number))


def _judge(points: Floats, number: int, weights: Floats) -> Judged:
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng((SEED, number))
    agreements = [
        adjusted_rand_score(
            *(nearest(points, k_means(points, number, rng, one))[0] for one in pair)
        )
        for pair in weights
    ]
    centres = k_means(points, number, rng)
    labels, _, _ = nearest(points, centres)
    return Judged(
        number,
        tuple(map(float, agreements)),
        _silhouette(points, labels, rng),
        float(np.bincount(labels, minlength=number).min() / len(points)),
        centres,
    )


def _silhouette(points: Floats, labels: Labels, rng: np.random.Generator) -> float:
    from sklearn.metrics import silhouette_score

    some = rng.permutation(len(points))[:SILHOUETTE_SAMPLE]
    if len(np.unique(labels[some])) < 2:
        return float("nan")
    return float(silhouette_score(points[some], labels[some]))


def _shapeless(points: Floats, number: int) -> float:
    """The largest silhouette of as many clusters in `SHAPELESS` draws of one normal cloud."""
    rng = np.random.default_rng((SEED, number))
    mean, covariance = points.mean(axis=0), np.atleast_2d(np.cov(points.T))
    users = min(len(points), SILHOUETTE_SAMPLE)
    found = []
    for _ in range(SHAPELESS):
        cloud = rng.multivariate_normal(mean, covariance, users).clip(-REACH, REACH)
        labels, _, _ = nearest(cloud, k_means(cloud, number, rng))
        found.append(_silhouette(cloud, labels, rng))
    return max(found)


def agreement(points: Floats, centres: Floats) -> float:
    """The adjusted Rand index of ``centres`` and new ones, as many, fitted to ``points`` alone: how
    well the old ones still tell users apart."""
    from sklearn.metrics import adjusted_rand_score

    new = k_means(points, len(centres), np.random.default_rng(SEED))
    return float(adjusted_rand_score(nearest(points, centres)[0], nearest(points, new)[0]))


def drawn(values: Mapping[str, Floats]) -> Mapping[str, Floats]:
    """The columns of at most `SAMPLE` users."""
    users = len(next(iter(values.values())))
    if users <= SAMPLE:
        return values
    rows = np.sort(np.random.default_rng(SEED).choice(users, SAMPLE, replace=False))
    return {name: column[rows] for name, column in values.items()}


def k_means(
    points: Floats, number: int, rng: np.random.Generator, weights: Floats | None = None
) -> Floats:
    """Centres with the least weighted sum of squared distances among `STARTS` runs of Lloyd's
    algorithm from k-means++ starts, ordered by their columns.

    Own, as scikit-learn's adds in the order in which its threads end: a rebuilt week would differ
    in last digits. ``points``: rows x columns; ``weights``: how often each row counts, None = once.
    """
    counts = np.ones(len(points)) if weights is None else weights
    rows = counts > 0
    found, counts = points[rows], counts[rows]
    runs = [_lloyd(found, counts, _starts(found, counts, number, rng)) for _ in range(STARTS)]
    best, _ = min(runs, key=lambda run: run[1])
    return best[np.lexsort(best.T[::-1])]


def _starts(points: Floats, counts: Floats, number: int, rng: np.random.Generator) -> Floats:
    """k-means++ (Arthur and Vassilvitskii 2007): each next one drawn by squared distance."""
    first = rng.choice(len(points), p=counts / counts.sum())
    centres = [points[first]]
    away = ((points - centres[0]) ** 2).sum(axis=1)
    while len(centres) < number:
        odds = np.cumsum(away * counts)
        place = np.searchsorted(odds, rng.random() * odds[-1], side="right")
        centres.append(points[min(place, len(points) - 1)])
        away = np.minimum(away, ((points - centres[-1]) ** 2).sum(axis=1))
    return np.array(centres)


def _lloyd(points: Floats, counts: Floats, centres: Floats) -> tuple[Floats, float]:
    """Centres and their sum of squares, once fewer than `STIRRED` of all rows change their centre;
    one that nobody is nearest to stays where it is."""
    number, columns = len(centres), np.ascontiguousarray((points * counts[:, None]).T)
    labels = np.full(len(points), -1)
    for _ in range(ROUNDS):
        squares = points @ (-2 * centres.T) + (centres**2).sum(axis=1)
        before, labels = labels, squares.argmin(axis=1)
        if (before != labels).sum() <= STIRRED * len(points):
            break
        sizes = np.bincount(labels, counts, number)
        sums = np.array([np.bincount(labels, column, number) for column in columns]).T
        full = sizes > 0
        centres = np.where(full[:, None], sums / np.where(full, sizes, 1)[:, None], centres)
    return centres, float((((points - centres[labels]) ** 2).sum(axis=1) * counts).sum())


def nearest(points: Floats, centres: Floats) -> tuple[Labels, Floats, Floats]:
    """For each point its nearest centre, the distance, and 1 less its ratio to that from the second
    nearest; of a single centre 1."""
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares, 0))
    labels = distances.argmin(axis=1)
    own = distances[np.arange(len(points)), labels]
    if len(centres) == 1:
        return labels, own, np.ones(len(points))
    second = np.partition(distances, 1, axis=1)[:, 1]
    return labels, own, 1 - own / np.maximum(second, 1e-12)
