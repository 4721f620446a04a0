"""What offers did to spend, measured on trials, and what that says about every segment.

`campaign_effects`: each campaign on its own, by segment. `pool_effects`: all campaigns known by a
day, pooled for every segment and offer of the catalogue. Estimators and the statistics behind
them are in ``estimators.py``; values for single users are in ``decisions.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from promo_assets.strategy.effects.estimators import (
    STEADY,
    UNTOLD,
    Z95,
    Estimate,
    Normal,
    Nuisance,
    adjusted_difference,
    beta_interval,
    beta_prior,
    between_variance,
    is_mismatched,
    nuisance,
    precision_mean,
    shrunk,
    weighted_difference,
)
from promo_assets.strategy.effects.response import Response
from promo_assets.strategy.offers.catalogue import Catalogue, Offer
from promo_assets.strategy.offers.frame import MONEY

COVARIATES = (
    "spend_before",
    "spend_before_90d",
    "orders_before",
    "recency_days",
    "offers_before",
)
"""What is known of a user on the day before the send; a null recency means never."""

PRIOR_LIFT_SD = 0.15
"""Of log(1 + lift), before any trial: spend changes by less than about 30 %, 19 times in 20."""
LIFT_SD_FLOOR = 0.02
"""Of log(1 + lift): segments and campaigns differ by at least this; a few can't prove otherwise."""
LEAST_OVERLAP = 0.5
"""Share of the sent who must have peers: else an observational effect is that of somebody else."""
LEAST_LIFT = -0.9
"""A campaign after which nobody bought has no logarithm; its error then gives it no weight."""
PRIOR_USERS = 20.0
"""The catalogue's redemption rate weighs as much as this many users."""
PRIOR_REDEEMERS = 10.0
"""A prior cost weighs as much as this many redeemers."""

CAMPAIGN_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "closed_date": pl.Date,
    "campaign_id": pl.String,
    "offer_id": pl.String,
    "segment": pl.String,
    "sent": pl.Int64,
    "comparison": pl.Int64,
    "redeemers": pl.Int64,
    "redemptions": pl.Int64,
    "redemption_cost": MONEY,
    "spend_effect": pl.Float64,
    "spend_effect_se": pl.Float64,
    "baseline_spend": pl.Float64,
    "lift": pl.Float64,
    "lift_se": pl.Float64,
    "overlap": pl.Float64,
    "evidence": pl.String,
}

EFFECT_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "segment": pl.String,
    "offer_id": pl.String,
    "redemption_rate": pl.Float64,
    "redemption_rate_low": pl.Float64,
    "redemption_rate_high": pl.Float64,
    "cost_per_redemption": pl.Float64,
    "lift": pl.Float64,
    "lift_se": pl.Float64,
    "lift_low": pl.Float64,
    "lift_high": pl.Float64,
    "sent": pl.Int64,
    "campaigns": pl.Int64,
    "evidence": pl.String,
    "reason": pl.String,
    "response": pl.String,
}


def campaign_effects(trials: pl.DataFrame) -> pl.DataFrame:
    """Each campaign's effect on the spend of those it was sent to, by segment.

    ``trials``: strategy.offer_trials, one row a campaign and user. One row a closing day,
    campaign, offer and segment with someone sent. Where sent and withheld users carry their
    assignment probabilities the effect is their Hájek difference, ``evidence`` randomised; or
    mismatched, without an effect, where the arms are not as large as these probabilities say
    (`sample_ratio`): then who is in which arm is not what was drawn. Else it is observational:
    sent users against comparison (and withheld) ones, adjusted for `COVARIATES` and segment, on
    those within the comparison's range of scores (``overlap`` is their share), and refused where
    that is less than `LEAST_OVERLAP`. Money is per user over the trial; ``lift`` is relative to
    the baseline, the spend expected without the offer. Null where the arms are too small to tell.
    """
    rows = [
        row
        for _, campaign in trials.sort("closed_date", "campaign_id", "user_id").group_by(
            "closed_date", "campaign_id", maintain_order=True
        )
        for offer_id in campaign.filter(arm="sent")["offer_id"].drop_nulls().unique().sort()
        for row in _offer_rows(campaign, offer_id)
    ]
    return pl.DataFrame(rows, schema=CAMPAIGN_SCHEMA)


