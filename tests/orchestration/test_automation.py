"""When things run: conditions on an ephemeral instance, schedules, the failure message, retries."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from pydantic import SecretStr

from promo_assets import installation
from promo_assets.definitions import build_definitions, build_tables
from promo_assets.orchestration import table_asset as table_module
from promo_assets.orchestration.automation import failure_message, following, reason
from promo_assets.orchestration.resources import WarehouseResource
from promo_assets.orchestration.table_asset import table_asset
from promo_assets.settings import Settings
from promo_assets.tables.table import Production, ProductionError, Table

NOW = datetime(2024, 1, 10, 6, tzinfo=UTC)
NEWEST, WEEK = "2024-01-09", "2024-01-01"
SECRET = "s3cret-path"
LOCKER = """
import duckdb, sys, time
connection = duckdb.connect(sys.argv[1])
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    return Settings(home=home, start=date(2024, 1, 1), source=f"files:{home}", threads=1)


@pytest.fixture(scope="module")
def definitions(settings: Settings) -> dg.Definitions:
    return build_definitions(settings)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


class Follower:
    """The sensor's view of `definitions`: ticks, and what happened between them."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.definitions, self.instance, self.cursor = definitions, instance, None
        self.graph = definitions.resolve_asset_graph()

    def made(self, name: str, *partitions: str | None) -> None:
        key = dg.AssetKey(name.split("/"))
        for partition in partitions or (None,):
            event = dg.AssetMaterialization(key, partition=partition)
            self.instance.report_runless_asset_event(event)

    def gate(self, name: str, partition: str | None, *, passed: bool) -> None:
        """What the gate said of the newest materialisation."""
        key = dg.AssetKey(name.split("/"))
        wanted = dg.AssetRecordsFilter(key, asset_partitions=[partition] if partition else None)
        (newest,) = self.instance.fetch_materializations(wanted, limit=1).records
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key,
                target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
                    storage_id=newest.storage_id, run_id=newest.run_id, timestamp=newest.timestamp
                ),
                check_name="gate",
                passed=passed,
                severity=dg.AssetCheckSeverity.ERROR,
                metadata={},
                partition=partition,
                blocking=True,
            )
        )

    def passed(self, name: str, *partitions: str | None) -> None:
        """Materialised, and let through by the gate if there is one."""
        self.made(name, *partitions)
        if self.graph.get(dg.AssetKey(name.split("/"))).check_keys:
            for partition in partitions or (None,):
                self.gate(name, partition, passed=True)

    def inputs(self, name: str) -> None:
        """Materialise all partitions of everything that ``name`` reads."""
        for key in self.graph.get(dg.AssetKey(name.split("/"))).parent_keys:
            partitions = self.graph.get(key).partitions_def
            keys = partitions.get_partition_keys(NOW) if partitions else [None]
            if key.to_user_string() == name:  # It reads its own past.
                keys = keys[:-1]
            self.passed(key.to_user_string(), *keys)

    def asked(self, name: str) -> set[str]:
        """The partitions of ``name`` that a tick asks for."""
        key = dg.AssetKey(name.split("/"))
        result = dg.evaluate_automation_conditions(
            self.definitions,
            self.instance,
            asset_selection=dg.AssetSelection.assets(key),
            evaluation_time=NOW,
            cursor=self.cursor,
        )
        self.cursor = result.cursor
        return set(result.get_requested_partitions(key))


@pytest.fixture
def follower(definitions: dg.Definitions, instance: dg.DagsterInstance) -> Follower:
    return Follower(definitions, instance)


DAYS = {f"2024-01-{day:02}" for day in range(1, 10)}


@pytest.mark.parametrize(
    "name", ["propensity/scores", "strategy/budget_prices", "report/daily_report"]
)
def test_a_decision_follows_its_inputs_once(follower: Follower, name: str) -> None:
    assert follower.asked(name) == set()
    follower.inputs(name)
    assert follower.asked(name) == DAYS
    assert follower.asked(name) == set()


def test_a_decision_waits_for_the_last_of_its_inputs(follower: Follower) -> None:
    follower.asked("propensity/scores")
    follower.passed("features/user_features", NEWEST)
    assert follower.asked("propensity/scores") == set()
    follower.passed("propensity/champions", WEEK)
    assert follower.asked("propensity/scores") == {NEWEST}


@pytest.mark.parametrize(("passed", "asked"), [(True, {NEWEST}), (False, set())])
def test_a_decision_holds_back_behind_a_failed_gate(
    follower: Follower, passed: bool, asked: set[str]
) -> None:
    follower.asked("propensity/scores")
    follower.passed("propensity/champions", WEEK)
    follower.made("features/user_features", NEWEST)
    follower.gate("features/user_features", NEWEST, passed=passed)
    assert follower.asked("propensity/scores") == asked


def test_a_gate_of_an_older_materialisation_does_not_count(follower: Follower) -> None:
    follower.asked("propensity/scores")
    follower.passed("propensity/champions", WEEK)
    follower.passed("features/user_features", NEWEST)
    follower.made("features/user_features", NEWEST)
    assert follower.asked("propensity/scores") == set()


def test_a_day_that_waited_for_a_repair_is_made_up_for(follower: Follower) -> None:
    """Days after a bad one are there; its own features come when it is repaired."""
    follower.passed("propensity/champions", WEEK)
    follower.passed("features/user_features", NEWEST)
    follower.asked("propensity/scores")
    follower.passed("propensity/scores", NEWEST)
    assert follower.asked("propensity/scores") == set()
    follower.passed("features/user_features", "2024-01-05")
    assert follower.asked("propensity/scores") == {"2024-01-05"}
    assert follower.asked("propensity/scores") == set()


def test_a_week_whose_training_has_failed_is_made_up_for_once_its_inputs_are_there(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    follower = Follower(definitions, instance)
    name = "propensity/training_set"
    days = [f"2024-01-{day:02}" for day in range(1, 8)]
    follower.passed("core/calendar")
    follower.passed("features/user_daily", *days)
    follower.passed("features/user_features", *days[:-1])
    assert follower.asked(name) == set()
    job = definitions.resolve_job_def("weekly_training")
    run = instance.create_run_for_job(
        job, tags={"dagster/partition": WEEK}, status=dg.DagsterRunStatus.STARTED
    )
    instance.report_run_failed(run)
    assert follower.asked(name) == set()
    follower.passed("features/user_features", days[-1])
    assert follower.asked(name) == {WEEK}


@pytest.mark.parametrize("day", ["2024-01-08", "2024-01-10", "2024-01-14"])
def test_a_days_scores_read_the_champion_of_the_week_before(
    definitions: dg.Definitions, day: str
) -> None:
    graph = definitions.resolve_asset_graph()
    scores, champions = (
        dg.AssetKey(["propensity", "scores"]),
        dg.AssetKey(["propensity", "champions"]),
    )
    mapping = graph.get_partition_mapping(scores, champions)
    days, weeks = graph.get(scores).partitions_def, graph.get(champions).partitions_def
    assert days is not None
    assert weeks is not None
    read = mapping.get_upstream_mapped_partitions_result_for_partitions(
        days.empty_subset().with_partition_keys([day]), days, weeks
    )
    assert set(read.partitions_subset.get_partition_keys()) == {WEEK}


def test_scheduled_tables_follow_nothing(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    by_group = {
        group: {
            graph.get(key).automation_condition is None
            for key in graph.get_all_asset_keys()
            if graph.get(key).group_name == group
            and not isinstance(graph.get(key).partitions_def, dg.WeeklyPartitionsDefinition)
        }
        for group in ("events", "features", "profiles", "segments", "strategy", "report")
    }
    assert by_group == {
        **{group: {True} for group in ("events", "features", "profiles")},
        **{group: {False} for group in ("segments", "strategy", "report")},
    }
    assert following().get_label()


@pytest.mark.parametrize(
    ("name", "tick", "partition"),
    [
        ("daily_tables_schedule", datetime(2024, 3, 1, 2, tzinfo=UTC), "2024-02-29"),
        ("daily_tables_schedule", datetime(2024, 1, 2, 2, tzinfo=UTC), "2024-01-01"),
        ("weekly_training_schedule", datetime(2024, 1, 15, 4, tzinfo=UTC), "2024-01-08"),
        ("weekly_training_schedule", datetime(2024, 1, 8, 4, tzinfo=UTC), "2024-01-01"),
    ],
)
def test_a_schedule_asks_for_the_day_or_week_that_just_ended(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    name: str,
    tick: datetime,
    partition: str,
) -> None:
    schedule = definitions.resolve_schedule_def(name)
    context = dg.build_schedule_context(
        instance,
        scheduled_execution_time=tick,
        repository_def=definitions.get_repository_def(),
    )
    told = schedule.evaluate_tick(context)
    assert [request.partition_key for request in told.run_requests or ()] == [partition]


def failed_run(instance: dg.DagsterInstance) -> dg.RunFailureSensorContext:
    """A run that really failed, and what a sensor is told of it."""

    @dg.asset(partitions_def=dg.DailyPartitionsDefinition("2024-01-01"))
    def orders() -> None:
        raise dg.Failure(description="a/b.csv: can't be read as csv. Repair or remove the file")

    @dg.asset
    def items() -> None:
        try:
            int("many")
        except ValueError as error:
            raise RuntimeError("items can't be counted") from error

    job = dg.Definitions(
        [orders, items], jobs=[dg.define_asset_job("daily_tables")]
    ).resolve_job_def("daily_tables")
    result = job.execute_in_process(
        instance=instance, raise_on_error=False, partition_key="2024-01-03"
    )
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    return dg.build_run_status_sensor_context(
        sensor_name="tell_failures",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=instance,
        dagster_run=run,
    ).for_run_failure()


def test_the_failure_message_says_what_failed_why_and_where_to_look(
    instance: dg.DagsterInstance,
) -> None:
    context = failed_run(instance)
    lines = failure_message(context).splitlines()
    run = context.dagster_run.run_id
    assert lines[0] == f"Run {run[:8]} of daily_tables failed (2024-01-03)."
    assert "- orders: a/b.csv: can't be read as csv. Repair or remove the file" in lines
    assert "- items: RuntimeError: items can't be counted" in lines
    assert lines[-1] == f"Published data is unchanged. Look at /runs/{run} in the Dagster UI."
    assert "Traceback" not in "\n".join(lines)


class Chat(BaseHTTPRequestHandler):
    """A chat service that keeps what it is sent."""

    got: list[tuple[str, str | None, Any]]
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).got.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: pytest's output is no access log."""


