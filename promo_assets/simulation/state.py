"""What of the past matters to tomorrow: one small record a person, and lines to come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from promo_assets.simulation.arrays import Arrays
from promo_assets.simulation.offers import (
    EFFECT_DAYS,
    NO_OFFER,
    VALID_DAYS,
    Response,
    faded,
    response,
)

if TYPE_CHECKING:
    from promo_assets.simulation.happenings import Sends
    from promo_assets.simulation.people import People

Numbers = npt.NDArray[np.int64]
Real = npt.NDArray[np.float64]

HALF_LIFE_DAYS = 28
"""Recent orders count half as much every so many days."""
LONG_AGO = -30_000
_FADES = 0.5 ** (np.arange(4096) / HALF_LIFE_DAYS)


@dataclass
class State(Arrays):
    """One entry a person; a part chosen by a slice writes through."""

    level: npt.NDArray[np.float32]
    """Activity today; not saved, since it follows from the person and the day."""
    offer: npt.NDArray[np.int8]
    """The offer that was sent last, while it has an effect."""
    sent_day: npt.NDArray[np.int16]
    campaign: npt.NDArray[np.int32]
    seen: npt.NDArray[np.bool_]
    redeemed: npt.NDArray[np.bool_]
    lift: npt.NDArray[np.float32]
    dip: npt.NDArray[np.float32]
    fatigue: npt.NDArray[np.float32]
    """As of the day of the last send."""
    fatigue_day: npt.NDArray[np.int16]
    orders: npt.NDArray[np.float32]
    """Recent orders, as of the day of the last one."""
    order_day: npt.NDArray[np.int16]

    @classmethod
    def new(cls, size: int) -> State:
        """People to whom nothing happened yet."""
        return cls(
            level=np.zeros(size, np.float32),
            offer=np.full(size, NO_OFFER, np.int8),
            sent_day=np.full(size, LONG_AGO, np.int16),
            campaign=np.full(size, -1, np.int32),
            seen=np.zeros(size, bool),
            redeemed=np.zeros(size, bool),
            lift=np.ones(size, np.float32),
            dip=np.ones(size, np.float32),
            fatigue=np.zeros(size, np.float32),
            fatigue_day=np.full(size, LONG_AGO, np.int16),
            orders=np.zeros(size, np.float32),
            order_day=np.full(size, LONG_AGO, np.int16),
        )

    def __len__(self) -> int:
        return len(self.offer)

    def grown(self, size: int) -> State:
        """The same people and new ones, ``size`` in all."""
        return State.joined([self, State.new(size - len(self))])

    def lift_on(self, day: int, chosen: Numbers | slice = slice(None)) -> Real:
        """What the last offer does to the number of orders on ``day``: a factor."""
        offer, sent = self.offer[chosen], self.sent_day[chosen]
        lift = np.ones(len(offer))
        at = np.flatnonzero(offer >= 0)
        age = day - sent[at].astype(np.int64)
        works = age < VALID_DAYS[offer[at]]
        lift[at] = np.where(works, self.lift[chosen][at], self.dip[chosen][at])
        lift[at[age >= EFFECT_DAYS]] = 1.0
        return lift

    def tired(self, day: int, chosen: Numbers | slice = slice(None)) -> Real:
        """Fatigue on ``day``, before anything is sent."""
        days = day - self.fatigue_day[chosen].astype(np.int64)
        return faded(self.fatigue[chosen].astype(np.float64), days)

    def recent_orders(self, day: int) -> Real:
        days = np.minimum(day - self.order_day.astype(np.int64), len(_FADES) - 1)
        return self.orders * _FADES[days]

    def ordered(self, index: Numbers, day: int) -> None:
        """Note that the people at ``index`` (each order one entry) ordered on ``day``."""
        who, times = np.unique(index, return_counts=True)
        days = np.minimum(day - self.order_day[who].astype(np.int64), len(_FADES) - 1)
        self.orders[who] = self.orders[who] * _FADES[days] + times
        self.order_day[who] = day

    def send(self, sends: Sends, people: People, day: int) -> Response:
        """Note the offers that go out on ``day``; what each will do (also to the control arm)."""
        who = sends.person
        tired = self.tired(day, who)
        effect = response(sends.offer, people.chosen(who), tired)
        at = np.flatnonzero(sends.sent)
        who = who[at]
        self.offer[who] = sends.offer[at]
        self.sent_day[who] = day
        self.campaign[who] = sends.campaign[at]
        self.seen[who] = self.redeemed[who] = False
        self.lift[who], self.dip[who] = effect.lift[at], effect.dip[at]
        self.fatigue[who] = tired[at] + 1
        self.fatigue_day[who] = day
        return effect
