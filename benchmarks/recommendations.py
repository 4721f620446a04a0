"""Recommenders on Complete Journey, in MLflow as experiment ``recommendations``; and their speed.

Each user's last basket is foreseen from the 49 before it. Items in at least 17 baskets, baskets of
at least 3 such items, users with at least 4 baskets; half of the users (drawn) choose every weight,
the others are reported. Intervals: percentile bootstrap over users.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_matrix

from promo_assets.learning.tracking import Registry, Tracking
from promo_assets.recommendations import ranking
from promo_assets.recommendations.baskets import Baskets, baskets_of, decayed, histories
from promo_assets.recommendations.evaluation import (
    GRID,
    Candidates,
    interval,
    overall,
    per_user,
)
from promo_assets.recommendations.itemsets import ITEMS, LONGEST, Limits, itemsets_of
from promo_assets.recommendations.neighbours import NEIGHBOURS, matrix_of, neighbours_of
from promo_assets.recommendations.peers import factorised, tifu_neighbourhoods, tifu_vectors
from promo_assets.recommendations.ranking import (
    Blend,
    Model,
    Visits,
    best,
    cells_of,
    recommend,
    rows_of,
    without,
)
from promo_assets.settings import load_settings
from promo_assets.sources.complete_journey import CompleteJourney

LINES = """
with lines as (
    select distinct
        cast(household_id as varchar) as user_id, basket_id,
        cast(product_id as varchar) as item_id,
        min(transaction_timestamp) over (partition by basket_id) as moment
    from read_parquet($transactions)
),
items as (select item_id from lines group by item_id having count(distinct basket_id) >= 17),
kept as (select * from lines semi join items using (item_id)),
baskets as (select basket_id from kept group by basket_id having count(*) >= 3)
select
    user_id, item_id,
    dense_rank() over (partition by user_id order by moment, basket_id) as basket
from kept semi join baskets using (basket_id)
"""
CATEGORIES = """
select cast(product_id as varchar) as item_id, department || '/' || product_category as category
from read_parquet($products)
"""
LEVELS = """
select distinct level, basket_id as basket, item from (
    select basket_id, department || '/' || product_category as category,
        department || '/' || product_category || '/' || product_type as type
    from read_parquet($transactions) as lines
    inner join read_parquet($products) as products using (product_id)
) unpivot (item for level in (category, type))
"""
ALPHAS = (0.3, 0.5, 0.7, 0.9, 1.0)
TOPS = (10, 20)
LISTED = 20
PART = 5_000
"""Users whose lists are made at a time."""
NO_RULES = pl.DataFrame(schema={"because": pl.Int64, "item": pl.Int64, "score": pl.Float64})
Ranked = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Trial:
    """The users' histories, what they bought next, and who chooses weights."""

    baskets: Baskets
    at: npt.NDArray[np.int64]
    oldest: npt.NDArray[np.int64]
    truth: csr_matrix
    popularity: npt.NDArray[np.float64]
    past: csr_matrix
    chooses: npt.NDArray[np.bool_]
    categories: pl.Series
    lines: pl.DataFrame

    @property
    def bought(self) -> csr_matrix:
        return histories(self.baskets, self.at, decayed(1.0, 49), self.oldest)


def trial(folder: Path) -> Trial:
    """The protocol of the module on the package's files."""
    connection = duckdb.connect()
    lines = connection.execute(LINES, {"transactions": str(folder / "transactions.parquet")}).pl()
    products = connection.execute(CATEGORIES, {"products": str(folder / "products.parquet")}).pl()
    names = lines["item_id"].unique().sort()
    baskets = baskets_of(lines, names, "basket")
    count = np.diff(baskets.first)
    last = (baskets.first[1:] - 1)[count >= 4]
    at = last - 1
    known = lines.filter(pl.col("basket") < pl.col("basket").max().over("user_id"))
    past = histories(baskets, (baskets.first[1:] - 2)[count >= 2], decayed(1.0, 49))
    popularity = np.asarray((past > 0).sum(axis=0)).ravel() / past.shape[0]
    categories = pl.DataFrame({"item_id": names}).join(
        products, on="item_id", how="left", maintain_order="left"
    )["category"]
    return Trial(
        baskets, at, np.maximum(at - baskets.place[at], at - 48), baskets.items[last], popularity,
        (past > 0).astype(np.float64)[count[count >= 2] >= 4],
        np.random.default_rng(0).random(len(at)) < 0.5, categories, known,
    )  # fmt: skip


