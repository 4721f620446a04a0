"""Scoring a million users through the platform, in units of bare `Booster.predict`; training, too.

Makes a day of a million users (or as many as the first argument says) of made-up numbers, and
models of 60 features and of all, each with 400 trees of 8 leaves. Bare is one `Booster.predict`
of the same matrix, already in memory; through the platform is what a run does: read user_features,
predict, stage, audit, publish. The aim is at least 0.7 of bare's rows a second.
Training: the two `lightgbm.train` of a training of 100,000 rows (the tested and the refitted one)
alone, against `train`, which splits, measures, explains and looks for leaks as well. The aim is at
most 1.2 times as long. Both are judged on the processor's clock, which other work changes less.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import lightgbm
import numpy as np
import polars as pl

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.definitions import build_tables
from promo_assets.gates.audit import Auditor
from promo_assets.learning.tracking import MODEL_FOLDER, Record
from promo_assets.propensity import training
from promo_assets.propensity.dataset import feature_matrix, feature_names, split_by_time
from promo_assets.propensity.model import PropensityModel
from promo_assets.propensity.training import LIGHTGBM, TrainingSettings
from promo_assets.settings import Settings
from promo_assets.tables.propensity import model_of, tracking
from promo_assets.tables.writing import Request, Run, write
from promo_assets.warehouse.publish import ensure_table, prepare

USERS = 1_000_000
SIZES = (60, None)
TREES, LEARNED, SEED = 400, 20_000, 7
DAY, WEEK = date(2024, 1, 17), date(2024, 1, 8)
SCORING, TRAINING = 0.7, 1.2
"""The aims."""
SNAPSHOTS, WEEKS = 100_000, 26
ROUNDS = 2


def column(name: str, kind: str) -> str:
    """An expression that makes a column of made-up numbers."""
    if name == "as_of_date":
        return f"date '{DAY}' as as_of_date"
    if name == "user_id":
        return "'u' || i as user_id"
    if kind.lower() in ("varchar", "date"):
        return f"cast(null as {kind}) as {name}"
    return f"cast(-ln(1 - hash(i, '{name}') / 18446744073709551616.0) * 8 as {kind}) as {name}"


def fill(connection: duckdb.DuckDBPyConnection, users: int) -> None:
    """Publish a day of users, and a champion's week to come."""
    contracts = installation.contracts()
    prepare(connection)
    for name in ("features.user_features", "propensity.champions", "propensity.scores"):
        ensure_table(connection, contracts[name])
    types = contracts["features.user_features"].types
    made = ", ".join(column(name, kind) for name, kind in types.items())
    connection.execute(
        f"insert into features.user_features by name select {made} from range({users}) as t(i)"
    )


