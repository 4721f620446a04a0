"""What features.user_features is worth to the propensity model, on Complete Journey.

Purchase in the next 7 days, users with an order in the last 90 days, snapshots of days 1, 8, 15 and
22. Trained on April to August 2017, tested on October and November: stack-notes' numbers to beat.
``--tune`` fits April to July, compares groups of features on August, and leaves the test alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from promo_assets.contract.days import Window
from promo_assets.learning import evaluation
from promo_assets.propensity.dataset import Split, feature_matrix, feature_names, labels
from promo_assets.propensity.training import RFM, TrainingSettings, boost, fit_platt, rivals
from promo_assets.sources.complete_journey import CompleteJourney

MODELS = Path(__file__).parent.parent / "dbt_like_sql"
YEAR = Window(date(2017, 1, 1), date(2018, 1, 1))
SEEDS = (1, 2, 3)
GROUPS = {
    "gaps": ("gap", "recency_over", "return_hazard"),
    "order cover": ("order_cover", "covered_days"),
    "money": ("spend", "gross", "discount", "avg_order", "basket"),
    "offers": ("offer", "redemption", "response"),
    "hours and weekend": ("orders_block", "order_share", "orders_weekend", "weekend"),
}

CALENDAR = """
select
    cast(day as date) as day,
    cast(isodow(day) as integer) as weekday,
    isodow(day) >= 6 as is_weekend
from range(timestamp '2017-01-01', timestamp '2018-01-01', interval 1 day) as days(day)
"""

EVENTS = """
select * replace (
    cast(event_time as timestamp) as event_time,
    cast(quantity as bigint) as quantity,
    cast(unit_price as decimal(18, 2)) as unit_price,
    coalesce(cast(discount as decimal(18, 2)), 0) as discount)
from ({source})
where event_type <> 'purchase' or cast(quantity as bigint) >= 1
"""

SNAPSHOTS = """
select
    features.*,
    exists (
        select 1 from features.user_daily as daily
        where daily.user_id = features.user_id and daily.orders > 0
            and daily.event_date > features.as_of_date
            and daily.event_date <= features.as_of_date + 7
    ) as label
from features.user_features as features
where day(as_of_date) in (1, 8, 15, 22) and orders_90d > 0
    and month(as_of_date) in (4, 5, 6, 7, 8, 10, 11)
order by as_of_date, user_id
"""


def snapshots() -> pl.DataFrame:
    """The labelled snapshots, made by the platform's own SQL models."""
    connection = duckdb.connect(config={"threads": 2, "memory_limit": "4GB"})
    connection.execute("set timezone = 'UTC'; create schema core; create schema features")
    connection.execute(f"create table core.calendar as {CALENDAR}")
    source = CompleteJourney.installed(YEAR.start).take(YEAR, connection).query
    connection.execute(
        f"create table core.events as {EVENTS.format(source=source.sql)}", dict(source.parameters)
    )
    for table in ("user_daily", "user_features"):
        model = (MODELS / "features" / f"{table}.sql").read_text(encoding="utf-8")
        if table == "user_features":
            connection.execute(_empty_user_features(connection))
        connection.execute(
            f"create table staged as {model}", {"start": YEAR.start, "end": YEAR.end}
        )
        connection.execute(f"drop table if exists features.{table}")
        connection.execute(f"create table features.{table} as from staged; drop table staged")
    return connection.execute(SNAPSHOTS).pl()


def _empty_user_features(connection: duckdb.DuckDBPyConnection) -> str:
    """The table that user_features reads of itself: no rows, its contract's columns."""
    from promo_assets.contract.tables import load_contract

    contract = load_contract(MODELS.parent / "expectations" / "features" / "user_features.yaml")
    columns = ", ".join(f"{name} {kind}" for name, kind in contract.types.items())
    return f"create table features.user_features ({columns})"


def months(frame: pl.DataFrame, chosen: Iterable[int]) -> pl.DataFrame:
    """The snapshots of some months of 2017."""
    return frame.filter(pl.col("as_of_date").dt.month().is_in(list(chosen)))


def score(split: Split, names: Sequence[str], seed: int) -> tuple[np.ndarray, int]:
    """Calibrated scores of the test part, and the rounds that early stopping chose."""
    booster = boost(split, tuple(names), TrainingSettings(YEAR.end, seed=seed))

    def margin(part: pl.DataFrame) -> np.ndarray:
        return np.asarray(booster.predict(feature_matrix(part, names), raw_score=True))

    slope, intercept = fit_platt(labels(split.calibration), margin(split.calibration))
    return 1 / (1 + np.exp(-slope * margin(split.test) - intercept)), booster.best_iteration


def tune(frame: pl.DataFrame) -> None:
    """AUC and log loss on August with and without each group of features.

    July both stops and calibrates: Platt's two numbers can't overfit 9,000 rows.
    """
    split = Split(*(months(frame, part) for part in ((4, 5, 6), (7,), (7,), (8,))))
    every = feature_names(frame)
    choices: dict[str, Sequence[str]] = {"all features": every, "13 RFM features": RFM}
    for group, starts in GROUPS.items():
        choices[f"without {group}"] = [name for name in every if not name.startswith(starts)]
    y = labels(split.test)
    for choice, names in choices.items():
        scores = [score(split, names, seed)[0] for seed in SEEDS]
        area = np.mean([evaluation.auc(y, p) for p in scores])
        loss = np.mean([evaluation.log_loss(y, p) for p in scores])
        print(f"{choice:28} {len(names):4} columns  AUC {area:.4f}  log loss {loss:.4f}")


def test(frame: pl.DataFrame) -> None:
    """The benchmark's own split; early stopping and calibration on July and August."""
    split = Split(*(months(frame, part) for part in ((4, 5, 6), (7,), (8,), (10, 11))))
    y, users = labels(split.test), split.test["user_id"].to_numpy()
    # The rivals have nothing to stop or calibrate: they are trained on April to August.
    whole = Split(months(frame, range(4, 9)), split.stopping, split.calibration, split.test)
    for name, area in rivals(whole).items():
        print(f"{name:28} {area:.4f}")
    for names, title in ((RFM, "LightGBM, 13 RFM features"), (feature_names(frame), "LightGBM")):
        for seed in SEEDS:
            p, rounds = score(split, names, seed)
            interval = evaluation.auc_interval(y, p, users, seed)
            told = "[{:.4f}, {:.4f}]".format(*interval) if interval else "[no interval]"
            print(
                f"{title:28} {evaluation.auc(y, p):.4f} {told}  log loss "
                f"{evaluation.log_loss(y, p):.4f}  seed {seed}, {rounds} rounds"
            )


def main() -> None:
    began = time.perf_counter()
    frame = snapshots()
    print(f"{frame.height:,} snapshots, {time.perf_counter() - began:.1f} s")
    (tune if "--tune" in sys.argv[1:] else test)(frame)


if __name__ == "__main__":
    main()
