"""The offer catalogue: what may be offered, to whom, and what is known or assumed about it.

Here: the file's model and its error messages. Not here: who is eligible (``rules.py``) and what
an offer is worth (``effects.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from promo_assets.contract.located_yaml import Location, Problem, conflict, dotted, load, nearest

Kind = Literal[
    "percent_off",
    "amount_off",
    "threshold_amount_off",
    "bogo",
    "free_shipping",
    "points",
    "informational",
]
VALUELESS = ("free_shipping", "informational")
PERCENT = ("percent_off", "bogo")
CAPPED = ("percent_off", "bogo", "free_shipping")
"""Kinds whose cost grows with the basket, so that ``max_discount`` means something."""

HorizonDays = Literal[7, 14, 28]
HORIZONS = get_args(HorizonDays)
CapDays = Literal[1, 7, 28, 90]
MOST_CAP_DAYS = max(get_args(CapDays))
STOCK_DAYS = 364
"""Days back to which draws count against a stock."""

Money = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=2, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
Names = tuple[Text, ...]


class CatalogueError(ValueError):
    """The catalogue is wrong: for each problem its file, line, offer and field, and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FrequencyCap(_Strict):
    """At most ``times`` draws for a user, sent or withheld, in ``days`` days up to the send: of any
    offer, or of this one."""

    times: int = Field(ge=1)
    days: CapDays
    of: Literal["any", "this"] = "any"


class Eligible(_Strict):
    """Who may get the offer; an empty list or a missing bound allows everyone."""

    segments: Names = ()
    categories: Names = Field(default=(), description="One of these is among their top three.")
    lifecycle: Names = ()
    channels: Names = Field(default=(), description="Most of their orders came this way.")
    min_orders: int | None = Field(default=None, ge=0, description="Orders so far, at least.")
    max_orders: int | None = Field(default=None, ge=0, description="Orders so far, at most.")

    @model_validator(mode="after")
    def _ordered(self) -> Eligible:
        if None not in (self.min_orders, self.max_orders) and self.min_orders > self.max_orders:  # type: ignore[operator]
            raise conflict("min_orders", f"{self.min_orders} is above max_orders {self.max_orders}")
        return self


