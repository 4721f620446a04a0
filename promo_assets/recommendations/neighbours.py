"""Which items are like which: BM25-weighted neighbours by the `implicit` library.

Two items are neighbours where the same people bought them; BM25 lowers what heavy buyers and best
sellers say. Not here: what is recommended of it (``ranking.py``).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from promo_assets.recommendations.baskets import numbers_of

NEIGHBOURS = 20
MOST_ITEMS = 4_000
"""Items that have neighbours: those that most people bought. Cost grows with the square of what a
user bought of them; beyond these few people bought any one item."""


def neighbours_of(lines: pl.DataFrame, most: int = MOST_ITEMS, threads: int = 1) -> pl.DataFrame:
    """Each item's nearest `NEIGHBOURS`, nearest first.

    ``lines``: user_id, item_id. Columns: item_id, neighbour_id, neighbour_rank (from 1) and
    similarity, where a weight of 1 is the item's nearest neighbour's. Ties by name.
    """
    bought = lines.select("user_id", "item_id").unique()
    popular = (
        bought.group_by("item_id")
        .len()
        .filter(pl.col("len") > 1)
        .sort("len", "item_id", descending=[True, False])
        .head(most)
    )
    names = popular["item_id"].sort()
    similar = similarities(matrix_of(bought, names), threads)
    items = np.repeat(np.arange(len(names)), np.diff(similar.indptr))
    found = pl.DataFrame(
        {
            "item_id": names.gather(items),
            "neighbour_id": names.gather(similar.indices),
            "similarity": pl.Series(similar.data, dtype=pl.Float64),
        }
    )
    nearest = pl.col("similarity").max().over("item_id")
    return (
        found.filter(pl.col("item_id") != pl.col("neighbour_id"), pl.col("similarity") > 0)
        .with_columns(similarity=(pl.col("similarity") / nearest).round(6))
        .sort("item_id", "similarity", "neighbour_id", descending=[False, True, False])
        .with_columns(neighbour_rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("item_id"))
        .filter(pl.col("neighbour_rank") <= NEIGHBOURS)
    )


def matrix_of(bought: pl.DataFrame, names: pl.Series) -> csr_matrix:
    """[users, items] of 0 and 1: who bought which of the sorted ``names``, users in order."""
    users = bought["user_id"].unique().sort()
    user, item = numbers_of(bought["user_id"], users), numbers_of(bought["item_id"], names)
    known = item >= 0
    cells = (user[known], item[known])
    made = csr_matrix((np.ones(known.sum()), cells), (len(users), len(names)))
    made.sort_indices()
    return made


def similarities(bought: csr_matrix, threads: int) -> csr_matrix:
    """[items, items] BM25 similarity of columns, the `NEIGHBOURS` nearest and itself in a row."""
    import implicit.nearest_neighbours as nearest

    if min(bought.shape) == 0:
        return csr_matrix((bought.shape[1], bought.shape[1]))
    weights = nearest.bm25_weight(bought.T, K1=1.2, B=0.75).T.tocsr()
    found = nearest.all_pairs_knn(weights, NEIGHBOURS + 1, show_progress=False, num_threads=threads)
    return found.tocsr()
