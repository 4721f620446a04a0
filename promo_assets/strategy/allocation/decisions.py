"""From effects and a price to decisions: what each user gets, and each segment's strategy.

An offer goes out to earn only where it is worth it with a declared probability; else to learn, in
a declared exploration with a budget of its own; else not at all. Here: values and costs of
candidates, the day's price of budget, assignments, their summary. Not here: how effects are
estimated, how the knapsack is solved, who is held out or explored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.people.consent import CONSENT, MERGED
from promo_assets.strategy.allocation.budget import NONE, Choice, Matrix
from promo_assets.strategy.allocation.budget import budget_curve as curve_of
from promo_assets.strategy.allocation.limits import Limits
from promo_assets.strategy.allocation.plan import Plan, make_plan, used_by
from promo_assets.strategy.effects.estimators import Z95, normal_quantile
from promo_assets.strategy.effects.response import Response
from promo_assets.strategy.experiments.experiment import Experiment, Exploration
from promo_assets.strategy.offers.catalogue import Catalogue
from promo_assets.strategy.offers.frame import MONEY

Mask = npt.NDArray[np.bool_]

WORTH_PROBABILITY = 0.8
"""An offer goes out to earn where it is worth its cost with this probability, unless declared."""
CURVE = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
"""Budgets of the curve, as multiples of the day's."""
SPEND_DAYS = 28
"""Of expected_spend."""
DIGITS = 4
"""Expected values and costs are kept to 1/100 of a cent, before anything is decided, so that
what is stored adds up to exactly what was decided."""
EXPECTED = pl.Decimal(18, DIGITS)

NOT_ELIGIBLE = "not eligible for any offer"
NO_CONSENT = "has not allowed offers"
OTHER_ACCOUNT = "another account stands for the same person"
NOT_WORTH = "not expected to earn back what an offer costs"
NOT_SURE = "no offer is known well enough to be sure that it earns back what it costs"
NO_BUDGET = "worth an offer, but what there is to give goes to better uses"
BEST = "the best offer at the day's price of budget"
WITHHELD = "would get this offer; withheld to measure what offers earn"
EXPLORED = "drawn at random from all possible offers and none, to learn what they do"
EARN, LEARN = "earn", "learn"

ASSIGNMENT_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "user_id": pl.String,
    "segment": pl.String,
    "offer_id": pl.String,
    "arm": pl.String,
    "purpose": pl.String,
    "expected_value": EXPECTED,
    "expected_value_se": EXPECTED,
    "expected_cost": EXPECTED,
    "assignment_probability": pl.Float64,
    "possible_arms": pl.String,
    "reason": pl.String,
}

STRATEGY_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "segment": pl.String,
    "offer_id": pl.String,
    "audience": pl.Int64,
    "held_out": pl.Int64,
    "explored": pl.Int64,
    "expected_margin": MONEY,
    "expected_margin_low": MONEY,
    "expected_margin_high": MONEY,
    "expected_cost": MONEY,
    "exploration_cost": MONEY,
    "holdout_share": pl.Float64,
    "evidence": pl.String,
    "reason": pl.String,
}

_ROW_SCHEMA = {
    name: pl.Float64 if kind == MONEY else kind for name, kind in STRATEGY_SCHEMA.items()
}


@dataclass(frozen=True)
class Candidates:
    """[n, k] in money: expected incremental margin (-inf: not eligible), expected cost, and the
    value's standard error.

    ``usable``: where effects are good enough to decide by. ``caution``: standard errors below the
    expected value that a decision counts on, the declared probability's normal quantile.
    """

    value: Matrix
    cost: Matrix
    error: Matrix
    usable: Mask
    caution: float

    @property
    def eligible(self) -> Mask:
        return self.value > -np.inf

    @cached_property
    def cautious(self) -> Matrix:
        """What an offer earns at least, before its cost, with the declared probability."""
        return np.where(self.eligible, self.value - self.caution * self.error, -np.inf)

    @property
    def sure(self) -> Mask:
        """Where an offer is worth its cost with the declared probability."""
        return self.usable & (self.cautious > self.cost)

    @property
    def decided_by(self) -> Matrix:
        """The values that a budget is spent on. Expected ones would favour those offers and users
        of which least is known: of many, the best are those whose luck was best."""
        return np.where(self.sure, self.cautious, -np.inf)


