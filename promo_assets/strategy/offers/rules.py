"""Who may get which offer: the catalogue's conditions, one matrix for all users.

Here: conditions on a user or the day. Not here: budgets, stocks, audiences and at most one offer a
user, which are the allocation's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.people.consent import BARRED
from promo_assets.strategy.offers.catalogue import PERCENT, Catalogue, Offer

REASONS = (
    "eligible",
    "consent",
    "merged",
    "validity",
    "segment",
    "lifecycle",
    "orders",
    "category",
    "channel",
    "frequency_cap",
    "pause",
    "open_coupons",
    "exclusive_group",
    "margin",
    "priority",
)


class Eligibility(NamedTuple):
    """``mask[n, k]``: user n may get offer k. ``reasons[n, k]``: index into `REASONS` of the
    first condition that failed, 0 where none did."""

    mask: npt.NDArray[np.bool_]
    reasons: npt.NDArray[np.int8]


def eligible(
    users: pl.DataFrame, catalogue: Catalogue, as_of: date, margin_rate: float
) -> Eligibility:
    """Check every user against every offer of the catalogue, in its order.

    ``users``: one row a user, with ``barred`` (null, or why no offer at all) and the columns that
    the catalogue's conditions need: segment, lifecycle, orders_life, top_category_1 to _3,
    preferred_channel, usual_basket (money), offers_drawn_{days}d and drawn_{days}d (how many and
    which offers were drawn for the user, sent or withheld, in so many days up to the send),
    open_offers (of which a coupon is open) and days_since_{event type} (0: on ``as_of``; null:
    not in 90 days).
    Decisions of ``as_of`` take effect the day after, so that day must lie within an offer's
    validity. A missing value fails a condition.
    Raises ValueError naming the columns that are missing.
    """
    reasons = np.zeros((users.height, len(catalogue.offers)), dtype=np.int8)
    for column, offer in enumerate(catalogue.offers):
        day = as_of + timedelta(days=1)
        for reason, condition in _conditions(offer, catalogue, day, margin_rate):
            missing = set(condition.meta.root_names()) - set(users.columns)
            if missing:
                raise ValueError(
                    f"users lack {', '.join(sorted(missing))}, which the {reason} condition of "
                    f"offer {offer.id!r} needs; found columns {', '.join(users.columns)}"
                )
            holds = users.select(pl.lit(True) & condition.fill_null(False)).to_series().to_numpy()
            open_ = reasons[:, column] == 0
            reasons[open_ & ~holds, column] = REASONS.index(reason)
    _put_first(reasons, catalogue)
    return Eligibility(reasons == 0, reasons)


def _put_first(reasons: npt.NDArray[np.int8], catalogue: Catalogue) -> None:
    """Of the offers of a group, or of none, that somebody may get only those of highest priority
    stay."""
    for group in {offer.exclusive_group for offer in catalogue.offers}:
        columns = [i for i, offer in enumerate(catalogue.offers) if offer.exclusive_group == group]
        priority = np.array([catalogue.offers[column].priority for column in columns])
        open_ = reasons[:, columns] == 0
        highest = np.where(open_, priority, np.iinfo(np.int64).min).max(axis=1)
        behind = open_ & (priority < highest[:, None])
        reasons[:, columns] = np.where(behind, REASONS.index("priority"), reasons[:, columns])


def _conditions(
    offer: Offer, catalogue: Catalogue, day: date, margin_rate: float
) -> Iterator[tuple[str, pl.Expr]]:
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
    if rules.categories:
        top = [pl.col(f"top_category_{rank}").is_in(rules.categories) for rank in (1, 2, 3)]
        yield "category", pl.any_horizontal(top)
    if rules.channels:
        yield "channel", pl.col("preferred_channel").is_in(rules.channels)
    if cap := offer.frequency_cap:
        of_any = pl.col(f"offers_drawn_{cap.days}d").fill_null(0)
        of_this = pl.col(f"drawn_{cap.days}d").list.count_matches(offer.id).fill_null(0)
        yield "frequency_cap", (of_any if cap.of == "any" else of_this) < cap.times
    for kind, days in catalogue.rules.pause_days_after.items():
        since = pl.col(f"days_since_{kind}")
        yield "pause", since.is_null() | (since >= days)
    open_ = pl.col("open_offers")
    if (most := catalogue.rules.max_open_coupons) is not None:
        yield "open_coupons", open_.list.len().fill_null(0) < most
    if offer.exclusive_group is not None:
        group = [one.id for one in catalogue.offers if one.exclusive_group == offer.exclusive_group]
        held = [open_.list.contains(one).fill_null(False) for one in group]
        yield "exclusive_group", ~pl.any_horizontal(held)
    if catalogue.rules.keeps_margin:
        yield "margin", _taken_off(offer) + float(offer.send_cost) <= margin_rate * _basket(offer)


def _basket(offer: Offer) -> pl.Expr:
    """The usual basket of a user, at least what the offer asks for."""
    usual = pl.col("usual_basket").cast(pl.Float64)
    return usual if offer.min_spend is None else pl.max_horizontal(usual, float(offer.min_spend))


def _taken_off(offer: Offer) -> pl.Expr:
    """What a redemption takes off the usual basket, at most: of a bogo's half of it, since the
    second piece is the cheaper one."""
    if offer.kind not in PERCENT:
        return pl.lit(float(offer.liability))
    share = float(offer.value) / (100 if offer.kind == "percent_off" else 200)
    taken = share * _basket(offer)
    most = offer.max_discount
    return taken if most is None else pl.min_horizontal(taken, float(most))
