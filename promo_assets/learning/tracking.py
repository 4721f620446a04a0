"""MLflow: one training = one run, one version of the registered model, plots and all.

The tracking store is always named, never MLflow's default in the current folder. What needs
MLflow imports it inside functions: it takes seconds.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promo_assets.learning import evaluation
from promo_assets.propensity.model import ModelFileError, PropensityModel
from promo_assets.propensity.training import TrainingResult

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "propensity"
REGISTERED = "promo_propensity"
CHAMPION = "champion"
MODEL_FOLDER = "model"
TOP_FEATURES = 15


@dataclass(frozen=True)
class Logged:
    """Where a training can be found again."""

    run_id: str
    model_version: int
    sha256: str


@dataclass(frozen=True)
class Tracking:
    """The MLflow store of an installation: ``uri`` is its database, ``artifacts`` a folder."""

    uri: str
    artifacts: Path

    @cached_property
    def client(self) -> MlflowClient:
        import logging
        import os

        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def log_training(self, result: TrainingResult, tags: Mapping[str, str]) -> Logged:
        """Log a training as a new run and register its model as a new version.

        Training a week again gives another run and version; ``propensity.trainings`` holds the
        latest.
        """
        from mlflow.entities import RunTag

        run = self.client.create_run(
            self._experiment(),
            run_name=f"{result.settings.cut_off} propensity",
            tags={**tags, "sha256": result.model.sha256},
        )
        run_id = run.info.run_id
        try:
            self.client.log_batch(run_id, metrics=_metrics(result), params=_params(result))
            with tempfile.TemporaryDirectory() as folder:
                _write_artifacts(result, Path(folder))
                self.client.log_artifacts(run_id, folder)
            version = self._register(run_id, result)
        except BaseException:
            self.client.set_terminated(run_id, "FAILED")
            raise
        self.client.log_batch(run_id, tags=[RunTag("model_version", str(version))])
        self.client.set_terminated(run_id, "FINISHED")
        return Logged(run_id, version, result.model.sha256)

    def load_model(self, version: int, sha256: str) -> PropensityModel:
        """The registered model of a version, if its files have the recorded SHA-256.

        Raises `ModelFileError` when the version is unknown or its files differ.
        """
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_model_version(REGISTERED, str(version))
            with tempfile.TemporaryDirectory() as folder:
                place = download_artifacts(
                    artifact_uri=f"runs:/{found.run_id}/{MODEL_FOLDER}",
                    dst_path=folder,
                    tracking_uri=self.uri,
                )
                return PropensityModel.load(Path(place), sha256)
        except MlflowException as error:
            raise ModelFileError(
                f"version {version} of {REGISTERED} is not in MLflow ({self.uri}): {error.message}"
            ) from error

    def set_champion(self, version: int) -> None:
        """Point the alias ``champion`` at a version."""
        self.client.set_registered_model_alias(REGISTERED, CHAMPION, str(version))

    def champion_version(self) -> int | None:
        """The version that the alias points at, or None."""
        from mlflow.exceptions import MlflowException

        try:
            return int(self.client.get_model_version_by_alias(REGISTERED, CHAMPION).version)
        except MlflowException:
            return None

    def runs_before(self, time: datetime, kept: Collection[int]) -> list[str]:
        """The trainings that began before ``time`` and whose versions are not in ``kept``."""
        from mlflow.entities import ViewType

        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            return []
        began = f"attributes.start_time < {int(time.timestamp() * 1000)}"
        runs: list[str] = []
        token = None
        while True:
            page = self.client.search_runs(
                [found.experiment_id], began, ViewType.ALL, page_token=token
            )
            runs += [
                run.info.run_id
                for run in page
                if int(run.data.tags.get("model_version", -1)) not in kept
            ]
            token = page.token
            if not token:
                return runs

    def remove_runs(self, run_ids: Collection[str]) -> None:
        """Remove trainings for good: run, registered version and files. The version that the
        alias points at stays."""
        import shutil
        from urllib.parse import unquote, urlparse

        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        store = SqlAlchemyStore(self.uri, self.artifacts.resolve().as_uri())
        champion = self.champion_version()
        for run_id in run_ids:
            run = self.client.get_run(run_id)
            version = int(run.data.tags.get("model_version", -1))
            if version == champion:
                continue
            if version >= 0:
                self.client.delete_model_version(REGISTERED, str(version))
            if run.info.lifecycle_stage == "active":
                self.client.delete_run(run_id)
            store._hard_delete_run(run_id)  # What `mlflow gc` does.
            folder = Path(unquote(urlparse(run.info.artifact_uri).path)).parent
            if self.artifacts.resolve() in folder.parents:
                shutil.rmtree(folder, ignore_errors=True)

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        place = (self.artifacts / EXPERIMENT).resolve()
        place.mkdir(parents=True, exist_ok=True)
        return str(self.client.create_experiment(EXPERIMENT, artifact_location=place.as_uri()))

    def _register(self, run_id: str, result: TrainingResult) -> int:
        from mlflow.exceptions import MlflowException

        try:
            self.client.get_registered_model(REGISTERED)
        except MlflowException:
            self.client.create_registered_model(
                REGISTERED, description="Probability of a purchase within the horizon."
            )
        run = self.client.get_run(run_id)
        version = self.client.create_model_version(
            REGISTERED,
            source=f"{run.info.artifact_uri}/{MODEL_FOLDER}",
            run_id=run_id,
            tags={"cut_off": str(result.settings.cut_off), "sha256": result.model.sha256},
        )
        return int(version.version)


def _metrics(result: TrainingResult) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    values = {**result.metrics, **{name: float(n) for name, n in result.confusion.items()}}
    return [Metric(name, float(value), now, 0) for name, value in sorted(values.items())]


def _params(result: TrainingResult) -> list[Any]:
    from mlflow.entities import Param

    settings = result.settings
    values: dict[str, Any] = {f"lightgbm.{name}": v for name, v in settings.lightgbm.items()}
    values |= {
        "cut_off": settings.cut_off,
        "horizon_days": settings.horizon,
        "seed": settings.seed,
        "features": len(result.model.features),
    }
    for part, told in result.split.items():
        values |= {f"{part}.{name}": value for name, value in told.items()}
    return [Param(name, str(value)) for name, value in sorted(values.items())]


def _write_artifacts(result: TrainingResult, folder: Path) -> None:
    result.model.save(folder / MODEL_FOLDER)
    (folder / "confusion.json").write_text(json.dumps(dict(result.confusion), indent=1))
    (folder / "importance.json").write_text(json.dumps(dict(result.importance), indent=1))
    _write_plots(result, folder / "plots")


def _write_plots(result: TrainingResult, folder: Path) -> None:
    """ROC, precision-recall, calibration, gain and importance, each as a small PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir()
    y, p = result.test_labels, result.test_scores
    scores, shares, _ = evaluation.calibration_curve(y, p)
    fpr, tpr = evaluation.roc_curve(y, p)
    recall, precision = evaluation.precision_recall_curve(y, p)
    users, buyers = evaluation.gain_curve(y, p)
    auc = result.metrics["auc"]
    lines = {
        "roc": (fpr, tpr, "false positive rate", "true positive rate", f"AUC {auc:.4f}", True),
        "precision_recall": (recall, precision, "recall", "precision", "Precision-recall", False),
        "calibration": (scores, shares, "mean score", "share of buyers", "Calibration", True),
        "gain": (users, buyers, "share of users", "share of buyers reached", "Gain", True),
    }
    for name, (x, values, x_label, y_label, title, diagonal) in lines.items():
        figure = Figure(figsize=(4, 3.2), dpi=90, layout="constrained")
        axes = figure.add_subplot()
        axes.plot(_thin(x), _thin(values), marker="o" if name == "calibration" else None, ms=4)
        if diagonal:
            axes.plot([0, 1], [0, 1], lw=0.8, ls="--", color="grey")
        axes.set(xlabel=x_label, ylabel=y_label, title=title)
        FigureCanvasAgg(figure).print_png(str(folder / f"{name}.png"))
    top = list(result.importance.items())[:TOP_FEATURES][::-1]
    figure = Figure(figsize=(5, 4), dpi=90, layout="constrained")
    axes = figure.add_subplot()
    axes.barh([name for name, _ in top], [value for _, value in top])
    axes.set(title="Importance (total gain)")
    FigureCanvasAgg(figure).print_png(str(folder / "importance.png"))


def _thin(values: np.ndarray, points: int = 400) -> np.ndarray:
    """At most ``points`` of a curve's points, ends included."""
    if len(values) <= points:
        return values
    return values[np.linspace(0, len(values) - 1, points).astype(int)]
