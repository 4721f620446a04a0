"""What goes wrong between a shop and its data, in known numbers.

Every delivered row has exactly one kind: ``clean``, or one defect, or one peculiarity that is no
defect (late, a duplicate's first copy is clean). So the rows that the platform must reject, by
day and reason, follow exactly (`Delivery.account`). ``some`` is row-level only and far below the
5 % at which a day's gate closes; ``wild`` adds files that are cut or have other columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.simulation.assortment import Assortment, money
from promo_assets.simulation.draws import bits, choices, field, purpose, threshold
from promo_assets.simulation.folder import ISO_UTC, Mess
from promo_assets.simulation.happenings import (
    OFFER_REDEEMED,
    OFFER_SENT,
    OFFER_VIEWED,
    OFFER_WITHHELD,
)
from promo_assets.simulation.rows import COLUMNS, DAY_SLOTS, TIME, Day, device_ids

Numbers = npt.NDArray[np.int64]

LATE_DAYS = 3
DUPLICATE, LATE, OUT_OF_ORDER = "duplicate", "late", "out_of_order"
CLEAN, BOT, TEST = "clean", "bot", "test_account"
CLOCK, RENAMED, ADDED, TRUNCATED = "clock_skew", "renamed_column", "added_column", "truncated_file"
LOST = "file_unreadable"
"""In place of a reason: rows of a truncated file, which no reader can be held to."""

ANY = {
    "time_null": ("event_time_unreadable", 4),
    "time_text": ("event_time_unreadable", 3),
    "type_null": ("event_type_unknown", 3),
    "type_unknown": ("event_type_unknown", 4),
    "nobody": ("user_missing", 5),
    DUPLICATE: ("duplicate", 12),
    LATE: (None, 16),
    OUT_OF_ORDER: (None, 16),
}
LINE = {
    "quantity_null": ("quantity_unreadable", 8),
    "quantity_text": ("quantity_unreadable", 8),
    "quantity_part": ("quantity_unreadable", 8),
    "quantity_zero": ("quantity_not_positive", 8),
    "quantity_negative": ("quantity_not_positive", 8),
    "price_null": ("price_unreadable", 8),
    "price_text": ("price_unreadable", 8),
    "price_negative": ("price_negative", 8),
    "discount_text": ("discount_unreadable", 8),
    "discount_negative": ("discount_negative", 8),
    "discount_above": ("discount_above_amount", 8),
}
NEEDS_OFFER = {"offer_null": ("offer_missing", 40)}
DRAWN = {
    "probability_above": ("probability_out_of_range", 16),
    "probability_zero": ("probability_out_of_range", 16),
    "probability_text": ("probability_out_of_range", 16),
}
"""Kinds of defects with their reason, and how many of `SLOTS` rows have them: of all rows, of
order lines, of offer events that need an offer, and of sends with a probability."""
SLOTS = 4096

KINDS: dict[str, str | None] = {
    name: reason for kinds in (ANY, LINE, NEEDS_OFFER, DRAWN) for name, (reason, _) in kinds.items()
}
NAMES = (CLEAN, *KINDS, CLOCK, RENAMED, ADDED, TRUNCATED)
CODE = {name: code for code, name in enumerate(NAMES)}
TEXTS = {
    "time_text": ("event_time", "yesterday"),
    "quantity_text": ("quantity", "two"),
    "quantity_part": ("quantity", "1.5"),
    "price_text": ("unit_price", "on request"),
    "discount_text": ("discount", "staff"),
    "probability_text": ("assignment_probability", "half"),
}
"""Defects of a type that a typed column can't hold: these rows are delivered as text."""

SKEWED = 0.01
"""Share of devices whose clock is wrong, by 1 to 6 hours, or (``wild``) sometimes over a day."""
BOT_A_PEOPLE = 20_000
BOT_VIEWS = (1500, 4000)
BOT_ACTIVE = 0.4
TEST_USERS = ("test-1", "test-2", "test-3")
TEST_ROWS = 6
FIRST_DEVICE_OF_BOTS = 2**35
FILE_DAYS = {RENAMED: 5, ADDED: 8, TRUNCATED: 11}
"""On which day of every 30 such a file is delivered (``wild``), with a tenth of the day's rows."""
FILE_EVERY_DAYS = 30
FILE_SHARE = 0.1
KEPT_BYTES = 0.6


