"""Recommenders that the served one is compared with: TIFU-kNN and matrix factorisation.

Each gives scores [users, items]. Not here: what is served (``ranking.py``), the comparison
(``benchmarks/recommendations.py``).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags

from promo_assets.recommendations.baskets import Baskets, Numbers
from promo_assets.recommendations.ranking import strongest

Scores = npt.NDArray[np.float64]


def tifu_vectors(
    baskets: Baskets,
    at: Numbers,
    last: int = 50,
    groups: int = 7,
    within: float = 0.9,
    between: float = 0.7,
) -> csr_matrix:
    """[len(at), items]: TIFU-kNN's user vectors (Hu et al. 2020) of the ``last`` baskets up to each
    ``at``, in ``groups`` of equal size, decaying ``within`` and ``between`` them."""  # fmt: skip
    counted = np.minimum(baskets.place[at] + 1, last)
    row = np.repeat(np.arange(len(at)), counted)
    since = np.arange(len(row)) - np.repeat(np.cumsum(counted) - counted, counted)
    size = np.ceil(counted / groups).astype(np.int64)[row]
    group, place = np.divmod(since, size)
    weight = within**place * between**group / (size * groups)
    past = csr_matrix((weight, (row, np.repeat(at, counted) - since)), (len(at), len(baskets.user)))
    return past @ baskets.items


def tifu_neighbourhoods(vectors: csr_matrix, nearest: int = 300) -> csr_matrix:
    """[users, items]: the mean vector of each user's ``nearest`` others by cosine."""
    norms = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
    unit = diags(1 / np.maximum(norms, 1e-12)) @ vectors
    alike = csr_matrix((unit @ unit.T).tocsr())
    alike.setdiag(0)
    alike.sort_indices()
    chosen = strongest(alike, nearest)
    chosen.data[:] = 1
    counts = np.maximum(np.diff(chosen.indptr), 1)
    return (diags(1 / counts) @ chosen @ vectors).tocsr()


def factorised(bought: csr_matrix, users: Numbers, factors: int = 64, threads: int = 2) -> Scores:
    """[len(users), items]: scores by implicit's ALS of who bought what, rows of ``users``."""
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=factors, regularization=0.05, iterations=10, random_state=1, num_threads=threads
    )
    model.fit((10 * bought).tocsr(), show_progress=False)
    return np.asarray(model.user_factors[users] @ model.item_factors.T, dtype=np.float64)
