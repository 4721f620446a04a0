-- description: Who a user is at the end of a day, one row for every known user: RFM
--   quintiles among those who ever ordered (5 best; equal users share a quintile),
--   lifecycle, price sensitivity, interests of the last 90 days and habits.
-- grain: user_id, as_of_date
-- owner: data-platform
-- lookback: profiles.user_interests 90 days
with thresholds as (
    select
        28 as new_days,
        2 as new_orders,
        90 as dormant_days,
        2 as at_risk_gaps,
        14 as at_risk_days,
        -- A user's own gap is shrunk towards 28 days with the weight of two gaps.
        28 as prior_gap_days,
        2 as prior_gaps,
        -- A user's discount share is shrunk towards everybody's with three orders.
        3 as prior_orders
),

features as (
    select *
    from features.user_features
    where as_of_date >= $start and as_of_date < $end
),

calendar as (
    select day from core.calendar where day >= $start and day < $end
),

interests as (
    select
        user_id,
        as_of_date as renewed_on,
        max(case when kind = 'category' and strength_rank = 1 then value end)
            as category_1,
        max(case when kind = 'category' and strength_rank = 2 then value end)
            as category_2,
        max(case when kind = 'category' and strength_rank = 3 then value end)
            as category_3,
        max(case when kind = 'brand' and strength_rank = 1 then value end) as brand,
        max(case when kind = 'price_band' and strength_rank = 1 then value end)
            as price_band
    from profiles.user_interests
    where as_of_date >= cast($start - interval 90 day as date) and as_of_date < $end
    group by user_id, as_of_date
),

interest_spans as (
    select
        interests.*,
        coalesce(
            lead(renewed_on) over (partition by user_id order by renewed_on), $end
        ) as renewed_again_on
    from interests
),

daily_interests as (
    select
        interest_spans.user_id,
        calendar.day as as_of_date,
        interest_spans.category_1,
        interest_spans.category_2,
        interest_spans.category_3,
        interest_spans.brand,
        interest_spans.price_band
    from interest_spans
    inner join calendar
        on calendar.day >= interest_spans.renewed_on
        and calendar.day < interest_spans.renewed_again_on
    where calendar.day <= cast(interest_spans.renewed_on + interval 90 day as date)
),

ranks as (
    select
        user_id,
        as_of_date,
        count(*) over (partition by as_of_date) as buyers,
        rank() over (partition by as_of_date order by recency_days desc)
            as recency_rank,
        rank() over (partition by as_of_date order by orders_90d) as frequency_rank,
        rank() over (partition by as_of_date order by spend_90d) as monetary_rank
    from features
    where orders_life > 0
),

positions as (
    -- 5 x percent_rank, from integers so that a quintile's edge is exact.
    select
        user_id,
        as_of_date,
        cast(5 * (recency_rank - 1) as double)
            / coalesce(nullif(cast(buyers - 1 as double), 0), 1) as recency_position,
        cast(5 * (frequency_rank - 1) as double)
            / coalesce(nullif(cast(buyers - 1 as double), 0), 1) as frequency_position,
        cast(5 * (monetary_rank - 1) as double)
            / coalesce(nullif(cast(buyers - 1 as double), 0), 1) as monetary_position
    from ranks
),

quintiles as (
    select
        user_id,
        as_of_date,
        cast(least(5, 1 + floor(recency_position)) as integer) as recency_quintile,
        cast(least(5, 1 + floor(frequency_position)) as integer) as frequency_quintile,
        cast(least(5, 1 + floor(monetary_position)) as integer) as monetary_quintile
    from positions
),

population as (
    select
        as_of_date,
        cast(sum(gross_90d) as double) as gross,
        cast(sum(discount_90d) as double) as discount,
        cast(sum(orders_90d) as double) as orders
    from features
    group by as_of_date
),

described as (
    select
        features.*,
        thresholds.*,
        cast(gap_sum_days + prior_gaps * prior_gap_days as double)
            / nullif(cast(gap_count + prior_gaps as double), 0) as typical_gap_days,
        prior_orders * population.gross / nullif(population.orders, 0) as prior_gross,
        population.discount / nullif(population.gross, 0) as prior_share,
        greatest(
            orders_block_0_life,
            orders_block_1_life,
            orders_block_2_life,
            orders_block_3_life,
            orders_block_4_life,
            orders_block_5_life
        ) as most_orders_in_block,
        greatest(
            orders_app_life,
            orders_web_life,
            orders_store_life,
            orders_life - orders_app_life - orders_web_life - orders_store_life
        ) as most_orders_in_channel
    from features
    cross join thresholds
    inner join population on population.as_of_date = features.as_of_date
)

select
    described.user_id,
    described.as_of_date,
    quintiles.recency_quintile,
    quintiles.frequency_quintile,
    quintiles.monetary_quintile,
    cast(quintiles.recency_quintile as varchar)
        || '-' || cast(quintiles.frequency_quintile as varchar)
        || '-' || cast(quintiles.monetary_quintile as varchar) as rfm,
    case
        when coalesce(days_since_active, tenure_days) >= dormant_days then 'dormant'
        when tenure_days < new_days and orders_life <= new_orders then 'new'
        when recency_days > at_risk_gaps * typical_gap_days
            and recency_days > at_risk_days
            then 'at_risk'
        else 'active'
    end as lifecycle,
    described.typical_gap_days,
    (cast(discount_90d as double) + prior_share * prior_gross)
        / nullif(cast(gross_90d as double) + prior_gross, 0) as price_sensitivity,
    daily_interests.category_1 as top_category_1,
    daily_interests.category_2 as top_category_2,
    daily_interests.category_3 as top_category_3,
    daily_interests.brand as top_brand,
    daily_interests.price_band as top_price_band,
    case
        when orders_life = 0 then null
        when orders_app_life = most_orders_in_channel then 'app'
        when orders_web_life = most_orders_in_channel then 'web'
        when orders_store_life = most_orders_in_channel then 'store'
        else 'other'
    end as preferred_channel,
    case
        when orders_life = 0 then null
        when orders_block_0_life = most_orders_in_block then '00-04 UTC'
        when orders_block_1_life = most_orders_in_block then '04-08 UTC'
        when orders_block_2_life = most_orders_in_block then '08-12 UTC'
        when orders_block_3_life = most_orders_in_block then '12-16 UTC'
        when orders_block_4_life = most_orders_in_block then '16-20 UTC'
        else '20-24 UTC'
    end as preferred_hours,
    case
        when orders_life = 0 then null
        when 7 * orders_weekend_life > 2 * orders_life then 'weekend'
        else 'weekday'
    end as preferred_weekpart
from described
left join quintiles
    on quintiles.user_id = described.user_id
    and quintiles.as_of_date = described.as_of_date
left join daily_interests
    on daily_interests.user_id = described.user_id
    and daily_interests.as_of_date = described.as_of_date
