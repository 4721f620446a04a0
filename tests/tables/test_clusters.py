"""Clusters as tables: who is in which, from behaviour known by the week's end; and their gates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.gates.suites import suite_of
from promo_assets.learning.tracking import Tracking
from promo_assets.propensity import clusters as fitting
from promo_assets.propensity.cluster_record import CLUSTERS
from promo_assets.propensity.cluster_words import EVERYBODY
from promo_assets.report.clusters import picture_of, with_segments
from promo_assets.tables.clusters import cluster_profiles, user_clusters
from promo_assets.tables.propensity import ModelStore
from promo_assets.tables.table import Production
from tests.support.direct import findings
from tests.support.shop import Shop

WEEK = date(2024, 1, 15)
SUNDAY = date(2024, 1, 21)
NEXT = WEEK + timedelta(weeks=1)
PROFILES = installation.contracts()["profiles.cluster_profiles"]
USERS = installation.contracts()["profiles.user_clusters"]
EACH = 120


def features(seed: int = 0) -> pl.DataFrame:
    """Two Sundays of three kinds of users, and of somebody who was not active."""
    rng = np.random.default_rng(seed)
    kind = np.repeat([0, 1, 2], EACH)
    snapshots = []
    for weeks in range(2):
        snapshots.append(
            pl.DataFrame(
                {
                    "user_id": [f"u{number:04}" for number in range(len(kind))],
                    "as_of_date": SUNDAY + timedelta(weeks=weeks),
                    "active_days_90d": 1,
                    "orders_90d": np.round(np.exp(1 + kind + rng.normal(0, 0.1, len(kind)))),
                    "avg_order_value_90d": np.exp(5 - kind + rng.normal(0, 0.1, len(kind))),
                    "discount_share_90d": 0.0,
                    "offers_redeemed_90d": 0,
                    "response_rate": None,
                    "views_90d": 0,
                    "searches_90d": 0,
                    "carts_90d": 0,
                },
                schema_overrides={"response_rate": pl.Float64},
            )
        )
    gone = snapshots[0].head(1).with_columns(user_id=pl.lit("gone"), active_days_90d=0)
    return pl.concat([*snapshots, gone.cast(snapshots[0].schema)])


INTERESTS = pl.DataFrame(
    [("u0000", date(2023, 10, 1), 0.9), ("u0000", date(2024, 2, 20), 0.9)],
    schema=["user_id", "as_of_date", "share"],
    orient="row",
).with_columns(kind=pl.lit("category"), strength_rank=1)


class Weeks:
    """A warehouse with `features`, and both tables made of it."""

    def __init__(self, folder: Path, snapshot: pl.DataFrame) -> None:
        self.store = ModelStore(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
        self.connection = duckdb.connect()
        interests = INTERESTS  # noqa: F841 - read by the engine
        self.connection.execute("create schema features; create schema profiles; set threads = 1")
        self.connection.execute("create table features.user_features as from snapshot")
        self.connection.execute("create table profiles.user_interests as from interests")
        for contract in (PROFILES, USERS):
            columns = ", ".join(f"{name} {type_}" for name, type_ in contract.types.items())
            self.connection.execute(f"create table {contract.table} ({columns})")

    def make(self, *weeks: date) -> tuple[pl.DataFrame, pl.DataFrame]:
        window = Window(weeks[0], weeks[-1] + timedelta(days=7))
        given = (self.connection, window, ("",), weeks, "test", lambda text: None, dict)
        told = cluster_profiles(Production(PROFILES, *given), self.store)
        self.connection.execute("insert into profiles.cluster_profiles by name from told")
        users = user_clusters(Production(USERS, *given))
        self.connection.execute("insert into profiles.user_clusters by name from users")
        return told, users


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "NUMBERS", range(2, 5))
    monkeypatch.setattr(fitting, "PAIRS", 2)
    monkeypatch.setattr(fitting, "SHAPELESS", 3)


@pytest.fixture
def weeks(tmp_path: Path) -> Weeks:
    return Weeks(tmp_path, features())


def test_three_kinds_of_users_are_three_clusters_in_words(weeks: Weeks) -> None:
    told, users = weeks.make(WEEK)
    assert told["cluster"].to_list() == [1, 2, 3]
    assert told["users"].to_list() == [EACH] * 3
    assert users.height == 3 * EACH  # Not who was gone.
    assert users.group_by("cluster").len()["len"].to_list() == [EACH] * 3
    number = pl.col("user_id").str.slice(1).cast(pl.Int32)
    kinds = users.select(number // EACH, "cluster")
    assert kinds.unique().height == 3
    often = told.filter(pl.col("name").str.contains("often"))
    assert "small baskets" in often["name"].item()
    assert "orders in 90 days (all: 7)" in often["profile"].item()
    assert "views" not in often["profile"].item()  # Nobody has any.


def test_weeks_alone_are_those_of_a_range_and_know_nothing_later(
    tmp_path: Path, weeks: Weeks
) -> None:
    together = weeks.make(WEEK, NEXT)
    snapshot = features()
    alone = Weeks(tmp_path / "alone", snapshot.filter(pl.col("as_of_date") == SUNDAY))
    first = alone.make(WEEK)
    later = snapshot.filter(pl.col("as_of_date") > SUNDAY)  # noqa: F841 - read by the engine
    alone.connection.execute("insert into features.user_features from later")
    second = alone.make(NEXT)
    for range_, one, other in zip(together, first, second, strict=True):
        assert range_.equals(pl.concat([one, other]))


def test_the_fit_is_kept_in_mlflow_with_the_picture_of_the_page(weeks: Weeks) -> None:
    told, _ = weeks.make(WEEK, NEXT)
    tracking = Tracking(weeks.store.uri, weeks.store.artifacts, CLUSTERS)
    (run_id,) = tracking.runs_before(datetime(2100, 1, 1), ())
    run = tracking.client.get_run(run_id)
    assert run.data.tags["partition"] == str(WEEK)
    assert run.data.metrics["clusters"] == 3
    assert run.data.metrics["stability.k3"] == told["stability"][0] == pytest.approx(1)
    assert {"stability.k2", "silhouette.k4"} <= run.data.metrics.keys()
    (picture,) = weeks.store.artifacts.rglob("clusters.svg")
    drawn = picture_of(list(told.head(3).iter_rows(named=True)))
    assert drawn.partition(">")[2] in picture.read_text()
    assert all(name in drawn for name in told["name"])


def test_of_few_users_everybody_is_one_with_the_reason(tmp_path: Path) -> None:
    few = Weeks(tmp_path, features().head(299))
    told, users = few.make(WEEK)
    assert told["reason"].to_list() == ["too_few_users"]
    assert set(users["name"]) == {EVERYBODY}
    assert users.height == 299
    assert not list(few.store.artifacts.rglob("*"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weeks]:
    weeks = Weeks(tmp_path_factory.mktemp("made"), features())
    weeks.make(WEEK, NEXT)
    yield weeks
    weeks.connection.close()


@pytest.fixture
def two_weeks(made: Weeks) -> Iterator[Weeks]:
    """To be changed at will: what a test changes is taken back."""
    made.connection.execute("begin; create schema staging")
    yield made
    made.connection.execute("rollback")


IN_LAST = f"week = date '{NEXT}'"
MUTATIONS = [
    ("profiles.cluster_profiles", title, mutation)
    for title, mutation in (
        ("every_active_user_is_counted", "update {} set users = users + 1 where cluster = 1"),
        ("every_active_user_is_counted", "update {} set share = share / 2"),
        ("clusters_are_possible", "update {} set stability = 0.79"),
        ("clusters_are_possible", "update {} set silhouette = silhouette_by_chance - 0.01"),
        ("clusters_are_possible", "update {} set agreement = null"),
        ("clusters_are_possible", "update {} set reason = 'too_few_users'"),
        ("names_stay", "update {} set name = 'others' where cluster = 1"),
        ("names_stay", "update {} set newest_cluster = newest_cluster + 1, cluster = 4"
         " where cluster = 3; update profiles.cluster_profiles set newest_cluster = 4"
         f" where week = date '{WEEK}'"),
        ("clusters_hold", "update {} set cluster = 4, newest_cluster = 4 where cluster = 3;"
         " update {} set newest_cluster = 4"),
        ("shares_move_slowly", "update {} set share = share + if(cluster = 1, 0.2, -0.1)"),
    )
] + [
    ("profiles.user_clusters", title, mutation)
    for title, mutation in (
        ("members_are_those_told", "delete from {} where user_id = 'u0000'"),
        ("members_are_those_told", "update {} set name = 'others' where cluster = 1"),
        ("users_were_active", "update {} set user_id = 'gone' where user_id = 'u0000'"),
        ("distances_are_possible", "update {} set membership = 1.1 where user_id = 'u0000'"),
        ("distances_are_possible", "update {} set distance = -1 where user_id = 'u0000'"),
        ("users_stay", "update profiles.user_clusters set cluster = cluster % 3 + 1"
         f" where week = date '{WEEK}'"),
    )
]  # fmt: skip
ALSO = {
    "names_stay": {"clusters_hold"},
    "every_active_user_is_counted": {"shares_move_slowly"},
}
"""What a mutation that can't be made otherwise trips too."""


