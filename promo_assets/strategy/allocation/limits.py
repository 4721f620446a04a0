"""The knapsack with limits by offer: budgets and numbers of coupons beside the total budget.

Each limit has a multiplier: the price of a unit of the total budget, of an offer's own budget, and
of one of its coupons. Their least upper bound (the Lagrangian dual) is found by a cutting-plane
ascent in a trust region (Kelley 1960; Marsten, Hogan and Blankenship 1975), first on nested samples
of users, then on all. At those prices nearly everybody has one best choice. Who is as good as
indifferent is settled together: few of them one by one, exactly (the core problem: Balas and Zemel
1980); many by a linear programme, which says of each set of near choices how many get which, and
draws say who. Given prices and cuts a user's choice depends on that user alone. Here: matrices in,
choices out, as in ``budget.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from promo_assets.strategy.allocation.budget import NONE, Choice, Matrix, Vector, chunks

SAMPLE = 2_000
GROWTH = 20
"""Users of the first sample, and how many times as many each next one has."""
TOLERANCE = 1e-7
"""Of the dual value: when a further step can't be worth more, the ascent ends."""
STEPS = 200
"""Of an ascent, at most."""
FIRST_RADIUS, NEXT_RADIUS = 1.0, 0.1
"""How far an ascent goes in a step at first, in units of its scale: from nothing known, and from
the multipliers of a sample."""
NEAR = 1e-3
"""Choices this near to a user's best, in units of the mean best value, are as good as it."""
CORE = 40
"""At least so many users, those nearest to indifference, are settled together."""
ONE_BY_ONE = 3 * CORE
"""At most so many are settled one by one."""
MANY = 20_000
"""Of more users it makes no difference what a few get: none are settled one by one."""
NODES = 300
"""Of the search for the best of all their choices, at most."""

Cuts = dict[str, list[tuple[int, float]]]
_Groups = list[tuple[str, npt.NDArray[np.int64]]]


@dataclass(frozen=True)
class Limits:
    """What may be spent: the total budget; by offer [k] its own budget and how many may get it; and
    ``liability``, the most that new coupons may come to, each counted with its offer's ``face`` [k]
    (infinity: as much as you like). Counts are whole numbers."""

    budget: float
    offer_budget: Vector
    offer_count: Vector
    liability: float
    face: Vector

    @property
    def all(self) -> Vector:
        """[2 + 2k]: the total, the budgets, the counts, the liability."""
        limits = [self.budget], self.offer_budget, self.offer_count, [self.liability]
        return np.concatenate(limits)

    def to_text(self) -> str:
        """As JSON; null stands for infinity."""
        told = [None if np.isinf(limit) else limit for limit in self.all.tolist()]
        return json.dumps(told)

    @property
    def more_than_a_budget(self) -> bool:
        """Whether anything but the total budget is limited."""
        return bool(np.isfinite(self.all[1:]).any())


class Usage(NamedTuple):
    """What choices use and earn: as `Limits.all`, and their net value."""

    used: Vector
    value: float


@dataclass(frozen=True)
class Prices:
    """The multipliers [2 + 2k] in the order of `Limits.all`, how users who are as good as
    indifferent are settled, and how good that is.

    ``near`` (money): choices whose value at these prices is so near to the best are settled by
    ``cuts``: for a set of choices (as text, one character a choice, the last for none), which one
    is taken below which draw. ``used`` [2 + 2k], ``value`` and ``bound`` as of `budget.Price`.
    """

    multipliers: Vector
    face: Vector
    near: float
    cuts: Cuts
    used: Vector
    value: float
    bound: float

    @property
    def relative_gap(self) -> float:
        """The value that may be missing as a share of the bound; 0 where nothing is worth doing."""
        return max(self.bound - self.value, 0.0) / self.bound if self.bound > 0 else 0.0

    def to_text(self) -> str:
        """As JSON; `from_text` gives the same back, to the last bit."""
        told: dict[str, Any] = {
            "multipliers": self.multipliers.tolist(),
            "face": self.face.tolist(),
            "near": self.near,
            "cuts": self.cuts,
            "used": self.used.tolist(),
            "value": self.value,
            "bound": self.bound,
        }
        return json.dumps(told)

    @classmethod
    def from_text(cls, text: str) -> Prices:
        """Read what `to_text` wrote."""
        told = json.loads(text)
        cuts = {near: [(k, cut) for k, cut in found] for near, found in told.pop("cuts").items()}
        multipliers, face, used = (np.array(told.pop(n)) for n in ("multipliers", "face", "used"))
        return cls(multipliers=multipliers, face=face, cuts=cuts, used=used, **told)


