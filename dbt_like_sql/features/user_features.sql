-- description: What is known of a user at the end of a day, one row for every user
--   since the first event. Life counters are carried forward from the day before; a
--   trailing window is the difference of two life counters, of w days up to
--   as_of_date. So a day costs the same however long the history is, and a range
--   equals its days one by one. Shares and means are null where there is nothing to
--   divide by.
-- grain: user_id, as_of_date
-- owner: data-platform
-- lookback: features.user_features 90 days
with tiles as (
    select * from features.user_daily where event_date >= $start and event_date < $end
),

own as (
    -- Rows inside the window may be stale: only those before it are read.
    select *
    from features.user_features
    where as_of_date >= cast($start - interval 90 day as date) and as_of_date < $start
),

calendar as (
    select day from core.calendar where day >= $start and day < $end
),

changes as (
    select
        user_id,
        as_of_date as changed_on,
        false as is_tile,
        first_event_date,
        first_order_date,
        last_order_date as order_date,
        last_active_date as active_date,
        last_offer_date as offer_date,
        last_redemption_date as redemption_date,
        views_life as views,
        searches_life as searches,
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
        returns_life as returns,
        orders_weekend_life as orders_weekend,
        orders_block_0_life as orders_block_0,
        orders_block_1_life as orders_block_1,
        orders_block_2_life as orders_block_2,
        orders_block_3_life as orders_block_3,
        orders_block_4_life as orders_block_4,
        orders_block_5_life as orders_block_5,
        orders_app_life as orders_app,
        orders_web_life as orders_web,
        orders_store_life as orders_store,
        gap_count,
        gap_sum_days,
        gap_sumsq_days,
        gap_capped_sum_days,
        gaps_within_7d,
        gaps_within_14d,
        gaps_within_21d,
        gaps_within_28d,
        offer_days,
        offer_days_answered,
        basket_max_life as basket_max
    from own
    where as_of_date = cast($start - interval 1 day as date)
    union all
    select
        user_id,
        event_date as changed_on,
        true as is_tile,
        event_date as first_event_date,
        case when orders > 0 then event_date end as first_order_date,
        case when orders > 0 then event_date end as order_date,
        case when actions > 0 then event_date end as active_date,
        case when offers_sent > 0 then event_date end as offer_date,
        case when offers_redeemed > 0 then event_date end as redemption_date,
        views,
        searches,
        clicks,
        carts,
        purchases,
        orders,
        items,
        gross,
        discount,
        spend,
        case when actions > 0 then 1 else 0 end as active_days,
        case when orders > 0 then 1 else 0 end as order_days,
        offers_sent,
        offers_viewed,
        offers_redeemed,
        redemption_cost,
        returns,
        orders_weekend,
        orders_block_0,
        orders_block_1,
        orders_block_2,
        orders_block_3,
        orders_block_4,
        orders_block_5,
        orders_app,
        orders_web,
        orders_store,
        0 as gap_count,
        0 as gap_sum_days,
        0 as gap_sumsq_days,
        0 as gap_capped_sum_days,
        0 as gaps_within_7d,
        0 as gaps_within_14d,
        0 as gaps_within_21d,
        0 as gaps_within_28d,
        0 as offer_days,
        0 as offer_days_answered,
        basket_max
    from tiles
),

preceded as (
    select
        changes.*,
        max(order_date) over earlier as previous_order_date,
        max(redemption_date) over earlier as previous_redemption_date,
        max(offer_date) over until_then as latest_offer_date
    from changes
    window
        earlier as (
            partition by user_id order by changed_on
            rows between unbounded preceding and 1 preceding
        ),
        until_then as (
            partition by user_id order by changed_on
            rows between unbounded preceding and current row
        )
),

gaps as (
    select
        preceded.*,
        case
            when is_tile then date_diff('day', previous_order_date, order_date)
        end as gap_days,
        case
            when is_tile
                and redemption_date >= latest_offer_date
                and (
                    previous_redemption_date is null
                    or previous_redemption_date < latest_offer_date
                )
                then 1
            else 0
        end as is_answer
    from preceded
),

