"""The catalogue as a table."""

from __future__ import annotations

import polars as pl

from promo_assets.strategy.offers.catalogue import Catalogue

MONEY = pl.Decimal(18, 2)


def catalogue_frame(catalogue: Catalogue) -> pl.DataFrame:
    """One row an offer. Lists are joined with commas, null where empty."""
    rows = [
        {
            "offer_id": offer.id,
            **offer.model_dump(exclude={"id", "eligible", "frequency_cap", "channels"}),
            "horizon_days": offer.horizon,
            "channels": ", ".join(offer.channels) or None,
            **{
                f"eligible_{name}": ", ".join(getattr(offer.eligible, name)) or None
                for name in ("segments", "categories", "lifecycle")
            },
            "min_orders": offer.eligible.min_orders,
            "max_orders": offer.eligible.max_orders,
            "cap_times": offer.frequency_cap.times if offer.frequency_cap else None,
            "cap_days": offer.frequency_cap.days if offer.frequency_cap else None,
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
    "min_orders": pl.Int64,
    "max_orders": pl.Int64,
    "cap_times": pl.Int64,
    "cap_days": pl.Int64,
    "exclusive_group": pl.String,
    "priority": pl.Int64,
    "stock": pl.Int64,
    "budget": MONEY,
    "expected_redemption_rate": pl.Float64,
    "expected_cost_per_redemption": MONEY,
    "prior_lift": pl.Float64,
}
