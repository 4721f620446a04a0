"""Decisions: what candidates are worth, who is assigned what, and each segment's summary."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from promo_assets.strategy.allocation.budget import solve_price
from promo_assets.strategy.allocation.decisions import (
    ASSIGNMENT_SCHEMA,
    NO_BUDGET,
    NOT_ELIGIBLE,
    NOT_SURE,
    NOT_WORTH,
    STRATEGY_SCHEMA,
    Candidates,
    Experiment,
    assignments,
    budget_curve,
    candidate_values,
    day_plan,
    explored_on,
    segment_strategy,
    withheld_value,
)
from promo_assets.strategy.allocation.limits import Limits
from promo_assets.strategy.allocation.plan import Plan
from promo_assets.strategy.effects.campaigns import EFFECT_SCHEMA
from promo_assets.strategy.effects.response import FEATURES, Response, Scale
from promo_assets.strategy.experiments.experiment import Exploration
from promo_assets.strategy.offers.catalogue import Catalogue

SEGMENTS = ("new", "deal_seeker")
EXPERIMENT = Experiment("2017-q1", 0.2)
CATALOGUE = Catalogue.model_validate(
    {
        "offers": [
            {
                "id": "a", "name": "Type A coupons", "kind": "amount_off", "value": 2,
                "send_cost": 0.3,
            },
            {"id": "b", "name": "Type B coupons", "kind": "amount_off", "value": 5},
        ]
    }
)  # fmt: skip


def effects(**columns: list[object]) -> pl.DataFrame:
    """Two segments by two offers; ``columns`` replace the defaults, in that order."""
    lift = [0.1, 0.2, 0.05, -0.1]
    defaults: dict[str, list[object]] = {
        "segment": ["new", "new", "deal_seeker", "deal_seeker"],
        "offer_id": ["a", "b"] * 2,
        "redemption_rate": [0.2] * 4,
        "redemption_rate_low": [0.1] * 4,
        "redemption_rate_high": [0.3] * 4,
        "cost_per_redemption": [2.0, 5.0] * 2,
        "lift": lift,
        "lift_se": [0.05] * 4,
        "lift_low": [value - 0.1 for value in lift],
        "lift_high": [value + 0.1 for value in lift],
        "sent": [100] * 4,
        "campaigns": [12, 1, 3, 4],
        "evidence": ["randomised"] * 4,
        "reason": [f"measured in {count} campaigns" for count in (12, 1, 3, 4)],
        "response": [None] * 4,
    }
    return pl.DataFrame(defaults | columns, schema=EFFECT_SCHEMA)


def shoppers(count: int = 200, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": [f"u{number:04d}" for number in range(count)],
            "segment": rng.choice(SEGMENTS, count),
            "expected_spend": rng.gamma(2.0, 60.0, count),
        }
    )


def candidates(
    users: pl.DataFrame, mask: np.ndarray | None = None, sure: float = 0.5, **known: list[object]
) -> Candidates:
    """Sure is by default what is expected to earn more than it costs."""
    everyone = np.ones((users.height, 2), dtype=bool)
    mask = everyone if mask is None else mask
    return candidate_values(users, effects(**known), CATALOGUE, mask, 0.25, sure)


def decide(users: pl.DataFrame, budget: float, mask: np.ndarray | None = None) -> pl.DataFrame:
    found = candidates(users, mask)
    plan = planned(users, found, budget)
    return assignments(unbarred(users), found, CATALOGUE, plan, EXPERIMENT)


def limited(budget: float, **limits: object) -> Limits:
    """A budget, and no limit else but those that are given."""
    free = {name: np.full(2, np.inf) for name in ("offer_budget", "offer_count")}
    return Limits(budget=budget, **free | {"liability": np.inf, "face": np.zeros(2)} | limits)


def planned(
    users: pl.DataFrame, found: Candidates, budget: float, experiment: Experiment = EXPERIMENT
) -> Plan:
    return day_plan(users, found, CATALOGUE, limited(budget), experiment)


def unbarred(users: pl.DataFrame) -> pl.DataFrame:
    return users.with_columns(barred=pl.lit(None, pl.String), offers_drawn_28d=pl.lit(0))


def test_value_is_lift_times_spend_times_margin_and_cost_is_send_plus_redemptions() -> None:
    users = pl.DataFrame(
        {
            "user_id": ["x", "y"],
            "segment": ["new", "deal_seeker"],
            "expected_spend": [Decimal("100.00"), Decimal("40.00")],
        }
    )
    found = candidates(users, np.array([[True, True], [True, False]]))
    assert found.value.tolist() == [[2.5, 5.0], [0.5, -np.inf]]
    assert found.cost.tolist() == [[0.7, 1.0], [0.7, 1.0]]


def test_a_segment_without_an_effect_is_named() -> None:
    users = shoppers().with_columns(segment=pl.lit("dormant"))
    with pytest.raises(ValueError, match=r"missing \[\('dormant', 'a'\), \('dormant', 'b'\)\]"):
        candidates(users)
    twice = pl.concat([effects(), effects()])
    with pytest.raises(ValueError, match="found 8 rows for 4 pairs"):
        candidate_values(shoppers(), twice, CATALOGUE, np.ones((200, 2), bool), 0.25)


@pytest.mark.parametrize("spend", [None, -1.0, float("nan"), float("inf")])
def test_a_spend_that_is_no_amount_is_refused(spend: float | None) -> None:
    with pytest.raises(ValueError, match="expected_spend: found null, negative or infinite"):
        candidates(shoppers().with_columns(expected_spend=pl.lit(spend, dtype=pl.Float64)))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(0, 5), st.floats(0, 60))
def test_what_is_stored_fits_the_budget_to_the_last_digit(count: int, seed: int, budget) -> None:
    assigned = decide(shoppers(count, seed), budget)
    assert assigned.schema == pl.Schema(ASSIGNMENT_SCHEMA)
    spent = assigned.filter(arm="offer")["expected_cost"].sum()
    assert (spent or 0) <= Decimal(budget) + Decimal("1e-9")


def test_a_segment_rebuilt_alone_in_any_order_gets_the_same_rows() -> None:
    users = shoppers()
    plan = planned(users, candidates(users), 40.0)
    everyone = assignments(unbarred(users), candidates(users), CATALOGUE, plan, EXPERIMENT)
    part = users.filter(segment="new").sample(fraction=1, shuffle=True, seed=1)
    alone = assignments(unbarred(part), candidates(part), CATALOGUE, plan, EXPERIMENT)
    assert_frame_equal(alone, everyone.filter(segment="new"))


def test_the_price_does_not_depend_on_the_order_of_rows() -> None:
    users = shoppers()
    mixed = users.sample(fraction=1, shuffle=True, seed=2)
    assert planned(users, candidates(users), 40.0) == planned(mixed, candidates(mixed), 40.0)


def test_the_budget_is_solved_over_users_who_are_not_held_out() -> None:
    users = shoppers()
    found = candidates(users)
    sendable = ~EXPERIMENT.held_out(users)
    plan = planned(users, found, 40.0)
    ties = EXPERIMENT.ties(users)[sendable]
    assert plan.price == solve_price(found.decided_by[sendable], found.cost[sendable], 40.0, ties)
    assigned = assignments(unbarred(users), found, CATALOGUE, plan, EXPERIMENT)
    spent = float(assigned.filter(arm="offer")["expected_cost"].sum())
    assert spent == pytest.approx(plan.price.spent)
    assert 39 < spent <= 40


def test_held_out_users_keep_the_offer_they_would_have_got_and_every_arm_its_probability() -> None:
    users = shoppers(2000)
    assigned = decide(users, 1e6)
    held = users.filter(pl.Series(EXPERIMENT.held_out(users)))["user_id"].to_list()
    would = assigned.filter(pl.col("arm") != "none")
    assert would.filter(pl.col("user_id").is_in(held))["arm"].unique().to_list() == ["holdout"]
    assert would["offer_id"].null_count() == 0
    arms = assigned.group_by("arm").agg(pl.col("assignment_probability").unique())
    assert {arm: chances for arm, chances in arms.iter_rows()} == {
        "offer": [0.8],
        "holdout": [0.2],
        "none": [1.0],
    }
    none = assigned.filter(arm="none")
    assert none["offer_id"].null_count() == none.height
    assert not none["expected_cost"].sum()


def test_settling_ties_is_independent_of_being_held_out() -> None:
    users = shoppers(5000)
    held, ties = EXPERIMENT.held_out(users), EXPERIMENT.ties(users)
    assert abs(ties[held].mean() - 0.5) < 5 * np.sqrt(1 / 12 / held.sum())


def test_users_without_an_offer_are_told_why() -> None:
    users = pl.DataFrame(
        {"user_id": ["a", "b", "c"], "segment": ["new"] * 3, "expected_spend": [100.0, 1.0, 100.0]}
    )
    mask = np.array([[True, True], [True, True], [False, False]])
    assert decide(users, 0.0, mask)["reason"].to_list() == [NO_BUDGET, NOT_WORTH, NOT_ELIGIBLE]


def test_the_strategy_of_a_segment_adds_up_and_ends_with_no_offer() -> None:
    assigned = decide(shoppers(), 60.0)
    strategy = segment_strategy(assigned, effects(), CATALOGUE, EXPERIMENT.share)
    assert strategy.schema == pl.Schema(STRATEGY_SCHEMA)
    for (segment,), rows in strategy.group_by("segment"):
        users = assigned.filter(segment=segment)
        assert rows["audience"].sum() + rows["held_out"].sum() == users.height
        assert rows["offer_id"].to_list()[-1] is None
        assert rows["offer_id"].null_count() == 1
    sent = assigned.filter(arm="offer")
    cents = Decimal("0.005") * strategy.height
    assert abs(strategy["expected_cost"].sum() - sent["expected_cost"].sum()) <= cents
    assert abs(strategy["expected_margin"].sum() - sent["expected_value"].sum()) <= cents


def test_the_interval_is_that_of_the_shared_lift() -> None:
    """Ten users of equal spend err together: ten times one user's interval."""
    users = pl.DataFrame(
        {
            "user_id": [f"u{number}" for number in range(10)],
            "segment": ["deal_seeker"] * 10,
            "expected_spend": [100.0] * 10,
        }
    )
    everyone = Experiment("none", 0.0)
    found = candidates(users)
    plan = planned(users, found, 100.0, everyone)
    assigned = assignments(unbarred(users), found, CATALOGUE, plan, everyone)
    first, last = segment_strategy(assigned, effects(), CATALOGUE, 0.0).iter_rows(named=True)
    assert first["expected_margin"] == Decimal("12.50")
    assert first["expected_margin_low"] == Decimal("-12.00")
    assert first["expected_margin_high"] == Decimal("37.00")
    assert first["reason"] == (
        "Type A coupons to 10 deal seeker users: expected margin +12.50 (-12.00 to +37.00) "
        "for 7.00 cost; evidence randomised, measured in 3 campaigns"
    )
    assert (last["offer_id"], last["audience"]) == (None, 0)
    assert last["reason"] == "everyone gets an offer or is held out"


