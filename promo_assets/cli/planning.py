"""`promo plan`: what another budget or catalogue would change, without publishing anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, NamedTuple

from promo_assets.cli.arguments import UsageError
from promo_assets.contract.days import Window
from promo_assets.tables.strategy import Decided, Given, decided, known_effects
from promo_assets.warehouse.reading import Read, row

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from promo_assets.strategy.allocation.decisions import Candidates
    from promo_assets.strategy.allocation.limits import Limits

SENT = """
select user_id, offer_id, segment, purpose, cast(expected_cost as double) as cost,
    cast(expected_value as double) as value
from strategy.assignments where as_of_date = $day and arm = 'offer' order by user_id
"""
STEPS = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
"""Budgets of the curve, as multiples of the one that is asked for."""
CAUTIONS = (0.5, 0.9)
"""How probably an effect is larger than what is counted on; 0.5 is as expected."""


class Outcome(NamedTuple):
    """What a plan is expected to come to, in money: sends to earn only."""

    users: int
    value: float
    value_se: float
    cost: float

    @property
    def told(self) -> str:
        from promo_assets.strategy.effects.estimators import Z95

        net, error = self.value - self.cost, Z95 * self.value_se
        return (
            f"{self.users:>8,} {self.cost:>12,.2f} {net:>+12,.2f}  "
            f"({net - error:+,.2f} to {net + error:+,.2f})"
        )


def plan(read: Read, day: date, given: Given, was: Given, user: str | None) -> Iterator[str]:
    """The what-if of ``day``, line by line: under ``given`` in place of ``was``, as published.

    Nothing is published, and nothing is drawn down: it can be asked as often as you like. Raises
    `UsageError` where the day has no segments or what is known of offers is not published.
    """
    window = Window(day, day + timedelta(days=1))
    published = row(
        read, "select * from strategy.budget_prices where as_of_date = $day", {"day": day}
    )
    if published is None:
        raise UsageError(
            f"no price of budget is published for {day}; materialise it first with "
            f"`promo run --from {day} --to {day}`"
        )
    known = None if given.catalogue == was.catalogue else known_effects(read, window, given)
    one = next(decided(read, window, given, known), None)
    if one is None:
        raise UsageError(f"nobody has a segment on {day}")
    before = read(SENT, {"day": day})
    after = _sent(one)
    if user is not None:
        yield from _for_one(one, before, after, user)
        return
    yield (
        f"What would be decided on {day}, in effect on {window.end}: budget {given.budget:,} "
        f"(published: {published['budget']:,}), {given.catalogue.name}"
    )
    yield f"{'':<24}{'users':>8} {'cost':>12} {'net margin':>12}  (95 % interval)"
    yield f"{'what if':<24}{_outcome(one, after).told}"
    yield from _published(before)
    yield from _by_offer(one, before, after)
    yield from _changes(one, before, after)
    yield from _prices(one)
    yield from _curve(one)
    yield from _caution(one, after)
    yield "Nothing was published, and no cap or stock was used."


def _sent(one: Decided) -> np.ndarray:
    """[n]: the column of the offer that goes to each user to earn, or -1."""
    import numpy as np

    ties = one.experiment.ties(one.users)
    choice = one.plan.choose(one.candidates.decided_by, one.candidates.cost, ties)
    return np.where(one.experiment.held_out(one.users), -1, choice)


def _outcome(one: Decided, choice: np.ndarray, offer: int | None = None) -> Outcome:
    """What choices come to: errors of an offer's users go together, those of offers do not."""
    import numpy as np

    from promo_assets.strategy.allocation.decisions import error_of_sum, responses_of

    texts = responses_of(one.known, one.catalogue)
    value, cost, variance, users = 0.0, 0.0, 0.0, 0
    for column in range(len(texts)) if offer is None else [offer]:
        rows = np.flatnonzero(choice == column)
        errors = one.candidates.error[rows, column]
        audience = one.users[rows].with_columns(expected_value_se=errors)
        variance += error_of_sum(audience, texts[column]) ** 2
        value += float(one.candidates.value[rows, column].sum())
        cost += float(one.candidates.cost[rows, column].sum())
        users += len(rows)
    return Outcome(users, value, variance**0.5, cost)


def _published(before: pl.DataFrame) -> Iterator[str]:
    earning = before.filter(purpose="earn")
    net = float((earning["value"] - earning["cost"]).sum())
    cost = float(earning["cost"].sum())
    yield f"{'published':<24}{earning.height:>8,} {cost:>12,.2f} {net:>+12,.2f}"


def _by_offer(one: Decided, before: pl.DataFrame, after: np.ndarray) -> Iterator[str]:
    earning = before.filter(purpose="earn")
    for column, offer in enumerate(one.catalogue.offers):
        outcome = _outcome(one, after, column)
        was = earning.filter(offer_id=offer.id).height
        if outcome.users or was:
            yield f"  {offer.id:<22}{outcome.told}; published: {was:,}"


