-- description: What offers did, one row for each campaign and user: those it was sent to and,
--   for comparison, known users who got no offer that day. A trial closes on the 28th day from
--   the send; its covariates and segment are those of the day before the send.
-- grain: campaign_id, user_id
-- owner: data-science
-- lookback: core.events 27 days, features.user_features 28 days, segments.user_segments 28 days
with closing_days as (
    select
        day as closed_date,
        cast(day - interval 27 day as date) as sent_date,
        cast(day - interval 28 day as date) as as_of_date
    from core.calendar
    where day >= $start and day < $end
),

campaign_sends as (
    select
        closing_days.closed_date,
        closing_days.sent_date,
        closing_days.as_of_date,
        sends.user_id,
        sends.campaign_id,
        sends.event_type,
        sends.offer_id,
        sends.assignment_probability
    from core.events as sends
    inner join closing_days on closing_days.sent_date = sends.event_date
    where sends.event_date >= cast($start - interval 27 day as date)
        and sends.event_date < cast($end - interval 27 day as date)
        and sends.event_type in ('offer_sent', 'offer_withheld')
        and sends.user_id is not null
        and sends.campaign_id is not null
),

-- One arm a user and campaign, also where a campaign sent several offers that day.
treated as (
    select
        closed_date,
        sent_date,
        as_of_date,
        campaign_id,
        user_id,
        min(offer_id) as offer_id,
        min(case when event_type = 'offer_sent' then 'sent' else 'withheld' end) as arm,
        min(assignment_probability) as assignment_probability
    from campaign_sends
    group by closed_date, sent_date, as_of_date, campaign_id, user_id
),

campaigns as (
    select closed_date, sent_date, as_of_date, campaign_id, min(offer_id) as offer_id
    from treated
    group by closed_date, sent_date, as_of_date, campaign_id
),

campaign_users as (
    select
        campaigns.closed_date,
        campaigns.sent_date,
        campaigns.as_of_date,
        campaigns.campaign_id,
        coalesce(treated.offer_id, campaigns.offer_id) as offer_id,
        before.user_id,
        coalesce(treated.arm, 'comparison') as arm,
        treated.assignment_probability,
        before.spend_28d as spend_before,
        before.spend_90d as spend_before_90d,
        before.orders_28d as orders_before,
        before.recency_days,
        before.offers_sent_28d as offers_before
    from campaigns
    inner join features.user_features as before
        on before.as_of_date = campaigns.as_of_date
    left join treated
        on treated.campaign_id = campaigns.campaign_id
        and treated.sent_date = campaigns.sent_date
        and treated.user_id = before.user_id
    where before.as_of_date >= cast($start - interval 28 day as date)
        and before.as_of_date < cast($end - interval 28 day as date)
        and (treated.user_id is not null or before.orders_90d > 0)
),

sent_that_day as (
    select distinct sent_date, user_id
    from treated
    where arm = 'sent'
),

redemptions as (
    select
        closing_days.closed_date,
        events.campaign_id,
        events.user_id,
        count(*) as redemptions,
        sum(events.discount) as redemption_cost
    from core.events as events
    inner join closing_days
        on events.event_date >= closing_days.sent_date
        and events.event_date <= closing_days.closed_date
    inner join campaigns
        on campaigns.closed_date = closing_days.closed_date
        and campaigns.campaign_id = events.campaign_id
    where events.event_date >= cast($start - interval 27 day as date)
        and events.event_date < $end
        and events.event_type = 'offer_redeemed'
    group by closing_days.closed_date, events.campaign_id, events.user_id
)

select
    campaign_users.closed_date,
    campaign_users.sent_date,
    campaign_users.campaign_id,
    campaign_users.offer_id,
    campaign_users.user_id,
    segments.segment,
    campaign_users.arm,
    campaign_users.assignment_probability,
    campaign_users.spend_before,
    campaign_users.spend_before_90d,
    campaign_users.orders_before,
    campaign_users.recency_days,
    campaign_users.offers_before,
    after.spend_28d as spend_after,
    after.orders_28d as orders_after,
    coalesce(redemptions.redemptions, 0) as redemptions,
    coalesce(redemptions.redemption_cost, cast(0 as decimal(18, 2))) as redemption_cost
from campaign_users
inner join features.user_features as after
    on after.as_of_date = campaign_users.closed_date
    and after.user_id = campaign_users.user_id
inner join segments.user_segments as segments
    on segments.as_of_date = campaign_users.as_of_date
    and segments.user_id = campaign_users.user_id
left join sent_that_day
    on sent_that_day.sent_date = campaign_users.sent_date
    and sent_that_day.user_id = campaign_users.user_id
left join redemptions
    on redemptions.closed_date = campaign_users.closed_date
    and redemptions.campaign_id = campaign_users.campaign_id
    and redemptions.user_id = campaign_users.user_id
where after.as_of_date >= $start
    and after.as_of_date < $end
    and segments.as_of_date >= cast($start - interval 28 day as date)
    and segments.as_of_date < cast($end - interval 28 day as date)
    and (campaign_users.arm <> 'comparison' or sent_that_day.user_id is null)
