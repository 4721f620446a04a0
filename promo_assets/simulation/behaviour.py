"""A day of some people: their visits and what they do in them, as arrays of integers.

Times are microseconds of the day, money is cents, -1 is nothing. What a person does on a day
depends on the seed, the person, the day and the person's `State`, on nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from promo_assets.simulation import people as who
from promo_assets.simulation.arrays import Arrays
from promo_assets.simulation.assortment import (
    CATEGORIES,
    CATEGORY_SLOTS,
    ITEM_SLOTS,
    ITEMS_A_CATEGORY,
    SALE_OFF_PERCENT,
    VARIANTS,
    Assortment,
)
from promo_assets.simulation.calendar import Calendar
from promo_assets.simulation.draws import bits, choices, field, more_bits, purpose, threshold
from promo_assets.simulation.happenings import (
    ADD_TO_CART,
    CLICK,
    FAVOURITE,
    OFFER_REDEEMED,
    OFFER_SENT,
    OFFER_VIEWED,
    OFFER_WITHHELD,
    OWN_ORDER,
    PURCHASE,
    REMOVE_FROM_CART,
    RETURN,
    SEARCH,
    VIEW,
    Events,
    Mask,
    Numbers,
    Orders,
    Sends,
    Visits,
)
from promo_assets.simulation.offers import (
    BOGO,
    DOUBLES,
    FILLS,
    FILLS_FROM,
    MOST_FILLERS,
    NO_OFFER,
    OFFERS,
    REDEEMS,
    THRESHOLD,
    VALID_DAYS,
)
from promo_assets.simulation.people import EMAIL, STORE, People, device
from promo_assets.simulation.state import State

SECOND = 1_000_000
DAY = 86_400 * SECOND
NEVER = np.iinfo(np.int64).max
FIRST_ONLINE, SECOND_ONLINE, IN_STORE = range(3)
A_PERSON = 4
"""A visit's key is the person's number times this, plus its own."""

MOST_ONLINE = 0.9
MOST_CONVERSION = 0.6
ABANDONS = (0.18, 0.06, 0.12, 0.08)
"""Share of online visits that put something into the cart and leave, by type."""
STEPS = 3.6
MOST_STEPS = 30
PACE_SECONDS = (12, 60)
CLICKED = 0.30
FAVOURED = 0.035
SEARCHES = (0.42, 0.12)
"""Share of online visits with a first and a second search."""
REMOVES_ONE = 0.10
"""Share of orders before which another item was put into the cart and taken out again."""
REMOVES_ABANDONED = 0.25
RETURNED = 0.12
RETURN_DAYS = (3, 15)
LOGIN = ((0.96, 0.03), (0.55, 0.425), (0.94, 0.045), (0.98, 0.015), (1.0, 0.0))
"""By channel: share of visits that begin logged in, and that log in on the way."""
LOGS_IN_TO_ORDER = 0.92
SECOND_ACCOUNT = 0.4
FROM_EMAIL = 0.45
"""Share of online visits that come from an offer's e-mail, until the offer was seen."""
SEES_OFFER = (0.85, 0.60, 0.45, 0.35)
"""Share of online visits that open an offer not seen yet, by type."""
SEEKS_COUPONS = ((0.06, 0.24), (0.02, 0.04), (0.02, 0.04), (0.02, 0.04))
"""Share of online visits with a search for coupons, by type: at least, and more by sensitivity."""
COUPONS = CATEGORIES
"""What is searched for where it is no category."""

HOUR_WEIGHTS = (
    (2, 1, 1, 1, 2, 6, 14, 18, 16, 12, 10, 9, 8, 7, 6, 6, 6, 6, 6, 6, 5, 4, 3, 2),
    (1, 1, 1, 1, 1, 2, 4, 6, 8, 10, 12, 16, 18, 16, 10, 8, 7, 7, 7, 7, 6, 5, 3, 2),
    (2, 1, 1, 1, 1, 1, 2, 3, 4, 5, 5, 6, 7, 6, 6, 7, 9, 12, 15, 18, 19, 16, 10, 5),
    (12, 9, 6, 4, 2, 1, 1, 2, 3, 4, 4, 5, 5, 5, 5, 6, 6, 7, 8, 10, 14, 18, 20, 18),
    (0, 0, 0, 0, 0, 0, 0, 0, 3, 7, 9, 10, 11, 9, 8, 8, 10, 12, 9, 4, 0, 0, 0, 0),
)
"""UTC hours of four kinds of people, and of the store."""


