"""The response model against made-up shops whose truth is known."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from promo_assets.strategy.effects.response import (
    FEATURES,
    LEAST_SENT,
    Response,
    _as_it_varies,
    fit_responses,
)
from promo_assets.strategy.offers.catalogue import Catalogue

CLOSED = date(2024, 3, 1)
CATALOGUE = Catalogue.model_validate(
    {
        "offers": [
            {"id": "a", "name": "A", "kind": "amount_off", "value": 5, "valid_days": 14},
            {"id": "b", "name": "B", "kind": "amount_off", "value": 5, "valid_days": 14},
        ]
    }
)
LIFT = {"a": 0.4, "b": 0.1}
MARGIN = 12.0
"""Of an order of 40 at a margin rate of 0.3."""
COST = 5.0


def people(rng: np.random.Generator, count: int) -> pl.DataFrame:
    """What is known of users who order at different rates; half of them search for deals."""
    rate = rng.gamma(2.0, 0.02, count)
    days = 90
    orders = rng.poisson(rate * days)
    active = np.maximum(rng.binomial(days, 0.2, count), orders)
    seeker = rng.random(count) < 0.5
    known = dict.fromkeys(FEATURES, np.zeros(count))
    known |= {
        "orders_28d": rng.binomial(orders, 28 / 90),
        "orders_90d": orders,
        "orders_life": orders,
        "active_days_28d": rng.binomial(active, 28 / 90),
        "active_days_90d": active,
        "active_days_life": active,
        "gross_90d": orders * 40.0,
        "gross_life": orders * 40.0,
        "deal_searches_life": np.where(seeker, rng.binomial(active, 0.5), 0),
        "tenure_days": np.full(count, days),
        "recency_days": np.where(orders > 0, rng.integers(0, 60, count), 60),
    }
    return pl.DataFrame(known).with_columns(rate=pl.Series(rate), seeker=pl.Series(seeker))


def trials(
    seed: int, count: int = 6000, campaign: str = "c", chance: float = 0.5, moved: float = 2.0,
    demand: float = 1.0, days_ago: int = 0,
) -> pl.DataFrame:  # fmt: skip
    """A campaign of each offer. The lift is that of `LIFT` on average; those who search for deals
    have ``moved`` parts of it, the others the rest of two. ``demand`` is how much more everybody
    bought in these weeks."""
    rng = np.random.default_rng(seed)
    users = people(rng, count)
    offer = rng.choice(["a", "b"], count)
    sent = rng.random(count) < chance
    part = np.where(users["seeker"], moved, 2 - moved)
    lift = np.array([LIFT[name] for name in offer]) * part
    expected = users["rate"].to_numpy() * 14 * demand * np.where(sent, 1 + lift, 1.0)
    orders = rng.poisson(expected)
    redeemed = sent & (orders > 0) & (rng.random(count) < 0.5)
    return users.with_columns(
        closed_date=pl.lit(CLOSED - timedelta(days=days_ago)),
        sent_date=pl.lit(CLOSED - timedelta(days=days_ago + 13)),
        campaign_id=pl.lit(campaign) + "-" + pl.Series(offer),
        offer_id=pl.Series(offer),
        user_id=pl.lit(f"{seed}-") + pl.int_range(count).cast(pl.String),
        arm=pl.Series(np.where(sent, "sent", "withheld")),
        assignment_probability=pl.Series(np.where(sent, chance, 1 - chance)),
        # The discount is on the line, so spend is net of it.
        spend_after=pl.Series(orders * 40.0 - redeemed * COST),
        orders_after=pl.Series(orders),
        goods_cost_after=pl.lit(0.0),
        uncosted_after=pl.Series(orders * 40.0),
        offer_costs_after=pl.lit(0.0),
        redemptions=pl.Series(redeemed.astype(int)),
        redemption_cost=pl.Series(redeemed * COST),
    )


def fitted(frame: pl.DataFrame) -> dict[str, Response]:
    return fit_responses(frame, CATALOGUE, margin_rate=0.3)


def truth(users: pl.DataFrame, offer: str, moved: float = 2.0) -> np.ndarray:
    """The margin that a send adds, before its cost."""
    part = np.where(users["seeker"], moved, 2 - moved)
    return users["rate"].to_numpy() * 14 * LIFT[offer] * part * MARGIN


@pytest.mark.parametrize("shops", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_value_and_cost_of_all_users_are_those_of_the_truth_and_lie_in_their_interval(
    shops: int,
) -> None:
    """Without a bias of the mean, and 90 % intervals hold it, less chance."""
    held, errors, costs = 0, [], []
    for seed in range(shops):
        frame = trials(seed)
        users = people(np.random.default_rng(100 + seed), 4000)
        for offer, response in fitted(frame).items():
            total = truth(users, offer).sum()
            low, high = np.quantile(response.draws(users), [0.05, 0.95])
            held += low <= total <= high
            worth = response.worth(users)
            assert worth.value.sum() == pytest.approx(response.draws(users).mean(), rel=1e-3)
            errors.append((worth.value.sum() - total) / total * LIFT[offer])
            part = np.where(users["seeker"], 2.0, 0.0) * LIFT[offer]
            redeems = 0.5 * -np.expm1(-users["rate"].to_numpy() * 14 * (1 + part))
            costs.append(worth.cost.sum() / (redeems * COST).sum())
    assert abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(len(errors)) + 0.02
    assert held / (2 * shops) >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / (2 * shops))
    assert np.mean(costs) == pytest.approx(1, abs=0.05)


def test_the_level_is_that_of_the_newest_sends_and_not_of_a_sale_that_is_over() -> None:
    ratios = []
    for seed in range(4):
        sale = trials(10 + seed, demand=2.5, days_ago=42, campaign="sale")
        responses = fitted(pl.concat([sale, trials(seed)]))
        users = people(np.random.default_rng(100 + seed), 4000)
        ratios.append(responses["a"].worth(users).value.sum() / truth(users, "a").sum())
    assert np.mean(ratios) == pytest.approx(1, abs=0.2)


def test_who_is_moved_more_redeems_more() -> None:
    """What a redemption costs is paid for the orders that the offer brings, too."""
    frame = pl.concat([trials(seed) for seed in range(3)])
    users = people(np.random.default_rng(9), 4000).filter(pl.col("orders_90d").is_between(2, 6))
    worth = fitted(frame)["a"].worth(users)
    lift = worth.value / worth.value.mean()
    most, least = lift > np.quantile(lift, 0.8), lift < np.quantile(lift, 0.2)
    rate = users["rate"].to_numpy()
    assert (worth.cost / rate)[most].mean() > 1.2 * (worth.cost / rate)[least].mean()


def test_those_who_are_moved_are_told_from_those_who_are_not() -> None:
    frame = pl.concat([trials(seed) for seed in range(3)])
    users = people(np.random.default_rng(9), 4000)
    response = fitted(frame)["a"]
    value = response.worth(users).value / users["rate"].to_numpy()
    seeker = users["seeker"].to_numpy() & (users["deal_searches_life"] > 2).to_numpy()
    assert value[seeker].mean() > 2 * value[~users["seeker"].to_numpy()].mean()


def test_the_cost_is_in_the_value_once() -> None:
    """Margin before the offer's cost, less that cost, is the margin that the arms differ by."""
    frame = pl.concat([trials(seed, moved=1.0) for seed in range(4)])
    users = frame.filter(offer_id="a")
    worth = fitted(frame)["a"].worth(users)
    margin = users["spend_after"] - 0.7 * users["uncosted_after"]
    by_arm = {arm: margin.filter(users["arm"] == arm).mean() for arm in ("sent", "withheld")}
    difference = by_arm["sent"] - by_arm["withheld"]
    spread = margin.std() * np.sqrt(4 / users.height)
    assert (worth.value - worth.cost).mean() == pytest.approx(difference, abs=3 * spread)
    assert worth.cost.mean() > 5 * spread / 3