counted as (
    select
        user_id,
        changed_on,
        coalesce(lead(changed_on) over ahead, $end) as changed_until,
        min(first_event_date) over so_far as first_event_date,
        min(first_order_date) over so_far as first_order_date,
        max(order_date) over so_far as last_order_date,
        max(active_date) over so_far as last_active_date,
        max(offer_date) over so_far as last_offer_date,
        max(redemption_date) over so_far as last_redemption_date,
        max(basket_max) over so_far as basket_max,
        sum(views) over so_far as views,
        sum(searches) over so_far as searches,
        sum(clicks) over so_far as clicks,
        sum(carts) over so_far as carts,
        sum(purchases) over so_far as purchases,
        sum(orders) over so_far as orders,
        sum(items) over so_far as items,
        sum(gross) over so_far as gross,
        sum(discount) over so_far as discount,
        sum(spend) over so_far as spend,
        sum(active_days) over so_far as active_days,
        sum(order_days) over so_far as order_days,
        sum(offers_sent) over so_far as offers_sent,
        sum(offers_viewed) over so_far as offers_viewed,
        sum(offers_redeemed) over so_far as offers_redeemed,
        sum(redemption_cost) over so_far as redemption_cost,
        sum(returns) over so_far as returns,
        sum(orders_weekend) over so_far as orders_weekend,
        sum(orders_block_0) over so_far as orders_block_0,
        sum(orders_block_1) over so_far as orders_block_1,
        sum(orders_block_2) over so_far as orders_block_2,
        sum(orders_block_3) over so_far as orders_block_3,
        sum(orders_block_4) over so_far as orders_block_4,
        sum(orders_block_5) over so_far as orders_block_5,
        sum(orders_app) over so_far as orders_app,
        sum(orders_web) over so_far as orders_web,
        sum(orders_store) over so_far as orders_store,
        sum(gap_count + case when gap_days is null then 0 else 1 end) over so_far
            as gap_count,
        sum(gap_sum_days + coalesce(gap_days, 0)) over so_far as gap_sum_days,
        sum(gap_sumsq_days + coalesce(gap_days * gap_days, 0)) over so_far
            as gap_sumsq_days,
        sum(
            gap_capped_sum_days
            + case when gap_days > 7 then 7 else coalesce(gap_days, 0) end
        ) over so_far as gap_capped_sum_days,
        sum(gaps_within_7d + case when gap_days <= 7 then 1 else 0 end) over so_far
            as gaps_within_7d,
        sum(gaps_within_14d + case when gap_days <= 14 then 1 else 0 end) over so_far
            as gaps_within_14d,
        sum(gaps_within_21d + case when gap_days <= 21 then 1 else 0 end) over so_far
            as gaps_within_21d,
        sum(gaps_within_28d + case when gap_days <= 28 then 1 else 0 end) over so_far
            as gaps_within_28d,
        sum(offer_days + case when is_tile and offer_date is not null then 1 else 0 end)
            over so_far as offer_days,
        sum(offer_days_answered + is_answer) over so_far as offer_days_answered
    from gaps
    window
        so_far as (
            partition by user_id order by changed_on
            rows between unbounded preceding and current row
        ),
        ahead as (partition by user_id order by changed_on)
),

daily as (
    select
        counted.*,
        calendar.day as as_of_date,
        date_diff('day', counted.last_order_date, calendar.day) as recency_days,
        -- Days on which there was an order in the seven days up to it.
        counted.gap_capped_sum_days + case
            when counted.last_order_date is null then 0
            else least(date_diff('day', counted.last_order_date, calendar.day) + 1, 7)
        end as covered_days
    from counted
    inner join calendar
        on calendar.day >= counted.changed_on and calendar.day < counted.changed_until
),

snapshots as (
    select
        user_id,
        as_of_date,
        views_life as views,
        searches_life as searches,
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
    from own
    union all
    select
        user_id,
        as_of_date,
        views,
        searches,
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
    from daily
),

