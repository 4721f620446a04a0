-- description: Usable events: every delivered row that was not rejected, typed, with missing
--   values filled where the contract says so, and attributed to the person who was known to
--   be behind account or device at the end of its day.
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
),

attributions as (
    -- The newest change of an identifier holds until the next one.
    select
        identifier,
        user_id,
        as_of_date as valid_from,
        coalesce(
            lead(as_of_date) over (partition by identifier order by as_of_date), $end
        ) as valid_until
    from core.identities
    where as_of_date < $end
)

select
    accepted.event_key as event_id,
    cast(accepted.event_time as timestamp) as event_time,
    accepted.event_date,
    accepted.event_type,
    case
        when accepted.user_id is null then device_owners.user_id
        else coalesce(account_owners.user_id, accepted.user_id)
    end as user_id,
    accepted.user_id as account_id,
    accepted.device_id,
    accepted.session_id,
    coalesce(accepted.channel, 'unknown') as channel,
    accepted.item_id,
    cast(cast(accepted.quantity as decimal(18, 0)) as bigint) as quantity,
    cast(accepted.unit_price as decimal(18, 2)) as unit_price,
    -- What a redemption cost may be unknown; that is not 0.
    case
        when accepted.event_type = 'offer_redeemed'
            then cast(accepted.discount as decimal(18, 2))
        else coalesce(cast(accepted.discount as decimal(18, 2)), cast(0 as decimal(18, 2)))
    end as discount,
    accepted.order_id,
    accepted.search_query,
    accepted.offer_id,
    accepted.campaign_id,
    cast(accepted.assignment_probability as double) as assignment_probability
from accepted
left join attributions as account_owners
    on account_owners.identifier = accepted.user_id
    and account_owners.valid_from <= accepted.event_date
    and account_owners.valid_until > accepted.event_date
left join attributions as device_owners
    on device_owners.identifier = accepted.device_id
    and device_owners.valid_from <= accepted.event_date
    and device_owners.valid_until > accepted.event_date