@pytest.mark.slow
def test_rows_of_the_same_users_are_no_new_evidence() -> None:
    """The same people with the same outcomes in four campaigns tell what one campaign tells."""
    once = trials(1)
    again = pl.concat(
        [once.with_columns(campaign_id=f"{part}-" + pl.col("offer_id")) for part in range(4)]
    )
    users = people(np.random.default_rng(9), 2000)
    one, four = (np.std(fitted(frame)["a"].draws(users)) for frame in (once, again))
    assert four > 0.8 * one


def test_arms_that_are_not_as_large_as_drawn_tell_nothing() -> None:
    good, bad = trials(1), trials(2, campaign="bad")
    too_many = bad.filter((pl.col("arm") == "sent") | (pl.int_range(pl.len()) % 2 == 0))
    assert fitted(pl.concat([good, too_many])) == fitted(good)


def test_what_is_not_randomised_or_not_in_the_catalogue_is_left_out() -> None:
    good = trials(1)
    unknown = trials(2, campaign="x").with_columns(offer_id=pl.lit("gone"))
    biased = trials(3, campaign="y").with_columns(assignment_probability=pl.lit(None, pl.Float64))
    compared = trials(4, campaign="z").with_columns(arm=pl.lit("comparison"))
    assert fitted(pl.concat([good, unknown, biased, compared])) == fitted(good)


