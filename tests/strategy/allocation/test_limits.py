"""The knapsack with limits by offer against HiGHS, its own certificate and itself, rebuilt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import Bounds, LinearConstraint, milp

from promo_assets.strategy.allocation.budget import NONE
from promo_assets.strategy.allocation.limits import Limits, Prices, allocate, solve

VALUES = st.sampled_from([-np.inf, np.nan, -1.0, 0.5, 1.0, 2.0, 3.0, 5.0, 5.3])
COSTS = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 2.2])
MONEY = st.sampled_from([0.0, 1.0, 2.5, 4.0, np.inf])


@st.composite
def problems(draw: st.DrawFn):
    users, offers = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    value = draw(hnp.arrays(float, (users, offers), elements=VALUES))
    cost = draw(hnp.arrays(float, (users, offers), elements=COSTS))
    limits = Limits(
        draw(st.sampled_from([0.0, 2.5, 6.0, 100.0])),
        draw(hnp.arrays(float, offers, elements=MONEY)),
        draw(hnp.arrays(float, offers, elements=st.sampled_from([0.0, 1.0, 3.0, np.inf]))),
        draw(st.sampled_from([0.0, 4.0, np.inf])),
        draw(hnp.arrays(float, offers, elements=st.sampled_from([0.0, 1.0, 1.5]))),
    )
    tie = np.array(draw(st.permutations(range(users)))) / users
    return value, cost, limits, tie


def rows(cost: np.ndarray, face: np.ndarray) -> np.ndarray:
    """What each pair of user and offer uses of each limit, written down anew: [2 + 2k, n * k]."""
    users, offers = cost.shape
    pairs = [(user, offer) for user in range(users) for offer in range(offers)]
    used = np.zeros((2 + 2 * offers, len(pairs)))
    for column, (user, offer) in enumerate(pairs):
        used[0, column] = used[1 + offer, column] = cost[user, offer]
        used[1 + offers + offer, column] = 1
        used[-1, column] = face[offer]
    return used


def highs(value: np.ndarray, cost: np.ndarray, limits: Limits, whole: bool) -> float:
    """The optimum by HiGHS, of whole choices or of their linear relaxation."""
    users, offers = value.shape
    net = np.where(np.isnan(value) | (value == -np.inf), -1e3, value - cost)
    once = np.kron(np.eye(users), np.ones(offers))
    found = milp(
        -net.ravel(),
        constraints=[
            LinearConstraint(once, ub=1.0),
            LinearConstraint(rows(cost, limits.face), ub=limits.all),
        ],
        integrality=np.full(net.size, int(whole)),
        bounds=Bounds(0, 1),
    )
    return float(-found.fun)


def used(cost: np.ndarray, limits: Limits, choice: np.ndarray) -> np.ndarray:
    taken = np.zeros(cost.shape)
    chosen = np.flatnonzero(choice != NONE)
    taken[chosen, choice[chosen]] = 1
    return rows(cost, limits.face) @ taken.ravel()


@settings(deadline=None, max_examples=60)
@given(problems())
def test_a_small_problem_is_solved_as_highs_solves_it(problem) -> None:
    value, cost, limits, tie = problem
    prices = solve(value, cost, limits, tie)
    assert prices.value == pytest.approx(highs(value, cost, limits, whole=True), abs=1e-4)
    assert prices.bound == pytest.approx(highs(value, cost, limits, whole=False), abs=1e-3)


@settings(deadline=None, max_examples=40)
@given(problems(), st.randoms())
def test_choices_fit_the_limits_and_any_users_alone_get_the_same(problem, random) -> None:
    value, cost, limits, tie = problem
    prices = Prices.from_text(solve(value, cost, limits, tie).to_text())
    choice = allocate(value, cost, prices, tie)
    assert (used(cost, limits, choice) <= limits.all).all()
    assert used(cost, limits, choice) == pytest.approx(prices.used)
    some = np.array(random.sample(range(len(value)), random.randint(1, len(value))))
    assert allocate(value[some], cost[some], prices, tie[some]).tolist() == choice[some].tolist()


def drawn(users: int, offers: int, seed: int) -> tuple[np.ndarray, np.ndarray, Limits, np.ndarray]:
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0.2, 3.0, (users, offers))
    value = rng.gamma(1.0, 1.5, cost.shape) * cost
    value[rng.random(cost.shape) < 0.2] = -np.inf
    limits = Limits(
        0.3 * users,
        rng.uniform(0.02, 0.06, offers) * users,
        np.floor(rng.uniform(0.01, 0.08, offers) * users),
        0.25 * users,
        rng.uniform(1.0, 3.0, offers),
    )
    return value, cost, limits, rng.random(users)


@pytest.mark.parametrize(("users", "gap"), [(1_000, 1e-2), (30_000, 1e-3)])
def test_many_users_leave_a_small_gap_and_no_limit_is_passed(users: int, gap: float) -> None:
    value, cost, limits, tie = drawn(users, 5, seed=users)
    prices = solve(value, cost, limits, tie)
    choice = allocate(value, cost, prices, tie)
    total = np.where(choice != NONE, (value - cost)[np.arange(users), choice], 0.0).sum()
    assert prices.value == pytest.approx(total)
    assert 0 <= prices.relative_gap <= gap
    counts = np.bincount(choice[choice != NONE], minlength=5)
    assert (counts <= limits.offer_count).all()
    assert (prices.used <= limits.all).all()


@pytest.mark.parametrize("users", [100, 5_000])
def test_people_who_are_alike_share_what_there_is(users: int) -> None:
    """Mass ties, as of all who came yesterday: stocks and the budget are used up all the same."""
    value, cost = np.tile([3.0, 3.0], (users, 1)), np.tile([1.0, 1.0], (users, 1))
    count = np.array([0.3 * users, 0.5 * users])
    limits = Limits(0.6 * users, np.full(2, np.inf), count, np.inf, np.zeros(2))
    prices = solve(value, cost, limits, np.random.default_rng(1).permutation(users) / users)
    assert prices.value == pytest.approx(1.2 * users)
    assert prices.relative_gap == pytest.approx(0, abs=1e-6)


def test_nobody_and_nothing_worth_it_are_no_error() -> None:
    limits = Limits(1.0, np.array([1.0]), np.array([1.0]), 1.0, np.zeros(1))
    for value in (np.zeros((0, 1)), np.full((3, 1), -np.inf)):
        prices = solve(value, np.ones(value.shape), limits, np.arange(len(value)) / 3)
        assert (prices.value, prices.bound) == (0, 0)
