"""Whom to spend the budget on: a multiple-choice knapsack, solved through its dual.

Maximise the sum of ``value - cost`` over users, each getting one offer or none, while the sum of
``cost`` stays within the budget. A user's undominated offers form a concave frontier; its steps
have falling returns (net value gained a unit of cost). Taking steps of all users in the order of
return until the budget ends is optimal for the linear relaxation (Zemel 1980; Sinha and Zoltners
1979), and the return of the first step left out is the Lagrangian price of budget.

Given that price a user's choice depends on that user alone, so one segment can be rebuilt
without the others. Steps whose return *equals* the price are settled by a draw for each user.
Here: matrices in, choices out. Not here: users, offers, where values come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]
Choice = npt.NDArray[np.int64]

NONE = -1
CHUNK = 1 << 16  # Rows worked on at once: their matrices stay in the cache, 2x quicker at 1M.
HIGHEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Price:
    """What a unit of budget is worth, and how good the allocation at that price is.

    ``price`` (>= 0): net value gained by the last unit of budget. ``tie_cut``: users whose step
    returns exactly ``price`` take it if their draw is below. ``value``: net value of the
    allocation. ``bound``: no allocation within the budget can be worth more (the dual value).
    ``steps``: how many frontier steps were ranked.
    """

    price: float
    tie_cut: float
    budget: float
    spent: float
    value: float
    bound: float
    steps: int

    @property
    def gap(self) -> float:
        """At most this much net value is left on the table."""
        return max(self.bound - self.value, 0.0)

    @property
    def relative_gap(self) -> float:
        """The gap as a share of the bound; 0 where nothing is worth doing."""
        return self.gap / self.bound if self.bound > 0 else 0.0


class _Frontier(NamedTuple):
    """Each user's concave frontier, ``[n, k + 1]``: where it starts, then its steps.

    Unused steps have return 0 and repeat the last choice.
    """

    choice: Choice
    net: Matrix
    cost: Matrix
    returns: Matrix


def solve_price(value: Matrix, cost: Matrix, budget: float, tie: Vector) -> Price:
    """Find the price at which the best choices of all users fit the budget.

    ``value``, ``cost``: [n, k], in money; ``value`` -inf or NaN marks an offer that the user
    can't get. ``tie``: [n], a draw in [0, 1) for each user, best distinct. The result is exact
    but for the one step that didn't fit. Raises ValueError for a negative budget or cost, or
    wrong shapes.
    """
    value, cost = _checked(value, cost, tie)
    if not 0 <= budget < np.inf:
        raise ValueError(f"budget {budget} found, expected a finite amount >= 0")
    start, steps = _steps(value, cost, tie)
    returns, costs, nets, ties = steps
    price, tie_cut = _critical(returns, costs, ties, budget)
    taken = (returns > price) | ((returns == price) & (ties < tie_cut))
    surplus = np.maximum(nets - price * costs, 0.0)
    return Price(
        price=price,
        tie_cut=tie_cut,
        budget=budget,
        spent=float(costs[taken].sum()),
        value=start + float(nets[taken].sum()),
        bound=start + price * budget + float(surplus.sum()),
        steps=len(returns),
    )


def budget_curve(
    value: Matrix, cost: Matrix, budgets: Vector, counted: Matrix | None = None
) -> Vector:
    """The net value of the best allocation within each of ``budgets`` (money), but for the one step
    that doesn't fit; ``value``, ``cost`` as for `solve_price`. One sort serves them all. Where the
    allocation is to be judged by other net values than it is made by, ``counted`` [n, k] has
    them."""
    value, cost = _checked(value, cost, np.zeros(len(value)))
    start, (returns, costs, nets, _) = _steps(value, cost, np.zeros(len(value)), counted)
    order = np.argsort(-returns, kind="stable")
    spent = np.cumsum(costs[order])
    taken = np.concatenate([[0.0], np.cumsum(nets[order])])
    return start + taken[np.searchsorted(spent, budgets, side="right")]


def _steps(
    value: Matrix, cost: Matrix, tie: Vector, counted: Matrix | None = None
) -> tuple[float, tuple[Vector, Vector, Vector, Vector]]:
    """The net value of all frontiers' starts, and of each of their steps its return, cost, net
    value (or what is ``counted`` instead) and draw."""
    start, parts = 0.0, [(np.zeros(0),) * 4]
    for rows in chunks(len(value)):
        frontier = _frontier(value[rows], cost[rows])
        net = frontier.net
        if counted is not None:
            of_choice = np.take_along_axis(counted[rows], np.maximum(frontier.choice, 0), axis=1)
            net = np.where(frontier.choice == NONE, 0.0, of_choice)
        start += float(net[:, 0].sum())
        user, step = np.nonzero(frontier.returns)
        parts.append(
            (
                frontier.returns[user, step],
                np.diff(frontier.cost, axis=1)[user, step],
                np.diff(net, axis=1)[user, step],
                tie[rows][user],
            )
        )
    returns, costs, nets, ties = (np.concatenate(part) for part in zip(*parts, strict=True))
    return start, (returns, costs, nets, ties)


def allocate(value: Matrix, cost: Matrix, price: Price, tie: Vector) -> Choice:
    """Each user's choice at ``price``: the column of the offer, or -1 for none.

    ``value``, ``cost``, ``tie`` as for `solve_price`; any subset of users, in any order, gets
    the choices it would get among all.
    """
    value, cost = _checked(value, cost, tie)
    choice = np.empty(len(value), dtype=np.int64)
    for rows in chunks(len(value)):
        frontier = _frontier(value[rows], cost[rows])
        tied = (frontier.returns == price.price) & (tie[rows] < price.tie_cut)[:, None]
        taken = ((frontier.returns > price.price) | tied) & (frontier.returns > 0)
        last = taken.sum(axis=1)
        choice[rows] = frontier.choice[np.arange(len(last)), last]
    return choice


def _critical(returns: Vector, costs: Vector, ties: Vector, budget: float) -> tuple[float, float]:
    """The return of the first step that doesn't fit, and the draw at which ties are cut."""
    order = np.argsort(-returns, kind="stable")
    spent = np.cumsum(costs[order])
    if not len(spent) or spent[-1] <= budget:
        return 0.0, 0.0
    price = float(returns[order[np.searchsorted(spent, budget, side="right")]])
    above = float(costs[returns > price].sum())
    tied = np.flatnonzero(returns == price)
    tied = tied[np.argsort(ties[tied], kind="stable")]
    first_left_out = np.searchsorted(np.cumsum(costs[tied]), budget - above, side="right")
    # Rounding may let the whole group fit here though it didn't in the other order of summing.
    cut = ties[tied[first_left_out]] if first_left_out < len(tied) else 1.0
    return price, float(cut)