differences as (
    select
        daily.*,
        coalesce(tiles.views, 0) as views_1d,
        daily.views - coalesce(day_7.views, 0) as views_7d,
        daily.views - coalesce(day_28.views, 0) as views_28d,
        daily.views - coalesce(day_90.views, 0) as views_90d,
        coalesce(tiles.searches, 0) as searches_1d,
        daily.searches - coalesce(day_7.searches, 0) as searches_7d,
        daily.searches - coalesce(day_28.searches, 0) as searches_28d,
        daily.searches - coalesce(day_90.searches, 0) as searches_90d,
        coalesce(tiles.clicks, 0) as clicks_1d,
        daily.clicks - coalesce(day_7.clicks, 0) as clicks_7d,
        daily.clicks - coalesce(day_28.clicks, 0) as clicks_28d,
        daily.clicks - coalesce(day_90.clicks, 0) as clicks_90d,
        coalesce(tiles.carts, 0) as carts_1d,
        daily.carts - coalesce(day_7.carts, 0) as carts_7d,
        daily.carts - coalesce(day_28.carts, 0) as carts_28d,
        daily.carts - coalesce(day_90.carts, 0) as carts_90d,
        coalesce(tiles.purchases, 0) as purchases_1d,
        daily.purchases - coalesce(day_7.purchases, 0) as purchases_7d,
        daily.purchases - coalesce(day_28.purchases, 0) as purchases_28d,
        daily.purchases - coalesce(day_90.purchases, 0) as purchases_90d,
        coalesce(tiles.orders, 0) as orders_1d,
        daily.orders - coalesce(day_7.orders, 0) as orders_7d,
        daily.orders - coalesce(day_28.orders, 0) as orders_28d,
        daily.orders - coalesce(day_90.orders, 0) as orders_90d,
        coalesce(tiles.items, 0) as items_1d,
        daily.items - coalesce(day_7.items, 0) as items_7d,
        daily.items - coalesce(day_28.items, 0) as items_28d,
        daily.items - coalesce(day_90.items, 0) as items_90d,
        coalesce(tiles.gross, 0) as gross_1d,
        daily.gross - coalesce(day_7.gross, 0) as gross_7d,
        daily.gross - coalesce(day_28.gross, 0) as gross_28d,
        daily.gross - coalesce(day_90.gross, 0) as gross_90d,
        coalesce(tiles.discount, 0) as discount_1d,
        daily.discount - coalesce(day_7.discount, 0) as discount_7d,
        daily.discount - coalesce(day_28.discount, 0) as discount_28d,
        daily.discount - coalesce(day_90.discount, 0) as discount_90d,
        coalesce(tiles.spend, 0) as spend_1d,
        daily.spend - coalesce(day_7.spend, 0) as spend_7d,
        daily.spend - coalesce(day_28.spend, 0) as spend_28d,
        daily.spend - coalesce(day_90.spend, 0) as spend_90d,
        case when tiles.actions > 0 then 1 else 0 end as active_days_1d,
        daily.active_days - coalesce(day_7.active_days, 0) as active_days_7d,
        daily.active_days - coalesce(day_28.active_days, 0) as active_days_28d,
        daily.active_days - coalesce(day_90.active_days, 0) as active_days_90d,
        case when tiles.orders > 0 then 1 else 0 end as order_days_1d,
        daily.order_days - coalesce(day_7.order_days, 0) as order_days_7d,
        daily.order_days - coalesce(day_28.order_days, 0) as order_days_28d,
        daily.order_days - coalesce(day_90.order_days, 0) as order_days_90d,
        coalesce(tiles.offers_sent, 0) as offers_sent_1d,
        daily.offers_sent - coalesce(day_7.offers_sent, 0) as offers_sent_7d,
        daily.offers_sent - coalesce(day_28.offers_sent, 0) as offers_sent_28d,
        daily.offers_sent - coalesce(day_90.offers_sent, 0) as offers_sent_90d,
        coalesce(tiles.offers_viewed, 0) as offers_viewed_1d,
        daily.offers_viewed - coalesce(day_7.offers_viewed, 0) as offers_viewed_7d,
        daily.offers_viewed - coalesce(day_28.offers_viewed, 0) as offers_viewed_28d,
        daily.offers_viewed - coalesce(day_90.offers_viewed, 0) as offers_viewed_90d,
        coalesce(tiles.offers_redeemed, 0) as offers_redeemed_1d,
        daily.offers_redeemed - coalesce(day_7.offers_redeemed, 0)
            as offers_redeemed_7d,
        daily.offers_redeemed - coalesce(day_28.offers_redeemed, 0)
            as offers_redeemed_28d,
        daily.offers_redeemed - coalesce(day_90.offers_redeemed, 0)
            as offers_redeemed_90d,
        coalesce(tiles.redemption_cost, 0) as redemption_cost_1d,
        daily.redemption_cost - coalesce(day_7.redemption_cost, 0)
            as redemption_cost_7d,
        daily.redemption_cost - coalesce(day_28.redemption_cost, 0)
            as redemption_cost_28d,
        daily.redemption_cost - coalesce(day_90.redemption_cost, 0)
            as redemption_cost_90d,
        daily.covered_days - coalesce(day_90.covered_days, 0) as covered_days_90d,
        date_diff('day', daily.last_active_date, daily.as_of_date) as days_since_active,
        date_diff('day', daily.first_event_date, daily.as_of_date) as tenure_days
    from daily
    left join tiles
        on tiles.user_id = daily.user_id and tiles.event_date = daily.as_of_date
    left join snapshots as day_7
        on day_7.user_id = daily.user_id
        and day_7.as_of_date = cast(daily.as_of_date - interval 7 day as date)
    left join snapshots as day_28
        on day_28.user_id = daily.user_id
        and day_28.as_of_date = cast(daily.as_of_date - interval 28 day as date)
    left join snapshots as day_90
        on day_90.user_id = daily.user_id
        and day_90.as_of_date = cast(daily.as_of_date - interval 90 day as date)
)

