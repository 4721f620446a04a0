"""What clusters of users are called, and how they differ from everybody, in words.

Here: the columns of behaviour that users are told apart by, and their words. Not here: how users
are told apart (``clusters.py``), and pictures (``report/charts.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from promo_assets.propensity.clusters import Floats, Labels

TELLING = 0.4
"""Interquartile ranges from everybody's median from which on a centre is told in words."""
MOST_WORDS = 3
EVERYBODY = "everybody"
ALIKE = "like the average"


@dataclass(frozen=True)
class Behaviour:
    """A column: what users low and high in it do, and how a group's typical value is told.

    ``told`` has a place for the number: the group's median, or, where ``some``, the share of its
    users above 0, as most have none. ``percent`` values are shares.
    """

    low: str
    high: str
    told: str
    some: bool = False
    percent: bool = False

    def typical(self, column: Floats) -> str | None:
        """The value of a group in words; None where nobody's is known."""
        known = column[np.isfinite(column)]
        if not len(known):
            return None
        value = float((known > 0).mean() if self.some else np.median(known))
        if self.some or self.percent:
            return f"{value:.0%}"
        return f"{value:,.2f}" if value < 10 and value % 1 else f"{value:,.0f}"


BEHAVIOUR = {
    "orders": Behaviour("seldom", "often", "{} orders in 90 days"),
    "basket": Behaviour("small baskets", "large baskets", "{} an order"),
    "discount": Behaviour("at full price", "at a discount", "{} discount", percent=True),
    "redemptions": Behaviour("without offers", "with offers", "{} redeemed an offer", some=True),
    "answers": Behaviour("ignores offers", "answers offers", "{} ever answered one", some=True),
    "focus": Behaviour(
        "many categories", "few categories", "{} in the strongest category", percent=True
    ),
    "views": Behaviour("looks little", "looks a lot", "{} views"),
    "searches": Behaviour("searches little", "searches a lot", "{} searches"),
    "carts": Behaviour("fills few carts", "fills carts", "{} put into the cart"),
}
"""By column, of the last 90 days: orders; gross less discount of an order; discount / gross; offers
redeemed; share of days with offers that were answered, so far; share of the strongest category in
what they deal with; views; searches; items put into the cart."""


def names_of(columns: Sequence[str], centres: Floats, taken: Sequence[str] = ()) -> list[str]:
    """A name for each of ``centres`` (clusters x ``columns``, in interquartile ranges from the
    median): what is most unlike everybody, strongest first; no two alike, none of ``taken``."""
    names: list[str] = []
    for centre in centres:
        telling = [place for place in np.argsort(-np.abs(centre)) if abs(centre[place]) >= TELLING]
        words = [
            BEHAVIOUR[columns[place]].high if centre[place] > 0 else BEHAVIOUR[columns[place]].low
            for place in telling[:MOST_WORDS]
        ]
        name = ", ".join(words) or ALIKE
        names.append(_unlike(name, [*taken, *names]))
    return names


def _unlike(name: str, taken: Sequence[str]) -> str:
    number = 2
    told = name
    while told in taken:
        told, number = f"{name} ({number})", number + 1
    return told


def profiles_of(values: Mapping[str, Floats], labels: Labels, number: int) -> list[str]:
    """For each of ``number`` clusters what is typical of its users, of all users in brackets."""
    everybody = {name: BEHAVIOUR[name].typical(column) for name, column in values.items()}
    return [
        ", ".join(
            f"{BEHAVIOUR[name].told.format(own)} (all: {everybody[name]})"
            for name, column in values.items()
            if (own := BEHAVIOUR[name].typical(column[labels == cluster])) is not None
        )
        for cluster in range(number)
    ]
