"""The knapsack of a day's budget: our frontier sweep against HiGHS, in one process, same data.

HiGHS solves the linear relaxation (users x offers variables), whose optimum is our bound; it gets
fewer users because its time grows faster than their number. Run: python benchmarks/allocation.py
"""

from __future__ import annotations

import time

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, kron, vstack

from promo_assets.strategy.allocation.budget import allocate, solve_price

OFFERS = 5


def problem(users: int) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Skewed values that grow with cost, a fifth not eligible, budget for about a third."""
    rng = np.random.default_rng(2017)
    cost = rng.uniform(0.2, 3.0, (users, OFFERS))
    value = rng.gamma(1.0, 1.5, cost.shape) * cost
    value[rng.random(cost.shape) < 0.2] = -np.inf
    return value, cost, 0.3 * users, rng.random(users)


def highs(value: np.ndarray, cost: np.ndarray, budget: float) -> float:
    """The optimum of the linear relaxation."""
    users = len(value)
    one_offer = kron(eye_array(users), np.ones((1, OFFERS)))
    net = np.where(value > -np.inf, value - cost, -1e3).ravel()
    solved = linprog(
        -net,
        A_ub=vstack([one_offer, csr_array(cost.reshape(1, -1))]),
        b_ub=np.append(np.ones(users), budget),
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


if __name__ == "__main__":
    main()
