"""What a shop tolerates in its deliveries: ``gates:`` of ``mapping.yaml``, and the defaults.

A stranger's default is strict: at most 5 % of a day's rows, of each event type's rows and of its
money may be unusable, for whatever reason. A shop that knows better says so once, with a note.
Here: the vocabulary. Not here: the rules that compare (``expectations/core/events.yaml``, which
reads it as the table ``core.gate_limits``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from promo_assets.contract.events import EVENT_TYPES, REASONS
from promo_assets.contract.located_yaml import Location, Problem, nearest

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

SIGNS = {
    "event_repeated": "accepted rows whose event id came on one of the 7 days before, too",
    "user_unlisted": "accounts of the day that neither users nor consents know",
    "rows_gone": "rows of users, items, identities or consents that are no longer delivered",
}
"""What the gates count besides rejected rows; it can be tolerated as a reason can."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tolerance(_Strict):
    """Up to which share something is normal here, and why."""

    at_most: Share
    note: Annotated[str, Field(min_length=1)]


class Gates(_Strict):
    """``rejected``: the share of a day's rows that may be rejected, and of each event type's, or as
    ``rejected_by_type`` says. Rows rejected for a ``tolerated`` reason are judged by that
    tolerance alone and don't count otherwise."""

    rejected: Share = 0.05
    rejected_by_type: dict[str, Share] = {}
    tolerated: dict[str, Tolerance] = {}

    def limits(self) -> list[dict[str, Any]]:
        """The rows of ``core.gate_limits``: one for everything ('' and ''), one an event type and
        one a tolerated reason."""
        by_type = {"": self.rejected, **self.rejected_by_type}
        tolerated = DEFAULTS | self.tolerated
        return [
            {"reason": "", "event_type": name, "at_most": share, "note": None}
            for name, share in by_type.items()
        ] + [
            {"reason": name, "event_type": "", "at_most": one.at_most, "note": one.note}
            for name, one in tolerated.items()
        ]


DEFAULTS = {
    "duplicate": Tolerance(
        at_most=0.5, note="copies with the same id and content: nothing is lost without them"
    ),
    "user_unlisted": Tolerance(
        at_most=0.99, note="a list of users may have gaps; one that knows nobody is another one's"
    ),
    "rows_gone": Tolerance(
        at_most=0.5, note="a table that lost half of its rows at once was cut, or is another one's"
    ),
}
"""What is normal for everybody; what a shop says of the same takes its place."""


def problems(gates: Gates, at: Location = ("gates",)) -> Iterator[Problem]:
    """The names in ``gates`` that nobody knows: where, and what is expected."""
    types = [kind.name for kind in EVENT_TYPES]
    known: dict[str, tuple[Collection[str], str]] = {
        "rejected_by_type": (types, "is no event type"),
        "tolerated": ((*REASONS, *SIGNS), "is nothing that the gates count"),
    }
    for key, (names, problem) in known.items():
        for name in getattr(gates, key):
            if name not in names:
                place = ".".join(map(str, (*at, key)))
                yield (*at, key, name), f"{place}: {name!r} {problem}; {nearest(name, names)}"
