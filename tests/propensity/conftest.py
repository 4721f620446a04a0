"""Weekly snapshots of shoppers who each buy at a rate of their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from promo_assets.propensity.training import RFM

FIRST = date(2024, 1, 7)

Snapshots = Callable[..., pl.DataFrame]


@pytest.fixture
def snapshots() -> Snapshots:
    return make


def make(weeks: int = 20, users: int = 250, seed: int = 1) -> pl.DataFrame:
    """``weeks`` Sundays of ``users``; orders_90d and recency_days tell of the rate, noisily."""
    rng = np.random.default_rng(seed)
    rate = np.tile(rng.gamma(1.0, 0.1, users), weeks)
    rows = len(rate)
    columns: dict[str, np.ndarray] = {name: rng.normal(size=rows) for name in RFM}
    columns["orders_90d"] = rng.poisson(90 * rate)
    columns["recency_days"] = rng.geometric(np.clip(rate, 0.01, 0.99)).clip(max=90)
    days = [FIRST + timedelta(weeks=week) for week in range(weeks) for _ in range(users)]
    return pl.DataFrame(
        {
            "week": days,
            "as_of_date": days,
            "user_id": np.tile([f"u{index}" for index in range(users)], weeks),
            "label": rng.random(rows) < 1 - np.exp(-7 * rate),
            **columns,
        }
    )
