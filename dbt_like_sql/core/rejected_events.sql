-- description: Delivered rows that can't be used, as delivered, each with the first reason that
--   applies (promo_assets/contract/events.py lists them in this order).
-- grain: event_date, source_file, source_row
-- owner: data-platform
with delivered as (
    select * from raw.events where event_date >= $start and event_date < $end
),

parsed as (
    select
        delivered.*,
        try_cast(event_time as timestamp) as happened_at,
        try_cast(quantity as decimal(18, 4)) as units,
        try_cast(unit_price as decimal(18, 2)) as price,
        try_cast(discount as decimal(18, 2)) as reduction,
        try_cast(assignment_probability as double) as probability,
        event_types.needs_order_line,
        event_types.needs_offer,
        row_number() over (
            partition by event_date, event_key
            order by source_file, source_row
        ) as copy_number
    from delivered
    left join core.event_types as event_types
        on event_types.event_type = delivered.event_type
),

reasoned as (
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
            when (needs_order_line or unit_price is not null) and price is null
                then 'price_unreadable'
            when price < 0
                then 'price_negative'
            when discount is not null and reduction is null
                then 'discount_unreadable'
            when reduction < 0
                then 'discount_negative'
            when needs_order_line and reduction > units * price
                then 'discount_above_amount'
            when needs_offer and offer_id is null
                then 'offer_missing'
            when assignment_probability is not null
                and not coalesce(probability > 0 and probability <= 1, false)
                then 'probability_out_of_range'
            when copy_number > 1
                then 'duplicate'
        end as reason
    from parsed
)

select
    event_date,
    reason,
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
where reason is not null
