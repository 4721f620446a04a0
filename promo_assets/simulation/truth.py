"""What really is and would be, written beside the events for tests, never for the platform.

truth/persons.parquet            latent state of every person
truth/accounts.parquet           user_id -> person
truth/devices.parquet            device_id -> person; a shared device has two rows
truth/pairs.parquet              planted pairs of items, with their probability
truth/funnel/<day>.parquet       rows by day and event type, before any mess (a file a run)
truth/days/<day>.parquet         visits, orders and money by day
truth/offers/<day>.parquet       sends, redemptions and costs by day and offer
truth/sends/<day>.parquet        who was drawn for what, and what was to be expected of it
truth/purchases/<day>.parquet    every person's purchase probability, on days of decisions
truth/potential_outcomes/<day>.parquet   expectations under every offer, on days of decisions
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.simulation import mess
from promo_assets.simulation.assortment import PAIR_SLOTS, PATHS, VARIANTS, Assortment, money
from promo_assets.simulation.calendar import Calendar
from promo_assets.simulation.campaigns import Draw
from promo_assets.simulation.expected import Baskets, Outcomes, outcomes
from promo_assets.simulation.folder import Mess, Options, replace_text, write
from promo_assets.simulation.happenings import (
    OFFER_REDEEMED,
    OFFER_SENT,
    PURCHASE,
    TYPE_NAMES,
    Sends,
)
from promo_assets.simulation.offers import OFFER_IDS, OFFERS
from promo_assets.simulation.people import TYPES, People
from promo_assets.simulation.rows import Day, account_ids, device_ids
from promo_assets.simulation.state import State

Numbers = npt.NDArray[np.int64]

CHUNK = 65_536


@dataclass
class Tally:
    """Counts of the days of one run: plain numbers until they are written."""

    days: list[dict[str, object]] = field(default_factory=list)
    funnel: list[Numbers] = field(default_factory=list)
    """Rows of each event type."""
    offers: list[Numbers] = field(default_factory=list)
    """[sent, withheld, viewed, redeemed, cents paid; offer], the last column for the control arm
    where several offers competed."""
    accounts: list[mess.Record] = field(default_factory=list)
    """What became of the rows (`mess.Delivery.account`)."""

    def add(self, day: Day, assortment: Assortment, calendar: Calendar) -> None:
        """Count what happened on ``day``."""
        events, visits = day.events, day.visits
        lines = events.chosen(np.flatnonzero(events.lines))
        gross = assortment.price[lines.item] * lines.quantity
        bought = lines.type == PURCHASE
        sessions = visits.device[: day.sessions]
        self.days.append(
            {
                "event_date": day.on,
                "is_sale": calendar.is_sale(day.day),
                "online_visits": int((sessions >= 0).sum()),
                "store_visits": int((sessions < 0).sum()),
                "orders": int((visits.order[: day.sessions] >= 0).sum()),
                "gross": int(gross[bought].sum()),
                "discount": int(lines.discount[bought].sum()),
                "returned": int((gross - lines.discount)[~bought].sum()),
            }
        )
        self.funnel.append(np.bincount(events.type, minlength=len(TYPE_NAMES)))
        self.offers.append(_offers(day))

    @property
    def rows(self) -> dict[str, int]:
        """All rows by event type."""
        return dict(zip(TYPE_NAMES, np.sum(self.funnel, axis=0).tolist(), strict=True))

    def write(self, folder: Path, first: date) -> None:
        days = pl.DataFrame(self.days)
        on, number = days["event_date"], np.arange(days.height)
        cents = {name: money(days[name].to_numpy()) for name in ("gross", "discount", "returned")}
        funnel = {
            "event_date": on.gather(np.repeat(number, len(TYPE_NAMES))),
            "event_type": [*TYPE_NAMES] * len(on),
            "rows": np.concatenate(self.funnel),
        }
        sent, withheld, viewed, redeemed, paid = np.concatenate(self.offers, axis=1)
        sending = np.tile([*(offer.send_cost for offer in OFFERS), 0], len(on))
        offers = {
            "event_date": on.gather(np.repeat(number, len(OFFERS) + 1)),
            "offer_id": [*OFFER_IDS, None] * len(on),
            "sent": sent,
            "withheld": withheld,
            "viewed": viewed,
            "redeemed": redeemed,
            "redemption_cost": money(paid),
            "send_cost": money(sent * sending),
        }
        tables = {
            "funnel": pl.DataFrame(funnel),
            "days": days.with_columns(**cents),
            "offers": pl.DataFrame(offers),
            "rows": pl.DataFrame(self.accounts, schema=mess.ACCOUNT, orient="row"),
        }
        for name, frame in tables.items():
            write(frame, folder / "truth" / name / f"{first}.parquet")


def _offers(day: Day) -> Numbers:
    events, visits = day.events, day.visits
    at = np.flatnonzero(events.type >= OFFER_SENT)
    offer = visits.offer[events.visit[at]] % (len(OFFERS) + 1)
    counts = np.zeros((5, len(OFFERS) + 1), np.int64)
    np.add.at(counts, (events.type[at] - OFFER_SENT, offer), 1)
    redeemed = events.type[at] == OFFER_REDEEMED
    np.add.at(counts[-1], offer[redeemed], events.discount[at][redeemed])
    return counts


def write_people(folder: Path, people: People, assortment: Assortment, level: Mess) -> None:
    """Who everybody really is: persons, their accounts and their devices."""
    number = people.numbers
    persons = pl.DataFrame(
        {
            "person_id": number,
            "type": pl.Series(TYPES)[people.type],
            "price_sensitivity": people.sensitivity,
            "favourite_category": pl.Series(PATHS)[people.profile.astype(np.int64) // VARIANTS],
            "visits_a_day": people.rate,
            "conversion": people.conversion,
            "store_orders_a_day": people.store_rate,
            "basket_kind": people.basket,
            "week_kind": people.week,
            "hour_kind": people.hour,
            "channel_kind": people.mix,
            "devices": people.devices,
            "accounts": people.accounts,
            "linked_by_shop": people.linked,
            "shares_device": people.shares,
            "arrival_day": people.arrival,
            "signup_day": people.signup,
        }
    )
    write(persons, folder / "truth" / "persons.parquet")
    account = np.repeat(number * 2, people.accounts)
    account += _ranks(people.accounts)
    accounts = pl.DataFrame({"user_id": account_ids(account)[:-1], "person_id": account // 2})
    write(accounts, folder / "truth" / "accounts.parquet")
    person = np.repeat(number, people.devices)
    slot = _ranks(people.devices)
    shared = np.repeat(people.shares, people.devices) & (slot == 1)
    device = np.where(shared, (person - 1) * 4 + 1, person * 4 + slot)
    shift = mess.clock_shifts(people.seed, level, device) // 1_000_000
    ids = device_ids(device)[:-1]
    devices = pl.DataFrame({"device_id": ids, "person_id": person, "clock_ahead_seconds": shift})
    write(devices, folder / "truth" / "devices.parquet")
    item, partner, often = assortment.pairs
    pairs = {"item_a": assortment.ids[item], "item_b": assortment.ids[partner]}
    write(
        pl.DataFrame(pairs | {"probability": often / PAIR_SLOTS}),
        folder / "truth" / "pairs.parquet",
    )


def _ranks(counts: npt.NDArray[np.integer]) -> Numbers:
    """0 .. count - 1 for each of ``counts``, one after the other."""
    total = counts.astype(np.int64)
    return np.arange(total.sum()) - np.repeat(np.cumsum(total) - total, total)


def write_mess(folder: Path, options: Options, last: date) -> int:
    """mess.json: rows delivered by ``last`` in all, by kind and by reason of rejection, and who is
    no shopper. Returns how many rows were delivered."""
    rows = pl.read_parquet(folder / "truth" / "rows" / "*.parquet")
    here = rows.filter(pl.col("delivered_on") <= last)

    def counts(column: str) -> dict[str, int]:
        grouped = here.filter(pl.col(column).is_not_null()).group_by(column).agg(pl.sum("rows"))
        return dict(sorted(grouped.iter_rows()))

    files = {name: mess.FILE_DAYS[name] for name in mess.FILE_DAYS if options.mess == "wild"}
    messy = options.mess != "none"
    told = {
        "mess": options.mess,
        "delivered_until": str(last),
        "delivered": int(here["rows"].sum()),
        "kinds": counts("kind"),
        "reasons": counts("reason"),
        "not_yet_delivered": int(rows["rows"].sum()) - int(here["rows"].sum()),
        "bot_devices": mess.bots(options.users).to_list() if messy else [],
        "test_users": list(mess.TEST_USERS) if messy else [],
        "files_on_days": files,
    }
    replace_text(folder / "truth" / "mess.json", json.dumps(told, indent=2) + "\n")
    return int(here["rows"].sum())


def write_sends(
    folder: Path,
    draw: Draw,
    on: date,
    state: State,
    people: People,
    day: int,
    calendar: Calendar,
    baskets: Baskets,
) -> None:
    """The day's draws with true probabilities, and what the offer was expected to change.

    Call it before the sends are noted in ``state``: fatigue is that before them.
    """
    sends = draw.sends
    parts = [
        _sends(sends, draw, rows, state, people, day, calendar, baskets)
        for rows in _slices(len(sends.person))
    ]
    if len(draw.not_sent):
        nobody = {
            "person_id": draw.not_sent,
            "arm": "not_sent",
            "propensity": draw.not_sent_propensity,
        }
        parts.append(pl.DataFrame(nobody))
    if parts:
        write(pl.concat(parts, how="diagonal"), folder / "truth" / "sends" / f"{on}.parquet")


def _sends(
    sends: Sends,
    draw: Draw,
    rows: slice,
    state: State,
    people: People,
    day: int,
    calendar: Calendar,
    baskets: Baskets,
) -> pl.DataFrame:
    who, offer = sends.person[rows], sends.offer[rows]
    expected = outcomes(people.chosen(who), state.tired(day, who), day, calendar, baskets)
    at = (offer, np.arange(len(who)))
    names = pl.Series([*OFFER_IDS, None], dtype=pl.String)
    known = offer >= 0
    with_offer = {
        "expected_orders": expected.offer_orders[at],
        "expected_spend": expected.offer_spend[at],
        "expected_cost": expected.offer_cost[at],
        "expected_gain": expected.offer_gain[at],
    }
    return pl.DataFrame(
        {
            "person_id": who,
            "user_id": account_ids(sends.account[rows])[:-1],
            "offer_id": names.gather(offer % (len(OFFERS) + 1)),
            "campaign_id": pl.Series(draw.campaigns, dtype=pl.String).gather(sends.campaign[rows]),
            "arm": pl.Series(["withheld", "sent"]).gather(sends.sent[rows].astype(np.int64)),
            "assignment_probability": pl.Series(sends.probability[rows]).fill_nan(None),
            "propensity": draw.propensity[rows],
            "expected_orders_without": expected.orders.astype(np.float32),
            "expected_spend_without": expected.spend.astype(np.float32),
            **{
                name: pl.Series(np.where(known, values, np.nan).astype(np.float32)).fill_nan(None)
                for name, values in with_offer.items()
            },
        }
    )


def write_expectations(
    folder: Path,
    on: date,
    state: State,
    people: People,
    day: int,
    calendar: Calendar,
    baskets: Baskets,
) -> None:
    """On days of campaigns and of the platform's decisions: everybody's purchase probability, and
    outcomes under each offer."""
    purchases, potential = [], []
    for rows in _slices(len(people)):
        part = people.part(rows.start, rows.stop)
        tired = state.tired(day, rows)
        expected = outcomes(part, tired, day, calendar, baskets)
        purchases.append(_purchases(part, expected))
        potential.append(_potential(part, expected))
    write(pl.concat(purchases), folder / "truth" / "purchases" / f"{on}.parquet")
    write(pl.concat(potential), folder / "truth" / "potential_outcomes" / f"{on}.parquet")


def _purchases(people: People, expected: Outcomes) -> pl.DataFrame:
    columns = {
        "purchase_probability_7d": 1 - np.exp(-expected.soon),
        "purchase_probability_28d": 1 - np.exp(-expected.orders),
        "expected_spend_28d": expected.spend,
    }
    return pl.DataFrame(
        {"person_id": people.numbers} | {name: v.astype(np.float32) for name, v in columns.items()}
    )


def _potential(people: People, expected: Outcomes) -> pl.DataFrame:
    columns = {"orders": expected.orders, "spend": expected.spend, "margin": expected.margin}
    for number, offer in enumerate(OFFER_IDS):
        columns |= {
            f"orders_{offer}": expected.offer_orders[number],
            f"spend_{offer}": expected.offer_spend[number],
            f"cost_{offer}": expected.offer_cost[number],
            f"redeems_{offer}": expected.offer_redeems[number],
            f"gain_{offer}": expected.offer_gain[number],
        }
    return pl.DataFrame(
        {"person_id": people.numbers} | {name: v.astype(np.float32) for name, v in columns.items()}
    )


def _slices(size: int) -> Iterator[slice]:
    for start in range(0, size, CHUNK):
        yield slice(start, min(start + CHUNK, size))
