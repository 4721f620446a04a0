"""Lists hold what they should: counts as defined, repeat and explore apart, few of a category."""

from __future__ import annotations

import random
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from promo_assets.recommendations.baskets import Baskets, baskets_of, decayed, histories
from promo_assets.recommendations.evaluation import GRID, interval, learned, overall, per_user
from promo_assets.recommendations.neighbours import neighbours_of
from promo_assets.recommendations.ranking import (
    EXPLORED,
    PER_CATEGORY,
    REPEATED,
    Blend,
    Model,
    Visits,
    recommend,
)

FIRST = date(2024, 1, 1)
NAMES = pl.Series([f"i{number:02}" for number in range(30)])


def lines(users: int = 6, days: int = 40, seed: int = 1) -> pl.DataFrame:
    draw = random.Random(seed)
    rows = [
        (f"u{user}", FIRST + timedelta(days=day), draw.choice(NAMES[: 5 + 4 * user]))
        for user in range(users)
        for day in range(days)
        if draw.random() < 0.3
        for _ in range(draw.randint(1, 4))
    ]
    return pl.DataFrame(rows, ["user_id", "event_date", "item_id"], orient="row")


def model(categories: list[str | None] | None = None, similar: csr_matrix | None = None) -> Model:
    count = len(NAMES)
    share = np.linspace(0.9, 0.01, count)
    favourites = pl.DataFrame({"segment": "", "item": np.arange(count), "share": share})
    return Model(
        Blend(),
        share,
        csr_matrix((count, count)) if similar is None else similar,
        pl.Series(categories or [None] * count, dtype=pl.String),
        favourites,
        pl.DataFrame({"because": [0, 1], "item": [28, 27], "score": [2.0, 3.0]}),
    )


def visits(baskets: Baskets) -> Visits:
    """Every user at their newest basket."""
    last = baskets.first[1:] - 1
    segment = pl.Series([""] * len(last))
    return Visits(last, baskets.first[:-1], segment, csr_matrix((len(last), len(NAMES))))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 8))
def test_histories_are_decayed_counts_of_the_last_baskets(seed: int, last: int) -> None:
    told = lines(users=3, days=20, seed=seed)
    baskets = baskets_of(told, NAMES, "event_date")
    found = histories(baskets, np.arange(len(baskets.user)), decayed(0.9, last)).toarray()

    for row, (user, day) in enumerate(zip(baskets.user, baskets.moment, strict=True)):
        own = told.filter(pl.col("user_id") == baskets.users[int(user)])
        upto = own.filter(pl.col("event_date") <= FIRST + timedelta(days=int(day) - 19723))
        expected = np.zeros(len(NAMES))
        for since, (_, of_day) in enumerate(
            sorted(upto.group_by("event_date"), key=lambda part: part[0], reverse=True)[:last]
        ):
            for item in of_day["item_id"].unique():
                expected[int(item[1:])] += 0.9**since
        assert found[row] == pytest.approx(expected)


def test_lists_are_apart_in_order_and_complete() -> None:
    baskets = baskets_of(lines(), NAMES, "event_date")
    found = recommend(visits(baskets), baskets, model())
    bought = histories(baskets, visits(baskets).at, decayed(1.0)).toarray()

    for (visit, kind), rows in found.group_by("visit", "kind", maintain_order=True):
        assert rows["kind_rank"].to_list() == list(range(1, rows.height + 1))
        assert rows["score"].is_sorted(descending=True)
        assert rows["item"].n_unique() == rows.height
        own = bought[visit]
        assert [own[item] > 0 for item in rows["item"]] == [kind == "repeat"] * rows.height
        assert rows["times"].to_list() == [round(own[item]) for item in rows["item"]]
        if kind != "complement":
            most, possible = (REPEATED, own > 0) if kind == "repeat" else (EXPLORED, own == 0)
            assert rows.height == min(most, int(possible.sum()))


def test_repeat_scores_are_the_blends() -> None:
    baskets = baskets_of(lines(), NAMES, "event_date")
    found = recommend(visits(baskets), baskets, model()).filter(pl.col("kind") == "repeat")
    at = visits(baskets).at
    recent, times = (histories(baskets, at, decayed(decay)).toarray() for decay in (0.9, 1.0))
    expected = np.where(times > 0, recent + 0.3 * times + model().popularity, -np.inf)

    for (visit,), rows in found.group_by("visit"):
        best = np.argsort(-expected[visit], kind="stable")[: rows.height]
        assert rows.sort("kind_rank")["item"].to_list() == best.tolist()
        assert rows.sort("kind_rank")["score"].to_list() == pytest.approx(expected[visit][best])


def test_what_is_like_a_purchase_comes_first_and_tells_why() -> None:
    similar = csr_matrix(([1.0, 1.0], ([0, 29], [29, 0])), (len(NAMES),) * 2)
    baskets = baskets_of(
        pl.DataFrame({"user_id": ["u"], "event_date": [FIRST], "item_id": ["i00"]}),
        NAMES,
        "event_date",
    )
    found = recommend(visits(baskets), baskets, model(similar=similar))
    first = found.filter(pl.col("kind") == "explore").row(0, named=True)
    assert (first["item"], first["because"]) == (29, 0)


def test_a_complement_joins_what_was_bought_from_another_category() -> None:
    told = pl.DataFrame({"user_id": "u", "event_date": FIRST, "item_id": ["i00", "i01"]})
    baskets = baskets_of(told, NAMES, "event_date")
    categories: list[str | None] = ["A"] * 28 + ["B"] * 2
    found = recommend(visits(baskets), baskets, model(categories))
    (row,) = found.filter(pl.col("kind") == "complement").iter_rows(named=True)
    assert (row["item"], row["because"], row["score"], row["times"]) == (28, 0, 2.0, 0)


