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
        "drawn_28d": [None, ["o", "other"], ["other"]],
        "open_offers": [None, ["o"], ["p", "q"]],
        "top_category_1": [None, "tea", "cups"],
        "top_category_2": [None, None, "tea"],
        "top_category_3": pl.Series([None] * 3, dtype=pl.String),
        "preferred_channel": ["app", None, "web"],
        "usual_basket": [None, 10.0, 40.0],
        "days_since_purchase": [None, 0, 2],
    }
)


def verdicts(
    day: date = date(2017, 5, 1),
    users: pl.DataFrame = USERS,
    rules: dict[str, object] | None = None,
    **terms: object,
) -> list[str]:
    offer = {"id": "o", "name": "O", "kind": "amount_off", "value": 1, **terms}
    catalogue = Catalogue.model_validate({"offers": [offer], "rules": rules or {}})
    mask, reasons = eligible(users, catalogue, day, 0.3)
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


def test_a_cap_of_this_offer_does_not_count_others() -> None:
    cap = {"times": 1, "days": 28, "of": "this"}
    assert verdicts(frequency_cap=cap) == ["eligible", "frequency_cap", "eligible"]


def test_interests_and_channels_are_asked_for() -> None:
    assert verdicts(eligible={"categories": ["tea"]}) == ["category", "eligible", "eligible"]
    assert verdicts(eligible={"channels": ["web", "app"]}) == ["eligible", "channel", "eligible"]


def test_a_pause_lasts_its_days() -> None:
    for days, told in ((1, ["eligible", "pause", "eligible"]), (3, ["eligible", "pause", "pause"])):
        assert verdicts(rules={"pause_days_after": {"purchase": days}}) == told


def test_who_holds_enough_coupons_gets_no_other() -> None:
    assert verdicts(rules={"max_open_coupons": 2}) == ["eligible", "eligible", "open_coupons"]


def test_nothing_takes_off_more_than_the_margin_of_the_usual_basket() -> None:
    keeps = {"keeps_margin": True}
    assert verdicts(rules=keeps, value=4) == ["margin", "margin", "eligible"]
    above = {"kind": "threshold_amount_off", "value": 9, "min_spend": 30, "rules": keeps}
    assert verdicts(**above) == ["eligible", "eligible", "eligible"]
    percent = {"kind": "percent_off", "value": 31, "rules": keeps}
    assert verdicts(**percent) == ["margin"] * 3
    assert verdicts(max_discount=3, **percent) == ["margin", "eligible", "eligible"]
    assert verdicts(kind="bogo", value=60, rules=keeps) == ["margin", "eligible", "eligible"]


def test_of_a_group_the_highest_priority_goes_first_and_an_open_coupon_bars_all() -> None:
    shared = {"name": "O", "kind": "amount_off", "value": 1, "exclusive_group": "g"}
    catalogue = Catalogue.model_validate(
        {
            "offers": [
                {"id": "low", **shared},
                {"id": "high", "priority": 5, "eligible": {"min_orders": 4}, **shared},
                {"id": "free", **shared | {"exclusive_group": None}},
                {
                    "id": "vip",
                    "priority": 1,
                    "eligible": {"segments": ["loyal"]},
                    **shared | {"exclusive_group": None},
                },
            ]
        }
    )
    users = USERS.with_columns(open_offers=pl.Series([None, None, ["low"]]))
    reasons = eligible(users, catalogue, date(2017, 5, 1), 0.3).reasons
    assert [[REASONS[reason] for reason in row] for row in reasons] == [
        ["eligible", "orders", "eligible", "segment"],
        ["priority", "eligible", "priority", "eligible"],
        ["exclusive_group", "exclusive_group", "eligible", "segment"],
    ]