class Offer(_Strict):
    """One offer.

    ``budget`` and the audiences are a day's: what it may cost, and how many get it at least (else
    nobody does) and at most. ``stock`` is how many may be drawn in `STOCK_DAYS`. Nobody gets an
    offer of an ``exclusive_group`` while a coupon of it is open; of those of a group (or of none)
    that somebody might get, only the ones of highest ``priority`` are considered.

    ``value`` is a percentage (``percent_off``, ``bogo``: off the second item), money
    (``amount_off``, ``threshold_amount_off``) or points. The three ``expected_…`` and ``prior_``
    fields are assumptions that count until there are trials: the share of users sent the offer
    who redeem it, what one of them costs, and the relative change of a user's spend.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)
    name: Text
    kind: Kind
    value: Money = Decimal(0)
    min_spend: Money | None = None
    max_discount: Money | None = None
    valid_days: int | None = Field(default=None, ge=1)
    horizon_days: HorizonDays | None = None
    valid_from: date | None = Field(default=None, description="First day it may take effect.")
    valid_until: date | None = Field(default=None, description="Last day it may take effect.")
    send_cost: Money = Decimal(0)
    channels: Names = ()
    eligible: Eligible = Eligible()
    exclusive_group: Text | None = None
    priority: int = 0
    stock: int | None = Field(default=None, ge=0)
    budget: Money | None = None
    min_audience: int | None = Field(default=None, ge=1)
    max_audience: int | None = Field(default=None, ge=0)
    frequency_cap: FrequencyCap | None = None
    expected_redemption_rate: float | None = Field(default=None, ge=0, le=1)
    expected_cost_per_redemption: Money | None = None
    prior_lift: float | None = Field(default=None, gt=-1, le=10, allow_inf_nan=False)

    @model_validator(mode="after")
    def _consistent(self) -> Offer:
        for field, problem in _conflicts(self):
            raise conflict(field, problem)
        return self

    @property
    def horizon(self) -> int:
        """Days from the send in which its effect is measured: as declared, else the fewest of
        `HORIZONS` in which it can be used."""
        valid = self.valid_days or HORIZONS[-1]
        return self.horizon_days or next((d for d in HORIZONS if d >= valid), HORIZONS[-1])

    @property
    def face_cost(self) -> Decimal | None:
        """The most that a redemption costs, where the terms say so."""
        if self.kind == "informational":
            return Decimal(0)
        return self.max_discount if self.kind in CAPPED or self.kind == "points" else self.value

    @property
    def liability(self) -> Decimal:
        """What a coupon that is open may still cost: its face, else what a redemption is assumed to
        cost."""
        face = self.face_cost
        return (self.expected_cost_per_redemption or Decimal(0)) if face is None else face

    @property
    def open_days(self) -> int:
        """Days from the send in which a coupon counts as open."""
        return min(self.valid_days or MOST_CAP_DAYS, MOST_CAP_DAYS)


class Rules(_Strict):
    """What holds for all offers together.

    ``pause_days_after``: days after somebody's order, return or redemption without any offer.
    ``max_open_coupons``: who holds so many gets none. ``max_liability``: what all open coupons of
    everybody may cost, new ones included. ``keeps_margin``: nobody gets an offer that, on their
    usual basket, takes off more than its margin.
    """

    pause_days_after: dict[
        Literal["purchase", "return", "offer_redeemed"],
        Annotated[int, Field(ge=1, le=MOST_CAP_DAYS)],
    ] = {}
    max_open_coupons: int | None = Field(default=None, ge=1)
    max_liability: Money | None = None
    keeps_margin: bool = False


class Catalogue(_Strict):
    """The offers, in the file's order; its position is the offer's column in a value matrix."""

    offers: tuple[Offer, ...]
    rules: Rules = Rules()

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(offer.id for offer in self.offers)


def _conflicts(offer: Offer) -> Iterator[tuple[str, str]]:
    """The fields that contradict each other, each with what is wrong and what is expected."""
    kind, value = offer.kind, offer.value
    if kind in VALUELESS and value:
        yield "value", f"{value} found, but {kind} has no value: remove it"
    if kind not in VALUELESS and not value:
        yield "value", f"{kind} needs a value above 0"
    if kind in PERCENT and value > 100:
        yield "value", f"{value} found, expected a percentage above 0 and at most 100"
    if kind == "points" and value != value.to_integral_value():
        yield "value", f"{value} found, expected a whole number of points"
    if kind == "threshold_amount_off" and (offer.min_spend is None or offer.min_spend <= value):
        yield "min_spend", f"{offer.min_spend} found, expected more than the value {value}"
    if offer.max_discount is not None and kind not in CAPPED:
        yield "max_discount", f"{kind} takes none (only {', '.join(CAPPED)} do): remove it"
    if offer.valid_from and offer.valid_until and offer.valid_from > offer.valid_until:
        yield "valid_until", f"{offer.valid_until} is before valid_from {offer.valid_from}"
    if None not in (offer.min_audience, offer.max_audience) and (
        offer.min_audience > offer.max_audience  # type: ignore[operator]
    ):
        yield "min_audience", f"{offer.min_audience} is above max_audience {offer.max_audience}"
    if offer.prior_lift is not None and kind != "informational":
        for field in ("expected_redemption_rate", "expected_cost_per_redemption"):
            if getattr(offer, field) is None:
                yield field, "missing: a prior_lift is weighed against a cost, so say what it costs"


def load_catalogue(path: Path, segments: Collection[str] | None = None) -> Catalogue:
    """Read and check the catalogue file; with ``segments``, their names are checked too.

    Raises `CatalogueError` with one line a problem.
    """
    return load(
        path,
        Catalogue,
        CatalogueError,
        holds="a list of offers under 'offers:'",
        missing="set PROMO_OFFERS to a catalogue file",
        place=_place,
        check=partial(_checked, segments=segments),
    )


def _checked(catalogue: Catalogue, segments: Collection[str] | None) -> Iterator[Problem]:
    """What no offer alone can tell: ids that are used twice, segments that nobody is in."""
    if not catalogue.offers:
        yield ("offers",), "offers: none found, expected a list of at least one"
    first: dict[str, int] = {}
    for index, offer in enumerate(catalogue.offers):
        label = f"offer {offer.id!r}"
        if offer.id in first:
            told = f"{label}: id: repeated, first on offer number {first[offer.id]}"
            yield ("offers", index, "id"), told
        first.setdefault(offer.id, index + 1)
        for name in offer.eligible.segments:
            if segments is not None and name not in segments:
                told = f"{label}: eligible.segments: {name!r} found; {nearest(name, segments)}"
                yield ("offers", index, "eligible", "segments"), told


def _place(at: Location, raw: Any) -> str:
    """``offer 'id': field``."""
    if len(at) < 2 or not isinstance(at[1], int):
        return dotted(at)
    offer = raw["offers"][at[1]]
    name = offer.get("id") if isinstance(offer, dict) else None
    label = f"offer {name!r}" if name is not None else f"offer number {at[1] + 1}"
    return ": ".join(filter(None, (label, dotted(at[2:]))))
