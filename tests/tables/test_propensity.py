"""The purchase model's tables on the shop of thirty days: who is learned from, and what scores
rest on."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from datetime import date, timedelta

import duckdb
import numpy as np
import polars as pl
import pytest
from sklearn import metrics

from promo_assets import installation
from promo_assets.cli.explanation import explain
from promo_assets.contract.days import Window
from promo_assets.definitions import build_tables
from promo_assets.gates.audit import Auditor
from promo_assets.learning.tracking import Logged
from promo_assets.propensity.record import record_of
from promo_assets.propensity.training import LIGHTGBM, TrainingSettings, train
from promo_assets.tables import propensity as tables_of
from promo_assets.tables.propensity import SCORE_QUALITY, ModelStore, model_of, tracking
from promo_assets.tables.rollback import RollbackError, roll_back
from promo_assets.tables.stale import OVERRIDDEN, look
from promo_assets.tables.table import Production
from promo_assets.tables.writing import Request, Run, write
from tests.support.shop import Event, Rows, Shop, failures

FROM, TO = 22, 24
"""Days of the week after `CHAMPION_WEEK`: its champion scores them."""
CHAMPION_WEEK = date(2024, 1, 15)


def test_whom_is_scored_is_learned_from_with_or_without_orders(thirty_days: Shop) -> None:
    with installation.reading(thirty_days.settings) as read:
        rows = read(
            "select coalesce(sets.week is not null, false), features.orders_90d > 0, count(*)"
            " from features.user_features as features left join propensity.training_set as sets"
            " using (as_of_date, user_id)"
            " where as_of_date in (select as_of_date from propensity.training_set)"
            " group by all order by all"
        ).rows()
    assert {learned for learned, _, _ in rows} == {True}
    assert {ordered for _, ordered, _ in rows} == {False, True}


@pytest.mark.slow
def test_no_feature_and_no_score_changes_with_what_happens_after_its_day(scored: Shop) -> None:
    before = known(scored, "<="), known(scored, ">")
    for number in range(TO + 1, 30):
        scored.deliver(number, [by_others(event) for event in scored.events(number)])
    assert failures(scored.run(FROM, 29, ["events", "features", "propensity"])) == []
    after = known(scored, "<="), known(scored, ">")
    assert after[0] == before[0]
    assert len({score for *_, score, _ in after[0]["propensity.scores"]}) > 5
    for table, rows in after[1].items():
        assert rows != before[1][table], f"nothing was perturbed in {table}"


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_a_changed_or_missing_model_stops_scoring_and_the_last_scores_stay(
    scored: Shop, harm: str
) -> None:
    good = known(scored, "<=")["propensity.scores"]
    (booster,) = scored.settings.places.model_store.rglob("artifacts/model/booster.txt")
    if harm == "changed":
        booster.write_text(booster.read_text().replace("leaf_value=", "leaf_value=9", 1))
    else:
        shutil.rmtree(booster.parent)
    model_of.cache_clear()  # As another process would find it.
    told = failures(scored.run(FROM, TO, ["propensity"]))
    wanted = {"changed": "the model was changed after training", "missing": "model"}[harm]
    assert any("ModelFileError" in error and wanted in error for _, error in told)
    assert known(scored, "<=")["propensity.scores"] == good != []


@pytest.mark.slow
def test_a_score_is_explained_by_three_reasons_in_words(scored: Shop) -> None:
    ((user, score),) = scored.query(
        "select user_id, propensity from propensity.scores"
        f" where as_of_date = '{scored.day(TO)}' order by propensity desc, user_id limit 1"
    )
    with installation.reading(scored.settings) as read:
        lines = explain(user, scored.day(TO), read, scored.settings).splitlines()
    (place,) = [number for number, line in enumerate(lines) if line.startswith("Propensity")]
    assert f"{score:.4f} to buy within 7 days" in lines[place]
    for line in lines[place + 1 : place + 4]:
        assert re.fullmatch(r" {12}(raises|lowers) it \([+-]\d\.\d\d log-odds\): .+", line), line
    assert not lines[place + 4].strip().startswith(("raises", "lowers"))


@pytest.mark.slow
def test_every_day_under_a_champion_is_compared_with_whom_it_learned_from(scored: Shop) -> None:
    rows = scored.query(
        "select as_of_date, reference_day, count(*), sum(psi), bool_or(feature = 'score')"
        " from propensity.drift group by all order by all"
    )
    learned, first = date(2024, 1, 14), date(2024, 1, 22)
    features = {(at, known): number for at, known, number, _, score in rows if not score}
    assert features == {(scored.day(day), learned): 139 for day in range(FROM, 30)}
    assert [(at, known) for at, known, *_, score in rows if score] == [
        (scored.day(28), first),
        (scored.day(29), first),
    ]
    assert all(moved > 0 for *_, moved, _ in rows)


@pytest.fixture
def scored(open_shop: Shop) -> Shop:
    """The shop with a champion that scored its last week."""
    put_in_force(open_shop, CHAMPION_WEEK, SETTINGS)
    assert failures(open_shop.run(FROM, 29, ["propensity"])) == []
    return open_shop


SETTINGS = TrainingSettings(
    date(2024, 1, 21), threads=1, lightgbm={**LIGHTGBM, "min_data_in_leaf": 5}
)


OTHER_SETTINGS = replace(SETTINGS, cut_off=date(2024, 1, 14), seed=7)


def store_of(shop: Shop) -> ModelStore:
    return ModelStore(shop.settings.places.tracking_uri, shop.settings.places.model_store)


def put_in_force(shop: Shop, week: date, settings: TrainingSettings) -> Logged:
    """Train a model and make it the champion of a week."""
    logged = tracking(store_of(shop)).log(record_of(train(snapshots(shop), settings)), {})
    told = [logged.model_version, logged.sha256, week]
    with installation.warehouse(shop.settings).get_connection() as connection:
        connection.execute(
            "update propensity.trainings set status = 'trained', model_version = ?, sha256 = ?"
            " where week = ?",
            told,
        )
        connection.execute(
            "update propensity.champions set model_version = ?, sha256 = ?, trained_week = week"
            " where week = ?",
            told,
        )
    return logged


def snapshots(shop: Shop) -> pl.DataFrame:
    """Eight days' features as if a week apart, labelled by who viewed much."""
    with installation.reading(shop.settings) as read:
        frame = read(
            "select * from features.user_features where as_of_date >= '2024-01-12'"
            " and as_of_date < '2024-01-20'"
        )
    week = (pl.col("as_of_date") - date(2024, 1, 12)).dt.total_days()
    return frame.with_columns(
        as_of_date=date(2023, 11, 26) + week * timedelta(days=7),
        label=pl.col("orders_90d") >= pl.col("orders_90d").median(),
    )


