"""A trained propensity model: LightGBM's own text, Platt's curve, and what belongs to them.

Never a pickle: a model file is read only if it has the SHA-256 that was recorded for it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from promo_assets.learning.tracking import ModelFileError
from promo_assets.propensity.dataset import feature_matrix

BOOSTER = "booster.txt"
MANIFEST = "manifest.json"
TESTED = "tested"
ROWS_AT_ONCE = 65_536
"""Rows of a matrix that is scored: LightGBM copies it, and a million rows would take 4 GB."""
BASE = "base"
"""Of `PropensityModel.contributions`: the mean over what the model learned from, no feature's."""


@dataclass(frozen=True)
class PropensityModel:
    """``platt`` is (slope, intercept) on the booster's margin (log-odds).

    ``cut_off`` is the last day that was known when it was trained; ``fitted_until`` the last day
    whose labels were used to fit it. ``tested`` is the model whose test gave the figures, where
    this one was fitted to the test part as well.
    """

    booster_text: str
    features: tuple[str, ...]
    platt: tuple[float, float]
    threshold: float
    horizon: int
    cut_off: date
    fitted_until: date
    tested: PropensityModel | None = None

    @cached_property
    def booster(self) -> Any:
        import lightgbm

        return lightgbm.Booster(model_str=self.booster_text)

    def margin(self, frame: pl.DataFrame) -> np.ndarray:
        """Uncalibrated log-odds, shape (rows,)."""
        margin = np.zeros(frame.height)
        for start in range(0, frame.height or 1, ROWS_AT_ONCE):
            matrix = feature_matrix(frame.slice(start, ROWS_AT_ONCE), self.features)
            if len(matrix):
                margin[start : start + len(matrix)] = self.booster.predict(matrix, raw_score=True)
        return margin

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        """Calibrated probability of a purchase within the horizon, shape (rows,).

        Raises `MissingFeatureError` when a feature is missing.
        """
        slope, intercept = self.platt
        return 1 / (1 + np.exp(-(slope * self.margin(frame) + intercept)))

    def shap(self, frame: pl.DataFrame) -> np.ndarray:
        """Exact SHAP values of the calibrated log-odds, shape (rows, features + 1): by feature, and
        the mean over what the model learned from. Each row's sum is the log-odds of `predict`
        (TreeSHAP, Lundberg 2020; Platt's curve is linear).

        Slow: a few hundred rows take 0.1 s. Raises `MissingFeatureError` when a feature is missing.
        """
        slope, intercept = self.platt
        matrix = feature_matrix(frame, self.features)
        values: np.ndarray = slope * np.asarray(self.booster.predict(matrix, pred_contrib=True))
        values[:, -1] += intercept
        return values

    def contributions(self, frame: pl.DataFrame) -> list[dict[str, float]]:
        """Each row of `shap` by feature, the mean under `BASE`."""
        names = (*self.features, BASE)
        return [dict(zip(names, row, strict=True)) for row in self.shap(frame).tolist()]

    @property
    def sha256(self) -> str:
        """Of everything that decides a prediction, of the tested model too."""
        return hashlib.sha256((self.booster_text + self._manifest()).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write the model as two text files, and the tested one into a folder beside them."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / BOOSTER).write_text(self.booster_text, encoding="utf-8")
        (folder / MANIFEST).write_text(self._manifest(), encoding="utf-8")
        if self.tested is not None:
            self.tested.save(folder / TESTED)

    @classmethod
    def load(cls, folder: Path, sha256: str) -> PropensityModel:
        """Read a saved model. Raises `ModelFileError` unless it has the recorded SHA-256."""
        try:
            text = (folder / BOOSTER).read_text(encoding="utf-8")
            told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            model = cls(
                booster_text=text,
                features=tuple(told["features"]),
                platt=(told["platt"][0], told["platt"][1]),
                threshold=told["threshold"],
                horizon=told["horizon"],
                cut_off=date.fromisoformat(told["cut_off"]),
                fitted_until=date.fromisoformat(told["fitted_until"]),
                tested=(
                    cls.load(folder / TESTED, told["tested_sha256"])
                    if "tested_sha256" in told
                    else None
                ),
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ModelFileError(f"{folder}: the model can't be read ({error!r})") from error
        if model.sha256 != sha256:
            raise ModelFileError(
                f"{folder}: SHA-256 is {model.sha256}, recorded was {sha256}: the model was "
                "changed after training. Restore it, or train its week again"
            )
        return model

    def _manifest(self) -> str:
        return json.dumps(
            {
                "features": self.features,
                "platt": self.platt,
                "threshold": self.threshold,
                "horizon": self.horizon,
                "cut_off": self.cut_off.isoformat(),
                "fitted_until": self.fitted_until.isoformat(),
                **({"tested_sha256": self.tested.sha256} if self.tested else {}),
            },
            indent=1,
        )
