"""What the defaults were set against: published or measured figures, and the simulation's own.

`benchmarks/simulator.py` prints the table that docs/simulator.md holds; a test keeps every figure
of a fresh simulation within its band.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb


@dataclass(frozen=True)
class Figure:
    """One comparison; ``low`` and ``high`` bound what the defaults may give."""

    name: str
    reference: str
    low: float
    high: float
    sql: str
    """One number from ``events`` (what was delivered) and ``days`` (of truth)."""
    percent: bool = True

    def told(self, value: float) -> str:
        return f"{value:.1%}".replace("%", " %") if self.percent else f"{value:.2f}"


FIGURES = (
    Figure(
        "cart additions per view",
        "2.6 % RetailRocket; 2.3 % REES46 multi-category",
        0.05,
        0.12,
        "select count(*) filter (event_type = 'add_to_cart')"
        " / count(*) filter (event_type = 'view')"
        " from events",
    ),
    Figure(
        "purchased lines per view, online",
        "0.84 % RetailRocket; 1.8 % REES46 multi-category",
        0.015,
        0.05,
        "select count(*) filter (event_type = 'purchase' and channel <> 'store')"
        " / count(*) filter (event_type = 'view') from events",
    ),
    Figure(
        "online visits with something put into the cart",
        "6.4-7.9 % all shops, 13-14 % food and beverage (Opensend)",
        0.12,
        0.22,
        "select avg(carts) from (select max(cast(event_type = 'add_to_cart' as int)) as carts"
        " from events where session_id is not null and channel <> 'store' group by session_id)",
    ),
    Figure(
        "carts that are left",
        "70.2 % (Baymard Institute, mean of 50 studies)",
        0.65,
        0.75,
        "select 1 - sum(bought) / count(*) from ("
        "select max(cast(event_type = 'purchase' as int)) as bought from events"
        " where session_id is not null and channel <> 'store' group by session_id"
        " having count(*) filter (event_type = 'add_to_cart') > 0)",
    ),
    Figure(
        "sales that come back",
        "16.9 % (NRF and Happy Returns 2024)",
        0.05,
        0.17,
        "select sum(returned) / sum(gross - discount) from days",
    ),
    Figure(
        "redeemed within 28 days, best offer",
        "13.5 % Complete Journey, campaigns of type A",
        0.06,
        0.16,
        "select max(rate) from (select offer_id,"
        " count(*) filter (event_type = 'offer_redeemed')"
        " / count(*) filter (event_type = 'offer_sent') as rate"
        " from events where offer_id is not null group by offer_id)",
    ),
    Figure(
        "redeemed within 28 days, median of the six with a discount",
        "5.5 % and 3.8 % Complete Journey, types B and C",
        0.02,
        0.10,
        "select median(rate) from (select offer_id,"
        " count(*) filter (event_type = 'offer_redeemed')"
        " / count(*) filter (event_type = 'offer_sent') as rate"
        " from events where offer_id <> 'letter' group by offer_id)",
    ),
    Figure(
        "orders of the fifth of customers who order most",
        "52.7 % Complete Journey (a year)",
        0.35,
        0.60,
        "with customers as (select user_id, count(distinct order_id) as orders from events"
        " where event_type = 'purchase' and user_id is not null group by user_id),"
        " ranked as (select orders, percent_rank() over (order by orders desc, user_id) as place"
        " from customers) select sum(orders) filter (place < 0.2) / sum(orders) from ranked",
    ),
    Figure(
        "lines of the tenth of items that sell most",
        "72.1 % Complete Journey (68,509 products sold)",
        0.35,
        0.75,
        "with items as (select item_id, count(*) as n from events where event_type = 'purchase'"
        " group by item_id), ranked as (select n, percent_rank() over (order by n desc, item_id)"
        " as place from items) select sum(n) filter (place < 0.1) / sum(n) from ranked",
    ),
    Figure(
        "busiest weekday over quietest, orders",
        "1.24 Complete Journey (Sunday, Wednesday)",
        1.1,
        1.6,
        "select max(n) / min(n) from (select isodow(event_time) as weekday,"
        " count(distinct order_id) / count(distinct cast(event_time as date)) as n from events"
        " where event_type = 'purchase' and cast(event_time as date) not in"
        " (select event_date from days where is_sale) group by all)",
        percent=False,
    ),
    Figure(
        "events per person and day",
        "0.8 to 1.2 (what the platform is sized for)",
        0.8,
        1.2,
        "select count(*) / (select count(*) * $users from days) from events",
        percent=False,
    ),
)


def measure(folder: Path, users: int) -> Iterator[tuple[Figure, float]]:
    """Every figure of the simulation in ``folder`` (Parquet, ``users`` at its start)."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for name, place in (("events", "events/*/*.parquet"), ("days", "truth/days/*.parquet")):
            connection.read_parquet(str(folder / place)).create_view(name)
        for figure in FIGURES:
            bound = {"users": users} if "$users" in figure.sql else {}
            found = connection.execute(figure.sql, bound).fetchone()
            assert found is not None
            yield figure, float(found[0])


def table(folder: Path, users: int) -> str:
    """The comparison as Markdown."""
    rows = [
        f"| {figure.name} | {figure.told(value)} | {figure.reference} |"
        for figure, value in measure(folder, users)
    ]
    return "\n".join(["| figure | simulated | reference |", "| --- | --- | --- |", *rows])
