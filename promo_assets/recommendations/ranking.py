"""Products for a user: what to buy again, and what to try, each list ordered by its score.

Repeat: an item's count in the user's last baskets, decayed, plus a share of the plain count, plus
its popularity. Explore: items not in those baskets, by their likeness to what is (BM25 neighbours)
plus popularity, a few of each category at most; where likeness names too few, or nothing was bought
yet, what the user's segment buys most as well. Complement (跨界): what joins baskets with their
items by association rules, from another category. Not here: how the weights are learned
(``evaluation.py``).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_matrix

from promo_assets.recommendations.baskets import Baskets, Numbers, Weights, decayed, histories

REPEATED, EXPLORED = 20, 10
"""Items in a user's lists."""
PER_CATEGORY = 3
"""Explore items of one category at most."""
CONSIDERED = 40
"""Explore items that the limit by category chooses from."""
INTERESTS = 100
"""Items of a user that likeness starts from: the most recent and frequent ones."""
SEEN = 0.3
"""What an item weighs that the user looked at that day, where one just bought weighs 1."""
LIKENESS = 0.1
"""An explore item's score is this x (likeness + popularity): below what was bought lately."""
NEWCOMER = 0.1
"""What likeness counts of that for who has bought nothing: a few looks say less of what somebody
will buy than what everybody does (docs/recommendations.md, where it was chosen)."""
COMPLEMENTS = 3
REPEAT, EXPLORE, COMPLEMENT = "repeat", "explore", "complement"


@dataclass(frozen=True)
class Blend:
    """What counts of an item beside its decayed count: each purchase in the last baskets, and its
    popularity (the share of buyers who bought it)."""

    purchases: float = 0.3
    popularity: float = 1.0


@dataclass(frozen=True)
class Model:
    """What is known of items by the end of some week, items by number: ``popularity`` [items],
    ``similar`` [items, items], ``categories`` (null: unknown), and the most popular of each segment
    ("": of all) as a frame of segment, item, share, best first. ``rules``: because (an item), item
    (which joins it) and score (its lift, surely)."""

    blend: Blend
    popularity: Weights
    similar: csr_matrix
    categories: pl.Series
    favourites: pl.DataFrame
    rules: pl.DataFrame


@dataclass(frozen=True)
class Visits:
    """Whom to recommend to: ``at`` the user's newest basket, ``oldest`` their first that counts
    (beyond ``at``: none), ``segment``, and ``seen`` [visits, items]: what they looked at."""

    at: Numbers
    oldest: Numbers
    segment: pl.Series
    seen: csr_matrix


def recommend(visits: Visits, baskets: Baskets, model: Model) -> pl.DataFrame:
    """The lists of every visit.

    Columns: visit (by number), kind, kind_rank (from 1), item (by number), score, times (bought, in
    the last baskets) and because (the item that it is like, or null). Sorted.
    """
    recent = histories(baskets, visits.at, decayed(), visits.oldest)
    bought = histories(baskets, visits.at, decayed(1.0), visits.oldest)
    again = repeat_scores(recent, bought, model)
    repeat = best(again, REPEATED).with_columns(
        pl.lit(REPEAT).alias("kind"), pl.lit(None, pl.Int64).alias("because")
    )
    times = cells_of(bought, repeat["visit"].to_numpy(), repeat["item"].to_numpy())
    interest = strongest((recent + SEEN * visits.seen).tocsr(), INTERESTS)
    new = explore(visits, interest, bought, model).with_columns(
        pl.lit(EXPLORE).alias("kind"), pl.lit(0, pl.Int64).alias("times")
    )
    repeat = repeat.with_columns(times=pl.Series(times.round().astype(np.int64)))
    joining = complements(interest, bought, model).with_columns(
        pl.lit(COMPLEMENT).alias("kind"), pl.lit(0, pl.Int64).alias("times")
    )
    lists = [told.select(COLUMNS) for told in (repeat, new, joining)]
    return pl.concat(lists).sort("visit", "kind", "kind_rank", descending=[False, True, False])