def candidate_values(
    users: pl.DataFrame,
    effects: pl.DataFrame,
    catalogue: Catalogue,
    mask: Mask,
    margin_rate: float,
    worth_probability: float = WORTH_PROBABILITY,
) -> Candidates:
    """What each offer is expected to earn and cost for each user.

    ``users``: segment, expected_spend (money without an offer in 28 days) and what a `Response`
    reads. ``effects``: rows of ``pool_effects``; where they carry a response, value and cost are
    the user's own under it, else value = lift x expected_spend x margin_rate, of the offer's
    horizon, and cost = send_cost + redemption_rate x cost_per_redemption of the segment.
    ``mask`` [n, k]: eligible offers. Decisions count on what an offer earns at least with
    ``worth_probability``; none are made where the evidence is observational, which may be biased.
    Raises ValueError where a segment's effect or a user's spend is missing.
    """
    spend = users["expected_spend"].cast(pl.Float64)
    if spend.null_count() or not (spend.is_finite() & (spend >= 0)).all():
        raise ValueError("users.expected_spend: found null, negative or infinite values; fill them")
    found = _per_user(users, effects, catalogue)
    send = np.array([float(offer.send_cost) for offer in catalogue.offers])
    horizon = np.array([offer.horizon / SPEND_DAYS for offer in catalogue.offers])
    margin = spend.to_numpy()[:, None] * horizon * margin_rate
    value, error = found["lift"] * margin, found["lift_se"] * margin
    cost = send + found["redemption_rate"] * found["cost_per_redemption"]
    for column, text in enumerate(responses_of(effects, catalogue)):
        if text is not None and users.height:
            worth = Response.read(text).worth(users)
            value[:, column], error[:, column] = worth.value, worth.value_se
            cost[:, column] = send[column] + worth.cost
    value, cost = value.round(DIGITS), cost.round(DIGITS)
    usable = mask & (found["is_biased"] == 0)
    caution = normal_quantile(worth_probability)
    return Candidates(np.where(mask, value, -np.inf), cost, error, usable, caution)


def responses_of(effects: pl.DataFrame, catalogue: Catalogue) -> list[str | None]:
    """The response of each offer as text: that of all segments."""
    known = effects.filter(pl.col("response").is_not_null()).unique("offer_id", keep="first")
    texts = dict(known.select("offer_id", "response").iter_rows())
    return [texts.get(offer) for offer in catalogue.ids]


def _per_user(
    users: pl.DataFrame, effects: pl.DataFrame, catalogue: Catalogue
) -> dict[str, Matrix]:
    """The effects' numbers as [n, k] matrices: each user's segment, each offer."""
    segments = users["segment"].unique().sort()
    cells = pl.DataFrame({"segment": segments}).join(
        pl.DataFrame({"offer_id": catalogue.ids}), how="cross", maintain_order="left_right"
    )
    numbers = ["lift", "lift_se", "redemption_rate", "cost_per_redemption"]
    # What a segment has not measured is borrowed from the offer's others, with their bias: asked of
    # all segments, also where the users are of one.
    biased = pl.col("evidence").eq("observational").any().over("offer_id")
    biased &= pl.col("response").is_null() & pl.col("evidence").ne("randomised")
    effects = effects.with_columns(is_biased=biased.cast(pl.Float64))
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
    return {name: table[name].to_numpy().reshape(shape)[row] for name in (*numbers, "is_biased")}


def day_plan(
    users: pl.DataFrame, candidates: Candidates, catalogue: Catalogue, limits: Limits,
    experiment: Experiment,
) -> Plan:  # fmt: skip
    """The day's plan, over all users who are not held out; independent of row order."""
    order = np.argsort(users["user_id"].to_numpy(), kind="stable")
    order = order[~experiment.held_out(users)[order]]
    ties = experiment.ties(users)[order]
    least = [offer.min_audience or 0 for offer in catalogue.offers]
    return make_plan(candidates.decided_by[order], candidates.cost[order], limits, least, ties)