def _table(*sources: Mapping[str, tuple[str | None, int]]) -> Numbers:
    """Codes by slot: a uniform slot is what happens to a row that those defects can befall."""
    shares = np.zeros(len(NAMES))
    for source in sources:
        for name, (_, slots) in source.items():
            shares[CODE[name]] = slots
    shares[CODE[CLEAN]] = SLOTS - shares.sum()
    return choices(shares, SLOTS)


_TABLES = np.stack(
    [
        _table(ANY),
        _table(ANY, LINE),
        _table(ANY, NEEDS_OFFER, DRAWN),
        _table(ANY, DRAWN),
        _table(ANY, NEEDS_OFFER),
    ]
)
OTHER, LINES, SENT, WITHHELD, OFFERED = range(5)


Record = tuple[date, date, str, str | None, int]
"""A row of `ACCOUNT`."""
ACCOUNT = {
    "delivered_on": pl.Date,
    "event_date": pl.Date,
    "kind": pl.String,
    "reason": pl.String,
    "rows": pl.Int64,
}
"""What became of delivered rows: event_date is the partition, no reason means accepted."""


@dataclass(frozen=True)
class Part:
    """Rows of one file: ``name`` is what its name ends with, ``on`` the day it is delivered."""

    name: str
    on: date
    rows: pl.DataFrame
    kept: float = 1.0
    """Share of the file's bytes that arrives."""


@dataclass(frozen=True)
class Delivery:
    """How a day's rows arrive."""

    parts: tuple[Part, ...]
    account: tuple[Record, ...]


def clean(day: Day, frames: Iterator[pl.DataFrame]) -> Delivery:
    """The day as it was."""
    parts = tuple(Part(f"{n:03}", day.on, frame) for n, frame in enumerate(frames))
    rows = sum(part.rows.height for part in parts)
    return Delivery(parts, ((day.on, day.on, CLEAN, None, rows),))


def clock_shifts(seed: int, level: Mess, device: Numbers) -> Numbers:
    """Microseconds by which the clocks of devices are ahead."""
    drawn = bits(purpose(seed, "clock"), device + 1)
    far = (field(drawn, 32, 8) < 64) & (level == "wild")
    hours = 1 + field(drawn, 16, 8) % 6 + 24 * far
    shift = np.where(field(drawn, 24, 1) == 1, hours, -hours) * 3_600_000_000
    skewed = (field(drawn, 0, 16) < threshold(SKEWED, 16)) & (device >= 0) & (level != "none")
    return np.where(skewed, shift, 0)


def messed(
    day: Day,
    frames: Iterator[pl.DataFrame],
    seed: int,
    level: Mess,
    first: date,
    users: int,
    assortment: Assortment,
) -> Delivery:
    """The day as it arrives. ``first`` is the simulation's first day: rows that a wrong clock puts
    before it are rejected there."""
    shift = clock_shifts(seed, level, day.visits.device)[day.events.visit]
    codes = _codes(day, seed, level, shift != 0)
    parts: list[Part] = []
    records: list[Record] = []
    start = 0
    for number, frame in enumerate(frames):
        rows = slice(start, start + frame.height)
        start = rows.stop
        told = frame.with_columns(
            event_time=(pl.col("event_time").to_physical() + pl.Series(shift[rows])).cast(TIME),
            code=pl.Series(codes[rows]),
        )
        drawn = bits(purpose(seed, "late", day.day), np.arange(rows.start, rows.stop))
        late = 1 + field(drawn, 0, 16) % LATE_DAYS
        parts += _split(told.with_columns(late=pl.Series(late)), day.on, number)
        records += _records(told, late, day.on, first)
    extra = _bots(day, seed, users, assortment), _tests(day, assortment)
    for name, frame in zip((BOT, TEST), extra, strict=True):
        if frame.height:
            parts.append(Part(name, day.on, frame))
            records.append((day.on, day.on, name, None, frame.height))
    return Delivery(tuple(part for part in parts if part.rows.height), _summed(records))


def _codes(day: Day, seed: int, level: Mess, skewed: npt.NDArray[np.bool_]) -> Numbers:
    """What happens to each row, an index of `NAMES`."""
    events, visits = day.events, day.visits
    numbers = np.arange(len(day))
    drawn = bits(purpose(seed, "mess", day.day), numbers)
    offered = visits.offer[events.visit] >= 0
    known = ~np.isnan(visits.probability[events.visit])
    group = np.full(len(day), OTHER)
    group[events.lines] = LINES
    group[(events.type == OFFER_SENT) & known] = SENT
    group[(events.type == OFFER_WITHHELD) & known] = WITHHELD
    needing = (events.type == OFFER_VIEWED) | (events.type == OFFER_REDEEMED)
    group[(needing | ((events.type == OFFER_SENT) & ~known)) & offered] = OFFERED
    codes = _TABLES[group, field(drawn, 0, 12)]
    if level == "wild":
        for name, on in FILE_DAYS.items():
            if day.day % FILE_EVERY_DAYS == on:
                moved = field(drawn, 12, 16) < threshold(FILE_SHARE, 16)
                codes = np.where(moved, CODE[name], codes)
    return np.where(skewed, CODE[CLOCK], codes)