def test_an_offer_with_few_users_or_an_unknown_cost_has_no_response() -> None:
    frame = trials(1)
    few = pl.concat([frame.filter(offer_id="a"), frame.filter(offer_id="b").head(LEAST_SENT)])
    assert set(fitted(few)) == {"a"}
    unknown = frame.with_columns(
        redemption_cost=pl.when(offer_id="b", redemptions=1).then(None).otherwise("redemption_cost")
    )
    assert set(fitted(unknown)) == {"a"}
    assert fitted(frame.clear()) == {}


def test_probabilities_weigh_who_was_drawn_how() -> None:
    """Deal seekers are sent the offer nine times in ten, others once in ten: the plain difference
    of the arms would be that of two kinds of people."""
    users = people(np.random.default_rng(9), 4000)
    total, errors = truth(users, "a").sum(), []
    for seed in range(6):
        chance = pl.when("seeker").then(0.9).otherwise(0.1)
        probability = pl.when(arm="sent").then(chance).otherwise(1 - chance)
        frame = trials(seed, count=18_000).filter(offer_id="a")
        kept = pl.Series(np.random.default_rng(seed).random(frame.height))
        drawn = frame.with_columns(assignment_probability=probability).filter(
            kept < pl.col("assignment_probability")
        )
        errors.append(fitted(drawn)["a"].worth(users).value.sum() / total - 1)
    # Drawn towards the assumption of no lift, by about an eighth at this size.
    assert -0.3 < np.mean(errors) < 0.1


def test_it_is_the_same_whatever_the_order_of_rows_and_survives_being_text() -> None:
    frame = trials(1)
    found = fitted(frame)
    assert fitted(frame.sample(fraction=1, shuffle=True, seed=1)) == found
    users = people(np.random.default_rng(9), 50)
    again = Response.read(found["a"].text())
    assert again == found["a"]
    one, other = (pl.DataFrame(response.worth(users)._asdict()) for response in (found["a"], again))
    assert_frame_equal(one, other)


@pytest.mark.parametrize("seed", range(3))
def test_a_likelihood_is_as_sharp_as_estimates_vary_and_where_it_was(seed: int):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((400, 4)) * [1, 2, 3, 4]
    information, score = rows.T @ rows, rng.standard_normal(4)
    same = _as_it_varies(information, score, information)
    assert same[0] == pytest.approx(information)
    assert same[1] == pytest.approx(score)
    # Fourfold variance of every score: a fourth of what is known.
    assert _as_it_varies(information, score, 4 * information)[0] == pytest.approx(information / 4)
    # One direction varies more: it is known less, the others not more than before.
    loud = rows * [1, 1, 1, 3]
    told, target = _as_it_varies(information, score, loud.T @ loud)
    variance, before = np.linalg.inv(told).diagonal(), np.linalg.inv(information).diagonal()
    assert variance[3] > 5 * before[3]
    assert (variance[:3] > 0.9 * before[:3]).all()
    assert np.linalg.solve(told, target) == pytest.approx(np.linalg.solve(information, score))