COLUMNS = ["visit", "kind", "kind_rank", "item", "score", "times", "because"]


def repeat_scores(recent: csr_matrix, bought: csr_matrix, model: Model) -> csr_matrix:
    """[visits, items]: of what was bought in the last baskets, by its decayed and plain counts,
    which have the same cells."""
    scores = recent.copy()
    scores.data += model.blend.purchases * bought.data
    scores.data += model.blend.popularity * model.popularity[scores.indices]
    return scores


def explore_scores(interest: csr_matrix, bought: csr_matrix, model: Model) -> csr_matrix:
    """[visits, items]: of what is like something in ``interest`` and not ``bought``."""
    scores = without((interest @ model.similar).tocsr(), bought)
    row = rows_of(scores)
    most = np.zeros(scores.shape[0])
    np.maximum.at(most, row, scores.data)
    known = np.where(_newcomers(bought), NEWCOMER, 1.0)[row]
    scores.data = LIKENESS * (known * scores.data / most[row] + model.popularity[scores.indices])
    return scores


def explore(visits: Visits, interest: csr_matrix, bought: csr_matrix, model: Model) -> pl.DataFrame:
    """The explore list of every visit: visit, kind_rank, item, score, because."""
    alike = best(explore_scores(interest, bought, model), CONSIDERED).drop("kind_rank")
    fitting = varied(
        pl.concat([alike, _favourites(visits, alike, bought, model)]), model.categories
    )
    row, item = fitting["visit"].to_numpy(), fitting["item"].to_numpy()
    return fitting.with_columns(because=_because(interest, model.similar, row, item))


def complements(interest: csr_matrix, bought: csr_matrix, model: Model) -> pl.DataFrame:
    """What joins the visit's items by rule, is of another category and was not bought: visit,
    kind_rank, item, score, because."""
    own = pl.DataFrame({"visit": rows_of(interest), "because": interest.indices.astype(np.int64)})
    category = {name: model.categories.gather(model.rules[name]) for name in ("because", "item")}
    across = model.rules.filter(category["because"].ne_missing(category["item"]))
    found = own.join(across, on="because").sort(
        "visit", "score", "item", "because", descending=[False, True, False, False]
    )
    new = cells_of(bought, found["visit"].to_numpy(), found["item"].to_numpy()) == 0
    found = found.filter(pl.Series(new, dtype=pl.Boolean)).unique(
        ["visit", "item"], keep="first", maintain_order=True
    )
    place = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("visit")
    return found.with_columns(kind_rank=place).filter(pl.col("kind_rank") <= COMPLEMENTS)


def varied(ranked: pl.DataFrame, categories: pl.Series) -> pl.DataFrame:
    """The first `EXPLORED` of each visit with at most `PER_CATEGORY` of a category; items without
    one are not limited."""
    ordered = ranked.sort("visit", "score", "item", descending=[False, True, False])
    category = categories.gather(ordered["item"])
    in_category = pl.int_range(pl.len()).over("visit", "category")
    fitting = ordered.with_columns(category=category).filter(
        pl.col("category").is_null() | (in_category < PER_CATEGORY)
    )
    place = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("visit")
    return (
        fitting.with_columns(kind_rank=place)
        .filter(pl.col("kind_rank") <= EXPLORED)
        .select("visit", "kind_rank", "item", "score")
    )


def best(scores: csr_matrix, most: int) -> pl.DataFrame:
    """The ``most`` highest cells above 0 of each row: visit, kind_rank (from 1), item, score; ties
    by item."""
    found = strongest(scores, most)
    visit = rows_of(found)
    return (
        pl.DataFrame(
            {
                "visit": visit,
                "item": found.indices.astype(np.int64),
                "score": found.data,
            }
        )
        .sort("visit", "score", "item", descending=[False, True, False])
        .with_columns(kind_rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("visit"))
    )


