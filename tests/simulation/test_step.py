"""The loop closed: the platform's assignments are played as the shop's next day."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pytest

from promo_assets.cli.main import main
from promo_assets.people.pseudonyms import SAMPLE_KEY, pseudonym
from promo_assets.settings import load_settings
from promo_assets.simulation.simulate import Simulation

if TYPE_CHECKING:
    from tests.simulation.conftest import Folder, Made

KEY = "a key for tests only"


@pytest.fixture
def begun(made: Made, tmp_path: Path) -> Folder:
    return made(tmp_path / "begun", 3, assignment="none", users=1_500)


def assigned(folder: Folder, key: str = KEY) -> pl.DataFrame:
    """A decision for every account: three in ten an offer, one held out, the others none."""
    users = folder.table("users")["user_id"].sort()
    cases = [
        ("five_off", "offer", 0.9),
        ("percent_15", "offer", 0.9),
        ("letter", "offer", 0.9),
        ("five_off", "holdout", 0.1),
        *[(None, "none", 0.9)] * 6,
    ]
    rows = [
        (pseudonym(user, "account", key), *cases[number % len(cases)])
        for number, user in enumerate(users)
    ]
    names = ["user_id", "offer_id", "arm", "assignment_probability"]
    return pl.DataFrame(rows, schema=names, orient="row")


def test_a_step_sends_offers_logs_holdouts_and_plays_the_day(begun: Folder) -> None:
    decisions = assigned(begun)
    shop = Simulation.open(begun.path)
    step = shop.step(decisions, KEY, "holdout-1/2017-01-04")
    assert str(step.day) == "2017-01-04"
    assert step.offers == (decisions["arm"] == "offer").sum()
    assert step.withheld == (decisions["arm"] == "holdout").sum()
    logged = begun.query(
        "select user_id, offer_id, if(event_type = 'offer_sent', 'offer', 'holdout') as arm,"
        " assignment_probability, campaign_id, cast(event_time as date) as day"
        " from events where event_type in ('offer_sent', 'offer_withheld')"
    )
    assert set(logged["campaign_id"]) == {"holdout-1/2017-01-04"}
    assert [str(day) for day in logged["day"].unique()] == ["2017-01-04"]
    known = logged.with_columns(
        user_id=pl.Series([pseudonym(user, "account", KEY) for user in logged["user_id"]])
    ).select(decisions.columns)
    wanted = decisions.filter(pl.col("arm") != "none")
    assert known.sort("user_id").equals(wanted.sort("user_id"))
    sends = pl.read_parquet(begun.path / "truth" / "sends" / "2017-01-04.parquet")
    assert (sends["propensity"] == sends["assignment_probability"]).all()
    assert sends["expected_gain"].null_count() == 0
    assert begun.one(
        "select count(*) > 0 from events where event_type = 'view'"
        " and cast(event_time as date) = '2017-01-04'"
    ) == (True,)


def test_offers_have_an_effect_on_who_got_them_only(begun: Folder, tmp_path: Path) -> None:
    """Everyone else's week is the same to the last event."""
    other = tmp_path / "without"
    shutil.copytree(begun.path, other)
    with_offers, without = Simulation.open(begun.path), Simulation.open(other)
    decisions = assigned(begun)
    with_offers.step(decisions, KEY, "c")
    without.step(None, "", "")
    for shop in (with_offers, without):
        shop.play(4)
    reached = set(decisions.filter(pl.col("arm") == "offer")["user_id"])
    accounts = begun.truth("accounts").with_columns(
        reached=pl.col("user_id").map_elements(
            lambda user: pseudonym(user, "account", KEY) in reached, return_dtype=pl.Boolean
        )
    )
    touched = set(accounts.filter("reached")["person_id"])
    devices = begun.truth("devices")
    own = devices.filter(~pl.col("person_id").is_in(list(touched)))["device_id"]
    shared = devices.filter(pl.col("person_id").is_in(list(touched)))["device_id"]
    quiet = set(own) - set(shared)
    columns = ["event_time", "event_type", "device_id", "user_id", "item_id", "quantity"]
    weeks = []
    for place in (begun.path, other):
        events = pl.concat(
            [pl.read_parquet(path).select(columns) for path in place.glob("events/*/*.parquet")]
        )
        weeks.append(events.filter(pl.col("device_id").is_in(list(quiet))).sort(columns))
    assert weeks[0].height > 1_000
    assert weeks[0].equals(weeks[1])


def test_assignments_that_the_shop_cant_carry_out_are_counted(begun: Folder) -> None:
    user = pseudonym(begun.table("users")["user_id"][0], "account", KEY)
    rows = [
        ("unobody00000", "five_off", "offer", 0.9),
        (user, "no_such_offer", "offer", 0.9),
        (user, None, "holdout", 0.1),
    ]
    names = ["user_id", "offer_id", "arm", "assignment_probability"]
    step = Simulation.open(begun.path).step(pl.DataFrame(rows, names, orient="row"), KEY, "c")
    assert (step.offers, step.withheld, step.unknown) == (0, 1, 2)
    # Another key's pseudonyms are nobody's.
    step = Simulation.open(begun.path).step(assigned(begun, "some other key"), KEY, "d")
    assert step.offers == step.withheld == 0


def test_the_shops_own_campaigns_rest_while_the_platform_decides(
    made: Made, tmp_path: Path
) -> None:
    shop = made(tmp_path / "shop", 9)  # The tenth day has a campaign.
    Simulation.open(shop.path).step(None, "", "")
    sent = shop.query(
        "select distinct cast(cast(event_time as date) as varchar) as day from events"
        " where event_type = 'offer_sent'"
    )
    assert sent["day"].to_list() == ["2017-01-03"]


def test_promo_simulate_step_takes_the_assignments_of_the_day_before(
    begun: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    begun.path.rename(home / "simulated")
    shop = type(begun)(home / "simulated", begun.manifest)
    decisions = assigned(shop, SAMPLE_KEY)
    with duckdb.connect(str(home / "warehouse.duckdb")) as connection:
        connection.execute("create schema strategy")
        connection.register("decisions", decisions.to_arrow())
        connection.execute(
            "create table strategy.assignments as"
            " select date '2017-01-03' as as_of_date, 'loyal' as segment, * from decisions"
        )
    monkeypatch.setenv("PROMO_HOME", str(home))
    monkeypatch.setenv("PROMO_SOURCE", "simulated")
    load_settings.cache_clear()
    try:
        assert main(["simulate", "--step"]) == 0
        first = capfd.readouterr().out
        assert main(["simulate", "--step"]) == 0
        second = capfd.readouterr().out
        assert main(["simulate", "--step", "--users", "5"]) == 2
        assert "--step plays one day" in capfd.readouterr().err
    finally:
        load_settings.cache_clear()
    offers = (decisions["arm"] == "offer").sum()
    assert f"2017-01-04: {offers} offers sent" in first
    assert "2017-01-05: no assignments of the day before, so a day without offers" in second
    assert "promo run --from 2017-01-05 --to 2017-01-05" in second
    sent = shop.query(
        "select campaign_id, count(*) from events where event_type = 'offer_sent' group by all"
    )
    assert sent.rows() == [("holdout-1/2017-01-04", offers)]
