-- description: What is known of a user at the end of a day, one row for every user
--   since the first event. Life counters are carried forward from the day before; a
--   trailing window is the difference of two life counters, of w days up to
--   as_of_date. So a day costs the same however long the history is, and a range
--   equals its days one by one. Shares and means are null where there is nothing to
--   divide by.
-- grain: user_id, as_of_date
-- owner: data-platform
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
    cast(deal_searches_1d as integer) as deal_searches_1d,
    cast(deal_searches_7d as integer) as deal_searches_7d,
    cast(deal_searches_28d as integer) as deal_searches_28d,
    cast(deal_searches_90d as integer) as deal_searches_90d,
    cast(deal_searches as integer) as deal_searches_life,
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
from features.user_windows