def budget_curve(
    users: pl.DataFrame, candidates: Candidates, budget: float, experiment: Experiment
) -> list[list[float]]:
    """What budgets around ``budget`` are expected to earn beyond their cost, limits of offers
    aside: pairs of money."""
    sent = np.flatnonzero(~experiment.held_out(users))
    budgets = np.array(CURVE) * budget
    net = (candidates.value - candidates.cost)[sent]
    earned = curve_of(candidates.decided_by[sent], candidates.cost[sent], budgets, net)
    return [[round(money, 2) for money in pair] for pair in zip(budgets, earned, strict=True)]


def withheld_value(
    users: pl.DataFrame, candidates: Candidates, plan: Plan, experiment: Experiment
) -> float:
    """What the holdout costs: margin beyond its cost that is expected of the offers withheld."""
    choice = plan.choose(candidates.decided_by, candidates.cost, experiment.ties(users))
    row = np.flatnonzero((choice != NONE) & experiment.held_out(users))
    net = (candidates.value - candidates.cost)[row, choice[row]]
    # In the order of amounts: a sum must not depend on how rows come.
    return float(np.sort(net).sum())


def explored_on(
    users: pl.DataFrame, candidates: Candidates, plan: Plan, budget: float, limits: Limits,
    experiment: Experiment, day: date,
) -> Exploration:  # fmt: skip
    """The exploration of ``day``: as many of those who may be explored as ``budget`` (money of a
    day) is expected to pay.

    Open to exploration is who is eligible for an offer, gets none to earn, is not held out and
    was drawn for nothing in 28 days: one open trial a user. Each possible offer and none are
    equally likely; an offer of which the draws would pass a limit is not explored that day.
    """
    choice = plan.choose(candidates.decided_by, candidates.cost, experiment.ties(users))
    held = experiment.held_out(users)
    explored = Exploration(experiment.name, day, 1.0)
    while True:
        possible = explored.possible(candidates.eligible)
        open_ = _open(users, possible, choice, held)
        share = _affordable(possible[open_], candidates.cost[open_], budget)
        explored = replace(explored, share=share)
        _, drawn = explored.drawn(users, possible)
        takes_part = explored.takes_part(users, open_)
        sent = np.where(takes_part, drawn, np.where(held, NONE, choice))
        over = used_by(sent, candidates.cost, limits) > limits.all
        offers = len(limits.face)
        passed = over[1 : 1 + offers] | over[1 + offers : -1] | over[-1] & (limits.face > 0)
        new = set(np.flatnonzero(passed).tolist()) - set(explored.closed)
        if not new:
            return explored
        explored = replace(explored, closed=tuple(sorted({*explored.closed, *new})))


def _affordable(possible: Mask, cost: Matrix, budget: float) -> float:
    """The share of these users whose draws ``budget`` is expected to pay."""
    costs = np.where(possible, cost, 0.0).sum(axis=1) / (possible.sum(axis=1) + 1)
    # In the order of amounts: a sum must not depend on how rows come.
    total = float(np.sort(costs).sum())
    return min(1.0, budget / total) if total > 0 else float(budget > 0)


def _open(users: pl.DataFrame, possible: Mask, choice: Choice, held: Mask) -> Mask:
    recent = users["offers_drawn_28d"].fill_null(0).to_numpy() > 0
    return (choice == NONE) & ~held & ~recent & possible.any(axis=1)


