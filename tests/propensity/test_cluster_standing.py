"""Clusters from week to week: who stays who, and when others are looked for."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promo_assets.propensity import cluster_standing
from promo_assets.propensity.cluster_standing import (
    LEAST_USERS,
    NOTHING_STABLE,
    TOO_FEW,
    Standing,
    renewed,
    same_clusters,
)
from promo_assets.propensity.cluster_words import EVERYBODY, names_of, profiles_of
from promo_assets.propensity.clusters import Choice, Floats

WEEK = date(2024, 1, 15)
Values = dict[str, Floats]


def step(before: Standing | None, values: Values, weeks: int = 0) -> tuple[Standing, Choice | None]:
    week = WEEK + timedelta(weeks=weeks)
    return renewed(before, values, week, week + timedelta(days=6))


def shop(centres: list[tuple[float, float]], seed: int = 0, each: int = 150) -> Values:
    """``each`` users around each of the centres of orders and basket, as logarithms."""
    rng = np.random.default_rng(seed)
    logs = np.repeat(np.array(centres), each, axis=0) + rng.normal(
        0, 0.15, (each * len(centres), 2)
    )
    return {"orders": np.exp(logs[:, 0]), "basket": np.exp(logs[:, 1])}


THREE = [(0.0, 3.0), (1.5, 1.5), (3.0, 0.0)]


@pytest.fixture(scope="module")
def three() -> Standing:
    return step(None, shop(THREE))[0]


def test_new_clusters_are_numbered_and_named_by_what_tells_them_apart(three: Standing) -> None:
    assert three.numbers == (1, 2, 3)
    assert three.newest == 3
    words = {frozenset(name.split(", ")) for name in three.names}
    assert words >= {frozenset({"seldom", "large baskets"}), frozenset({"often", "small baskets"})}
    assert three.fitted_on == WEEK + timedelta(days=6)
    assert three.stability is not None
    assert three.stability > 0.95
    assert three.reason is three.agreement is None


def test_clusters_stay_while_a_new_fit_agrees(three: Standing) -> None:
    later, choice = step(three, shop(THREE, seed=1), 1)
    assert choice is None
    assert (later.numbers, later.names, later.fitted_on) == (
        three.numbers,
        three.names,
        three.fitted_on,
    )
    assert later.agreement is not None
    assert later.agreement > 0.95


def test_when_all_spend_twice_as_much_clusters_are_the_same(three: Standing) -> None:
    values = shop(THREE)
    later, _ = step(three, {**values, "basket": values["basket"] * 2}, 1)
    np.testing.assert_array_equal(later.clustering.assign(values)[0] >= 0, True)
    assert later.agreement == 1


def test_a_cluster_that_goes_on_keeps_its_number_and_no_number_is_given_twice(
    three: Standing,
) -> None:
    five = [*THREE, (3.0, 4.0), (0.0, 0.0)]
    later, choice = step(three, shop(five), 1)
    assert choice is not None
    told = dict(zip(three.numbers, three.names, strict=True))
    again = dict(zip(later.numbers, later.names, strict=True))
    kept = again.keys() & told.keys()
    assert kept
    assert all(again[number] == told[number] for number in kept)
    fresh = sorted(again.keys() - kept)
    assert fresh == list(range(4, 4 + len(fresh)))
    assert later.newest == 3 + len(fresh)


def test_of_few_users_everybody_is_one_and_numbers_are_remembered(three: Standing) -> None:
    few = {name: column[: LEAST_USERS - 1] for name, column in shop(THREE).items()}
    found, choice = step(three, few, 1)
    assert choice is None
    assert (found.reason, found.numbers, found.names) == (TOO_FEW, (0,), (EVERYBODY,))
    assert found.newest == 3
    labels, distance, membership = found.clustering.assign(few)
    assert set(labels) == {0}
    assert set(distance) == {0}
    assert set(membership) == {1}


def test_where_nothing_is_stable_it_is_looked_for_every_fourth_week() -> None:
    rng = np.random.default_rng(1)
    values = {name: np.exp(rng.normal(0, 0.5, 400)) for name in ("orders", "basket", "discount")}
    first, choice = step(None, values)
    assert (first.reason, first.numbers) == (NOTHING_STABLE, (0,))
    assert choice is not None
    looked = [step(first, values, week)[1] is not None for week in range(1, 5)]
    assert sum(looked) == 1


def test_a_new_kind_of_behaviour_makes_it_look_again(three: Standing) -> None:
    values = shop(THREE)
    views = values["orders"] * 3
    later, choice = step(three, {**values, "views": views}, 1)
    assert choice is not None
    assert later.clustering.scaling.names == ("orders", "basket", "views")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.permutations(range(5)))
def test_clusters_in_another_order_are_the_same(labels: list[int], order: list[int]) -> None:
    old = np.array(labels)
    new = np.array(order)[old]
    assert same_clusters(old, new) == {order[label]: label for label in set(labels)}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_no_old_cluster_is_two_new_ones(pairs: list[tuple[int, int]]) -> None:
    old, new = np.array(pairs).T
    same = same_clusters(old, new)
    assert len(set(same.values())) == len(same)
    for label, was in same.items():
        both = ((old == was) & (new == label)).sum()
        assert both > cluster_standing.SAME * ((old == was) | (new == label)).sum()


def test_names_say_what_is_most_unlike_everybody_and_differ() -> None:
    centres = np.array([[-0.5, 1.5], [0.1, -0.2], [-0.5, 1.5]])
    assert names_of(["orders", "discount"], centres, ["like the average"]) == [
        "at a discount, seldom",
        "like the average (2)",
        "at a discount, seldom (2)",
    ]


def test_profiles_tell_the_groups_and_everybodys_typical_values() -> None:
    values = {
        "basket": np.array([10.0, 20.0, np.nan, 30.0]),
        "redemptions": np.array([0.0, 0.0, 1.0, 1.0]),
    }
    assert profiles_of(values, np.array([0, 0, 1, 1]), 2) == [
        "15 an order (all: 20), 0% redeemed an offer (all: 50%)",
        "30 an order (all: 20), 100% redeemed an offer (all: 50%)",
    ]
