-- description: Every segment at the end of a day, all seven also when empty: its
--   users, what they bought in the last 28 days and are expected to in the next, and
--   how many came, went and stayed since the day before.
-- grain: as_of_date, segment
-- owner: data-platform
with calendar as (
    select day from core.calendar where day >= $start and day < $end
),

users as (
    select
        user_id,
        as_of_date,
        segment,
        previous_segment,
        propensity,
        spend_28d,
        orders_28d,
        expected_spend_28d
    from segments.user_segments
    where as_of_date >= $start and as_of_date < $end
),

names as (
    select 'new' as segment
    union all
    select 'loyal' as segment
    union all
    select 'promising' as segment
    union all
    select 'deal_seeker' as segment
    union all
    select 'at_risk' as segment
    union all
    select 'one_time' as segment
    union all
    select 'dormant' as segment
),

days as (
    select as_of_date, count(*) as users from users group by as_of_date
),

members as (
    select
        as_of_date,
        segment,
        count(*) as users,
        sum(spend_28d) as spend_28d,
        sum(orders_28d) as orders_28d,
        sum(expected_spend_28d) as expected_spend_28d,
        count(propensity) as scored_users,
        -- As decimals: a sum of doubles would depend on the order of the rows.
        sum(cast(round(propensity * 1000000000, 0) as bigint)) as propensity,
        count(*) filter (where previous_segment = segment) as stayed
    from users
    group by as_of_date, segment
),

departures as (
    select as_of_date, previous_segment as segment, count(*) as departed
    from users
    where previous_segment <> segment
    group by as_of_date, previous_segment
)

select
    calendar.day as as_of_date,
    names.segment,
    cast(coalesce(members.users, 0) as integer) as users,
    coalesce(
        cast(members.users as double) / nullif(cast(days.users as double), 0), 0
    ) as share,
    cast(coalesce(members.spend_28d, 0) as decimal(18, 2)) as spend_28d,
    cast(coalesce(members.orders_28d, 0) as bigint) as orders_28d,
    cast(coalesce(members.expected_spend_28d, 0) as decimal(18, 2))
        as expected_spend_28d,
    cast(members.propensity as double) / 1000000000
        / nullif(cast(members.scored_users as double), 0) as mean_propensity,
    cast(coalesce(members.users - members.stayed, 0) as integer) as entered,
    cast(coalesce(departures.departed, 0) as integer) as departed,
    cast(coalesce(members.stayed, 0) as integer) as stayed
from calendar
cross join names
left join days on days.as_of_date = calendar.day
left join members
    on members.as_of_date = calendar.day and members.segment = names.segment
left join departures
    on departures.as_of_date = calendar.day and departures.segment = names.segment