def listed(scores: csr_matrix) -> pl.DataFrame:
    scores.sort_indices()
    return best(scores.tocsr(), LISTED)


def dense(scores: npt.NDArray[np.float64]) -> pl.DataFrame:
    """The best of scores [users, items] of which any may be listed."""
    return listed(csr_matrix(scores - scores.min() + 1e-9))


def recall_of(ranked: pl.DataFrame, told: Trial) -> float:
    """Mean recall at 10 of the users who choose."""
    return float(per_user(ranked, "kind_rank", told.truth, 10)["recall"][told.chooses].mean())


def served(told: Trial, blend: Blend) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The served lists in one order, and the explore list alone."""
    baskets, names = told.baskets, told.baskets.names
    model = model_of(told.lines, names, blend, told.popularity, told.categories)
    users = len(told.at)
    visits = Visits(told.at, told.oldest, pl.Series([""] * users), csr_matrix((users, len(names))))
    found = recommend(visits, baskets, model)
    merged = found.sort("visit", "score", descending=[False, True]).with_columns(
        kind_rank=pl.int_range(1, pl.len() + 1).over("visit")
    )
    return merged, found.filter(pl.col("kind") == "explore")


def model_of(
    lines: pl.DataFrame,
    names: pl.Series,
    blend: Blend,
    popularity: npt.NDArray[np.float64],
    categories: pl.Series,
) -> Model:
    """What the platform would know of ``lines``."""
    near = neighbours_of(lines, threads=2)
    cells = (names.search_sorted(near["item_id"]), names.search_sorted(near["neighbour_id"]))
    similar = csr_matrix((near["similarity"].to_numpy(), cells), (len(names), len(names)))
    similar.sort_indices()
    most = np.argsort(-popularity, kind="stable")[:40].astype(np.int64)
    favourites = pl.DataFrame({"segment": "", "item": most, "share": popularity[most]})
    return Model(blend, popularity, similar, categories, favourites, NO_RULES)


def newcomers(told: Trial) -> None:
    """The second basket of users of whom one item of the first was seen and nothing else is known.
    All that is learned is learned of other users; weights are compared on the users who choose."""
    baskets, names = told.baskets, told.baskets.names
    drawn = np.random.default_rng(0).random(len(baskets.users))
    learned_of = told.lines.filter(
        pl.col("user_id").is_in(baskets.users.filter(pl.Series(drawn < 0.5)).implode())
    )
    counts = learned_of.select("user_id", "item_id").unique().group_by("item_id").len()
    popularity = np.zeros(len(names))
    popularity[names.search_sorted(counts["item_id"]).to_numpy()] = (
        counts["len"].to_numpy() / learned_of["user_id"].n_unique()
    )
    model = model_of(learned_of, names, Blend(), popularity, told.categories)
    user = np.flatnonzero((drawn >= 0.5) & (np.diff(baskets.first) >= 2))
    first, users = baskets.first[user], len(user)
    draw = np.random.default_rng(1)
    item = [draw.choice(baskets.items[basket].indices) for basket in first]
    seen = csr_matrix((np.ones(users), (np.arange(users), item)), (users, len(names)))
    nothing = Visits(
        np.zeros(users, np.int64), np.ones(users, np.int64), pl.Series([""] * users), seen
    )
    truth, chooses = baskets.items[first + 1], drawn[user] < 0.75
    found = {}
    for weight in (1.0, 0.5, 0.3, 0.2, 0.1, 0.0):
        ranking.NEWCOMER = weight
        lists = recommend(nothing, baskets, model).filter(pl.col("kind") == "explore")
        found[weight] = per_user(lists, "kind_rank", truth, 10)["recall"]
    for weight, recall in found.items():
        mean, low, high = interval(recall[~chooses])
        paired = interval((recall - found[0.0])[~chooses])
        print(
            f"newcomers, likeness x {weight}: "
            f"{chooses.sum():,} choose {recall[chooses].mean():.4f}, "
            f"{(~chooses).sum():,} reported {mean:.4f} [{low:.4f}, {high:.4f}], "
            f"- popularity's {paired[0]:+.4f} [{paired[1]:+.4f}, {paired[2]:+.4f}]"
        )


def recommenders(
    told: Trial,
) -> tuple[dict[str, pl.DataFrame], dict[str, pl.DataFrame], dict[str, str]]:
    """All lists by recommender, of what may be listed and of explore items alone, and what was
    chosen on the users who choose."""
    candidates = Candidates.of(told.baskets, told.at, told.popularity, told.oldest)
    blends = {blend: listed(candidates.scores(blend)) for blend in GRID}
    chosen = max(GRID, key=lambda blend: recall_of(blends[blend], told))
    bar = max(
        (b for b in GRID if not b.purchases), key=lambda blend: recall_of(blends[blend], told)
    )
    vectors = tifu_vectors(told.baskets, told.at, last=49)
    around = tifu_neighbourhoods(vectors)
    tifu = {alpha: (alpha * vectors + (1 - alpha) * around).tocsr() for alpha in ALPHAS}
    alpha = max(ALPHAS, key=lambda alpha: recall_of(listed(tifu[alpha].copy()), told))
    bought, popular = told.bought, np.tile(told.popularity, (len(told.at), 1))
    near = neighbours_of(told.lines, threads=2)
    names = told.baskets.names
    cells = (names.search_sorted(near["item_id"]), names.search_sorted(near["neighbour_id"]))
    similar = csr_matrix((near["similarity"].to_numpy(), cells), (len(names), len(names)))
    knn = (histories(told.baskets, told.at, decayed(0.9, 49), told.oldest) @ similar).tocsr()
    als = factorised(told.past, np.arange(len(told.at)))
    merged, explore = served(told, chosen)
    lists = {
        "popularity": dense(popular),
        "GP-TopFreq": listed((bought + csr_matrix(1e-3 * popular)).tocsr()),
        "blend (.9-decayed + w popularity)": blends[bar],
        "ALS": dense(als),
        "item-kNN (BM25)": listed(knn.copy()),
        "TIFU-kNN": listed(tifu[alpha].copy()),
        "served": merged,
    }
    row, column = rows_of(bought), bought.indices
    for matrix in (popular, als):
        matrix[row, column] = matrix.min() - 1e-9
    new = {
        "popularity": dense(popular),
        "ALS": dense(als),
        "item-kNN (BM25)": listed(without(knn, bought)),
        "TIFU-kNN": listed(without(tifu[alpha], bought)),
        "served": explore,
    }
    new["blend (.9-decayed + w popularity)"] = new["popularity"]
    weights = {
        "served": f"purchases {chosen.purchases}, popularity {chosen.popularity}",
        "blend (.9-decayed + w popularity)": f"w {bar.popularity}",
        "TIFU-kNN": f"alpha {alpha}",
    }
    return lists, new, weights


def compare(told: Trial, tracking: Tracking) -> None:
    lists, new, weights = recommenders(told)
    bought = cells_of(told.bought, rows_of(told.truth), told.truth.indices) > 0
    parts = {"all": told.truth}
    for part, kept in (("repeat", bought), ("explore", ~bought)):
        matrix = told.truth.copy()
        matrix.data = kept.astype(np.float64)
        matrix.eliminate_zeros()
        parts[part] = matrix
    reported = ~told.chooses
    print(
        f"{reported.sum():,} users reported, {told.chooses.sum():,} chose; "
        f"{len(told.popularity):,} items"
    )
    bar = "blend (.9-decayed + w popularity)"
    found = {}
    for part, tops in (("all", TOPS), ("repeat", TOPS), ("explore", TOPS)):
        of_part: Ranked = new if part == "explore" else lists
        for k in tops:
            if part == "explore" and k > 10:
                continue  # The served list holds ten.
            for name, ranked in of_part.items():
                values = per_user(ranked, "kind_rank", parts[part], k)
                found[part, k, name] = {key: value[reported] for key, value in values.items()}
    for (part, k, name), values in found.items():
        told_of = {key: interval(value) for key, value in values.items()}
        ranked = (new if part == "explore" else lists)[name]
        wide = overall(ranked, "kind_rank", told.popularity, k)
        paired = interval(values["recall"] - found[part, k, bar]["recall"])
        print(
            f"{part:<8}@{k:<3}{name:<36}"
            + "  ".join(
                f"{key} {mean:.4f} [{low:.4f}, {high:.4f}]"
                for key, (mean, low, high) in told_of.items()
            )
            + f"  coverage {wide['coverage']:.3f}  novelty {wide['novelty']:.2f}"
            + f"  recall - blend's {paired[0]:+.4f} [{paired[1]:+.4f}, {paired[2]:+.4f}]"
        )
        tracking.note(
            f"{name} {part}@{k}",
            {
                "recommender": name,
                "part": part,
                "k": k,
                "weights": weights.get(name, ""),
                "source": "complete_journey",
                "users": int(reported.sum()),
                "seed": 0,
            },
            {key: mean for key, (mean, _, _) in told_of.items()}
            | {
                f"{key}_{end}": value
                for key, (_, low, high) in told_of.items()
                for end, value in (("low", low), ("high", high))
            }
            | dict(wide)
            | {
                "recall_minus_blend": paired[0],
                "recall_minus_blend_low": paired[1],
                "recall_minus_blend_high": paired[2],
            },
        )
    print({name: text for name, text in weights.items()})


def rules_speed(folder: Path, told: Trial) -> None:
    """Itemsets of the trial's baskets, and of all baskets by category and type, at the supports of
    the platform: the same ones as mlxtend's, and how long both take."""
    try:
        import mlxtend  # noqa: F401
    except ImportError:
        print("LEFT OUT: mlxtend is not installed")
        return
    cells = told.baskets.items.tocoo()
    products = {"basket": cells.row, "item": told.baskets.names.gather(cells.col)}
    files = {name: str(folder / f"{name}.parquet") for name in ("transactions", "products")}
    lines = duckdb.connect().execute(LEVELS, files).pl()
    for level, supports in {
        "product": (0.002, 0.001, 0.0005), "category": (0.02, 0.01), "type": (0.01,)
    }.items():  # fmt: skip
        of_level = lines.filter(pl.col("level") == level).drop("level")
        for support in supports:
            compare_itemsets(
                pl.DataFrame(products) if level == "product" else of_level, level, support
            )


