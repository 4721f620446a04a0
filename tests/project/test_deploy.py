"""The instance files: Dagster accepts both, the local one as it is used."""

import shutil
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef

from promo_assets.contract.project import PROJECT
from promo_assets.orchestration.event_log import BatchedSqliteEventLogStorage
from promo_assets.orchestration.runs import RunError, open_instance
from promo_assets.settings import Settings


def test_the_production_instance_is_valid_and_keeps_everything_in_postgres(tmp_path: Path) -> None:
    shutil.copyfile(PROJECT / "deploy" / "dagster.yaml", tmp_path / "dagster.yaml")
    ref = InstanceRef.from_dir(str(tmp_path))
    assert ref.storage_data.class_name == "DagsterPostgresStorage"
    assert ref.run_coordinator_data.class_name == "QueuedRunCoordinator"
    assert ref.settings["concurrency"]["pools"] == {"default_limit": 1, "granularity": "op"}


def test_the_local_instance_batches_its_events_and_stays_in_its_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("DAGSTER_HOME", "PROMO_HOME", "PROMO_EVENT_LOG", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(variable, "")
    with open_instance(Settings(home=tmp_path / "home").places) as instance:
        assert isinstance(instance, dg.DagsterInstance)
        assert isinstance(instance.event_log_storage, BatchedSqliteEventLogStorage)
        assert instance.telemetry_enabled is False
    assert (tmp_path / "home" / "dagster" / "history" / "runs" / "index.db").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_broken_instance_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DAGSTER_HOME", "PROMO_HOME", "PROMO_EVENT_LOG"):
        monkeypatch.setenv(variable, "")
    place = tmp_path / "dagster"
    place.mkdir()
    (place / "dagster.yaml").write_text("concurency: {}")
    with (
        pytest.raises(RunError, match=r"dagster\.yaml: Dagster can't open its instance"),
        open_instance(Settings(home=tmp_path).places),
    ):
        pass