@pytest.fixture
def chat() -> Iterator[HTTPServer]:
    Chat.got, Chat.status = [], 200
    server = HTTPServer(("127.0.0.1", 0), Chat)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def tell(settings: Settings, instance: dg.DagsterInstance, url: str) -> None:
    told = settings.model_copy(update={"webhook": SecretStr(url)})
    sensor = build_definitions(told).resolve_sensor_def("tell_failures")
    assert isinstance(sensor, dg.RunStatusSensorDefinition)
    sensor(failed_run(instance))


def test_the_webhook_gets_the_message_as_json_and_its_url_stays_secret(
    settings: Settings,
    instance: dg.DagsterInstance,
    chat: HTTPServer,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tell(settings, instance, f"http://127.0.0.1:{chat.server_port}/{SECRET}")
    ((path, kind, body),) = Chat.got
    assert (path, kind) == (f"/{SECRET}", "application/json")
    assert "of daily_tables failed (2024-01-03)." in body["text"]
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/" + SECRET, SECRET, "http://\n" + SECRET])
def test_a_webhook_that_cant_be_reached_is_told_without_its_url(
    settings: Settings, instance: dg.DagsterInstance, url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tell(settings, instance, url)
    told = "".join(capfd.readouterr())
    assert "PROMO_WEBHOOK did not take the message" in told
    assert SECRET not in told


def retries(table: Table, settings: Settings, *, home: Path) -> tuple[bool, int, list[str]]:
    """Whether materialising a table succeeded, how often it was retried, and why it failed."""
    own = settings.model_copy(update={"home": home})
    warehouse = WarehouseResource.of(replace(installation.warehouse(own), retry=False))
    result = dg.materialize(
        [table_asset(table, installation.partitions(own), own.places.data_docs, {})],
        resources={"warehouse": warehouse},
        raise_on_error=False,
    )
    events = result.all_events
    again = sum(event.event_type_value == "STEP_UP_FOR_RETRY" for event in events)
    return result.success, again, [reason(event) for event in events if event.is_step_failure]


@pytest.fixture(scope="module")
def kinds(settings: Settings) -> Table:
    """A table without inputs: core.event_types."""
    tables = {table.contract.table: table for table in build_tables(settings)}
    return tables["core.event_types"]


def test_another_processs_lock_is_waited_for(
    settings: Settings, kinds: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "RETRY_SECONDS", 1)
    warehouse = tmp_path / "warehouse.duckdb"
    holder = subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(warehouse), "1.5"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        success, again, failures = retries(kinds, settings, home=tmp_path)
    finally:
        holder.kill()
        holder.wait()
    assert (success, failures) == (True, [])
    assert 1 <= again <= 2


def wrong_source(production: Production) -> pl.DataFrame:
    raise ProductionError("the source is wrong; correct it")


def wrong_columns(production: Production) -> pl.DataFrame:
    return pl.DataFrame({"colour": ["red"]})


@pytest.mark.parametrize(
    ("produce", "words"),
    [
        (wrong_source, "the source is wrong; correct it"),
        (wrong_columns, "the produced columns are not the contract's"),
    ],
)
def test_what_waiting_cant_mend_fails_at_once(
    settings: Settings, kinds: Table, tmp_path: Path, produce: Any, words: str
) -> None:
    success, again, failures = retries(replace(kinds, produce=produce), settings, home=tmp_path)
    assert (success, again) == (False, 0)
    assert words in failures[0]


def test_a_file_that_is_no_database_fails_at_once(
    settings: Settings, kinds: Table, tmp_path: Path
) -> None:
    (tmp_path / "warehouse.duckdb").write_text("not a database\n" * 100)
    success, again, failures = retries(kinds, settings, home=tmp_path)
    assert (success, again) == (False, 0)
    assert "not a readable DuckDB database" in failures[0]
