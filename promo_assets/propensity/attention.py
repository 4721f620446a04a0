"""What a model looks at over everybody: importance by exact TreeSHAP, and partial dependence.

A sample of users is enough for a mean, and keeps it cheap. Not here: why one user has their score
(``reasons.py``), and which features a model could do without (``selection.py``): importance says
what was used, not what is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from promo_assets.propensity.model import PropensityModel
from promo_assets.propensity.reasons import topic_of

MOST_ROWS = 200
"""Drawn snapshots over which is averaged."""
SHOWN, POINTS, AVERAGED = 4, 7, 100
"""Features whose partial dependence is told, at how many values at most, over how many rows."""


@dataclass(frozen=True)
class Attention:
    """``features`` and ``topics`` have the mean absolute SHAP value (log-odds of the calibrated
    score) of each feature and of each topic's sum, the strongest first. ``dependence`` has for each
    of the strongest features some of its values, and the mean score if everybody had that value.
    ``rows`` snapshots were drawn."""

    features: Mapping[str, float]
    topics: Mapping[str, float]
    dependence: Mapping[str, tuple[np.ndarray, np.ndarray]]
    rows: int

    @property
    def shares(self) -> dict[str, float]:
        """Each topic's part of all topics' weight, the strongest first; nothing where no topic has
        any."""
        total = sum(self.topics.values())
        return {topic: weight / total for topic, weight in self.topics.items() if weight > 0}


def attention(model: PropensityModel, frame: pl.DataFrame, seed: int) -> Attention:
    """What ``model`` looks at in the users of ``frame``, of which 200 rows are drawn at most.

    Deterministic. Raises `MissingFeatureError` where a feature is missing.
    """
    drawn = frame.sample(min(MOST_ROWS, frame.height), seed=seed)
    values = model.shap(drawn)[:, :-1]
    weights = np.abs(values).mean(axis=0).tolist()
    features = _sorted(dict(zip(model.features, weights, strict=True)))
    columns: dict[str, list[int]] = {}
    for place, name in enumerate(model.features):
        columns.setdefault(topic_of(name), []).append(place)
    topics = {
        topic: float(np.abs(values[:, places].sum(axis=1)).mean())
        for topic, places in columns.items()
    }
    strongest = [name for name, weight in features.items() if weight > 0][:SHOWN]
    return Attention(
        features,
        _sorted(topics),
        dependence(model, drawn.head(AVERAGED), strongest),
        drawn.height,
    )


def dependence(
    model: PropensityModel, frame: pl.DataFrame, names: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Partial dependence (Friedman 2001) of the score on each feature: some of its values,
    ascending, and the mean score of all rows with that value in place of their own.

    The values are those that it has, or seven quantiles (0.05 to 0.95) where they are more.
    """
    frame = frame.select(pl.col(name).cast(pl.Float64) for name in model.features)
    grids = {name: _grid(frame[name].drop_nulls().to_numpy()) for name in names}
    places = [(name, value) for name, grid in grids.items() for value in grid.tolist()]
    if not places:
        return {}
    everybody = pl.concat(
        frame.with_columns(pl.lit(value, pl.Float64).alias(name)) for name, value in places
    )
    means = model.predict(everybody).reshape(len(places), frame.height).mean(axis=1)
    ends = np.cumsum([len(grid) for grid in grids.values()])[:-1]
    return dict(zip(names, zip(grids.values(), np.split(means, ends), strict=True), strict=True))


def _grid(values: np.ndarray) -> np.ndarray:
    found = np.unique(values)
    if len(found) <= POINTS:
        return found
    return np.unique(np.quantile(values, np.linspace(0.05, 0.95, POINTS), method="nearest"))


def _sorted(weights: Mapping[str, float]) -> dict[str, float]:
    names: Sequence[str] = sorted(weights, key=lambda name: (-weights[name], name))
    return {name: weights[name] for name in names}
