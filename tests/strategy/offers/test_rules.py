"""Eligibility: which conditions an offer puts on a user."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from promo_assets.strategy.offers.catalogue import Catalogue
from promo_assets.strategy.offers.rules import REASONS, eligible

USERS = pl.DataFrame(
    {
        "user_id": ["a", "b", "c"],
        "segment": ["new", "loyal", None],
        "lifecycle": ["active", "active", "lapsed"],
        "orders_life": [1, 9, 4],
        "offers_drawn_28d": [0, 2, 1],
        "barred": pl.Series([None] * 3, dtype=pl.String),
    }
)


def verdicts(day: date = date(2017, 5, 1), users: pl.DataFrame = USERS, **terms: object):
    offer = {"id": "o", "name": "O", "kind": "amount_off", "value": 1, **terms}
    mask, reasons = eligible(users, Catalogue.model_validate({"offers": [offer]}), day)
    assert (mask == (reasons == 0)).all()
    return [REASONS[reason] for reason in reasons[:, 0]]


def test_an_offer_without_conditions_is_for_everyone() -> None:
    assert verdicts() == ["eligible"] * 3


def test_who_refused_or_has_another_account_is_barred_from_every_offer() -> None:
    users = USERS.with_columns(barred=pl.Series([None, "consent", "merged"]))
    told = verdicts(users=users, eligible={"segments": ["new"]})
    assert told == ["eligible", "consent", "merged"]


def test_a_segment_condition_excludes_other_and_unknown_segments() -> None:
    assert verdicts(eligible={"segments": ["new"]}) == ["eligible", "segment", "segment"]


def test_lifecycle_and_order_bounds_hold_with_their_ends_included() -> None:
    assert verdicts(eligible={"lifecycle": ["active"], "min_orders": 9}) == [
        "orders",
        "eligible",
        "lifecycle",
    ]
    assert verdicts(eligible={"max_orders": 4}) == ["eligible", "orders", "eligible"]


def test_the_frequency_cap_counts_recent_draws() -> None:
    cap = {"times": 2, "days": 28}
    assert verdicts(frequency_cap=cap) == ["eligible", "frequency_cap", "eligible"]


@pytest.mark.parametrize(
    ("day", "verdict"),
    [
        (date(2017, 4, 29), "validity"),
        (date(2017, 4, 30), "eligible"),
        (date(2017, 5, 30), "eligible"),
        (date(2017, 5, 31), "validity"),
    ],
)
def test_the_day_after_the_decision_must_lie_in_the_validity(day: date, verdict: str) -> None:
    terms = {"valid_from": date(2017, 5, 1), "valid_until": date(2017, 5, 31)}
    assert verdicts(day, **terms) == [verdict] * 3


def test_a_missing_column_is_named_with_the_offer_that_needs_it() -> None:
    with pytest.raises(ValueError, match=r"users lack offers_drawn_7d.*offer 'o'"):
        verdicts(frequency_cap={"times": 1, "days": 7})


def test_no_users_give_an_empty_matrix() -> None:
    assert verdicts(users=USERS.clear(), eligible={"segments": ["new"]}) == []
