-- description: Usable events: every delivered row that was not rejected, typed, with missing
--   values filled where the contract says so.
-- grain: event_id, event_date
-- owner: data-platform
with delivered as (
    select * from raw.events where event_date >= $start and event_date < $end
),

rejected as (
    select event_date, source_file, source_row
    from core.rejected_events
    where event_date >= $start and event_date < $end
),

accepted as (
    select delivered.*
    from delivered
    left join rejected
        on rejected.event_date = delivered.event_date
        and rejected.source_file = delivered.source_file
        and rejected.source_row = delivered.source_row
    where rejected.source_row is null
)

select
    event_key as event_id,
    cast(event_time as timestamp) as event_time,
    event_date,
    event_type,
    user_id,
    device_id,
    session_id,
    coalesce(channel, 'unknown') as channel,
    item_id,
    cast(cast(quantity as decimal(18, 0)) as bigint) as quantity,
    cast(unit_price as decimal(18, 2)) as unit_price,
    coalesce(cast(discount as decimal(18, 2)), cast(0 as decimal(18, 2))) as discount,
    order_id,
    search_query,
    offer_id,
    campaign_id,
    cast(assignment_probability as double) as assignment_probability
from accepted
