from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from promo_assets.propensity.dataset import MissingFeatureError
from promo_assets.propensity.model import BOOSTER, MANIFEST, TESTED, ModelFileError, PropensityModel
from promo_assets.propensity.training import TrainingSettings, train

Snapshots = Callable[..., pl.DataFrame]


@pytest.fixture
def model(snapshots: Snapshots) -> PropensityModel:
    return train(snapshots(weeks=8), TrainingSettings(date(2024, 3, 3), threads=1)).model


def test_a_saved_model_comes_back_equal(
    model: PropensityModel, snapshots: Snapshots, tmp_path: Path
) -> None:
    model.save(tmp_path)
    back = PropensityModel.load(tmp_path, model.sha256)
    assert back == model
    frame = snapshots(weeks=2, seed=7)
    np.testing.assert_array_equal(back.predict(frame), model.predict(frame))


def test_a_model_is_saved_as_text_only(model: PropensityModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        Path(BOOSTER),
        Path(MANIFEST),
        Path(TESTED) / BOOSTER,
        Path(TESTED) / MANIFEST,
    ]
    for folder in (tmp_path, tmp_path / TESTED):
        assert (folder / BOOSTER).read_text(encoding="utf-8").startswith("tree\n")


@pytest.mark.parametrize("part", [".", TESTED])
def test_a_changed_tree_is_refused(model: PropensityModel, tmp_path: Path, part: str) -> None:
    model.save(tmp_path)
    changed = tmp_path / part / BOOSTER
    text = changed.read_text(encoding="utf-8")
    changed.write_text(text.replace("leaf_value=", "leaf_value=9", 1))
    assert model.tested is not None
    recorded = model.tested.sha256 if part == TESTED else model.sha256
    with pytest.raises(ModelFileError, match=f"recorded was {recorded}"):
        PropensityModel.load(tmp_path, model.sha256)


@pytest.mark.parametrize("field", ["platt", "threshold", "features", "fitted_until"])
def test_a_changed_or_removed_line_of_the_manifest_is_refused(
    model: PropensityModel, tmp_path: Path, field: str
) -> None:
    model.save(tmp_path)
    told = json.loads((tmp_path / MANIFEST).read_text())
    wrong = {"platt": [1, 0], "threshold": 0.9, "features": ["x"], "fitted_until": "2030-01-01"}
    (tmp_path / MANIFEST).write_text(json.dumps(told | {field: wrong[field]}))
    with pytest.raises(ModelFileError, match="recorded was"):
        PropensityModel.load(tmp_path, model.sha256)
    (tmp_path / MANIFEST).write_text(json.dumps({k: v for k, v in told.items() if k != field}))
    with pytest.raises(ModelFileError, match="can't be read"):
        PropensityModel.load(tmp_path, model.sha256)


def test_a_model_without_a_tested_one_beside_it_is_read_as_before(
    model: PropensityModel, tmp_path: Path
) -> None:
    assert model.tested is not None
    model.tested.save(tmp_path)
    assert "tested" not in (tmp_path / MANIFEST).read_text()
    assert PropensityModel.load(tmp_path, model.tested.sha256) == model.tested


def test_a_folder_without_a_model_is_named(model: PropensityModel, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=str(tmp_path)):
        PropensityModel.load(tmp_path, model.sha256)


def test_a_prediction_without_a_feature_says_which(
    model: PropensityModel, snapshots: Snapshots
) -> None:
    with pytest.raises(MissingFeatureError, match="features missing: orders_90d"):
        model.predict(snapshots(weeks=1).drop("orders_90d"))


@pytest.mark.parametrize("kind", [pl.String, pl.Date, pl.List(pl.Int64), pl.Null])
def test_a_feature_that_holds_no_numbers_is_refused_and_named(
    model: PropensityModel, snapshots: Snapshots, kind: pl.DataType
) -> None:
    frame = snapshots(weeks=1).with_columns(orders_90d=pl.lit(None, kind))
    with pytest.raises(MissingFeatureError, match=r"no numbers: orders_90d \(\w+"):
        model.predict(frame)
    numbers = snapshots(weeks=1).with_columns(pl.col("orders_90d").cast(pl.String))
    with pytest.raises(MissingFeatureError, match=r"no numbers: orders_90d \(String\)"):
        model.predict(numbers)


def test_features_are_taken_by_name_whatever_their_order_width_and_company(
    model: PropensityModel, snapshots: Snapshots
) -> None:
    frame = snapshots(weeks=1)
    expected = model.predict(frame)
    for same in (
        frame.select(reversed(frame.columns)),
        frame.with_columns(a_new_feature=pl.lit(3.0), another=pl.lit("x")),
        frame.with_columns(pl.col("orders_90d", "recency_days").cast(pl.Int16)),
        frame.with_columns(pl.col("orders_90d").cast(pl.Decimal(18, 2))),
    ):
        np.testing.assert_array_equal(model.predict(same), expected)


def test_nobody_gets_no_prediction(model: PropensityModel, snapshots: Snapshots) -> None:
    assert model.predict(snapshots(weeks=1).clear()).shape == (0,)


def test_contributions_add_up_to_the_log_odds_of_the_score(
    model: PropensityModel, snapshots: Snapshots
) -> None:
    frame = snapshots(weeks=1).head(5)
    for calibrated in (model, replace(model, platt=(1.7, -0.4))):
        sums = [sum(row.values()) for row in calibrated.contributions(frame)]
        p = calibrated.predict(frame)
        np.testing.assert_allclose(sums, np.log(p / (1 - p)))


def test_calibration_moves_the_probability_and_not_the_order(
    model: PropensityModel, snapshots: Snapshots
) -> None:
    frame = snapshots(weeks=1)
    bolder = replace(model, platt=(2 * model.platt[0], model.platt[1] + 1))
    np.testing.assert_array_equal(
        np.argsort(model.predict(frame), kind="stable"),
        np.argsort(bolder.predict(frame), kind="stable"),
    )
