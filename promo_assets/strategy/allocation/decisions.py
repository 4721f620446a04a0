"""From effects and a price to decisions: what each user gets, and each segment's strategy.

Here: values and costs of candidates, the day's price of budget, assignments, their summary.
Not here: how effects are estimated, how the knapsack is solved, who is held out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.people.consent import CONSENT, MERGED
from promo_assets.strategy.allocation.budget import (
    NONE,
    Choice,
    Matrix,
    Price,
    allocate,
    solve_price,
)
from promo_assets.strategy.experiments.experiment import Experiment
from promo_assets.strategy.offers.catalogue import Catalogue
from promo_assets.strategy.offers.frame import MONEY

Mask = npt.NDArray[np.bool_]

DIGITS = 4
"""Expected values and costs are kept to 1/100 of a cent, before anything is decided, so that
what is stored adds up to exactly what was decided."""
EXPECTED = pl.Decimal(18, DIGITS)

NOT_ELIGIBLE = "not eligible for any offer"
NO_CONSENT = "has not allowed offers"
OTHER_ACCOUNT = "another account stands for the same person"
NOT_WORTH = "not expected to earn back what an offer costs"
NO_BUDGET = "worth an offer, but the budget goes to better uses"
BEST = "the best offer at the day's price of budget"
WITHHELD = "would get this offer; withheld to measure what offers earn"

ASSIGNMENT_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "user_id": pl.String,
    "segment": pl.String,
    "offer_id": pl.String,
    "arm": pl.String,
    "expected_value": EXPECTED,
    "expected_cost": EXPECTED,
    "assignment_probability": pl.Float64,
    "reason": pl.String,
}

STRATEGY_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "segment": pl.String,
    "offer_id": pl.String,
    "audience": pl.Int64,
    "held_out": pl.Int64,
    "expected_margin": MONEY,
    "expected_margin_low": MONEY,
    "expected_margin_high": MONEY,
    "expected_cost": MONEY,
    "holdout_share": pl.Float64,
    "evidence": pl.String,
    "reason": pl.String,
}

_ROW_SCHEMA = {
    name: pl.Float64 if kind == MONEY else kind for name, kind in STRATEGY_SCHEMA.items()
}


@dataclass(frozen=True)
class Candidates:
    """[n, k] in money: expected incremental margin (-inf: not eligible) and expected cost."""

    value: Matrix
    cost: Matrix


def candidate_values(
    users: pl.DataFrame,
    effects: pl.DataFrame,
    catalogue: Catalogue,
    mask: Mask,
    margin_rate: float,
) -> Candidates:
    """What each offer is expected to earn and cost for each user.

    ``users``: segment and expected_spend (money without an offer, over the horizon of the
    effects). ``effects``: rows of ``pool_effects``. ``mask`` [n, k]: eligible offers.
    value = lift x expected_spend x margin_rate; cost = send_cost + redemption_rate x
    cost_per_redemption. Raises ValueError where a segment's effect or a user's spend is missing.
    """
    spend = users["expected_spend"].cast(pl.Float64)
    if spend.null_count() or not (spend.is_finite() & (spend >= 0)).all():
        raise ValueError("users.expected_spend: found null, negative or infinite values; fill them")
    found = _per_user(users, effects, catalogue)
    lift, rate, cost = (found[name] for name in ("lift", "redemption_rate", "cost_per_redemption"))
    send = np.array([float(offer.send_cost) for offer in catalogue.offers])
    value = lift * spend.to_numpy()[:, None] * margin_rate
    return Candidates(
        value=np.where(mask, value.round(DIGITS), -np.inf),
        cost=np.round(send + rate * cost, DIGITS),
    )


def _per_user(
    users: pl.DataFrame, effects: pl.DataFrame, catalogue: Catalogue
) -> dict[str, Matrix]:
    """The effects' numbers as [n, k] matrices: each user's segment, each offer."""
    segments = users["segment"].unique().sort()
    cells = pl.DataFrame({"segment": segments}).join(
        pl.DataFrame({"offer_id": catalogue.ids}), how="cross", maintain_order="left_right"
    )
    numbers = ["lift", "redemption_rate", "cost_per_redemption"]
    table = cells.join(effects, on=["segment", "offer_id"], how="left", maintain_order="left")
    lacking = table.filter(pl.any_horizontal(pl.col(numbers).is_null()))
    if lacking.height or table.height != cells.height:
        raise ValueError(
            "effects must hold one complete row a segment and offer; found "
            f"{table.height} rows for {cells.height} pairs, missing "
            f"{lacking.select('segment', 'offer_id').rows()}: rebuild strategy.offer_effects"
        )
    row = segments.search_sorted(users["segment"]).to_numpy()
    shape = (len(segments), len(catalogue.offers))
    return {name: table[name].to_numpy().reshape(shape)[row] for name in numbers}


def budget_price(
    users: pl.DataFrame, candidates: Candidates, budget: float, experiment: Experiment
) -> Price:
    """The day's price of budget, over all users who are not held out; independent of row order."""
    order = np.argsort(users["user_id"].to_numpy(), kind="stable")
    order = order[~experiment.held_out(users)[order]]
    ties = experiment.ties(users)[order]
    return solve_price(candidates.value[order], candidates.cost[order], budget, ties)


