-- description: A user's counters over trailing windows: what a life counter has
--   more than it had so many days ago.
-- grain: user_id, as_of_date
-- owner: data-platform
-- materialized: ephemeral
-- lookback: features.user_features 90 days
with tiles as (
    select *
    from features.user_daily
    where event_date >= $start and event_date < $end
),

snapshots as (
    select
        user_id,
        as_of_date,
        views_life as views,
        searches_life as searches,
        deal_searches_life as deal_searches,
        clicks_life as clicks,
        carts_life as carts,
        purchases_life as purchases,
        orders_life as orders,
        items_life as items,
        gross_life as gross,
        discount_life as discount,
        spend_life as spend,
        active_days_life as active_days,
        order_days_life as order_days,
        offers_sent_life as offers_sent,
        offers_viewed_life as offers_viewed,
        offers_redeemed_life as offers_redeemed,
        redemption_cost_life as redemption_cost,
        covered_days_life as covered_days
    from features.user_features
    -- Rows inside the window may be stale: only those before it are read.
    where as_of_date >= cast($start - interval 90 day as date) and as_of_date < $start
    union all
    select
        user_id,
        as_of_date,
        views,
        searches,
        deal_searches,
        clicks,
        carts,
        purchases,
        orders,
        items,
        gross,
        discount,
        spend,
        active_days,
        order_days,
        offers_sent,
        offers_viewed,
        offers_redeemed,
        redemption_cost,
        covered_days
    from features.user_life
)