def _split(told: pl.DataFrame, on: date, number: int) -> Iterator[Part]:
    """The files in which the rows (with their ``code``) arrive."""
    code = pl.col("code")
    elsewhere = [CODE[name] for name in (*TEXTS, LATE, RENAMED, ADDED, TRUNCATED)]
    here = _out_of_order(told.filter(~code.is_in(elsewhere)))
    again = told.filter(code == CODE[DUPLICATE])
    yield Part(f"{number:03}", on, _defects(pl.concat([here, again])))
    yield Part(f"text-{number:03}", on, _texts(told.filter(code.is_in([CODE[n] for n in TEXTS]))))
    for days in range(1, LATE_DAYS + 1):
        rows = told.filter((code == CODE[LATE]) & (pl.col("late") == days)).select(COLUMNS)
        yield Part(f"late-{on}-{number:03}", on + timedelta(days=days), rows)
    renamed = told.filter(code == CODE[RENAMED]).select(COLUMNS)
    yield Part(f"renamed-{number:03}", on, renamed.rename({"unit_price": "price"}))
    added = told.filter(code == CODE[ADDED]).select(COLUMNS)
    yield Part(f"added-{number:03}", on, added.with_columns(referrer=pl.lit("newsletter")))
    cut = told.filter(code == CODE[TRUNCATED]).select(COLUMNS)
    yield Part(f"truncated-{number:03}", on, cut, KEPT_BYTES)


