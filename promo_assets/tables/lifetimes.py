"""``profiles.user_lifetimes``: orders and money still to come of each customer, by week."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

from promo_assets.contract.days import cut_off
from promo_assets.contract.tables import TableContract
from promo_assets.tables.table import Production, Table

if TYPE_CHECKING:
    import polars as pl

LEAST_CUSTOMERS = 100
"""Who ordered on two days or more: of fewer, how they differ and when they leave can't be told. And
who paid something, for values."""
PENALTY = 1e-3
"""Of both fits: where customers hardly ever leave, only a / b is told, and b runs to its bound."""
LONGEST_WAIT = 730
"""Days after which a next order has no date."""
TOO_FEW = "too_few_customers"

CUSTOMERS = """
select user_id,
    order_days_life as orders,
    order_days_life - 1 as frequency,
    last_order_date - first_order_date as recency,
    as_of_date - first_order_date as age,
    cast(gross_life - discount_life as double) / order_days_life as mean_value
from features.user_features
where as_of_date = $day and order_days_life > 0
order by user_id
"""


def user_lifetimes(production: Production) -> pl.DataFrame:
    """Every customer's future as of each week's cut-off, by models fitted to all of that day."""
    import polars as pl

    parts = [production.frame()]
    for week in production.weeks:
        day = cut_off(week)
        customers = production.read(CUSTOMERS, {"day": day})
        told = customers.select(
            "user_id",
            week=pl.lit(week),
            as_of_date=pl.lit(day),
            customers=pl.lit(customers.height, pl.Int64),
        )
        if customers.filter(pl.col("frequency") > 0).height < LEAST_CUSTOMERS:
            told = told.with_columns(reason=pl.lit(TOO_FEW))
        else:
            told = told.hstack(_future(customers, day))
        parts.append(told)
    return pl.concat(parts, how="diagonal")


def tables(contracts: Mapping[str, TableContract]) -> list[Table]:
    """The one table."""
    return [
        Table(
            contracts["profiles.user_lifetimes"],
            "profiles",
            user_lifetimes,
            "1",
            grid="week",
            inputs={"features.user_features": 0},
            kinds=frozenset({"duckdb", "python", "table"}),
        )
    ]


def _future(customers: pl.DataFrame, day: date) -> pl.DataFrame:
    """A row a customer, in the same order."""
    import numpy as np
    import polars as pl

    from promo_assets.propensity.lifetimes import fit_bg_nbd, fit_gamma_gamma

    history = [customers[name].to_numpy() for name in ("frequency", "recency", "age")]
    orders = fit_bg_nbd(*history, penalty=PENALTY)
    # Who got everything for nothing tells nothing of values, and is taken for an average customer.
    paid = customers["mean_value"].to_numpy() > 0
    valued = np.where(paid, customers["orders"].to_numpy(), 0)
    value = np.full(len(valued), np.nan)
    if paid.sum() >= LEAST_CUSTOMERS:
        means = customers["mean_value"].to_numpy()
        values = fit_gamma_gamma(valued, means, penalty=PENALTY)
        value = values.expected_value(valued, means)
    expected = orders.expected_orders(90, *history)
    wait = np.ceil(orders.median_wait(*history))
    told = pl.DataFrame(
        {
            "alive_probability": orders.alive_probability(*history),
            "expected_orders_28d": orders.expected_orders(28, *history),
            "expected_orders_90d": expected,
            "expected_order_value": np.where(np.isfinite(value), value, np.nan),
            "expected_value_90d": np.where(np.isfinite(value), expected * value, np.nan),
            "wait": np.where(wait <= LONGEST_WAIT, wait, np.nan),
        }
    ).fill_nan(None)
    wait_days = pl.duration(days=pl.col("wait").cast(pl.Int64))
    return told.with_columns(next_order_date=pl.lit(day) + wait_days).drop("wait")
