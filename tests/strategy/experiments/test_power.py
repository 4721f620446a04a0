"""Power: against a simulated test, and its own inverse."""

from __future__ import annotations

import numpy as np
import pytest

from promo_assets.strategy.experiments.power import detectable_lift, users_an_arm


def test_so_many_users_find_the_lift_four_times_in_five() -> None:
    mean, lift = 0.3, 0.2
    users = users_an_arm(lift, mean, variance=mean)
    assert users is not None
    rng = np.random.default_rng(0)
    one = rng.poisson(mean * (1 + lift), (400, users))
    zero = rng.poisson(mean, (400, users))
    error = np.sqrt((one.var(axis=1) + zero.var(axis=1)) / users)
    found = np.abs(one.mean(axis=1) - zero.mean(axis=1)) / error > 1.96
    # A treated arm that orders more scatters a little more: 80 %, less that, less chance.
    assert 0.72 < found.mean() < 0.87


@pytest.mark.parametrize("lift", [0.05, 0.3])
def test_what_can_be_seen_is_the_inverse_of_who_is_needed(lift: float) -> None:
    users = users_an_arm(lift, 2.0, 9.0)
    assert users is not None
    assert detectable_lift(users, 2.0, 9.0) == pytest.approx(lift, rel=0.01)


def test_where_nothing_is_bought_nothing_can_be_seen() -> None:
    assert users_an_arm(0.1, 0.0, 0.0) is None
    assert detectable_lift(1000, 0.0, 0.0) is None
    assert detectable_lift(0, 1.0, 1.0) is None