def _frontier(value: Matrix, cost: Matrix) -> _Frontier:
    """Climb every user's upper concave hull of (cost, net value) at once, steepest step first."""
    users, offers = value.shape
    net = value - cost
    net[np.isnan(net)] = -np.inf
    row = np.arange(users)
    # Free offers cost no budget: the frontier starts at the best of them, or at no offer.
    free = np.where(cost == 0, net, -np.inf)
    best = free.argmax(axis=1) if offers else np.zeros(users, dtype=np.int64)
    here_net = np.maximum(free[row, best], 0.0) if offers else np.zeros(users)
    here = np.where(here_net > 0, best, NONE)
    here_cost, ceiling = np.zeros(users), np.full(users, HIGHEST)
    path = [(here, here_net, here_cost)]
    returns = np.zeros((users, offers))
    for step in range(offers):
        gain, extra = net - here_net[:, None], cost - here_cost[:, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            slope = np.where((extra > 0) & (gain > 0), gain / extra, 0.0)
        # Of equally steep steps the longest, so that the hull has no points inside an edge.
        steepest = slope.max(axis=1)
        best = np.where(slope == steepest[:, None], extra, -np.inf).argmax(axis=1)
        climbs = steepest > 0
        if not climbs.any():
            break
        # Returns fall along a hull; rounding must not say otherwise.
        ceiling = np.where(climbs, np.minimum(steepest, ceiling), ceiling)
        returns[:, step] = np.where(climbs, ceiling, 0.0)
        here = np.where(climbs, best, here)
        here_net = np.where(climbs, net[row, best], here_net)
        here_cost = np.where(climbs, cost[row, best], here_cost)
        path.append((here, here_net, here_cost))
    path += path[-1:] * (offers + 1 - len(path))
    choice, nets, costs = (np.stack(part, axis=1) for part in zip(*path, strict=True))
    return _Frontier(choice, nets, costs, returns)


def _checked(value: Matrix, cost: Matrix, tie: Vector) -> tuple[Matrix, Matrix]:
    if value.ndim != 2 or value.shape != cost.shape or tie.shape != value.shape[:1]:
        raise ValueError(
            f"value {value.shape}, cost {cost.shape}, tie {tie.shape} found, "
            "expected (n, k), (n, k), (n,)"
        )
    open_ = value > -np.inf  # False for NaN too.
    if (value == np.inf).any() or not (np.isfinite(cost) & (cost >= 0))[open_].all():
        raise ValueError("values must be below infinity and costs of eligible offers finite, >= 0")
    return np.where(open_, value, -np.inf), np.where(open_, cost, 0.0)


def chunks(rows: int) -> list[slice]:
    """The rows in pieces of `CHUNK`."""
    return [slice(start, start + CHUNK) for start in range(0, rows, CHUNK)]
