from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from promo_assets.simulation.offers import OFFER_IDS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.simulation.conftest import Folder, Made


def sends(folder: Folder) -> pl.DataFrame:
    """What campaigns drew, with who the people are."""
    latent = ("type", "price_sensitivity", "visits_a_day")
    persons = folder.truth("persons").select("person_id", *latent)
    return folder.truth("sends").join(persons, on="person_id")


def test_logged_probabilities_are_those_of_the_draw(shop: Folder) -> None:
    drawn = sends(shop)
    assert (drawn["assignment_probability"] == drawn["propensity"]).all()
    arms = drawn.with_columns(together=pl.col("campaign_id").str.ends_with("-all")).group_by(
        "together", "arm", pl.when(pl.col("together")).then("offer_id").alias("offer_id")
    )
    shares = arms.agg(pl.len(), pl.col("assignment_probability").first())
    for together, rows in shares.group_by("together"):
        total = rows["len"].sum()
        expected = rows["assignment_probability"] * total
        spread = (expected * (1 - rows["assignment_probability"])).sqrt()
        assert ((rows["len"] - expected).abs() < 4.5 * spread).all(), (together, rows)
        assert rows["assignment_probability"].sum() == pytest.approx(1)


def test_randomised_arms_hold_alike_people(shop: Folder) -> None:
    drawn = sends(shop)
    by_arm = [drawn.filter(pl.col("arm") == arm) for arm in ("sent", "withheld")]
    for column in ("price_sensitivity", "visits_a_day"):
        means = [rows[column].mean() for rows in by_arm]
        errors = [rows[column].std() / rows.height**0.5 for rows in by_arm]
        assert abs(means[0] - means[1]) < 4 * np.hypot(*errors), column


def test_events_log_what_was_drawn(shop: Folder) -> None:
    logged = shop.query("""
        select user_id, offer_id, campaign_id, assignment_probability,
            if(event_type = 'offer_sent', 'sent', 'withheld') as arm
        from events where event_type in ('offer_sent', 'offer_withheld')
    """)
    drawn = shop.truth("sends").select(logged.columns)
    keys = ["user_id", "campaign_id"]
    assert logged.sort(keys).equals(drawn.sort(keys))
    together = logged.filter(
        pl.col("campaign_id").str.ends_with("-all") & (pl.col("arm") == "withheld")
    )
    assert together["offer_id"].null_count() == together.height > 0


def test_a_warm_up_has_no_campaigns_and_the_first_comes_after_it(
    made: Made, tmp_path: Path
) -> None:
    shop = made(tmp_path / "shop", 10, warm_up=5)
    first = shop.truth("sends").select(pl.len()).item()
    days = shop.query(
        "select distinct cast(event_time as date) as day from events"
        " where event_type in ('offer_sent', 'offer_withheld')"
    )["day"].to_list()
    assert first > 0
    assert days == [shop.manifest.options.start + timedelta(days=7)]


def test_nobody_gets_two_offers_within_28_days_and_nobody_without_consent(shop: Folder) -> None:
    logged = shop.query(
        "select user_id, event_time from events"
        " where event_type in ('offer_sent', 'offer_withheld') order by all"
    )
    gaps = logged.with_columns(gap=pl.col("event_time").diff().over("user_id"))["gap"].drop_nulls()
    assert gaps.len() > 100
    assert (gaps.dt.total_days() >= 27).all()
    given = shop.table("consents").filter(
        (pl.col("purpose") == "marketing") & pl.col("user_id").is_not_null()
    )
    at_send = (
        logged.sort("event_time")
        .join_asof(
            given.sort("since"),
            left_on="event_time",
            right_on="since",
            by="user_id",
            check_sortedness=False,
        )
        .get_column("granted")
    )
    assert at_send.all()


def test_campaigns_start_weekly_so_that_trials_close(shop: Folder) -> None:
    days = shop.query(
        "select distinct cast(event_time as date) as day from events"
        " where event_type = 'offer_sent' order by day"
    )["day"]
    first = shop.manifest.options.start
    assert [(day - first).days for day in days] == [2, 9, 16, 23, 30]


def test_a_biased_policy_logs_nothing_and_prefers_recent_buyers(made: Made, tmp_path: Path) -> None:
    shop = made(tmp_path / "biased", 31, users=2_000, assignment="biased")
    logged = shop.query("select * from events where event_type like 'offer_%'")
    assert set(logged["event_type"]) == {"offer_sent", "offer_viewed", "offer_redeemed"}
    assert logged["assignment_probability"].null_count() == logged.height
    drawn = shop.truth("sends")
    sent = drawn.filter(pl.col("arm") == "sent")
    # Horvitz and Thompson: either side, weighted by its true propensity, stands for everyone.
    weights = 1 / drawn.filter(pl.col("arm") == "not_sent")["propensity"]
    assert weights.sum() == pytest.approx(drawn.height, rel=0.05)
    of_five = 1 / sent.filter(pl.col("offer_id") == "five_off")["propensity"]
    assert of_five.sum() == pytest.approx(drawn.height, rel=0.5)
    assert set(sent["offer_id"]) == set(OFFER_IDS)
    orders = shop.query(
        "select user_id, min(event_time) as first_order from events"
        " where event_type = 'purchase' group by all"
    )
    times = logged.filter(pl.col("event_type") == "offer_sent").select("user_id", "event_time")
    late = times.filter(pl.col("event_time").dt.ordinal_day() > 14).join(
        orders, on="user_id", how="left"
    )
    bought_before = (late["first_order"] < late["event_time"]).fill_null(False).mean()
    buyers = orders.height / shop.table("users").height
    assert bought_before > 1.5 * buyers


def test_without_assignment_there_are_no_offers(made: Made, tmp_path: Path) -> None:
    shop = made(tmp_path / "none", 10, assignment="none")
    assert not any(rows for kind, rows in shop.manifest.rows.items() if kind.startswith("offer_"))
