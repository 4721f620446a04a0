"""Bins of a reference population, and which features tell of a drift."""

from __future__ import annotations

import numpy as np
import pytest

from promo_assets.propensity.drift import Bins, bins_of, is_judged


@pytest.mark.parametrize(
    ("values", "bins"),
    [
        ([3.0, 0.0, 3.0, np.nan], Bins((0.0, 3.0), (1, 2, 0, 1))),  # A bin a value.
        ([np.nan, np.nan], Bins((0.0,), (0, 0, 2))),
        (list(range(1, 21)), Bins((2, 4, 6, 8, 10, 12, 14, 16, 18), (2,) * 10 + (0,))),
        ([0.0] * 80 + list(range(1, 21)), Bins((0.0, 10.0), (80, 10, 10, 0))),  # Equal deciles.
    ],
)
def test_bins_are_deciles_or_the_values_of_which_there_are_few(
    values: list[float], bins: Bins
) -> None:
    assert bins_of(np.array(values, np.float64)) == bins


def test_features_of_one_day_or_that_only_grow_are_not_judged() -> None:
    assert not any(map(is_judged, ("orders_1d", "spend_life", "tenure_days", "gaps_within_14d")))
    assert all(map(is_judged, ("orders_28d", "recency_days", "gap_mean_days", "score")))
