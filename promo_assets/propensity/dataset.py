"""From labelled snapshots to matrices, and the split by time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

KEYS = ("week", "as_of_date", "user_id", "label")
OUTCOMES = ("orders_ahead", "spend_ahead")
"""Columns of ``propensity.training_set`` that tell the future: never features."""

POPULATIONS = {
    "recent": pl.col("orders_90d") > 0,
    "lapsed": (pl.col("orders_90d") == 0) & pl.col("recency_days").is_not_null(),
    "never": pl.col("recency_days").is_null(),
}
"""Who differs so much in how they buy that a score has to be right for each: users with an order in
the last 90 days, with older ones only, and without any."""

MIN_TRAIN_WEEKS = 4


class MissingFeatureError(ValueError):
    """A frame lacks features that are asked of it, or has something else than numbers in their
    place. Not a `TrainingError`: waiting won't help."""


class TrainingError(ValueError):
    """There is not enough, or not the right, history to train on; the message says what."""


@dataclass(frozen=True)
class Split:
    """Four parts in order of time; ``stopping`` ends the boosting, ``calibration`` fits Platt's
    curve and the threshold, ``test`` is only measured."""

    train: pl.DataFrame
    stopping: pl.DataFrame
    calibration: pl.DataFrame
    test: pl.DataFrame

    @property
    def parts(self) -> tuple[pl.DataFrame, ...]:
        return self.train, self.stopping, self.calibration, self.test


@dataclass(frozen=True)
class Fold:
    """As-of dates of one origin of a rolling comparison, in order of time: a candidate learns from
    ``train``, its probability is put right on ``calibration`` and measured on ``test``."""

    train: tuple[date, ...]
    calibration: tuple[date, ...]
    test: tuple[date, ...]


def feature_names(frame: pl.DataFrame) -> tuple[str, ...]:
    """The numeric and boolean columns besides keys and outcomes, sorted."""
    return tuple(
        sorted(
            name
            for name, kind in frame.schema.items()
            if name not in (*KEYS, *OUTCOMES) and _is_number(kind)
        )
    )


def feature_matrix(frame: pl.DataFrame, names: Sequence[str]) -> np.ndarray:
    """``frame[names]`` as float64, shape (rows, features); null becomes NaN. Columns are taken by
    name, in the order of ``names``; others are left.

    Raises `MissingFeatureError` naming the columns that are missing or hold no numbers.
    """
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise MissingFeatureError(
            f"features missing: {', '.join(missing)}; expected every feature that the model was "
            "trained on. Train again after features changed"
        )
    schema = frame.schema
    types = {name: kind for name in names if not _is_number(kind := schema[name])}
    if types:
        raise MissingFeatureError(
            "features that are no numbers: "
            f"{', '.join(f'{name} ({kind})' for name, kind in types.items())}; expected numbers or "
            "booleans, as the model was trained on. Mend what computes them, or train again"
        )
    return frame.select(pl.col(name).cast(pl.Float64) for name in names).to_numpy()


def _is_number(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind == pl.Boolean


def labels(frame: pl.DataFrame) -> np.ndarray:
    """The label as float64 0/1, shape (rows,)."""
    return frame["label"].cast(pl.Float64).to_numpy()


def last_day(frame: pl.DataFrame) -> date:
    """The latest as-of date of a part."""
    return max(frame["as_of_date"].to_list())


def split_by_time(
    frame: pl.DataFrame,
    *,
    horizon: int,
    stopping_weeks: int = 2,
    calibration_weeks: int = 2,
    test_weeks: int = 4,
) -> Split:
    """Cut snapshots (column ``as_of_date``) into train, stopping, calibration and test by time.

    Label windows ``(as_of, as_of + horizon]`` of different parts never overlap: where snapshots
    are closer than the horizon, those in between are left out. With little history the last
    three parts shrink to one date each. Raises `TrainingError` below 4 training dates or where a
    part holds one class only.
    """
    dates = _apart(sorted(frame["as_of_date"].unique().to_list()), horizon)
    sizes = [stopping_weeks, calibration_weeks, test_weeks]
    if len(dates) < 2 * sum(sizes):
        sizes = [1, 1, 1]
    if len(dates) < sum(sizes) + MIN_TRAIN_WEEKS:
        raise TrainingError(
            f"{len(dates)} snapshot dates at least {horizon} days apart, expected "
            f"{sum(sizes) + MIN_TRAIN_WEEKS}: wait for more weeks of events"
        )
    ends = [len(dates)]
    for size in reversed(sizes):
        ends.insert(0, ends[0] - size)
    starts = [0, *ends[:-1]]
    parts = [
        frame.filter(pl.col("as_of_date").is_in(dates[start:end]))
        for start, end in zip(starts, ends, strict=True)
    ]
    for name, part in zip(("train", "stopping", "calibration", "test"), parts, strict=True):
        if part["label"].n_unique() != 2:
            raise TrainingError(f"the {name} part ({part.height} rows) holds one class only")
    return Split(*parts)


def rolling_folds(
    dates: Sequence[date],
    *,
    horizon: int,
    origins: int = 5,
    calibration_weeks: int = 2,
    test_weeks: int = 4,
) -> tuple[Fold, ...]:
    """Rolling origins over an expanding window, oldest first: each trains on everything before its
    calibration dates, and the last one tests the newest dates.

    Snapshots closer than the horizon are left out, so that no two label windows
    ``(as_of, as_of + horizon]`` overlap: whatever a fold learns was known on its first test date,
    and no test row counts in two folds. Raises `TrainingError` where the first origin would have
    less than 4 training dates.
    """
    apart = _apart(sorted(set(dates)), horizon)
    needed = MIN_TRAIN_WEEKS + calibration_weeks + origins * test_weeks
    if len(apart) < needed:
        raise TrainingError(
            f"{len(apart)} snapshot dates at least {horizon} days apart, expected {needed} for "
            f"{origins} origins of {test_weeks}: wait for more weeks of events, or ask for fewer"
        )
    starts = [len(apart) - test_weeks * back for back in range(origins, 0, -1)]
    return tuple(
        Fold(
            train=tuple(apart[: start - calibration_weeks]),
            calibration=tuple(apart[start - calibration_weeks : start]),
            test=tuple(apart[start : start + test_weeks]),
        )
        for start in starts
    )


def _apart(dates: list[date], horizon: int) -> list[date]:
    """The latest dates such that any two are at least ``horizon`` days apart."""
    kept: list[date] = []
    for day in reversed(dates):
        if not kept or day + timedelta(days=horizon) <= kept[-1]:
            kept.append(day)
    return kept[::-1]