def solve(value: Matrix, cost: Matrix, limits: Limits, tie: Vector) -> Prices:
    """Find prices at which the best choices of all users fit the limits, which they do to the cent.

    ``value``, ``cost``: [n, k], in money; ``value`` -inf or NaN marks an offer that the user can't
    get. ``tie``: [n], a draw in [0, 1) for each user, distinct.
    """
    everyone = _problem(value, cost, limits.face)
    some = np.isfinite(everyone.net).any(axis=0)
    problem, tie = everyone.of(some), tie[some]
    multipliers = _least_dual(problem, limits.all, tie)
    free = np.isfinite(limits.all)
    bound = _dual(problem, multipliers).surplus + float(multipliers[free] @ limits.all[free])
    mean_best = max(bound, 0.0) / max(problem.users, 1)
    near = max(NEAR * mean_best, _core_width(problem, multipliers))
    while (cuts := _settle(problem, tie, limits.all, multipliers, near)) is None:
        near = 4 * near or 1e-9
    usage = problem.usage(_choices(problem, tie, multipliers, near, cuts))
    return Prices(multipliers, limits.face, near, cuts, usage.used, usage.value, bound)


def allocate(value: Matrix, cost: Matrix, prices: Prices, tie: Vector) -> Choice:
    """Each user's choice at ``prices``: the column of the offer, or -1 for none; any subset of
    users gets the choices it would get among all."""
    problem = _problem(value, cost, prices.face)
    return _choices(problem, tie, prices.multipliers, prices.near, prices.cuts)


def uses_of(offer: Choice, costs: Vector, face: Vector) -> Vector:
    """What choices of ``offer`` at ``costs`` [m] use, in the order of `Limits.all`."""
    spent = np.bincount(offer, costs, minlength=len(face))
    return _in_order(spent, np.bincount(offer, minlength=len(face)), face)


def _in_order(costs: npt.NDArray[Any], counts: npt.NDArray[Any], face: Vector) -> Vector:
    """Costs and numbers by offer [k] in the order of `Limits.all`."""
    return np.concatenate([[costs.sum()], costs, counts, [counts @ face]])


class _Problem(NamedTuple):
    """Net value and cost as [k, n], an offer's users side by side, and the offers' face [k]. What
    is worth no more than it costs is never chosen: -inf, 0."""

    net: Matrix
    cost: Matrix
    face: Vector

    def of(self, users: Any) -> _Problem:
        """That of some users."""
        return self._replace(net=self.net[:, users], cost=self.cost[:, users])

    @property
    def users(self) -> int:
        return self.net.shape[1]

    @property
    def offers(self) -> range:
        return range(len(self.net))

    def reduced(self, multipliers: Vector, offer: int) -> Vector:
        """What the offer is worth to each user beyond what it uses, at the prices of limits."""
        price = multipliers[0] + multipliers[1 + offer]
        coupon = multipliers[1 + len(self.net) + offer] + multipliers[-1] * self.face[offer]
        return self.net[offer] - price * self.cost[offer] - coupon

    def uses(self, offer: int, cost: float | Vector) -> Vector:
        """What one choice of the offer uses, [2 + 2k] or [2 + 2k, n]."""
        offers = len(self.net)
        used = np.zeros((2 + 2 * offers, *np.shape(cost)))
        used[[0, 1 + offer]] = cost
        used[1 + offers + offer], used[-1] = 1.0, self.face[offer]
        return used

    def usage(self, choice: Choice) -> Usage:
        """What the choices of all users use and earn."""
        user = np.flatnonzero(choice != NONE)
        offer = choice[user]
        used = uses_of(offer, self.cost[offer, user], self.face)
        return Usage(used, float(self.net[offer, user].sum()))


