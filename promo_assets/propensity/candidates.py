"""Models that the purchase model has to beat, all fitted and asked in one way.

Parameters are ordinary ones, fixed before any comparison; only LightGBM's were tuned
(``training.LIGHTGBM``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from promo_assets.learning import evaluation
from promo_assets.propensity.dataset import Split, feature_matrix, labels, last_day
from promo_assets.propensity.training import LIGHTGBM, TrainingSettings, boost, fit_platt

Predictor = Callable[[pl.DataFrame], np.ndarray]
"""From snapshots to probabilities of a purchase, shape (rows,)."""

Names = Sequence[str]

HELD_WEEKS = 2
"""The newest as-of dates of its own train part, by which a candidate stops or sets a curve."""

THREADS = 2


@dataclass(frozen=True)
class Candidate:
    """``fit(train, names, seed)`` learns ``label`` from the columns ``names`` of labelled snapshots
    and gives a `Predictor`; nulls and constant columns are allowed. ``params`` is what it is made
    with, ``kind`` what it is: a rule of one feature, or a model of all."""

    name: str
    fit: Callable[[pl.DataFrame, Names, int], Predictor]
    params: Mapping[str, Any]
    kind: str = "model"


LOGISTIC = {"C": 0.1, "solver": "newton-cholesky", "max_iter": 200}
SVM = {"C": 0.01, "dual": False, "max_iter": 2000}
TREE = {"max_depth": 6, "min_samples_leaf": 200}
FOREST = {"n_estimators": 100, "min_samples_leaf": 20, "max_features": "sqrt", "max_samples": 0.5}
HISTOGRAM = {
    "learning_rate": 0.05,
    "max_iter": 400,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 200,
    "l2_regularization": 10.0,
    "n_iter_no_change": 30,
}
NETWORK = {
    "hidden_layer_sizes": (32,),
    "alpha": 1e-3,
    "learning_rate_init": 5e-4,
}
EPOCHS, PATIENCE, BATCH = 40, 4, 512


def fit_recency(train: pl.DataFrame, names: Names, seed: int) -> Predictor:
    """Days since the last order alone, and whether there was one: a logistic curve."""
    return fit_logistic(train, ("recency_days",), seed)


def fit_frequency(train: pl.DataFrame, names: Names, seed: int) -> Predictor:
    """Orders in 90 days alone: a logistic curve."""
    return fit_logistic(train, ("orders_90d",), seed)


def fit_logistic(train: pl.DataFrame, names: Names, seed: int) -> Predictor:
    """Logistic regression on scaled columns."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return _fitted(
        make_pipeline(*_scaling(), LogisticRegression(**LOGISTIC, random_state=seed)), train, names
    )


def fit_svm(train: pl.DataFrame, names: Names, seed: int) -> Predictor:
    """A linear support vector machine on scaled columns; Platt's curve on its margin is fitted to
    the newest dates, which the machine has not seen."""
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    older, newest = _by_age(train)
    machine = make_pipeline(*_scaling(), LinearSVC(**SVM, random_state=seed))
    machine.fit(feature_matrix(older, names), labels(older))

    def margin(part: pl.DataFrame) -> np.ndarray:
        return np.asarray(machine.decision_function(feature_matrix(part, names)))

    slope, intercept = fit_platt(labels(newest), margin(newest))
    return lambda part: 1 / (1 + np.exp(-(slope * margin(part) + intercept)))


def fit_tree(train: pl.DataFrame, names: Names, seed: int) -> Predictor:
    """One decision tree; missing values have a branch."""
    from sklearn.tree import DecisionTreeClassifier

    return _fitted(DecisionTreeClassifier(**TREE, random_state=seed), train, names)


