"""Promotions for a user: eligible offers in order of what they should earn, and what each carries.

An offer of a threshold (满减) carries what brings the user's usual basket over it; one of
categories carries items of these; any other what joins the user's baskets, then what they should
try or buy again. Not here: what an offer earns and who may get it (``strategy/``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

OFFERED = 3
"""Offers of a user that are listed, besides the assigned one."""
CARRIED = 3
MOST_TO_THRESHOLD = 5
"""More items than these are no small step over a threshold."""
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Item:
    """An item that may be carried, with the price of one (None: not known) and why."""

    item_id: str
    price: float | None
    category: str | None
    why: str


@dataclass(frozen=True)
class Carried:
    """The items of an offer, none where there is nothing sensible, and why these."""

    items: tuple[str, ...]
    reason: str


def in_order(
    value: Matrix, cost: Matrix, offers: Sequence[str], assigned: Sequence[str | None]
) -> pl.DataFrame:
    """Each user's offers by expected margin beyond their cost, ties in the catalogue's order.

    ``value`` (-inf: not eligible) and ``cost`` [users, offers] in money; ``assigned``: the offer
    that each user gets, or None. Columns: user (by number), offer_rank (from 1), offer_id,
    expected_value, expected_cost and is_assigned; the first `OFFERED` and the assigned one.
    """
    users, count = value.shape
    net = value - cost
    order = np.argsort(-net, axis=1, kind="stable")
    row = np.repeat(np.arange(users), count)
    column = order.ravel()
    names = pl.Series(list(offers), dtype=pl.String)
    return (
        pl.DataFrame(
            {
                "user": row,
                "offer_rank": np.tile(np.arange(1, count + 1), users),
                "offer_id": names.gather(column),
                "expected_value": value[row, column],
                "expected_cost": cost[row, column],
                "assigned": pl.Series(list(assigned), dtype=pl.String).gather(row),
            }
        )
        .filter(pl.col("expected_value").is_finite())
        .with_columns(is_assigned=pl.col("offer_id").eq_missing(pl.col("assigned")))
        .filter((pl.col("offer_rank") <= OFFERED) | pl.col("is_assigned"))
        .drop("assigned")
    )


def carried(
    items: Sequence[Item],
    usual_basket: float | None,
    min_spend: float | None = None,
    categories: Collection[str] = (),
) -> Carried:
    """What an offer carries for a user, of ``items`` in order of preference.

    ``usual_basket``: what the user's orders come to on average; ``min_spend``: the offer's
    threshold; ``categories``: those that it covers, none for all.
    """
    fitting = [item for item in items if covered(item.category, categories)]
    if not fitting:
        lacking = "no item of the offer's categories" if categories else "no item"
        return Carried((), f"not available because {lacking} is known for the user")
    if min_spend is None:
        return Carried(tuple(item.item_id for item in fitting[:CARRIED]), fitting[0].why)
    if usual_basket is None:
        return Carried((), "not available because the user has no orders in 90 days")
    gap = min_spend - usual_basket
    if gap <= 0:
        return Carried(
            (fitting[0].item_id,),
            f"the usual basket of {usual_basket:.2f} is over {min_spend:.2f}; {fitting[0].why}",
        )
    chosen: list[Item] = []
    for item in fitting:
        if item.price:
            chosen.append(item)
            gap -= item.price
        if gap <= 0:
            return Carried(
                tuple(item.item_id for item in chosen),
                f"brings the usual basket of {usual_basket:.2f} over {min_spend:.2f}",
            )
        if len(chosen) == MOST_TO_THRESHOLD:
            break
    return Carried(
        (), f"not available because {MOST_TO_THRESHOLD} items don't bring the usual basket of"
        f" {usual_basket:.2f} over {min_spend:.2f}"
    )  # fmt: skip


def covered(category: str | None, categories: Collection[str]) -> bool:
    """Whether a category is one of ``categories`` or below one; any is where there are none."""
    if not categories:
        return True
    told = f"{category or ''}/"
    return any(told.startswith(f"{name.rstrip('/')}/") for name in categories)
