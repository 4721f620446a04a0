"""The event contract: one row an event, as every source delivers it and every table reads it.

Sources build ``raw.events`` from `EVENT_COLUMNS`; the SQL reads event types from
``core.event_types``, which is `EVENT_TYPES`; expectations name the same columns and reasons, and
tests hold all of them to this module.
"""

from __future__ import annotations

from dataclasses import dataclass

MONEY = "DECIMAL(18,2)"


@dataclass(frozen=True)
class EventColumn:
    """A contract column: the type it has in ``core.events`` and what it means.

    In ``raw.events`` every contract column is text, as delivered: text that can't become
    ``type`` is the cleaning's business, not the loader's.
    """

    name: str
    type: str
    description: str


@dataclass(frozen=True)
class EventType:
    """An event type and what a row of it must carry besides time, type and user or device."""

    name: str
    description: str
    needs_order_line: bool = False
    needs_offer: bool = False


EVENT_COLUMNS = (
    EventColumn("event_id", "VARCHAR", "The event's key; a hash of the row where not delivered."),
    EventColumn("event_time", "TIMESTAMP", "When it happened: UTC, microseconds."),
    EventColumn("event_date", "DATE", "The UTC day of event_time: the partition."),
    EventColumn("event_type", "VARCHAR", "What happened: one of core.event_types."),
    EventColumn("user_id", "VARCHAR", "Who, where known."),
    EventColumn("device_id", "VARCHAR", "On which device, where known."),
    EventColumn("session_id", "VARCHAR", "In which visit, where known."),
    EventColumn("channel", "VARCHAR", "Where: app, web, store, e-mail, ..."),
    EventColumn("item_id", "VARCHAR", "Which item; null where a source knows only amounts."),
    EventColumn("quantity", "BIGINT", "How many of the item; at least 1 for order lines."),
    EventColumn("unit_price", MONEY, "Price of one before discount, in the shop's currency."),
    EventColumn("discount", MONEY, "Discount of the whole line, or what a redemption cost."),
    EventColumn("order_id", "VARCHAR", "Which order, where known."),
    EventColumn("search_query", "VARCHAR", "What was searched for."),
    EventColumn("offer_id", "VARCHAR", "Which offer of the catalogue."),
    EventColumn("campaign_id", "VARCHAR", "In which campaign or experiment."),
    EventColumn(
        "assignment_probability",
        "DOUBLE",
        "Probability of the arm that was drawn; null = not randomised or not known.",
    ),
)

# The hash keeps the place of every value: 'a', null and null, 'a' are different rows.
_VALUES = ", ".join(
    f"coalesce({column.name}, chr(0))"
    for column in EVENT_COLUMNS
    if column.name not in ("event_id", "event_date")
)
EVENT_KEY = f"coalesce(event_id, md5(concat_ws(chr(31), {_VALUES})))"
"""The key of a delivered row in SQL: its event_id, or a hash of its content. Rows with the same key
and content are the same event."""

EQUAL_ROWS_KEPT = (
    f"{EVENT_KEY} || case when event_id is null then '#' || row_number() over "
    f"(partition by {EVENT_KEY} order by source_file, source_row) else '' end"
)
"""The same where equal rows without an event_id are different events: they are numbered."""

EVENT_TYPES = (
    EventType("view", "An item or page was viewed."),
    EventType("search", "A search was made."),
    EventType("click", "A result or recommendation was clicked."),
    EventType("favourite", "An item was marked."),
    EventType("add_to_cart", "An item was put into the cart."),
    EventType("remove_from_cart", "An item was taken out of the cart."),
    EventType("purchase", "An order line was bought.", needs_order_line=True),
    EventType("return", "An order line came back.", needs_order_line=True),
    EventType("offer_sent", "An offer went to a user.", needs_offer=True),
    EventType("offer_withheld", "A user was in the control arm of a campaign."),
    EventType("offer_viewed", "A user saw an offer.", needs_offer=True),
    EventType("offer_redeemed", "A user used an offer.", needs_offer=True),
)

REASONS = {
    "event_time_unreadable": "event_time is missing or is not a timestamp",
    "before_partition": "event_time lies before its partition: older than the first one",
    "after_partition": "event_time lies after the partition that the row was delivered for",
    "event_type_unknown": "event_type is missing or is not one of core.event_types",
    "user_missing": "neither user_id nor device_id is given",
    "quantity_unreadable": "an order line's quantity is missing or is not a whole number",
    "quantity_not_positive": "an order line's quantity is below 1",
    "quantity_too_large": "quantity is above 1,000,000: perhaps a code or a time",
    "price_unreadable": "unit_price is not an amount, or is missing from an order line",
    "price_too_precise": "unit_price has more than two decimals: perhaps 1.299 means 1299",
    "price_negative": "unit_price is below 0",
    "price_too_large": "unit_price is above 10,000,000,000, or the line's amount above 10^12",
    "discount_unreadable": "discount is not an amount",
    "discount_too_precise": "discount has more than two decimals",
    "discount_negative": "discount is below 0",
    "discount_above_amount": "an order line's discount is larger than quantity * unit_price",
    "offer_missing": "an offer event names no offer_id",
    "probability_out_of_range": "assignment_probability is not a number in (0, 1]",
    "event_id_reused": "an earlier usable row of the day has the same event_id and other content",
    "duplicate": "an earlier usable row of the day has the same event_id and content",
    "equal_row": "an earlier usable row of the day is equal, and neither has an event_id",
}
"""Reason codes of ``core.rejected_events``, in the order in which they are tried."""
