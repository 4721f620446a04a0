"""Bins in which a later population is compared with the one that a model learned from.

Here: where the bins of a feature lie, how many of the reference fall into each, and which features
are judged. Not here: counting a day and comparing the two (SQL, ``tables/drift.py``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DECILES = np.arange(1, 10) / 10

BY_CONSTRUCTION = re.compile(
    r"\w+_(1d|life)|tenure_days|gap_(count|sum_days|sumsq_days|capped_sum_days)"
    r"|gaps_within_\d+d|offer_days(_answered)?"
)
"""Features that move though nobody behaves differently: those of one day compare a weekday with
another, those of a life only grow."""


@dataclass(frozen=True)
class Bins:
    """``edges``, ascending: the upper ends (inclusive) of all bins but the last, which has what
    lies above. ``counts``: the reference's values by bin, and last those that are missing; shape
    (edges + 2,)."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def bins_of(values: npt.NDArray[np.float64]) -> Bins:
    """The bins of a reference, shape (n,), NaN = missing: a bin a value up to ten distinct ones,
    else deciles that are values themselves; equal deciles are one edge."""
    known = values[~np.isnan(values)]
    distinct = np.unique(known)
    if len(distinct) <= len(DECILES) + 1:
        edges = distinct if len(distinct) else np.zeros(1)
    else:
        edges = np.unique(np.quantile(known, DECILES, method="inverted_cdf"))
    counts = np.bincount(np.searchsorted(edges, known), minlength=len(edges) + 1)
    return Bins(tuple(edges.tolist()), (*counts.tolist(), len(values) - len(known)))


def is_judged(feature: str) -> bool:
    """Whether a drift of the feature tells that people behave differently."""
    return not BY_CONSTRUCTION.fullmatch(feature)
