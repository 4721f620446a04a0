"""The shop's own campaigns: who is drawn for what, and with which probability.

Every week a fourth of those who allow marketing is addressed, so that nobody is sent anything
within 28 days of a send, and a 28-day trial measures that send alone.

`randomised`: seven tenths of them take part in campaigns of one offer each (half get it, half are
the control), three tenths in a campaign in which all offers compete. `biased`: who ordered lately
gets an offer more often, and a better one; nobody is withheld and no probability is logged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from promo_assets.simulation.draws import bits, field, purpose
from promo_assets.simulation.happenings import Sends
from promo_assets.simulation.offers import NO_OFFER, OFFER_IDS
from promo_assets.simulation.people import People
from promo_assets.simulation.state import State

Numbers = npt.NDArray[np.int64]
Policy = Literal["random", "biased", "none"]

FIRST_DAY = 2
"""So that the first campaign's trials close on the 30th day."""
EVERY_DAYS = 7
COHORTS = 4

ALONE = 0.7
SENT_ALONE = 0.5
CONTROL = 0.3
"""Share of the control arm where all offers compete; they share the rest equally."""

BIASED_LOW, BIASED_SPAN, BIASED_HALF = 0.05, 0.60, 0.5
"""A biased send has the probability LOW + SPAN x r / (r + HALF), r = recent orders."""
BIASED_BETTER = 0.5
"""With more recent orders than this the better offers are likelier."""


@dataclass(frozen=True)
class Draw:
    """What a day's campaigns drew, who might have been drawn, and how likely it truly was."""

    sends: Sends
    """As logged: without probabilities if the policy does not tell them."""
    propensity: npt.NDArray[np.float64]
    """True probability of what was drawn, for each of ``sends``."""
    campaigns: tuple[str, ...]
    """Names; `Sends.campaign` is an index of them."""
    not_sent: Numbers
    """People (indices) whom a biased policy did not address, though it might have."""
    not_sent_propensity: npt.NDArray[np.float64]


def is_campaign_day(day: int, warm_up: int) -> bool:
    """Whether the shop's own campaigns go out on ``day``; there are none in the warm-up."""
    day -= warm_up
    return day >= FIRST_DAY and (day - FIRST_DAY) % EVERY_DAYS == 0


def draw(
    policy: Policy, people: People, state: State, day: int, date: object, warm_up: int = 0
) -> Draw | None:
    """The campaigns of ``day``; None on a day without. ``people`` are all, from number 0."""
    if policy == "none" or not is_campaign_day(day, warm_up):
        return None
    week = (day - warm_up - FIRST_DAY) // EVERY_DAYS
    cohort = field(bits(purpose(people.seed, "cohort"), people.numbers), 0, 16) % COHORTS
    who = np.flatnonzero((cohort == week % COHORTS) & people.consenting(day))
    drawn = bits(purpose(people.seed, "campaign", day), who)
    names = tuple(f"{date}-{offer}" for offer in OFFER_IDS)
    if policy == "random":
        return _randomised(who, drawn, (*names, f"{date}-all"))
    return _biased(who, drawn, names, state.recent_orders(day)[who])


def _randomised(who: Numbers, drawn: npt.NDArray[np.uint64], names: tuple[str, ...]) -> Draw:
    offers = len(OFFER_IDS)
    alone = field(drawn, 0, 16) < ALONE * 65536
    offer = field(drawn, 16, 16) * offers // 65536
    arm = field(drawn, 32, 16) / 65536
    sent = np.where(alone, arm < SENT_ALONE, arm >= CONTROL)
    each = (1 - CONTROL) / offers
    probability = np.where(
        alone, np.where(sent, SENT_ALONE, 1 - SENT_ALONE), np.where(sent, each, CONTROL)
    )
    sends = Sends(
        person=who,
        account=who * 2,
        offer=np.where(alone | sent, offer, NO_OFFER),
        sent=sent,
        campaign=np.where(alone, offer, offers),
        probability=probability,
    )
    nobody = np.empty(0, np.int64)
    return Draw(sends, probability, names, nobody, nobody.astype(np.float64))


def _biased(
    who: Numbers,
    drawn: npt.NDArray[np.uint64],
    names: tuple[str, ...],
    recent: npt.NDArray[np.float64],
) -> Draw:
    offers = len(OFFER_IDS)
    chance = BIASED_LOW + BIASED_SPAN * recent / (recent + BIASED_HALF)
    sent = field(drawn, 32, 16) < chance * 65536
    # Two chances to get one of the better half, for those who ordered lately.
    worse = field(drawn, 0, 16) * offers // 65536
    other = field(drawn, 16, 16) * offers // 65536
    better = np.where(recent > BIASED_BETTER, np.minimum(worse, other), worse)
    share = np.where(recent > BIASED_BETTER, (2 * (offers - better) - 1) / offers**2, 1 / offers)
    at = np.flatnonzero(sent)
    sends = Sends(
        person=who[at],
        account=who[at] * 2,
        offer=better[at],
        sent=np.ones(len(at), bool),
        campaign=better[at],
        probability=np.full(len(at), np.nan),
    )
    return Draw(sends, (chance * share)[at], names, who[~sent], 1 - chance[~sent])
