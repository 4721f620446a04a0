"""`promo power`: what the exploration of a day can see, and how long it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, timedelta

from promo_assets.strategy.experiments.power import ERROR, POWER, detectable_lift, users_an_arm
from promo_assets.warehouse.reading import Read

LIFTS = (0.05, 0.1, 0.2, 0.4)
DAYS = 28

OUTCOMES = """
select count(*) as users, avg(orders_28d) as orders, var_samp(orders_28d) as orders_variance,
    avg(cast(spend_28d as double)) as spend, var_samp(cast(spend_28d as double)) as spend_variance
from features.user_features
inner join strategy.assignments using (user_id, as_of_date)
where as_of_date = $day and (purpose is not null or list_contains($open, reason))
"""
EXPLORED = """
select coalesce(offer_id, 'none') as arm, count(*) as users
from strategy.assignments where as_of_date = $day and purpose = 'learn' group by all order by all
"""


def power(read: Read, day: date, users: int | None) -> Iterator[str]:
    """The effects that can be seen, line by line: of so many ``users`` an arm, or of those whom the
    exploration of ``day`` draws day after day."""
    from promo_assets.strategy.allocation.decisions import NO_BUDGET, NOT_SURE, NOT_WORTH

    open_ = [NO_BUDGET, NOT_SURE, NOT_WORTH]
    known = read(OUTCOMES, {"day": day, "open": open_}).row(0, named=True)
    arms = dict(read(EXPLORED, {"day": day}).iter_rows())
    if not known["users"]:
        yield f"no user could get an offer on {day}; materialise it first, or choose another day"
        return
    drawn = sum(arms.values())
    a_day = drawn / len(arms) if arms else 0.0
    yield (
        f"{known['users']:,} users may get an offer; {drawn:,} are drawn at random that day, about "
        f"{a_day:,.0f} an arm. Two arms, {ERROR:.0%} error, {POWER:.0%} power, {DAYS} days:"
    )
    for outcome in ("orders", "spend"):
        mean, variance = known[outcome] or 0.0, known[f"{outcome}_variance"] or 0.0
        yield f"  {outcome}: {mean:,.2f} a user, standard deviation {math.sqrt(variance):,.2f}"
        if users is not None:
            seen = detectable_lift(users, mean, variance)
            yield f"    {users:,} users an arm can see {_lift(seen)}"
            continue
        for lift in LIFTS:
            needed = users_an_arm(lift, mean, variance)
            if needed is None:
                yield "    nothing is bought, so nothing can be seen"
                break
            when = _when(needed, a_day, day)
            yield f"    a lift of {lift:.0%} needs {needed:>9,} users an arm{when}"


def _lift(lift: float | None) -> str:
    return "nothing: nothing is bought" if lift is None else f"a lift of {lift:.1%} or more"


def _when(needed: int, a_day: float, day: date) -> str:
    if not a_day:
        return "; nobody is explored (PROMO_EXPLORATION_BUDGET)"
    days = math.ceil(needed / a_day)
    if days > 3650:
        return ": more than ten years at this exploration budget"
    return f": {days:,} days of exploration, known on {day + timedelta(days=days + DAYS)}"
