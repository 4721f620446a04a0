"""A day's events as rows of the event contract, in the order of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.contract.events import EVENT_COLUMNS
from promo_assets.simulation.assortment import PATHS, Assortment, money
from promo_assets.simulation.happenings import (
    OFFER_REDEEMED,
    OFFER_SENT,
    OWN_ORDER,
    TYPE_NAMES,
    Events,
    Visits,
)
from promo_assets.simulation.offers import OFFER_IDS
from promo_assets.simulation.people import CHANNELS

Numbers = npt.NDArray[np.int64]

COLUMNS = tuple(column.name for column in EVENT_COLUMNS if column.name != "event_date")
"""What is delivered: event_date follows from event_time."""

TIME = pl.Datetime("us", "UTC")
DAY_SLOTS = 10**8
"""Visits, orders and events of a day are numbered from the day's number times this."""
VISIT_BITS = 26
ROWS_A_FILE = 1_000_000
NULL = pl.Series([None], dtype=pl.String)
QUERIES = (*(path.rpartition("/")[2].lower() for path in PATHS), "coupon")


@dataclass(frozen=True)
class Day:
    """Everything that happened on a day; the first ``sessions`` of the visits are real ones."""

    day: int
    on: date
    sessions: int
    visits: Visits
    events: Events
    """Ordered by time."""

    @classmethod
    def of(
        cls,
        day: int,
        on: date,
        parts: Sequence[tuple[Visits, Events]],
        others: Sequence[tuple[Visits, Events]],
    ) -> Day:
        """Visits of people in the order of their numbers, then sends and returns."""
        sessions = sum(len(visits.person) for visits, _ in parts)
        visits = Visits.joined([visits for visits, _ in (*parts, *others)])
        offset, moved = 0, []
        for own, events in (*parts, *others):
            moved.append(replace(events, visit=events.visit + offset))
            offset += len(own.person)
        orders = np.where(
            visits.order == OWN_ORDER, order_number(day, np.arange(offset)), visits.order
        )
        # Events of the same microsecond stand in the order of people, however they were chunked.
        events = Events.joined(moved)
        order = np.argsort((events.time << VISIT_BITS) | events.visit)
        return cls(day, on, sessions, replace(visits, order=orders), events.chosen(order))

    def __len__(self) -> int:
        return len(self.events.time)


def order_number(day: int, visit: Numbers) -> Numbers:
    """The number of the order that ends a visit (its place among the day's visits)."""
    return (day + 1) * DAY_SLOTS + visit


def frames(day: Day, assortment: Assortment, campaigns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The day's rows, at most `ROWS_A_FILE` in a frame; at least one frame."""
    texts = _VisitTexts(day)
    named = pl.Series([*campaigns, None], dtype=pl.String)
    items = assortment.ids.clone().append(NULL)
    for start in range(0, max(len(day), 1), ROWS_A_FILE):
        rows = slice(start, min(start + ROWS_A_FILE, len(day)))
        yield _frame(day, rows, texts, items, named, assortment)


class _VisitTexts:
    """The text columns that all events of a visit share; the last entry of each is null."""

    def __init__(self, day: Day) -> None:
        visits = day.visits
        sessions = np.arange(len(visits.person))
        self.user = account_ids(visits.account)
        self.device = device_ids(visits.device)
        self.session = _text("s", order_number(day.day, sessions), sessions < day.sessions)
        self.order = _text("o", visits.order, visits.order >= 0)


def account_ids(account: Numbers) -> pl.Series:
    """Delivered ids of accounts (-1: null), and a null more. They don't tell the person."""
    return _text("u", _scrambled(account), account >= 0)


def device_ids(device: Numbers) -> pl.Series:
    """Delivered ids of devices (-1: null), and a null more."""
    return _text("d", _scrambled(device), device >= 0)


def _scrambled(number: Numbers) -> Numbers:
    """A permutation of the numbers below 2**36, so that ids don't tell who came after whom."""
    mask = np.uint64(2**36 - 1)
    value = (number.astype(np.uint64) + np.uint64(0x2545F4914)) & mask
    for factor in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
        value = (value * np.uint64(factor)) & mask
        value ^= value >> np.uint64(19)
    return value.astype(np.int64)


def _text(prefix: str, number: Numbers, known: npt.NDArray[np.bool_]) -> pl.Series:
    # At most 12 bytes: Polars and DuckDB keep those inline.
    frame = pl.DataFrame({"number": np.append(number, 0), "known": np.append(known, False)})
    text = pl.lit(prefix) + pl.col("number").cast(pl.String)
    return frame.select(text=pl.when("known").then(text)).to_series()


def _frame(
    day: Day,
    rows: slice,
    texts: _VisitTexts,
    items: pl.Series,
    campaigns: pl.Series,
    assortment: Assortment,
) -> pl.DataFrame:
    events, visits = day.events.chosen(rows), day.visits
    visit, kind, item = events.visit, events.type, events.item
    nobody = len(visits.person)
    midnight = datetime.combine(day.on, time()) - datetime(1970, 1, 1)
    micros = events.time + int(midnight.total_seconds()) * 1_000_000
    numbers = (day.day + 1) * DAY_SLOTS + np.arange(rows.start, rows.stop)
    known = events.time >= visits.login[visit]
    orders = events.lines | (kind == OFFER_REDEEMED)
    offers = kind >= OFFER_SENT
    drawn = (kind >= OFFER_SENT) & (kind < OFFER_SENT + 2)
    campaign = np.where(offers, visits.campaign[visit], -1)
    return pl.DataFrame(
        {
            "event_id": _text("e", numbers, np.ones(len(visit), bool))[:-1],
            "event_time": pl.Series(micros).cast(TIME),
            "event_type": _code(TYPE_NAMES, kind),
            "user_id": texts.user.gather(np.where(known, visit, nobody)),
            "device_id": texts.device.gather(visit),
            "session_id": texts.session.gather(visit),
            "channel": _code(CHANNELS, visits.channel[visit]),
            "item_id": items.gather(np.where(item < 0, len(items) - 1, item)),
            "quantity": _known(events.quantity, events.quantity >= 0),
            "unit_price": money(assortment.price[item], events.lines),
            "discount": money(events.discount, orders),
            "order_id": texts.order.gather(np.where(orders, visit, nobody)),
            "search_query": _code(QUERIES, events.category),
            "offer_id": _code(OFFER_IDS, np.where(offers, visits.offer[visit], -1)),
            "campaign_id": campaigns.gather(np.where(campaign < 0, len(campaigns) - 1, campaign)),
            "assignment_probability": _known(
                np.where(drawn, visits.probability[visit], np.nan), None
            ),
        }
    )


def _code(names: Sequence[str], code: Numbers) -> pl.Series:
    """The names of the codes, null for -1."""
    return pl.Series([*names, None], dtype=pl.String).gather(np.where(code < 0, len(names), code))


def _known(values: npt.NDArray[np.generic], known: npt.NDArray[np.bool_] | None) -> pl.Series:
    """A column that is null where not ``known``, or where it is NaN."""
    series = pl.Series(values)
    if known is None:
        return series.fill_nan(None)
    return pl.select(pl.when(pl.Series(known)).then(series)).to_series()