def by_others(event: Event) -> Event:
    """The same event done by another of the 40 users."""
    if "user_id" not in event:
        return event
    number = int(event["user_id"].removeprefix("user-"))
    return {**event, "user_id": f"user-{39 - number:02}"}


def known(shop: Shop, side: str) -> dict[str, Rows]:
    return {
        table: shop.query(
            f"select * from {table} where as_of_date {side} '{shop.day(TO)}'"
            " order by as_of_date, user_id"
        )
        for table in ("features.user_features", "propensity.scores")
    }


@pytest.mark.slow
def test_an_earlier_model_scores_again_until_a_newer_one_beats_it(
    scored: Shop,
) -> None:
    settings = scored.settings
    earlier = CHAMPION_WEEK - timedelta(weeks=1)
    other = put_in_force(scored, earlier, OTHER_SETTINGS)
    contracts = installation.contracts()
    with installation.warehouse(settings).get_connection() as connection:
        with pytest.raises(RollbackError, match=r"version 99 was not trained by .*; trained: 2"):
            roll_back(connection, contracts, scored.day(FROM), 99, "why not")
        with pytest.raises(RollbackError, match="no model scores"):
            roll_back(connection, contracts, earlier, None, "too early")
        done = roll_back(connection, contracts, scored.day(FROM), None, "complaints of 2024-01-23")
    assert (done.week, done.version) == (CHAMPION_WEEK, other.model_version)
    before = known(scored, "<=")["propensity.scores"]
    tables = {table.contract.table: table for table in build_tables(settings)}
    found = look(installation.warehouse(settings), tables, settings.start)
    assert found.reasons["propensity.champions", CHAMPION_WEEK, ""] == OVERRIDDEN
    assert {place.table for place in found.reasons} > {"propensity.champions", "propensity.scores"}
    week = Window(CHAMPION_WEEK, CHAMPION_WEEK + timedelta(weeks=1))
    warehouse = installation.warehouse(settings)
    run = Run("rolled back", settings.start, print, tables)
    write(
        tables["propensity.champions"],
        Request(week, weeks=(CHAMPION_WEEK,)),
        run,
        warehouse,
        Auditor(warehouse, None),
    )
    assert failures(scored.run(FROM, 29, ["propensity"])) == []
    with installation.reading(settings) as read:
        verdicts = read(
            "select verdict, reason, model_version, promoted from propensity.champions"
            " where week = $week",
            {"week": CHAMPION_WEEK},
        ).rows()
    assert verdicts == [("rolled_back", "complaints of 2024-01-23", other.model_version, False)]
    after = known(scored, "<=")["propensity.scores"]
    assert len(after) == len(before)
    assert after != before
    assert {version for *_, version in after} == {other.model_version}
    assert tracking(store_of(scored)).champion_version() == other.model_version
    judged = scored.query("select distinct scored_on from propensity.score_quality order by all")
    assert judged[0][0] == scored.day(FROM)


