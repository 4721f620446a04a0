"""Frequent itemsets of baskets: Apriori on bitmaps.

Apriori (Agrawal & Srikant 1994): an itemset can only be frequent where all its subsets are. The
candidates of each length are made of the frequent sets of the one before: joined on a common
prefix, pruned by their other subsets. They are counted in bitmaps with one bit a basket (Zaki's
vertical layout, 2000), which costs the same however dense the data are. Only the pairs of sparse
data, far more than there are baskets that hold two items, are counted basket by basket, as a sparse
product. Not here: rules (``rules.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_matrix, triu

from promo_assets.recommendations.baskets import Numbers, distinct, numbers_of

LONGEST = 4
"""Items of the longest itemset."""
ITEMS = [f"item_{place}" for place in range(1, LONGEST + 1)]
JOINED = 500_000
"""Candidates that are made and counted at a time, so that memory is bounded."""
CACHED = 1 << 19
"""Bytes of bitmaps that are joined at a time: what stays in a core's cache is several times
faster."""
WORDS_A_PAIR = 8
"""Words of 64 baskets that are counted in the time in which a sparse product counts one pair."""
Bitmaps = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Limits:
    """Which itemsets count: in at least ``support[level]`` of a level's baskets, and in
    ``least`` of them; of a larger basket only the ``cap`` most frequent items are counted."""

    support: Mapping[str, float]
    least: int = 10
    cap: int = 100


class Itemsets(NamedTuple):
    """Itemsets of one length: ``sets`` [sets, length] of item numbers, in ascending order within
    and between sets, and ``counts`` [sets], the baskets that hold them."""

    sets: Numbers
    counts: Numbers


def itemsets_of(lines: pl.DataFrame, limits: Limits) -> pl.DataFrame:
    """Every frequent itemset of up to `LONGEST` items at each level of ``limits``.

    ``lines``: level, basket (anything that can be ordered) and item (text); equal lines count once.
    Columns: level, item_1 to item_4 (null beyond the set's length, most frequent first),
    baskets_with (those that hold all of them), baskets (of the level) and capped_baskets.
    """
    levels = [
        _of_level(lines.filter(pl.col("level") == level), limits, share).select(
            pl.lit(level).alias("level"), pl.all()
        )
        for level, share in sorted(limits.support.items())
    ]
    return pl.concat(levels)


def _of_level(lines: pl.DataFrame, limits: Limits, share: float) -> pl.DataFrame:
    basket = lines["basket"].rank("dense").cast(pl.Int64).to_numpy() - 1
    baskets = int(basket.max()) + 1 if len(basket) else 0
    minimum = max(limits.least, math.ceil(share * baskets - 1e-9))
    names, counts, held = _frequent_items(basket, baskets, lines["item"], minimum)
    held, capped = _capped(held, limits.cap)
    single = Itemsets(np.arange(len(names)).reshape(-1, 1), counts)
    found = [_named(sets, names) for sets in (single, *frequent(held, minimum))]
    return pl.concat(found).with_columns(
        baskets=pl.lit(baskets, pl.Int64), capped_baskets=pl.lit(capped, pl.Int64)
    )


def _frequent_items(
    basket: Numbers, baskets: int, item: pl.Series, minimum: int
) -> tuple[pl.Series, Numbers, csr_matrix]:
    """The items in at least ``minimum`` baskets, most frequent first, in how many they are, and
    [baskets, items] of 0 and 1."""
    names = item.unique().sort()
    number = numbers_of(item, names)
    # Lines are at least as many as baskets: most items are left out before equal lines are.
    often = (np.bincount(number, minlength=len(names)) >= minimum)[number]
    basket, number = np.divmod(
        distinct(basket[often] * len(names) + number[often]), max(len(names), 1)
    )
    counts = np.bincount(number, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] >= minimum]
    place = np.full(len(names), -1)
    place[order] = np.arange(len(order))
    known = place[number] >= 0
    cells = (basket[known], place[number[known]])
    held = csr_matrix((np.ones(known.sum(), np.int32), cells), (baskets, len(order)))
    held.sort_indices()
    return names.gather(order), counts[order].astype(np.int64), held


def _capped(held: csr_matrix, cap: int) -> tuple[csr_matrix, int]:
    """``held`` with the first ``cap`` items of each basket, and how many baskets had more."""
    sizes = np.diff(held.indptr)
    if not len(sizes) or sizes.max() <= cap:
        return held, 0
    kept = np.arange(held.nnz) - np.repeat(held.indptr[:-1], sizes) < cap
    ends = np.concatenate([[0], np.cumsum(np.minimum(sizes, cap))])
    return (
        csr_matrix((held.data[kept], held.indices[kept], ends), held.shape),
        int((sizes > cap).sum()),
    )


def frequent(held: csr_matrix, minimum: int) -> Iterator[Itemsets]:
    """The itemsets of two, three … `LONGEST` items in at least ``minimum`` (1 or more) of the
    baskets.

    ``held``: [baskets, items] of 0 and 1, rows sorted, every item in at least ``minimum`` baskets.
    """
    bitmaps = _bitmaps(held)
    found = _pairs(held, bitmaps, minimum)
    for _ in range(2, LONGEST):
        yield found
        kept = [_counted(bitmaps, made, minimum) for made in _candidates(found.sets, held.shape[1])]
        found = Itemsets(*(np.concatenate(parts) for parts in zip(*kept, strict=True)))
    yield found


def _bitmaps(held: csr_matrix) -> Bitmaps:
    """[items, words]: whether each basket holds the item, a bit each."""
    baskets, items = held.shape
    basket = np.repeat(np.arange(baskets), np.diff(held.indptr))
    made = np.zeros((items, -(-baskets // 64) * 8), np.uint8)
    np.bitwise_or.at(
        made, (held.indices, basket >> 3), np.left_shift(1, basket & 7).astype(np.uint8)
    )
    return made.view(np.uint64)


def _pairs(held: csr_matrix, bitmaps: Bitmaps, minimum: int) -> Itemsets:
    items, words = bitmaps.shape
    in_baskets = float((np.diff(held.indptr).astype(np.float64) ** 2).sum())
    if items**2 / 2 * words < WORDS_A_PAIR * in_baskets:
        every = np.stack(np.triu_indices(items, 1), axis=1)
        return _counted(bitmaps, every, minimum)
    told = triu((held.T @ held).tocsr(), 1).tocoo()
    often = told.data >= minimum
    sets = np.stack([told.row[often], told.col[often]], axis=1).astype(np.int64)
    order = np.lexsort((sets[:, 1], sets[:, 0]))
    return Itemsets(sets[order], told.data[often][order].astype(np.int64))


def _candidates(sets: Numbers, items: int) -> Iterator[Numbers]:
    """The sets of one more item of which all subsets may be frequent, at most about `JOINED` at a
    time and at least once, in order."""
    count, size = sets.shape
    prefix, keys = _keys(sets[:, :-1], items), _keys(sets, items)
    # Each set is joined with those after it that differ from it in the last item only.
    partners = np.searchsorted(prefix, prefix, "right") - np.arange(count) - 1
    total = np.cumsum(partners)
    begin = 0
    while True:
        done = total[begin - 1] if begin else 0
        end = min(max(int(np.searchsorted(total, done + JOINED)), begin + 1), count)
        own = partners[begin:end]
        one = np.repeat(np.arange(begin, end), own)
        other = one + 1 + np.arange(len(one)) - np.repeat(np.cumsum(own) - own, own)
        made = np.concatenate([sets[one], sets[other, -1:]], axis=1)
        for left_out in range(size - 1):
            subsets = _keys(np.delete(made, left_out, axis=1), items)
            place = np.minimum(np.searchsorted(keys, subsets), max(count - 1, 0))
            made = made[keys[place] == subsets] if count else made
        yield made
        begin = end
        if begin >= count:
            return


def _keys(sets: Numbers, items: int) -> Numbers:
    """One number for each set, in the order of the sets."""
    key = np.zeros(len(sets), np.int64)
    for column in sets.T:
        key = key * items + column
    return key


def _counted(bitmaps: Bitmaps, candidates: Numbers, minimum: int) -> Itemsets:
    """Those ``candidates`` that are frequent."""
    counts = np.zeros(len(candidates), np.int64)
    step = max(CACHED // max(bitmaps.shape[1] * 8, 1), 1)
    for begin in range(0, len(candidates), step):
        part = candidates[begin : begin + step]
        both = bitmaps[part[:, 0]]
        for column in part.T[1:]:
            both &= bitmaps[column]
        counts[begin : begin + step] = np.bitwise_count(both).sum(axis=1, dtype=np.int64)
    often = counts >= minimum
    return Itemsets(candidates[often], counts[often])


def _named(found: Itemsets, names: pl.Series) -> pl.DataFrame:
    size = found.sets.shape[1]
    columns = {
        name: names.gather(found.sets[:, place])
        if place < size
        else pl.repeat(None, len(found.sets), dtype=pl.String, eager=True)
        for place, name in enumerate(ITEMS)
    }
    return pl.DataFrame(columns | {"baskets_with": found.counts})
