-- description: What each user's day brought and cost: goods net of returns and discounts, what the
--   goods cost, redemptions that no line carries, and sends. Margin is spend - goods_cost -
--   (1 - margin rate) x uncosted - offer_costs - send_costs: each counted once.
-- grain: event_date, user_id
-- owner: data-science
with lines as (
    select
        events.user_id,
        events.event_date,
        events.event_type = 'purchase' as is_bought,
        coalesce(events.order_id, '') as order_key,
        case when events.event_type = 'purchase' then 1 else -1 end as sign,
        events.quantity * events.unit_price as amount,
        events.discount,
        events.quantity * items.unit_cost as goods_cost
    from core.events as events
    left join core.items as items
        on items.item_id = events.item_id
    where events.event_date >= $start
        and events.event_date < $end
        and events.event_type in ('purchase', 'return')
        and events.user_id is not null
),

beside_lines as (
    -- Of an order's redemptions, what its lines don't already carry as a discount.
    select
        user_id,
        event_date,
        order_key,
        greatest(
            coalesce(sum(cost) filter (where lowers_lines), 0) - max(line_discount), 0
        ) + coalesce(sum(cost) filter (where not coalesce(lowers_lines, false)), 0) as cost
    from strategy.redemption_costs
    where event_date >= $start
    group by user_id, event_date, order_key
),

parts as (
    select
        user_id,
        event_date,
        count(distinct order_key) filter (where is_bought) as orders,
        sum(sign * (amount - discount)) as spend,
        sum(sign * coalesce(goods_cost, 0)) as goods_cost,
        sum(case when goods_cost is null then sign * amount else 0 end) as uncosted,
        cast(0 as decimal(18, 2)) as offer_costs,
        0 as sends,
        cast(0 as decimal(18, 2)) as send_costs
    from lines
    group by user_id, event_date
    union all
    select
        user_id,
        event_date,
        0 as orders,
        0 as spend,
        0 as goods_cost,
        0 as uncosted,
        cost as offer_costs,
        0 as sends,
        0 as send_costs
    from beside_lines
    union all
    select
        events.user_id,
        events.event_date,
        0 as orders,
        0 as spend,
        0 as goods_cost,
        0 as uncosted,
        0 as offer_costs,
        count(*) as sends,
        sum(coalesce(offers.send_cost, 0)) as send_costs
    from core.events as events
    left join core.offers as offers
        on offers.offer_id = events.offer_id
    where events.event_date >= $start
        and events.event_date < $end
        and events.event_type = 'offer_sent'
        and events.user_id is not null
    group by events.user_id, events.event_date
)

select
    event_date,
    user_id,
    cast(sum(orders) as bigint) as orders,
    cast(sum(spend) as decimal(18, 2)) as spend,
    cast(sum(goods_cost) as decimal(18, 2)) as goods_cost,
    cast(sum(uncosted) as decimal(18, 2)) as uncosted,
    cast(sum(offer_costs) as decimal(18, 2)) as offer_costs,
    cast(sum(sends) as bigint) as sends,
    cast(sum(send_costs) as decimal(18, 2)) as send_costs
from parts
group by event_date, user_id