def fit_forest(train: pl.DataFrame, names: Names, seed: int) -> Predictor:
    """A random forest; missing values have a branch."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(**FOREST, random_state=seed, n_jobs=THREADS)
    forest.fit(feature_matrix(train, names), labels(train))
    forest.n_jobs = 1  # Threads add the trees up in any order, which changes the last digits.
    return lambda part: np.asarray(forest.predict_proba(feature_matrix(part, names))[:, 1])


def fit_histogram(train: pl.DataFrame, names: Names, seed: int) -> Predictor:
    """Scikit-learn's histogram gradient boosting, stopped by the newest dates. It refuses columns
    without any value: they are left out."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    older, newest = _by_age(train)
    filled = ~np.isnan(feature_matrix(older, names)).all(axis=0)
    names = [name for name, kept in zip(names, filled, strict=True) if kept]
    model = HistGradientBoostingClassifier(**HISTOGRAM, early_stopping=True, random_state=seed)
    model.fit(
        feature_matrix(older, names),
        labels(older),
        X_val=feature_matrix(newest, names),
        y_val=labels(newest),
    )
    return lambda part: np.asarray(model.predict_proba(feature_matrix(part, names))[:, 1])


def fit_lightgbm(
    train: pl.DataFrame, names: Names, seed: int, parameters: Mapping[str, Any] = LIGHTGBM
) -> Predictor:
    """The purchase model's own boosting, stopped by the newest dates."""
    older, newest = _by_age(train)
    nothing = train.clear()
    settings = TrainingSettings(
        last_day(train), seed=seed, threads=THREADS, lightgbm=dict(parameters)
    )
    booster = boost(Split(older, newest, nothing, nothing), tuple(names), settings)
    return lambda part: np.asarray(booster.predict(feature_matrix(part, names)))


def fit_network(train: pl.DataFrame, names: Names, seed: int) -> Predictor:
    """A multilayer perceptron on scaled columns: of at most 40 epochs the one with the lowest log
    loss on the newest dates, ended after 4 without a lower one."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline

    older, newest = _by_age(train)
    scaling = make_pipeline(*_scaling())
    inside, y = scaling.fit_transform(feature_matrix(older, names)), labels(older)
    held, held_y = scaling.transform(feature_matrix(newest, names)), labels(newest)
    network = MLPClassifier(**NETWORK, batch_size=min(BATCH, len(y)), random_state=seed)
    best, lowest, waited = network, np.inf, 0
    for _ in range(EPOCHS):
        network.partial_fit(inside, y, classes=[0.0, 1.0])
        loss = evaluation.log_loss(held_y, network.predict_proba(held)[:, 1])
        waited += 1
        if loss < lowest:
            best, lowest, waited = deepcopy(network), loss, 0
        if waited == PATIENCE:
            break
    return lambda part: np.asarray(
        best.predict_proba(scaling.transform(feature_matrix(part, names)))[:, 1]
    )


CANDIDATES = (
    Candidate("recency alone", fit_recency, {"feature": "recency_days", **LOGISTIC}, "rule"),
    Candidate("frequency alone", fit_frequency, {"feature": "orders_90d", **LOGISTIC}, "rule"),
    Candidate("logistic regression", fit_logistic, LOGISTIC),
    Candidate("linear SVM", fit_svm, SVM),
    Candidate("decision tree", fit_tree, TREE),
    Candidate("random forest", fit_forest, FOREST),
    Candidate("LightGBM", fit_lightgbm, LIGHTGBM),
    Candidate("histogram gradient boosting", fit_histogram, HISTOGRAM),
    Candidate(
        "multilayer perceptron", fit_network, {**NETWORK, "batch_size": BATCH, "epochs": EPOCHS}
    ),
)
"""Simplest first, by what has to be kept and explained: one number, a number for each feature, one
tree, hundreds of trees, a network. Of the two boosters the one in force comes first."""


def _scaling() -> tuple[Any, ...]:
    """Medians for missing values with a column that says so, signed log1p, scale."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    return (
        SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True),
        FunctionTransformer(lambda x: np.sign(x) * np.log1p(np.abs(x))),
        StandardScaler(),
    )


def _fitted(model: Any, train: pl.DataFrame, names: Names) -> Predictor:
    model.fit(feature_matrix(train, names), labels(train))
    return lambda part: np.asarray(model.predict_proba(feature_matrix(part, names))[:, 1])


def _by_age(train: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The train part without its newest `HELD_WEEKS` as-of dates, and those."""
    newest = sorted(train["as_of_date"].unique().to_list())[-HELD_WEEKS:]
    held = pl.col("as_of_date").is_in(newest)
    return train.filter(~held), train.filter(held)
