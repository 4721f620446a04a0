-- description: What offers did, one row for each campaign, offer and user: those it was sent to,
--   those from whom it was withheld (a withheld draw that names no offer is a control of every
--   offer that its campaign sent that day), and, where nothing was withheld, comparable users to
--   whom nothing was sent that day. A trial closes on the last day of the offer's horizon; its
--   covariates and segment are those of the day before the send.
-- grain: campaign_id, offer_id, user_id
-- owner: data-science
-- lookback: core.events 27 days, strategy.user_margins 27 days, features.user_features 28 days,
--   segments.user_segments 28 days
with spans as (
    select distinct sent_date, closed_date, user_id
    from strategy.trial_users
),

outcomes as (
    select
        spans.sent_date,
        spans.closed_date,
        spans.user_id,
        sum(days.orders) as orders,
        sum(days.spend) as spend,
        sum(days.goods_cost) as goods_cost,
        sum(days.uncosted) as uncosted,
        sum(days.offer_costs) as offer_costs
    from spans
    inner join strategy.user_margins as days
        on days.user_id = spans.user_id
        and days.event_date >= spans.sent_date
        and days.event_date <= spans.closed_date
    where days.event_date >= cast($start - interval 27 day as date)
        and days.event_date < $end
    group by spans.sent_date, spans.closed_date, spans.user_id
),

sends as (
    -- Until when a redemption that names no campaign is that of this send.
    select
        event_date as sent_date,
        coalesce(campaign_id, 'unnamed') as campaign_id,
        offer_id,
        user_id,
        lead(event_date) over (
            partition by user_id, offer_id order by event_date, campaign_id
        ) as sent_again_date
    from core.events
    where event_date >= cast($start - interval 27 day as date)
        and event_date < $end
        and event_type = 'offer_sent'
        and user_id is not null
),

attributed as (
    select
        trials.sent_date,
        trials.closed_date,
        trials.campaign_id,
        trials.offer_id,
        trials.user_id,
        count(*) as redemptions,
        case when count(*) = count(redeemed.cost) then sum(redeemed.cost) end as cost
    from strategy.trial_users as trials
    inner join sends
        on sends.sent_date = trials.sent_date
        and sends.campaign_id = trials.campaign_id
        and sends.offer_id = trials.offer_id
        and sends.user_id = trials.user_id
    left join core.offers as offers
        on offers.offer_id = trials.offer_id
    inner join strategy.redemption_costs as redeemed
        on redeemed.user_id = sends.user_id
        and redeemed.offer_id = sends.offer_id
        and redeemed.event_date >= sends.sent_date
        and redeemed.event_date <= trials.closed_date
    where trials.arm = 'sent'
        and (redeemed.campaign_id = sends.campaign_id
        or (
            redeemed.campaign_id is null
            and date_diff('day', sends.sent_date, redeemed.event_date)
            < coalesce(offers.valid_days, 28)
            and redeemed.event_date < coalesce(sends.sent_again_date, $end)
        ))
    group by
        trials.sent_date, trials.closed_date, trials.campaign_id,
        trials.offer_id, trials.user_id
)

select
    trials.closed_date,
    trials.sent_date,
    trials.campaign_id,
    trials.offer_id,
    trials.user_id,
    coalesce(segments.segment, 'new') as segment,
    trials.arm,
    trials.assignment_probability,
    coalesce(before.spend_28d, 0) as spend_before,
    coalesce(before.spend_90d, 0) as spend_before_90d,
    coalesce(before.orders_28d, 0) as orders_before,
    before.recency_days,
    coalesce(before.offers_sent_28d, 0) as offers_before,
    coalesce(before.orders_28d, 0) as orders_28d,
    coalesce(before.orders_90d, 0) as orders_90d,
    coalesce(before.orders_life, 0) as orders_life,
    coalesce(before.gross_90d, 0) as gross_90d,
    coalesce(before.discount_90d, 0) as discount_90d,
    coalesce(before.gross_life, 0) as gross_life,
    coalesce(before.views_90d, 0) as views_90d,
    coalesce(before.carts_90d, 0) as carts_90d,
    coalesce(before.carts_life, 0) as carts_life,
    coalesce(before.active_days_28d, 0) as active_days_28d,
    coalesce(before.active_days_90d, 0) as active_days_90d,
    coalesce(before.active_days_life, 0) as active_days_life,
    coalesce(before.deal_searches_life, 0) as deal_searches_life,
    coalesce(before.offers_sent_28d, 0) as offers_sent_28d,
    coalesce(before.offers_sent_life, 0) as offers_sent_life,
    coalesce(before.offers_viewed_life, 0) as offers_viewed_life,
    coalesce(before.offers_redeemed_life, 0) as offers_redeemed_life,
    coalesce(before.orders_store_life, 0) as orders_store_life,
    coalesce(before.tenure_days, 0) as tenure_days,
    cast(coalesce(outcomes.spend, 0) as decimal(18, 2)) as spend_after,
    cast(coalesce(outcomes.orders, 0) as bigint) as orders_after,
    cast(coalesce(outcomes.goods_cost, 0) as decimal(18, 2)) as goods_cost_after,
    cast(coalesce(outcomes.uncosted, 0) as decimal(18, 2)) as uncosted_after,
    cast(coalesce(outcomes.offer_costs, 0) as decimal(18, 2)) as offer_costs_after,
    case when trials.arm = 'sent' then coalesce(attributed.redemptions, 0) else 0 end
        as redemptions,
    case
        when trials.arm = 'sent' and attributed.redemptions > 0
            then cast(attributed.cost as decimal(18, 2))
        else cast(0 as decimal(18, 2))
    end as redemption_cost
from strategy.trial_users as trials
left join features.user_features as before
    on before.as_of_date = trials.as_of_date
    and before.user_id = trials.user_id
    and before.as_of_date >= cast($start - interval 28 day as date)
left join segments.user_segments as segments
    on segments.as_of_date = trials.as_of_date
    and segments.user_id = trials.user_id
    and segments.as_of_date >= cast($start - interval 28 day as date)
left join outcomes
    on outcomes.sent_date = trials.sent_date
    and outcomes.closed_date = trials.closed_date
    and outcomes.user_id = trials.user_id
left join attributed
    on attributed.sent_date = trials.sent_date
    and attributed.closed_date = trials.closed_date
    and attributed.campaign_id = trials.campaign_id
    and attributed.offer_id = trials.offer_id
    and attributed.user_id = trials.user_id
