"""The knapsack against brute force, HiGHS, and its own certificate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from promo_assets.strategy.allocation.budget import NONE, allocate, budget_curve, solve_price

# Coarse numbers on purpose: they make ties within and between users common.
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 3))
VALUES = st.sampled_from([-np.inf, np.nan, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0])
COSTS = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0])


@st.composite
def problems(draw: st.DrawFn):
    shape = draw(SHAPES)
    value = draw(hnp.arrays(float, shape, elements=VALUES))
    cost = draw(hnp.arrays(float, shape, elements=COSTS))
    tie = draw(hnp.arrays(float, shape[0], elements=st.sampled_from([0.1, 0.3, 0.5, 0.9])))
    return value, cost, draw(st.sampled_from([0.0, 0.5, 1.0, 2.5, 4.0, 100.0])), tie


def total(matrix: np.ndarray, choice: np.ndarray) -> float:
    chosen = choice != NONE
    return float(matrix[np.flatnonzero(chosen), choice[chosen]].sum())


def best_by_trying_all(value: np.ndarray, cost: np.ndarray, budget: float) -> float:
    users, offers = value.shape
    net = np.where(np.isnan(value), -np.inf, value) - cost
    choices = (np.array(one) for one in itertools.product(range(-1, offers), repeat=users))
    return max(total(net, choice) for choice in choices if total(cost, choice) <= budget)


@given(problems())
def test_the_optimum_lies_between_the_allocation_and_its_bound(problem) -> None:
    value, cost, budget, tie = problem
    price = solve_price(value, cost, budget, tie)
    optimum = best_by_trying_all(value, cost, budget)
    assert price.value <= optimum + 1e-9
    assert optimum <= price.bound + 1e-9
    assert price.gap >= optimum - price.value - 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_the_curve_is_what_each_budget_comes_to_by_the_values_that_are_counted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    value, cost = rng.gamma(2, 2, (300, 4)), rng.gamma(2, 1, (300, 4)) + 0.01
    value[rng.random(value.shape) < 0.3] = -np.inf
    counted = np.where(np.isfinite(value), value - cost + rng.normal(0, 1, value.shape), np.nan)
    tie = rng.random(300)
    budgets = np.array([0.0, 10.0, 40.0, 80.0, 1e4])
    decided, expected = [], []
    for budget in budgets:
        choice = allocate(value, cost, solve_price(value, cost, budget, tie), tie)
        decided.append(total(value - cost, choice))
        expected.append(total(counted, choice))
    assert budget_curve(value, cost, budgets) == pytest.approx(decided)
    assert budget_curve(value, cost, budgets, counted) == pytest.approx(expected)


@given(problems())
def test_the_allocation_fits_the_budget_and_is_worth_what_the_price_says(problem) -> None:
    value, cost, budget, tie = problem
    price = solve_price(value, cost, budget, tie)
    choice = allocate(value, cost, price, tie)
    assert price.spent <= budget
    assert total(cost, choice) == pytest.approx(price.spent)
    assert total(value - cost, choice) == pytest.approx(price.value)


@given(problems(), st.randoms())
def test_a_users_choice_depends_on_the_price_and_that_user_alone(problem, random) -> None:
    value, cost, budget, tie = problem
    price = solve_price(value, cost, budget, tie)
    choice = allocate(value, cost, price, tie)
    some = np.array(random.sample(range(len(value)), random.randint(1, len(value))))
    assert allocate(value[some], cost[some], price, tie[some]).tolist() == choice[some].tolist()


@given(problems(), st.randoms())
def test_the_price_does_not_depend_on_the_order_of_users(problem, random) -> None:
    value, cost, budget, tie = problem
    order = np.array(random.sample(range(len(value)), len(value)))
    one = solve_price(value, cost, budget, tie)
    two = solve_price(value[order], cost[order], budget, tie[order])
    assert (one.price, one.tie_cut, one.spent) == (two.price, two.tie_cut, two.spent)


@given(problems())
def test_nobody_gets_an_offer_that_is_closed_to_them_or_earns_nothing(problem) -> None:
    value, cost, budget, tie = problem
    choice = allocate(value, cost, solve_price(value, cost, budget, tie), tie)
    chosen = choice != NONE
    assert ((value - cost)[np.flatnonzero(chosen), choice[chosen]] > 0).all()


def random_problem(users: int, offers: int, seed: int):
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0.2, 3, (users, offers))
    value = rng.gamma(1.0, 1.5, (users, offers)) * cost
    value[rng.random((users, offers)) < 0.2] = -np.inf
    return value, cost, rng.random(users)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.6])
def test_highs_finds_nothing_beyond_the_bound_and_hardly_more_than_the_allocation(share) -> None:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, kron

    users, offers = 200, 4
    value, cost, tie = random_problem(users, offers, seed=7)
    budget = float(share * cost.mean(axis=1).sum())
    price = solve_price(value, cost, budget, tie)
    net = np.where(value > -np.inf, value - cost, -1e3).ravel()
    one_offer = kron(csr_array(np.eye(users)), np.ones((1, offers)))
    solved = milp(
        -net,
        integrality=np.ones(net.size),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_offer, ub=1),
            LinearConstraint(cost.reshape(1, -1), ub=budget),
        ],
        options={"mip_rel_gap": 1e-9, "time_limit": 10},
    )
    # HiGHS keeps constraints to 1e-6 of the budget, which is worth price times that.
    slack = 1e-6 * budget * max(price.price, 1)
    assert price.value - slack <= -solved.fun <= price.bound + slack
    assert price.gap <= price.price * cost.max()


def test_equal_users_share_the_budget_by_their_draws() -> None:
    value, cost = np.full((1000, 1), 2.0), np.full((1000, 1), 1.0)
    tie = np.random.default_rng(1).random(1000)
    price = solve_price(value, cost, 250.5, tie)
    choice = allocate(value, cost, price, tie)
    assert price.price == 1.0
    assert set(np.flatnonzero(choice == 0)) == set(np.argsort(tie)[:250])


def test_a_budget_that_is_not_scarce_has_no_price_and_no_gap() -> None:
    value, cost, tie = random_problem(500, 3, seed=3)
    price = solve_price(value, cost, 1e9, tie)
    assert (price.price, price.gap, price.relative_gap) == (0.0, 0.0, 0.0)


def test_the_gap_is_at_most_one_users_step() -> None:
    value, cost, tie = random_problem(50_000, 5, seed=4)
    price = solve_price(value, cost, 10_000.0, tie)
    assert price.gap <= price.price * cost.max()
    assert price.relative_gap < 1e-4


def test_a_free_offer_is_given_even_without_a_budget() -> None:
    value, cost = np.array([[0.5, 3.0]]), np.array([[0.0, 1.0]])
    price = solve_price(value, cost, 0.0, np.zeros(1))
    assert allocate(value, cost, price, np.zeros(1)).tolist() == [0]


@pytest.mark.parametrize(("users", "offers"), [(0, 3), (3, 0)])
def test_no_users_or_no_offers_are_no_problem(users: int, offers: int) -> None:
    empty = np.empty((users, offers))
    price = solve_price(empty, empty, 10.0, np.zeros(users))
    assert price.value == price.gap == 0
    assert allocate(empty, empty, price, np.zeros(users)).tolist() == [NONE] * users


@pytest.mark.parametrize(
    ("value", "cost", "budget", "message"),
    [
        (np.ones((2, 1)), np.ones((1, 2)), 1.0, r"found, expected \(n, k\)"),
        (np.ones((1, 1)), -np.ones((1, 1)), 1.0, "costs of eligible offers finite, >= 0"),
        (np.full((1, 1), np.inf), np.ones((1, 1)), 1.0, "below infinity"),
        (np.ones((1, 1)), np.ones((1, 1)), -1.0, "budget -1.0 found"),
        (np.ones((1, 1)), np.ones((1, 1)), np.nan, "budget nan found"),
    ],
)
def test_a_problem_that_makes_no_sense_is_refused(value, cost, budget, message) -> None:
    with pytest.raises(ValueError, match=message):
        solve_price(value, cost, budget, np.zeros(len(value)))
