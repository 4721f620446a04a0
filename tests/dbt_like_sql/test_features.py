"""Daily rows and trailing features: exact, point in time, the same however they are computed."""

from __future__ import annotations

import math
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from operator import ne
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.dbt_like_sql.conftest import Shop

FIRST = date(2024, 1, 1)
DAYS = 130
TABLES = (
    "features.user_daily",
    "features.user_features",
    "profiles.user_interests",
    "profiles.user_profiles",
    "segments.user_segments",
    "segments.segment_summary",
)
FEATURES = TABLES[:2]
WINDOWS = {"1d": 1, "7d": 7, "28d": 28, "90d": 90, "life": 10_000}


def on(offset: int) -> date:
    return FIRST + timedelta(days=offset)


def state(shop: Shop) -> dict[str, list[tuple[Any, ...]]]:
    return {table: shop.rows(table) for table in TABLES}


@pytest.mark.parametrize("table", TABLES)
def test_a_model_gives_the_columns_and_types_of_its_contract(shop: Shop, table: str) -> None:
    query = shop.query(table, FIRST, on(1))
    described = shop.connection.execute(f"describe {query.sql}", query.parameters).fetchall()

    assert {row[0]: row[1] for row in described} == shop.contracts[table].types


@pytest.mark.parametrize("table", TABLES)
def test_a_contract_lists_its_columns_in_the_models_order(shop: Shop, table: str) -> None:
    query = shop.query(table, FIRST, on(1))
    described = shop.connection.execute(f"describe {query.sql}", query.parameters).fetchall()

    assert [row[0] for row in described] == list(shop.contracts[table].columns)


@pytest.mark.slow
def test_days_one_by_one_give_the_rows_of_a_range(shop: Shop, year: Shop) -> None:
    shop.deliver(shop.shoppers(days=DAYS))
    shop.run(FIRST, on(115))

    for offset in range(115, DAYS):
        shop.run(on(offset), on(offset + 1))

    assert state(shop) == state(year)


def test_rebuilding_a_middle_range_over_stale_rows_changes_nothing(shop: Shop) -> None:
    shop.deliver(shop.shoppers(days=60))
    shop.run(FIRST, on(60))
    expected = state(shop)
    shop.connection.execute(
        "update features.user_features set orders_life = orders_life + 7, gap_count = 99"
        " where as_of_date between $start and $end",
        {"start": on(20), "end": on(29)},
    )
    shop.connection.execute(
        "update segments.user_segments set segment = 'loyal', previous_segment = null"
        " where as_of_date between $start and $end",
        {"start": on(20), "end": on(29)},
    )

    shop.run(on(20), on(30))

    assert state(shop) == expected


def test_rows_of_a_day_do_not_know_what_happens_after_it(shop: Shop) -> None:
    events = shop.shoppers(days=60)
    shop.deliver(events)
    shop.run(FIRST, on(60))
    known = [shop.rows(table, where(shop, table, "<", on(40))) for table in TABLES]
    later = [shop.rows(table, where(shop, table, ">=", on(40))) for table in TABLES]

    shop.deliver(
        [row for row in events if row["event_date"] < on(40)]
        + [
            row
            | {
                "quantity": 9,
                "discount": Decimal(0),
                "event_type": "purchase",
                "unit_price": Decimal(50),
                "item_id": "i3",
            }
            for row in events
            if row["event_date"] >= on(40)
        ]
    )
    shop.run(FIRST, on(60))

    assert [shop.rows(table, where(shop, table, "<", on(40))) for table in TABLES] == known
    changed = [shop.rows(table, where(shop, table, ">=", on(40))) for table in TABLES]
    assert all(map(ne, changed, later)), "the canary: every table sees the altered events"


def where(shop: Shop, table: str, relation: str, day: date) -> str:
    return f"{shop.contracts[table].window} {relation} date '{day}'"


@pytest.mark.slow
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.sets(st.integers(1, 34), max_size=4),
    rebuilt=st.tuples(st.integers(0, 34), st.integers(1, 10)),
)
def test_any_cut_of_the_days_into_ranges_gives_the_same_rows(
    shop: Shop, seed: int, cuts: set[int], rebuilt: tuple[int, int]
) -> None:
    shop.deliver(shop.shoppers(days=35, seed=seed, users=5))
    clear(shop)
    shop.run(FIRST, on(35))
    expected = state(shop)
    clear(shop)

    for start, end in pairwise([0, *sorted(cuts), 35]):
        shop.run(on(start), on(end))
    shop.run(on(rebuilt[0]), on(min(35, sum(rebuilt))))

    assert state(shop) == expected


