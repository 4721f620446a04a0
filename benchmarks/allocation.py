"""The knapsack of a day's budget against HiGHS, in one process, on the same data: one budget, by a
frontier sweep, and a budget and a number for each offer besides.

HiGHS solves the linear relaxation (users x offers variables), whose optimum is our bound; it gets
fewer users because its time grows faster than their number. Run: python benchmarks/allocation.py
"""

from __future__ import annotations

import time

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, kron, vstack

from promo_assets.strategy.allocation.budget import allocate, solve_price
from promo_assets.strategy.allocation.limits import Limits, solve

OFFERS = 5
LIMITED_OFFERS = 10


def problem(users: int, offers: int = OFFERS) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Skewed values that grow with cost, a fifth not eligible, budget for about a third."""
    rng = np.random.default_rng(2017)
    cost = rng.uniform(0.2, 3.0, (users, offers))
    value = rng.gamma(1.0, 1.5, cost.shape) * cost
    value[rng.random(cost.shape) < 0.2] = -np.inf
    return value, cost, 0.3 * users, rng.random(users)


def own_limits(users: int, budget: float) -> Limits:
    """A budget for each offer, of which about half bind, and a number for each."""
    rng = np.random.default_rng(2018)
    own = rng.uniform(0.02, 0.06, LIMITED_OFFERS) * users
    return Limits(
        budget, own, np.full(LIMITED_OFFERS, 0.03 * users), np.inf, np.ones(LIMITED_OFFERS)
    )


def highs(value: np.ndarray, cost: np.ndarray, budget: float, own: Limits | None = None) -> float:
    """The optimum of the linear relaxation."""
    users, offers = value.shape
    one_offer = kron(eye_array(users), np.ones((1, offers)))
    net = np.where(value > -np.inf, value - cost, -1e3).ravel()
    rows, limits = [csr_array(cost.reshape(1, -1))], [budget]
    if own is not None:
        for offer in range(offers):
            only = np.zeros(offers)
            only[offer] = 1.0
            rows += [csr_array((cost * only).reshape(1, -1)), csr_array(np.tile(only, (1, users)))]
            limits += [own.offer_budget[offer], own.offer_count[offer]]
    solved = linprog(
        -net,
        A_ub=vstack([one_offer, *rows]),
        b_ub=np.append(np.ones(users), limits),
        bounds=(0, 1),
        method="highs",
    )
    return float(-solved.fun)


def main() -> None:
    for users, compared in ((20_000, True), (1_000_000, False)):
        value, cost, budget, tie = problem(users)
        started = time.perf_counter()
        price = solve_price(value, cost, budget, tie)
        solved = time.perf_counter()
        allocate(value, cost, price, tie)
        ours = time.perf_counter() - started
        print(
            f"{users:>9,} users x {OFFERS} offers: price {solved - started:.3f} s, "
            f"price and choices {ours:.3f} s, relative gap {price.relative_gap:.1e}"
        )
        if compared:
            started = time.perf_counter()
            optimum = highs(value, cost, budget)
            theirs = time.perf_counter() - started
            print(
                f"{'':>9} HiGHS LP {theirs:.3f} s: {theirs / ours:.0f} times ours; "
                f"our bound is {price.bound / optimum - 1:+.1e} from its optimum"
            )
    for users, compared in ((10_000, True), (100_000, False), (1_000_000, False)):
        value, cost, budget, tie = problem(users, LIMITED_OFFERS)
        own = own_limits(users, budget)
        started = time.perf_counter()
        prices = solve(value, cost, own, tie)
        ours = time.perf_counter() - started
        print(
            f"{users:>9,} users x {LIMITED_OFFERS} offers, {2 * LIMITED_OFFERS} limits besides: "
            f"{ours:.3f} s, relative gap {prices.relative_gap:.1e}"
        )
        if compared:
            started = time.perf_counter()
            optimum = highs(value, cost, budget, own)
            theirs = time.perf_counter() - started
            print(
                f"{'':>9} HiGHS LP {theirs:.3f} s: {theirs / ours:.1f} times ours; "
                f"our bound is {prices.bound / optimum - 1:+.1e} from its optimum"
            )


if __name__ == "__main__":
    main()
