"""Features chosen by what shuffling them costs: on features of which it is known what they tell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from promo_assets.propensity.dataset import feature_matrix, feature_names, rolling_folds
from promo_assets.propensity.selection import (
    ALL,
    CHOSEN,
    Cluster,
    choose,
    clusters,
    importances,
)

Snapshots = Callable[..., pl.DataFrame]
SEED = 5


def told_twice(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with ``orders_90d`` again, bent and turned, and a column that never changes."""
    return frame.with_columns(turned=-((pl.col("orders_90d") + 1) ** 3), still=pl.lit(1.0))


def test_every_two_features_of_a_cluster_are_alike_and_twins_are_in_one(
    snapshots: Snapshots,
) -> None:
    frame = told_twice(snapshots(weeks=4))
    names = feature_names(frame)
    rank = np.abs(spearmanr(feature_matrix(frame.drop("still"), names_but(names))).statistic)
    place = {name: index for index, name in enumerate(names_but(names))}
    for alike in (0.3, 0.6, 0.95):
        found = clusters(frame, names, SEED, alike)
        assert sorted(name for group in found for name in group) == sorted(names)
        assert ("still",) in found
        for group in found:
            for one in group[1:]:
                assert all(rank[place[one], place[other]] >= alike - 1e-9 for other in group)
        assert any({"orders_90d", "turned"} <= {*group} for group in found)


def names_but(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name != "still")


def test_missing_values_rank_lowest_and_one_feature_is_a_cluster() -> None:
    frame = pl.DataFrame({"a": [None, 1.0, 2.0, 3.0], "b": [0.0, 10.0, 20.0, 30.0]})
    assert sorted(clusters(frame, ("a", "b"), SEED)[0]) == ["a", "b"]
    assert clusters(frame, ("a",), SEED) == [("a",)]


def test_twins_seem_worth_little_one_at_a_time_and_much_together(snapshots: Snapshots) -> None:
    frame = told_twice(snapshots(weeks=12, users=200))
    names = ("items_28d", "orders_90d", "still", "turned")
    folds = rolling_folds(frame["as_of_date"].to_list(), horizon=7, origins=1)
    groups = [("orders_90d", "turned"), ("orders_90d",), ("turned",), ("still",), ("items_28d",)]
    found = {one.features: one for one in importances(frame, folds, groups, names, SEED)}
    both = found["orders_90d", "turned"]
    assert both.kept
    assert both.importance > 1.2 * max(found[("orders_90d",)].importance, 0)
    assert both.importance > 1.2 * max(found[("turned",)].importance, 0)
    still = found[("still",)]
    assert (still.importance, still.low, still.high, still.kept) == (0, 0, 0, False)
    assert abs(found[("items_28d",)].importance) < both.importance / 5


@pytest.mark.slow
def test_what_tells_of_buyers_is_chosen_once_and_judged_on_later_origins(
    snapshots: Snapshots,
) -> None:
    frame = told_twice(snapshots(weeks=16))
    folds = rolling_folds(frame["as_of_date"].to_list(), horizon=7, origins=3, test_weeks=2)
    choice = choose(frame, folds, judged_on=1)
    assert len({"orders_90d", "turned"} & {*choice.features}) == 1
    assert len(choice.features) < 8
    assert choice.judged.folds == folds[-1:]
    assert set(choice.judged.scores) == {ALL, CHOSEN}
    difference, low, high = choice.cost
    assert low <= difference <= high
    assert abs(difference) < 0.02
    again = choose(frame, folds, judged_on=1)
    assert (again.clusters, again.features, again.cost) == (
        choice.clusters,
        choice.features,
        choice.cost,
    )
    assert all(cluster.features[0] in cluster.reason for cluster in choice.clusters)


def test_a_reason_says_what_shuffling_costs_and_with_whom() -> None:
    told = Cluster(("a", "b"), 0.01, 0.005, 0.02).reason
    assert told == "shuffled, a (with it b) costs +0.01000 [+0.00500, +0.02000]"
    assert "nothing beyond chance" in Cluster(("a",), 0.01, -0.005, 0.02).reason


def test_both_sides_need_an_origin(snapshots: Snapshots) -> None:
    frame = snapshots(weeks=14, users=60)
    folds = rolling_folds(frame["as_of_date"].to_list(), horizon=7, origins=3, test_weeks=2)
    for judged_on in (0, 3):
        with pytest.raises(ValueError, match="expected one on either side"):
            choose(frame, folds, judged_on)
