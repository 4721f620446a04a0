-- description: Delivered rows that can't be used, as delivered, each with the first reason that
--   applies (promo_assets/contract/events.py lists them in this order). Rows are judged first, and
--   copies found among those that are left: a broken row takes nothing from its repaired copy.
-- grain: event_date, source_file, source_row
-- owner: data-platform
with delivered as (
    select * from raw.events where event_date >= $start and event_date < $end
),

parsed as (
    select
        delivered.*,
        -- What was read as a moment stands here as UTC with four digits of the year; everything
        -- else is as delivered, and no cast may make a moment of a part of it.
        case
            when length(event_time) between 19 and 26
                and event_time like '____-__-__ __:__:__%'
                then try_cast(event_time as timestamp)
        end as happened_at,
        -- 1_000 is no number, though casts take it for one.
        try_cast(replace(quantity, '_', '?') as decimal(18, 4)) as units,
        try_cast(replace(unit_price, '_', '?') as decimal(28, 8)) as price,
        try_cast(replace(discount, '_', '?') as decimal(28, 8)) as reduction,
        try_cast(assignment_probability as double) as probability,
        event_types.needs_order_line,
        event_types.needs_offer
    from delivered
    left join core.event_types as event_types
        on event_types.event_type = delivered.event_type
),

judged as (
    select
        *,
        case
            when happened_at is null
                then 'event_time_unreadable'
            when cast(happened_at as date) < event_date
                then 'before_partition'
            when cast(happened_at as date) > event_date
                then 'after_partition'
            when needs_offer is null
                then 'event_type_unknown'
            when user_id is null and device_id is null
                then 'user_missing'
            when needs_order_line and (units is null or units <> round(units, 0))
                then 'quantity_unreadable'
            when needs_order_line and units < 1
                then 'quantity_not_positive'
            when units > 1000000
                then 'quantity_too_large'
            when (needs_order_line or unit_price is not null) and price is null
                then 'price_unreadable'
            -- What is left of binary fractions (19.990000000000002) is no third decimal.
            when abs(price - round(price, 2)) > 0.000001
                then 'price_too_precise'
            when price < 0
                then 'price_negative'
            when price > 10000000000
                or (
                    needs_order_line
                    and try_cast(units as decimal(9, 0)) * try_cast(price as decimal(18, 2))
                    > 1000000000000
                )
                then 'price_too_large'
            when discount is not null and reduction is null
                then 'discount_unreadable'
            when abs(reduction - round(reduction, 2)) > 0.000001
                then 'discount_too_precise'
            when reduction < 0
                then 'discount_negative'
            when needs_order_line
                and reduction
                > try_cast(units as decimal(9, 0)) * try_cast(price as decimal(18, 2))
                then 'discount_above_amount'
            when needs_offer and offer_id is null
                then 'offer_missing'
            when assignment_probability is not null
                and not coalesce(probability > 0 and probability <= 1, false)
                then 'probability_out_of_range'
        end as reason
    from parsed
),

repeated as (
    select event_date, event_key
    from judged
    where reason is null
    group by event_date, event_key
    having count(*) > 1
),

copies as (
    select
        judged.*,
        row_number() over (
            partition by judged.event_date, judged.event_key
            order by judged.source_file, judged.source_row
        ) as copy_number
    from judged
    inner join repeated
        on repeated.event_date = judged.event_date
        and repeated.event_key = judged.event_key
    where judged.reason is null
),

compared as (
    select
        copies.event_date,
        copies.source_file,
        copies.source_row,
        copies.event_id,
        (
            copies.event_time is not distinct from originals.event_time
            and copies.event_type is not distinct from originals.event_type
            and copies.user_id is not distinct from originals.user_id
            and copies.device_id is not distinct from originals.device_id
            and copies.session_id is not distinct from originals.session_id
            and copies.channel is not distinct from originals.channel
            and copies.item_id is not distinct from originals.item_id
            and copies.quantity is not distinct from originals.quantity
            and copies.unit_price is not distinct from originals.unit_price
            and copies.discount is not distinct from originals.discount
            and copies.order_id is not distinct from originals.order_id
            and copies.search_query is not distinct from originals.search_query
            and copies.offer_id is not distinct from originals.offer_id
            and copies.campaign_id is not distinct from originals.campaign_id
            and copies.assignment_probability
                is not distinct from originals.assignment_probability
        ) as is_equal
    from copies
    inner join copies as originals
        on originals.event_date = copies.event_date
        and originals.event_key = copies.event_key
        and originals.copy_number = 1
    where copies.copy_number > 1
),

copied as (
    select
        event_date,
        source_file,
        source_row,
        case
            when not is_equal then 'event_id_reused'
            when event_id is not null then 'duplicate'
            when event_id is null then 'equal_row'
        end as reason
    from compared
),

reasoned as (
    select
        judged.*,
        coalesce(judged.reason, copied.reason) as why
    from judged
    left join copied
        on copied.event_date = judged.event_date
        and copied.source_file = judged.source_file
        and copied.source_row = judged.source_row
)

select
    event_date,
    why as reason,
    event_key,
    event_id,
    event_time,
    event_type,
    user_id,
    device_id,
    session_id,
    channel,
    item_id,
    quantity,
    unit_price,
    discount,
    order_id,
    search_query,
    offer_id,
    campaign_id,
    assignment_probability,
    extra,
    source,
    source_file,
    source_row,
    note
from reasoned
where why is not null
