"""Segments: exactly one a user, told apart by stated rules, and a summary that balances."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promo_assets.contract.segments import SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dbt_like_sql.conftest import Event, Shop

FIRST = date(2024, 1, 1)


def on(offset: int) -> date:
    return FIRST + timedelta(days=offset)


def score(shop: Shop, propensity: float) -> None:
    """Give every known user the same score on every day."""
    shop.connection.execute("delete from propensity.scores")
    shop.connection.execute(
        "insert into propensity.scores by name select user_id, as_of_date,"
        " $propensity as propensity, 1 as model_version from features.user_features",
        {"propensity": propensity},
    )


def members(shop: Shop, segment: str) -> set[tuple[str, date]]:
    return {
        (row["user_id"], row["as_of_date"])
        for row in shop.frame("segments.user_segments", f"segment = '{segment}'").to_dicts()
    }


def test_every_known_user_is_in_exactly_one_of_the_seven_segments(year: Shop) -> None:
    found = year.frame("segments.user_segments")
    known = year.frame("features.user_features")

    assert (
        found.select("user_id", "as_of_date").rows() == known.select("user_id", "as_of_date").rows()
    )
    assert set(found["segment"]) <= set(SEGMENTS)
    assert found["reason"].null_count() == 0


def first_that_applies(row: dict[str, Any], discount_share: float) -> str:
    """The rules again, from the finished rows of features and profiles."""
    likely = row["propensity"] is not None and row["propensity"] >= 0.7
    safe = row["propensity"] is not None and row["propensity"] >= 0.5
    rules = {
        "dormant": row["lifecycle"] == "dormant",
        "new": row["lifecycle"] == "new" or row["orders_life"] == 0,
        "one_time": row["orders_life"] == 1 and (row["recency_days"] or 0) >= 28,
        "at_risk": row["lifecycle"] == "at_risk" and not safe,
        "deal_seeker": row["orders_90d"] >= 3
        and discount_share > 0
        and row["price_sensitivity"] >= 1.3 * discount_share,
        "loyal": row["orders_90d"] >= 4 and row["frequency_quintile"] >= (3 if likely else 4),
        "promising": True,
    }
    return next(segment for segment, applies in rules.items() if applies is True)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10_000), propensity=st.sampled_from([None, 0.1, 0.6, 0.9]))
def test_the_first_rule_that_applies_decides(
    shop: Shop, seed: int, propensity: float | None
) -> None:
    for table in ("propensity.scores", *shop.chain):
        shop.connection.execute(f"delete from {table}")
    shop.deliver(shop.shoppers(days=120, seed=seed, users=9))
    shop.run(FIRST, on(120), shop.chain[:4])
    if propensity is not None:
        score(shop, propensity)
    shop.run(FIRST, on(120), shop.chain[4:])

    rows = shop.select("""
        select s.*, p.frequency_quintile,
            sum(f.discount_90d) over day / nullif(sum(f.gross_90d) over day, 0) as everybodys
        from segments.user_segments as s
        inner join features.user_features as f using (user_id, as_of_date)
        inner join profiles.user_profiles as p using (user_id, as_of_date)
        window day as (partition by as_of_date)
    """)
    for row in rows.to_dicts():
        row["price_sensitivity"] = row["price_sensitivity"] or 0
        assert row["segment"] == first_that_applies(row, row["everybodys"] or 1), row


def test_a_higher_propensity_never_puts_a_user_at_risk_or_out_of_loyal(shop: Shop) -> None:
    shop.deliver(shop.shoppers(days=120))
    shop.run(FIRST, on(120), shop.chain[:4])
    found = {}
    for propensity in (0.0, 0.6, 0.9):
        score(shop, propensity)
        shop.run(FIRST, on(120), ["segments.user_segments"])
        found[propensity] = (members(shop, "at_risk"), members(shop, "loyal"))

    assert found[0.0][0] > found[0.6][0] == found[0.9][0]
    assert found[0.0][1] <= found[0.6][1] < found[0.9][1]


def test_without_a_model_behaviour_alone_decides(shop: Shop) -> None:
    shop.deliver([shop.event("purchase", "u", 0)])
    shop.run(FIRST, on(120))

    segments = [
        shop.one("segments.user_segments", "u", on(offset))["segment"]
        for offset in (0, 27, 28, 89, 90)
    ]

    assert segments == ["new", "new", "one_time", "one_time", "dormant"]


def without_views(shop: Shop) -> list[Event]:
    return [row for row in shop.shoppers(days=120) if row["event_type"] in ("purchase", "return")]


def without_discounts(shop: Shop) -> list[Event]:
    return [row | {"discount": Decimal(0)} for row in shop.shoppers(days=120)]


def without_categories(shop: Shop) -> list[Event]:
    return [row | {"item_id": None} for row in shop.shoppers(days=120)]


@pytest.mark.parametrize("rows", [without_views, without_discounts, without_categories])
def test_a_shop_that_lacks_something_still_has_its_loyal_its_late_and_its_deal_seekers(
    shop: Shop, rows: Callable[[Shop], list[Event]]
) -> None:
    shop.deliver(rows(shop))
    shop.run(FIRST, on(120))
    found = set(shop.frame("segments.user_segments")["segment"])
    expected = {"new", "at_risk", "loyal", "promising", "deal_seeker"}
    assert found - {"one_time", "dormant"} == expected - (
        {"deal_seeker"} if rows is without_discounts else set()
    )


def test_a_shop_of_a_month_tells_who_comes_often_from_who_is_new(shop: Shop) -> None:
    often = [shop.event("purchase", "often", day) for day in range(0, 30, 3)]
    few = [shop.event("purchase", f"once {day}", day) for day in range(25)]
    shop.deliver(often + few)
    shop.run(FIRST, on(30))
    last = shop.frame("segments.user_segments", f"as_of_date = date '{on(29)}'")
    found = dict(last.select("user_id", "segment").iter_rows())
    assert found.pop("often") == "loyal"
    assert set(found.values()) == {"new", "one_time"}


def test_a_reason_gives_the_users_own_numbers(shop: Shop) -> None:
    shop.deliver(
        [
            *[shop.event("purchase", "late", day) for day in range(0, 40, 4)],
            *[shop.event("purchase", "dear", day) for day in range(0, 80, 4)],
            *[
                shop.event("purchase", "thrifty", day, discount=Decimal(6))
                for day in range(1, 80, 4)
            ],
        ]
    )
    shop.run(FIRST, on(80))

    reasons = {
        row["user_id"]: (row["segment"], row["reason"])
        for row in shop.frame("segments.user_segments", f"as_of_date = date '{on(79)}'").to_dicts()
    }

    assert reasons == {
        "late": ("at_risk", "last order 43 d ago > 2 x typical gap of 8 d"),
        "dear": ("promising", "20 orders in 90 d, frequency quintile 3"),
        "thrifty": ("deal_seeker", "discount share 55 %, everybody 24 %"),
    }


def test_expected_spend_is_the_rate_of_90_days_shrunk_by_a_week(shop: Shop) -> None:
    shop.deliver(
        [
            *[shop.event("purchase", "u", day) for day in range(0, 98, 7)],
            shop.event("view", "looker", 0),
            shop.event("return", "returner", 0, unit_price=Decimal(90)),
        ]
    )
    shop.run(FIRST, on(98))
    features = shop.frame("features.user_features", f"as_of_date = date '{on(97)}'")
    mean_rate = float(features["spend_90d"].sum()) / (3 * 90)

    expected = {
        user: float(shop.one("segments.user_segments", user, on(97))["expected_spend_28d"])
        for user in ("u", "looker")
    }

    assert expected["u"] == pytest.approx((120 + 7 * mean_rate) / 97 * 28, abs=0.005)
    assert expected["looker"] == pytest.approx(7 * mean_rate / 97 * 28, abs=0.005)
    assert shop.one("segments.user_segments", "returner", on(0))["expected_spend_28d"] == 0


def test_the_previous_segment_is_that_of_the_day_before(year: Shop) -> None:
    found = year.frame("segments.user_segments").sort("user_id", "as_of_date")

    expected = found.select(pl.col("segment").shift(1).over("user_id"))["segment"]

    assert found["previous_segment"].to_list() == expected.to_list()


def test_the_summary_counts_members_and_moves(year: Shop) -> None:
    users = year.frame("segments.user_segments")
    found = year.frame("segments.segment_summary")

    assert found.height == 130 * len(SEGMENTS)
    for row in found.to_dicts():
        today = users.filter(pl.col("as_of_date") == row["as_of_date"])
        here, before = (
            set(today.filter(pl.col(column) == row["segment"])["user_id"])
            for column in ("segment", "previous_segment")
        )
        assert row["users"] == len(here)
        assert row["stayed"] == len(here & before)
        assert (row["entered"], row["departed"]) == (len(here - before), len(before - here))
        assert row["spend_28d"] == (
            today.filter(pl.col("user_id").is_in(list(here)))["spend_28d"].sum()
        )
        assert row["share"] == (row["users"] / today.height if today.height else 0)


def test_a_day_without_users_still_has_seven_segments_of_zero(shop: Shop) -> None:
    shop.deliver([shop.event("view", "u", 1)])
    shop.run(FIRST, on(2))

    rows = shop.frame("segments.segment_summary", f"as_of_date = date '{FIRST}'")

    assert sorted(rows["segment"]) == sorted(SEGMENTS)
    assert rows["users"].sum() == 0
    assert rows["share"].sum() == 0
    assert rows["mean_propensity"].null_count() == len(SEGMENTS)


def test_the_mean_propensity_is_that_of_the_scored_members(shop: Shop) -> None:
    shop.deliver([shop.event("purchase", user, 0) for user in "abc"])
    shop.run(FIRST, on(1), shop.chain[:4])
    shop.connection.executemany(
        "insert into propensity.scores (user_id, as_of_date, propensity, model_version)"
        " values (?, ?, ?, 1)",
        [("a", FIRST, 0.2), ("b", FIRST, 0.5)],
    )
    shop.run(FIRST, on(1), shop.chain[4:])

    (row,) = shop.frame("segments.segment_summary", "users > 0").to_dicts()

    assert (row["segment"], row["users"]) == ("new", 3)
    assert row["mean_propensity"] == pytest.approx(0.35)


AUDITED = {
    ("segments.user_segments", "segments_mean_what_they_say"): "segment = 'one_time'",
    ("segments.user_segments", "every_known_user_has_one_segment"): "user_id = 'u1'",
    ("segments.user_segments", "previous_segments_are_those_of_the_day_before"): (
        "previous_segment = null"
    ),
    ("segments.segment_summary", "all_seven_segments"): "segment = 'lost'",
    ("segments.segment_summary", "adds_up_to_the_users"): "users = users + 1",
    ("segments.segment_summary", "flows_balance"): "entered = entered + 1",
}


@pytest.mark.parametrize(("table", "audit"), AUDITED)
def test_the_gate_finds_the_day_of_a_wrong_row(shop: Shop, table: str, audit: str) -> None:
    shop.deliver(shop.shoppers(days=29))
    shop.run(FIRST, on(29))
    assert shop.offending(table, audit, on(10), on(29)) == []

    shop.connection.execute(
        f"update {table} set {AUDITED[table, audit]} where as_of_date = date '{on(28)}'"
    )

    assert {row[0] for row in shop.offending(table, audit, on(10), on(29))} == {on(28)}


def test_every_table_passes_its_gate(shop: Shop, tmp_path: Path) -> None:
    from promo_assets.gates.audit import Auditor
    from promo_assets.warehouse.connection import Warehouse

    shop.deliver(shop.shoppers(days=60, users=40))
    shop.run(FIRST, on(50))
    audited = on(50), on(60)
    for table in shop.chain:
        query = shop.query(table, *audited)
        staged = f"staging.{table.replace('.', '__')}"
        shop.connection.execute(f"create table {staged} as {query.sql}", query.parameters)
        shop.run(*audited, [table])
    shop.connection.close()
    options = {"threads": 1, "preserve_insertion_order": False}
    auditor = Auditor(Warehouse.with_options(shop.path, options), tmp_path)

    blocked = {
        table: auditor.audit(
            shop.contracts[table], f"staging.{table.replace('.', '__')}", audited
        ).blocked_days
        for table in shop.chain
    }

    assert blocked == dict.fromkeys(shop.chain, frozenset())
