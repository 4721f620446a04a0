"""What a response tells of users, held against users whom it has not seen."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from promo_assets.strategy.effects.response import fit_responses
from promo_assets.strategy.effects.trials import drawn_for
from promo_assets.strategy.effects.unseen import SALT, on_unseen
from promo_assets.strategy.experiments.holdout import draws
from tests.strategy.effects.test_response import CATALOGUE, trials


def told(moved: float, seed: int, count: int = 4000):
    return on_unseen(trials(seed, count, moved=moved), CATALOGUE, 0.3)


def test_differences_between_users_are_seen_where_there_are_some_and_only_there():
    differ = [told(2.0, seed)[0] for seed in range(3)]
    alike = [told(1.0, seed)[0] for seed in range(3)]
    assert all(one.effect.is_clear and one.users.is_clear for one in differ)
    # Drawn towards one effect for everybody, differences are told too small rather than too large.
    assert all(one.users.high > 1 for one in differ)
    assert all(one.effect.is_clear for one in alike)
    assert not any(one.users.is_clear for one in alike)


def test_an_offers_slope_is_that_of_weighted_least_squares_on_the_users_told_by_others():
    frame = trials(4, 3000)
    (found,) = [one for one in on_unseen(frame, CATALOGUE, 0.3) if one.offer_id == "a"]
    first = pl.Series(draws(frame["user_id"], SALT) < 0.5)
    design, target, weight = [], [], []
    for inside in (first, ~first):
        response = fit_responses(frame.filter(~inside), CATALOGUE, 0.3)["a"]
        rows = drawn_for(frame.filter(inside), "a")
        usual, lift = response.lifts(rows)
        sent, chance = (rows["arm"] == "sent").to_numpy(), rows["sent_chance"].to_numpy()
        own = np.where(sent, chance, 1 - chance)
        design.append(usual * lift)
        target.append(np.where(sent, 1, -1) * (rows["orders_after"].to_numpy() - usual) / own)
        weight.append(1 / usual)
    x, y, w = map(np.concatenate, (design, target, weight))
    slope = np.linalg.lstsq((x * np.sqrt(w))[:, None], y * np.sqrt(w), rcond=None)[0][0]
    assert found.effect.value == pytest.approx(slope)
    residual = y - slope * x  # Everybody is drawn once: the sandwich of White (1980).
    # Halves tell of each other, so their errors are no independent ones.
    squares = (
        ((w * x * residual) ** 2)[: len(weight[0])].sum(),
        ((w * x * residual) ** 2)[len(weight[0]) :].sum(),
    )
    error = np.sqrt(squares).sum() / (w * x * x).sum()
    assert found.effect.error == pytest.approx(error)
    assert (found.sent, found.sent + found.withheld) == (
        frame.filter(offer_id="a", arm="sent").height,
        frame.filter(offer_id="a").height,
    )


def test_who_is_drawn_often_counts_as_one_user():
    once = trials(5, 3000)
    again = pl.concat([once, *(once.with_columns(campaign_id=pl.lit(f"{n}")) for n in range(3))])
    one, four = (on_unseen(frame, CATALOGUE, 0.3)[0].effect for frame in (once, again))
    assert four.error / abs(four.value) == pytest.approx(one.error / abs(one.value), rel=0.3)


def test_nothing_tried_tells_nothing():
    assert on_unseen(trials(1, 40), CATALOGUE, 0.3) == []
