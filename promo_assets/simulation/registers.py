"""What the shop knows besides events: users, explicit links, consents, and the offer catalogue."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.simulation.calendar import Calendar
from promo_assets.simulation.draws import bits, field, purpose, threshold
from promo_assets.simulation.expected import Baskets, outcomes
from promo_assets.simulation.offers import OFFERS, Offer
from promo_assets.simulation.people import People
from promo_assets.simulation.rows import TIME, account_ids, device_ids

Numbers = npt.NDArray[np.int64]

REGIONS = ("north", "east", "south", "west", "centre")
AGES = ("18-24", "25-34", "35-49", "50-64", "65+")
DEVICE_REFUSES = 0.02
"""Share of devices on which marketing is refused some day of the first year."""
LINKS_COMPUTER = 0.05
"""Share of people with two devices whose computer the shop links to the account itself."""
PERSONALISATION = 0.9
SAMPLE = 20_000
"""People whose expected behaviour sets the catalogue's assumptions."""
PRIOR_LIFT = {"informational": 0.02}
USUAL_PRIOR_LIFT = 0.08


def users(people: People, start: date, day: int) -> pl.DataFrame:
    """Accounts that exist at the end of ``day``; a person's second account is as old as the first.

    Attributes are weakly related to the latent state: the price-sensitive are younger.
    """
    who, account = _accounts(people, day)
    drawn = bits(purpose(people.seed, "attributes"), who)
    age = field(drawn, 0, 16) / 65536 * 0.8 + 0.2 * (1 - people.sensitivity[who])
    region = field(drawn, 16, 16) * len(REGIONS) // 65536
    granted = people.consent[who] & (people.withdrawal[who] > day)
    return pl.DataFrame(
        {
            "user_id": account_ids(account)[:-1],
            "signup_time": _moments(start, people.signup[who], field(drawn, 32, 32)),
            "consent_marketing": granted,
            "region": pl.Series(REGIONS)[region],
            "age_group": pl.Series(AGES)[(age * len(AGES)).astype(np.int64)],
        }
    )


def identities(people: People, start: date, day: int) -> pl.DataFrame:
    """Links that the shop states: two accounts of one person, and some computers."""
    known = people.signup <= day
    two = np.flatnonzero(people.linked & known)
    drawn = field(bits(purpose(people.seed, "linked"), people.numbers), 0, 16)
    desk = (people.devices > 1) & ~people.shares & (drawn < threshold(LINKS_COMPUTER, 16))
    # The neighbour may share that device: then it is linked to nobody.
    desk[:-1] &= ~people.shares[1:]
    one = np.flatnonzero(desk & known)
    person = np.concatenate([two, two, one])
    slot = np.repeat([0, 0, 1], [len(two), len(two), len(one)])
    second = np.repeat([0, 1, 0], [len(two), len(two), len(one)])
    moment = field(bits(purpose(people.seed, "linked at"), person * 2 + second), 0, 32)
    return pl.DataFrame(
        {
            "device_id": device_ids(person * 4 + slot)[:-1],
            "user_id": account_ids(person * 2 + second)[:-1],
            "linked_at": _moments(start, people.signup[person], moment),
        }
    )


def consents(people: People, start: date, day: int) -> pl.DataFrame:
    """Statements up to the end of ``day``: at sign-up, withdrawals, and refusals on devices."""
    who, account = _accounts(people, day)
    moment = field(bits(purpose(people.seed, "attributes"), who), 32, 32)
    ids = account_ids(account)[:-1]
    signup = _moments(start, people.signup[who], moment)
    drawn = bits(purpose(people.seed, "consents"), account)
    personal = field(drawn, 0, 16) < threshold(PERSONALISATION, 16)
    left = pl.Series(people.consent[who] & (people.withdrawal[who] <= day))
    withdrawn = _moments(start, people.withdrawal[who], field(drawn, 16, 32))
    refused = bits(purpose(people.seed, "refusals"), people.numbers)
    when = field(refused, 16, 16) * 365 // 65536
    refuses = (field(refused, 0, 16) < threshold(DEVICE_REFUSES, 16)) & (when <= day)
    at = np.flatnonzero(refuses & (people.arrival <= day))
    slot = np.where(people.shares[at], 0, people.devices[at] - 1)
    devices = device_ids(people.numbers[at] * 4 + slot)[:-1]
    parts = [
        _statements(ids, None, "marketing", people.consent[who], signup),
        _statements(ids, None, "personalisation", personal, signup),
        _statements(ids.filter(left), None, "marketing", False, withdrawn.filter(left)),
        _statements(
            None, devices, "marketing", False,
            _moments(start, np.maximum(when[at], people.arrival[at]), field(refused[at], 32, 32)),
        ),
    ]  # fmt: skip
    return pl.concat(parts)


