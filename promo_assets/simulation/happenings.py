"""What happened on a day, as arrays of integers: visits, events, order lines to come back, sends.

Times are microseconds of the day, money is cents, -1 is nothing. Not here: why it happened
(``behaviour.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from promo_assets.contract.events import EVENT_TYPES
from promo_assets.simulation.arrays import Arrays

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

TYPE_NAMES = tuple(kind.name for kind in EVENT_TYPES)
(
    VIEW,
    SEARCH,
    CLICK,
    FAVOURITE,
    ADD_TO_CART,
    REMOVE_FROM_CART,
    PURCHASE,
    RETURN,
    OFFER_SENT,
    OFFER_WITHHELD,
    OFFER_VIEWED,
    OFFER_REDEEMED,
) = range(len(TYPE_NAMES))


@dataclass
class Visits(Arrays):
    """Visits, and what happens without one (a send, a return): one entry each."""

    person: Numbers
    account: Numbers
    """Number of the account, where somebody is logged in at any time."""
    device: Numbers
    channel: Numbers
    login: Numbers
    """From when on the account is known; `NEVER`."""
    offer: Numbers
    campaign: Numbers
    probability: npt.NDArray[np.float64]
    """Of the arm that was drawn; NaN = not known."""
    order: Numbers
    """Number of the order; `OWN_ORDER`: the visit's own."""


OWN_ORDER = -2
"""Orders are numbered as visits are, once the whole day is known."""


@dataclass
class Events(Arrays):
    """What happened: one entry an event; ``visit`` is an index of `Visits`."""

    visit: Numbers
    time: Numbers
    type: Numbers
    item: Numbers
    quantity: Numbers
    discount: Numbers
    category: Numbers
    """What was searched for."""

    @property
    def lines(self) -> Mask:
        """Which of them are order lines."""
        return (self.type == PURCHASE) | (self.type == RETURN)


@dataclass
class Orders(Arrays):
    """Lines that come back later: one entry a line."""

    due: Numbers
    person: Numbers
    account: Numbers
    device: Numbers
    channel: Numbers
    item: Numbers
    quantity: Numbers
    discount: Numbers
    order: Numbers
    """While the day is played an index of `Visits`, then the number of the order."""


@dataclass
class Sends(Arrays):
    """What campaigns drew for people: one entry a person, ordered by person."""

    person: Numbers
    account: Numbers
    offer: Numbers
    """Index of `OFFERS`; for the control arm the one withheld, -1 where several competed."""
    sent: Mask
    campaign: Numbers
    probability: npt.NDArray[np.float64]
