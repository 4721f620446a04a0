"""The purchase model's tables on the shop of thirty days: who is learned from."""

from __future__ import annotations

from promo_assets import installation
from tests.support.shop import Shop


def test_whom_is_scored_is_learned_from_with_or_without_orders(thirty_days: Shop) -> None:
    with installation.reading(thirty_days.settings) as read:
        rows = read(
            "select coalesce(sets.week is not null, false), features.orders_90d > 0, count(*)"
            " from features.user_features as features left join propensity.training_set as sets"
            " using (as_of_date, user_id)"
            " where as_of_date in (select as_of_date from propensity.training_set)"
            " group by all order by all"
        ).rows()
    assert {learned for learned, _, _ in rows} == {True}
    assert {ordered for _, ordered, _ in rows} == {False, True}
