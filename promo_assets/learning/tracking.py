"""MLflow: one training = one run, one version of a registered model, plots and all.

The tracking store is always named, never MLflow's default in the current folder. What needs
MLflow imports it inside functions: it takes seconds. Not here: what a model's training has to
tell (``propensity/record.py``).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"
"""The tag by which MLflow's UI opens an experiment in the layout for model training, with metrics
as columns; without it it guesses."""
PARENT = "mlflow.parentRunId"
"""The tag by which MLflow's UI shows a run inside another."""
MODEL_FOLDER = "model"
"""Where the model's own files lie among the artifacts of its run."""


class ModelFileError(RuntimeError):
    """A model's files are missing or are not those that were recorded."""


@dataclass(frozen=True)
class Registry:
    """Where models of one kind are kept: MLflow's experiment and its registered model."""

    experiment: str
    model: str
    description: str


@dataclass(frozen=True)
class Record:
    """What is kept of one training: ``write`` writes its files into a folder, the model's own into
    `MODEL_FOLDER`; ``sha256`` is of those; ``version_tags`` go to the registered version."""

    name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    write: Callable[[Path], None]
    sha256: str
    version_tags: Mapping[str, str]


@dataclass(frozen=True)
class Note:
    """What is kept of an evaluation that makes no model: ``metrics`` are single numbers, ``steps``
    one number for each step, such as each fold; no name may be in both. ``write`` writes its files,
    if any, into a folder."""

    name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    steps: Mapping[str, Sequence[float]] = field(default_factory=dict)
    write: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Logged:
    """Where a training can be found again."""

    run_id: str
    model_version: int
    sha256: str


@dataclass(frozen=True)
class Tracking:
    """The MLflow store of an installation, as models of one kind use it: ``uri`` is its database,
    ``artifacts`` a folder."""

    uri: str
    artifacts: Path
    registry: Registry

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

    def log(self, record: Record, tags: Mapping[str, str]) -> Logged:
        """Log a training as a new run and register its model as a new version.

        Training again gives another run and version; which one counts is the caller's business.
        """
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, 0) for name, value in sorted(record.metrics.items())]
        params = [Param(name, str(value)) for name, value in sorted(record.params.items())]
        run = self.client.create_run(
            self._experiment(), run_name=record.name, tags={**tags, "sha256": record.sha256}
        )
        run_id = run.info.run_id
        try:
            self.client.log_batch(run_id, metrics=metrics, params=params)
            with tempfile.TemporaryDirectory() as folder:
                record.write(Path(folder))
                self.client.log_artifacts(run_id, folder)
            version = self._register(run_id, record)
        except BaseException:
            self.client.set_terminated(run_id, "FAILED")
            raise
        self.client.log_batch(run_id, tags=[RunTag("model_version", str(version))])
        self.client.set_terminated(run_id, "FINISHED")
        return Logged(run_id, version, record.sha256)

    def note(self, name: str, params: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
        """Log an evaluation that makes no model as a new run; its id."""
        return self.keep(Note(name, params, metrics), {})

    def keep(self, note: Note, tags: Mapping[str, str]) -> str:
        """Log ``note`` with its files as a new run; its id."""
        run_id = self._noted(note, tags)
        self.client.set_terminated(run_id, "FINISHED")
        return run_id

    def note_nested(self, parent: Note, children: Sequence[Note]) -> tuple[str, list[str]]:
        """Log a comparison as a run and each thing compared as a run nested in it; their ids."""
        run_id = self._noted(parent, {})
        nested = [self._noted(child, {PARENT: run_id}) for child in children]
        for one in (*nested, run_id):
            self.client.set_terminated(one, "FINISHED")
        return run_id, nested

    @contextmanager
    def model_files(self, version: int) -> Iterator[Path]:
        """The folder of a registered version's own files, for the time of the block.

        Raises `ModelFileError` when there is no such version.
        """
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        with tempfile.TemporaryDirectory() as folder:
            try:
                found = self.client.get_model_version(self.registry.model, str(version))
                place = download_artifacts(
                    artifact_uri=f"runs:/{found.run_id}/{MODEL_FOLDER}",
                    dst_path=folder,
                    tracking_uri=self.uri,
                )
            except MlflowException as error:
                raise ModelFileError(
                    f"version {version} of {self.registry.model} is not in MLflow ({self.uri}): "
                    f"{error.message}"
                ) from error
            yield Path(place)

    def set_champion(self, version: int) -> None:
        """Point the alias ``champion`` at a version."""
        self.client.set_registered_model_alias(self.registry.model, CHAMPION, str(version))

    def champion_version(self) -> int | None:
        """The version that the alias points at, or None."""
        from mlflow.exceptions import MlflowException

        try:
            return int(
                self.client.get_model_version_by_alias(self.registry.model, CHAMPION).version
            )
        except MlflowException:
            return None

    def runs_before(self, time: datetime, kept: Collection[int]) -> list[str]:
        """The trainings that began before ``time`` and whose versions are not in ``kept``."""
        from mlflow.entities import ViewType

        found = self.client.get_experiment_by_name(self.registry.experiment)
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
                self.client.delete_model_version(self.registry.model, str(version))
            if run.info.lifecycle_stage == "active":
                self.client.delete_run(run_id)
            store._hard_delete_run(run_id)  # What `mlflow gc` does.
            folder = Path(unquote(urlparse(run.info.artifact_uri).path)).parent
            if self.artifacts.resolve() in folder.parents:
                shutil.rmtree(folder, ignore_errors=True)

    def _noted(self, note: Note, tags: Mapping[str, str]) -> str:
        """A new run that holds ``note`` and has not ended."""
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        run = self.client.create_run(self._experiment(), run_name=note.name, tags=dict(tags))
        run_id = str(run.info.run_id)
        single = [Metric(key, value, now, 0) for key, value in sorted(note.metrics.items())]
        stepped = [
            Metric(key, value, now, step)
            for key, values in sorted(note.steps.items())
            for step, value in enumerate(values)
        ]
        self.client.log_batch(
            run_id,
            metrics=[*single, *stepped],
            params=[Param(key, str(value)) for key, value in sorted(note.params.items())],
        )
        if note.write is not None:
            with tempfile.TemporaryDirectory() as folder:
                note.write(Path(folder))
                self.client.log_artifacts(run_id, folder)
        return run_id

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.registry.experiment)
        if found is not None:
            if found.tags.get(KIND) != TRAINING:
                self.client.set_experiment_tag(found.experiment_id, KIND, TRAINING)
            return str(found.experiment_id)
        place = (self.artifacts / self.registry.experiment).resolve()
        place.mkdir(parents=True, exist_ok=True)
        return str(
            self.client.create_experiment(
                self.registry.experiment,
                artifact_location=place.as_uri(),
                tags={KIND: TRAINING},
            )
        )

    def _register(self, run_id: str, record: Record) -> int:
        from mlflow.exceptions import MlflowException

        name = self.registry.model
        try:
            self.client.get_registered_model(name)
        except MlflowException:
            self.client.create_registered_model(name, description=self.registry.description)
        run = self.client.get_run(run_id)
        version = self.client.create_model_version(
            name,
            source=f"{run.info.artifact_uri}/{MODEL_FOLDER}",
            run_id=run_id,
            tags={**record.version_tags, "sha256": record.sha256},
        )
        return int(version.version)