def _offer_rows(campaign: pl.DataFrame, offer_id: str) -> Iterator[dict[str, Any]]:
    """One row a segment for one offer of one campaign."""
    sent, withheld = pl.col("arm") == "sent", pl.col("arm") == "withheld"
    # Who was withheld from all offers of a campaign is a control of each.
    users = campaign.filter(
        (pl.col("offer_id") == offer_id) | (~sent & pl.col("offer_id").is_null())
    )
    arms = users.filter(sent | withheld)
    mismatched = arms["assignment_probability"].null_count() == 0 and is_mismatched(
        (arms["arm"] == "sent").to_numpy(), arms["assignment_probability"].to_numpy()
    )
    fitted: Nuisance | None = None
    for segment in users.filter(sent)["segment"].unique().sort():
        inside = (users["segment"] == segment).to_numpy()
        of_segment = users.filter(pl.Series(inside))
        treated = of_segment.filter(sent)
        drawn = of_segment.filter(sent | withheld)
        if drawn["assignment_probability"].null_count() == 0 and drawn.height > treated.height:
            evidence = "mismatched" if mismatched else "randomised"
            effect = UNTOLD if mismatched else _randomised(drawn)
        else:
            evidence = "observational"
            fitted = fitted or nuisance(
                covariates=_covariates(users),
                outcome=users["spend_after"].cast(pl.Float64).to_numpy(),
                treated=(users["arm"] == "sent").to_numpy(),
            )
            effect = adjusted_difference(fitted, inside)
            if effect.overlap < LEAST_OVERLAP:
                effect = UNTOLD._replace(overlap=effect.overlap)
        yield {
            "closed_date": users["closed_date"][0],
            "campaign_id": users["campaign_id"][0],
            "offer_id": offer_id,
            "segment": segment,
            "sent": treated.height,
            "comparison": (of_segment if evidence == "observational" else drawn).height
            - treated.height,
            "redeemers": (treated["redemptions"] > 0).sum(),
            "redemptions": treated["redemptions"].sum(),
            "redemption_cost": None
            if treated["redemption_cost"].null_count()
            else treated["redemption_cost"].cast(MONEY).sum(),
            "spend_effect": effect.difference,
            "spend_effect_se": effect.difference_se,
            "baseline_spend": effect.baseline,
            "lift": effect.lift,
            "lift_se": effect.lift_se,
            "overlap": effect.overlap,
            "evidence": evidence,
        }


def _randomised(drawn: pl.DataFrame) -> Estimate:
    return weighted_difference(
        outcome=drawn["spend_after"].cast(pl.Float64).to_numpy(),
        treated=(drawn["arm"] == "sent").to_numpy(),
        weight=1 / drawn["assignment_probability"].to_numpy(),
    )


def _covariates(users: pl.DataFrame) -> np.ndarray:
    """[n, p]: covariates, their logarithms (spend is skewed), never bought, segment."""
    plain = users.select(pl.col(COVARIATES).cast(pl.Float64).fill_null(0.0))
    logs = plain.select(pl.col(COVARIATES).clip(lower_bound=0).log1p().name.suffix("_log"))
    never = users.select(never=pl.col("recency_days").is_null().cast(pl.Float64))
    segments = users.select(pl.col("segment").cast(pl.String)).to_dummies().cast(pl.Float64)
    return pl.concat([plain, logs, never, segments], how="horizontal").to_numpy()