def _geometric(mean: float, most: int) -> Numbers:
    """256 quantiles of 1, 2, ... with about this mean."""
    uniform = (np.arange(256) + 0.5) / 256
    return np.minimum(1 + np.floor(np.log(uniform) / np.log(1 - 1 / mean)), most).astype(np.int64)


_HOURS = np.stack([choices(np.array(row, float), 4096) for row in HOUR_WEIGHTS]) * 3600 * SECOND
_STEPS = _geometric(STEPS, MOST_STEPS)
UNITS = np.stack([_geometric(mean, 9) for mean in who.BASKET_UNITS])
QUANTITIES = choices(np.array([0.0, 0.87, 0.10, 0.03]), 64)
_MIX = np.stack([choices(np.array(mix), 256) for mix in who.CHANNEL_MIX])
_LOGIN = np.array([[threshold(a, 8), threshold(a + b, 8)] for a, b in LOGIN])
_SEES = np.array([threshold(share, 8) for share in SEES_OFFER])
_ABANDONS, _SEEKS = np.array(ABANDONS), np.array(SEEKS_COUPONS)
_REDEEMS = np.array([threshold(share, 8) for share in REDEEMS])


class Shop:
    """What is the same for everyone on a day, looked up once."""

    def __init__(self, seed: int, calendar: Calendar, assortment: Assortment, day: int) -> None:
        self.seed, self.day, self.calendar, self.assortment = seed, day, calendar, assortment
        self.visits = calendar.visits(day)
        self.conversion = calendar.conversion(day)
        self.today = assortment.substitutes(day)
        self.available = assortment.available(day)
        self.partner, self.joins = assortment.partner
        off = SALE_OFF_PERCENT if calendar.is_sale(day) else 0
        self.markdown = np.where(assortment.on_sale, off, 0)
        self.category_slots = assortment.category_slots.ravel()
        self.item_slots = assortment.item_slots.ravel()
        self.price = assortment.price

    def stream(self, name: str) -> int:
        return purpose(self.seed, name, self.day)


def play(shop: Shop, people: People, state: State) -> tuple[Visits, Events, Orders]:
    """What ``people`` do on the day, and which of their lines will come back.

    Changes ``state``: offers seen and redeemed, orders. Visits are in the order of people.
    """
    walk = _Walk(shop, people, state)
    return walk.visits(), walk.events(), walk.coming_back()


def sent(sends: Sends, shop: Shop) -> tuple[Visits, Events]:
    """The sends of the day, and for the control arm that nothing was sent, in the morning."""
    size = len(sends.person)
    none = np.full(size, -1)
    channels = np.array([who.CHANNELS.index(offer.channel) for offer in OFFERS] + [EMAIL])
    visits = Visits(
        sends.person, sends.account, none, channels[sends.offer], np.zeros(size, np.int64),
        sends.offer, sends.campaign, sends.probability, none,
    )  # fmt: skip
    drawn = bits(shop.stream("send time"), sends.person)
    time = 6 * 3600 * SECOND + field(drawn, 0, 32) * (3 * 3600 * SECOND) // 2**32
    kind = np.where(sends.sent, OFFER_SENT, OFFER_WITHHELD)
    index = np.arange(size)
    return visits, Events(index, time, kind, none, none, np.zeros(size, np.int64), none)


