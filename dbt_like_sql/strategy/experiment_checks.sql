-- description: Whether each experiment's arms are as large as what was drawn, one row a day on
--   which it drew, experiment and offer, cumulated over 90 days; experiment 'all' is every one
--   together. chi_square has one degree of freedom: above 10.83 chance alone has p < .001 (sample
--   ratio mismatch). Also who was in both arms of a day, who saw or used what was withheld, who
--   knew the campaign's offer before being drawn, and whom another experiment had drawn lately.
-- grain: drawn_on, experiment, offer_id
-- owner: data-science
-- lookback: core.events 116 days
with draws as (
    select
        event_date,
        coalesce(campaign_id, 'unnamed') as experiment,
        user_id,
        offer_id,
        event_type = 'offer_sent' as is_sent,
        assignment_probability as probability
    from core.events
    where event_date >= cast($start - interval 116 day as date)
        and event_date < $end
        and event_type in ('offer_sent', 'offer_withheld')
        and user_id is not null
),

offered as (
    select distinct event_date, experiment, offer_id
    from draws
    where offer_id is not null
),

arms as (
    -- Who was withheld from all offers of an experiment is a control of each.
    select
        offered.event_date,
        offered.experiment,
        offered.offer_id,
        draws.user_id,
        draws.is_sent,
        draws.probability
    from offered
    inner join draws
        on draws.event_date = offered.event_date
        and draws.experiment = offered.experiment
        and coalesce(draws.offer_id, offered.offer_id) = offered.offer_id
),

exposures as (
    -- On the day of what they saw: a draw's day must not know of later days.
    select
        events.event_date,
        arms.experiment,
        arms.offer_id,
        count(distinct arms.user_id) as exposed
    from arms
    inner join core.events as events
        on events.user_id = arms.user_id
        and events.offer_id = arms.offer_id
        and events.campaign_id = arms.experiment
    where not arms.is_sent
        and events.event_type in ('offer_viewed', 'offer_redeemed')
        and events.event_date >= arms.event_date
        and events.event_date >= cast($start - interval 89 day as date)
        and events.event_date < $end
    group by events.event_date, arms.experiment, arms.offer_id
),

twofold as (
    select event_date, experiment, offer_id, count(*) as in_both_arms
    from (
        select event_date, experiment, offer_id, user_id
        from arms
        group by event_date, experiment, offer_id, user_id
        having count(distinct is_sent) > 1
    ) as twice
    group by event_date, experiment, offer_id
),

first_draws as (
    -- In 28 days: a day must know as much of the past when it is made alone.
    select arms.event_date, arms.experiment, arms.offer_id, arms.user_id
    from arms
    left join draws as earlier
        on earlier.experiment = arms.experiment
        and earlier.user_id = arms.user_id
        and earlier.event_date < arms.event_date
        and earlier.event_date > cast(arms.event_date - interval 28 day as date)
    where earlier.user_id is null
    group by arms.event_date, arms.experiment, arms.offer_id, arms.user_id
),

forerunners as (
    select
        first_draws.event_date,
        first_draws.experiment,
        first_draws.offer_id,
        count(distinct first_draws.user_id) as exposed_before
    from first_draws
    inner join core.events as events
        on events.user_id = first_draws.user_id
        and events.offer_id = first_draws.offer_id
        and events.campaign_id = first_draws.experiment
    where events.event_type in ('offer_viewed', 'offer_redeemed')
        and events.event_date < first_draws.event_date
        and events.event_date > cast(first_draws.event_date - interval 28 day as date)
        and events.event_date >= cast($start - interval 116 day as date)
        and events.event_date < $end
    group by first_draws.event_date, first_draws.experiment, first_draws.offer_id
),

