"""The platform on a shop whose truth is known: what it must find, to the row where that can be.

The truth lies beside the events, in files that the platform never reads: of the two installations
here one has none.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from promo_assets.cli.main import main
from promo_assets.people.pseudonyms import SAMPLE_KEY, Kind, pseudonym
from promo_assets.settings import Settings, load_settings
from tests.support.shop import Shop, failures, unlike

pytestmark = pytest.mark.slow

FIRST = date(2024, 1, 1)
DAYS = 42
PROVENANCE = ("source", "source_file", "source_row")
DELIVERED = ("raw.events", "core.rejected_events")


@dataclasses.dataclass(frozen=True)
class Simulated(Shop):
    """A simulated shop and an installation on it; ``source`` as in PROMO_SOURCE."""

    source: str = "simulated"

    @cached_property
    def settings(self) -> Settings:
        return Settings(
            _env_file=None,
            home=self.folder / "home",
            source=self.source,
            start=FIRST,
            budget=100,
            pseudonym_key=SAMPLE_KEY,
        )

    @property
    def delivered(self) -> Path:
        folder = self.settings.source_folder
        assert folder is not None
        return folder

    def truth(self, sql: str) -> list[tuple[Any, ...]]:
        """A query on the files under ``truth/``, each a view."""
        with duckdb.connect() as connection:
            for path in sorted((self.delivered / "truth").iterdir()):
                if path.suffix != ".json":
                    files = path if path.is_file() else path / "*.parquet"
                    connection.execute(f"create view {path.stem} as from '{files}'")
            return connection.execute(sql).fetchall()


def simulate(
    monkeypatch: pytest.MonkeyPatch, shop: Simulated, *options: str, users: int, days: int = DAYS
) -> None:
    """``promo simulate``, as its users call it."""
    monkeypatch.setenv("PROMO_HOME", str(shop.settings.home))
    load_settings.cache_clear()
    try:
        told = [
            "simulate", "--users", str(users), "--days", str(days), "--start", str(FIRST),
            "--out", str(shop.delivered), *options,
        ]  # fmt: skip
        assert main(told) == 0
    finally:
        load_settings.cache_clear()


@pytest.fixture(scope="module")
def patched() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def shop(patched: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """2,000 users and some mess, through every phase; only to be read."""
    made = Simulated(tmp_path_factory.mktemp("simulated"))
    simulate(patched, made, "--mess", "some", "--seed", "3", users=2000)
    assert failures(made.run(0, DAYS - 1)) == []
    return made


@pytest.fixture(scope="module")
def clean(patched: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """20,000 users without mess, through the group ``events``; only to be read."""
    made = Simulated(tmp_path_factory.mktemp("clean"))
    simulate(patched, made, "--seed", "4", users=20_000)
    assert failures(made.run(0, DAYS - 1, groups=["events"])) == []
    return made


def test_the_same_events_as_csv_without_their_truth_give_the_same_published_tables(
    shop: Simulated, patched: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    csv = Simulated(tmp_path, f"files:{tmp_path / 'shop'}")
    simulate(patched, csv, "--mess", "some", "--seed", "3", "--format", "csv", users=2000)
    shutil.rmtree(csv.delivered / "truth")
    shutil.rmtree(csv.delivered / "state")
    (csv.delivered / "simulation.json").unlink()
    assert failures(csv.run(0, DAYS - 1)) == []
    assert unlike(csv.tables(but=DELIVERED), shop.tables(but=DELIVERED)) == {}
    for table in DELIVERED:
        # A number's text is its file's: 0.5 in CSV is what 0.50 is in Parquet.
        rows = (
            f"select * exclude ({', '.join(PROVENANCE)}) replace (try_cast(assignment_probability"
            f" as double) as assignment_probability) from {table} order by all"
        )
        assert csv.query(rows) == shop.query(rows)


def test_every_row_of_the_mess_is_rejected_for_its_reason(shop: Simulated) -> None:
    found = shop.query(
        "select event_date, reason, count(*) from core.rejected_events group by all order by all"
    )
    expected = shop.truth(
        "select event_date, reason, cast(sum(rows) as bigint) from rows where reason is not null"
        " group by all having sum(rows) > 0 order by all"
    )
    assert found == expected
    assert len({reason for _, reason, _ in found}) > 5


def test_the_funnel_is_the_true_one_day_by_day(clean: Simulated) -> None:
    found = clean.query(
        "select event_date, event_type, count(*) from core.events group by all order by all"
    )
    assert found == clean.truth(
        "select event_date, event_type, cast(sum(rows) as bigint) from funnel"
        " group by all having sum(rows) > 0 order by all"
    )
    assert clean.query("select count(*) from core.rejected_events") == [(0,)]


def test_money_is_the_true_one_to_the_cent(clean: Simulated) -> None:
    found = clean.query(
        "select event_date, sum(quantity * unit_price) filter (event_type = 'purchase'),"
        " sum(discount) filter (event_type = 'purchase') from core.events group by all order by all"
    )
    assert found == clean.truth(
        "select event_date, sum(gross), sum(discount) from days group by all order by all"
    )


def test_the_planted_pairs_stand_out_among_all_pairs_of_items(clean: Simulated) -> None:
    """Cosine of every pair of items bought together at least five times."""
    ranked = clean.query("""
        with lines as (select distinct order_id, item_id from core.events
            where event_type = 'purchase' and order_id is not null and item_id is not null),
        sold as (select item_id, count(*) as n from lines group by all),
        pairs as (select a.item_id as x, b.item_id as y, count(*) as n
            from lines as a inner join lines as b
            on a.order_id = b.order_id and a.item_id < b.item_id group by all having n >= 5)
        select x, y from pairs
        inner join sold as first on first.item_id = x
        inner join sold as second on second.item_id = y
        order by pairs.n / sqrt(first.n * second.n) desc, x, y
    """)
    planted = {
        tuple(sorted(pair)) for pair in clean.truth("select item_a, item_b from pairs")
    }  # fmt: skip
    found = [pair in planted for pair in ranked]
    bought = sum(found)
    assert bought >= 0.9 * len(planted)
    assert sum(found[:bought]) >= 0.9 * bought


def test_people_are_found_with_the_precision_and_recall_that_we_promise(clean: Simulated) -> None:
    precision, recall, pairs = identity_scores(clean)
    assert pairs > 20_000
    assert precision >= 0.99
    assert recall >= 0.95


def identity_scores(shop: Simulated) -> tuple[float, float, int]:
    """Precision and recall over pairs of identifiers that were seen, and the number of true pairs.

    A pair is true where one person holds both: a shared device is each of its holders'.
    """
    kinds: tuple[tuple[str, Kind, str], ...] = (
        ("user_id", "account", "accounts"),
        ("device_id", "device", "devices"),
    )
    held = pl.DataFrame(
        [
            (pseudonym(name, kind, SAMPLE_KEY), person)
            for column, kind, table in kinds
            for name, person in shop.truth(f"select {column}, person_id from {table}")
        ],
        {"identifier": pl.String, "person": pl.Int64},
        orient="row",
    )
    found = pl.DataFrame(
        shop.query("""
            with seen as (select distinct user_id as identifier from raw.events
                union select distinct device_id from raw.events),
            newest as (select identifier, arg_max(user_id, as_of_date) as user_id
                from core.identities group by all)
            select identifier, coalesce(newest.user_id, identifier)
            from seen left join newest using (identifier) where identifier is not null
        """),
        {"identifier": pl.String, "label": pl.String},
        orient="row",
    )

    def pairs(frame: pl.DataFrame, by: str) -> pl.DataFrame:
        both = frame.join(frame, on=by, suffix="_other")
        apart = both.filter(pl.col("identifier") < pl.col("identifier_other"))
        return apart.select("identifier", "identifier_other").unique()

    true = pairs(held.join(found, on="identifier"), "person")
    claimed = pairs(found, "label")
    right = claimed.join(true, on=["identifier", "identifier_other"], how="semi").height
    return right / claimed.height, right / true.height, true.height


def test_no_event_is_attributed_by_what_was_known_only_later(clean: Simulated) -> None:
    """An independent look at each anonymous event: its device's log-ins up to that day."""
    wrong = clean.query("""
        with known as (
            select e.event_date, e.device_id, e.user_id,
                list(distinct l.user_id) filter (l.user_id is not null) as accounts
            from (select distinct event_date, device_id, user_id from core.events
                where account_id is null and device_id is not null) as e
            left join core.logins as l
                on l.device_id = e.device_id and l.event_date <= e.event_date
            group by all)
        select count(*) from known
        where user_id is not null and accounts is null
            and device_id not in (select device_id from core.device_links)
    """)
    assert wrong == [(0,)]
    attributed = clean.query(
        "select count(*) filter (user_id is not null), count(*) from core.events"
        " where account_id is null"
    )
    assert 0 < attributed[0][0] < attributed[0][1]


