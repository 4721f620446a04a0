"""What people would do: expected orders, spend and costs with and without each offer.

Not estimated from draws but computed. Orders are rates times what the calendar, the person's
activity and the offer do to them. The amount of an order is the sum of a random number of
independent items, so its distribution is a convolution, done on a grid of one currency unit (a
value between two points is split between them, which keeps means exact). Left out, because it is
small: the cap on visits and conversion of the busiest people on the busiest days, items out of
stock, and that a day has at most three orders (orders count as Poisson).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from promo_assets.simulation.assortment import (
    CATEGORIES,
    CATEGORY_SLOTS,
    ITEM_SLOTS,
    PAIR_SLOTS,
    PROFILES,
    SALE_OFF_PERCENT,
    TIERS,
    VARIANTS,
    Assortment,
)
from promo_assets.simulation.behaviour import QUANTITIES, RETURNED, UNITS
from promo_assets.simulation.calendar import Calendar
from promo_assets.simulation.offers import (
    BOGO,
    DOUBLES,
    EFFECT_DAYS,
    FILLS,
    FILLS_FROM,
    MOST_FILLERS,
    OFFERS,
    REDEEMS,
    THRESHOLD,
    response,
)
from promo_assets.simulation.people import BLOCK_DAYS, PERSUADABLE, SECOND_VISIT, People

Numbers = npt.NDArray[np.int64]
Real = npt.NDArray[np.float64]

BINS = 1024
"""Amounts of 0 .. 1023 currency units."""
HORIZON = 7


@dataclass(frozen=True)
class Order:
    """Of an order by a kind of basket: arrays [kind], or [offer, persuadable, kind]."""

    amount: Real
    """Expected amount after markdowns, before the offer's discount."""
    goods: Real
    """Expected cost of the goods, as a share of the amount: [kind]."""
    offered: Real
    """Expected amount of an order while the offer works."""
    qualifies: Real
    """Probability that it meets the offer's terms."""
    cost: Real
    """Expected cost of the offer to the shop if it qualifies."""


