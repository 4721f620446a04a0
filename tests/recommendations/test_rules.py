"""Itemsets are those of mlxtend, rules mean what their measures say, and chance is no rule."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, false_discovery_control, fisher_exact

from promo_assets.recommendations.itemsets import ITEMS, Limits, itemsets_of
from promo_assets.recommendations.rules import corrected, rules_of
from promo_assets.simulation.folder import Options
from promo_assets.simulation.simulate import simulate

Basket = Sequence[str]


def itemsets(baskets: Sequence[Basket], support: float, **limits: Any) -> pl.DataFrame:
    told = Limits({"product": support}, **{"least": 1, **limits})
    rows = [("product", number, item) for number, basket in enumerate(baskets) for item in basket]
    lines = pl.DataFrame(
        rows, {"level": pl.String, "basket": pl.Int64, "item": pl.String}, orient="row"
    )
    return itemsets_of(lines, told)


def counted(found: pl.DataFrame) -> dict[frozenset[str], int]:
    return {
        frozenset(filter(None, (row[name] for name in ITEMS))): row["baskets_with"]
        for row in found.iter_rows(named=True)
    }


def by_mlxtend(baskets: Sequence[Basket], support: float) -> dict[frozenset[str], int]:
    import pandas as pd
    from mlxtend.frequent_patterns import fpgrowth

    items = sorted({item for basket in baskets for item in basket})
    table = pd.DataFrame([[item in basket for item in items] for basket in baskets], columns=items)
    found = fpgrowth(table, min_support=support, use_colnames=True, max_len=4)
    return {
        frozenset(row.itemsets): round(row.support * len(baskets)) for row in found.itertuples()
    }


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=8), min_size=1, max_size=25),
    st.integers(1, 5),
)
def test_itemsets_are_those_of_mlxtend(baskets: list[set[str]], least: int) -> None:
    support = min(least, len(baskets)) / len(baskets)
    told = [sorted(basket) for basket in baskets]
    assert counted(itemsets(told, support)) == by_mlxtend(told, support)


@pytest.mark.parametrize("share", [0.02, 0.6], ids=["sparse", "dense"])
@pytest.mark.parametrize("at_a_time", [1, 50, 500_000])
def test_sparse_and_dense_data_have_the_itemsets_of_mlxtend_however_they_are_cut(
    monkeypatch: pytest.MonkeyPatch, share: float, at_a_time: int
) -> None:
    """Pairs are counted in two ways, longer sets some at a time."""
    monkeypatch.setattr("promo_assets.recommendations.itemsets.JOINED", at_a_time)
    monkeypatch.setattr("promo_assets.recommendations.itemsets.CACHED", 8 * at_a_time)
    draw = np.random.default_rng(4)
    items = [f"i{number:02}" for number in range(12 if share > 0.5 else 120)]
    table = draw.random((300, len(items))) < share
    table[::10, :5] = True
    baskets = [[items[place] for place in np.flatnonzero(row)] for row in table if row.any()]
    expected = by_mlxtend(baskets, 0.02)
    assert max(map(len, expected)) == 4
    assert counted(itemsets(baskets, 0.02)) == expected


def test_equal_lines_count_once() -> None:
    assert counted(itemsets([["a", "a", "b"], ["b", "b"]], 1)) == {frozenset("b"): 2}


def test_of_a_huge_basket_the_most_frequent_items_count_and_it_is_told() -> None:
    usual = [["a", "b", "c"]] * 5
    found = itemsets([*usual, [f"x{n}" for n in range(10_000)] + ["a", "b", "c"]], 2 / 6, cap=2)

    assert counted(found)[frozenset("ab")] == 6
    assert frozenset("abc") not in counted(found)
    assert found["capped_baskets"].unique().to_list() == [6]
    assert itemsets(usual, 0.5, cap=3)["capped_baskets"].unique().to_list() == [0]


def test_no_baskets_have_no_itemsets_and_no_rules() -> None:
    assert rules_of(itemsets([], 0.1), 10).is_empty()


def test_measures_are_those_of_their_definitions() -> None:
    draw = random.Random(3)
    baskets = [
        [item for item, share in (("a", 0.5), ("b", 0.3), ("c", 0.2)) if draw.random() < share]
        + (["d", "e"] if draw.random() < 0.4 else [])
        for _ in range(400)
    ]
    baskets = [basket for basket in baskets if basket]
    n = len(baskets)
    rules = rules_of(itemsets(baskets, 0.01), 100)
    assert {"d", "e"} <= set(rules["consequent"])

    for rule in rules.iter_rows(named=True):
        wanted = set(rule["antecedent"].split(" + "))
        a = sum(wanted <= set(basket) for basket in baskets)
        c = sum(rule["consequent"] in basket for basket in baskets)
        both = sum({*wanted, rule["consequent"]} <= set(basket) for basket in baskets)
        assert (rule["n_a"], rule["n_c"], rule["n_ac"]) == (a, c, both)
        assert rule["support"] == pytest.approx(both / n)
        assert rule["confidence"] == pytest.approx(both / a)
        assert rule["lift"] == pytest.approx(both * n / (a * c))
        assert rule["leverage"] == pytest.approx(both / n - a * c / n**2)
        table = [[both, a - both], [c - both, n - a - c + both]]
        assert rule["p_value"] == pytest.approx(binomtest(both, a, c / n, "greater").pvalue)
        assert rule["p_value"] >= fisher_exact(table, "greater").pvalue * (1 - 1e-9)
        assert rule["lift_low"] < rule["lift"] < rule["lift_high"]
        assert rule["confidence_low"] <= rule["confidence"] <= rule["confidence_high"]
        if both == a:
            assert rule["conviction"] is None
        else:
            assert rule["conviction"] == pytest.approx((1 - c / n) / (1 - both / a))


def test_a_lifts_interval_holds_the_truth_as_often_as_it_says() -> None:
    times, truth = 400, 0.6 / 0.39
    shares = [0.3 * 0.6, 0.3 * 0.4, 0.7 * 0.3, 0.7 * 0.7]
    both, only_a, only_c, _ = np.random.default_rng(5).multinomial(600, shares, times).T
    level = [str(number) for number in range(times)]

    def sets(first: str, second: str | None, counts: object) -> pl.DataFrame:
        return pl.DataFrame({"level": level, "baskets_with": counts}).select(
            "level",
            *(
                pl.lit(item, pl.String).alias(name)
                for name, item in zip(ITEMS, (first, second, None, None), strict=True)
            ),
            "baskets_with",
            baskets=pl.lit(600),
            capped_baskets=pl.lit(0),
        )

    rules = rules_of(
        pl.concat(
            [sets("a", None, both + only_a), sets("c", None, both + only_c), sets("a", "c", both)]
        ),
        1,
    )
    held = rules.filter((pl.col("lift_low") <= truth) & (pl.col("lift_high") >= truth)).height
    assert rules.height == times
    assert 0.92 <= held / times <= 0.98


def test_pairs_by_chance_are_no_rules() -> None:
    draw = random.Random(11)
    baskets = [
        [item for item in "abcdefghijklmnop" if draw.random() < 0.25] or ["a"] for _ in range(600)
    ]
    assert rules_of(itemsets(baskets, 0.01), 1000).is_empty()


def test_q_values_are_those_of_scipy() -> None:
    draw = random.Random(2)
    values = [round(draw.random() ** 4, 2) for _ in range(50)]
    found = pl.DataFrame({"p_value": values}).select(corrected()).to_series()
    assert found.to_list() == pytest.approx(false_discovery_control(values, method="by").tolist())


@pytest.mark.slow
def test_planted_pairs_of_the_simulated_shop_are_found(tmp_path: Path) -> None:
    simulate(Options(users=10_000, assignment="none"), 56, tmp_path / "shop")
    planted = pl.read_parquet(tmp_path / "shop" / "truth" / "pairs.parquet")
    truth = {frozenset(pair) for pair in planted.select("item_a", "item_b").iter_rows()}
    events = tmp_path / "shop" / "events" / "*" / "*.parquet"
    baskets = (
        f"select 'product' as level, order_id as basket, item_id as item"
        f" from read_parquet('{events}') where event_type = 'purchase' and item_id is not null"
    )
    limits = Limits({"product": 0.001})
    rules = rules_of(itemsets_of(duckdb.connect().execute(baskets).pl(), limits), 500)
    found = {frozenset(pair) for pair in rules.select("antecedent", "consequent").iter_rows()}
    assert len(found & truth) >= 0.7 * len(truth)
    assert len(found & truth) >= 0.7 * len(found)