def returned(returns: Orders, shop: Shop) -> tuple[Visits, Events]:
    """The lines that come back today."""
    size = len(returns.person)
    none, zero = np.full(size, -1), np.zeros(size, np.int64)
    visits = Visits(
        returns.person, returns.account, returns.device, returns.channel, zero, none, none,
        np.full(size, np.nan), returns.order,
    )  # fmt: skip
    drawn = bits(shop.stream("return time"), returns.person * 4096 + returns.item)
    time = 8 * 3600 * SECOND + field(drawn, 0, 32) * (12 * 3600 * SECOND) // 2**32
    index, kind = np.arange(size), np.full(size, RETURN)
    return visits, Events(index, time, kind, returns.item, returns.quantity, returns.discount, none)


class _Walk:
    """The visits of some people on a day, built up array by array.

    ``index`` are the visitors (indices of ``people``), ``online`` says which visits are; four
    words of random bits a visit decide everything but the single steps. Times of a visit are
    multiples of 16 microseconds, plus a number by the kind of event: none happen at once.
    """

    def __init__(self, shop: Shop, people: People, state: State) -> None:
        self.shop, self.people, self.state = shop, people, state
        self.index, self.number = _visitors(shop, people, state)
        self.size = len(self.index)
        self.person = people.numbers[self.index]
        self.drawn = bits(shop.stream("visit"), self.person * A_PERSON + self.number)
        self.one, self.two, self.three, self.four = (
            more_bits(self.drawn, step) for step in (1, 2, 3, 4)
        )
        self.online = self.number != IN_STORE
        self._meet_offers()
        self._decide()
        self._place()
        self._log_in()
        self._walk()
        self._fill_baskets()
        self._pay()

    def _meet_offers(self) -> None:
        """Which offer works for the visitor, and who sees it for the first time."""
        state, index, day = self.state, self.index, self.shop.day
        self.kind = self.people.type[index]
        offer = state.offer[index].astype(np.int64)
        age = day - state.sent_day[index]
        works = (offer >= 0) & (age < VALID_DAYS[offer])
        self.offer = np.where(works, offer, NO_OFFER)
        unseen = works & ~state.seen[index] & self.online
        mails = np.array([o.channel == "email" for o in OFFERS] + [False])
        self.from_email = (
            unseen & mails[self.offer] & (field(self.three, 48, 8) < threshold(FROM_EMAIL, 8))
        )
        self.sees = unseen & (self.from_email | (field(self.two, 48, 8) < _SEES[self.kind]))

    def _decide(self) -> None:
        """Whether the visit ends in an order, or in a cart that is left."""
        shop, index = self.shop, self.index
        converts = self.people.conversion[index] * (
            shop.conversion * np.sqrt(self.state.lift_on(shop.day, index))
        )
        uniform = field(self.one, 0, 32)
        bought = np.minimum(converts, MOST_CONVERSION) * 2.0**32
        self.orders = ~self.online | (uniform < bought)
        self.abandons = ~self.orders & (uniform < bought + _ABANDONS[self.kind] * 2.0**32)
        units = UNITS[self.people.basket[index], field(self.two, 8, 8)]
        self.units = np.where(self.orders | self.abandons, units, 0)
        browsed = _STEPS[field(self.two, 0, 8)] + (self.units > 0)
        self.steps = np.where(self.online, self.units + browsed, self.units)

    def _place(self) -> None:
        """Channel, device and time."""
        people, index = self.people, self.index
        channel = _MIX[people.mix[index], field(self.one, 32, 8)]
        channel = np.where(self.from_email, EMAIL, channel)
        self.channel = np.where(self.online, channel, STORE)
        slot = _slot(self.channel, people.devices[index], field(self.one, 40, 8))
        whose = device(self.person, slot, people.shares[index])
        self.device = np.where(self.online, whose, -1)
        self.spare = self.online & (slot > 0)
        self.pace = (
            PACE_SECONDS[0] * SECOND
            + field(self.two, 16, 8) * (PACE_SECONDS[1] - PACE_SECONDS[0]) * SECOND // 256
        ) & ~15
        hours = np.where(self.online, people.hour[index], len(HOUR_WEIGHTS) - 1)
        start = _HOURS[hours, field(self.one, 48, 12)]
        start = start + field(self.three, 0, 24) * 3600 * SECOND // 2**24
        # A visit ends before midnight: its events belong to one day.
        last = DAY - 121 * SECOND - self.steps * self.pace
        self.start = np.minimum(start, last) & ~15
        self.end = self.start + self.steps * self.pace + 60 * SECOND

    def _log_in(self) -> None:
        """From when on the visitor's account is known, if at all, and which account it is."""
        people, index, shop = self.people, self.index, self.shop
        drawn = field(self.two, 24, 8)
        at_once, on_the_way = _LOGIN[self.channel].T
        later = self.start + field(self.two, 32, 8) * self.steps * self.pace // 256
        login = np.where(drawn < on_the_way, later, NEVER)
        login = np.where(drawn < at_once, self.start, login)
        to_order = self.orders & (field(self.four, 0, 8) < threshold(LOGS_IN_TO_ORDER, 8))
        login = np.where(to_order, np.minimum(login, self.end - SECOND), login)
        trait = bits(purpose(shop.seed, "device"), self.device + 1)
        never = self.spare & (field(trait, 0, 16) < threshold(who.NEVER_LOGS_IN, 16))
        self.login = np.where((people.signup[index] < shop.day) & ~never, login, NEVER)
        # Only who is logged in is shown an offer, and only the first time counts. Nobody logs in
        # because of it: else more of what the sent do would be known to be theirs.
        self.sees = _first(index, self.sees & (self.login < NEVER))
        self.state.seen[index[self.sees]] = True
        second = field(self.three, 24, 8) < threshold(SECOND_ACCOUNT, 8)
        account = self.person * 2 + (second & (people.accounts[index] == 2))
        self.account = np.where(self.login < NEVER, account, -1)

    def _walk(self) -> None:
        """Every step of a visit looks at an item; the last ones are put into the cart."""
        shop, people = self.shop, self.people
        steps = self.steps
        self.of = np.repeat(np.arange(self.size), steps)
        self.step = np.arange(len(self.of)) - np.repeat(np.cumsum(steps) - steps, steps)
        drawn = more_bits(self.drawn[self.of], self.step + 16)
        profile = people.profile[self.index].astype(np.int64)[self.of]
        tier = people.tier[self.index].astype(np.int64)[self.of]
        category = shop.category_slots[profile * CATEGORY_SLOTS + field(drawn, 0, 8)]
        category = category.astype(np.int64)
        slot = (tier * CATEGORIES + category) * ITEM_SLOTS + field(drawn, 8, 10)
        self.item = shop.today[shop.item_slots[slot]]
        self.clicks = field(drawn, 18, 8) < threshold(CLICKED, 8)
        self.favours = field(drawn, 26, 8) < threshold(FAVOURED, 8)
        self.time = (
            self.start[self.of]
            + (self.step + 1) * self.pace[self.of]
            + field(drawn, 34, 16) * (self.pace[self.of] // 4) // 65536
        ) & ~15
        self.in_cart = self.step >= (steps - self.units)[self.of]
        self.pieces = QUANTITIES[field(drawn, 50, 6)]
        partner = shop.partner[self.item]
        self.joins = (
            self.in_cart
            & (partner >= 0)
            & (field(drawn, 56, 6) < shop.joins[self.item])
            & shop.available[partner]
        )
        self.drops = field(drawn, 62, 2) < round(4 * REMOVES_ABANDONED)

    def _fill_baskets(self) -> None:
        """Lines of carts, in the order of visits: chosen items, their complements, and what offers
        add."""
        shop, people, index = self.shop, self.people, self.index
        chosen_, joined_ = np.flatnonzero(self.in_cart), np.flatnonzero(self.joins)
        pieces = self.pieces[chosen_]
        persuaded = (self.kind == who.PERSUADABLE) & self.orders & ~self.state.redeemed[index]
        doubles = persuaded & (self.offer == BOGO)
        doubles &= field(self.three, 40, 8) < threshold(DOUBLES, 8)
        visit, step = self.of[chosen_], self.step[chosen_]
        leading = step == (self.steps - self.units)[visit]
        pieces = np.where(doubles[visit] & leading, np.maximum(pieces, 2), pieces)
        self.pieces[chosen_] = pieces
        one = np.ones(len(joined_), np.int64)
        self.lines = _Lines(
            np.concatenate([visit, self.of[joined_]]),
            np.concatenate([2 * step, 2 * self.step[joined_] + 1]),
            np.concatenate([self.item[chosen_], shop.partner[self.item[joined_]]]),
            np.concatenate([pieces, one]),
        ).in_order()
        amount = self._amounts(self.lines)
        price = self._net_price(np.arange(len(shop.price)))
        missing = OFFERS[THRESHOLD].min_spend - amount
        fills = persuaded & (self.offer == THRESHOLD)
        fills &= field(self.three, 32, 8) < threshold(FILLS, 8)
        fills &= (missing > 0) & (amount >= FILLS_FROM * OFFERS[THRESHOLD].min_spend)
        self.fills = np.flatnonzero(fills)
        self.filler = shop.today[
            shop.assortment.filler[people.profile[index[self.fills]] // VARIANTS]
        ]
        wanted = -(-missing[self.fills] // price[self.filler])
        self.fillers = np.minimum(wanted, MOST_FILLERS)
        last = np.full(len(self.fills), FILLER)
        added = _Lines(self.fills, last, self.filler, self.fillers)
        self.lines = _Lines.joined([self.lines, added]).in_order()

    def _net_price(self, item: Numbers) -> Numbers:
        """The price of one after the sale's markdown."""
        price = self.shop.price[item]
        return price - price * self.shop.markdown[item] // 100

    def _amounts(self, lines: _Lines, worth: Numbers | None = None) -> Numbers:
        """Cents of each visit's lines after the sale's markdown."""
        if worth is None:
            worth = self._net_price(lines.item) * lines.quantity
        # Sums of cents below 2**53 are exact as floats.
        return np.bincount(lines.visit, worth, minlength=self.size).astype(np.int64)

    def _pay(self) -> None:
        """Discounts: the sale's markdown, and the offer's, shared among the order's lines."""
        self.lines = self.lines.chosen(self.orders[self.lines.visit])
        lines, index, state = self.lines, self.index, self.state
        amount = self._amounts(lines)
        second = self._net_price(lines.item) * (lines.quantity // 2)
        doubled = self._amounts(lines, second)
        uses = self.orders & (self.offer >= 0) & ~state.redeemed[index] & (self.login < NEVER)
        uses &= field(self.two, 56, 8) < _REDEEMS[self.kind]
        cost = np.zeros(self.size, np.int64)
        for number, offer in enumerate(OFFERS):
            at = np.flatnonzero(uses & (self.offer == number))
            cost[at] = offer.cost(amount[at], doubled[at])
        self.redeems = _first(index, cost > 0)
        self.cost = np.where(self.redeems, cost, 0)
        state.redeemed[index[self.redeems]] = True
        on_lines = np.array([offer.on_lines for offer in OFFERS] + [False])
        reduction = np.where(on_lines[self.offer], self.cost, 0)
        worth = self._net_price(lines.item) * lines.quantity
        # Whole cents by running sums: what a line gets is never more than its amount.
        before = np.cumsum(worth) - worth
        before -= before[np.searchsorted(lines.visit, lines.visit)]
        share, total = reduction[lines.visit], np.maximum(amount[lines.visit], 1)
        own = share * (before + worth) // total - share * before // total
        self.discount = self.shop.price[lines.item] * lines.quantity - worth + own
        self.state.ordered(index[self.orders], self.shop.day)

    def visits(self) -> Visits:
        offered = self.sees | self.redeems
        return Visits(
            person=self.person,
            account=self.account,
            device=self.device,
            channel=self.channel,
            login=self.login,
            offer=np.where(offered, self.offer, NO_OFFER),
            campaign=np.where(offered, self.state.campaign[self.index], -1),
            probability=np.full(self.size, np.nan),
            order=np.where(self.orders, OWN_ORDER, -1),
        )

    def events(self) -> Events:
        browsing = self.online[self.of]
        clicks = np.flatnonzero(self.clicks & browsing)
        favours = np.flatnonzero(self.favours & browsing)
        carts = np.flatnonzero(self.in_cart & browsing)
        joins = np.flatnonzero(self.joins & browsing)
        drops = np.flatnonzero(self.in_cart & self.drops & self.abandons[self.of])
        regrets = np.flatnonzero(
            self.orders & self.online & (field(self.four, 8, 8) < threshold(REMOVES_ONE, 8))
        )
        first = (np.cumsum(self.steps) - self.steps)[regrets]
        fills = np.flatnonzero(self.online[self.fills])
        parts = [
            self._at_steps(VIEW, np.flatnonzero(browsing), 3),
            self._at_steps(CLICK, clicks, 2, -2),
            self._at_steps(FAVOURITE, favours, 4, 3),
            self._at_steps(ADD_TO_CART, carts, 5, 5, pieces=True),
            self._of(VIEW, self.of[joins], self.time[joins] + 7 * SECOND + 6, self._partner(joins)),
            self._of(
                ADD_TO_CART, self.of[joins], self.time[joins] + 8 * SECOND + 7,
                self._partner(joins), np.ones(len(joins), np.int64),
            ),
            self._of(
                ADD_TO_CART, self.fills[fills], self.end[self.fills[fills]] - 40 * SECOND + 8,
                self.filler[fills], self.fillers[fills],
            ),
            self._at_steps(ADD_TO_CART, first, 5, 5, pieces=True),
            self._of(
                REMOVE_FROM_CART, regrets, self.end[regrets] - 30 * SECOND + 9, self.item[first],
                self.pieces[first],
            ),
            self._of(
                REMOVE_FROM_CART, self.of[drops],
                self.end[self.of[drops]] - 30 * SECOND + 32 * self.step[drops] + 9,
                self.item[drops], self.pieces[drops],
            ),
            *self._searches(),
            self._of(OFFER_VIEWED, self.sees.nonzero()[0], self.start[self.sees] + SECOND),
            self._purchases(),
            self._redemptions(),
        ]  # fmt: skip
        return Events.joined(parts)

    def coming_back(self) -> Orders:
        """The lines that will be returned, some days later."""
        lines, day = self.lines, self.shop.day
        drawn = more_bits(self.drawn[lines.visit], lines.place + 256)
        back = np.flatnonzero(field(drawn, 0, 16) < threshold(RETURNED, 16))
        first, last = RETURN_DAYS
        visit = lines.visit[back]
        return Orders(
            due=day + first + field(drawn[back], 16, 16) * (last - first) // 65536,
            person=self.person[visit],
            account=self.account[visit],
            device=np.where(self.account[visit] < 0, self.device[visit], -1),
            channel=self.channel[visit],
            item=lines.item[back],
            quantity=lines.quantity[back],
            discount=self.discount[back],
            order=visit,
        )

    def _partner(self, steps: Numbers) -> Numbers:
        return self.shop.partner[self.item[steps]]

    def _at_steps(
        self, kind: int, steps: Numbers, code: int, seconds: int = 0, *, pieces: bool = False
    ) -> Events:
        time = self.time[steps] + (seconds * SECOND + code)
        quantity = self.pieces[steps] if pieces else None
        return self._of(kind, self.of[steps], time, self.item[steps], quantity)

    @staticmethod
    def _of(
        kind: int,
        visit: Numbers,
        time: Numbers,
        item: Numbers | None = None,
        quantity: Numbers | None = None,
        discount: Numbers | None = None,
        category: Numbers | None = None,
    ) -> Events:
        none = np.full(len(visit), -1)
        return Events(
            visit,
            time,
            np.full(len(visit), kind),
            none if item is None else item,
            none if quantity is None else quantity,
            np.zeros(len(visit), np.int64) if discount is None else discount,
            none if category is None else category,
        )

    def _searches(self) -> list[Events]:
        """Somebody searches for the category of the first item they look at, or of the last, or for
        coupons."""
        parts = []
        ends = np.cumsum(self.steps)
        for number, share in enumerate(SEARCHES):
            drawn = field(self.four, 16 + 8 * number, 8)
            visit = np.flatnonzero(self.online & (drawn < threshold(share, 8)))
            step = (ends - self.steps)[visit] if number == 0 else ends[visit] - 1
            time = self.start[visit] + (2 + 2 * number) * SECOND + 1
            category = self.item[step] // ITEMS_A_CATEGORY
            parts.append(self._of(SEARCH, visit, time, category=category))
        least, more = _SEEKS[self.kind].T
        seeks = least + more * self.people.sensitivity[self.index]
        visit = np.flatnonzero(self.online & (field(self.four, 32, 16) < seeks * 65536))
        time = self.start[visit] + 6 * SECOND + 1
        parts.append(self._of(SEARCH, visit, time, category=np.full(len(visit), COUPONS)))
        return parts

    def _purchases(self) -> Events:
        lines = self.lines
        place = np.arange(len(lines.visit)) - np.searchsorted(lines.visit, lines.visit)
        time = self.end[lines.visit] + 16 * place + 10
        return self._of(PURCHASE, lines.visit, time, lines.item, lines.quantity, self.discount)

    def _redemptions(self) -> Events:
        visit = np.flatnonzero(self.redeems)
        time = self.end[visit] + SECOND + 11
        return self._of(OFFER_REDEEMED, visit, time, discount=self.cost[visit])


FILLER = 255
"""The place of a filler among its visit's lines: after all others."""


@dataclass
class _Lines(Arrays):
    """Lines of carts, ordered by visit and place."""

    visit: Numbers
    place: Numbers
    item: Numbers
    quantity: Numbers

    def in_order(self) -> _Lines:
        return self.chosen(np.argsort(self.visit * 256 + self.place, kind="stable"))


def _visitors(shop: Shop, people: People, state: State) -> tuple[Numbers, Numbers]:
    """Who visits how, in the order of people: indices, and which visit of the day it is."""
    drawn = bits(shop.stream("visits"), people.numbers)
    uniform = drawn.view(np.uint32).reshape(-1, 2)
    lift = state.lift_on(shop.day)
    busy = state.level * shop.visits[people.week]
    online = np.minimum(people.rate * busy * np.sqrt(lift), MOST_ONLINE)
    in_store = np.minimum(people.store_rate * busy * shop.conversion * lift, MOST_ONLINE)
    one = np.flatnonzero(uniform[:, 0] < online * 2.0**32)
    again = bits(shop.stream("second visit"), people.numbers[one])
    two = one[field(again, 0, 16) < threshold(who.SECOND_VISIT, 16)]
    # Without an account the store does not know who is there.
    three = np.flatnonzero((uniform[:, 1] < in_store * 2.0**32) & (people.signup < shop.day))
    index = np.concatenate([one, two, three])
    number = np.repeat([FIRST_ONLINE, SECOND_ONLINE, IN_STORE], [len(one), len(two), len(three)])
    order = np.argsort(index * A_PERSON + number)
    return index[order], number[order]


def _slot(channel: Numbers, devices: npt.NDArray[np.int8], drawn: Numbers) -> Numbers:
    """The phone (0), a computer (1), a tablet (2) or another (3), as far as there are any."""
    at_desk = np.where((devices > 3) & (drawn < 64), 3, np.minimum(devices - 1, 1))
    on_the_way = np.where((devices > 2) & (drawn >= 210), 2, 0)
    mail = np.where(drawn % 2 == 0, at_desk, on_the_way)
    slot = np.where(channel == who.WEB, at_desk, on_the_way)
    return np.where(channel == EMAIL, mail, slot)


def _first(person: Numbers, wanted: Mask) -> Mask:
    """``wanted``, but only the first of each person (persons are in order)."""
    at = np.flatnonzero(wanted)
    first = np.ones(len(at), bool)
    first[1:] = person[at[1:]] != person[at[:-1]]
    result = np.zeros(len(wanted), bool)
    result[at[first]] = True
    return result