def test_a_week_with_a_leaking_feature_is_told_and_has_no_model(
    open_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaking(*_: object) -> pl.DataFrame:
        frame = snapshots(open_shop)
        drawn = np.random.default_rng(2).random(frame.height) < 0.5
        return frame.with_columns(label=pl.Series(drawn), knows=pl.Series(drawn))

    monkeypatch.setattr(tables_of, "labelled", leaking)
    learning = installation.learning(open_shop.settings)
    contract = installation.contracts()["propensity.trainings"]
    with installation.warehouse(open_shop.settings).get_connection() as connection:
        weeks = Window(CHAMPION_WEEK, CHAMPION_WEEK + timedelta(weeks=1))
        production = Production(
            contract, connection, weeks, ("",), (CHAMPION_WEEK,), "test", print, dict
        )
        (told,) = tables_of.trainings(production, learning).iter_rows(named=True)
    assert told["status"] == "leak_suspected"
    assert "knows (AUC 1.000" in told["detail"]
    assert told["model_version"] is None


def test_past_scores_are_judged_by_who_bought_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(3)
    day, end = date(2024, 1, 10), date(2024, 1, 12)
    users = [f"u{number}" for number in range(300)]
    scores = pl.DataFrame(
        {
            "as_of_date": [at for at in (date(2024, 1, 3), date(2024, 1, 4)) for _ in users],
            "user_id": users * 2,
            "model_version": 1,
            "propensity": rng.integers(0, 11, 600) / 10,  # Ties, and scores of 0 and 1.
        }
    )
    segments = scores.select("as_of_date", "user_id").with_columns(
        segment=pl.Series(rng.choice(["a", "b"], 600))
    )
    bought = pl.DataFrame(
        {
            "user_id": rng.choice(users, 200),
            "event_date": [day - timedelta(days=int(back)) for back in rng.integers(-1, 8, 200)],
            "orders": rng.integers(0, 2, 200),
        }
    )
    with duckdb.connect() as connection:
        for schema in ("propensity", "segments", "features"):
            connection.execute(f"create schema {schema}")
        connection.execute("create table propensity.scores as from scores")
        connection.execute("create table segments.user_segments as from segments")
        connection.execute("create table features.user_daily as from bought")
        told = {"start": day, "end": end, "horizon": 7}
        found = connection.execute(SCORE_QUALITY, told).pl()
    assert found.height == 6
    for row in found.iter_rows(named=True):
        assert row["scored_on"] == row["as_of_date"] - timedelta(days=7)
        of = scores.join(segments, on=["as_of_date", "user_id"]).filter(as_of_date=row["scored_on"])
        if row["segment"] != "all":
            of = of.filter(segment=row["segment"])
        within = bought.filter(
            pl.col("orders") > 0,
            pl.col("event_date") > row["scored_on"],
            pl.col("event_date") <= row["as_of_date"],
        )
        y, p = of["user_id"].is_in(within["user_id"].implode()), of["propensity"]
        assert (row["users"], row["buyers"]) == (of.height, y.sum())
        assert row["expected_buyers"] == pytest.approx(p.sum(), abs=1e-4)
        assert row["auc"] == pytest.approx(metrics.roc_auc_score(y, p))
        assert row["brier"] == pytest.approx(metrics.brier_score_loss(y, p), abs=1e-6)
        clipped = p.clip(1e-9, 1 - 1e-9)
        assert row["log_loss"] == pytest.approx(metrics.log_loss(y, clipped), abs=1e-6)