def assignments(
    users: pl.DataFrame, candidates: Candidates, catalogue: Catalogue, plan: Plan,
    experiment: Experiment, exploration: Exploration | None = None,
) -> pl.DataFrame:  # fmt: skip
    """One row a user: the offer and the arm drawn for it. Whole segments give their own rows.

    ``arm``: ``offer`` (to be sent), ``holdout`` (would get ``offer_id``, but it is withheld; a
    null offer_id: explored, and the draw fell on none) or ``none``. ``purpose``: ``earn`` or
    ``learn`` (drawn by ``exploration``). ``assignment_probability`` is that of the arm drawn: 1
    for ``none``, whom no draw could have given an offer. ``possible_arms``: everything that the
    draw could have been, each with its probability. Sorted by user.
    """
    choice = plan.choose(candidates.decided_by, candidates.cost, experiment.ties(users))
    chosen, held = choice != NONE, experiment.held_out(users)
    explored = np.zeros(users.height, dtype=bool)
    probability = np.where(held, experiment.share, 1 - experiment.share)
    withheld = chosen & held
    possible = candidates.eligible
    if exploration is not None:
        possible = exploration.possible(possible)
        is_open = _open(users, possible, choice, held)
        explored = exploration.takes_part(users, is_open)
        arms, drawn = exploration.drawn(users, possible)
        choice = np.where(explored, drawn, choice)
        probability = np.where(explored, 1 / arms, probability)
        withheld |= explored & (drawn == NONE)
    sent = (choice != NONE) & ~withheld
    named = choice != NONE
    column = np.where(named, choice, 0)
    row = np.arange(users.height)

    def of_choice(matrix: Matrix) -> Matrix:
        return np.where(named, matrix[row, column], 0.0)

    offer = np.array([*catalogue.ids, None], dtype=object)[choice]
    drawn_at_all = chosen | explored
    return (
        pl.DataFrame(
            {
                "user_id": users["user_id"],
                "segment": users["segment"],
                "offer_id": pl.Series(offer.tolist(), dtype=pl.String),
                "arm": np.select([withheld, sent], ["holdout", "offer"], "none"),
                "purpose": pl.Series(
                    np.select([explored, chosen], [LEARN, EARN], "").tolist(), dtype=pl.String
                ).replace("", None),
                "expected_value": pl.Series(of_choice(candidates.value)).round(DIGITS),
                "expected_value_se": pl.Series(of_choice(candidates.error)).round(DIGITS),
                "expected_cost": pl.Series(of_choice(candidates.cost)).round(DIGITS),
                "assignment_probability": np.where(drawn_at_all, probability, 1.0),
                "possible_arms": _possible(
                    catalogue, possible, choice, chosen, explored, experiment.share
                ),
                "reason": _reasons(users, candidates, chosen, held, explored),
            }
        )
        .select(pl.col(name).cast(kind) for name, kind in ASSIGNMENT_SCHEMA.items())
        .sort("user_id")
    )


def _possible(
    catalogue: Catalogue,
    possible: Mask,
    choice: Choice,
    chosen: Mask,
    explored: Mask,
    share: float,
) -> pl.Series:
    """The arms of each draw as text: ``offer probability``, commas between, then ``none``."""
    texts: list[str | None] = [None] * len(choice)
    for row in np.flatnonzero(chosen):
        texts[row] = f"{catalogue.ids[choice[row]]} {1 - share:.6g}, none {share:.6g}"
    for row in np.flatnonzero(explored):
        names = [*(catalogue.ids[column] for column in np.flatnonzero(possible[row])), "none"]
        texts[row] = ", ".join(f"{name} {1 / len(names):.6g}" for name in names)
    return pl.Series(texts, dtype=pl.String)


def _reasons(
    users: pl.DataFrame, candidates: Candidates, chosen: Mask, held: Mask, explored: Mask
) -> npt.NDArray[np.str_]:
    barred = users["barred"].fill_null("").to_numpy()
    worth = (candidates.value > candidates.cost).any(axis=1)
    return np.select(
        [
            explored,
            chosen & held,
            chosen,
            barred == CONSENT,
            barred == MERGED,
            ~candidates.eligible.any(axis=1),
            ~worth,
            ~candidates.sure.any(axis=1),
        ],
        [EXPLORED, WITHHELD, BEST, NO_CONSENT, OTHER_ACCOUNT, NOT_ELIGIBLE, NOT_WORTH, NOT_SURE],
        NO_BUDGET,
    )