def pool_effects(
    effects: pl.DataFrame,
    catalogue: Catalogue,
    as_of: date,
    segments: Sequence[str],
    responses: Mapping[str, Response] | None = None,
) -> pl.DataFrame:
    """What is known by ``as_of`` about every offer of the catalogue in every segment.

    ``effects``: rows of `campaign_effects`; those closed after ``as_of`` are ignored. One row a
    segment and offer, in the order given: the redemption rate (beta-binomial, shrunk to the
    offer's rate), the cost of a redeeming user (shrunk to the offer's), and the lift of spend
    (normal-normal in logarithms: campaigns into segments, segments towards the offer, the offer
    towards the catalogue's ``prior_lift``; its median), with 95 % intervals. ``evidence`` is
    ``prior`` where the segment has no measured effect of its own: its lift is then borrowed or
    assumed, and ``reason`` says which. ``response``: that of the offer in ``responses``, as text,
    by which single users are decided; null where its randomised trials tell too little.
    """
    known = effects.filter(pl.col("closed_date") <= as_of, pl.col("segment").is_in(list(segments)))
    costed = known.drop_nulls("redemption_cost")
    redeemers = int(costed["redeemers"].sum())
    usual_cost = float(costed["redemption_cost"].sum()) / redeemers if redeemers else None
    texts = {offer: response.text() for offer, response in (responses or {}).items()}
    rows = [
        row | _response(texts.get(offer.id), known.filter(offer_id=offer.id))
        for offer in catalogue.offers
        for row in _pool_offer(known.filter(offer_id=offer.id), offer, segments, usual_cost)
    ]
    order = {segment: place for place, segment in enumerate(segments)}
    return pl.DataFrame(sorted(rows, key=lambda row: order[row["segment"]]), schema=EFFECT_SCHEMA)


def _response(text: str | None, known: pl.DataFrame) -> dict[str, str | None]:
    """The offer's response, and in words that it is what decides."""
    if text is None:
        return {"response": None}
    count = known.filter(evidence="randomised")["campaign_id"].n_unique()
    told = f"each user's own response, from {count} campaign{'s' * (count != 1)} at random"
    return {"response": text, "reason": told}


def _pool_offer(
    known: pl.DataFrame, offer: Offer, segments: Sequence[str], usual_cost: float | None
) -> Iterator[dict[str, Any]]:
    """One row a segment for one offer."""
    counts = _counts(known, segments)
    sent, redeemers, costed, cost = (
        counts[name].to_numpy() for name in ("sent", "redeemers", "costed", "cost")
    )
    alpha, beta = beta_prior(redeemers, sent, offer.expected_redemption_rate, PRIOR_USERS)
    alphas, betas = alpha + redeemers, beta + sent - redeemers
    rate_low, rate_high = beta_interval(alphas, betas)
    offer_cost = _cost(cost.sum(), costed.sum(), _prior_cost(offer, usual_cost))
    costs = _cost(cost, costed, offer_cost)
    lifts, evidence = _lifts(known, offer, segments)
    for place, segment in enumerate(segments):
        lift = lifts[place]
        yield {
            "segment": segment,
            "offer_id": offer.id,
            "redemption_rate": alphas[place] / (alphas[place] + betas[place]),
            "redemption_rate_low": rate_low[place],
            "redemption_rate_high": rate_high[place],
            "cost_per_redemption": costs[place],
            "lift": math.expm1(lift.mean),
            "lift_se": math.exp(lift.mean) * lift.sd,
            "lift_low": math.expm1(lift.mean - Z95 * lift.sd),
            "lift_high": math.expm1(lift.mean + Z95 * lift.sd),
            "sent": sent[place],
            "campaigns": counts["campaigns"][place],
            "evidence": evidence[place],
            "reason": _reason(evidence[place], known, offer, segment),
        }


def _counts(known: pl.DataFrame, segments: Sequence[str]) -> pl.DataFrame:
    """Sends, redeemers (of them those whose cost is known), cost and campaigns, one row a segment
    in the order given."""
    return (
        pl.DataFrame({"segment": segments}, schema={"segment": pl.String})
        .join(
            known.group_by("segment").agg(
                pl.col("sent", "redeemers").sum(),
                cost=pl.col("redemption_cost").cast(pl.Float64).sum(),
                costed=pl.col("redeemers").filter(pl.col("redemption_cost").is_not_null()).sum(),
                campaigns=pl.col("campaign_id").n_unique().cast(pl.Int64),
            ),
            on="segment",
            how="left",
            maintain_order="left",
        )
        .fill_null(0)
    )