class Baskets:
    """What orders are worth: kinds of baskets are profile, tier and basket size."""

    def __init__(self, assortment: Assortment) -> None:
        self.assortment = assortment

    @staticmethod
    def kind(people: People) -> Numbers:
        """The kind of everyone's baskets, an index of the tables."""
        sizes, tiers = len(UNITS), len(TIERS)
        profile, tier = people.profile.astype(np.int64), people.tier.astype(np.int64)
        return (profile * tiers + tier) * sizes + people.basket

    @cached_property
    def usual(self) -> Order:
        return self._order(0)

    @cached_property
    def on_sale(self) -> Order:
        return self._order(SALE_OFF_PERCENT)

    def _order(self, off: int) -> Order:
        shop = self.assortment
        price = shop.price - shop.price * np.where(shop.on_sale, off, 0) // 100
        one, amounts, goods = self._units(price / 100)
        counts = np.stack([np.bincount(units, minlength=12) / len(units) for units in UNITS])
        many = np.fft.rfft(amounts, axis=-1)[:, :, None, :]
        transformed = np.zeros((PROFILES, len(TIERS), len(UNITS), BINS // 2 + 1), complex)
        for n in range(counts.shape[1] - 1, -1, -1):
            transformed = transformed * many + counts[:, n, None]
        distribution = np.maximum(np.fft.irfft(transformed, BINS), 0.0)
        grid = np.arange(BINS, dtype=np.float64)
        amount = distribution @ grid
        size = (counts * np.arange(counts.shape[1])).sum(axis=1)
        shape = (len(OFFERS), 2, *amount.shape)
        offered = np.broadcast_to(amount, shape).copy()
        qualifies, cost = np.zeros(shape), np.zeros(shape)
        cents = np.round(grid * 100).astype(np.int64)
        for number, offer in enumerate(OFFERS):
            paid = offer.cost(cents, np.zeros(BINS, np.int64)) / 100
            qualifies[number] = distribution @ (paid > 0)
            cost[number] = distribution @ paid
        filled = self._filled(distribution, price / 100)
        offered[THRESHOLD, 1], qualifies[THRESHOLD, 1], cost[THRESHOLD, 1] = filled
        doubled = self._doubled(one[:, :, None], counts, size)
        offered[BOGO, 1] += doubled[0]
        qualifies[BOGO], cost[BOGO] = doubled[1], doubled[2]
        cost = np.divide(cost, qualifies, out=np.zeros(shape), where=qualifies > 0)
        share = np.broadcast_to((goods / amounts.dot(grid))[:, :, None], amount.shape)
        kinds = amount.size
        return Order(
            amount.reshape(kinds),
            share.reshape(kinds),
            *(values.reshape(len(OFFERS), 2, kinds) for values in (offered, qualifies, cost)),
        )

    def _units(self, price: Real) -> tuple[Real, Real, Real]:
        """[profile, tier]: mean price of an item, distribution of a unit's amount (pieces of an
        item, and its complement), and mean cost of a unit's goods."""
        shop = self.assortment
        partner, often = shop.partner
        joins = often / PAIR_SLOTS
        cost = shop.cost / 100
        pieces = np.bincount(QUANTITIES, minlength=4) / len(QUANTITIES)
        mean_pieces = (pieces * np.arange(4)).sum()
        tables = np.zeros((len(TIERS), CATEGORIES, BINS))
        means = np.zeros((2, len(TIERS), CATEGORIES))
        for tier in range(len(TIERS)):
            for category in range(CATEGORIES):
                slots = shop.item_slots[tier, category]
                item, times = np.unique(slots, return_counts=True)
                share = times / ITEM_SLOTS
                for n in range(1, 4):
                    for joined in (0, 1):
                        chance = joins[item] if joined else 1 - joins[item]
                        value = price[item] * n + joined * price[partner[item]]
                        _add(tables[tier, category], value, share * pieces[n] * chance)
                means[0, tier, category] = (share * price[item]).sum()
                goods = cost[item] * mean_pieces + joins[item] * cost[partner[item]]
                means[1, tier, category] = (share * goods).sum()
        weights = np.stack(
            [np.bincount(row, minlength=CATEGORIES) for row in shop.category_slots]
        ) / CATEGORY_SLOTS  # fmt: skip
        one, goods = np.einsum("pc,mtc->mpt", weights, means)
        return one, np.einsum("pc,tcb->ptb", weights, tables), goods

    def _filled(self, distribution: Real, price: Real) -> tuple[Real, Real, Real]:
        """满减 for persuadables: amount, whether the terms are met, and cost, with fillers."""
        offer = OFFERS[THRESHOLD]
        goal, value = offer.min_spend / 100, offer.value / 100
        grid = np.arange(BINS, dtype=np.float64)
        filler = np.repeat(price[self.assortment.filler], VARIANTS)[:, None]
        wanted = np.minimum(np.ceil((goal - grid) / filler - 1e-9), MOST_FILLERS)
        fills = (grid >= FILLS_FROM * goal) & (grid < goal)
        after = np.where(fills, grid + filler * wanted, grid)
        met = np.where(fills, FILLS * (after >= goal - 1e-9), grid >= goal)
        amount = np.where(fills, (1 - FILLS) * grid + FILLS * after, grid)
        expected = np.einsum("ptub,kpb->kptu", distribution, np.stack([amount, met]))
        return expected[0], expected[1], expected[1] * value

    @staticmethod
    def _doubled(price: Real, counts: Real, size: Real) -> tuple[Real, Real, Real]:
        """bogo: what persuadables add; [persuadable] whether there is a second piece; its cost."""
        pieces = np.bincount(QUANTITIES, minlength=4) / len(QUANTITIES)
        single = pieces[1]
        alone = counts @ single ** np.arange(counts.shape[1])
        added = DOUBLES * single * price
        some = np.stack([1 - alone, 1 - alone * (1 - DOUBLES)])
        share = OFFERS[BOGO].value / 100
        worth = (1 - single) * size * price
        cost = share * np.stack([worth, worth + added])
        return added, np.broadcast_to(some[:, None, None, :], cost.shape), cost


def _add(table: Real, value: Real, weight: Real) -> None:
    """Add ``weight`` at ``value``, split between the two nearest points of the grid."""
    low = np.minimum(np.floor(value).astype(np.int64), BINS - 2)
    high = value - low
    np.add.at(table, low, weight * (1 - high))
    np.add.at(table, low + 1, weight * high)


@dataclass(frozen=True)
class Outcomes:
    """Expectations for people over `EFFECT_DAYS` days: arrays [person] or [offer, person]."""

    orders: Real
    spend: Real
    margin: Real
    soon: Real
    """Orders expected in the first `HORIZON` days."""
    offer_orders: Real
    offer_spend: Real
    """Net of discounts."""
    offer_cost: Real
    """What redemptions cost the shop, without what sending costs."""
    offer_redeems: Real
    """Probability that the offer is redeemed."""
    offer_gain: Real
    """What sending it earns the shop: margin net of returns, less redemptions and the send."""


def outcomes(
    people: People,
    fatigue: Real,
    day: int,
    calendar: Calendar,
    baskets: Baskets,
) -> Outcomes:
    """What is expected of ``people`` from ``day`` on without any offer, and with each offer sent
    that day, as if no other were at work."""
    span = _Span(people, day, calendar)
    kind = baskets.kind(people)
    usual, sale = baskets.usual, baskets.on_sale
    orders, sale_orders = span.orders(EFFECT_DAYS)
    spend = orders * usual.amount[kind] + sale_orders * sale.amount[kind]
    share = 1 - usual.goods[kind]
    parts = []
    persuadable = (people.type == PERSUADABLE).astype(np.int64)
    for number, offer in enumerate(OFFERS):
        which = np.full(len(people), number)
        effect = response(which, people, fatigue)
        early, early_sale = span.orders(offer.valid_days)
        at = (number, persuadable, kind)
        working = effect.lift * early, effect.lift * early_sale
        later = effect.dip * (orders - early), effect.dip * (sale_orders - early_sale)
        gross = working[0] * usual.offered[at] + working[1] * sale.offered[at]
        gross += later[0] * usual.amount[kind] + later[1] * sale.amount[kind]
        uses = REDEEMS[people.type] * (
            working[0] * usual.qualifies[at] + working[1] * sale.qualifies[at]
        )
        redeems = 1 - np.exp(-uses)
        cost = redeems * usual.cost[at]
        net = gross - cost if offer.on_lines else gross
        # Who sends a line back gets what was paid for it: its discount is not lost then.
        kept = (gross * share - spend * share - cost * offer.on_lines) * (1 - RETURNED)
        gain = kept - cost * (not offer.on_lines) - offer.send_cost / 100
        parts.append((np.add(*working) + np.add(*later), net, cost, redeems, gain))
    stacked = [np.array(columns) for columns in zip(*parts, strict=True)]
    return Outcomes(
        orders + sale_orders, spend, spend * share, np.add(*span.orders(HORIZON)), *stacked
    )


class _Span:
    """Orders to come of people from a day on, if nothing is sent to them."""

    def __init__(self, people: People, day: int, calendar: Calendar) -> None:
        store = np.where(people.signup < day, people.store_rate, 0.0)
        self.rate = people.rate * (1 + SECOND_VISIT) * people.conversion + store
        self.everything, self.sale = calendar.demand(day, EFFECT_DAYS)
        self.week = people.week.astype(np.int64)
        self.now, self.then = people.level(day), people.level(day + BLOCK_DAYS)
        self.change = BLOCK_DAYS - (day + people.offset.astype(np.int64)) % BLOCK_DAYS

    def orders(self, days: int) -> tuple[Real, Real]:
        """Orders in the first ``days``: on usual days, and on those of the sale."""
        early = np.minimum(days, self.change)
        found = []
        for table in (self.everything, self.sale):
            before = table[self.week, early]
            found.append(self.now * before + self.then * (table[self.week, days] - before))
        everything, sale = (self.rate * orders for orders in found)
        return everything - sale, sale
