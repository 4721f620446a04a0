-- description: Which account was used on which device, one row a pair and day: an event that
--   names both. What links devices to people (core.identities).
-- grain: event_date, device_id, user_id
-- owner: data-platform
with delivered as (
    select event_date, event_time, source_file, source_row, device_id, user_id
    from raw.events
    where event_date >= $start
        and event_date < $end
        and device_id is not null
        and user_id is not null
),

rejected as (
    select event_date, source_file, source_row
    from core.rejected_events
    where event_date >= $start and event_date < $end
)

select
    delivered.event_date,
    delivered.device_id,
    delivered.user_id,
    min(cast(delivered.event_time as timestamp)) as first_event_time,
    count(*) as events
from delivered
left join rejected
    on rejected.event_date = delivered.event_date
    and rejected.source_file = delivered.source_file
    and rejected.source_row = delivered.source_row
where rejected.source_row is null
group by delivered.event_date, delivered.device_id, delivered.user_id
