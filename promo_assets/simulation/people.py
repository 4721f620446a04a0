"""Who shops: latent state of every person, their accounts and devices, and when they are active.

Everything here is a function of the seed and the person's number, so it is never stored. People
``0 .. users - 1`` know the shop when the simulation starts; more come every day, in the order of
their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from promo_assets.simulation.assortment import VARIANTS, Assortment
from promo_assets.simulation.draws import bits, choices, field, more_bits, purpose, threshold

Numbers = npt.NDArray[np.int64]
Small = npt.NDArray[np.int8]
Real = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

NEW_A_DAY = 0.002
"""New people a day, relative to those at the start."""

TYPES = ("persuadable", "sure_thing", "lost_cause", "sleeping_dog")
PERSUADABLE, SURE_THING, LOST_CAUSE, SLEEPING_DOG = range(4)
TYPE_CONVERSION = np.array([0.9, 1.5, 0.35, 0.9])
"""Share of visits that end in an order, relative to the average person."""

VISITS_A_DAY = 0.145
VISITS_SPREAD = 0.95
MOST_VISITS_A_DAY = 0.6
SECOND_VISIT = 0.2
"""A day with a visit has a second one with this probability."""
CONVERSION = 0.053
CONVERSION_SPREAD = 0.45
STORE_SHARE = 0.5
STORE_A_DAY = 0.018
STORE_SPREAD = 0.8

ANONYMOUS = 0.08
TWO_ACCOUNTS = 0.01
LINKED_BY_SHOP = 0.6
"""Share of people with two accounts for whom the shop states that both are one."""
SHARED = 0.02
"""Share of odd-numbered people who share the second device of the person before them."""
DEVICES = (0.48, 0.36, 0.12, 0.04)
NEVER_LOGS_IN = 0.01
"""Share of devices, other than a person's first, on which nobody ever logs in."""

CHANNELS = ("app", "web", "mini_program", "email", "store")
APP, WEB, MINI_PROGRAM, EMAIL, STORE = range(5)
CHANNEL_MIX = ((0.80, 0.15, 0.05), (0.20, 0.75, 0.05), (0.15, 0.15, 0.70), (0.45, 0.40, 0.15))
"""App, web and mini program, of four kinds of people."""
CHANNEL_SHARE = (0.35, 0.30, 0.15, 0.20)
HOURS = 4

BLOCK_DAYS = 28
LAPSED = (0.05, 0.15, 0.30, 0.50)
"""Probability that a person pauses for a block of 28 days, of four kinds of people."""
LAPSED_LEVEL = 0.06
CHURN_A_BLOCK = 0.04
COME_BACK_A_BLOCK = 0.05
COME_BACK_LEVEL = 0.7

OLDEST_ACCOUNT_DAYS = 900
CONSENT = 0.88
WITHDRAWS = 0.10
WITHDRAWS_WITHIN_DAYS = 365
NEVER = 32_000
"""A day that does not come."""


def _lognormal(mean: float, spread: float, most: float, size: int = 4096) -> Real:
    """Quantiles of a lognormal distribution with ``mean``, cut at ``most``."""
    uniform = (np.arange(size) + 0.5) / size
    # The logistic approximation of the normal quantile (Bowling et al. 2009) is within 0.02.
    normal = np.log(uniform / (1 - uniform)) / 1.702
    values = np.minimum(np.exp(spread * normal), np.inf)
    for _ in range(20):
        values = np.minimum(values * (mean / values.mean()), most)
    return values


VISIT_RATES = _lognormal(VISITS_A_DAY, VISITS_SPREAD, MOST_VISITS_A_DAY)
CONVERSIONS = _lognormal(CONVERSION, CONVERSION_SPREAD, 0.25)
STORE_RATES = _lognormal(STORE_A_DAY, STORE_SPREAD, 0.15)
BASKET_UNITS = (1.35, 2.0, 3.2)
"""Mean number of different items in a basket, of three kinds of people."""