def responding(seed: int = 0) -> Response:
    """An offer whose lift is uncertain in itself and in every trait."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(0, 1, (30, 10))
    lift = np.concatenate([normal, -normal]) * [0.1, *[0.2] * 9]
    return Response(
        horizon=14,
        rate_scale=Scale([0.0] * 16, [1.0] * 16),
        rate=[-4.0, *[0.0] * 16],
        trait_scale=Scale([0.0] * 9, [1.0] * 9),
        order_value=40.0,
        margin=0.3,
        lift=(lift + np.eye(10)[0]).tolist(),
        basket=[0.0] * 60,
        cost=[0.1, *[0.0] * 9],
    )


def test_the_interval_is_that_of_the_sum_under_the_response() -> None:
    """Users share the offer's lift but not their traits: their sum errs by less than all of them
    the same way."""
    rng = np.random.default_rng(3)
    known = {name: rng.gamma(1.0, 3.0, 80) for name in FEATURES}
    users = shoppers(80).with_columns(**{name: pl.Series(col) for name, col in known.items()})
    response = responding()
    found_effects = effects(response=[response.text(), None] * 2)
    found = candidate_values(
        users, found_effects, CATALOGUE, np.array([[True, False]] * 80), 0.25, 0.5
    )
    plan = planned(users, found, 1e6)
    assigned = assignments(unbarred(users), found, CATALOGUE, plan, EXPERIMENT)
    assigned = assigned.join(users.select("user_id", *FEATURES), on="user_id")
    rows = segment_strategy(assigned, found_effects, CATALOGUE, 0.2).filter(offer_id="a")
    assert rows.height == 2
    for row in rows.iter_rows(named=True):
        audience = assigned.filter(arm="offer", offer_id="a", segment=row["segment"])
        spread = response.draws(audience).std()
        half = float(row["expected_margin_high"] - row["expected_margin"])
        assert half == pytest.approx(1.96 * spread, abs=0.02)
        assert 0 < spread < 0.9 * float(audience["expected_value_se"].sum())


def test_only_what_is_worth_its_cost_with_the_declared_probability_is_sent() -> None:
    users = shoppers(400)
    found = candidates(users, sure=0.8)
    net, error = found.value - found.cost, found.error
    enough = net / error > 0.8416
    assert 0 < enough.sum() < (net > 0).sum()
    assert (found.sure == enough).all()
    plan = planned(users, found, 1e6)
    assigned = assignments(unbarred(users), found, CATALOGUE, plan, EXPERIMENT)
    named = assigned.filter(pl.col("offer_id").is_not_null())["user_id"]
    sure = users.filter(pl.Series(enough.any(axis=1)))["user_id"]
    assert sorted(named) == sorted(sure)
    told = assigned.filter(arm="none")["reason"].unique().to_list()
    assert set(told) == {NOT_SURE, NOT_WORTH}


def test_the_budget_goes_to_what_is_known_before_what_may_be_luck() -> None:
    """Two offers that cost the same: more is expected of the one of which little is known."""
    users = shoppers(60).with_columns(segment=pl.lit("new"), expected_spend=pl.lit(400.0))
    known = {
        "lift": [0.10, 0.11, 0.0, 0.0], "lift_se": [0.01, 0.06, 0.05, 0.05],
        "cost_per_redemption": [5.0] * 4,
    }  # fmt: skip
    for sure, offer in ((0.5, "b"), (0.8, "a")):
        found = candidates(users, sure=sure, **known)
        assert (found.sure.any(axis=1)).all()
        plan = planned(users, found, 20.0)
        assigned = assignments(unbarred(users), found, CATALOGUE, plan, EXPERIMENT)
        assert assigned["offer_id"].drop_nulls().unique().to_list() == [offer]
        chosen = assigned.filter(arm="offer")
        net = float((chosen["expected_value"] - chosen["expected_cost"]).sum())
        curve = dict(budget_curve(users, found, 20.0, EXPERIMENT))
        assert curve[20.0] == pytest.approx(net, abs=0.01)
        assert plan.price.value == pytest.approx(
            net - found.caution * float(chosen["expected_value_se"].sum()), abs=0.01
        )


def test_the_holdout_costs_what_its_offers_were_expected_to_earn() -> None:
    users = shoppers(400)
    found = candidates(users)
    plan = planned(users, found, 1e6)
    assigned = assignments(unbarred(users), found, CATALOGUE, plan, EXPERIMENT)
    held = assigned.filter(arm="holdout")
    assert held.height > 20
    expected = float((held["expected_value"] - held["expected_cost"]).sum())
    assert withheld_value(users, found, plan, EXPERIMENT) == pytest.approx(expected)
    assert withheld_value(users, found, plan, Experiment("none", 0.0)) == 0.0


def test_what_may_be_biased_is_no_reason_to_send() -> None:
    """Neither in the segment that measured it nor in one that borrows it."""
    evidence = ["prior", "randomised", "observational", "randomised"]
    found = candidates(shoppers(), evidence=evidence)
    assert (found.value > found.cost)[:, 0].any()
    assert not found.sure[:, 0].any()
    assert found.sure[:, 1].any()
    alone = candidates(shoppers().filter(segment="new"), evidence=evidence)
    assert not alone.sure[:, 0].any()


def explored(users: pl.DataFrame, budget: float, day: date = date(2017, 1, 5)) -> pl.DataFrame:
    """A day on which nothing is known, so that everybody is open to exploration."""
    found = candidates(users, lift=[0.0] * 4)
    plan = planned(users, found, 100.0)
    exploration = explored_on(unbarred(users), found, plan, budget, limited(100.0), EXPERIMENT, day)
    return assignments(unbarred(users), found, CATALOGUE, plan, EXPERIMENT, exploration)


def test_exploration_draws_every_possible_offer_and_none_alike_and_keeps_its_budget() -> None:
    users = shoppers(40_000)
    assigned = explored(users, 3000.0)
    drawn = assigned.filter(purpose="learn")
    held = users.filter(pl.Series(EXPERIMENT.held_out(users)))["user_id"]
    assert not set(drawn["user_id"]) & set(held)
    possible = assigned.filter(~pl.col("user_id").is_in(held.implode()))
    shares = possible.group_by("segment").agg(
        n=pl.len(), drawn=(pl.col("purpose") == "learn").sum()
    )
    # Of each segment the same share, to within a user.
    expected = shares["n"] * (drawn.height / possible.height)
    assert (shares["drawn"] - expected).abs().max() < 2
    assert drawn["assignment_probability"].unique().to_list() == [pytest.approx(1 / 3)]
    sizes = drawn.group_by("arm", "offer_id").len()
    assert set(sizes.select("arm", "offer_id").iter_rows()) == {
        ("holdout", None), ("offer", "a"), ("offer", "b"),
    }  # fmt: skip
    assert (sizes["len"] - drawn.height / 3).abs().max() < 5 * np.sqrt(drawn.height * 2 / 9)
    spent = float(drawn.filter(arm="offer")["expected_cost"].sum())
    assert spent == pytest.approx(3000, rel=0.05)
    assert assigned.filter(arm="none")["assignment_probability"].unique().to_list() == [1.0]


def test_who_was_drawn_lately_is_held_out_or_is_sent_something_is_not_explored() -> None:
    users = shoppers(500)
    found = candidates(users)
    plan = planned(users, found, 50.0)
    recent = unbarred(users).with_columns(offers_drawn_28d=pl.int_range(500) % 2)
    assigned = assignments(
        recent, found, CATALOGUE, plan, EXPERIMENT, Exploration("x", date(2017, 1, 1), 1.0)
    ).join(recent, on="user_id")
    drawn = assigned.filter(purpose="learn")
    assert drawn["offers_drawn_28d"].unique().to_list() == [0]
    others = assigned.filter(pl.col("purpose").is_null(), offers_drawn_28d=0)
    held = users.filter(pl.Series(EXPERIMENT.held_out(users)))["user_id"]
    assert set(others["user_id"]) <= set(held)


def test_exploration_is_drawn_anew_every_day_and_is_the_same_for_a_segment_alone() -> None:
    users = shoppers(2000)
    one, other = (explored(users, 100.0, date(2017, 1, day)) for day in (5, 6))
    drawn = [set(frame.filter(purpose="learn")["user_id"]) for frame in (one, other)]
    assert drawn[0] != drawn[1]
    found = candidates(users, lift=[0.0] * 4)
    plan = planned(users, found, 100.0)
    exploration = explored_on(
        unbarred(users), found, plan, 100.0, limited(100.0), EXPERIMENT, date(2017, 1, 5)
    )
    part = users.filter(segment="new")
    alone = assignments(
        unbarred(part), candidates(part, lift=[0.0] * 4), CATALOGUE, plan, EXPERIMENT,
        exploration,
    )  # fmt: skip
    assert_frame_equal(alone, one.filter(segment="new"))


def test_the_strategy_tells_the_explored_apart() -> None:
    assigned = explored(shoppers(3000), 200.0)
    strategy = segment_strategy(assigned, effects(lift=[0.0] * 4), CATALOGUE, EXPERIMENT.share)
    sent = assigned.filter(arm="offer")
    assert strategy["explored"].sum() == sent.height > 0
    assert strategy["audience"].sum() == assigned.filter(arm="none").height
    assert strategy["held_out"].sum() == assigned.filter(arm="holdout").height
    cents = Decimal("0.005") * strategy.height
    assert abs(strategy["exploration_cost"].sum() - sent["expected_cost"].sum()) <= cents
    first = strategy.row(0, named=True)
    assert "at random, to learn what it does" in first["reason"]


def test_no_users_give_no_strategy() -> None:
    users = shoppers().clear()
    assigned = decide(users, 10.0)
    assert assigned.is_empty()
    assert segment_strategy(assigned, effects(), CATALOGUE, 0.2).is_empty()


def test_a_day_without_evidence_offers_nothing() -> None:
    users = shoppers()
    unknown = effects(lift=[0.0] * 4)
    found = candidate_values(users, unknown, CATALOGUE, np.ones((200, 2), bool), 0.25)
    plan = planned(users, found, 100.0)
    assigned = assignments(unbarred(users), found, CATALOGUE, plan, EXPERIMENT)
    assert assigned["arm"].unique().to_list() == ["none"]
    assert (plan.price.price, plan.price.spent, plan.price.value) == (0.0, 0.0, 0.0)


def test_dates_and_other_columns_of_users_are_ignored() -> None:
    users = shoppers()
    wider = users.with_columns(as_of_date=date(2017, 1, 1), propensity=0.5)
    assert_frame_equal(decide(users, 30.0), decide(wider, 30.0))
