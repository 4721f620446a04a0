"""The catalogue as a table."""

from __future__ import annotations

import polars as pl

from promo_assets.strategy.offers.catalogue import Catalogue

MONEY = pl.Decimal(18, 2)


def catalogue_frame(catalogue: Catalogue) -> pl.DataFrame:
    """One row an offer, with the rules that hold for all. Lists are joined with commas, null where
    empty."""
    rules = catalogue.rules
    rows = [
        {
            "offer_id": offer.id,
            **offer.model_dump(exclude={"id", "eligible", "frequency_cap", "channels"}),
            "horizon_days": offer.horizon,
            "channels": ", ".join(offer.channels) or None,
            **{
                f"eligible_{name}": ", ".join(getattr(offer.eligible, name)) or None
                for name in ("segments", "categories", "lifecycle", "channels")
            },
            "min_orders": offer.eligible.min_orders,
            "max_orders": offer.eligible.max_orders,
            "cap_times": offer.frequency_cap.times if offer.frequency_cap else None,
            "cap_days": offer.frequency_cap.days if offer.frequency_cap else None,
            "cap_of": offer.frequency_cap.of if offer.frequency_cap else None,
            "liability": offer.liability,
            "open_days": offer.open_days,
            "pause_days_after_purchase": rules.pause_days_after.get("purchase"),
            "pause_days_after_return": rules.pause_days_after.get("return"),
            "pause_days_after_redemption": rules.pause_days_after.get("offer_redeemed"),
            "max_open_coupons": rules.max_open_coupons,
            "max_liability": rules.max_liability,
            "keeps_margin": rules.keeps_margin,
        }
        for offer in catalogue.offers
    ]
    return pl.DataFrame(rows, schema=FRAME_SCHEMA)


FRAME_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "offer_id": pl.String,
    "name": pl.String,
    "kind": pl.String,
    "value": MONEY,
    "min_spend": MONEY,
    "max_discount": MONEY,
    "valid_days": pl.Int64,
    "horizon_days": pl.Int64,
    "valid_from": pl.Date,
    "valid_until": pl.Date,
    "send_cost": MONEY,
    "channels": pl.String,
    "eligible_segments": pl.String,
    "eligible_categories": pl.String,
    "eligible_lifecycle": pl.String,
    "eligible_channels": pl.String,
    "min_orders": pl.Int64,
    "max_orders": pl.Int64,
    "cap_times": pl.Int64,
    "cap_days": pl.Int64,
    "cap_of": pl.String,
    "exclusive_group": pl.String,
    "priority": pl.Int64,
    "stock": pl.Int64,
    "budget": MONEY,
    "min_audience": pl.Int64,
    "max_audience": pl.Int64,
    "liability": MONEY,
    "open_days": pl.Int64,
    "pause_days_after_purchase": pl.Int64,
    "pause_days_after_return": pl.Int64,
    "pause_days_after_redemption": pl.Int64,
    "max_open_coupons": pl.Int64,
    "max_liability": MONEY,
    "keeps_margin": pl.Boolean,
    "expected_redemption_rate": pl.Float64,
    "expected_cost_per_redemption": MONEY,
    "prior_lift": pl.Float64,
}
