"""The computed truth against what people then do."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from promo_assets.people.pseudonyms import pseudonym
from promo_assets.simulation.assortment import Assortment
from promo_assets.simulation.folder import Options
from promo_assets.simulation.offers import OFFER_IDS, response
from promo_assets.simulation.people import people
from promo_assets.simulation.simulate import Simulation, simulate

if TYPE_CHECKING:
    from tests.simulation.conftest import Folder

KEY = "a key for tests only"
DAYS = 28


def lines_of(folder: Path, first: str, people: int) -> pl.DataFrame:
    """Order lines and redemptions from the day ``first`` on, of the first ``people``."""
    days = sorted(path for path in (folder / "events").iterdir() if path.name >= first)
    events = pl.concat(
        [pl.read_parquet(file) for day in days for file in sorted(day.glob("*.parquet"))]
    )
    owners = pl.concat(
        [
            pl.read_parquet(folder / "truth" / f"{kind}s.parquet").select(
                pl.col(name).alias("id"), "person_id"
            )
            for kind, name in (("account", "user_id"), ("device", "device_id"))
        ]
    ).unique("id")
    paid = events.filter(pl.col("event_type").is_in(["purchase", "offer_redeemed"]))
    known = paid.with_columns(id=pl.coalesce("user_id", "device_id")).join(owners, on="id")
    assert known.height == paid.height
    net = pl.col("quantity") * pl.col("unit_price") - pl.col("discount")
    return known.filter(pl.col("person_id") < people).with_columns(
        net=net.cast(pl.Float64), discount=pl.col("discount").cast(pl.Float64)
    )


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop after two days without offers."""
    place = tmp_path_factory.mktemp("begun") / "shop"
    simulate(Options(users=12_000, seed=3, assignment="none"), 2, place)
    return place


@dataclass(frozen=True)
class Month:
    """28 days after an offer was sent, or not: the truth of that day, and what happened."""

    truth: pl.DataFrame
    orders: int
    spend: float
    paid: pl.Series

    def expected(self, name: str, offer: str | None) -> float:
        """Of everyone; whoever had no account yet was not reached."""
        column = pl.col(name)
        if offer:
            known = pl.col("signup_day") < 2
            column = pl.when(known).then(pl.col(f"{name}_{offer}")).otherwise(column)
        return float(self.truth.select(column.cast(pl.Float64).sum()).item())


def month(begun: Path, place: Path, offer: str | None) -> Month:
    """Play 28 days after ``offer`` went to every account."""
    shutil.copytree(begun, place)
    shop = Simulation.open(place)
    first = str(shop.next_date)
    if offer:
        users = pl.read_parquet(place / "users.parquet")["user_id"]
        assigned = pl.DataFrame(
            {
                "user_id": [pseudonym(user, "account", KEY) for user in users],
                "offer_id": offer,
                "arm": "offer",
                "assignment_probability": 1.0,
            }
        )
        step = shop.step(assigned, KEY, "everybody")
        assert (step.offers, step.unknown) == (users.len(), 0)
    else:
        shop.step(None, "", "")
    shop.play(DAYS - 1)
    truth = pl.read_parquet(place / "truth" / "potential_outcomes" / f"{first}.parquet")
    signups = pl.read_parquet(place / "truth" / "persons.parquet").select("person_id", "signup_day")
    found = lines_of(place, first, truth.height)
    lines = found.filter(pl.col("event_type") == "purchase")
    return Month(
        truth.join(signups, on="person_id"),
        lines["order_id"].n_unique(),
        lines["net"].sum(),
        found.filter(pl.col("event_type") == "offer_redeemed")["discount"],
    )


def within(found: float, expected: float, spread: float) -> None:
    """``found`` is what was expected: 4 standard errors, and 1.5 % for what is left out."""
    assert abs(found - expected) < 4 * spread + 0.015 * expected, (found, expected, spread)


ORDER_SPREAD = 75.0
"""Root of the mean squared order."""


