"""The comparison of populations in SQL, beside numpy and scipy."""

from __future__ import annotations

from datetime import date, timedelta

import duckdb
import numpy as np
import polars as pl
import pytest
from scipy.spatial import distance

from promo_assets.contract.days import Window
from promo_assets.gates.suites import suite_of
from promo_assets.installation import contracts
from promo_assets.tables.drift import Reference, compare, first_scores, learned_from
from promo_assets.warehouse.reading import Read, reader

REFERENCE, FIRST, LAST = date(2024, 1, 7), date(2024, 2, 1), date(2024, 2, 3)
CHAMPION_WEEK = date(2024, 1, 8)
DAYS = Window(FIRST, LAST + timedelta(days=1))
FEATURES = {
    "spend_28d": lambda rng, n, moved: np.round(rng.gamma(2, 20 + moved, n), 2),
    "orders_28d": lambda rng, n, moved: rng.poisson(0.5 + moved / 20, n),
    "orders_1d": lambda rng, n, moved: rng.integers(0, 2 + moved, n),
    "response_rate": lambda rng, n, moved: np.where(
        rng.random(n) < 0.2 + moved / 100, np.nan, rng.random(n)
    ),
    "never_known": lambda rng, n, moved: np.full(n, np.nan),
}


def people(day: date, number: int, moved: int) -> pl.DataFrame:
    rng = np.random.default_rng(day.toordinal())
    columns = {name: draw(rng, number, moved) for name, draw in FEATURES.items()}
    frame = pl.DataFrame(
        {"as_of_date": day, "user_id": [f"u{place:04}" for place in range(number)], **columns}
    )
    known = frame.with_columns(pl.col(pl.Float64).fill_nan(None))
    return known.with_columns(pl.col("spend_28d").cast(pl.Decimal(18, 2)))


@pytest.fixture
def read() -> Read:
    """A warehouse with the reference and three days, ever further from it."""
    connection = duckdb.connect()
    users = pl.concat(  # noqa: F841 - read by the engine
        [
            people(REFERENCE, 500, 0),
            *(people(day, 400 + 50 * place, 10 * place) for place, day in enumerate(DAYS.days)),
        ]
    )
    connection.execute("create schema features")
    connection.execute("create table features.user_features as from users")
    return reader(connection)


def told(read: Read, days: Window) -> pl.DataFrame:
    reference = learned_from(read, tuple(FEATURES), REFERENCE)
    assert reference is not None
    own = {name: name for name in FEATURES}
    return compare(read, "features.user_features", own, reference, days, 7).sort(
        "as_of_date", "feature"
    )


