from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promo_assets.propensity.dataset import (
    MissingFeatureError,
    TrainingError,
    feature_matrix,
    feature_names,
    last_day,
    split_by_time,
)


def two_classes(days: list[date]) -> pl.DataFrame:
    rows = [(day, label) for day in days for label in (False, True)]
    return pl.DataFrame(rows, schema={"as_of_date": pl.Date, "label": pl.Boolean}, orient="row")


@given(
    offsets=st.lists(st.integers(0, 400), min_size=1, max_size=80, unique=True),
    horizon=st.integers(1, 28),
)
def test_no_label_window_of_a_part_reaches_into_a_later_part(
    offsets: list[int], horizon: int
) -> None:
    days = [date(2024, 1, 1) + timedelta(days=offset) for offset in sorted(offsets)]
    try:
        split = split_by_time(two_classes(days), horizon=horizon)
    except TrainingError:
        return
    assert last_day(split.test) == days[-1]
    for earlier, later in pairwise(split.parts):
        first_later = min(later["as_of_date"].to_list())
        assert last_day(earlier) + timedelta(days=horizon) <= first_later


def test_long_histories_keep_two_two_and_four_weeks_apart(
    snapshots: Callable[..., pl.DataFrame],
) -> None:
    split = split_by_time(snapshots(weeks=20), horizon=7)
    assert [part["as_of_date"].n_unique() for part in split.parts] == [12, 2, 2, 4]


def test_short_histories_shrink_to_one_week_a_part(snapshots: Callable[..., pl.DataFrame]) -> None:
    split = split_by_time(snapshots(weeks=7), horizon=7)
    assert [part["as_of_date"].n_unique() for part in split.parts] == [4, 1, 1, 1]


def test_too_short_a_history_says_how_many_weeks_are_missing(
    snapshots: Callable[..., pl.DataFrame],
) -> None:
    with pytest.raises(TrainingError, match=r"6 snapshot dates .* expected 7: wait"):
        split_by_time(snapshots(weeks=6), horizon=7)


def test_a_part_of_one_class_is_named(snapshots: Callable[..., pl.DataFrame]) -> None:
    frame = snapshots()
    last = last_day(frame) - timedelta(weeks=4)
    frame = frame.with_columns(label=(pl.col("as_of_date") <= last) & pl.col("label"))
    with pytest.raises(TrainingError, match=r"the test part \(1000 rows\) holds one class only"):
        split_by_time(frame, horizon=7)


def test_features_are_numbers_and_booleans_but_no_keys_and_nothing_of_the_future() -> None:
    frame = pl.DataFrame(
        {
            "user_id": ["u"],
            "as_of_date": [date(2024, 1, 1)],
            "label": [True],
            "orders_ahead": [1],
            "spend_ahead": [2.0],
            "last_order_date": [date(2024, 1, 1)],
            "b_count": [1],
            "a_share": [0.5],
            "c_flag": [True],
        }
    )
    assert feature_names(frame) == ("a_share", "b_count", "c_flag")


def test_a_matrix_holds_decimals_booleans_and_nulls_as_floats() -> None:
    frame = pl.DataFrame({"money": ["1.25", None], "flag": [True, None]}).with_columns(
        pl.col("money").cast(pl.Decimal(18, 2))
    )
    np.testing.assert_array_equal(
        feature_matrix(frame, ["flag", "money"]), [[1.0, 1.25], [np.nan, np.nan]]
    )


def test_a_missing_feature_is_named_and_is_no_lack_of_history() -> None:
    with pytest.raises(MissingFeatureError, match="features missing: b, c") as caught:
        feature_matrix(pl.DataFrame({"a": [1]}), ["a", "b", "c"])
    assert not isinstance(caught.value, TrainingError)
