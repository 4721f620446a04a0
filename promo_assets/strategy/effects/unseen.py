"""Whether what a response tells of users holds for users whom it has not seen.

A response tells users of an offer apart by what all trials have in common, drawn towards one effect
for everybody. Here: slopes of the truth on what is told, half of the users told by a response to
the others. Not here: the response (``response.py``); learners that tell users apart by one offer's
own trials (``levels.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.strategy.effects.estimators import Z95
from promo_assets.strategy.effects.ranking import Interval
from promo_assets.strategy.effects.response import Response, fit_responses
from promo_assets.strategy.effects.trials import drawn_for
from promo_assets.strategy.experiments.holdout import draws
from promo_assets.strategy.offers.catalogue import Catalogue

Vector = npt.NDArray[np.float64]

SALT = "unseen"
"""Of the draw that halves users."""
LEAST_ORDERS = 1e-3
"""Expected of a user, where a row's weight is one over it."""


class Unseen(NamedTuple):
    """Of one offer, or of all (``offer_id`` None): 1 where what is told is true, 0 where it says
    nothing. ``effect``: slope of extra orders on those told; ``users``: of the differences between
    users alone. NaN where there is nothing to compare."""

    offer_id: str | None
    sent: int
    withheld: int
    effect: Interval
    users: Interval


class _Rows(NamedTuple):
    """Of draws: orders told without the offer, relative change told, extra orders (unbiased for
    each row: Horvitz and Thompson 1952, of what was not expected), whose they are, and the arm."""

    usual: Vector
    lift: Vector
    extra: Vector
    user: npt.NDArray[np.object_]
    sent: npt.NDArray[np.bool_]


def on_unseen(trials: pl.DataFrame, catalogue: Catalogue, margin_rate: float) -> list[Unseen]:
    """All offers together, then each that both halves of the users told of.

    ``trials`` and ``margin_rate``: as for `fit_responses`. Empty where nothing was tried.
    """
    first = pl.Series(draws(trials["user_id"], SALT) < 0.5)
    halves: list[dict[str, _Rows]] = []
    for inside in (first, ~first):
        responses = fit_responses(trials.filter(~inside), catalogue, margin_rate)
        rest = trials.filter(inside)
        told = {
            offer_id: _rows(drawn_for(rest, offer_id), response)
            for offer_id, response in responses.items()
        }
        halves.append({offer_id: rows for offer_id, rows in told.items() if rows is not None})
    if not any(halves):
        return []
    both = [offer_id for offer_id in catalogue.ids if all(offer_id in half for half in halves)]
    return [
        _told(None, [list(half.values()) for half in halves]),
        *(_told(offer_id, [[half[offer_id]] for half in halves]) for offer_id in both),
    ]


def _rows(drawn: pl.DataFrame, response: Response) -> _Rows | None:
    sent = (drawn["arm"] == "sent").to_numpy()
    if sent.all() or not sent.any():
        return None
    usual, lift = response.lifts(drawn)
    usual = np.maximum(usual, LEAST_ORDERS)
    chance = drawn["sent_chance"].to_numpy()
    more = drawn["orders_after"].cast(pl.Float64).fill_null(0.0).to_numpy() - usual
    extra = np.where(sent, more / chance, -more / (1 - chance))
    return _Rows(usual, lift, extra, drawn["user_id"].to_numpy(), sent)


def _told(offer_id: str | None, halves: Sequence[Sequence[_Rows]]) -> Unseen:
    rows = [rows for half in halves for rows in half]
    sent = int(sum(one.sent.sum() for one in rows))
    return Unseen(
        offer_id,
        sent,
        sum(len(one.sent) for one in rows) - sent,
        _slope([[(one, one.lift) for one in half] for half in halves]),
        # About the users' mean: what is left says nothing of the effect in all.
        _slope(
            [
                [(one, one.lift - np.average(one.lift, weights=one.usual)) for one in half]
                for half in halves
            ]
        ),
    )


def _slope(halves: Sequence[Sequence[tuple[_Rows, Vector]]]) -> Interval:
    """Of extra orders on those told, which are the usual ones times a lift, weighted by one over
    the usual ones (orders are counts). An error that knows whose rows are whose (Liang and Zeger
    1986); those of the halves add up, as each is told by the other."""
    pairs = [pair for half in halves for pair in half]
    under = sum(float((rows.usual * lift**2).sum()) for rows, lift in pairs)
    if under <= 0:
        return Interval(*[float("nan")] * 4)
    slope = sum(float((lift * rows.extra).sum()) for rows, lift in pairs) / under
    error = 0.0
    for half in filter(None, halves):
        rest = [lift * (rows.extra - slope * rows.usual * lift) for rows, lift in half]
        user = np.unique(np.concatenate([rows.user for rows, _ in half]), return_inverse=True)[1]
        error += float(np.sqrt((np.bincount(user, np.concatenate(rest)) ** 2).sum())) / under
    return Interval(slope, error, slope - Z95 * error, slope + Z95 * error)
