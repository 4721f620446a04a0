-- description: A user's life counters and last dates at the end of every day of the
--   window, carried over days without events, and the gaps between order days.
-- grain: user_id, as_of_date
-- owner: data-platform
-- materialized: ephemeral
with preceded as (
    select
        user_changes.*,
        max(order_date) over earlier as previous_order_date,
        max(redemption_date) over earlier as previous_redemption_date,
        max(offer_date) over until_then as latest_offer_date
    from features.user_changes
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
        sum(deal_searches) over so_far as deal_searches,
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
)

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
inner join core.calendar as calendar
    on calendar.day >= counted.changed_on and calendar.day < counted.changed_until
where calendar.day >= $start and calendar.day < $end
