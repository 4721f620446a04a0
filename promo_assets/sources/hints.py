"""What a shop's own names probably mean: guesses for people to check, never used by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from difflib import get_close_matches
from itertools import product

import duckdb

from promo_assets.contract.events import EVENT_TYPES
from promo_assets.sources.mapping import EPOCHS, EXCEL

COLUMN_NAMES = {
    "event_id": ("id", "uuid", "message_id", "eventid"),
    "event_time": ("timestamp", "time", "ts", "datetime", "date", "created_at", "occurred_at",
                   "eventtime", "at", "time_stamp"),
    "event_type": ("event", "type", "action", "event_name", "behavior", "behaviour",
                   "behavior_type", "behaviour_type", "eventtype"),
    "user_id": ("user", "uid", "userid", "customer", "customer_id", "member_id", "account_id",
                "visitorid", "visitor_id", "client_id"),
    "device_id": ("device", "deviceid", "cookie", "cookie_id", "anonymous_id", "did"),
    "session_id": ("session", "sessionid", "user_session", "visit_id"),
    "channel": ("platform", "source", "medium", "traffic_source"),
    "item_id": ("item", "itemid", "product", "product_id", "sku", "article", "goods_id"),
    "quantity": ("qty", "count", "units", "number"),
    "unit_price": ("price", "price_each", "unitprice", "item_price", "sale_price"),
    "discount": ("discount_amount", "reduction", "rebate"),
    "order_id": ("order", "orderid", "transaction_id", "transactionid", "basket_id", "invoice"),
    "search_query": ("query", "keyword", "search_term", "search", "q"),
    "offer_id": ("offer", "coupon", "coupon_id", "promotion_id", "promo_id"),
    "campaign_id": ("campaign", "experiment", "experiment_id"),
    "assignment_probability": ("propensity", "probability", "treatment_probability"),
}  # fmt: skip
"""Other shops' names of the contract's columns, most usual first."""

EVENT_NAMES = {
    "view": ("pv", "page_view", "pageview", "product_view", "detail", "visit", "impression"),
    "search": ("query",),
    "click": ("tap", "select_item"),
    "favourite": ("fav", "favorite", "wishlist", "add_to_wishlist", "collect", "like"),
    "add_to_cart": ("cart", "addtocart", "add_cart", "add"),
    "remove_from_cart": ("removefromcart", "remove_cart", "uncart", "remove"),
    "purchase": ("buy", "order", "transaction", "sale", "checkout", "paid", "ordered"),
    "return": ("refund", "returned"),
    "offer_sent": ("coupon_sent", "sent", "push"),
    "offer_viewed": ("coupon_viewed",),
    "offer_redeemed": ("redeem", "redemption", "coupon_used"),
}

TIME_FORMATS = (
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    *(f"{day} %I:%M{second} %p" for day in ("%m/%d/%Y", "%d/%m/%Y") for second in ("", ":%S")),
    "%d/%b/%Y:%H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %Z",
    *(
        f"{day} %H:%M{second}"
        for day in ("%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%b %d, %Y")
        for second in ("", ":%S")
    ),
    "%b %d, %Y %I:%M:%S %p",
    "%Y-%m-%d %H:%M:%S %Z",
    "%Y%m%dT%H%M%SZ",
    "%Y%m%dT%H%M%S",
    "%Y%m%d%H%M%S",
    "%Y%m%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
)
PERSONAL = re.compile(
    r"e_?mail|phone|mobile|(first|last|full|sur|user)_?name|address|birth|passport|^ip(_|$)|iban|ssn"
)
VALUE = re.compile(
    r"-?\d[\d.,]*|\d{4}-\d\d-\d\d.*|\d\d?[./]\d\d?[./]\d{4}.*|[0-9a-f]{8}-[0-9a-f-]{27}"
)
"""A number, a day or time, a UUID: what nobody calls a column."""
SIGN = re.compile(r"^[^\d\s.,+'\-\u2212%()]{1,5}|[^\d\s.,+'\-\u2212%()]{1,5}$")
"""What stands before or behind a number: a currency, no sign that changes it."""
BLANKS = r"[ \u00a0\u2007\u202f]"
SERIALS = (36_526, 54_789)  # 2000 to 2049
MOST_FORMATS = 3
PLAUSIBLE = (datetime(2000, 1, 1).timestamp(), datetime(2050, 1, 1).timestamp())


def columns_for(missing: Iterable[str], candidates: Iterable[str]) -> dict[str, str]:
    """The delivered columns that are probably the contract's ``missing`` ones: usual names first,
    then similar ones; each is given once."""
    left = {name.casefold(): name for name in candidates}
    wanted = list(missing)
    found: dict[str, str] = {}
    for column in wanted:
        usual = next((name for name in COLUMN_NAMES.get(column, ()) if name in left), None)
        if usual:
            found[column] = left.pop(usual)
    for column in wanted:
        near = get_close_matches(column, left, n=1, cutoff=0.8)
        if column not in found and near:
            found[column] = left.pop(near[0])
    return {column: found[column] for column in wanted if column in found}


def looks_like_data(names: Sequence[str]) -> bool:
    """Whether these names of columns are probably the first row of a file without a header line."""
    values = [name for name in names if VALUE.fullmatch(name.strip())]
    return len(values) >= 2 or len(values) == len(names) > 0


def personal(names: Iterable[str]) -> list[str]:
    """The columns that probably hold personal data."""
    return [name for name in names if PERSONAL.search(name.casefold())]


def event_type_for(delivered: str) -> str | None:
    """The contract's event type that a shop's own name probably means."""
    name = delivered.casefold().strip().replace(" ", "_").replace("-", "_")
    types = [kind.name for kind in EVENT_TYPES]
    for kind, usual in EVENT_NAMES.items():
        if name in usual:
            return kind
    near = get_close_matches(name, types, n=1, cutoff=0.7)
    return near[0] if near else None


def time_formats_for(values: Sequence[str], read: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """The formats to write under ``time_format``, as alternatives: each alone reads all of the
    values (several where days and months can't be told apart), or several do together.

    ``read`` are the formats that read other values, and still have to: they come first, but for one
    that takes months for days.
    """
    if not values:
        return []
    kept = [*read]
    alone = _formats_of(values)
    if not alone:
        # Each value has one format only, so it does not matter which is tried first.
        each = [_formats_of([value]) for value in values]
        if any(len(told) != 1 for told in each):
            return []
        together = dict.fromkeys(told[0] for told in each)
        return [(*kept, *together)] if len(together) <= MOST_FORMATS else []
    return [(*(told for told in kept if _swapped(told) != one), one) for one in alone]


def _swapped(pattern: str) -> str:
    return pattern.replace("%d", "%?").replace("%m", "%d").replace("%?", "%m")


def _formats_of(values: Sequence[str]) -> list[str]:
    """Each format that reads all of the values."""
    low, high = PLAUSIBLE
    if all(_is_number(one) for one in values):
        numbers = [float(one) for one in values]
        counted = [
            name
            for name, micros in EPOCHS.items()
            if all(low < one * micros / 1e6 < high for one in numbers)
        ]
        if all(SERIALS[0] <= one <= SERIALS[1] for one in numbers):
            counted.append(EXCEL)
        if counted:
            return counted
    reads = ", ".join("bool_and(try_strptime(told, ?) is not null)" for _ in TIME_FORMATS)
    with duckdb.connect() as connection:
        (found,) = connection.execute(
            f"select {reads} from (select unnest(?::varchar[]) as told)",
            [*TIME_FORMATS, [*values]],
        ).fetchall()
    return [pattern for pattern, fits in zip(TIME_FORMATS, found, strict=True) if fits]


def number_formats_for(values: Sequence[str]) -> list[str]:
    """The ``number_format`` that reads all of the values, as it is written in ``mapping.yaml``;
    several where a comma may stand for thousands or for decimals."""
    signs = {sign for value in values for sign in SIGN.findall(value)}
    if not values or len(signs) > 1:
        return []
    currency = "".join(signs)
    found = []
    for decimal, thousands in product((".", ","), ("", ".", ",", " ", "'")):
        between = BLANKS if thousands == " " else re.escape(thousands)
        groups = rf"|\d{{1,3}}(?:{between}\d{{3}})+" if thousands else ""
        pattern = rf"[+-]?(?:\d+{groups})(?:{re.escape(decimal)}\d{{1,2}})?"
        number = re.compile(pattern, re.ASCII)
        plain = (value.replace(currency, "").strip() for value in values)
        if decimal != thousands and all(number.fullmatch(one) for one in plain):
            told = [f'decimal: "{decimal}"', *([f'thousands: "{thousands}"'] if thousands else ())]
            told += [f'currency: "{currency}"'] if currency else ()
            found.append(f"{{{', '.join(told)}}}")
    # Without thousands is enough where it reads all.
    return [one for one in found if "thousands" not in one] or found


def _is_number(value: str) -> bool:
    return value.replace(".", "", 1).isascii() and value.replace(".", "", 1).isdecimal()
