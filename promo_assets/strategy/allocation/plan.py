"""A day's plan: the price of budget, the prices of offers' own limits, and who may be explored.

The plan is made over everybody; given it each user's decision depends on that user alone, so that a
segment can be rebuilt without the others. Here: the order in which rules are put into force. Not
here: the knapsacks (``budget.py``, ``limits.py``) and decisions (``decisions.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import polars as pl

from promo_assets.strategy.allocation import budget, limits
from promo_assets.strategy.allocation.budget import NONE, Choice, Matrix, Price, Vector
from promo_assets.strategy.allocation.limits import Limits, Prices
from promo_assets.strategy.offers.catalogue import Catalogue


@dataclass(frozen=True)
class Plan:
    """Prices at which the day's choices fit the budget and every limit.

    ``limited``: the prices of limits beside the budget, None where none of them binds. ``closed``:
    columns of offers that nobody gets to earn, since fewer than their least audience would.
    """

    price: Price
    limited: Prices | None = None
    closed: tuple[int, ...] = ()

    def choose(self, value: Matrix, cost: Matrix, tie: Vector) -> Choice:
        """Each user's choice, as of `budget.allocate`."""
        value = _without(value, self.closed)
        if self.limited is not None:
            return limits.allocate(value, cost, self.limited, tie)
        return budget.allocate(value, cost, self.price, tie)

    def to_row(self) -> dict[str, Any]:
        """As columns of ``strategy.budget_prices``; `from_row` reads them."""
        row: dict[str, Any] = {one.name: getattr(self.price, one.name) for one in fields(Price)}
        row["limited"] = None if self.limited is None else self.limited.to_text()
        row["closed"] = columns_text(self.closed)
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Plan:
        """The plan of a published day."""
        return cls(
            Price(**{one.name: row[one.name] for one in fields(Price)}),
            None if row["limited"] is None else Prices.from_text(row["limited"]),
            columns_of(row["closed"]),
        )


def columns_text(columns: Sequence[int]) -> str | None:
    """Columns as a row of a table holds them; `columns_of` reads them."""
    return json.dumps(columns) if columns else None


def columns_of(text: str | None) -> tuple[int, ...]:
    """The columns that a plan's row names."""
    return tuple(json.loads(text)) if text else ()


def day_limits(
    catalogue: Catalogue, total: float, drawn: Mapping[str, int], open_offers: pl.Series
) -> Limits:
    """What may be spent on a day: ``drawn`` of each offer so far counts against its stock, and the
    coupons that ``open_offers`` (a list a user) names against the liability."""
    rules = catalogue.rules
    face = np.array([float(offer.liability) for offer in catalogue.offers])
    count = [
        min(
            np.inf if offer.max_audience is None else offer.max_audience,
            np.inf if offer.stock is None else max(offer.stock - drawn.get(offer.id, 0), 0),
        )
        for offer in catalogue.offers
    ]
    left = np.inf
    if rules.max_liability is not None:
        held = dict(open_offers.explode().drop_nulls().value_counts().iter_rows())
        owed = sum(
            held.get(name, 0) * worth for name, worth in zip(catalogue.ids, face, strict=True)
        )
        left = max(float(rules.max_liability) - owed, 0.0)
    own = [np.inf if offer.budget is None else float(offer.budget) for offer in catalogue.offers]
    return Limits(total, np.array(own), np.array(count), left, face)


def make_plan(
    value: Matrix, cost: Matrix, limited: Limits, least: Sequence[int], tie: Vector
) -> Plan:
    """The plan of a day: ``value``, ``cost``, ``tie`` as of `budget.solve_price`, ``least`` the
    fewest who get an offer, if anybody does.

    An offer that too few would get is closed, the least worth first, and the day planned anew.
    """
    closed: tuple[int, ...] = ()
    while True:
        open_ = _without(value, closed)
        plan = Plan(budget.solve_price(open_, cost, limited.budget, tie), None, closed)
        choice = plan.choose(value, cost, tie)
        if limited.more_than_a_budget and (used_by(choice, cost, limited) > limited.all).any():
            found = limits.solve(open_, cost, limited, tie)
            spent = float(found.used[0])
            price = replace(
                plan.price, price=float(found.multipliers[0]), tie_cut=0.0, spent=spent,
                value=found.value, bound=found.bound,
            )  # fmt: skip
            plan = Plan(price, found, closed)
            choice = plan.choose(value, cost, tie)
        chosen = choice[choice != NONE]
        counts = np.bincount(chosen, minlength=len(least))
        few = np.flatnonzero((counts > 0) & (counts < np.asarray(least)))
        if not len(few):
            return plan
        row = np.flatnonzero(choice != NONE)
        worth = np.bincount(chosen, (value - cost)[row, chosen], minlength=len(least))
        closed = (*closed, int(few[worth[few].argmin()]))


def used_by(choice: Choice, cost: Matrix, limited: Limits) -> Vector:
    """What choices use of the limits, in the order of `Limits.all`."""
    row = np.flatnonzero(choice != NONE)
    return limits.uses_of(choice[row], cost[row, choice[row]], limited.face)


def _without(value: Matrix, closed: Sequence[int]) -> Matrix:
    if not closed:
        return value
    value = value.copy()
    value[:, list(closed)] = -np.inf
    return value
