"""What the programme earned: intervals that cover, days that are equal in a range and alone, and
nothing told where nothing is known."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from promo_assets.contract.days import Window
from promo_assets.strategy.effects.programme import programme_effects
from promo_assets.strategy.experiments.experiment import Holdout

START = date(2024, 1, 1)
HOLDOUT = Holdout("h", 0.2, START, days=14, analysis_days=7)
BEFORE = 7
USERS = 600


def day(offset: int) -> date:
    return START + timedelta(days=offset)


def users(count: int = USERS, arrived: int = -100) -> pl.DataFrame:
    names = [f"u{number:05}" for number in range(count)]
    return pl.DataFrame({"user_id": names, "first_day": [day(arrived)] * count})


def shop(
    seed: int, effect: int = 0, sent: bool = True, until: int = 14, reaches_held: float = 0.0
) -> pl.DataFrame:
    """Every user's cents by day: habits that differ much, noise, and ``effect`` a day for those who
    get offers in the first round."""
    rng = np.random.default_rng(seed)
    habit = rng.gamma(1.0, 300.0, USERS)
    held = HOLDOUT.on(START).held_out(users())
    days = []
    for offset in range(1 - BEFORE, until):
        cents = rng.poisson(habit) + (effect if offset > 0 else 0) * ~held
        sends = (~held & sent & (offset > 0)) | (held & (rng.random(USERS) < reaches_held))
        days.append(
            pl.DataFrame(
                {
                    "event_date": [day(offset)] * USERS,
                    "place": np.arange(USERS),
                    "cents": cents.astype(np.int64),
                    "sends": sends.astype(np.int64),
                }
            )
        )
    return pl.concat(days)


def rows(window: Window, margins: pl.DataFrame, who: pl.DataFrame | None = None) -> list[Any]:
    known = users() if who is None else who
    return list(programme_effects(HOLDOUT, BEFORE, window, known, margins))


def on(offset: int) -> Window:
    return Window(day(offset), day(offset + 1))


@pytest.mark.slow
def test_intervals_cover_the_truth_and_the_covariate_narrows_them() -> None:
    covered, errors = 0, []
    for seed in range(200):
        (row,) = rows(on(10), shop(seed, effect=30, until=11))
        covered += row["effect_low"] <= 3.0 <= row["effect_high"]
        errors.append(row["effect_se"])
        held = HOLDOUT.on(START).held_out(users())
        if seed == 0:
            total = shop(seed, effect=30, until=11).filter(pl.col("event_date") > START)
            plain = total.group_by("place").agg(pl.sum("cents")).sort("place")["cents"].to_numpy()
            alone = np.sqrt(plain[held].var() / held.sum() + plain[~held].var() / (~held).sum())
            assert row["effect_se"] < 0.25 * alone / 100
    # Four binomial standard errors of 95 %.
    assert 0.885 <= covered / 200 <= 1.0
    assert np.std(errors) < 0.2 * np.mean(errors)


def test_the_total_is_the_effect_of_all_who_are_not_held_out() -> None:
    (row,) = rows(on(10), shop(1, effect=50, until=11))
    assert row["users"] + row["held_out"] == USERS
    assert row["total"] == pytest.approx(row["effect"] * row["users"], abs=0.01)
    assert row["total_low"] < 5.0 * row["users"] < row["total_high"]
    assert row["sends"] == 10 * row["users"]
    assert row["sends_to_held_out"] == 0
    assert f"{row['total']:+,.2f}" in row["reason"]


def test_a_range_and_its_days_are_equal() -> None:
    margins = shop(2, effect=10, until=40).filter(pl.col("event_date") != day(3))
    whole = rows(Window(day(0), day(40)), margins)
    alone = [
        row
        for offset in range(40)
        for row in rows(on(offset), margins.filter(pl.col("event_date") <= day(offset)))
    ]
    key = ("as_of_date", "started_on")
    assert sorted(whole, key=lambda r: [r[k] for k in key]) == alone


def test_people_count_from_the_day_on_which_they_are_known() -> None:
    known = users().with_columns(
        first_day=pl.when(pl.int_range(USERS) < 100).then(pl.lit(day(6))).otherwise("first_day")
    )
    margins = shop(3, until=9)
    counts = {
        row["as_of_date"]: row["users"] + row["held_out"]
        for row in rows(Window(day(4), day(8)), margins, known)
    }
    assert counts == {day(4): 500, day(5): 500, day(6): 600, day(7): 600}


def test_nothing_is_told_where_nothing_was_sent_or_an_arm_is_small() -> None:
    (row,) = rows(on(5), shop(4, sent=False, until=6))
    assert row.get("effect") is None
    assert row["reason"] == "nothing was sent in this round yet"
    few = users(60)
    margins = shop(4, until=6).filter(pl.col("place") < 60)
    (row,) = rows(on(5), margins, few)
    assert row.get("effect") is None
    assert "too few" in row["reason"]


def test_a_holdout_that_offers_reach_tells_nothing() -> None:
    (row,) = rows(on(5), shop(5, until=6, reaches_held=0.3))
    assert row.get("effect") is None
    assert "the holdout is not kept" in row["reason"]
    (kept,) = rows(on(5), shop(5, until=6, reaches_held=0.01))
    assert kept["effect"] is not None


def test_a_round_closes_while_the_next_one_runs_and_then_is_final() -> None:
    told: dict[date, list[tuple[str, str]]] = {}
    for row in rows(Window(day(0), day(30)), shop(6, until=30)):
        told.setdefault(row["as_of_date"], []).append((row["experiment"], row["status"]))
    assert told[day(13)] == [("h", "running")]
    assert told[day(14)] == [("h", "closing"), ("h.2", "running")]
    assert told[day(20)] == [("h", "final"), ("h.2", "running")]
    assert told[day(21)] == [("h.2", "running")]
    assert told[day(28)] == [("h.2", "closing"), ("h.3", "running")]


def test_each_day_is_decided_under_one_round_and_rounds_draw_anew() -> None:
    everyone = users(4000)
    arms = [HOLDOUT.on(day(14 * number)).held_out(everyone) for number in range(4)]
    for held in arms:
        assert held.mean() == pytest.approx(0.2, abs=0.025)
    for one, other in pairs(arms):
        assert (one & other).mean() == pytest.approx(0.04, abs=0.015)
    assert HOLDOUT.on(day(0)) == HOLDOUT.on(day(13)) != HOLDOUT.on(day(14))
    assert not HOLDOUT.on(day(-1)).held_out(everyone).any()
    assert list(HOLDOUT.rounds(day(-1))) == []


def pairs(arms: list[Any]) -> Iterator[tuple[Any, Any]]:
    for number, one in enumerate(arms):
        for other in arms[number + 1 :]:
            yield one, other
