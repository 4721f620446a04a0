-- description: Every redemption of the trials' days with what it cost: as the source says, else
--   by the offer's terms on its basket, else as the catalogue assumes; null = not known.
-- grain: event_id
-- owner: data-science
-- materialized: ephemeral
-- lookback: core.events 27 days
with baskets as (
    select
        user_id,
        event_date,
        coalesce(order_id, '') as order_key,
        sum(quantity * unit_price) as amount,
        sum(discount) as discount,
        sum(quantity) as quantity,
        min(unit_price) as cheapest
    from core.events
    where event_date >= cast($start - interval 27 day as date)
        and event_date < $end
        and event_type = 'purchase'
        and user_id is not null
    group by user_id, event_date, coalesce(order_id, '')
),

shopping_days as (
    select
        user_id,
        event_date,
        sum(amount) as amount,
        sum(discount) as discount,
        sum(quantity) as quantity,
        min(cheapest) as cheapest
    from baskets
    group by user_id, event_date
)

-- What a redemption cost where the source does not say: the offer's terms, on its basket.
select
    events.user_id,
    events.event_date,
    events.event_id,
    events.offer_id,
    events.campaign_id,
    coalesce(events.order_id, '') as order_key,
    offers.kind in ('percent_off', 'amount_off', 'threshold_amount_off', 'bogo')
        as lowers_lines,
    coalesce(baskets.discount, shopping_days.discount, 0) as line_discount,
    case
        when events.discount is not null then events.discount
        when offers.kind = 'informational' then 0
        when offers.kind in ('amount_off', 'threshold_amount_off')
            then least(
                offers.value, coalesce(baskets.amount, shopping_days.amount, offers.value)
            )
        when offers.kind = 'percent_off'
            and coalesce(baskets.amount, shopping_days.amount) is not null
            then least(
                coalesce(baskets.amount, shopping_days.amount) * offers.value * cast(0.01 as decimal(3, 2)),
                coalesce(offers.max_discount, baskets.amount, shopping_days.amount)
            )
        when offers.kind = 'bogo'
            and coalesce(baskets.quantity, shopping_days.quantity) > 1
            then least(
                coalesce(baskets.cheapest, shopping_days.cheapest) * offers.value * cast(0.01 as decimal(3, 2)),
                coalesce(offers.max_discount, baskets.cheapest, shopping_days.cheapest)
            )
        else offers.expected_cost_per_redemption
    end as cost
from core.events as events
left join core.offers as offers
    on offers.offer_id = events.offer_id
left join baskets
    on baskets.user_id = events.user_id
    and baskets.event_date = events.event_date
    and baskets.order_key = events.order_id
left join shopping_days
    on shopping_days.user_id = events.user_id
    and shopping_days.event_date = events.event_date
where events.event_date >= cast($start - interval 27 day as date)
    and events.event_date < $end
    and events.event_type = 'offer_redeemed'
    and events.user_id is not null