@pytest.mark.parametrize("offer", [None, "percent_15", "full_80_less_12", "second_half_price"])
def test_people_order_as_expected_without_and_with_an_offer(
    begun: Path, tmp_path: Path, offer: str | None
) -> None:
    found = month(begun, tmp_path / "shop", offer)
    orders, spend = (found.expected(name, offer) for name in ("orders", "spend"))
    within(found.orders, orders, np.sqrt(orders))
    within(found.spend, spend, ORDER_SPREAD * np.sqrt(orders))
    if offer:
        assert orders > found.expected("orders", None)
        assert spend > found.expected("spend", None)
        cost = found.truth.filter(pl.col("signup_day") < 2)[f"cost_{offer}"].cast(pl.Float64).sum()
        within(found.paid.sum(), cost, float(np.sqrt((found.paid**2).sum())))


def test_types_respond_as_documented(shop: Folder) -> None:
    first = shop.manifest.options.start.replace(day=3)
    truth = pl.read_parquet(shop.path / "truth" / "potential_outcomes" / f"{first}.parquet")
    persons = shop.truth("persons").select("person_id", "type", "price_sensitivity")
    people = truth.join(persons, on="person_id").filter(pl.col("orders") > 0)
    for offer in OFFER_IDS:
        lift = people.with_columns(lift=pl.col(f"orders_{offer}") / pl.col("orders"))
        by_type = {key[0]: rows["lift"] for key, rows in lift.group_by("type")}
        assert by_type["persuadable"].mean() > 1.01
        assert by_type["sleeping_dog"].mean() < 0.97
        for same in ("sure_thing", "lost_cause"):
            assert by_type[same].to_numpy() == pytest.approx(1, abs=1e-5)
    persuadable = people.filter(pl.col("type") == "persuadable")
    lift = persuadable["orders_percent_15"] / persuadable["orders"]
    assert np.corrcoef(lift, persuadable["price_sensitivity"])[0, 1] > 0.3
    best = persuadable.select(f"gain_{offer}" for offer in OFFER_IDS).to_numpy().argmax(axis=1)
    shares = np.bincount(best, minlength=len(OFFER_IDS)) / len(best)
    assert 0.3 < shares.max() < 0.6, "different people, different winners"


def test_offers_tire() -> None:
    everyone = people(1, 400, 0, 400, Assortment(1))
    of_types = everyone.chosen(np.array([np.flatnonzero(everyone.type == k)[0] for k in range(4)]))
    first, again = (
        response(np.zeros(4, int), of_types, np.full(4, fatigue)) for fatigue in (0.0, 2.0)
    )
    assert first.lift[0] > again.lift[0] > 1
    assert again.lift[3] < first.lift[3] < 1
    assert first.lift[1:3].tolist() == again.lift[1:3].tolist() == [1, 1]
    assert first.dip.tolist() == [0.85, 1, 1, 1]


def test_purchase_probabilities_are_calibrated(shop: Folder) -> None:
    """Those who are likely to buy within a week, buy within a week."""
    start = shop.manifest.options.start
    at = start.replace(day=3)
    chance = pl.read_parquet(shop.path / "truth" / "purchases" / f"{at}.parquet")
    accounts = shop.truth("accounts")
    buyers = shop.query(
        f"select distinct user_id from events where event_type = 'purchase'"
        f" and event_time >= date '{at}' and event_time < date '{at}' + 7"
    ).join(accounts, on="user_id")["person_id"]
    known = chance.filter(pl.col("person_id").is_in(accounts["person_id"].implode()))
    known = known.with_columns(bought=pl.col("person_id").is_in(buyers.implode()))
    place = pl.col("purchase_probability_7d").rank("ordinal") * 4 // (known.height + 1)
    for _, rows in known.with_columns(likely=place).group_by("likely"):
        expected = float(rows["purchase_probability_7d"].sum())
        # Offers of the day raise it a little, guests' orders have no account.
        spread = 4 * expected**0.5 + 0.1 * expected
        assert rows["bought"].sum() == pytest.approx(expected, abs=spread)
