-- description: Who takes part in the trials that close in the window: users to whom an offer was
--   sent, those from whom it was withheld, and, where nothing was withheld, users of the day
--   before who got nothing that day, were active in 90 days and have refused no offers.
-- grain: campaign_id, offer_id, user_id
-- owner: data-science
-- materialized: ephemeral
-- lookback: core.events 27 days, features.user_features 28 days
with draws as (
    select
        event_date as sent_date,
        coalesce(campaign_id, 'unnamed') as campaign_id,
        user_id,
        offer_id,
        event_type = 'offer_sent' as is_sent,
        assignment_probability
    from core.events
    where event_date >= cast($start - interval 27 day as date)
        and event_date < $end
        and event_type in ('offer_sent', 'offer_withheld')
        and user_id is not null
),

campaigns as (
    select distinct
        draws.sent_date,
        cast(draws.sent_date - interval 1 day as date) as as_of_date,
        calendar.day as closed_date,
        draws.campaign_id,
        draws.offer_id
    from draws
    left join core.offers as offers
        on offers.offer_id = draws.offer_id
    inner join core.calendar as calendar
        on date_diff('day', draws.sent_date, calendar.day) = coalesce(offers.horizon_days, 28) - 1
    where draws.is_sent and calendar.day >= $start and calendar.day < $end
),

drawn as (
    select
        campaigns.sent_date,
        campaigns.as_of_date,
        campaigns.closed_date,
        campaigns.campaign_id,
        campaigns.offer_id,
        draws.user_id,
        -- Whoever was drawn twice got it.
        min(case when draws.is_sent then 'sent' else 'withheld' end) as arm,
        min(draws.assignment_probability) as assignment_probability
    from campaigns
    inner join draws
        on draws.campaign_id = campaigns.campaign_id
        and draws.sent_date = campaigns.sent_date
        and coalesce(draws.offer_id, campaigns.offer_id) = campaigns.offer_id
    group by
        campaigns.sent_date, campaigns.as_of_date, campaigns.closed_date,
        campaigns.campaign_id, campaigns.offer_id, draws.user_id
),

controlled as (
    select distinct sent_date, campaign_id, offer_id
    from drawn
    where arm = 'withheld'
),

addressed as (
    select distinct sent_date, user_id
    from draws
),

statements as (
    select
        dates.sent_date,
        consents.identifier,
        consents.granted,
        row_number() over (
            partition by dates.sent_date, consents.identifier, consents.purpose
            order by consents.since desc, consents.granted
        ) as place
    from (select distinct sent_date from campaigns) as dates
    inner join core.consents as consents
        on consents.since < dates.sent_date
),

refused as (
    select distinct sent_date, identifier as user_id
    from statements
    where place = 1 and not granted
),

compared as (
    select
        campaigns.sent_date,
        campaigns.as_of_date,
        campaigns.closed_date,
        campaigns.campaign_id,
        campaigns.offer_id,
        known.user_id,
        'comparison' as arm,
        cast(null as double) as assignment_probability
    from campaigns
    inner join features.user_features as known
        on known.as_of_date = campaigns.as_of_date
    left join controlled
        on controlled.sent_date = campaigns.sent_date
        and controlled.campaign_id = campaigns.campaign_id
        and controlled.offer_id = campaigns.offer_id
    left join addressed
        on addressed.sent_date = campaigns.sent_date
        and addressed.user_id = known.user_id
    left join refused
        on refused.sent_date = campaigns.sent_date
        and refused.user_id = known.user_id
    where known.as_of_date >= cast($start - interval 28 day as date)
        and known.as_of_date < cast($end - interval 1 day as date)
        and known.active_days_90d > 0
        and controlled.campaign_id is null
        and addressed.user_id is null
        and refused.user_id is null
)

select * from drawn
union all
select * from compared