def _changes(one: Decided, before: pl.DataFrame, after: np.ndarray) -> Iterator[str]:
    """Who gains an offer, loses it, or gets another, by segment."""
    import polars as pl

    names = pl.Series([*one.catalogue.ids, None], dtype=pl.String)
    frame = one.users.select("user_id", "segment").with_columns(
        now=names.gather(pl.Series(after).replace(-1, len(names) - 1))
    )
    earning = before.filter(purpose="earn").select("user_id", was="offer_id")
    both = frame.join(earning, on="user_id", how="left")
    was, now = pl.col("was"), pl.col("now")
    counted = both.group_by("segment").agg(
        gain=(was.is_null() & now.is_not_null()).sum(),
        lose=(was.is_not_null() & now.is_null()).sum(),
        change=(was != now).sum(),
    )
    for segment, gain, lose, change in counted.sort("segment").iter_rows():
        if gain or lose or change:
            yield (
                f"  {segment.replace('_', ' ')}: {gain:,} would get an offer and don't, {lose:,} "
                f"would lose theirs, {change:,} would get another"
            )


def _prices(one: Decided) -> Iterator[str]:
    """What one more unit of each limit would earn."""
    yield f"One more unit of budget would earn at least {one.plan.price.price:.2f} beyond itself."
    if one.plan.limited is None:
        return
    offers = len(one.catalogue.offers)
    prices = one.plan.limited.multipliers
    for column, name in enumerate(one.catalogue.ids):
        if prices[1 + column]:
            yield f"  one more unit of the budget of {name}: {prices[1 + column]:.2f}"
        if prices[1 + offers + column]:
            yield f"  one more coupon of {name}: {prices[1 + offers + column]:.2f}"
    if prices[-1]:
        yield f"  one more unit of liability: {prices[-1]:.2f}"
    yield f"  at most {one.plan.limited.relative_gap:.2%} better is possible"


def _curve(one: Decided) -> Iterator[str]:
    """What other budgets would come to."""
    yield "Other budgets:"
    for step in STEPS:
        budget = one.limits.budget * step
        other = _under(one, replace(one.limits, budget=budget))
        yield f"  {budget:<22,.2f}{_outcome(one, _sent(other)).told}"


def _under(one: Decided, limits: Limits, candidates: Candidates | None = None) -> Decided:
    from promo_assets.strategy.allocation.decisions import day_plan

    candidates = candidates or one.candidates
    plan = day_plan(one.users, candidates, one.catalogue, limits, one.experiment)
    return replace(one, plan=plan, limits=limits, candidates=candidates)


def _caution(one: Decided, after: np.ndarray) -> Iterator[str]:
    """What it would change to count on effects as expected, or on less than the declared bound."""
    from promo_assets.strategy.effects.estimators import normal_quantile

    ours = _outcome(one, after)
    for share in CAUTIONS:
        caution = normal_quantile(share)
        other = _under(one, one.limits, replace(one.candidates, caution=caution))
        theirs = _outcome(one, _sent(other))
        more = (theirs.value - theirs.cost) - (ours.value - ours.cost)
        yield (
            f"Counting on what effects are at least with {share:.0%}, {theirs.users:,} users would "
            f"get an offer; {more:+,.2f} of expected margin."
        )


def _for_one(one: Decided, before: pl.DataFrame, after: np.ndarray, user: str) -> Iterator[str]:
    """What a single user would get."""
    import numpy as np

    found = np.flatnonzero((one.users["user_id"] == user).to_numpy())
    if not len(found):
        raise UsageError(f"{user}: nobody of this name has a segment on {one.day}")
    (place,) = found
    was = before.filter(user_id=user)["offer_id"].to_list()
    yield f"{user} on {one.day}: {one.users['segment'][int(place)].replace('_', ' ')}"
    for column, name in enumerate(one.catalogue.ids):
        value, cost = one.candidates.value[place, column], one.candidates.cost[place, column]
        if not one.candidates.eligible[place, column]:
            told = "not possible by the catalogue's conditions"
        else:
            sure = "" if one.candidates.sure[place, column] else ", not known well enough"
            told = f"margin {value:.2f}, cost {cost:.2f}, net {value - cost:+.2f}{sure}"
        yield f"  {name:<22}{told}"
    get = one.catalogue.ids[after[place]] if after[place] >= 0 else "no offer to earn"
    yield f"would get {get}; published: {was[0] if was else 'no offer'}"
    if one.experiment.held_out(one.users)[place]:
        yield "is held out: whatever is worth it is withheld"
    yield "Nothing was published, and no cap or stock was used."