def _out_of_order(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that are marked, among themselves in the opposite order."""
    places = np.arange(rows.height)
    at = np.flatnonzero((rows["code"] == CODE[OUT_OF_ORDER]).to_numpy())
    places[at] = at[::-1]
    return rows[places]


def _defects(rows: pl.DataFrame) -> pl.DataFrame:
    """Put the defects that typed columns can hold into the rows."""

    def when(column: str, **values: object) -> pl.Expr:
        expression = pl.col(column)
        for name, value in values.items():
            told = value if isinstance(value, pl.Expr) else pl.lit(value)
            expression = pl.when(pl.col("code") == CODE[name]).then(told).otherwise(expression)
        return expression.cast(rows.schema[column]).alias(column)

    amount = pl.col("unit_price") * pl.col("quantity")
    return rows.with_columns(
        when("event_time", time_null=None),
        when("event_type", type_null=None, type_unknown="veiw"),
        when("user_id", nobody=None),
        when("device_id", nobody=None),
        when("quantity", quantity_null=None, quantity_zero=0, quantity_negative=-1),
        when("unit_price", price_null=None, price_negative=-pl.col("unit_price")),
        when("discount", discount_negative=-1, discount_above=amount + 1),
        when("offer_id", offer_null=None),
        when("assignment_probability", probability_above=1.5, probability_zero=0.0),
    ).select(COLUMNS)


def _texts(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows as text, with what no typed column can hold."""
    told = rows.with_columns(pl.col("event_time").dt.strftime(ISO_UTC)).with_columns(
        pl.col(name).cast(pl.String) for name in COLUMNS if name != "event_time"
    )
    for name, (column, text) in TEXTS.items():
        defect = pl.when(pl.col("code") == CODE[name]).then(pl.lit(text))
        told = told.with_columns(defect.otherwise(pl.col(column)).alias(column))
    return told.select(COLUMNS)


def _records(told: pl.DataFrame, late: Numbers, on: date, first: date) -> Iterator[Record]:
    """Rows of a frame by when they arrive, partition, kind and reason."""
    code = told["code"].to_numpy()
    for name in NAMES:
        which = code == CODE[name]
        rows = int(np.count_nonzero(which))
        if not rows:
            continue
        if name == LATE:
            for days in range(1, LATE_DAYS + 1):
                some = int(np.count_nonzero(which & (late == days)))
                if some:
                    yield on + timedelta(days=days), on, name, None, some
        elif name == CLOCK:
            days_ = told["event_time"].filter(pl.Series(which)).dt.date().value_counts()
            for day, some in days_.iter_rows():
                early = day < first
                yield on, max(day, first), name, "before_partition" if early else None, some
        elif name == DUPLICATE:
            yield on, on, CLEAN, None, rows
            yield on, on, name, KINDS[name], rows
        elif name == RENAMED:
            lines = int(np.count_nonzero(which & told["unit_price"].is_not_null().to_numpy()))
            yield on, on, name, "price_unreadable", lines
            yield on, on, name, None, rows - lines
        else:
            yield on, on, name, LOST if name == TRUNCATED else KINDS.get(name), rows


def _summed(records: Iterable[Record]) -> tuple[Record, ...]:
    """One record for each day, partition, kind and reason, in order; none without rows."""
    sums: Counter[tuple[date, date, str, str]] = Counter()
    for delivered, partition, kind, reason, rows in records:
        sums[delivered, partition, kind, reason or ""] += rows
    return tuple((*key[:3], key[3] or None, rows) for key, rows in sorted(sums.items()) if rows)


def bots(users: int) -> pl.Series:
    """Devices of bots."""
    return device_ids(FIRST_DEVICE_OF_BOTS + np.arange(1 + users // BOT_A_PEOPLE))[:-1]


def _bots(day: Day, seed: int, users: int, assortment: Assortment) -> pl.DataFrame:
    """Bots look at thousands of items, at an even pace, and at nothing else."""
    devices = bots(users)
    drawn = bits(purpose(seed, "bots", day.day), np.arange(len(devices)))
    low, high = BOT_VIEWS
    views = low + field(drawn, 16, 16) * (high - low) // 65536
    views = np.where(field(drawn, 0, 16) < threshold(BOT_ACTIVE, 16), views, 0)
    bot = np.repeat(np.arange(len(devices)), views)
    number = np.arange(len(bot))
    place = number - np.repeat(np.cumsum(views) - views, views)
    micros = (place + 1) * (86_000_000_000 // (views[bot] + 1))
    items = bits(purpose(seed, "bot items", day.day), number) % np.uint64(assortment.size)
    there = np.flatnonzero(assortment.available(day.day))
    return _rows(
        {
            "event_id": [f"b{(day.day + 1) * DAY_SLOTS + n}" for n in range(len(bot))],
            "event_time": _moments(day.on, micros),
            "event_type": pl.Series(["view"]).new_from_index(0, len(bot)),
            "device_id": devices.gather(bot),
            "channel": pl.Series(["web"]).new_from_index(0, len(bot)),
            "item_id": assortment.ids.gather(there[items.astype(np.int64) % len(there)]),
        },
    )


def _tests(day: Day, assortment: Assortment) -> pl.DataFrame:
    """The shop's own people try out whether one can buy, for a cent."""
    size = len(TEST_USERS) * TEST_ROWS
    number = np.arange(size)
    buys = number % TEST_ROWS == TEST_ROWS - 1
    account = number // TEST_ROWS
    kinds = pl.Series(["view", "purchase"]).gather(buys.astype(np.int64))
    return _rows(
        {
            "event_id": [f"t{(day.day + 1) * DAY_SLOTS + n}" for n in range(size)],
            "event_time": _moments(day.on, (9 * 3600 + number * 60) * 1_000_000),
            "event_type": kinds,
            "user_id": pl.Series(TEST_USERS).gather(account),
            "device_id": [f"test-device-{n + 1}" for n in account],
            "channel": pl.Series(["web"]).new_from_index(0, size),
            "item_id": assortment.ids.gather(np.zeros(size, np.int64)),
            "quantity": pl.Series(np.where(buys, 1, -1)).replace(-1, None),
            "unit_price": money(np.ones(size, np.int64), buys),
            "order_id": pl.Series([None, f"test-{day.on}"]).gather(buys.astype(np.int64)),
        },
    )


def _rows(columns: dict[str, object]) -> pl.DataFrame:
    """Rows of the contract with these columns, the others null."""
    frame = pl.DataFrame(columns)
    return frame.with_columns(
        pl.lit(None, SCHEMA[name]).alias(name) for name in COLUMNS if name not in columns
    ).select(pl.col(name).cast(SCHEMA[name]) for name in COLUMNS)


SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(COLUMNS, pl.String),
    "event_time": TIME,
    "quantity": pl.Int64,
    "unit_price": pl.Decimal(18, 2),
    "discount": pl.Decimal(18, 2),
    "assignment_probability": pl.Float64,
}
"""Types of the contract's columns, as delivered in Parquet."""


def _moments(on: date, micros: Numbers) -> pl.Series:
    midnight = (datetime.combine(on, time()) - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    return pl.Series(midnight + micros).cast(TIME)