def _lifts(
    known: pl.DataFrame, offer: Offer, segments: Sequence[str]
) -> tuple[list[Normal], list[str]]:
    """The posterior log(1 + lift) of each segment, and the grade of the segment's own evidence.

    Logarithms, because spend's spread grows with its mean: on the plain scale a lift that came
    out low by chance has a small error and a large weight, which biases the mean of small
    campaigns down (simulated, 10 campaigns of 20 users each in two segments, true lift 10 %:
    7.1 % on average, in logarithms 9.3 %, the rest being the pull of the prior).
    """
    measured = _relative(_best_evidence(known.drop_nulls(["spend_effect", "spend_effect_se"])))
    ratio = 1 + np.maximum(measured["lift"].to_numpy(), LEAST_LIFT)
    lift, variance = np.log(ratio), (measured["lift_se"].to_numpy() / ratio) ** 2
    place = np.array([segments.index(name) for name in measured["segment"]], dtype=np.int64)
    least = LIFT_SD_FLOOR**2
    variance = variance + max(between_variance(lift, variance, place), least)
    cells = {
        int(cell): precision_mean(lift[place == cell], variance[place == cell])
        for cell in np.unique(place)
    }
    spread, all_cells = least, None
    if cells:
        means = np.array([cell.mean for cell in cells.values()])
        variances = np.array([cell.sd**2 for cell in cells.values()])
        spread = max(between_variance(means, variances, np.zeros(len(cells), np.int64)), least)
        all_cells = precision_mean(means, variances + spread)
    offer_lift = shrunk(
        all_cells, Normal(math.log1p(offer.prior_lift or 0.0), 0.0), PRIOR_LIFT_SD**2
    )
    grades = dict(zip(measured["segment"], measured["evidence"], strict=True))
    return (
        [shrunk(cells.get(cell), offer_lift, spread) for cell in range(len(segments))],
        [grades.get(segment, "prior") for segment in segments],
    )


def _relative(measured: pl.DataFrame) -> pl.DataFrame:
    """Lifts, with the segment's pooled baseline where a campaign's own is too noisy for a ratio.

    An error is at least `STEADY` users' worth of what all campaigns' common spread would give: a
    few users, of whom nobody bought, are not certain of it.
    """
    size = 1 / (1 / pl.col("sent") + 1 / pl.col("comparison"))
    baseline = (pl.col("baseline_spend") * size).sum() / size.sum()
    told = measured.with_columns(
        size=size,
        lift=pl.coalesce("lift", pl.col("spend_effect") / baseline.over("segment")),
        lift_se=pl.coalesce("lift_se", pl.col("spend_effect_se") / baseline.over("segment")),
    ).filter(pl.col("lift").is_finite(), pl.col("lift_se").is_finite())
    spread = pl.col("lift_se") ** 2 * pl.col("size")
    common = (spread * pl.col("size")).sum() / pl.col("size").sum()
    least = common * STEADY / (pl.col("size") + STEADY)
    return told.with_columns(lift_se=(pl.max_horizontal(spread, least) / pl.col("size")).sqrt())


def _best_evidence(measured: pl.DataFrame) -> pl.DataFrame:
    """Where a segment has a randomised effect, its observational ones are left out."""
    randomised = pl.col("evidence") == "randomised"
    return measured.filter(randomised | ~randomised.any().over("segment"))


def _cost(total: Any, redeemers: Any, prior: Any) -> Any:
    """Cost of a redeemer, numbers or arrays, shrunk to ``prior``."""
    return (total + PRIOR_REDEEMERS * prior) / (redeemers + PRIOR_REDEEMERS)


def _prior_cost(offer: Offer, usual: float | None) -> float:
    """A redeemer's cost before any is seen: the catalogue's, other offers', or the terms'."""
    if offer.expected_cost_per_redemption is not None:
        return float(offer.expected_cost_per_redemption)
    return usual if usual is not None else float(offer.face_cost or 0)


def _reason(evidence: str, known: pl.DataFrame, offer: Offer, segment: str) -> str:
    """Where a segment's effect comes from, in a merchandiser's words."""
    measured = known.drop_nulls("spend_effect")
    if evidence == "prior" and measured.height:
        return "not yet measured in this segment: borrowed from the offer's other segments"
    if evidence == "prior":
        assumed = offer.prior_lift
        return (
            "no trial has closed yet: no lift assumed"
            if assumed is None
            else f"no trial has closed yet: the catalogue assumes a lift of {assumed:+.1%}"
        )
    count = measured.filter(segment=segment, evidence=evidence)["campaign_id"].n_unique()
    how = {
        "randomised": "sent against withheld at random",
        "observational": "sent against comparable users, adjusted; may be biased",
    }
    return f"measured in {count} campaign{'s' * (count != 1)}: {how[evidence]}"