def clear(shop: Shop) -> None:
    for table in TABLES:
        shop.connection.execute(f"delete from {table}")


@pytest.mark.parametrize("window", WINDOWS)
def test_trailing_counters_equal_a_count_over_the_events(year: Shop, window: str) -> None:
    events = (
        year.frame("core.events")
        .filter(pl.col("user_id").is_not_null() & (pl.col("event_type") != "offer_withheld"))
        .with_columns(
            amount=pl.col("quantity") * pl.col("unit_price"),
            order=pl.struct("event_date", pl.col("order_id").fill_null("")),
        )
    )
    found = year.frame("features.user_features")
    counters = [name for name in found.columns if name.endswith(f"_{window}")]
    for offset in range(0, DAYS, 9):
        day = on(offset)
        expected = counted(events, day, WINDOWS[window])
        users = found.filter(pl.col("as_of_date") == day).join(
            expected, on="user_id", how="left", suffix="_expected"
        )
        assert users.height == events.filter(pl.col("event_date") <= day)["user_id"].n_unique()
        for name in expected.columns[1:]:
            column = f"{name}_{window}"
            assert column in counters
            assert users[column].to_list() == users[name].fill_null(0).to_list(), (column, day)


def counted(events: pl.DataFrame, day: date, days: int) -> pl.DataFrame:
    """Counters over ``(day - days, day]``, straight from the events."""
    kind = pl.col("event_type")
    bought, returned = kind == "purchase", kind == "return"
    active = kind != "offer_sent"
    net = pl.col("amount") - pl.col("discount")
    return (
        events.filter(pl.col("event_date").is_between(day - timedelta(days=days - 1), day))
        .group_by("user_id")
        .agg(
            views=(kind == "view").sum(),
            searches=(kind == "search").sum(),
            clicks=(kind == "click").sum(),
            carts=(kind == "add_to_cart").sum(),
            purchases=bought.sum(),
            orders=pl.col("order").filter(bought).n_unique(),
            items=pl.col("quantity").filter(bought).sum(),
            gross=pl.col("amount").filter(bought).sum(),
            discount=pl.col("discount").filter(bought).sum(),
            spend=net.filter(bought).sum() - net.filter(returned).sum(),
            active_days=pl.col("event_date").filter(active).n_unique(),
            order_days=pl.col("event_date").filter(bought).n_unique(),
            offers_sent=(kind == "offer_sent").sum(),
            offers_viewed=(kind == "offer_viewed").sum(),
            offers_redeemed=(kind == "offer_redeemed").sum(),
            redemption_cost=pl.col("discount").filter(kind == "offer_redeemed").sum(),
        )
    )


def test_gaps_and_rates_equal_those_of_the_order_days(year: Shop) -> None:
    events = year.frame("core.events")
    for row in year.frame("features.user_features").to_dicts()[::7]:
        history = events.filter(
            (pl.col("user_id") == row["user_id"]) & (pl.col("event_date") <= row["as_of_date"])
        )
        bought = order_days(history)
        gaps = [(later - earlier).days for earlier, later in pairwise(bought)]
        closed = len(gaps) + bool(bought and (row["as_of_date"] - bought[-1]).days >= 28)
        offers, answered = answers(history)

        assert row["gap_count"] == len(gaps)
        assert row["gap_sum_days"] == sum(gaps)
        assert row["gap_sumsq_days"] == sum(gap * gap for gap in gaps)
        assert row["gaps_within_7d"] == sum(gap <= 7 for gap in gaps)
        assert row["gap_capped_sum_days"] == sum(min(gap, 7) for gap in gaps)
        assert row["gap_mean_days"] == (sum(gaps) / len(gaps) if gaps else None)
        assert row["gap_sd_days"] == (pytest.approx(deviation(gaps)) if len(gaps) > 1 else None)
        assert row["repurchase_rate"] == (
            sum(gap <= 28 for gap in gaps) / closed if closed else None
        )
        assert (row["offer_days"], row["offer_days_answered"]) == (offers, answered)
        assert row["response_rate"] == (answered / offers if offers else None)


