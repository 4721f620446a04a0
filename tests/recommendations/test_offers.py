"""Offers come in the order of what they earn, and carry what fits them, or say why they don't."""

from __future__ import annotations

import numpy as np
import pytest

from promo_assets.recommendations.offers import OFFERED, Item, carried, covered, in_order

NONE = -np.inf


def item(name: str, price: float | None = 2.0, category: str | None = "FOOD/BREAD") -> Item:
    return Item(name, price, category, f"why {name}")


def test_offers_are_in_order_of_margin_beyond_cost() -> None:
    value = np.array([[5.0, 9.0, NONE], [1.0, 1.0, 1.0]])
    cost = np.array([[1.0, 6.0, 0.0], [0.5, 0.5, 0.5]])
    found = in_order(value, cost, ["a", "b", "c"], ["b", None])
    told = found.select("user", "offer_rank", "offer_id", "is_assigned").rows()
    assert told == [
        (0, 1, "a", False),
        (0, 2, "b", True),
        (1, 1, "a", False),
        (1, 2, "b", False),
        (1, 3, "c", False),
    ]


def test_the_assigned_offer_is_listed_whatever_its_rank() -> None:
    value = np.array([[5.0, 4.0, 3.0, 2.0, 1.0]])
    found = in_order(value, np.zeros((1, 5)), list("abcde"), ["e"])
    assert found["offer_id"].to_list() == ["a", "b", "c", "e"]
    assert found["offer_rank"].to_list() == [*range(1, OFFERED + 1), 5]


def test_a_threshold_carries_what_brings_the_usual_basket_over_it() -> None:
    items = [item("a", 3.0), item("b", None), item("c", 4.0), item("d")]
    found = carried(items, 14.0, min_spend=20.0)
    assert found.items == ("a", "c")
    assert found.reason == "brings the usual basket of 14.00 over 20.00"
    assert carried(items, 20.0, min_spend=20.0).items == ("a",)


@pytest.mark.parametrize(
    ("items", "basket", "reason"),
    [
        ([item(str(number), 0.1) for number in range(20)], 1.0, "5 items don't bring"),
        ([item("a", None)], 1.0, "don't bring"),
        ([item("a")], None, "no orders in 90 days"),
        ([], 1.0, "no item is known"),
    ],
)
def test_a_threshold_that_is_out_of_reach_says_why(
    items: list[Item], basket: float | None, reason: str
) -> None:
    found = carried(items, basket, min_spend=20.0)
    assert found.items == ()
    assert "not available because" in found.reason
    assert reason in found.reason


def test_an_offer_of_categories_carries_items_of_these() -> None:
    items = [item("a", category="HOME"), item("b"), item("c", category=None)]
    assert carried(items, None, categories=["FOOD"]).items == ("b",)
    assert carried(items, None).items == ("a", "b", "c")
    assert "no item of the offer's categories" in carried(items, None, categories=["TOYS"]).reason
    assert covered("FOOD/BREAD", ["FOOD/"])
    assert not covered("FOODS", ["FOOD"])
