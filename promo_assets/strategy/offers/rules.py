"""Who may get which offer: the catalogue's conditions, one matrix for all users.

Here: conditions on a user or the day. Not here: budgets and at most one offer a user, which is
the allocation's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.people.consent import BARRED
from promo_assets.strategy.offers.catalogue import Catalogue, Offer

REASONS = (
    "eligible",
    "consent",
    "merged",
    "validity",
    "segment",
    "lifecycle",
    "orders",
    "frequency_cap",
)


class Eligibility(NamedTuple):
    """``mask[n, k]``: user n may get offer k. ``reasons[n, k]``: index into `REASONS` of the
    first condition that failed, 0 where none did."""

    mask: npt.NDArray[np.bool_]
    reasons: npt.NDArray[np.int8]


def eligible(users: pl.DataFrame, catalogue: Catalogue, as_of: date) -> Eligibility:
    """Check every user against every offer of the catalogue, in its order.

    ``users``: one row a user, with ``barred`` (null, or why no offer at all) and the columns that
    the catalogue's conditions need: segment, lifecycle, orders_life and offers_drawn_{days}d, the
    offers drawn for the user, sent or withheld, in so many days up to the send.
    Decisions of ``as_of`` take effect the day after, so that day must lie within an offer's
    validity. A missing value fails a condition.
    Raises ValueError naming the columns that are missing.
    """
    reasons = np.zeros((users.height, len(catalogue.offers)), dtype=np.int8)
    for column, offer in enumerate(catalogue.offers):
        for reason, condition in _conditions(offer, as_of + timedelta(days=1)):
            missing = set(condition.meta.root_names()) - set(users.columns)
            if missing:
                raise ValueError(
                    f"users lack {', '.join(sorted(missing))}, which the {reason} condition of "
                    f"offer {offer.id!r} needs; found columns {', '.join(users.columns)}"
                )
            holds = users.select(pl.lit(True) & condition.fill_null(False)).to_series().to_numpy()
            open_ = reasons[:, column] == 0
            reasons[open_ & ~holds, column] = REASONS.index(reason)
    return Eligibility(reasons == 0, reasons)


def _conditions(offer: Offer, day: date) -> Iterator[tuple[str, pl.Expr]]:
    """The offer's conditions in force, in the order in which they are reported."""
    for reason in BARRED:
        yield reason, pl.col("barred").ne_missing(reason)
    starts, ends = offer.valid_from or day, offer.valid_until or day
    if not starts <= day <= ends:
        yield "validity", pl.lit(False)
    rules = offer.eligible
    if rules.segments:
        yield "segment", pl.col("segment").is_in(rules.segments)
    if rules.lifecycle:
        yield "lifecycle", pl.col("lifecycle").is_in(rules.lifecycle)
    if rules.min_orders is not None:
        yield "orders", pl.col("orders_life") >= rules.min_orders
    if rules.max_orders is not None:
        yield "orders", pl.col("orders_life") <= rules.max_orders
    if cap := offer.frequency_cap:
        yield "frequency_cap", pl.col(f"offers_drawn_{cap.days}d") < cap.times