def counts(values: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """By bin, one by one."""
    found = np.zeros(len(edges) + 2)
    for value in values:
        if np.isnan(value):
            found[-1] += 1
        else:
            found[next((at for at, edge in enumerate(edges) if value <= edge), len(edges))] += 1
    return found


def test_distances_are_those_of_numpy_and_scipy(read: Read) -> None:
    reference = learned_from(read, tuple(FEATURES), REFERENCE)
    assert reference is not None
    users = read("select * from features.user_features").fill_null(np.nan)
    rows = told(read, DAYS)
    assert rows.height == len(FEATURES) * len(DAYS.days)
    for row in rows.iter_rows(named=True):
        name, edges = row["feature"], reference.bins[row["feature"]].edges
        now, known = (
            counts(users.filter(as_of_date=day)[name].cast(pl.Float64).to_numpy(), edges)
            for day in (row["as_of_date"], REFERENCE)
        )
        assert tuple(known) == reference.bins[name].counts
        used = now + known > 0
        assert (row["bins"], row["users"]) == (used.sum(), now.sum())
        p, q = ((of[used] + 0.5) / (of[used] + 0.5).sum() for of in (now, known))
        assert row["psi"] == pytest.approx(((p - q) * np.log(p / q)).sum(), abs=1e-9)
        by_chance = (used.sum() - 1) * (1 / now.sum() + 1 / known.sum())
        assert row["psi_by_chance"] == pytest.approx(by_chance)
        wanted = distance.jensenshannon(now[used], known[used], base=2)
        assert row["js_distance"] == pytest.approx(wanted, abs=1e-5)
        assert row["drifted"] == (row["psi"] - by_chance > 0.25)
    assert set(rows["drifted"]) == {True, False}
    assert set(rows.filter(judged=False)["feature"]) == {"orders_1d"}


def test_a_range_is_its_days_one_by_one(read: Read) -> None:
    alone = [told(read, Window(day, day + timedelta(days=1))) for day in DAYS.days]
    assert told(read, DAYS).equals(pl.concat(alone))


def test_people_who_have_not_changed_have_not_drifted_and_few_are_never_judged(read: Read) -> None:
    same = told(read, Window(REFERENCE, REFERENCE + timedelta(days=1)))
    assert same["psi"].to_list() == same["js_distance"].to_list() == [0] * len(FEATURES)
    read(
        "create or replace table features.user_features as select * from features.user_features"
        " where user_id < 'u0199'"
    )
    few = told(read, DAYS)
    assert few.filter(pl.col("psi") > 0.5).height
    assert not few["drifted"].any()


def test_scores_are_compared_with_one_of_each_user_of_the_models_first_week() -> None:
    monday = CHAMPION_WEEK + timedelta(days=7)
    scores = pl.DataFrame(  # noqa: F841 - read by the engine
        [
            (monday + timedelta(days=day), f"u{user:03}", 1 if day < 0 else 2, (day + 1) / 100)
            for day in range(-1, 10)
            for user in range(300)
        ],
        schema=["as_of_date", "user_id", "model_version", "propensity"],
        orient="row",
    )
    champions = pl.DataFrame(  # noqa: F841 - read by the engine
        {
            "week": [CHAMPION_WEEK + timedelta(weeks=place) for place in range(-1, 3)],
            "model_version": [1, 2, 2, None],
        }
    )
    with duckdb.connect() as connection:
        connection.execute("create schema propensity")
        connection.execute("create table propensity.scores as from scores")
        connection.execute("create table propensity.champions as from champions")
        reference = first_scores(reader(connection), 2)
        assert first_scores(reader(connection), 3) is None
    assert reference is not None
    assert reference.day == monday
    bins = reference.bins["score"]
    assert bins.edges == pytest.approx([day / 100 for day in range(1, 8)])
    assert sum(bins.counts) == 300
    assert min(bins.counts[:7]) > 20
    assert isinstance(reference, Reference)


@pytest.mark.parametrize(
    ("score", "features", "warned"),
    [
        (False, 2, set()),
        (True, 0, {"the_score_has_not_drifted"}),
        (False, 3, {"few_features_have_drifted"}),
    ],
)
def test_the_score_and_more_than_a_fifth_of_the_judged_features_are_warned_of(
    score: bool, features: int, warned: set[str]
) -> None:
    rows = [("score", True, score)]
    rows += [(f"f{place}", True, place < features) for place in range(10)]
    rows += [(f"f{place}_life", False, True) for place in range(10)]
    batch = pl.DataFrame(  # noqa: F841 - read by the engine
        [
            (FIRST, name, 1, 0.3 if drifted else 0.1, 0.01, 300, 300, judged, drifted)
            for name, judged, drifted in rows
        ],
        schema=[
            "as_of_date", "feature", "model_version", "psi", "psi_by_chance", "users",
            "reference_users", "judged", "drifted",
        ],
        orient="row",
    )  # fmt: skip
    rules = {rule.title: rule for rule in suite_of(contracts()["propensity.drift"])}
    names = ("the_score_has_not_drifted", "few_features_have_drifted")
    assert {rules[name].severity for name in names} == {"warning"}
    queries = {name: rules[name].query.format(batch="batch") for name in names}
    found = {}
    for name, query in queries.items():
        found[name] = duckdb.sql(query).fetchall()
    assert {name for name, rows in found.items() if rows} == warned