@pytest.mark.parametrize(("table", "title", "mutation"), MUTATIONS)
def test_each_expectation_finds_what_it_says(
    two_weeks: Weeks, table: str, title: str, mutation: str
) -> None:
    contract = {one.table: one for one in (PROFILES, USERS)}[table]
    execute = two_weeks.connection.execute
    execute(f"create table staging.rows as from {table} where {IN_LAST}")
    window = (NEXT, NEXT + timedelta(days=7))

    def failed() -> set[str]:
        told = findings(two_weeks.connection, contract, "staging.rows", window)
        return {one.expectation for one in told if not one.passed}

    assert failed() == set()
    execute(mutation.replace("{}", "staging.rows"))
    assert title in failed()
    assert failed() <= {title} | ALSO.get(title, set())


def test_every_expectation_has_a_mutation() -> None:
    for contract in (PROFILES, USERS):
        own = suite_of(contract)[-len(contract.expectations) :]
        changed = {title for table, title, _ in MUTATIONS if table == contract.table}
        assert {rule.title for rule in own} == changed


def test_segments_are_a_second_view_of_clusters() -> None:
    clusters = [{"cluster": 1, "reason": None}, {"cluster": 2, "reason": None}]
    counts = [
        {"cluster": 1, "segment": "loyal", "users": 40},
        {"cluster": 1, "segment": "new", "users": 5},
        {"cluster": 2, "segment": "loyal", "users": 10},
        {"cluster": 2, "segment": "dormant", "users": 45},
    ]
    first, second = with_segments(clusters, counts)
    assert first["segments"][:2] == [(5, False), (40, True)]  # Five are too few to tell.
    assert second["segments"][-1] == (45, True)
    assert with_segments([{"cluster": 0, "reason": "too_few_users"}], counts) == []


def test_the_cluster_is_explained_as_the_newest_week_told_it(open_shop: Shop) -> None:
    ((user,),) = open_shop.query("select min(user_id) from profiles.user_clusters")

    def line(day: date) -> str:
        return open_shop.explained(user, day, "Cluster")

    assert line(SUNDAY) == "Cluster     everybody is one: too few users"
    assert "none: not active" in line(date(2024, 1, 6))
    open_shop.query(
        "update profiles.cluster_profiles set cluster = 3, reason = null, share = .23;"
        "update profiles.user_clusters set cluster = 3, name = 'often', membership = .456"
    )
    assert line(SUNDAY) == (
        "Cluster     often (number 3, 23% of active users; membership 0.46, as of 2024-01-21)"
    )