@dataclass
class People:
    """Latent state, one entry a person (arrays of equal length)."""

    seed: int
    numbers: Numbers
    rate: Real
    """Online visits a day when active (a second one the same day aside)."""
    conversion: Real
    """Share of online visits that end in an order, on a usual day without an offer."""
    store_rate: Real
    """Orders in the store a day when active."""
    sensitivity: Real
    """Price sensitivity, 0 to 1."""
    type: Small
    profile: npt.NDArray[np.int16]
    tier: Small
    basket: Small
    """Kind of basket size, an index of `BASKET_UNITS`."""
    week: Small
    hour: Small
    mix: Small
    devices: Small
    accounts: Small
    """0: never makes one."""
    linked: Mask
    """The shop states that both accounts are one person's."""
    shares: Mask
    """The second device is the second device of the person before."""
    arrival: npt.NDArray[np.int16]
    """First day on which the person can visit; 0 for people of the start."""
    signup: npt.NDArray[np.int16]
    """Day of the account, negative before the start; `NEVER` without one."""
    consent: Mask
    """Marketing consent given when signing up."""
    withdrawal: npt.NDArray[np.int16]
    """Day on which it is withdrawn."""
    offset: Small
    """Blocks of activity change on days ``d`` with (d + offset) % 28 == 0."""
    lapse: Small
    churn: npt.NDArray[np.int16]
    """Block from which on the person stays away, mostly."""

    def __len__(self) -> int:
        return len(self.rate)

    def consenting(self, day: int) -> Mask:
        """Who has an account and allows marketing on ``day``."""
        return self.consent & (self.signup < day) & (day < self.withdrawal)

    def level(self, day: int, chosen: Numbers | slice = slice(None)) -> Real:
        """Activity on ``day`` of the ``chosen`` (indices), relative to an active person: 1,
        `LAPSED_LEVEL` in a pause, 0 after leaving and before arriving."""
        block = (day + self.offset[chosen].astype(np.int64)) // BLOCK_DAYS
        drawn = bits(purpose(self.seed, "level"), self.numbers[chosen] * 4096 + block + 1)
        paused = field(drawn, 0, 16) < _LAPSED[self.lapse[chosen]]
        level = np.where(paused, LAPSED_LEVEL, 1.0)
        back = field(drawn, 16, 16) < threshold(COME_BACK_A_BLOCK, 16)
        gone = np.where(back, COME_BACK_LEVEL, 0.0)
        level = np.where(block >= self.churn[chosen], gone, level)
        return np.where(self.arrival[chosen] <= day, level, 0.0)

    def changes(self, day: int) -> Numbers:
        """Indices of those whose `level` may differ from the day before."""
        turns = (day + self.offset.astype(np.int64)) % BLOCK_DAYS == 0
        return np.flatnonzero(turns | (self.arrival == day))

    def part(self, start: int, end: int) -> People:
        """Those at ``[start, end)``; views, not copies."""
        return self._picked(slice(start, end))

    def chosen(self, index: Numbers) -> People:
        """Those at ``index``."""
        return self._picked(index)

    def _picked(self, index: Numbers | slice) -> People:
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "seed"}
        return People(seed=self.seed, **{name: array[index] for name, array in arrays.items()})


_LAPSED = np.array([threshold(share, 16) for share in LAPSED])
_DEVICES = choices(np.array(DEVICES), 256).astype(np.int8) + np.int8(1)
_MIX = choices(np.array(CHANNEL_SHARE), 256).astype(np.int8)
_WEEK = choices(np.array([0.5, 0.25, 0.25]), 256).astype(np.int8)
_HOUR = choices(np.array([0.2, 0.25, 0.35, 0.2]), 256).astype(np.int8)


def count(users: int, day: int) -> int:
    """How many people there are on ``day`` (0 is the first): those of the start and the new."""
    return users + int(users * NEW_A_DAY * day)


