"""Clusters: planted ones are found, and no others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from promo_assets.propensity import clusters
from promo_assets.propensity.clusters import (
    Clustering,
    Floats,
    Labels,
    Scaling,
    agreement,
    choose,
    k_means,
    nearest,
)

Values = dict[str, Floats]


def planted(
    number: int, users: int = 500, columns: int = 4, seed: int = 0
) -> tuple[Values, Labels]:
    """Lognormal values of users in ``number`` clusters whose centres differ in every column."""
    rng = np.random.default_rng(seed)
    centres = np.array([rng.permutation(number) for _ in range(columns)]).T
    truth = rng.integers(0, number, users)
    logs = rng.normal(centres[truth] * 0.8, 0.15)
    return {f"c{place}": np.exp(logs[:, place]) for place in range(columns)}, truth


def noise(columns: int, seed: int, together: float) -> Values:
    """Lognormal values of one cloud; ``together``: the standard deviation that columns share."""
    rng = np.random.default_rng(seed)
    logs = rng.normal(0, 1, (800, columns)) + together * rng.normal(0, 1, (800, 1))
    return {f"c{place}": np.exp(logs[:, place]) for place in range(columns)}


@pytest.mark.parametrize("number", [2, 3, 5, 8])
def test_planted_clusters_are_found_and_as_many(number: int) -> None:
    values, truth = planted(number)
    choice = choose(values)
    assert choice.chosen is not None
    assert choice.chosen.number == number
    labels, _, membership = Clustering(choice.scaling, choice.chosen.centres).assign(values)
    assert adjusted_rand_score(truth, labels) > 0.95
    assert membership.min() > 0.2
    assert choice.chosen.stability > 0.95
    assert choice.chosen.silhouette > 0.5


@pytest.mark.parametrize(
    ("columns", "together"),
    [
        (4, 0.0),
        (2, 1.0),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in ((2, 0.0), (6, 0.0), (4, 1.5))),
    ],
)
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_one_cloud_has_no_clusters_not_even_a_long_one(
    columns: int, together: float, seed: int
) -> None:
    choice = choose(noise(columns, seed, together))
    assert len(choice.judged) == len(clusters.NUMBERS)
    assert choice.chosen is None


def test_a_long_cloud_is_cut_alike_and_refused_for_its_silhouette() -> None:
    """Without the comparison with a single cloud stability alone would take it."""
    two, *_ = choose(noise(4, 0, 1.5)).judged
    assert two.repeats
    assert not two.holds


def test_units_of_measurement_change_nothing() -> None:
    values, _ = planted(3)
    other = {name: column * 100**place for place, (name, column) in enumerate(values.items())}
    first, second = (choose(one).chosen for one in (values, other))
    assert first is not None
    assert second is not None
    np.testing.assert_allclose(first.centres, second.centres)
    assert first.agreements == second.agreements


def test_the_same_users_give_the_same_bits() -> None:
    values, _ = planted(3)
    first, second = (choose(values).chosen for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.centres.tobytes() == second.centres.tobytes()


def test_columns_without_differences_are_left_out_and_the_unknown_is_the_median() -> None:
    values, _ = planted(2)
    users = len(values["c0"])
    nothing = np.full(users, np.nan)
    none, same = np.zeros(users), np.full(users, 7.0)
    scaling = Scaling.of({**values, "nothing": nothing, "none": none, "same": same})
    assert scaling.names == ("c0", "c1", "c2", "c3")
    assert (scaling.apply({**values, "c0": nothing})[:, 0] == 0).all()
    assert choose({"none": none, "same": same}).chosen is None


def test_rare_values_are_scaled_by_their_standard_deviation_and_nobody_is_far_out() -> None:
    rare = np.zeros(1000)
    rare[:100] = 1
    rare[0] = 1e9
    scaled = Scaling.of({"rare": rare}).apply({"rare": rare})[:, 0]
    assert (scaled[100:] == 0).all()
    assert (scaled[:100] > 1).all()
    assert scaled[0] == clusters.REACH


@pytest.mark.parametrize("number", [2, 4, 7])
def test_sums_of_squares_are_those_of_scikit_learn(number: int) -> None:
    points = np.random.default_rng(number).normal(0, 1, (600, 3))
    centres = k_means(points, number, np.random.default_rng(0))
    _, distances, _ = nearest(points, centres)
    oracle = KMeans(number, n_init=10, random_state=0).fit(points)
    assert (distances**2).sum() <= 1.02 * oracle.inertia_


def test_a_row_that_counts_twice_is_two_rows() -> None:
    """Of clusters far apart both find the only best centres, which are means."""
    values, truth = planted(3)
    points = Scaling.of(values).apply(values)
    counts = np.random.default_rng(0).integers(0, 4, len(points))
    weighted = k_means(points, 3, np.random.default_rng(0), counts.astype(float))
    means = [np.average(points[truth == n], axis=0, weights=counts[truth == n]) for n in range(3)]
    expected = np.array(means)[np.lexsort(np.array(means).T[::-1])]
    np.testing.assert_allclose(weighted, expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), number=st.integers(1, 6), columns=st.integers(1, 4))
def test_the_nearest_centre_is_the_nearest(seed: int, number: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    points, centres = rng.normal(0, 1, (40, columns)), rng.normal(0, 1, (number, columns))
    labels, distance, membership = nearest(points, centres)
    every = np.linalg.norm(points[:, None] - centres, axis=2)
    np.testing.assert_array_equal(labels, every.argmin(axis=1))
    np.testing.assert_allclose(distance, every.min(axis=1), atol=1e-6)
    second = np.sort(every, axis=1)[:, 1] if number > 1 else np.full(40, np.inf)
    np.testing.assert_allclose(membership, 1 - every.min(axis=1) / second, atol=1e-6)


def test_equal_users_are_no_clusters_and_no_error() -> None:
    values = {"c": np.repeat([1.0, 2.0], 200), "d": np.repeat([5.0, 9.0], 200)}
    choice = choose(values)
    assert choice.chosen is not None
    assert choice.chosen.number == 2


def test_old_centres_agree_with_new_ones_until_users_have_changed() -> None:
    values, _ = planted(3)
    choice = choose(values)
    assert choice.chosen is not None
    points = choice.scaling.apply(values)
    assert agreement(points, choice.chosen.centres) == 1
    merged = choice.chosen.centres.copy()
    merged[1] = merged[0] + 9
    assert agreement(points, merged) < 0.9


def test_of_many_users_some_are_read_and_everybody_is_assigned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clusters, "SAMPLE", 300)
    values, truth = planted(3, users=2000)
    choice = choose(values)
    assert choice.chosen is not None
    labels, _, _ = Clustering(choice.scaling, choice.chosen.centres).assign(values)
    assert len(clusters.drawn(values)["c0"]) == 300
    assert adjusted_rand_score(truth, labels) > 0.95