def _problem(value: Matrix, cost: Matrix, face: Vector) -> _Problem:
    with np.errstate(invalid="ignore"):
        net = value - cost
    worth_it = net > 0  # False for NaN too.
    net = np.where(worth_it, net, -np.inf)
    cost = np.where(worth_it, cost, 0.0)
    return _Problem(np.ascontiguousarray(net.T), np.ascontiguousarray(cost.T), face)


class _Dual(NamedTuple):
    """Of users' best choices at some prices: what they are worth beyond what they use, and what
    they use [2 + 2k]."""

    surplus: float
    used: Vector


def _dual(problem: _Problem, multipliers: Vector) -> _Dual:
    surplus, costs, counts = 0.0, np.zeros(len(problem.net)), np.zeros(len(problem.net))
    for rows in chunks(problem.users):
        part = problem.of(rows)
        best, choice = np.zeros(part.users), np.full(part.users, NONE, dtype=np.int16)
        for offer in problem.offers:
            worth = part.reduced(multipliers, offer)
            better = worth > best
            np.copyto(best, worth, where=better)
            np.copyto(choice, offer, where=better)
        for offer in problem.offers:
            takes = choice == offer
            costs[offer] += np.add.reduce(part.cost[offer], where=takes)
            counts[offer] += np.count_nonzero(takes)
        surplus += float(best.sum())
    return _Dual(surplus, _in_order(costs, counts, problem.face))


def _least_dual(problem: _Problem, limits: Vector, tie: Vector) -> Vector:
    """The multipliers of the least upper bound: those of infinite limits are 0."""
    multipliers, scale = np.zeros(len(limits)), np.ones(len(limits))
    if not problem.users:
        return multipliers
    # A unit of money is priced in units of return, a coupon in money.
    counts = slice(1 + len(problem.net), -1)
    scale[counts] = problem.net[np.isfinite(problem.net)].mean()
    radius, size = FIRST_RADIUS * scale, SAMPLE
    while size < problem.users / 2:
        chosen = tie < size / problem.users
        some, share = problem.of(chosen), chosen.sum() / problem.users
        multipliers = _ascend(some, limits * share, multipliers, radius)
        radius, size = NEXT_RADIUS * scale, size * GROWTH
    if size == SAMPLE:
        return _ascend(problem, limits, multipliers, radius)
    moved = True
    while moved:  # Whose choice no multiplier within reach changes uses the same whatever it is.
        around, reach = multipliers, 2 * radius
        open_ = _undecided(problem, around, reach)
        left = limits - _dual(problem.of(~open_), around).used
        multipliers = _ascend(problem.of(open_), left, around, radius, reach)
        moved = bool((np.abs(multipliers - around) >= 0.999 * reach).any())
    return multipliers


def _undecided(problem: _Problem, multipliers: Vector, reach: Vector) -> npt.NDArray[np.bool_]:
    """Who might choose otherwise at multipliers at most ``reach`` away."""
    undecided = np.empty(problem.users, dtype=bool)
    lower, upper = np.maximum(multipliers - reach, 0.0), multipliers + reach
    for rows in chunks(problem.users):
        part = problem.of(rows)
        at_most = np.stack([part.reduced(lower, offer) for offer in problem.offers])
        at_least = np.stack([part.reduced(upper, offer) for offer in problem.offers])
        column = np.arange(part.users)
        best = at_least.argmax(axis=0)
        surely = np.maximum(at_least[best, column], 0.0)
        takes = at_least[best, column] > 0
        at_most[best[takes], column[takes]] = -np.inf
        rivals = np.maximum(at_most.max(axis=0), np.where(takes, 0.0, -np.inf))
        undecided[rows] = rivals > surely
    return undecided