def people(seed: int, users: int, start: int, end: int, assortment: Assortment) -> People:
    """The people with numbers ``[start, end)`` of a shop with ``users`` at its start."""
    number = np.arange(start, end)
    one = bits(purpose(seed, "person"), number)
    two, three, four, five = (more_bits(one, step) for step in (1, 2, 3, 4))
    sensitivity = (field(one, 0, 10) + 0.5) / 1024
    kind = _types(sensitivity, field(one, 10, 16) / 65536)
    anonymous = field(one, 26, 12) < threshold(ANONYMOUS, 12)
    odd = number % 2 == 1
    # Both of a household are asked: a pair is an even number and the odd one after it.
    household = bits(purpose(seed, "household"), number // 2)
    pair = field(household, 0, 16) < threshold(SHARED, 16)
    devices = np.where(anonymous, 1, _DEVICES[field(one, 38, 8)])
    devices = np.where(pair, np.maximum(devices, 2), devices)
    two_accounts = ~anonymous & (field(two, 0, 16) < threshold(TWO_ACCOUNTS, 16))
    arrival = _arrival(users, number)
    store = (field(two, 16, 8) < threshold(STORE_SHARE, 8)) & ~anonymous
    delay = np.where(field(two, 24, 4) < 10, 0, field(two, 28, 4))
    old = -1 - field(three, 0, 16) * OLDEST_ACCOUNT_DAYS // 65536
    withdraws = field(three, 16, 16) < threshold(WITHDRAWS, 16)
    signup = np.where(number < users, old, arrival + delay)
    withdrawal = np.maximum(signup, 0) + 1 + field(three, 32, 16) * WITHDRAWS_WITHIN_DAYS // 65536
    favourite = choices(assortment.category_share, 1024)[field(four, 0, 10)]
    # Whole blocks survived: geometric, by its quantiles.
    uniform = (np.arange(4096) + 0.5) / 4096
    blocks = np.minimum(np.floor(np.log(uniform) / np.log(1 - CHURN_A_BLOCK)), 600)
    came = (arrival + field(four, 44, 8) % BLOCK_DAYS) // BLOCK_DAYS
    return People(
        seed=seed,
        numbers=number,
        rate=VISIT_RATES[field(two, 32, 12)],
        conversion=np.minimum(CONVERSIONS[field(two, 44, 12)] * TYPE_CONVERSION[kind], 0.35),
        store_rate=np.where(store, STORE_RATES[field(three, 48, 12)] * TYPE_CONVERSION[kind], 0.0),
        sensitivity=sensitivity,
        type=kind,
        profile=(favourite * VARIANTS + field(four, 10, 2)).astype(np.int16),
        tier=np.digitize(-sensitivity, (-0.66, -0.25)).astype(np.int8),
        basket=(field(four, 12, 8) * len(BASKET_UNITS) // 256).astype(np.int8),
        week=_WEEK[field(four, 20, 8)],
        hour=_HOUR[field(four, 28, 8)],
        mix=_MIX[field(four, 36, 8)],
        devices=devices.astype(np.int8),
        accounts=np.where(anonymous, 0, np.where(two_accounts, 2, 1)).astype(np.int8),
        linked=two_accounts & (field(two, 56, 8) < threshold(LINKED_BY_SHOP, 8)),
        shares=pair & odd,
        arrival=arrival.astype(np.int16),
        signup=np.where(anonymous, NEVER, signup).astype(np.int16),
        consent=field(one, 46, 10) < threshold(CONSENT, 10),
        withdrawal=np.where(withdraws, withdrawal, NEVER).astype(np.int16),
        offset=(field(four, 44, 8) % BLOCK_DAYS).astype(np.int8),
        lapse=(field(four, 52, 8) % len(LAPSED)).astype(np.int8),
        churn=(came + blocks[field(five, 0, 12)]).astype(np.int16),
    )


def _types(sensitivity: Real, uniform: Real) -> Small:
    """The more price-sensitive are persuadable more often, the less are sure things."""
    persuadable = 0.15 + 0.40 * sensitivity
    sure = persuadable + 0.45 - 0.30 * sensitivity
    kind = (uniform >= persuadable).astype(np.int8)
    kind += uniform >= sure
    kind += uniform >= sure + 0.25
    return kind


def _arrival(users: int, number: Numbers) -> Numbers:
    """The first day d with `count` (users, d) > number."""
    day = np.maximum(((number - users + 1) / (users * NEW_A_DAY)).astype(np.int64) - 1, 0)
    for _ in range(3):
        day += users + (users * NEW_A_DAY * day).astype(np.int64) <= number
    return day


def device(person: Numbers, slot: Numbers, shares: Mask) -> Numbers:
    """A device's number: four a person; a shared one is the second of the person before."""
    return np.where(shares & (slot == 1), (person - 1) * 4 + 1, person * 4 + slot)