def compare_itemsets(lines: pl.DataFrame, level: str, support: float) -> None:
    """Ours from lines of text; mlxtend's fpgrowth from its table of frequent items, whose making is
    not counted."""
    import pandas as pd
    from mlxtend.frequent_patterns import fpgrowth

    began = time.perf_counter()
    limits = Limits({level: support}, least=1, cap=10_000)
    ours = itemsets_of(lines.with_columns(level=pl.lit(level)), limits)
    our_seconds = time.perf_counter() - began
    names = ours.filter(pl.col("item_2").is_null())["item_1"].sort()
    baskets = lines["basket"].unique().sort()
    frequent = lines.filter(pl.col("item").is_in(names.implode()))
    cells = (
        baskets.search_sorted(frequent["basket"]).to_numpy(),
        names.search_sorted(frequent["item"]).to_numpy(),
    )
    held = csr_matrix((np.ones(frequent.height, bool), cells), (len(baskets), len(names)))
    table = pd.DataFrame.sparse.from_spmatrix(held)
    table.columns = names.to_list()
    began = time.perf_counter()
    theirs = fpgrowth(table, min_support=support, use_colnames=True, max_len=LONGEST)
    their_seconds = time.perf_counter() - began
    same = {frozenset(told) for told in theirs["itemsets"]} == {
        frozenset(filter(None, told)) for told in ours.select(ITEMS).iter_rows()
    }
    print(
        f"itemsets of {len(baskets):,} baskets, {level} at support {support}: {ours.height:,} in "
        f"{our_seconds:.2f} s; mlxtend fpgrowth {len(theirs):,} in {their_seconds:.1f} s, "
        f"{their_seconds / our_seconds:.1f} times; the same sets: {same}"
    )


