"""`promo plan`: what another budget or catalogue would change, and that nothing changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.shop import OFFERS, Shop

DAY = "2024-01-30"


def plan(shop: Shop, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("promo")), "plan", "--date", DAY, *arguments],
        env=shop.environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def line(told: str, start: str) -> list[str]:
    return next(line for line in told.splitlines() if line.startswith(start)).split()


def test_the_published_plan_is_told_again_and_nothing_changes(thirty_days: Shop) -> None:
    before = thirty_days.query("select * from strategy.budget_prices order by all")
    code, told = plan(thirty_days)
    assert code == 0, told
    ours, published = line(told, "what if")[2:5], line(told, "published")[1:4]
    assert ours == published
    sent = thirty_days.query(
        f"select count(*) from strategy.assignments where as_of_date = '{DAY}' and arm = 'offer'"
        " and purpose = 'earn'"
    )
    assert int(ours[0]) == sent[0][0] > 0
    assert "would lose theirs" not in told
    assert "Nothing was published" in told
    assert thirty_days.query("select * from strategy.budget_prices order by all") == before


@pytest.mark.slow
def test_another_catalogue_shows_who_gains_what_limits_cost_and_what_one_person_gets(
    thirty_days: Shop, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(OFFERS.replace("send_cost: 0.10,", "send_cost: 0.10, max_audience: 5,"))
    code, told = plan(thirty_days, "--offers", str(other), "--budget", "15.50")
    assert code == 0, told
    assert "budget 15.50 (published: 20.00), other.yaml" in told
    assert line(told, "  five_off")[1] == "5"
    assert "one more coupon of five_off" in told
    assert "would lose theirs" in told
    user = thirty_days.query(
        f"select user_id from strategy.assignments where as_of_date = '{DAY}'"
        " and offer_id = 'five_off' and arm = 'offer' limit 1"
    )[0][0]
    code, told = plan(thirty_days, "--user", user)
    assert code == 0, told
    assert "would get five_off; published: five_off" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--budget", "-1"], "expected an amount of 0 or more"),
        (["--user", "nobody-of-this-name"], "has a segment on"),
        (["--offers", "nowhere.yaml"], "set PROMO_OFFERS to a catalogue file"),
    ],
)
def test_what_is_asked_wrongly_exits_2_with_one_line(
    thirty_days: Shop, arguments: list[str], told: str
) -> None:
    code, output = plan(thirty_days, *arguments)
    assert code == 2
    assert told in output
    assert len(output.splitlines()) == 1
