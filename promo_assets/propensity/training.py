"""Train one model: split by time, boost, calibrate, measure against simple rivals, refit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from promo_assets.learning import evaluation
from promo_assets.propensity.attention import Attention, attention
from promo_assets.propensity.dataset import (
    POPULATIONS,
    MissingFeatureError,
    Split,
    feature_matrix,
    feature_names,
    labels,
    last_day,
    split_by_time,
)
from promo_assets.propensity.leaks import refuse_leaks
from promo_assets.propensity.model import PropensityModel

RFM = (
    "recency_days",
    "days_since_active",
    "tenure_days",
    "orders_7d",
    "orders_28d",
    "orders_90d",
    "items_28d",
    "items_90d",
    "spend_28d",
    "spend_90d",
    "discount_share_90d",
    "active_days_28d",
    "gap_mean_days",
)
"""The thirteen features of the logistic rival."""

LIGHTGBM = {
    "objective": "binary",
    "learning_rate": 0.04,
    "num_leaves": 8,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.25,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 30.0,
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
}
"""Tuned on July and August 2017 of Complete Journey (benchmarks/propensity_features.py --tune):
0.0003 to 0.0006 AUC above 15 leaves at rate 0.05. The surface is flat. By columns rather than rows:
as a tree sees a fourth of the features, the same model takes 0.57 of the time (63,372 rows)."""

LEAVES_OF_ROWS = 20
"""Leaves that the training rows are enough for at least; from 4,000 rows on nothing changes."""
ROUNDS = 600
PATIENCE = 50


@dataclass(frozen=True)
class TrainingSettings:
    """What a training depends on besides its data; ``trusted`` features are taken as no leaks,
    and it learns from ``features`` alone, from all where there are none."""

    cut_off: date
    horizon: int = 7
    seed: int = 20240229
    threads: int = 2  # Not the machine's: it is written into the model, and so into its hash.
    lightgbm: Mapping[str, Any] = field(default_factory=lambda: dict(LIGHTGBM))
    trusted: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingResult:
    """A model with everything that is said about it. ``attention`` is the registered model's, on
    the newest snapshots. ``test`` holds its test rows' labels and scores, from which the plots are
    drawn."""

    model: PropensityModel
    settings: TrainingSettings
    metrics: Mapping[str, float]
    confusion: Mapping[str, int]
    attention: Attention
    split: Mapping[str, Mapping[str, Any]]
    test_labels: np.ndarray
    test_scores: np.ndarray

    def summary(self) -> dict[str, Any]:
        """The columns of ``propensity.trainings`` that tell of it."""
        chosen = (
            "auc",
            "auc_low",
            "auc_high",
            "average_precision",
            "log_loss",
            "brier",
            "calibration_error",
            "f1",
            "logistic_auc",
            "frequency_auc",
            "recency_auc",
        )
        told = [f"{who}_{what}" for who in POPULATIONS for what in ("score", "share")]
        return {name: self.metrics.get(name) for name in (*chosen, *told)} | {
            **{f"{who}_rows": int(self.metrics[f"{who}_rows"]) for who in POPULATIONS},
            "looks_at": json.dumps(
                {topic: round(share, 4) for topic, share in self.attention.shares.items()}
            ),
            "first_as_of": self.split["train"]["first"],
            "test_from": self.split["test"]["first"],
            "train_rows": self.split["train"]["rows"],
            "test_rows": self.split["test"]["rows"],
        }


def train(frame: pl.DataFrame, settings: TrainingSettings) -> TrainingResult:
    """Train on labelled snapshots (columns as_of_date, user_id, label, features).

    All figures are those of ``model.tested``, which has not seen the test part. The model itself
    is boosted again on every part, with the tested number of rounds, Platt's curve and threshold.
    Deterministic: the same rows and settings give the same model, byte by byte. Raises
    `TrainingError` when there is too little history, `LeakError` where a feature seems to know the
    future, and `MissingFeatureError` where ``settings`` names something that is none.
    """
    frame = frame.sort("as_of_date", "user_id")
    split = split_by_time(frame, horizon=settings.horizon)
    names = _chosen(frame, settings)
    refuse_leaks(frame, names, settings.seed, settings.trusted)
    settings = replace(settings, lightgbm=sized(settings.lightgbm, split.train.height))
    booster = boost(split, names, settings)
    best = booster.best_iteration

    def margin(part: pl.DataFrame) -> np.ndarray:
        return np.asarray(
            booster.predict(feature_matrix(part, names), raw_score=True, num_iteration=best)
        )

    platt = fit_platt(labels(split.calibration), margin(split.calibration))
    tested = PropensityModel(
        booster_text=booster.model_to_string(num_iteration=best),
        features=names,
        platt=platt,
        threshold=evaluation.best_f1_threshold(
            labels(split.calibration), _sigmoid(platt, margin(split.calibration))
        ),
        horizon=settings.horizon,
        cut_off=settings.cut_off,
        fitted_until=last_day(split.calibration) + timedelta(days=settings.horizon),
    )
    y, p = labels(split.test), tested.predict(split.test)
    interval = evaluation.auc_interval(y, p, split.test["user_id"].to_numpy(), settings.seed)
    model = refit(tested, split, best, settings)
    return TrainingResult(
        model=model,
        settings=settings,
        metrics={
            **evaluation.measures(y, p, tested.threshold),
            **(dict(zip(("auc_low", "auc_high"), interval, strict=True)) if interval else {}),
            "rounds": float(best),
            "threshold": tested.threshold,
            **rivals(split),
            **by_population(split.test, p),
        },
        confusion=evaluation.confusion(y, p, tested.threshold),
        attention=attention(model, split.test, settings.seed),
        split={
            name: {
                "rows": part.height,
                "first": part["as_of_date"].min(),
                "last": part["as_of_date"].max(),
            }
            for name, part in zip(
                ("train", "stopping", "calibration", "test"), split.parts, strict=True
            )
        },
        test_labels=y,
        test_scores=p,
    )


def _chosen(frame: pl.DataFrame, settings: TrainingSettings) -> tuple[str, ...]:
    every = feature_names(frame)
    unknown = sorted({*settings.features} - {*every})
    if unknown:
        raise MissingFeatureError(
            f"{', '.join(unknown)}: no features; expected in PROMO_PROPENSITY_FEATURES numbers or "
            "booleans of features.user_features"
        )
    return settings.features or every


def sized(parameters: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """LightGBM's parameters for so many training rows: a leaf needs a twentieth of them at most
    (and 5 rows), else a small shop's trees could not split and all its users had one score."""
    least = min(parameters["min_data_in_leaf"], max(rows // LEAVES_OF_ROWS, 5))
    return {**parameters, "min_data_in_leaf": least}


def boost(split: Split, names: tuple[str, ...], settings: TrainingSettings) -> Any:
    """LightGBM on the train part, stopped by the log loss of the stopping part."""
    import lightgbm

    train_set = _dataset(split.train, names)
    return lightgbm.train(
        _parameters(settings),
        train_set,
        num_boost_round=ROUNDS,
        valid_sets=[_dataset(split.stopping, names, train_set)],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )


def refit(
    tested: PropensityModel, split: Split, rounds: int, settings: TrainingSettings
) -> PropensityModel:
    """The tested model boosted again on all parts, the newest weeks included: same features,
    parameters and rounds. No later labels are left to calibrate it: Platt's curve and the
    threshold stay those of the tested model."""
    import lightgbm

    whole = pl.concat(split.parts)
    booster = lightgbm.train(
        _parameters(settings), _dataset(whole, tested.features), num_boost_round=rounds
    )
    return replace(
        tested,
        booster_text=booster.model_to_string(),
        fitted_until=last_day(whole) + timedelta(days=settings.horizon),
        tested=tested,
    )


def _parameters(settings: TrainingSettings) -> dict[str, Any]:
    return {**settings.lightgbm, "seed": settings.seed, "num_threads": settings.threads}


def _dataset(part: pl.DataFrame, names: tuple[str, ...], reference: Any = None) -> Any:
    import lightgbm

    return lightgbm.Dataset(
        feature_matrix(part, names),
        labels(part),
        feature_name=list(names),
        reference=reference,
        free_raw_data=True,
    )


def fit_platt(y: np.ndarray, margin: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of a logistic curve on the margin, with Platt's smoothed targets (1999).

    Newton's method with halved steps (Lin, Lin and Weng 2007): whole steps diverge where the
    margin says little about the label.
    """
    positive, negative = y.sum(), len(y) - y.sum()
    target = np.where(y == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    design = np.column_stack([margin, np.ones_like(margin)])

    def loss(coefficients: np.ndarray) -> float:
        log_odds = design @ coefficients
        return float(np.sum(np.logaddexp(0, log_odds) - target * log_odds))

    coefficients = np.array([0.0, np.log((positive + 1) / (negative + 1))])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ coefficients))
        gradient = design.T @ (p - target)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-10 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while loss(coefficients - step) > loss(coefficients) and np.abs(step).max() > 1e-10:
            step = step / 2
        coefficients = coefficients - step
        if np.abs(step).max() < 1e-10:
            break
    return float(coefficients[0]), float(coefficients[1])


def by_population(part: pl.DataFrame, p: np.ndarray) -> dict[str, float]:
    """Rows, mean score and share of buyers of each of `POPULATIONS`, of which an empty one has rows
    only: they are near each other where a score is calibrated for each."""
    told: dict[str, float] = {}
    scored = part.with_columns(score=pl.Series(p))
    for who, within in POPULATIONS.items():
        rows = scored.filter(within)
        told[f"{who}_rows"] = float(rows.height)
        if rows.height:
            told[f"{who}_score"] = float(rows["score"].to_numpy().mean())
            told[f"{who}_share"] = float(labels(rows).mean())
    return told


def rivals(split: Split) -> dict[str, float]:
    """AUC on the test part of recency alone, orders in 90 days alone, and a logistic model of the
    13 features of `RFM` (standardised, medians for missing values) trained on the same part."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    y = labels(split.test)
    logistic = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        FunctionTransformer(lambda x: np.sign(x) * np.log1p(np.abs(x))),
        StandardScaler(),
        LogisticRegression(max_iter=500),
    )
    logistic.fit(feature_matrix(split.train, RFM), labels(split.train))
    recency = feature_matrix(split.test, ["recency_days"])[:, 0]
    frequency = feature_matrix(split.test, ["orders_90d"])[:, 0]
    return {
        "recency_auc": evaluation.auc(y, -np.nan_to_num(recency, nan=1e9)),
        "frequency_auc": evaluation.auc(y, frequency),
        "logistic_auc": evaluation.auc(
            y, logistic.predict_proba(feature_matrix(split.test, RFM))[:, 1]
        ),
    }


def _sigmoid(platt: tuple[float, float], margin: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(platt[0] * margin + platt[1])))