def test_order_cover_is_the_share_of_days_with_an_order_in_the_week_up_to_them(
    year: Shop,
) -> None:
    events = year.frame("core.events")
    for row in year.frame("features.user_features").to_dicts()[::11]:
        bought = order_days(events.filter(pl.col("user_id") == row["user_id"]))
        today = row["as_of_date"]
        covered = [
            day
            for day in (today - timedelta(days=age) for age in range(row["tenure_days"] + 1))
            if any(0 <= (day - order).days < 7 for order in bought)
        ]
        lately = [day for day in covered if (today - day).days < 90]

        assert row["covered_days_life"] == len(covered)
        assert row["order_cover_life"] == len(covered) / (row["tenure_days"] + 1)
        assert row["order_cover_90d"] == len(lately) / min(90, row["tenure_days"] + 1)


def test_the_return_hazard_counts_gaps_in_steps_of_a_week(shop: Shop) -> None:
    shop.deliver([shop.event("purchase", "u", day) for day in (0, 5, 15, 27, 60)])
    shop.run(FIRST, on(90), FEATURES)

    hazards = [
        shop.one("features.user_features", "u", on(offset))["return_hazard_7d"]
        for offset in (60, 67, 74, 87, 88)
    ]

    gaps = 4
    assert hazards == pytest.approx(
        [1.7 / (gaps + 1), 2.7 / (gaps - 1 + 1), 0.7 / (1 + 1), 0.7 / (1 + 1), None]
    )


def order_days(history: pl.DataFrame) -> list[date]:
    return sorted(history.filter(pl.col("event_type") == "purchase")["event_date"].unique())


