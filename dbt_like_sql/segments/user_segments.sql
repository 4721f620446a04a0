-- description: The one segment of every known user at the end of a day; the first
--   that applies of dormant, new, one_time, at_risk, deal_seeker, loyal, promising.
--   Propensity (to buy within its horizon) refines at_risk and loyal; before the first
--   model behaviour alone decides. expected_spend_28d is what a user spends in 28 days
--   at the rate of the last 90 (or since first seen, 28 at least), shrunk towards the
--   mean rate with the weight of a week.
-- grain: user_id, as_of_date
-- owner: data-platform
-- lookback: segments.user_segments 1 days
with thresholds as (
    select
        -- One order and none for so long: one_time.
        28 as one_time_days,
        -- Who is likely to buy soon is not at risk, however late.
        0.5 as safe_propensity,
        -- A discount share of so many times everybody's, and so many orders in 90 days.
        1.3 as deal_seeker_ratio,
        3 as deal_seeker_orders,
        -- The two upper quintiles by orders, or the middle one if likely to buy soon.
        4 as loyal_orders,
        4 as loyal_quintile,
        3 as loyal_quintile_if_likely,
        0.7 as likely_propensity,
        7 as prior_days
),

features as (
    select
        user_id,
        as_of_date,
        tenure_days,
        recency_days,
        orders_28d,
        orders_90d,
        orders_life,
        spend_28d,
        spend_90d,
        gross_90d,
        discount_90d,
        -- At least 28: a first order tells little about a rate.
        greatest(28, least(90, tenure_days + 1)) as exposure_days
    from features.user_features
    where as_of_date >= $start and as_of_date < $end
),

profiles as (
    select
        user_id,
        as_of_date,
        lifecycle,
        typical_gap_days,
        frequency_quintile,
        price_sensitivity
    from profiles.user_profiles
    where as_of_date >= $start and as_of_date < $end
),

scores as (
    select user_id, as_of_date, propensity
    from propensity.scores
    where as_of_date >= $start and as_of_date < $end
),

own as (
    -- The day on which it is the day before: an equality, which joins by hash.
    select user_id, cast(as_of_date + interval 1 day as date) as day_after, segment
    from segments.user_segments
    where as_of_date = cast($start - interval 1 day as date)
),

population as (
    select
        as_of_date,
        cast(sum(discount_90d) as double) / nullif(cast(sum(gross_90d) as double), 0)
            as discount_share,
        cast(sum(spend_90d) as double) / nullif(cast(sum(exposure_days) as double), 0)
            as spend_a_day
    from features
    group by as_of_date
),

described as (
    select
        features.*,
        thresholds.*,
        profiles.lifecycle,
        profiles.typical_gap_days,
        profiles.frequency_quintile,
        profiles.price_sensitivity,
        scores.propensity,
        population.discount_share,
        greatest(
            (cast(features.spend_90d as double) + prior_days * population.spend_a_day)
            / nullif(cast(features.exposure_days + prior_days as double), 0) * 28,
            0
        ) as expected_spend,
        coalesce(scores.propensity >= thresholds.likely_propensity, false) as is_likely
    from features
    cross join thresholds
    inner join profiles
        on profiles.user_id = features.user_id
        and profiles.as_of_date = features.as_of_date
    inner join population on population.as_of_date = features.as_of_date
    left join scores
        on scores.user_id = features.user_id
        and scores.as_of_date = features.as_of_date
),

segmented as (
    select
        described.*,
        case
            when lifecycle = 'dormant' then 'dormant'
            when lifecycle = 'new' or orders_life = 0 then 'new'
            when orders_life = 1 and recency_days >= one_time_days then 'one_time'
            when lifecycle = 'at_risk' and coalesce(propensity, 0) < safe_propensity
                then 'at_risk'
            -- Where nobody gets a discount nobody seeks one.
            when orders_90d >= deal_seeker_orders
                and discount_share > 0
                and price_sensitivity >= deal_seeker_ratio * discount_share
                then 'deal_seeker'
            when orders_90d >= loyal_orders
                and (
                    frequency_quintile >= loyal_quintile
                    or (is_likely and frequency_quintile >= loyal_quintile_if_likely)
                )
                then 'loyal'
            else 'promising'
        end as segment
    from described
),

followed as (
    select
        segmented.*,
        coalesce(
            lag(segmented.segment) over (
                partition by segmented.user_id order by segmented.as_of_date
            ),
            own.segment
        ) as previous_segment
    from segmented
    left join own
        on own.user_id = segmented.user_id and own.day_after = segmented.as_of_date
)

select
    user_id,
    as_of_date,
    segment,
    case segment
        when 'dormant' then 'no activity for 90 d or more'
        when 'new'
            then 'first seen ' || cast(tenure_days as varchar) || ' d ago, '
                || cast(orders_life as varchar) || ' orders so far'
        when 'one_time'
            then 'one order, ' || cast(recency_days as varchar) || ' d ago'
        when 'at_risk'
            then 'last order ' || cast(recency_days as varchar)
                || ' d ago > 2 x typical gap of '
                || cast(cast(round(typical_gap_days, 0) as integer) as varchar) || ' d'
        when 'deal_seeker'
            then 'discount share ' || cast(
                cast(round(100 * price_sensitivity, 0) as integer) as varchar
            ) || ' %, everybody ' || cast(
                cast(round(100 * discount_share, 0) as integer) as varchar
            ) || ' %'
        else cast(orders_90d as varchar) || ' orders in 90 d, frequency quintile '
            || cast(frequency_quintile as varchar)
    end as reason,
    previous_segment,
    lifecycle,
    propensity,
    price_sensitivity,
    recency_days,
    orders_28d,
    orders_90d,
    orders_life,
    spend_28d,
    -- By way of cents: engines round a double to a decimal differently.
    cast(
        cast(round(100 * expected_spend, 0) as bigint) * cast(0.01 as decimal(3, 2))
        as decimal(18, 2)
    ) as expected_spend_28d
from followed