def segment_strategy(
    assigned: pl.DataFrame, effects: pl.DataFrame, catalogue: Catalogue, share: float
) -> pl.DataFrame:
    """Each segment's decision: one row a chosen offer and one for "no offer" (offer_id null).

    ``assigned``: rows of `assignments`, with what a `Response` reads of the user. Margin and cost
    are those of the audience, users to be sent the offer to earn; ``held_out`` come on top, and so
    do ``explored``, who are sent it to learn, at ``exploration_cost``. The 95 % interval is that of
    their sum under the posterior; without a response it adds users' errors up, since they share
    the effect, whose error doesn't average out.
    """
    rows = [
        row
        for (segment,), users in assigned.sort("segment").group_by("segment", maintain_order=True)
        for row in _segment_rows(users, effects.filter(segment=segment), catalogue)
    ]
    money = pl.col(
        "expected_margin", "expected_margin_low", "expected_margin_high", "expected_cost",
        "exploration_cost",
    )  # fmt: skip
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
        audience = chosen.filter(arm="offer", purpose=EARN)
        explored = chosen.filter(arm="offer", purpose=LEARN)
        margin = float(audience["expected_value"].sum())
        error = Z95 * error_of_sum(audience, effect["response"])
        row = {
            "segment": users["segment"][0],
            "offer_id": offer.id,
            "audience": audience.height,
            "held_out": chosen.height - audience.height - explored.height,
            "explored": explored.height,
            "expected_margin": margin,
            "expected_margin_low": margin - error,
            "expected_margin_high": margin + error,
            "expected_cost": float(audience["expected_cost"].sum()),
            "exploration_cost": float(explored["expected_cost"].sum()),
            "evidence": "randomised" if effect["response"] else effect["evidence"],
        }
        yield row | {"reason": _describe(row, offer.name, effect)}
    without = users.filter(pl.col("offer_id").is_null())
    yield {
        "segment": users["segment"][0],
        "offer_id": None,
        "audience": without.filter(arm="none").height,
        "held_out": without.filter(arm="holdout").height,
        "explored": 0,
        "expected_margin": 0.0,
        "expected_margin_low": 0.0,
        "expected_margin_high": 0.0,
        "expected_cost": 0.0,
        "exploration_cost": 0.0,
        "evidence": None,
        "reason": _describe_none(without),
    }


def error_of_sum(audience: pl.DataFrame, response: str | None) -> float:
    """The standard error of what an offer is expected to earn with all of ``audience``: under the
    response (as text), else the sum of users' errors, ``expected_value_se``."""
    if response is None or not audience.height:
        return float(audience["expected_value_se"].sum())
    return float(Response.read(response).draws(audience).std())


def _describe(row: Mapping[str, Any], name: str, effect: Mapping[str, Any]) -> str:
    told = []
    if row["audience"] or row["held_out"]:
        held = f", {row['held_out']:,} held out" if row["held_out"] else ""
        told.append(
            f"to {_people(row['audience'], row['segment'])}{held}: expected margin "
            f"{row['expected_margin']:+,.2f} ({row['expected_margin_low']:+,.2f} to "
            f"{row['expected_margin_high']:+,.2f}) for {row['expected_cost']:,.2f} cost"
        )
    if row["explored"]:
        told.append(
            f"to {_people(row['explored'], row['segment'])} at random, to learn what it does, for "
            f"{row['exploration_cost']:,.2f} cost"
        )
    return f"{name} {'; and '.join(told)}; evidence {row['evidence']}, {effect['reason']}"


def _describe_none(without: pl.DataFrame) -> str:
    if not without.height:
        return "everyone gets an offer or is held out"
    counts = without["reason"].value_counts().sort("count", "reason", descending=[True, False])
    why = "; ".join(f"{count:,} {reason}" for reason, count in counts.iter_rows())
    return f"no offer to {_people(without.height, without['segment'][0])}: {why}"


def _people(count: int, segment: str) -> str:
    return f"{count:,} {segment.replace('_', ' ')} user{'s' * (count != 1)}"