def deviation(values: list[int]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def answers(history: pl.DataFrame) -> tuple[int, int]:
    """Days with offers, and those that a redemption came after, before the next such day."""
    sent, redeemed = (
        sorted(history.filter(pl.col("event_type") == kind)["event_date"].unique())
        for kind in ("offer_sent", "offer_redeemed")
    )
    ends = [*sent[1:], date.max][: len(sent)]
    answered = [
        any(start <= day < end for day in redeemed) for start, end in zip(sent, ends, strict=True)
    ]
    return len(sent), sum(answered)


def test_a_user_has_a_row_on_every_day_from_the_first_event_on(year: Shop) -> None:
    events = year.frame("core.events").filter(
        pl.col("user_id").is_not_null() & (pl.col("event_type") != "offer_withheld")
    )
    firsts = dict(events.group_by("user_id").agg(pl.col("event_date").min()).iter_rows())
    found = year.frame("features.user_features")

    for user, first in firsts.items():
        days = found.filter(pl.col("user_id") == user)["as_of_date"].sort().to_list()
        assert days == [on(offset) for offset in range((first - FIRST).days, DAYS)]


def test_a_window_ends_with_its_last_day_and_drops_the_day_before_its_first(shop: Shop) -> None:
    shop.deliver([shop.event("purchase", "u", 0), shop.event("purchase", "u", 7)])
    shop.run(FIRST, on(100), FEATURES)

    orders = [
        shop.one("features.user_features", "u", on(offset))["orders_7d"]
        for offset in (0, 6, 7, 13, 14)
    ]

    assert orders == [1, 1, 1, 1, 0]
    assert shop.one("features.user_features", "u", on(89))["orders_90d"] == 2
    assert shop.one("features.user_features", "u", on(90))["orders_90d"] == 1


def test_a_withheld_offer_leaves_no_trace_in_the_features(shop: Shop) -> None:
    shop.deliver([shop.event("view", "seen", 0), shop.event("offer_withheld", "unseen", 0)])
    shop.run(FIRST, on(2), FEATURES)

    assert {row[0] for row in shop.rows("features.user_features")} == {"seen"}


def test_an_offer_sent_makes_a_user_known_but_not_active(shop: Shop) -> None:
    shop.deliver([shop.event("offer_sent", "u", 0)])
    shop.run(FIRST, on(2), FEATURES)

    row = shop.one("features.user_features", "u", on(1))

    assert (row["offers_sent_life"], row["active_days_life"], row["tenure_days"]) == (1, 0, 1)
    assert row["days_since_active"] is None
    assert row["recency_days"] is None


def test_a_return_lowers_spend_but_not_orders_discount_or_gross(shop: Shop) -> None:
    shop.deliver(
        [
            shop.event("purchase", "u", 0, quantity=2, discount=Decimal("1.50")),
            shop.event("return", "u", 1, quantity=1, discount=Decimal("0.75")),
        ]
    )
    shop.run(FIRST, on(2), FEATURES)

    row = shop.one("features.user_features", "u", on(1))

    assert row["spend_life"] == Decimal("18.50") - Decimal("9.25")
    assert (row["gross_life"], row["discount_life"]) == (Decimal(20), Decimal("1.50"))
    assert (row["orders_life"], row["returns_life"]) == (1, 1)
    assert row["discount_share_life"] == pytest.approx(0.075)


def test_an_order_counts_once_in_the_hours_of_its_first_line(shop: Shop) -> None:
    shop.deliver(
        [
            shop.event("purchase", "u", 5, hour=11, order_id="o"),
            shop.event("purchase", "u", 5, hour=13, order_id="o", item_id="i1"),
            shop.event("purchase", "u", 5, hour=21, order_id=None),
            shop.event("purchase", "u", 5, hour=22, order_id=None, channel="app"),
        ]
    )
    shop.run(on(5), on(6), FEATURES)

    (row,) = shop.frame("features.user_daily").to_dicts()

    assert (row["purchases"], row["orders"], row["basket_max"]) == (4, 2, Decimal(20))
    assert [row[f"orders_block_{block}"] for block in range(6)] == [0, 0, 1, 0, 0, 1]
    assert row["orders_weekend"] == 2, "6 January 2024 is a Saturday"


def test_several_redemptions_of_one_offer_answer_it_once(shop: Shop) -> None:
    shop.deliver(
        [
            shop.event("offer_redeemed", "u", 0),
            shop.event("offer_sent", "u", 1),
            *[shop.event("offer_redeemed", "u", day) for day in (2, 3, 4)],
            shop.event("offer_sent", "u", 5),
        ]
    )
    shop.run(FIRST, on(9), FEATURES)

    row = shop.one("features.user_features", "u", on(8))

    assert (row["offers_redeemed_life"], row["offer_days"], row["response_rate"]) == (4, 2, 0.5)


AUDITED = {
    ("features.user_daily", "counts_are_plausible"): "discount = gross + 1",
    ("features.user_daily", "adds_up_to_core_events"): "actions = actions + 1",
    ("features.user_features", "longer_windows_hold_shorter_ones"): "orders_28d = orders_90d + 1",
    ("features.user_features", "amounts_and_days_are_plausible"): "spend_7d = gross_7d + 1",
    ("features.user_features", "rates_are_between_0_and_1"): "response_rate = 1.5",
    ("features.user_features", "dates_are_in_order"): "recency_days = recency_days + 1",
    ("features.user_features", "continues_the_day_before"): "orders_life = orders_life + 1",
    ("features.user_features", "windows_add_up_to_daily_rows"): "spend_28d = spend_28d + 1",
}


@pytest.mark.parametrize(("table", "audit"), AUDITED)
def test_the_gate_finds_the_day_of_a_wrong_row(shop: Shop, table: str, audit: str) -> None:
    shop.deliver(shop.shoppers(days=40))
    shop.run(FIRST, on(40), FEATURES)
    assert shop.offending(table, audit, on(20), on(40)) == []
    window = shop.contracts[table].window

    shop.connection.execute(
        f"update {table} set {AUDITED[table, audit]} where {window} = date '{on(39)}'"
    )

    assert {row[0] for row in shop.offending(table, audit, on(20), on(40))} == {on(39)}


def test_the_gate_warns_of_a_day_without_activity(shop: Shop) -> None:
    shop.deliver([shop.event("view", f"u{user}", day) for day in range(12) for user in range(5)])
    shop.run(FIRST, on(13), FEATURES)

    assert [
        shop.offending(table, audit, on(10), on(13))[0][0]
        for table, audit in (
            ("features.user_daily", "active_users_are_usual"),
            ("features.user_features", "activity_is_fresh"),
        )
    ] == [on(12), on(12)]