def strongest(scores: csr_matrix, most: int) -> csr_matrix:
    """``scores`` with the ``most`` highest cells above 0 of each row; of ties at the edge the first
    items."""
    kept = np.ones(scores.nnz, dtype=bool)
    for begin, end in itertools.pairwise(scores.indptr):
        if end - begin > most:
            row = scores.data[begin:end]
            edge = np.partition(row, end - begin - most)[end - begin - most]
            above = row > edge
            at_edge = np.flatnonzero(row == edge)[: most - above.sum()]
            above[at_edge] = True
            kept[begin:end] = above
    kept &= scores.data > 0
    ends = np.concatenate([[0], np.cumsum(kept)])[scores.indptr]
    return csr_matrix((scores.data[kept], scores.indices[kept], ends), scores.shape)


def without(scores: csr_matrix, excluded: csr_matrix) -> csr_matrix:
    """``scores`` without the cells that ``excluded`` has; rows sorted."""
    scores.sort_indices()
    kept = cells_of(excluded, rows_of(scores), scores.indices) == 0
    ends = np.concatenate([[0], np.cumsum(kept)])[scores.indptr]
    return csr_matrix((scores.data[kept], scores.indices[kept], ends), scores.shape)


def _newcomers(bought: csr_matrix) -> npt.NDArray[np.bool_]:
    """[visits]: who has bought nothing yet."""
    return np.diff(bought.indptr) == 0


def _favourites(
    visits: Visits, alike: pl.DataFrame, bought: csr_matrix, model: Model
) -> pl.DataFrame:
    """What the segment buys most, or all do, for newcomers and for visits to which likeness names
    too few items."""
    named = np.bincount(alike["visit"].to_numpy(), minlength=len(visits.at))
    visit = np.flatnonzero((named < EXPLORED) | _newcomers(bought))
    known = pl.col("segment").is_in(model.favourites["segment"].unique().implode())
    few = pl.DataFrame({"visit": visit, "segment": visits.segment.gather(visit)}).with_columns(
        segment=pl.when(known).then("segment").otherwise(pl.lit(""))
    )
    found = few.join(model.favourites, on="segment").join(alike, on=["visit", "item"], how="anti")
    cells = cells_of(bought, found["visit"].to_numpy(), found["item"].to_numpy())
    return found.filter(pl.Series(cells == 0, dtype=pl.Boolean)).select(
        "visit", "item", score=LIKENESS * pl.col("share")
    )


def _because(interest: csr_matrix, similar: csr_matrix, row: Numbers, item: Numbers) -> pl.Series:
    """For each pair of visit and item: of the item's own neighbours the one that the visit is most
    interested in, or null."""
    speaking = similar[item]
    pair = rows_of(speaking)
    said = pl.DataFrame(
        {
            "pair": pair,
            "because": speaking.indices.astype(np.int64),
            "weight": speaking.data * cells_of(interest, row[pair], speaking.indices),
        }
    )
    most = (
        said.filter(pl.col("weight") > 0)
        .sort("pair", "weight", "because", descending=[False, True, False])
        .unique("pair", keep="first", maintain_order=True)
    )
    pairs = pl.DataFrame({"pair": np.arange(len(row))})
    return pairs.join(most, on="pair", how="left", maintain_order="left")["because"]


def cells_of(matrix: csr_matrix, row: Numbers, item: Numbers) -> npt.NDArray[np.float64]:
    """The cells ``[row, item]`` of a matrix with sorted rows."""
    keys = _keys(matrix)
    asked = row * matrix.shape[1] + item
    place = np.minimum(np.searchsorted(keys, asked), max(len(keys) - 1, 0))
    if not len(keys):
        return np.zeros(len(asked))
    return np.where(keys[place] == asked, matrix.data[place], 0.0)


def rows_of(matrix: csr_matrix) -> Numbers:
    """The row of each cell."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _keys(matrix: csr_matrix) -> Numbers:
    """One number for each cell, in order where rows are sorted."""
    return rows_of(matrix) * matrix.shape[1] + matrix.indices
