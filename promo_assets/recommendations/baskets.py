"""Baskets as sparse matrices: who bought what, in which order, decayed by baskets since.

A basket is what a user bought on one day. Here: from rows to matrices, and each user's history at
each basket. Not here: what is recommended of it (``ranking.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_matrix

Numbers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]

LAST_BASKETS = 50
"""Baskets of a user that count: .9^50 = .005."""
DECAY = 0.9
"""What a basket counts of the one after it."""


@dataclass(frozen=True)
class Baskets:
    """Baskets in order of user and time: ``items`` [baskets, items] of 0 and 1; ``user`` and
    ``place`` (0 = the user's first) of each basket; ``users`` and ``names`` (of items) by number.

    ``keys`` is what identifies a basket, in the same order.
    """

    items: csr_matrix
    user: Numbers
    place: Numbers
    keys: pl.DataFrame
    users: pl.Series
    names: pl.Series

    @property
    def first(self) -> Numbers:
        """[users + 1]: where each user's baskets begin."""
        return np.searchsorted(self.user, np.arange(len(self.users) + 1))


def baskets_of(lines: pl.DataFrame, names: pl.Series, *keys: str) -> Baskets:
    """``lines``: user_id, item_id and ``keys``, by which a user's baskets are told apart and
    ordered; items that are not among the sorted ``names`` are left out, baskets without any other
    stay, empty."""
    order = ["user_id", *keys]
    told = lines.select(*order, "item_id").unique().sort(*order, "item_id")
    baskets = told.select(order).unique(maintain_order=True).with_row_index("basket")
    users = baskets["user_id"].unique().sort()
    user = users.search_sorted(baskets["user_id"]).to_numpy().astype(np.int64)
    known = told.join(baskets, on=order).join(
        pl.DataFrame({"item_id": names}).with_row_index("item"), on="item_id"
    )
    shape = (baskets.height, len(names))
    cells = (known["basket"].to_numpy(), known["item"].to_numpy())
    items = csr_matrix((np.ones(known.height, np.float64), cells), shape)
    items.sort_indices()
    place = np.arange(baskets.height) - np.searchsorted(user, user)
    return Baskets(items, user, place, baskets.select(order), users, names)


def histories(
    baskets: Baskets, at: Numbers, weights: Weights, oldest: Numbers | None = None
) -> csr_matrix:
    """[len(at), items]: what each user has bought up to and with each basket ``at``, the items of
    the s-th basket before it counting ``weights[s]``, none beyond; of baskets from number
    ``oldest`` [len(at)] on. Where ``at`` is before ``oldest`` there is nothing. A basket's row is
    the same whichever others are asked for."""
    first = at - baskets.place[at] if oldest is None else oldest
    counted = np.clip(at - first + 1, 0, len(weights))
    row = np.repeat(np.arange(len(at)), counted)
    since = np.arange(len(row)) - np.repeat(np.cumsum(counted) - counted, counted)
    past = csr_matrix(
        (weights[since], (row, np.repeat(at, counted) - since)), (len(at), len(baskets.user))
    )
    found = past @ baskets.items
    found.sort_indices()
    return found


def decayed(decay: float = DECAY, last: int = LAST_BASKETS) -> Weights:
    """[last] weights of a user's last baskets, the newest first."""
    return np.power(decay, np.arange(last, dtype=np.float64))