select
    user_life.*,
    coalesce(tiles.views, 0) as views_1d,
    user_life.views - coalesce(day_7.views, 0) as views_7d,
    user_life.views - coalesce(day_28.views, 0) as views_28d,
    user_life.views - coalesce(day_90.views, 0) as views_90d,
    coalesce(tiles.searches, 0) as searches_1d,
    user_life.searches - coalesce(day_7.searches, 0) as searches_7d,
    user_life.searches - coalesce(day_28.searches, 0) as searches_28d,
    user_life.searches - coalesce(day_90.searches, 0) as searches_90d,
    coalesce(tiles.deal_searches, 0) as deal_searches_1d,
    user_life.deal_searches - coalesce(day_7.deal_searches, 0) as deal_searches_7d,
    user_life.deal_searches - coalesce(day_28.deal_searches, 0) as deal_searches_28d,
    user_life.deal_searches - coalesce(day_90.deal_searches, 0) as deal_searches_90d,
    coalesce(tiles.clicks, 0) as clicks_1d,
    user_life.clicks - coalesce(day_7.clicks, 0) as clicks_7d,
    user_life.clicks - coalesce(day_28.clicks, 0) as clicks_28d,
    user_life.clicks - coalesce(day_90.clicks, 0) as clicks_90d,
    coalesce(tiles.carts, 0) as carts_1d,
    user_life.carts - coalesce(day_7.carts, 0) as carts_7d,
    user_life.carts - coalesce(day_28.carts, 0) as carts_28d,
    user_life.carts - coalesce(day_90.carts, 0) as carts_90d,
    coalesce(tiles.purchases, 0) as purchases_1d,
    user_life.purchases - coalesce(day_7.purchases, 0) as purchases_7d,
    user_life.purchases - coalesce(day_28.purchases, 0) as purchases_28d,
    user_life.purchases - coalesce(day_90.purchases, 0) as purchases_90d,
    coalesce(tiles.orders, 0) as orders_1d,
    user_life.orders - coalesce(day_7.orders, 0) as orders_7d,
    user_life.orders - coalesce(day_28.orders, 0) as orders_28d,
    user_life.orders - coalesce(day_90.orders, 0) as orders_90d,
    coalesce(tiles.items, 0) as items_1d,
    user_life.items - coalesce(day_7.items, 0) as items_7d,
    user_life.items - coalesce(day_28.items, 0) as items_28d,
    user_life.items - coalesce(day_90.items, 0) as items_90d,
    coalesce(tiles.gross, 0) as gross_1d,
    user_life.gross - coalesce(day_7.gross, 0) as gross_7d,
    user_life.gross - coalesce(day_28.gross, 0) as gross_28d,
    user_life.gross - coalesce(day_90.gross, 0) as gross_90d,
    coalesce(tiles.discount, 0) as discount_1d,
    user_life.discount - coalesce(day_7.discount, 0) as discount_7d,
    user_life.discount - coalesce(day_28.discount, 0) as discount_28d,
    user_life.discount - coalesce(day_90.discount, 0) as discount_90d,
    coalesce(tiles.spend, 0) as spend_1d,
    user_life.spend - coalesce(day_7.spend, 0) as spend_7d,
    user_life.spend - coalesce(day_28.spend, 0) as spend_28d,
    user_life.spend - coalesce(day_90.spend, 0) as spend_90d,
    case when tiles.actions > 0 then 1 else 0 end as active_days_1d,
    user_life.active_days - coalesce(day_7.active_days, 0) as active_days_7d,
    user_life.active_days - coalesce(day_28.active_days, 0) as active_days_28d,
    user_life.active_days - coalesce(day_90.active_days, 0) as active_days_90d,
    case when tiles.orders > 0 then 1 else 0 end as order_days_1d,
    user_life.order_days - coalesce(day_7.order_days, 0) as order_days_7d,
    user_life.order_days - coalesce(day_28.order_days, 0) as order_days_28d,
    user_life.order_days - coalesce(day_90.order_days, 0) as order_days_90d,
    coalesce(tiles.offers_sent, 0) as offers_sent_1d,
    user_life.offers_sent - coalesce(day_7.offers_sent, 0) as offers_sent_7d,
    user_life.offers_sent - coalesce(day_28.offers_sent, 0) as offers_sent_28d,
    user_life.offers_sent - coalesce(day_90.offers_sent, 0) as offers_sent_90d,
    coalesce(tiles.offers_viewed, 0) as offers_viewed_1d,
    user_life.offers_viewed - coalesce(day_7.offers_viewed, 0) as offers_viewed_7d,
    user_life.offers_viewed - coalesce(day_28.offers_viewed, 0) as offers_viewed_28d,
    user_life.offers_viewed - coalesce(day_90.offers_viewed, 0) as offers_viewed_90d,
    coalesce(tiles.offers_redeemed, 0) as offers_redeemed_1d,
    user_life.offers_redeemed - coalesce(day_7.offers_redeemed, 0)
        as offers_redeemed_7d,
    user_life.offers_redeemed - coalesce(day_28.offers_redeemed, 0)
        as offers_redeemed_28d,
    user_life.offers_redeemed - coalesce(day_90.offers_redeemed, 0)
        as offers_redeemed_90d,
    coalesce(tiles.redemption_cost, 0) as redemption_cost_1d,
    user_life.redemption_cost - coalesce(day_7.redemption_cost, 0)
        as redemption_cost_7d,
    user_life.redemption_cost - coalesce(day_28.redemption_cost, 0)
        as redemption_cost_28d,
    user_life.redemption_cost - coalesce(day_90.redemption_cost, 0)
        as redemption_cost_90d,
    user_life.covered_days - coalesce(day_90.covered_days, 0) as covered_days_90d,
    date_diff('day', user_life.last_active_date, user_life.as_of_date) as days_since_active,
    date_diff('day', user_life.first_event_date, user_life.as_of_date) as tenure_days
from features.user_life as user_life
left join tiles
    on tiles.user_id = user_life.user_id and tiles.event_date = user_life.as_of_date
left join snapshots as day_7
    on day_7.user_id = user_life.user_id
    and day_7.as_of_date = cast(user_life.as_of_date - interval 7 day as date)
    and day_7.as_of_date >= cast($start - interval 7 day as date)
    and day_7.as_of_date < cast($end - interval 7 day as date)
left join snapshots as day_28
    on day_28.user_id = user_life.user_id
    and day_28.as_of_date = cast(user_life.as_of_date - interval 28 day as date)
    and day_28.as_of_date >= cast($start - interval 28 day as date)
    and day_28.as_of_date < cast($end - interval 28 day as date)
left join snapshots as day_90
    on day_90.user_id = user_life.user_id
    and day_90.as_of_date = cast(user_life.as_of_date - interval 90 day as date)
    and day_90.as_of_date >= cast($start - interval 90 day as date)
    and day_90.as_of_date < cast($end - interval 90 day as date)
