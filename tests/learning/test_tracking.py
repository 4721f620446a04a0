from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from mlflow import MlflowClient

from promo_assets.learning.tracking import CHAMPION, ModelFileError, Note, Tracking
from promo_assets.propensity.record import PROPENSITY, load_model, record_of
from promo_assets.propensity.training import RFM, TrainingResult, TrainingSettings, train

TAGS = {"dagster_run_id": "r1", "partition": "2024-02-26", "gates": "12 passed, 0 failed"}
PLOTS = {"roc", "precision_recall", "calibration", "gain", "importance", "dependence"}


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    rows, users = 2400, 300
    columns: dict[str, np.ndarray] = {name: rng.normal(size=rows) for name in RFM}
    buys = rng.random(rows) < 1 / (1 + np.exp(-columns["orders_90d"]))
    days = [date(2024, 1, 7) + timedelta(weeks=row // users) for row in range(rows)]
    people = [f"u{row % users}" for row in range(rows)]
    return pl.DataFrame({"as_of_date": days, "user_id": people, "label": buys, **columns})


@pytest.fixture(scope="module")
def result(frame: pl.DataFrame) -> TrainingResult:
    return train(frame, TrainingSettings(date(2024, 3, 3), threads=1))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    """One store for the module: MLflow takes seconds to create its database."""
    home = tmp_path_factory.mktemp("mlflow")
    return Tracking(f"sqlite:///{home / 'mlflow.db'}", home / "mlartifacts", PROPENSITY)


@pytest.fixture(scope="module")
def client(store: Tracking) -> MlflowClient:
    """The oracle: MLflow as anyone would open it."""
    return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)


def test_a_training_becomes_a_finished_run_with_all_that_is_known_of_it(
    store: Tracking, client: MlflowClient, result: TrainingResult
) -> None:
    logged = store.log(record_of(result), TAGS)
    run = client.get_run(logged.run_id)
    experiment = client.get_experiment_by_name(PROPENSITY.experiment)
    assert experiment is not None
    assert run.info.experiment_id == experiment.experiment_id
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx({**result.metrics, **result.confusion})
    assert {"auc_low", "recency_auc", "frequency_auc", "logistic_auc", "gain_10"} <= set(
        run.data.metrics
    )
    assert run.data.params["cut_off"] == "2024-03-03"
    assert run.data.params["test.first"] == str(result.split["test"]["first"])
    assert run.data.params["lightgbm.num_leaves"] == "8"
    assert run.data.params["figures_of"].startswith("model/tested;")
    assert {name: run.data.tags[name] for name in TAGS} == TAGS
    assert run.data.tags["sha256"] == result.model.sha256


def test_a_run_holds_its_plots_its_confusion_matrix_and_a_model_without_pickles(
    store: Tracking, client: MlflowClient, result: TrainingResult, tmp_path: Path
) -> None:
    logged = store.log(record_of(result), TAGS)
    folder = Path(client.download_artifacts(logged.run_id, "", str(tmp_path)))
    assert {path.stem for path in (folder / "plots").glob("*.png")} == PLOTS
    assert json.loads((folder / "confusion.json").read_text()) == result.confusion
    importance = pl.read_csv(folder / "attention" / "features.csv")
    assert dict(importance.select("feature", "mean_absolute_shap").iter_rows()) == pytest.approx(
        result.attention.features
    )
    topics = pl.read_csv(folder / "attention" / "topics.csv")
    assert topics["topic"].to_list() == [*result.attention.topics]
    dependence = pl.read_csv(folder / "attention" / "dependence.csv")
    assert dependence.height == sum(len(told) for told, _ in result.attention.dependence.values())
    kept = [path for path in (folder / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} == {".txt", ".json"}


def test_a_training_becomes_a_registered_version_that_leads_back_to_its_run(
    store: Tracking, client: MlflowClient, result: TrainingResult, frame: pl.DataFrame
) -> None:
    logged = store.log(record_of(result), TAGS)
    version = client.get_model_version(PROPENSITY.model, str(logged.model_version))
    assert version.run_id == logged.run_id
    assert version.tags["sha256"] == logged.sha256 == result.model.sha256
    loaded = load_model(store, logged.model_version, logged.sha256)
    assert loaded == result.model
    np.testing.assert_array_equal(loaded.predict(frame), result.model.predict(frame))


def test_training_a_week_again_is_a_new_run_and_a_new_version(
    store: Tracking, result: TrainingResult
) -> None:
    first, second = (store.log(record_of(result), TAGS) for _ in range(2))
    assert first.run_id != second.run_id
    assert second.model_version == first.model_version + 1
    assert first.sha256 == second.sha256


def test_a_model_that_was_changed_in_the_store_is_refused(
    store: Tracking, client: MlflowClient, result: TrainingResult
) -> None:
    logged = store.log(record_of(result), TAGS)
    uri = client.get_run(logged.run_id).info.artifact_uri
    booster = Path(uri.removeprefix("file://")) / "model" / "booster.txt"
    booster.write_text(booster.read_text().replace("leaf_value=", "leaf_value=9", 1))
    with pytest.raises(ModelFileError, match="changed after training"):
        load_model(store, logged.model_version, logged.sha256)


def test_an_unknown_version_is_named(store: Tracking, result: TrainingResult) -> None:
    store.log(record_of(result), TAGS)
    with pytest.raises(ModelFileError, match=f"version 999 of {PROPENSITY.model}"):
        load_model(store, 999, result.model.sha256)


def test_the_champion_is_an_alias_that_moves(
    store: Tracking, client: MlflowClient, result: TrainingResult
) -> None:
    first, second = (store.log(record_of(result), TAGS).model_version for _ in range(2))
    store.set_champion(first)
    assert store.champion_version() == first
    store.set_champion(second)
    assert store.champion_version() == second
    assert int(client.get_model_version_by_alias(PROPENSITY.model, CHAMPION).version) == second


def test_a_store_without_a_champion_has_none(tmp_path: Path) -> None:
    store = Tracking(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlartifacts", PROPENSITY)
    assert store.champion_version() is None


def test_a_training_that_can_not_be_written_is_a_failed_run(
    store: Tracking, client: MlflowClient, result: TrainingResult, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    broken = Tracking(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlartifacts", PROPENSITY)
    experiment = broken.client.create_experiment(
        PROPENSITY.experiment, artifact_location=blocked.as_uri()
    )
    with pytest.raises(OSError, match="file"):
        broken.log(record_of(result), TAGS)
    (run,) = broken.client.search_runs([experiment])
    assert run.info.status == "FAILED"


def test_nothing_is_written_to_the_current_folder(
    store: Tracking, result: TrainingResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    logged = store.log(record_of(result), TAGS)
    load_model(store, logged.model_version, logged.sha256)
    assert list(tmp_path.iterdir()) == []


def test_old_trainings_that_were_never_in_force_can_be_removed_for_good(
    tmp_path: Path, result: TrainingResult
) -> None:
    store = Tracking(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlartifacts", PROPENSITY)
    champion, kept, gone = (store.log(record_of(result), TAGS) for _ in range(3))
    store.set_champion(champion.model_version)
    before, now = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(minutes=1)
    assert store.runs_before(before, {kept.model_version}) == []
    assert set(store.runs_before(now, {kept.model_version})) == {champion.run_id, gone.run_id}
    store.remove_runs([champion.run_id, gone.run_id])
    for logged in (champion, kept):
        load_model(store, logged.model_version, logged.sha256)
    with pytest.raises(ModelFileError):
        load_model(store, gone.model_version, gone.sha256)
    assert store.runs_before(now, ()) == [kept.run_id, champion.run_id]
    assert not list(store.artifacts.rglob(f"*{gone.run_id}*"))
    assert store.champion_version() == champion.model_version


def test_a_comparison_is_a_run_with_each_thing_compared_nested_in_it(
    store: Tracking, client: MlflowClient
) -> None:
    parent, nested = store.note_nested(
        Note("compared", {"seed": 1}, {"best_log_loss": 0.5}),
        [
            Note(name, {"depth": depth}, {"log_loss": loss}, {"fold_log_loss": [loss, loss + 1]})
            for name, depth, loss in (("tree", 3, 0.6), ("forest", 9, 0.5))
        ],
    )
    run = client.get_run(parent)
    assert (run.info.run_name, run.info.status) == ("compared", "FINISHED")
    assert run.data.metrics == {"best_log_loss": 0.5}
    assert "mlflow.parentRunId" not in run.data.tags
    found = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert {child.info.run_id for child in found} == set(nested)
    tree = client.get_run(nested[0])
    assert (tree.info.run_name, tree.info.status) == ("tree", "FINISHED")
    assert tree.data.params == {"depth": "3"}
    assert tree.data.metrics["log_loss"] == 0.6
    history = client.get_metric_history(nested[0], "fold_log_loss")
    assert sorted((one.step, one.value) for one in history) == [(0, 0.6), (1, 1.6)]
