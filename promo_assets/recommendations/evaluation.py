"""How good recommendations are, and which blend is best: the next basket against ranked lists.

Definitions, for a user whose next basket holds the set T and a list of k items, h of them in T:
recall h/|T|; hit rate 1 if h > 0; MRR 1/(place of the first hit), 0 without; NDCG with gain 1 and
discount 1/log2(place + 1), over the best that |T| allows (Järvelin & Kekäläinen 2002). Over all
users: coverage, the share of all items that is in any list; novelty, the mean of -log2(popularity)
of what is listed. Not here: the recommenders (``ranking.py``, ``peers.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_matrix

from promo_assets.recommendations.baskets import Baskets, Numbers, Weights, decayed, histories
from promo_assets.recommendations.ranking import Blend, best, cells_of, rows_of

TOP = 10
GRID = tuple(
    Blend(purchases, popularity)
    for purchases, popularity in itertools.product((0.3, 0.0, 0.1, 1.0), (1.0, 0.3, 2.0, 3.0))
)
"""The blends that are tried; of equals the first. Without ``purchases`` it is the two-parameter
blend, so that the best is at least as good on the validation users."""
POPULAR = 40
"""Popular items that may be listed besides what was bought."""
RESAMPLED = 2_000


@dataclass(frozen=True)
class Candidates:
    """What each visit bought and the most popular items, with the parts of a blend's scores."""

    shape: csr_matrix
    recent: Weights
    times: Weights
    popular: Weights

    @classmethod
    def of(
        cls, baskets: Baskets, at: Numbers, popularity: Weights, oldest: Numbers | None = None
    ) -> Candidates:
        """The candidates at each basket ``at``."""
        recent = histories(baskets, at, decayed(), oldest)
        times = histories(baskets, at, decayed(1.0), oldest)
        most = np.argsort(-popularity, kind="stable")[:POPULAR]
        popular = csr_matrix(
            (np.ones(len(most)), (np.zeros(len(most), np.int64), most)), (1, len(popularity))
        )
        shape = (recent + csr_matrix(np.ones((len(at), 1))) @ popular).tocsr()
        shape.sort_indices()
        row = rows_of(shape)
        return cls(
            shape,
            cells_of(recent, row, shape.indices),
            cells_of(times, row, shape.indices),
            popularity[shape.indices],
        )

    def scores(self, blend: Blend) -> csr_matrix:
        """[visits, items]: the blend's scores."""
        told = self.recent + blend.purchases * self.times + blend.popularity * self.popular
        return csr_matrix((told, self.shape.indices, self.shape.indptr), self.shape.shape)


def learned(
    baskets: Baskets, at: Numbers, popularity: Weights, oldest: Numbers | None = None
) -> tuple[Blend, Weights]:
    """The blend of `GRID` with the highest mean recall at `TOP` of the basket after each ``at``,
    and the mean recall of every blend."""
    candidates = Candidates.of(baskets, at, popularity, oldest)
    truth = baskets.items[at + 1]
    means = np.array(
        [
            per_user(best(candidates.scores(blend), TOP), "kind_rank", truth, TOP)["recall"].mean()
            for blend in GRID
        ]
    )
    return GRID[int(np.argmax(means.round(6)))], means


def per_user(
    ranked: pl.DataFrame, place: str, truth: csr_matrix, k: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Recall, hit rate, MRR and NDCG at ``k`` of each row of ``truth`` [visits, items]; NaN where
    the row is empty. ``ranked``: visit, item and ``place`` (from 1)."""
    top = ranked.filter(pl.col(place) <= k)
    visit, rank = top["visit"].to_numpy(), top[place].to_numpy()
    hit = cells_of(truth, visit, top["item"].to_numpy()) > 0
    wanted = np.diff(truth.indptr).astype(np.float64)
    rows = truth.shape[0]

    def summed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.bincount(visit[hit], values[hit], minlength=rows).astype(np.float64)

    gains = 1 / np.log2(np.arange(1, k + 1) + 1)
    ideal = np.concatenate([[0.0], np.cumsum(gains)])[np.minimum(wanted, k).astype(int)]
    first = np.zeros(rows)
    np.maximum.at(first, visit[hit], 1 / rank[hit])
    hits = summed(np.ones(len(visit)))
    empty = wanted == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "recall": hits / wanted,
            "hit_rate": np.where(empty, np.nan, hits > 0),
            "mrr": np.where(empty, np.nan, first),
            "ndcg": summed(gains[rank - 1]) / ideal,
        }


def overall(ranked: pl.DataFrame, place: str, popularity: Weights, k: int) -> Mapping[str, float]:
    """Coverage and novelty of lists of ``k``; items that nobody bought count as bought by half a
    buyer of the least popular."""
    items = ranked.filter(pl.col(place) <= k)["item"].to_numpy()
    known = popularity[popularity > 0]
    floor = known.min() / 2 if len(known) else 1.0
    shares = np.maximum(popularity[items], floor)
    return {
        "coverage": len(np.unique(items)) / max(len(popularity), 1),
        "novelty": float(-np.log2(shares).mean()) if len(items) else 0.0,
    }


def interval(values: npt.NDArray[np.float64], seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % interval over users (percentile bootstrap); NaN values are left out."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(0, len(known), (RESAMPLED, len(known)))
    low, high = np.quantile(known[drawn].mean(axis=1), [0.025, 0.975])
    return float(known.mean()), float(low), float(high)