def catalogue(people: People, calendar: Calendar, baskets: Baskets) -> str:
    """offers.yaml: terms as they are, assumptions near the truth, a cautious prior lift."""
    sample = people.part(0, min(SAMPLE, len(people)))
    expected = outcomes(sample, np.zeros(len(sample)), 0, calendar, baskets)
    rates = expected.offer_redeems.mean(axis=1)
    costs = expected.offer_cost.mean(axis=1) / np.maximum(rates, 1e-9)
    texts = [
        _entry(offer, rate, cost) for offer, rate, cost in zip(OFFERS, rates, costs, strict=True)
    ]
    head = (
        "# The simulated shop's offers, written with its events; docs/simulator.md explains them.\n"
    )
    return head + "offers:\n" + "\n".join(texts)


def _entry(offer: Offer, rate: float, cost: float) -> str:
    valued = offer.kind not in ("free_shipping", "informational")
    value = offer.value if offer.kind in ("percent_off", "bogo", "points") else offer.value / 100
    rows = {
        "id": offer.id,
        "name": f'"{offer.name}"',
        "kind": offer.kind,
        "value": value if valued else None,
        "min_spend": f"{offer.min_spend / 100:.2f}" if offer.min_spend else None,
        "max_discount": f"{offer.max_discount / 100:.2f}" if offer.max_discount else None,
        "valid_days": offer.valid_days,
        "send_cost": f"{offer.send_cost / 100:.2f}",
        "channels": f"[{offer.channel}]",
        "frequency_cap": "{times: 1, days: 28}",
        "expected_redemption_rate": round(float(rate), 4),
        "expected_cost_per_redemption": f"{cost:.2f}",
        "prior_lift": PRIOR_LIFT.get(offer.kind, USUAL_PRIOR_LIFT),
    }
    lines = [f"    {key}: {told}" for key, told in rows.items() if told is not None]
    return "  - " + "\n".join(lines).lstrip() + "\n"


def _accounts(people: People, day: int) -> tuple[Numbers, Numbers]:
    """People (indices) and numbers of their accounts, those made by the end of ``day``."""
    one = np.flatnonzero((people.signup <= day) & (people.arrival <= day))
    two = one[people.accounts[one] == 2]
    who = np.concatenate([one, two])
    second = np.repeat([0, 1], [len(one), len(two)])
    order = np.argsort(who * 2 + second)
    return who[order], (who * 2 + second)[order]


def _statements(
    user: pl.Series | None,
    device: pl.Series | None,
    about: str,
    granted: object,
    since: pl.Series,
) -> pl.DataFrame:
    nobody = pl.Series([None], dtype=pl.String).extend_constant(None, max(len(since) - 1, 0))
    nobody = nobody[: len(since)]
    values = np.broadcast_to(np.asarray(granted, bool), len(since))
    return pl.DataFrame(
        {
            "user_id": nobody if user is None else user,
            "device_id": nobody if device is None else device,
            "purpose": pl.Series([about]).new_from_index(0, len(since)),
            "granted": pl.Series(values),
            "since": since,
        }
    )


def _moments(start: date, day: npt.NDArray[np.integer], drawn: Numbers) -> pl.Series:
    """A moment of each ``day`` (numbered from ``start``), by 32 random bits."""
    midnight = datetime.combine(start, time()) - datetime(1970, 1, 1)
    first = midnight // timedelta(microseconds=1)
    micros = first + (day.astype(np.int64) * 86_400 + drawn * 86_400 // 2**32) * 1_000_000
    return pl.Series(micros).cast(TIME)
