"""The platform's own trials, as learners of effects read them: one offer against its controls.

Not here: how trials come about (``dbt_like_sql/strategy/offer_trials.sql``), learners.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from promo_assets.strategy.effects.estimators import is_mismatched
from promo_assets.strategy.effects.learners import Trial
from promo_assets.strategy.effects.ranking import Labels, Matrix, Vector
from promo_assets.strategy.effects.response import FEATURES, USUAL_ORDERS


def offer_trial(
    trials: pl.DataFrame, offer_id: str, margin_rate: float, segments: Sequence[str]
) -> Trial:
    """Who was sent the offer at random and who was withheld from it; the outcome is the margin
    of orders within the horizon before the offer's own cost, in money: orders x the user's own
    order value x the controls' margin share. It leaves out what baskets change; raw margin has so
    much variance that it would need 18 times the users (docs/effects.md).

    ``trials``: rows of strategy.offer_trials with their segment. ``margin_rate`` as for
    `fit_responses`.
    """
    return trial_of(drawn_for(trials, offer_id), margin_rate, segments)


def trial_of(rows: pl.DataFrame, margin_rate: float, segments: Sequence[str]) -> Trial:
    """The same of the rows of `drawn_for`, in their order."""
    chance = rows["sent_chance"].to_numpy()
    return Trial(
        covariates_of(rows),
        (rows["arm"] == "sent").to_numpy().astype(np.int64),
        _margin(rows, margin_rate),
        np.column_stack([1 - chance, chance]),
        (rows["user_id"].rank("dense").cast(pl.Int64) - 1).to_numpy(),
        segments_of(rows, segments),
    )


def drawn_for(trials: pl.DataFrame, offer_id: str) -> pl.DataFrame:
    """Who was sent the offer at random and who was withheld from it, with ``sent_chance``: the
    probability of the sent arm, of the two.

    The probability of the arm that a row is not in is not logged; it is that of the campaign's
    rows in that arm. Campaigns without both arms tell nothing and are left out, as are those whose
    arms are not as large as drawn. In a fixed order.
    """
    rows = trials.filter(
        pl.col("arm").is_in(["sent", "withheld"]),
        pl.col("assignment_probability").is_not_null(),
        pl.col("offer_id") == offer_id,
    ).sort("closed_date", "sent_date", "campaign_id", "user_id")
    sent = pl.col("arm") == "sent"
    chance = pl.col("assignment_probability")
    campaign = ["closed_date", "sent_date", "campaign_id"]
    withheld_chance = chance.filter(~sent).mean().over(campaign)
    sent_chance = chance.filter(sent).mean().over(campaign)
    rows = rows.with_columns(sent_chance=sent_chance / (sent_chance + withheld_chance))
    rows = rows.drop_nulls("sent_chance")
    return rows.filter(~_mismatched().over(campaign))


def covariates_of(users: pl.DataFrame) -> Matrix:
    """[n, p]: `FEATURES` as numbers, unknown ones NaN."""
    known = users.select(pl.col(FEATURES).cast(pl.Float64).fill_null(float("nan")))
    return known.to_numpy()


def segments_of(users: pl.DataFrame, segments: Sequence[str]) -> Labels:
    """[n]: the place of each user's segment among ``segments``; -1 where it is none of them."""
    place = {name: number for number, name in enumerate(segments)}
    return np.array([place.get(name, -1) for name in users["segment"]], dtype=np.int64)


def _mismatched() -> pl.Expr:
    """Whether the arms of rows are not as large as their probabilities say."""

    def told(columns: Sequence[pl.Series]) -> pl.Series:
        arm, chance = columns
        return pl.Series([is_mismatched((arm == "sent").to_numpy(), chance.to_numpy())])

    return pl.map_groups(
        ["arm", "assignment_probability"], told, return_dtype=pl.Boolean, returns_scalar=True
    )


def _margin(rows: pl.DataFrame, margin_rate: float) -> Vector:
    """[n]: orders x own order value x the share of it that is margin among controls."""

    def numbers(name: str) -> Vector:
        return rows[name].cast(pl.Float64).fill_null(0.0).to_numpy()

    bought = numbers("orders_life").sum()
    usual = float(numbers("gross_life").sum() / bought) if bought else 0.0
    own = (numbers("gross_life") + USUAL_ORDERS * usual) / (numbers("orders_life") + USUAL_ORDERS)
    worth = numbers("orders_after") * own
    margin = (
        numbers("spend_after")
        - numbers("goods_cost_after")
        - (1 - margin_rate) * numbers("uncosted_after")
    )
    control = (rows["arm"] == "withheld").to_numpy()
    sold = worth[control].sum()
    return worth * (margin[control].sum() / sold if sold else 0.0)