select
    user_id,
    as_of_date,
    cast(views_1d as integer) as views_1d,
    cast(views_7d as integer) as views_7d,
    cast(views_28d as integer) as views_28d,
    cast(views_90d as integer) as views_90d,
    cast(views as integer) as views_life,
    cast(searches_1d as integer) as searches_1d,
    cast(searches_7d as integer) as searches_7d,
    cast(searches_28d as integer) as searches_28d,
    cast(searches_90d as integer) as searches_90d,
    cast(searches as integer) as searches_life,
    cast(clicks_1d as integer) as clicks_1d,
    cast(clicks_7d as integer) as clicks_7d,
    cast(clicks_28d as integer) as clicks_28d,
    cast(clicks_90d as integer) as clicks_90d,
    cast(clicks as integer) as clicks_life,
    cast(carts_1d as integer) as carts_1d,
    cast(carts_7d as integer) as carts_7d,
    cast(carts_28d as integer) as carts_28d,
    cast(carts_90d as integer) as carts_90d,
    cast(carts as integer) as carts_life,
    cast(purchases_1d as integer) as purchases_1d,
    cast(purchases_7d as integer) as purchases_7d,
    cast(purchases_28d as integer) as purchases_28d,
    cast(purchases_90d as integer) as purchases_90d,
    cast(purchases as integer) as purchases_life,
    cast(orders_1d as integer) as orders_1d,
    cast(orders_7d as integer) as orders_7d,
    cast(orders_28d as integer) as orders_28d,
    cast(orders_90d as integer) as orders_90d,
    cast(orders as integer) as orders_life,
    cast(items_1d as bigint) as items_1d,
    cast(items_7d as bigint) as items_7d,
    cast(items_28d as bigint) as items_28d,
    cast(items_90d as bigint) as items_90d,
    cast(items as bigint) as items_life,
    cast(gross_1d as decimal(18, 2)) as gross_1d,
    cast(gross_7d as decimal(18, 2)) as gross_7d,
    cast(gross_28d as decimal(18, 2)) as gross_28d,
    cast(gross_90d as decimal(18, 2)) as gross_90d,
    cast(gross as decimal(18, 2)) as gross_life,
    cast(discount_1d as decimal(18, 2)) as discount_1d,
    cast(discount_7d as decimal(18, 2)) as discount_7d,
    cast(discount_28d as decimal(18, 2)) as discount_28d,
    cast(discount_90d as decimal(18, 2)) as discount_90d,
    cast(discount as decimal(18, 2)) as discount_life,
    cast(spend_1d as decimal(18, 2)) as spend_1d,
    cast(spend_7d as decimal(18, 2)) as spend_7d,
    cast(spend_28d as decimal(18, 2)) as spend_28d,
    cast(spend_90d as decimal(18, 2)) as spend_90d,
    cast(spend as decimal(18, 2)) as spend_life,
    cast(active_days_1d as integer) as active_days_1d,
    cast(active_days_7d as integer) as active_days_7d,
    cast(active_days_28d as integer) as active_days_28d,
    cast(active_days_90d as integer) as active_days_90d,
    cast(active_days as integer) as active_days_life,
    cast(order_days_1d as integer) as order_days_1d,
    cast(order_days_7d as integer) as order_days_7d,
    cast(order_days_28d as integer) as order_days_28d,
    cast(order_days_90d as integer) as order_days_90d,
    cast(order_days as integer) as order_days_life,
    cast(offers_sent_1d as integer) as offers_sent_1d,
    cast(offers_sent_7d as integer) as offers_sent_7d,
    cast(offers_sent_28d as integer) as offers_sent_28d,
    cast(offers_sent_90d as integer) as offers_sent_90d,
    cast(offers_sent as integer) as offers_sent_life,
    cast(offers_viewed_1d as integer) as offers_viewed_1d,
    cast(offers_viewed_7d as integer) as offers_viewed_7d,
    cast(offers_viewed_28d as integer) as offers_viewed_28d,
    cast(offers_viewed_90d as integer) as offers_viewed_90d,
    cast(offers_viewed as integer) as offers_viewed_life,
    cast(offers_redeemed_1d as integer) as offers_redeemed_1d,
    cast(offers_redeemed_7d as integer) as offers_redeemed_7d,
    cast(offers_redeemed_28d as integer) as offers_redeemed_28d,
    cast(offers_redeemed_90d as integer) as offers_redeemed_90d,
    cast(offers_redeemed as integer) as offers_redeemed_life,
    cast(redemption_cost_1d as decimal(18, 2)) as redemption_cost_1d,
    cast(redemption_cost_7d as decimal(18, 2)) as redemption_cost_7d,
    cast(redemption_cost_28d as decimal(18, 2)) as redemption_cost_28d,
    cast(redemption_cost_90d as decimal(18, 2)) as redemption_cost_90d,
    cast(redemption_cost as decimal(18, 2)) as redemption_cost_life,
    cast(returns as integer) as returns_life,
    cast(orders_weekend as integer) as orders_weekend_life,
    cast(orders_block_0 as integer) as orders_block_0_life,
    cast(orders_block_1 as integer) as orders_block_1_life,
    cast(orders_block_2 as integer) as orders_block_2_life,
    cast(orders_block_3 as integer) as orders_block_3_life,
    cast(orders_block_4 as integer) as orders_block_4_life,
    cast(orders_block_5 as integer) as orders_block_5_life,
    cast(orders_app as integer) as orders_app_life,
    cast(orders_web as integer) as orders_web_life,
    cast(orders_store as integer) as orders_store_life,
    cast(basket_max as decimal(18, 2)) as basket_max_life,
    cast(gap_count as integer) as gap_count,
    cast(gap_sum_days as integer) as gap_sum_days,
    cast(gap_sumsq_days as bigint) as gap_sumsq_days,
    cast(gap_capped_sum_days as integer) as gap_capped_sum_days,
    cast(gaps_within_7d as integer) as gaps_within_7d,
    cast(gaps_within_14d as integer) as gaps_within_14d,
    cast(gaps_within_21d as integer) as gaps_within_21d,
    cast(gaps_within_28d as integer) as gaps_within_28d,
    cast(offer_days as integer) as offer_days,
    cast(offer_days_answered as integer) as offer_days_answered,
    cast(covered_days as integer) as covered_days_life,
    first_event_date,
    first_order_date,
    last_order_date,
    last_active_date,
    last_offer_date,
    last_redemption_date,
    cast(recency_days as integer) as recency_days,
    cast(days_since_active as integer) as days_since_active,
    cast(tenure_days as integer) as tenure_days,
    cast(discount_28d as double) / nullif(cast(gross_28d as double), 0)
        as discount_share_28d,
    cast(discount_90d as double) / nullif(cast(gross_90d as double), 0)
        as discount_share_90d,
    cast(discount as double) / nullif(cast(gross as double), 0) as discount_share_life,
    cast(orders_28d as double) / nullif(cast(active_days_28d as double), 0)
        as orders_per_active_day_28d,
    cast(orders_90d as double) / nullif(cast(active_days_90d as double), 0)
        as orders_per_active_day_90d,
    cast(orders as double) / nullif(cast(active_days as double), 0)
        as orders_per_active_day_life,
    cast(orders_28d as double) / nullif(cast(views_28d as double), 0)
        as orders_per_view_28d,
    cast(orders_90d as double) / nullif(cast(views_90d as double), 0)
        as orders_per_view_90d,
    cast(orders as double) / nullif(cast(views as double), 0) as orders_per_view_life,
    cast(gross_90d - discount_90d as double) / nullif(cast(orders_90d as double), 0)
        as avg_order_value_90d,
    cast(gross - discount as double) / nullif(cast(orders as double), 0)
        as avg_order_value_life,
    cast(gaps_within_28d as double) / nullif(
        cast(gap_count + case when recency_days >= 28 then 1 else 0 end as double), 0
    ) as repurchase_rate,
    cast(gap_sum_days as double) / nullif(cast(gap_count as double), 0)
        as gap_mean_days,
    sqrt(
        cast(gap_count * gap_sumsq_days - gap_sum_days * gap_sum_days as double)
        / nullif(cast(gap_count * (gap_count - 1) as double), 0)
    ) as gap_sd_days,
    cast(
        case
            when recency_days < 7 then gaps_within_7d
            when recency_days < 14 then gaps_within_14d - gaps_within_7d
            when recency_days < 21 then gaps_within_21d - gaps_within_14d
            when recency_days < 28 then gaps_within_28d - gaps_within_21d
        end + 0.7 as double
    ) / nullif(cast(
        case
            when recency_days < 7 then gap_count
            when recency_days < 14 then gap_count - gaps_within_7d
            when recency_days < 21 then gap_count - gaps_within_14d
            when recency_days < 28 then gap_count - gaps_within_21d
        end + 1 as double
    ), 0) as return_hazard_7d,
    cast(covered_days_90d as double)
        / nullif(cast(least(90, tenure_days + 1) as double), 0) as order_cover_90d,
    cast(covered_days as double) / nullif(cast(tenure_days + 1 as double), 0)
        as order_cover_life,
    cast(recency_days * gap_count as double) / nullif(cast(gap_sum_days as double), 0)
        as recency_over_gap,
    cast(offer_days_answered as double) / nullif(cast(offer_days as double), 0)
        as response_rate,
    cast(orders_weekend as double) / nullif(cast(orders as double), 0)
        as weekend_order_share,
    cast(orders_block_0 as double) / nullif(cast(orders as double), 0)
        as order_share_block_0,
    cast(orders_block_1 as double) / nullif(cast(orders as double), 0)
        as order_share_block_1,
    cast(orders_block_2 as double) / nullif(cast(orders as double), 0)
        as order_share_block_2,
    cast(orders_block_3 as double) / nullif(cast(orders as double), 0)
        as order_share_block_3,
    cast(orders_block_4 as double) / nullif(cast(orders as double), 0)
        as order_share_block_4,
    cast(orders_block_5 as double) / nullif(cast(orders as double), 0)
        as order_share_block_5,
    cast(4 * orders_7d as double) / nullif(cast(orders_28d as double), 0)
        as orders_trend_7d,
    cast(90 * orders_28d as double) / nullif(cast(28 * orders_90d as double), 0)
        as orders_trend_28d
from differences
