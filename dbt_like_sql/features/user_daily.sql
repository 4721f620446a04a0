-- description: What each user did on a day, one row a user and day with any event (a
--   withheld offer aside: the user can't see it). Depends on that day only. An order
--   counts at its first line; a day's lines without order_id count as one order.
-- grain: user_id, event_date
-- owner: data-platform
with events as (
    select
        event_time,
        event_date,
        event_type,
        user_id,
        channel,
        quantity,
        quantity * unit_price as amount,
        discount,
        coalesce(order_id, '') as order_key,
        -- In either case: engines lower letters beyond ASCII differently.
        search_query like '%oupon%'
        or search_query like '%oucher%'
        or search_query like '%iscount%'
        or search_query like '%romo code%'
        or search_query like '%utschein%'
        or search_query like '%abatt%'
        or search_query like '%优惠%'
            as is_deal_search
    from core.events
    where event_date >= $start
        and event_date < $end
        and user_id is not null
        and event_type <> 'offer_withheld'
),

calendar as (
    select day, is_weekend from core.calendar where day >= $start and day < $end
),

orders as (
    select
        user_id,
        event_date,
        order_key,
        hour(min(event_time)) as order_hour,
        min(channel) as order_channel,
        sum(amount - discount) as order_spend
    from events
    where event_type = 'purchase'
    group by user_id, event_date, order_key
),

order_days as (
    select
        user_id,
        event_date,
        count(*) as orders,
        max(order_spend) as basket_max,
        count(*) filter (where order_hour < 4) as orders_block_0,
        count(*) filter (where order_hour >= 4 and order_hour < 8) as orders_block_1,
        count(*) filter (where order_hour >= 8 and order_hour < 12) as orders_block_2,
        count(*) filter (where order_hour >= 12 and order_hour < 16) as orders_block_3,
        count(*) filter (where order_hour >= 16 and order_hour < 20) as orders_block_4,
        count(*) filter (where order_hour >= 20) as orders_block_5,
        count(*) filter (where order_channel = 'app') as orders_app,
        count(*) filter (where order_channel = 'web') as orders_web,
        count(*) filter (where order_channel = 'store') as orders_store
    from orders
    group by user_id, event_date
),

event_days as (
    select
        user_id,
        event_date,
        count(*) filter (where event_type <> 'offer_sent') as actions,
        count(*) filter (where event_type = 'view') as views,
        count(*) filter (where event_type = 'search') as searches,
        count(*) filter (where event_type = 'search' and is_deal_search) as deal_searches,
        count(*) filter (where event_type = 'click') as clicks,
        count(*) filter (where event_type = 'favourite') as favourites,
        count(*) filter (where event_type = 'add_to_cart') as carts,
        count(*) filter (where event_type = 'purchase') as purchases,
        count(*) filter (where event_type = 'return') as returns,
        count(*) filter (where event_type = 'offer_sent') as offers_sent,
        count(*) filter (where event_type = 'offer_viewed') as offers_viewed,
        count(*) filter (where event_type = 'offer_redeemed') as offers_redeemed,
        sum(quantity) filter (where event_type = 'purchase') as items,
        sum(amount) filter (where event_type = 'purchase') as gross,
        sum(discount) filter (where event_type = 'purchase') as discount,
        sum(amount - discount) filter (where event_type = 'return') as returned,
        sum(discount) filter (where event_type = 'offer_redeemed') as redemption_cost
    from events
    group by user_id, event_date
)

select
    event_days.user_id,
    event_days.event_date,
    cast(event_days.actions as integer) as actions,
    cast(event_days.views as integer) as views,
    cast(event_days.searches as integer) as searches,
    cast(event_days.deal_searches as integer) as deal_searches,
    cast(event_days.clicks as integer) as clicks,
    cast(event_days.favourites as integer) as favourites,
    cast(event_days.carts as integer) as carts,
    cast(event_days.purchases as integer) as purchases,
    cast(event_days.returns as integer) as returns,
    cast(coalesce(order_days.orders, 0) as integer) as orders,
    cast(coalesce(event_days.items, 0) as bigint) as items,
    cast(coalesce(event_days.gross, 0) as decimal(18, 2)) as gross,
    cast(coalesce(event_days.discount, 0) as decimal(18, 2)) as discount,
    cast(coalesce(event_days.returned, 0) as decimal(18, 2)) as returned,
    cast(
        coalesce(event_days.gross, 0)
        - coalesce(event_days.discount, 0)
        - coalesce(event_days.returned, 0)
        as decimal(18, 2)
    ) as spend,
    cast(coalesce(order_days.basket_max, 0) as decimal(18, 2)) as basket_max,
    cast(event_days.offers_sent as integer) as offers_sent,
    cast(event_days.offers_viewed as integer) as offers_viewed,
    cast(event_days.offers_redeemed as integer) as offers_redeemed,
    cast(coalesce(event_days.redemption_cost, 0) as decimal(18, 2)) as redemption_cost,
    cast(coalesce(order_days.orders_block_0, 0) as integer) as orders_block_0,
    cast(coalesce(order_days.orders_block_1, 0) as integer) as orders_block_1,
    cast(coalesce(order_days.orders_block_2, 0) as integer) as orders_block_2,
    cast(coalesce(order_days.orders_block_3, 0) as integer) as orders_block_3,
    cast(coalesce(order_days.orders_block_4, 0) as integer) as orders_block_4,
    cast(coalesce(order_days.orders_block_5, 0) as integer) as orders_block_5,
    cast(coalesce(order_days.orders_app, 0) as integer) as orders_app,
    cast(coalesce(order_days.orders_web, 0) as integer) as orders_web,
    cast(coalesce(order_days.orders_store, 0) as integer) as orders_store,
    cast(
        case when calendar.is_weekend then coalesce(order_days.orders, 0) else 0 end
        as integer
    ) as orders_weekend
from event_days
inner join calendar
    on calendar.day = event_days.event_date
left join order_days
    on order_days.user_id = event_days.user_id
    and order_days.event_date = event_days.event_date