shared_draws as (
    select
        arms.event_date,
        arms.experiment,
        arms.offer_id,
        count(distinct arms.user_id) as overlapping
    from arms
    inner join draws as others
        on others.user_id = arms.user_id
    where others.experiment <> arms.experiment
        and others.event_date <= arms.event_date
        and others.event_date > cast(arms.event_date - interval 28 day as date)
    group by arms.event_date, arms.experiment, arms.offer_id
),

counted as (
    select
        event_date,
        experiment,
        offer_id,
        count(*) filter (where is_sent) as sent,
        count(*) filter (where not is_sent) as withheld,
        count(*) filter (where probability is null) as unknown,
        -- In whole millionths: a sum of doubles would depend on the order of rows.
        coalesce(sum(
            case when is_sent then 1 else -1 end
            * cast(round(1000000 / nullif(probability, 0), 0) as bigint)
        ), 0) as excess,
        coalesce(sum(
            cast(round(1000000 / nullif(probability * probability, 0), 0) as bigint)
        ), 0) as scale
    from arms
    group by event_date, experiment, offer_id
),

daily as (
    select
        counted.event_date,
        counted.experiment,
        counted.offer_id,
        counted.sent,
        counted.withheld,
        counted.unknown,
        counted.excess,
        counted.scale,
        coalesce(twofold.in_both_arms, 0) as in_both_arms,
        0 as exposed,
        coalesce(forerunners.exposed_before, 0) as exposed_before,
        coalesce(shared_draws.overlapping, 0) as overlapping
    from counted
    left join twofold
        on twofold.event_date = counted.event_date
        and twofold.experiment = counted.experiment
        and twofold.offer_id = counted.offer_id
    left join forerunners
        on forerunners.event_date = counted.event_date
        and forerunners.experiment = counted.experiment
        and forerunners.offer_id = counted.offer_id
    left join shared_draws
        on shared_draws.event_date = counted.event_date
        and shared_draws.experiment = counted.experiment
        and shared_draws.offer_id = counted.offer_id
    union all
    select
        event_date,
        experiment,
        offer_id,
        0 as sent,
        0 as withheld,
        0 as unknown,
        0 as excess,
        0 as scale,
        0 as in_both_arms,
        exposed,
        0 as exposed_before,
        0 as overlapping
    from exposures
),

checked as (
    select * from daily
    union all
    select
        event_date,
        'all' as experiment,
        offer_id,
        sum(sent) as sent,
        sum(withheld) as withheld,
        sum(unknown) as unknown,
        sum(excess) as excess,
        sum(scale) as scale,
        sum(in_both_arms) as in_both_arms,
        sum(exposed) as exposed,
        sum(exposed_before) as exposed_before,
        sum(overlapping) as overlapping
    from daily
    group by event_date, offer_id
)

select
    today.event_date as drawn_on,
    today.experiment,
    today.offer_id,
    cast(sum(until.sent) as bigint) as sent,
    cast(sum(until.withheld) as bigint) as withheld,
    -- Not known where a probability is missing, or an arm never was possible.
    case
        when sum(until.unknown) = 0 and sum(until.withheld) > 0 and sum(until.sent) > 0
            then cast(sum(until.excess) as double) * cast(sum(until.excess) as double)
                / nullif(cast(sum(until.scale) as double), 0) * 0.000001
    end as chi_square,
    cast(sum(until.in_both_arms) as bigint) as in_both_arms,
    cast(sum(until.exposed) as bigint) as exposed,
    cast(sum(until.exposed_before) as bigint) as exposed_before,
    cast(sum(until.overlapping) as bigint) as overlapping
from (
    select distinct event_date, experiment, offer_id from offered
    union
    select distinct event_date, 'all' as experiment, offer_id from offered
) as today
inner join checked as until
    on until.experiment = today.experiment
    and until.offer_id = today.offer_id
    and until.event_date <= today.event_date
    and until.event_date >= cast(today.event_date - interval 89 day as date)
where today.event_date >= $start and today.event_date < $end
group by today.event_date, today.experiment, today.offer_id
