"""What the whole programme earned: the people who get offers against the global holdout.

Everybody counts where the hash put them, whether or not an offer was sent (intention to treat).
The covariate is what they brought before the round (CUPED: Deng, Xu, Kohavi and Walker 2013), so
the interval is narrower and the effect still unbiased. Here: margins by user and
day in, one row a round and day out. Not here: who is held out (``experiments/``), and what single
offers did.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.contract.days import Window
from promo_assets.strategy.effects.estimators import Z95
from promo_assets.strategy.experiments.experiment import Holdout, Round

Cents = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

REACHED = 0.05
"""Sends a held-out user, relative to those of others, from which the holdout is not kept."""
LEAST_USERS = 50
"""In each arm; fewer tell nothing."""


def programme_effects(
    holdout: Holdout, before_days: int, days: Window, users: pl.DataFrame, margins: pl.DataFrame
) -> Iterator[dict[str, Any]]:
    """One row a day of ``days`` and round that counts it (see `programme_effect`), by round.

    ``users``: ``user_id`` and ``first_day``, of all who are known on the last day. ``margins``:
    ``event_date``, ``place`` (the user's row of ``users``), ``cents`` (net margin) and ``sends``,
    from ``before_days`` before the first round on, whose margin is the covariate.
    """
    first = users["first_day"].to_numpy()
    happened = {
        day: (rows["place"].to_numpy(), rows["cents"].to_numpy(), rows["sends"].to_numpy())
        for (day,), rows in margins.group_by("event_date", maintain_order=True)
    }
    one, nobody = timedelta(days=1), np.zeros(0, np.int64)
    rounds = {found for day in days.days for found in holdout.rounds(day)}
    for found in sorted(rounds, key=lambda told: told.started_on):
        held = found.experiment.held_out(users)
        margin, before, sends = (np.zeros(users.height, np.int64) for _ in range(3))
        # What is decided on a day takes effect on the next.
        begins = found.started_on + one
        counted = Window(begins - timedelta(days=before_days), min(days.end, found.final_on + one))
        for day in counted.days:
            place, cents, sent = happened.get(day, (nobody, nobody, nobody))
            if day < begins:
                before[place] += cents
            else:
                margin[place] += cents
            if begins <= day <= found.ends_on + one:
                sends[place] += sent
            if day >= max(days.start, found.started_on):
                known = first <= np.datetime64(day)
                yield programme_effect(
                    found, day, held[known], margin[known], before[known], sends[known]
                )


def programme_effect(
    round_: Round, day: date, held: Mask, margin: Cents, before: Cents, sends: Cents
) -> dict[str, Any]:
    """The row of a round on ``day``: what offers earned since it began, in all, net of their costs.

    Arrays [n], one entry a user known by ``day``: whether held out, net margin in cents since the
    round began and in the days before it, and offers sent since. Money is in units. The
    effect is None, and ``reason`` says why, where nothing was sent, an arm has fewer than
    `LEAST_USERS`, or offers reached the held out. ``effect`` is the difference of means a user,
    ``total`` that of all who are not held out; 95 % intervals.
    """
    row: dict[str, Any] = {
        "as_of_date": day,
        "experiment": round_.experiment.name,
        "started_on": round_.started_on,
        "ends_on": round_.ends_on,
        "final_on": round_.final_on,
        "status": round_.status(day),
        "users": int((~held).sum()),
        "held_out": int(held.sum()),
        "sends": int(sends[~held].sum()),
        "sends_to_held_out": int(sends[held].sum()),
    }
    why = _nothing_known(row)
    if why:
        return row | {"reason": why}
    return row | _difference(row["users"], held, margin / 100, before / 100)


def _nothing_known(row: Mapping[str, Any]) -> str | None:
    if not row["sends"]:
        return "nothing was sent in this round yet"
    if min(row["users"], row["held_out"]) < LEAST_USERS:
        return f"{row['held_out']:,} held out and {row['users']:,} others are too few to tell"
    if row["sends_to_held_out"] / row["held_out"] > REACHED * row["sends"] / row["users"]:
        return (
            f"{row['sends_to_held_out']:,} sends reached people who are held out: the holdout is "
            "not kept, so it tells nothing"
        )
    return None


def _difference(
    users: int, held: Mask, margin: npt.NDArray[np.float64], before: npt.NDArray[np.float64]
) -> dict[str, Any]:
    arms = (~held, held)
    means = [(margin[arm].mean(), before[arm].mean()) for arm in arms]
    centred = [
        (margin[arm] - mean, before[arm] - was)
        for arm, (mean, was) in zip(arms, means, strict=True)
    ]
    spread = sum(float(x @ x) for _, x in centred)
    slope = sum(float(y @ x) for y, x in centred) / spread if spread > 0 else 0.0
    effect = means[0][0] - means[1][0] - slope * (means[0][1] - means[1][1])
    variance = 0.0
    for y, x in centred:
        rest = y - slope * x
        variance += float(rest @ rest) / (len(rest) * (len(rest) - 1))
    error = math.sqrt(variance)
    low, high = effect - Z95 * error, effect + Z95 * error
    told = {"effect": effect, "effect_se": error, "effect_low": low, "effect_high": high}
    money = {
        "total": effect * users,
        "total_low": low * users,
        "total_high": high * users,
    }
    return {
        **{name: round(value, 6) for name, value in told.items()},
        **{name: round(value, 2) for name, value in money.items()},
        "reason": (
            f"offers earned {money['total']:+,.2f} net of their costs "
            f"({money['total_low']:+,.2f} to {money['total_high']:+,.2f}), against "
            f"{int(held.sum()):,} held out"
        ),
    }