def assignments(
    users: pl.DataFrame, candidates: Candidates, catalogue: Catalogue, price: Price,
    experiment: Experiment,
) -> pl.DataFrame:  # fmt: skip
    """One row a user: the offer and the arm drawn for it. Any subset of users gives its own rows.

    ``arm``: ``offer`` (to be sent), ``holdout`` (would get ``offer_id``, but it is withheld) or
    ``none``. ``assignment_probability`` is that of the arm drawn: 1 for ``none``, whom no draw
    could have given an offer. Sorted by user.
    """
    choice = allocate(candidates.value, candidates.cost, price, experiment.ties(users))
    chosen, held = choice != NONE, experiment.held_out(users)
    column = np.where(chosen, choice, 0)
    row = np.arange(users.height)
    value = np.where(chosen, candidates.value[row, column], 0.0)
    cost = np.where(chosen, candidates.cost[row, column], 0.0)
    offer = np.array([*catalogue.ids, None], dtype=object)[choice]
    arm = np.where(chosen, np.where(held, "holdout", "offer"), "none")
    probability = np.where(held, experiment.share, 1 - experiment.share)
    return (
        pl.DataFrame(
            {
                "user_id": users["user_id"],
                "segment": users["segment"],
                "offer_id": pl.Series(offer.tolist(), dtype=pl.String),
                "arm": arm,
                "expected_value": pl.Series(value).round(DIGITS),
                "expected_cost": pl.Series(cost).round(DIGITS),
                "assignment_probability": np.where(chosen, probability, 1.0),
                "reason": _reasons(users, candidates, choice, held),
            }
        )
        .select(pl.col(name).cast(kind) for name, kind in ASSIGNMENT_SCHEMA.items())
        .sort("user_id")
    )


def _reasons(
    users: pl.DataFrame, candidates: Candidates, choice: Choice, held: Mask
) -> npt.NDArray[np.str_]:
    barred = users["barred"].fill_null("").to_numpy()
    eligible = candidates.value > -np.inf
    worth = (candidates.value > candidates.cost).any(axis=1)
    chosen = choice != NONE
    return np.select(
        [
            chosen & held,
            chosen,
            barred == CONSENT,
            barred == MERGED,
            ~eligible.any(axis=1),
            ~worth,
        ],
        [WITHHELD, BEST, NO_CONSENT, OTHER_ACCOUNT, NOT_ELIGIBLE, NOT_WORTH],
        NO_BUDGET,
    )


def segment_strategy(
    assigned: pl.DataFrame, effects: pl.DataFrame, catalogue: Catalogue, share: float
) -> pl.DataFrame:
    """Each segment's decision: one row a chosen offer and one for "no offer" (offer_id null).

    ``assigned``: rows of `assignments`. Margin and cost are those of the audience, users to be
    sent the offer; ``held_out`` come on top. The 95 % interval is that of the lift: users of a
    segment share the effect, so its error grows with the audience and doesn't average out.
    """
    rows = [
        row
        for (segment,), users in assigned.sort("segment").group_by("segment", maintain_order=True)
        for row in _segment_rows(users, effects.filter(segment=segment), catalogue)
    ]
    money = pl.col(
        "expected_margin", "expected_margin_low", "expected_margin_high", "expected_cost"
    )
    return pl.DataFrame(rows, schema=_ROW_SCHEMA).with_columns(
        money.round(2).cast(MONEY), holdout_share=pl.lit(share)
    )


def _segment_rows(
    users: pl.DataFrame, effects: pl.DataFrame, catalogue: Catalogue
) -> Iterator[dict[str, Any]]:
    """The chosen offers of one segment in the catalogue's order, then "no offer"."""
    for offer in catalogue.offers:
        chosen = users.filter(offer_id=offer.id)
        if not chosen.height:
            continue
        effect = effects.row(by_predicate=pl.col("offer_id") == offer.id, named=True)
        audience = chosen.filter(arm="offer")
        margin = float(audience["expected_value"].sum())
        row = {
            "segment": users["segment"][0],
            "offer_id": offer.id,
            "audience": audience.height,
            "held_out": chosen.height - audience.height,
            "expected_margin": margin,
            # Chosen offers have a positive lift, and a user's margin is proportional to it.
            "expected_margin_low": margin * effect["lift_low"] / effect["lift"],
            "expected_margin_high": margin * effect["lift_high"] / effect["lift"],
            "expected_cost": float(audience["expected_cost"].sum()),
            "evidence": effect["evidence"],
        }
        yield row | {"reason": _describe(row, offer.name, effect)}
    without = users.filter(arm="none")
    yield {
        "segment": users["segment"][0],
        "offer_id": None,
        "audience": without.height,
        "held_out": 0,
        "expected_margin": 0.0,
        "expected_margin_low": 0.0,
        "expected_margin_high": 0.0,
        "expected_cost": 0.0,
        "evidence": None,
        "reason": _describe_none(without),
    }


def _describe(row: Mapping[str, Any], name: str, effect: Mapping[str, Any]) -> str:
    held = f", {row['held_out']:,} held out" if row["held_out"] else ""
    return (
        f"{name} to {_people(row['audience'], row['segment'])}{held}: expected margin "
        f"{row['expected_margin']:+,.2f} ({row['expected_margin_low']:+,.2f} to "
        f"{row['expected_margin_high']:+,.2f}) for {row['expected_cost']:,.2f} cost; "
        f"evidence {effect['evidence']}, {effect['reason']}"
    )


def _describe_none(without: pl.DataFrame) -> str:
    if not without.height:
        return "everyone gets an offer or is held out"
    counts = without["reason"].value_counts().sort("count", "reason", descending=[True, False])
    why = "; ".join(f"{count:,} {reason}" for reason, count in counts.iter_rows())
    return f"no offer to {_people(without.height, without['segment'][0])}: {why}"


def _people(count: int, segment: str) -> str:
    return f"{count:,} {segment.replace('_', ' ')} user{'s' * (count != 1)}"