def test_explore_holds_few_of_a_category() -> None:
    categories: list[str | None] = ["A"] * 20 + ["B"] * 5 + [None] * 5
    baskets = baskets_of(lines(users=1), NAMES, "event_date")
    found = recommend(visits(baskets), baskets, model(categories))
    told = found.filter(pl.col("kind") == "explore")["item"].to_list()
    named = [categories[item] for item in told]
    assert max(named.count("A"), named.count("B")) <= PER_CATEGORY
    assert named.count(None) > 0


def test_who_bought_nothing_gets_what_others_buy_and_what_is_like_what_they_saw() -> None:
    similar = csr_matrix(([1.0], ([3], [10])), (len(NAMES),) * 2)
    empty = baskets_of(lines().head(0), NAMES, "event_date")
    seen = csr_matrix(([1.0], ([0], [3])), (1, len(NAMES)))
    visit = Visits(np.array([-1]), np.array([0]), pl.Series(["new"]), seen)
    found = recommend(visit, empty, model(similar=similar))
    assert "repeat" not in found["kind"].to_list()
    new = found.filter(pl.col("kind") == "explore")
    # Item 10 has share .59, and .1 for its likeness: between those with .72 and with .69.
    assert new["item"].to_list() == [*range(7), 10, 7, 8]


def test_a_purchase_makes_likeness_count_in_full() -> None:
    near = [(3, item) for item in range(15, 29)]
    rows, columns = zip(*near, strict=True)
    similar = csr_matrix((np.linspace(1.0, 0.9, len(near)), (rows, columns)), (len(NAMES),) * 2)
    one = pl.DataFrame({"user_id": ["u"], "event_date": [FIRST], "item_id": ["i03"]})
    bought = baskets_of(one, NAMES, "event_date")
    seen = csr_matrix(([1.0], ([0], [3])), (1, len(NAMES)))
    empty = baskets_of(one.head(0), NAMES, "event_date")
    nobody = Visits(np.array([-1]), np.array([0]), pl.Series([""]), seen)
    told = [
        recommend(visit, baskets, model(similar=similar)).filter(pl.col("kind") == "explore")
        for visit, baskets in ((visits(bought), bought), (nobody, empty))
    ]
    assert set(told[0]["item"]) <= set(columns)
    assert told[1]["item"].to_list()[:3] == [0, 1, 2]


def test_a_basket_of_ten_thousand_items_and_a_user_of_many_events_are_bounded() -> None:
    many = pl.Series([f"x{number:05}" for number in range(10_000)])
    huge = pl.DataFrame({"user_id": "u", "event_date": FIRST, "item_id": many})
    often = pl.DataFrame(
        {
            "user_id": "v",
            "event_date": [FIRST + timedelta(days=n) for n in range(3000)],
            "item_id": many[0],
        }
    )
    told = pl.concat([huge, often])
    baskets = baskets_of(told, many, "event_date")
    last = baskets.first[1:] - 1
    scores = histories(baskets, last, decayed())
    assert scores.nnz == 10_001
    assert scores.data.max() < 10
    assert neighbours_of(told, most=100).height <= 100 * 20


def test_neighbours_are_those_who_share_buyers() -> None:
    rows = [(f"u{n}", item) for n in range(40) for item in (("a", "b") if n % 2 else ("c", "d"))]
    rows += [(f"u{n}", "e") for n in range(40)]
    found = neighbours_of(pl.DataFrame(rows, ["user_id", "item_id"], orient="row"))
    nearest = found.filter(pl.col("neighbour_rank") == 1)
    told = dict(nearest.select("item_id", "neighbour_id").iter_rows())
    assert {item: told[item] for item in "abcd"} == {"a": "b", "b": "a", "c": "d", "d": "c"}
    assert neighbours_of(
        pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String})
    ).is_empty()


def test_metrics_are_those_of_their_definitions() -> None:
    ranked = pl.DataFrame(
        {"visit": [0, 0, 0, 1, 1], "item": [5, 1, 2, 3, 4], "kind_rank": [1, 2, 3, 1, 2]}
    )
    truth = csr_matrix(([1.0] * 4, ([0, 0, 1, 1], [1, 2, 8, 9])), (3, 10))
    found = per_user(ranked, "kind_rank", truth, 3)
    assert found["recall"].tolist()[:2] == [1.0, 0.0]
    assert np.isnan(found["recall"][2])
    assert found["mrr"][0] == 1 / 2
    assert found["hit_rate"].tolist()[:2] == [1.0, 0.0]
    ideal = 1 + 1 / np.log2(3)
    assert found["ndcg"][0] == pytest.approx((1 / np.log2(3) + 1 / 2) / ideal)
    told = overall(ranked, "kind_rank", np.full(10, 0.25), 3)
    assert told == {"coverage": 0.5, "novelty": 2.0}
    mean, low, high = interval(np.array([0.0, 1.0, np.nan] * 50))
    assert low < mean == 0.5 < high


def test_the_blend_with_the_best_recall_is_chosen_and_includes_the_bar() -> None:
    baskets = baskets_of(lines(users=6, days=120), NAMES, "event_date")
    at = np.flatnonzero(np.diff(baskets.user, append=-1) == 0)
    blend, recalls = learned(baskets, at, np.zeros(len(NAMES)))
    assert recalls[GRID.index(blend)] == recalls.max()
    assert any(not tried.purchases for tried in GRID)