def _ascend(
    problem: _Problem, limits: Vector, start: Vector, radius: Vector, reach: Vector | None = None
) -> Vector:
    """The multipliers of the least dual value, at most ``reach`` from ``start``, by cutting planes
    in a trust region, ``radius`` at first."""
    free = np.flatnonzero(np.isfinite(limits))

    def evaluate(point: Vector) -> tuple[float, Vector]:
        multipliers = start.copy()
        multipliers[free] = point
        dual = _dual(problem, multipliers)
        return dual.surplus + float(point @ limits[free]), (limits - dual.used)[free]

    best = start[free]
    lowest, slope = evaluate(best)
    points, values, slopes = [best], [lowest], [slope]
    around, failed = radius[free], 0
    for _ in range(STEPS):
        lower, upper = np.maximum(best - around, 0.0), best + around
        if reach is not None:
            lower = np.maximum(lower, (start - reach)[free])
            upper = np.minimum(upper, (start + reach)[free])
        point, least = _model_least(points, values, slopes, lower, upper)
        promised = lowest - least
        if promised <= TOLERANCE * abs(lowest):
            break
        value, slope = evaluate(point)
        points.append(point)
        values.append(value)
        slopes.append(slope)
        failed = 0 if value < lowest else failed + 1
        if lowest - value >= 0.5 * promised:
            around = around * 2
        elif failed and failed % 3 == 0:
            around = around / 2
        if value < lowest:
            best, lowest = point, value
    found = start.copy()
    found[free] = best
    return found


def _model_least(
    points: list[Vector], values: list[float], slopes: list[Vector], lower: Vector, upper: Vector
) -> tuple[Vector, float]:
    """The point between the bounds where the largest of all cuts is least, and its value there."""
    from scipy.optimize import linprog

    cuts = np.array(slopes)
    offset = np.einsum("ij,ij->i", cuts, np.array(points)) - np.array(values)
    found = linprog(
        np.append(np.zeros(len(lower)), 1.0),
        np.column_stack([cuts, -np.ones(len(cuts))]),
        offset,
        bounds=[*zip(lower, upper, strict=True), (None, None)],
        method="highs",
    )
    if found.x is None:  # Numbers too far apart for the solver: no better point is known.
        return points[-1], min(values)
    return np.clip(found.x[:-1], lower, upper), float(found.x[-1])


def _worth(problem: _Problem, multipliers: Vector) -> Matrix:
    """[k + 1, n]: what each choice is worth beyond what it uses; none, last, is worth nothing."""
    reduced = [problem.reduced(multipliers, offer) for offer in problem.offers]
    return np.stack([*reduced, np.zeros(problem.users)])


def _core_width(problem: _Problem, multipliers: Vector) -> float:
    """How near to the best the second-best choice is of the `CORE` users where it is nearest."""
    if problem.users <= CORE:
        return np.inf
    gaps = np.empty(problem.users)
    for rows in chunks(problem.users):
        worth = np.partition(_worth(problem.of(rows), multipliers), -2, axis=0)
        gaps[rows] = worth[-1] - worth[-2]
    return float(np.partition(gaps, CORE - 1)[CORE - 1])


def _near_sets(
    problem: _Problem, multipliers: Vector, near: float
) -> tuple[Choice, npt.NDArray[np.bool_]]:
    """Each user's best choice, and [k + 1, n]: which choices are near to it, none last."""
    worth = _worth(problem, multipliers)
    best = worth.argmax(axis=0)
    close = (worth >= worth.max(axis=0) - near) & np.isfinite(worth)
    return np.where(best == len(problem.net), NONE, best), close


def _grouped(close: npt.NDArray[np.bool_]) -> _Groups:
    """The users with more than one near choice, by the set of those."""
    several = np.flatnonzero(close.sum(axis=0) > 1)
    if not len(several):
        return []
    sets, of_user = np.unique(close[:, several].T, axis=0, return_inverse=True)
    names = ["".join("1" if one else "0" for one in near) for near in sets]
    return [(name, several[of_user.ravel() == number]) for number, name in enumerate(names)]


def _offers(name: str) -> list[int]:
    """The offers among the choices of a set; the last character stands for none."""
    return [number for number, one in enumerate(name[:-1]) if one == "1"]


def _choices(
    problem: _Problem, tie: Vector, multipliers: Vector, near: float, cuts: Cuts
) -> Choice:
    choice = np.empty(problem.users, dtype=np.int64)
    for rows in chunks(problem.users):
        part, close = _near_sets(problem.of(rows), multipliers, near)
        for name, users in _grouped(close):
            part[users] = _drawn(cuts.get(name, []), tie[rows][users])
        choice[rows] = part
    return choice


