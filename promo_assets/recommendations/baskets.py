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
    """Baskets in order of user and time: ``items`` [baskets, items] of 0 and 1; ``user``, ``place``
    (0 = the user's first) and ``moment`` (days or a number, increasing) of each; ``users`` and
    ``names`` (of items) by number, sorted."""

    items: csr_matrix
    user: Numbers
    place: Numbers
    moment: Numbers
    users: pl.Series
    names: pl.Series

    @property
    def first(self) -> Numbers:
        """[users + 1]: where each user's baskets begin."""
        return np.searchsorted(self.user, np.arange(len(self.users) + 1)).astype(np.int64)

    def until(self, user: Numbers, moment: Numbers) -> Numbers:
        """For each pair the number of the first basket after it."""
        return np.searchsorted(_key(self.user, self.moment), _key(user, moment), "right").astype(
            np.int64
        )


def baskets_of(lines: pl.DataFrame, names: pl.Series, moment: str) -> Baskets:
    """``lines``: user_id, item_id and ``moment`` (a date, or a number that orders a user's
    baskets); items that are not among the sorted ``names`` are left out, baskets without any other
    stay, empty."""
    users = lines["user_id"].unique().sort()
    key = _key(numbers_of(lines["user_id"], users), _whole(lines[moment]))
    item = numbers_of(lines["item_id"], names)
    keys = distinct(key)
    basket = np.searchsorted(keys, key)
    known = item >= 0
    cells = distinct(basket[known] * max(len(names), 1) + item[known])
    row, column = np.divmod(cells, max(len(names), 1))
    ends = np.searchsorted(row, np.arange(len(keys) + 1))
    items = csr_matrix((np.ones(len(cells)), column, ends), (len(keys), len(names)))
    user, when = np.divmod(keys, SPAN)
    place = np.arange(len(keys)) - np.searchsorted(user, user)
    return Baskets(items, user, place, when, users, names)


def numbers_of(values: pl.Series, names: pl.Series) -> Numbers:
    """The place of each value in the sorted, unique ``names``; -1 where it is not among them."""
    if not len(names):
        return np.full(len(values), -1)
    found = values.cast(pl.Enum(names), strict=False).to_physical().cast(pl.Int64)
    return found.fill_null(-1).to_numpy()


SPAN = 10_000_000
"""More than any moment: days since 1970, or baskets."""


def _key(user: Numbers, moment: Numbers) -> Numbers:
    return user * SPAN + moment


def distinct(values: Numbers) -> Numbers:
    """Sorted, each once; np.unique hashes, which takes four times as long."""
    ordered = np.sort(values)
    return ordered[np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))]


def _whole(moments: pl.Series) -> Numbers:
    return moments.to_physical().cast(pl.Int64).to_numpy()


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