def model_of_size(frame: pl.DataFrame, names: tuple[str, ...]) -> PropensityModel:
    """A model of these features, of labels that one of them tells."""
    matrix = feature_matrix(frame, names)
    y = np.random.default_rng(SEED).random(len(matrix)) < 1 / (1 + np.exp(8 - matrix[:, 0]))
    parameters = {**LIGHTGBM, "seed": SEED, "num_threads": 2}
    booster = lightgbm.train(parameters, lightgbm.Dataset(matrix, y), num_boost_round=TREES)
    return PropensityModel(booster.model_to_string(), names, (1.0, 0.0), 0.5, 7, WEEK, WEEK)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """The least seconds of some rounds, on the wall and of the processor."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter(), time.process_time()
        work()
        rounds.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return min(wall for wall, _ in rounds), min(cpu for _, cpu in rounds)


def bare_of(booster: lightgbm.Booster, matrix: np.ndarray) -> tuple[float, float]:
    return timed(lambda: booster.predict(matrix, raw_score=True))


def score(settings: Settings, users: int, size: int | None) -> float:
    """Print what scoring takes; rows a second as a share of bare's, on the processor's clock."""
    warehouse = installation.warehouse(settings)
    learning = installation.learning(settings)
    tables = {table.contract.table: table for table in build_tables(settings)}
    # What the day waits for in a run is not made here.
    table = replace(tables["propensity.scores"], inputs={}, weekly={})
    with warehouse.get_connection() as connection:
        select = "select * from features.user_features"
        sample = connection.execute(f"{select} limit {LEARNED}").pl()
        model = model_of_size(sample, feature_names(sample)[:size])
        logged = tracking(learning.store).log(
            Record("bench", {}, {}, lambda to: model.save(to / MODEL_FOLDER), model.sha256, {}), {}
        )
        connection.execute("delete from propensity.champions")
        connection.execute(
            "insert into propensity.champions (week, model_version, sha256, trained_week)"
            " values ($week, $version, $sha256, $week)",
            {"week": WEEK, "version": logged.model_version, "sha256": logged.sha256},
        )
        frame = connection.execute(select).pl()
    booster = model_of(learning.store, logged.model_version, logged.sha256).booster
    bare = bare_of(booster, np.ascontiguousarray(feature_matrix(frame, model.features)))
    del frame
    auditor = Auditor(warehouse, None)
    asked = Request(Window(DAY, DAY + timedelta(days=1)))

    def through() -> None:
        written = write(table, asked, Run("bench", DAY, lambda _: None), warehouse, auditor)
        assert written.published.total == users, written.blocked

    whole = timed(through)
    auditor.close()
    ratio = bare[1] / whole[1]
    print(
        f"{users:,} users x {len(model.features)} features: bare {bare[0]:.1f} s ({bare[1]:.1f} s "
        f"of the processor), through the platform {whole[0]:.1f} s ({whole[1]:.1f} s): "
        f"{bare[0] / whole[0]:.2f} of bare's speed, {ratio:.2f} by the processor's time",
        flush=True,
    )
    return ratio


def learn(sample: pl.DataFrame) -> float:
    """Print what a training takes in units of its two bare boostings; the ratio."""
    rng = np.random.default_rng(SEED)
    rows = sample[rng.integers(0, sample.height, SNAPSHOTS)]
    weeks = np.sort(rng.integers(0, WEEKS, SNAPSHOTS))
    days = [DAY + timedelta(weeks=week) for week in weeks.tolist()]
    told = rows["recency_days"].to_numpy() + rows["orders_90d"].to_numpy()
    frame = rows.with_columns(
        as_of_date=pl.Series(days), label=pl.Series(rng.random(SNAPSHOTS) < told / told.max())
    )
    settings = TrainingSettings(DAY + timedelta(weeks=WEEKS))
    fits: list[float] = []
    fit = lightgbm.train

    def clocked(*given: Any, **named: Any) -> Any:
        began = time.process_time()
        try:
            return fit(*given, **named)
        finally:
            fits.append(time.process_time() - began)

    lightgbm.train = clocked
    try:
        began = time.process_time()
        training.train(frame, settings)
        whole = time.process_time() - began
    finally:
        lightgbm.train = fit
    parts = split_by_time(frame, horizon=settings.horizon)
    ratio = whole / sum(fits)
    print(
        f"training on {parts.train.height:,} rows: boosting {sum(fits):.1f} s of the processor, "
        f"all of it {whole:.1f} s: {ratio:.2f} times bare",
        flush=True,
    )
    return ratio


def main(users: int = USERS) -> None:
    missed = []
    with tempfile.TemporaryDirectory(prefix="promo-bench-") as folder:
        settings = Settings(home=Path(folder), source="complete_journey", threads=2)
        with installation.warehouse(settings).get_connection() as connection:
            fill(connection, users)
            sample = connection.execute(
                f"select * from features.user_features limit {LEARNED}"
            ).pl()
        for size in SIZES:
            if (ratio := score(settings, users, size)) < SCORING:
                missed.append(f"scoring {ratio:.2f} of bare, aim {SCORING}")
        if (ratio := learn(sample)) > TRAINING:
            missed.append(f"training {ratio:.2f} times bare, aim {TRAINING}")
    if missed:
        sys.exit("; ".join(missed))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