def _drawn(cuts: list[tuple[int, float]], tie: Vector) -> Choice:
    """The first choice whose cut lies above the draw, else none."""
    choice = np.full(len(tie), NONE)
    for offer, cut in reversed(cuts):
        choice[tie < cut] = offer
    return choice


def _settle(
    problem: _Problem, tie: Vector, limits: Vector, multipliers: Vector, near: float
) -> Cuts | None:
    """Who of the nearly indifferent gets which of their choices, so that all limits hold; None
    where those who are not indifferent use too much."""
    decided, close = _near_sets(problem, multipliers, near)
    groups = [
        (name, users[np.argsort(tie[users], kind="stable")]) for name, users in _grouped(close)
    ]
    for _, users in groups:
        decided[users] = NONE
    left = limits - problem.usage(decided).used
    if (left < 0).any():
        return None
    if problem.users > MANY or sum(len(users) for _, users in groups) > ONE_BY_ONE:
        return _settled_by_set(problem, tie, groups, left)
    chosen = _settled_one_by_one(problem, groups, left)
    return {
        name: [*zip(chosen[users].tolist(), [*tie[users[1:]].tolist(), 1.0], strict=True)]
        for name, users in groups
    }


def _settled_one_by_one(problem: _Problem, groups: _Groups, left: Vector) -> Choice:
    """The best of all choices of the groups' users within what is left; NONE for everyone else."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    choice = np.full(problem.users, NONE)
    pairs = [(one, offer) for name, users in groups for one in users for offer in _offers(name)]
    if not pairs:
        return choice
    user, offer = np.array(pairs).T
    used = np.stack([problem.uses(k, problem.cost[k, one]) for one, k in pairs], axis=1)
    once = csr_array((np.ones(len(user)), (user, np.arange(len(user)))))
    found = milp(
        -problem.net[offer, user],
        integrality=np.ones(len(user)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(used, ub=left), LinearConstraint(once, ub=1.0)],
        options={"node_limit": NODES, "mip_rel_gap": TOLERANCE, "presolve": False},  # It prints.
    )
    if found.x is None:
        return choice
    takes = np.flatnonzero(found.x > 0.5)
    choice[user[takes]] = offer[takes]
    # The solver lets a limit be passed by a rounding error; a budget does not.
    for pair in takes[np.argsort(problem.net[offer[takes], user[takes]], kind="stable")]:
        over = problem.usage(choice).used > left
        if (over & (used[:, pair] > 0)).any():
            choice[user[pair]] = NONE
    return choice


def _settled_by_set(problem: _Problem, tie: Vector, groups: _Groups, left: Vector) -> Cuts:
    """How many of each group get which of their choices, those with the lowest draws first."""
    wanted = iter(_shares(problem, groups, left))
    cuts: Cuts = {}
    for name, users in groups:
        cuts[name] = []
        for offer in _offers(name):
            most = users[: int(next(wanted) + 1e-6)]
            used = problem.uses(offer, problem.cost[offer, most])
            fits = int((used.cumsum(axis=1) <= left[:, None]).all(axis=0).sum())
            left = left - used[:, :fits].sum(axis=1)
            users = users[fits:]
            cuts[name].append((offer, float(tie[users[0]]) if len(users) else 1.0))
    return cuts


def _shares(problem: _Problem, groups: _Groups, left: Vector) -> Vector:
    """How many users of each group get each of its offers: the best by mean values and costs."""
    from scipy.optimize import linprog

    pairs = [
        (number, offer, users)
        for number, (name, users) in enumerate(groups)
        for offer in _offers(name)
    ]
    if not pairs:
        return np.zeros(0)
    used = [problem.uses(offer, problem.cost[offer, users].mean()) for _, offer, users in pairs]
    finite = np.isfinite(left)
    member = np.equal.outer(np.arange(len(groups)), [number for number, *_ in pairs])
    found = linprog(
        [-problem.net[offer, users].mean() for _, offer, users in pairs],
        np.vstack([np.array(used).T[finite], member.astype(float)]),
        np.concatenate([left[finite], [len(users) for _, users in groups]]),
        method="highs",
    )
    return np.zeros(len(pairs)) if found.x is None else found.x
