"""What a shop's own names probably mean: guesses for people to check, never used by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from difflib import get_close_matches
from itertools import product

from promo_assets.contract.events import EVENT_TYPES
from promo_assets.sources.mapping import EPOCHS

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
SIGN = re.compile(r"^[^\d\s.,+'-]{1,5}|[^\d\s.,+'-]{1,5}$")
"""What stands before or behind a number: a currency."""
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


def time_formats_for(values: Sequence[str]) -> list[str]:
    """The time formats that read all of the values; several where days and months can't be told
    apart."""
    if not values:
        return []
    low, high = PLAUSIBLE
    epochs = [
        name
        for name, micros in EPOCHS.items()
        if all(_is_number(one) and low < float(one) * micros / 1e6 < high for one in values)
    ]
    if epochs:
        return epochs
    return [pattern for pattern in TIME_FORMATS if all(_reads(pattern, one) for one in values)]


def number_formats_for(values: Sequence[str]) -> list[str]:
    """The ``number_format`` that reads all of the values, as it is written in ``mapping.yaml``;
    several where a comma may stand for thousands or for decimals."""
    signs = {sign for value in values for sign in SIGN.findall(value)}
    if not values or len(signs) > 1:
        return []
    currency = "".join(signs)
    found = []
    for decimal, thousands in product((".", ","), ("", ".", ",", " ", "'")):
        groups = rf"|\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+" if thousands else ""
        number = re.compile(rf"[+-]?(?:\d+{groups})(?:{re.escape(decimal)}\d{{1,2}})?")
        plain = (value.replace(currency, "").strip() for value in values)
        if decimal != thousands and all(number.fullmatch(one) for one in plain):
            told = [f'decimal: "{decimal}"', *([f'thousands: "{thousands}"'] if thousands else ())]
            told += [f'currency: "{currency}"'] if currency else ()
            found.append(f"{{{', '.join(told)}}}")
    # Without thousands is enough where it reads all.
    return [one for one in found if "thousands" not in one] or found


def _is_number(value: str) -> bool:
    return value.replace(".", "", 1).isascii() and value.replace(".", "", 1).isdecimal()


def _reads(pattern: str, value: str) -> bool:
    try:
        datetime.strptime(value, pattern)
    except ValueError:
        return False
    return True
