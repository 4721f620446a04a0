"""A day's plan: which limits are put into force, and that nothing passes them."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from promo_assets.strategy.allocation.budget import NONE, solve_price
from promo_assets.strategy.allocation.decisions import Candidates, explored_on
from promo_assets.strategy.allocation.limits import Limits
from promo_assets.strategy.allocation.plan import Plan, day_limits, make_plan, used_by
from promo_assets.strategy.experiments.experiment import Experiment
from promo_assets.strategy.offers.catalogue import Catalogue

USERS = 400


def shop(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0.5, 2.0, (USERS, 2))
    return cost * rng.gamma(2.0, 1.0, cost.shape), cost, rng.permutation(USERS) / USERS


def limits(budget: float = 100.0, **given: object) -> Limits:
    free = {name: np.full(2, np.inf) for name in ("offer_budget", "offer_count")}
    return Limits(budget=budget, **free | {"liability": np.inf, "face": np.ones(2)} | given)


def test_limits_that_do_not_bind_leave_the_budgets_own_optimum() -> None:
    value, cost, tie = shop()
    plan = make_plan(value, cost, limits(offer_count=np.array([300.0, 300.0])), [0, 0], tie)
    assert plan == Plan(solve_price(value, cost, 100.0, tie))


def test_a_plan_is_the_same_after_its_row_was_stored() -> None:
    value, cost, tie = shop()
    plan = make_plan(value, cost, limits(offer_count=np.array([20.0, 300.0])), [0, 0], tie)
    assert plan.limited is not None
    again = Plan.from_row(plan.to_row())
    assert again.choose(value, cost, tie).tolist() == plan.choose(value, cost, tie).tolist()
    counts = np.bincount(plan.choose(value, cost, tie) + 1)
    assert counts[1] == 20
    assert plan.price.spent <= 100


def test_an_offer_that_too_few_would_get_goes_to_nobody() -> None:
    value, cost, tie = shop()
    value[5:, 1] = -np.inf
    value[:5, 1] += 50
    free = make_plan(value, cost, limits(), [0, 0], tie)
    assert np.count_nonzero(free.choose(value, cost, tie) == 1) == 5
    plan = make_plan(value, cost, limits(), [0, 6], tie)
    assert plan.closed == (1,)
    assert 1 not in Plan.from_row(plan.to_row()).choose(value, cost, tie)


def test_what_was_drawn_and_what_is_open_is_taken_from_what_there_is() -> None:
    offer = {"id": "a", "name": "A", "kind": "amount_off", "value": 5, "stock": 10}
    other = {"id": "b", "name": "B", "kind": "points", "value": 5, "max_audience": 7, "budget": 3}
    catalogue = Catalogue.model_validate({"offers": [offer, other], "rules": {"max_liability": 30}})
    held = pl.Series([["a", "b"], None, ["a"]])
    found = day_limits(catalogue, 50.0, {"a": 4, "b": 99}, held)
    assert found.all.tolist() == [50, np.inf, 3, 6, 7, 20]
    assert found.face.tolist() == [5, 0]
    spent = day_limits(catalogue, 50.0, {"a": 40}, pl.Series([["a"]] * 9))
    assert spent.all.tolist() == [50, np.inf, 3, 0, 7, 0]


@pytest.mark.parametrize("count", [0.0, 25.0, 1000.0])
def test_exploration_leaves_out_what_there_is_not_enough_of(count: float) -> None:
    value, cost, _ = shop()
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(USERS)]}).with_columns(
        offers_drawn_28d=pl.lit(0), segment=pl.lit("loyal")
    )
    nothing_known = np.zeros(cost.shape, dtype=bool)
    candidates = Candidates(value, cost, np.ones(cost.shape), nothing_known, 0.0)
    plan = Plan(solve_price(candidates.decided_by, cost, 0.0, np.arange(USERS) / USERS))
    limited = limits(offer_count=np.array([np.inf, count]))
    experiment = Experiment("x", 0.1)
    found = explored_on(users, candidates, plan, 80.0, limited, experiment, date(2024, 1, 1))
    possible = found.possible(candidates.eligible)
    takes_part = found.takes_part(users, ~experiment.held_out(users) & possible.any(axis=1))
    drawn = np.where(takes_part, found.drawn(users, possible)[1], NONE)
    assert (used_by(drawn, cost, limited)[1:] <= limited.all[1:]).all()
    assert found.closed == ((1,) if count < 1000 else ())
    assert np.count_nonzero(drawn == 0) > 10
