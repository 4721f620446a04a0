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
    found: dict[str, list[_Rows]] = {}
    for inside in (first, ~first):
        responses = fit_responses(trials.filter(~inside), catalogue, margin_rate)
        rest = trials.filter(inside)
        for offer_id, response in responses.items():
            rows = _rows(drawn_for(rest, offer_id), response)
            if rows is not None:
                found.setdefault(offer_id, []).append(rows)
    if not found:
        return []
    everything = [rows for parts in found.values() for rows in parts]
    return [
        _told(None, everything),
        *(_told(offer_id, parts) for offer_id, parts in found.items() if len(parts) == 2),
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


def _told(offer_id: str | None, parts: Sequence[_Rows]) -> Unseen:
    # About the mean of each part's users: what is left says nothing of the effect in all.
    apart = [rows.lift - np.average(rows.lift, weights=rows.usual) for rows in parts]
    user = np.unique(np.concatenate([rows.user for rows in parts]), return_inverse=True)[1]
    usual = np.concatenate([rows.usual for rows in parts])
    extra = np.concatenate([rows.extra for rows in parts])
    lift = np.concatenate([rows.lift for rows in parts])
    sent = int(sum(rows.sent.sum() for rows in parts))
    return Unseen(
        offer_id,
        sent,
        len(usual) - sent,
        _slope(usual, lift, extra, user),
        _slope(usual, np.concatenate(apart), extra, user),
    )


def _slope(usual: Vector, lift: Vector, extra: Vector, user: npt.NDArray[np.int64]) -> Interval:
    """Of ``extra`` on ``usual`` x ``lift``, weights 1 / ``usual`` (orders are counts), with an
    error that knows whose rows are whose (Liang and Zeger 1986)."""
    told = usual * lift
    under = float((told * lift).sum())
    if under <= 0:
        return Interval(*[float("nan")] * 4)
    slope = float((lift * extra).sum()) / under
    sums = np.bincount(user, lift * (extra - slope * told))
    error = float(np.sqrt((sums**2).sum())) / under
    return Interval(slope, error, slope - Z95 * error, slope + Z95 * error)