def list_speed(users: int, items: int) -> None:
    """Lists of a simulated shop, ten baskets of five Zipf-distributed items a user, and what
    `implicit` alone takes to recommend twenty items of the same neighbours."""
    from implicit.nearest_neighbours import BM25Recommender

    draw = np.random.default_rng(1)
    shares = 1 / np.arange(10, items + 10) ** 0.8
    names = pl.Series([f"i{number:06}" for number in range(items)])
    drawn = np.concatenate(
        [
            draw.choice(items, 50 * min(PART, users - first), p=shares / shares.sum())
            for first in range(0, users, PART)
        ]
    )
    lines = pl.DataFrame(
        {
            "user_id": pl.Series([f"u{number:07}" for number in range(users)]).gather(
                np.repeat(np.arange(users, dtype=np.uint32), 50)
            ),
            "basket": np.tile(np.repeat(np.arange(10, dtype=np.int8), 5), users),
            "item_id": names.gather(drawn),
        }
    )
    began = time.perf_counter()
    near = neighbours_of(lines, threads=2)
    fitted = time.perf_counter() - began
    cells = (names.search_sorted(near["item_id"]), names.search_sorted(near["neighbour_id"]))
    similar = csr_matrix((near["similarity"].to_numpy(), cells), (items, items))
    similar.sort_indices()
    share = shares / shares.max()
    favourites = pl.DataFrame({"segment": "", "item": np.arange(40), "share": share[:40]})
    categories = pl.Series([f"c{number % 50}" for number in range(items)])
    model = Model(Blend(), share, similar, categories, favourites, NO_RULES)
    began = time.perf_counter()
    for first in range(0, users, PART):
        # As on a day of the platform: the histories of the users who are due.
        due = lines.slice(50 * first, 50 * PART)
        baskets = baskets_of(due, names, "basket")
        count = len(baskets.users)
        seen = csr_matrix((count, items))
        segment = pl.Series([""] * count)
        recommend(Visits(baskets.first[1:] - 1, baskets.first[:-1], segment, seen), baskets, model)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{users:,} users x {items:,} items: neighbours {fitted:.1f} s, "
        f"lists of all {seconds:.1f} s ({users / seconds:,.0f} users a second), "
        f"peak memory {peak:.1f} GiB"
    )
    bought = matrix_of(lines.head(50 * min(users, 10 * PART)), names).astype(np.float32)
    bare = BM25Recommender(K=NEIGHBOURS, num_threads=2)
    began = time.perf_counter()
    bare.fit(bought, show_progress=False)
    fitted = time.perf_counter() - began
    began = time.perf_counter()
    for first in range(0, bought.shape[0], PART):
        part = np.arange(first, min(first + PART, bought.shape[0]))
        bare.recommend(part, bought[part], N=LISTED)
    seconds = time.perf_counter() - began
    print(
        f"implicit alone, {bought.shape[0]:,} users: neighbours of all items {fitted:.1f} s, "
        f"top {LISTED} {bought.shape[0] / seconds:,.0f} users a second"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speed", action="store_true", help="leave out the table of recommenders")
    parser.add_argument("--newcomers", action="store_true", help="only users who bought nothing")
    parser.add_argument("--lists", action="store_true", help="only the simulated shop's lists")
    parser.add_argument("--users", type=int, default=50_000, help="of the simulated shop")
    parser.add_argument("--items", type=int, default=5_000, help="of the simulated shop")
    asked = parser.parse_args()
    if not asked.lists:
        settings = load_settings()
        places = settings.places
        folder = CompleteJourney.installed(settings.start).folder
        told = trial(folder)
        if asked.newcomers:
            newcomers(told)
            return
        if not asked.speed:
            places.model_store.mkdir(parents=True, exist_ok=True)
            registry = Registry("recommendations", "", "Recommenders compared")
            compare(told, Tracking(places.tracking_uri, places.model_store, registry))
        rules_speed(folder, told)
    list_speed(asked.users, asked.items)


if __name__ == "__main__":
    main()
