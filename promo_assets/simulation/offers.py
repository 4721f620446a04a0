"""The shop's offers, and how people respond to them: the causal truth of the simulation.

An offer sent on day D works on days D .. D + valid_days - 1. While it works, the number of orders
is that without it times ``lift``; from then until the 28th day it is that times ``dip``. Both
depend on the person only through type, price sensitivity s, fatigue f (`sent`) and how well the
offer fits who they are (`fit`):

    persuadable    lift = 1 + strength x fit x (0.4 + 1.2 s) / (1 + FATIGUE x f)
                   dip = 1 - pull_forward
    sure thing     lift = 1;  dip = 1
    lost cause     lift = 1;  dip = 1
    sleeping dog   lift = max(0.3, 1 - ANNOYANCE x (1 + FATIGUE x f));  dip = 1

Fatigue is the number of offers so far, each counting half as much every 14 days. What an order
costs the shop is `Offer.cost` of its amount; it is paid once a send, by those who think of it
(`REDEEMS`). Two kinds also change the basket: 满减 fills it up, bogo doubles a line (see
``behaviour.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from promo_assets.simulation.people import LOST_CAUSE, PERSUADABLE, SLEEPING_DOG, SURE_THING, People

Numbers = npt.NDArray[np.int64]
Real = npt.NDArray[np.float64]

EFFECT_DAYS = 28
"""From the send, its day included; after that an offer does nothing any more."""
FATIGUE = 0.6
FATIGUE_HALF_LIFE_DAYS = 14
ANNOYANCE = 0.25
LOWEST_LIFT = 0.3

REDEEMS = np.zeros(4)
REDEEMS[[PERSUADABLE, SURE_THING, LOST_CAUSE, SLEEPING_DOG]] = (0.90, 0.75, 0.60, 0.40)
"""Probability that an order which qualifies uses the offer."""

FILLS = 0.55
"""满减: share of persuadables' orders of at least half the threshold, and below it, that are
filled up with pieces of the cheapest item of the favourite category."""
FILLS_FROM = 0.5
MOST_FILLERS = 12
DOUBLES = 0.5
"""bogo: share of persuadables' orders whose first line of one piece becomes two."""

SHIPPING_CENTS = 590
POINT_CENTS = 1


@dataclass(frozen=True)
class Offer:
    """An offer of the catalogue (money in cents) with its place in the truth."""

    id: str
    name: str
    kind: str
    value: int
    valid_days: int
    channel: str
    strength: float
    pull_forward: float = 0.0
    min_spend: int = 0
    max_discount: int = 0
    send_cost: int = 2

    @property
    def redeemable(self) -> bool:
        return self.kind != "informational"

    @property
    def on_lines(self) -> bool:
        """Whether its cost is a discount of the order's lines."""
        return self.kind not in ("free_shipping", "points", "informational")

    def cost(self, amount: Numbers, doubled: Numbers) -> Numbers:
        """What redeeming it costs, in cents, for orders of ``amount`` (after markdowns) with
        second pieces worth ``doubled``; 0 where the order does not qualify."""
        if self.kind == "percent_off":
            cost = amount * self.value // 100
        elif self.kind == "bogo":
            cost = doubled * self.value // 100
        elif self.kind == "free_shipping":
            cost = np.full(len(amount), SHIPPING_CENTS)
        elif self.kind == "points":
            cost = np.full(len(amount), self.value * POINT_CENTS)
        elif self.kind == "informational":
            cost = np.zeros(len(amount), np.int64)
        else:
            cost = np.full(len(amount), self.value)
        if self.max_discount:
            cost = np.minimum(cost, self.max_discount)
        if self.on_lines:
            cost = np.minimum(cost, amount)
        return np.where(amount >= self.min_spend, cost, 0)


OFFERS = (
    Offer("percent_15", "15 % off, at most 25", "percent_off", 15, 14, "email", 1.10, 0.15,
          max_discount=2500),
    Offer("five_off", "5 off from 30", "amount_off", 500, 14, "app", 0.80, min_spend=3000),
    Offer("full_80_less_12", "满80减12", "threshold_amount_off", 1200, 14, "app", 0.60, 0.10,
          min_spend=8000),
    Offer("second_half_price", "The second one at half price", "bogo", 50, 7, "app", 0.70),
    Offer("free_shipping", "Free shipping", "free_shipping", 0, 14, "email", 0.60),
    Offer("points_300", "300 points", "points", 300, 14, "app", 0.40),
    Offer("letter", "What is new", "informational", 0, 7, "email", 0.20),
)  # fmt: skip
OFFER_IDS = tuple(offer.id for offer in OFFERS)
NO_OFFER = -1
THRESHOLD = next(n for n, offer in enumerate(OFFERS) if offer.kind == "threshold_amount_off")
BOGO = next(n for n, offer in enumerate(OFFERS) if offer.kind == "bogo")

VALID_DAYS = np.array([offer.valid_days for offer in OFFERS])
_STRENGTH = np.array([offer.strength for offer in OFFERS])
_PULL = np.array([offer.pull_forward for offer in OFFERS])


@dataclass(frozen=True)
class Response:
    """What a send does to the number of orders, and to fatigue (arrays of one shape)."""

    lift: Real
    dip: Real


FITS = {
    "percent_15": ((0.9, 1.1, 1.0), (0.5, 1.2)),
    "five_off": ((1.7, 0.8, 0.3), (1.0, 1.0)),
    "full_80_less_12": ((0.2, 0.9, 2.0), (1.0, 1.0)),
    "second_half_price": ((1.5, 1.1, 0.4), (1.6, 0.6)),
    "free_shipping": ((0.8, 1.0, 1.2), (0.3, 1.4)),
    "points_300": ((1.0, 1.0, 1.0), (1.8, 0.5)),
    "letter": ((1.0, 1.0, 1.0), (0.6, 1.4)),
}
"""By kind of basket, and by whether the person goes to the store: yes, no."""

_BASKET = np.array([FITS[name][0] for name in OFFER_IDS])
_STORE = np.array([FITS[name][1] for name in OFFER_IDS])


def fit(offer: Numbers, people: People) -> Real:
    """How well ``offer`` (an index of `OFFERS`, one for each of ``people``) fits."""
    return _BASKET[offer, people.basket] * _STORE[offer, (people.store_rate == 0).astype(np.int64)]


def response(offer: Numbers, people: People, fatigue: Real) -> Response:
    """How ``people`` respond to ``offer`` (an index of `OFFERS` for each)."""
    tired = 1 + FATIGUE * fatigue
    persuadable, dog = people.type == PERSUADABLE, people.type == SLEEPING_DOG
    moved = _STRENGTH[offer] * fit(offer, people) * (0.4 + 1.2 * people.sensitivity)
    lift = np.where(persuadable, 1 + moved / tired, 1.0)
    lift = np.where(dog, np.maximum(LOWEST_LIFT, 1 - ANNOYANCE * tired), lift)
    return Response(lift, np.where(persuadable, 1 - _PULL[offer], 1.0))


_FADES = 0.5 ** (np.arange(4096) / FATIGUE_HALF_LIFE_DAYS)


def faded(fatigue: npt.NDArray[np.floating], days: Numbers) -> Real:
    """Fatigue after ``days`` without an offer."""
    return fatigue * _FADES[np.minimum(days, len(_FADES) - 1)]
