-- description: What a user cares about: the five strongest categories (the first two
--   levels of the path), brands and price bands (of one piece, before discount, or the
--   list price where an event names none) of the last 90 days, renewed on the first day
--   of a calendar week on which the user dealt with an item; until the next such day
--   they stay. A view or click counts 1, a favourite 2, a cart 3, an order line 6;
--   times 8 in the last 28 days, 4, 2 and 1 in the 28-day periods before (a half-life
--   of 28 days, in exact integers). The share left to explore falls with what is known:
--   it weighs as three lines ordered now.
-- grain: user_id, as_of_date, kind, value
-- owner: data-platform
-- lookback: core.events 89 days
with dealt as (
    select user_id, event_date
    from core.events
    where event_date >= cast($start - interval 6 day as date)
        and event_date < $end
        and user_id is not null
        and item_id is not null
        and event_type in ('view', 'click', 'favourite', 'add_to_cart', 'purchase')
    group by user_id, event_date
),

first_days as (
    select dealt.user_id, min(dealt.event_date) as as_of_date
    from dealt
    inner join core.calendar as calendar on calendar.day = dealt.event_date
    group by dealt.user_id, calendar.week_start
),

days as (
    select
        user_id,
        as_of_date,
        row_number() over (order by user_id, as_of_date) as day_key
    from first_days
    where as_of_date >= $start
),

renewed as (
    select user_id
    from days
    group by user_id
),

events as (
    select
        events.user_id,
        events.event_date,
        events.event_type,
        events.item_id,
        events.unit_price
    from core.events as events
    inner join renewed on renewed.user_id = events.user_id
    where events.event_date >= cast($start - interval 89 day as date)
        and events.event_date < $end
        and events.item_id is not null
        and events.event_type in ('view', 'click', 'favourite', 'add_to_cart', 'purchase')
),

items as (
    select
        item_id,
        case
            when split_part(category, '/', 2) = '' then split_part(category, '/', 1)
            else split_part(category, '/', 1) || '/' || split_part(category, '/', 2)
        end as category,
        brand,
        list_price
    from core.items
),

priced as (
    select
        events.user_id,
        events.event_date,
        events.event_type,
        items.category,
        items.brand,
        coalesce(events.unit_price, items.list_price) as price
    from events
    inner join items on items.item_id = events.item_id
),

points as (
    select
        user_id,
        event_date,
        category,
        brand,
        case
            when price < 1 then 'below 1'
            when price < 2 then '1 to 2'
            when price < 5 then '2 to 5'
            when price < 10 then '5 to 10'
            when price < 20 then '10 to 20'
            when price < 50 then '20 to 50'
            when price < 100 then '50 to 100'
            when price < 200 then '100 to 200'
            when price < 500 then '200 to 500'
            when price < 1000 then '500 to 1000'
            when price >= 1000 then '1000 and more'
        end as price_band,
        sum(
            case event_type
                when 'purchase' then 6
                when 'add_to_cart' then 3
                when 'favourite' then 2
                else 1
            end
        ) as points
    from priced
    group by user_id, event_date, category, brand, price_band
),

categories as (
    select
        user_id,
        event_date,
        'category' as kind,
        category as value,
        sum(points) as points
    from points
    where category is not null
    group by user_id, event_date, category
),

brands as (
    select user_id, event_date, 'brand' as kind, brand as value, sum(points) as points
    from points
    where brand is not null
    group by user_id, event_date, brand
),

price_bands as (
    select
        user_id,
        event_date,
        'price_band' as kind,
        price_band as value,
        sum(points) as points
    from points
    where price_band is not null
    group by user_id, event_date, price_band
),

tiles as (
    select user_id, event_date, kind, value, points from categories
    union all
    select user_id, event_date, kind, value, points from brands
    union all
    select user_id, event_date, kind, value, points from price_bands
),

-- Integer keys for days and values: grouping 20 M rows by them takes half the time.
interests as (
    select kind, value, row_number() over (order by kind, value) as interest_key
    from tiles
    group by kind, value
),

keyed_tiles as (
    select tiles.user_id, tiles.event_date, interests.interest_key, tiles.points
    from tiles
    inner join interests
        on interests.kind = tiles.kind and interests.value = tiles.value
),

scored as (
    select
        days.day_key,
        keyed_tiles.interest_key,
        sum(
            keyed_tiles.points * case
                when date_diff('day', keyed_tiles.event_date, days.as_of_date) < 28
                    then 8
                when date_diff('day', keyed_tiles.event_date, days.as_of_date) < 56
                    then 4
                when date_diff('day', keyed_tiles.event_date, days.as_of_date) < 84
                    then 2
                else 1
            end
        ) as score
    from days
    inner join keyed_tiles
        on keyed_tiles.user_id = days.user_id
        and keyed_tiles.event_date <= days.as_of_date
        and keyed_tiles.event_date >= cast(days.as_of_date - interval 89 day as date)
    group by days.day_key, keyed_tiles.interest_key
),

named as (
    select scored.day_key, interests.kind, interests.value, scored.score
    from scored
    inner join interests on interests.interest_key = scored.interest_key
),

totals as (
    select day_key, kind, sum(score) as total_score
    from named
    group by day_key, kind
),

ranked as (
    select
        day_key,
        kind,
        value,
        score,
        row_number() over (
            partition by day_key, kind order by score desc, value
        ) as strength_rank
    from named
)

select
    days.user_id,
    days.as_of_date,
    ranked.kind,
    ranked.value,
    cast(ranked.strength_rank as integer) as strength_rank,
    cast(ranked.score as bigint) as score,
    cast(ranked.score as double) / nullif(cast(totals.total_score as double), 0)
        as share,
    -- Three lines ordered now: 3 x 6 points x 8.
    144 / nullif(cast(totals.total_score + 144 as double), 0) as exploration_share
from ranked
inner join totals on totals.day_key = ranked.day_key and totals.kind = ranked.kind
inner join days on days.day_key = ranked.day_key
where ranked.strength_rank <= 5