def test_nobody_who_refused_gets_an_offer(shop: Simulated) -> None:
    """By the delivered files alone: the last word of each account on marketing before the day."""
    consents = pl.read_parquet(shop.delivered / "consents.parquet").filter(
        pl.col("purpose") == "marketing", pl.col("user_id").is_not_null()
    )
    day = FIRST + timedelta(days=DAYS - 1)
    said = consents.filter(pl.col("since").is_null() | (pl.col("since").dt.date() <= day)).sort(
        "since", nulls_last=False
    )
    last = said.group_by("user_id", maintain_order=True).last()
    refused = {
        pseudonym(user, "account", SAMPLE_KEY)
        for user in last.filter(~pl.col("granted"))["user_id"]
    }
    offered = shop.query(
        f"select user_id from strategy.assignments where as_of_date = date '{day}'"
        " and arm <> 'none'"
    )
    assert refused
    assert offered
    assert refused.isdisjoint(user for (user,) in offered)


def test_the_loop_closes_decisions_are_played_and_their_outcomes_come_back(
    patched: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two weeks of campaigns, then three days on which the shop does what the platform decides."""
    shop, start = Simulated(tmp_path), 14
    simulate(patched, shop, "--seed", "5", users=800, days=start)
    assert failures(shop.run(0, start - 1)) == []
    for day in range(start, start + 3):
        told = {"PROMO_HOME": shop.settings.home, "PROMO_SOURCE": "simulated", "PROMO_START": FIRST}
        for name, value in told.items():
            patched.setenv(name, str(value))
        load_settings.cache_clear()
        assert main(["simulate", "--step", "--out", str(shop.delivered)]) == 0
        load_settings.cache_clear()
        assert failures(shop.run(day, day)) == []
        on, before = FIRST + timedelta(days=day), FIRST + timedelta(days=day - 1)
        decided = shop.query(
            "select user_id, if(arm = 'offer', 'offer_sent', 'offer_withheld'), offer_id,"
            " assignment_probability from strategy.assignments"
            f" where as_of_date = date '{before}' and arm <> 'none' order by all"
        )
        played = shop.query(
            "select user_id, event_type, offer_id, assignment_probability from core.events"
            f" where event_date = date '{on}' and event_type in ('offer_sent', 'offer_withheld')"
            " order by all"
        )
        assert played == decided
    assert any(kind == "offer_sent" for _, kind, _, _ in played)
