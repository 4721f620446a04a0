"""Loading the definitions: what it touches, what it refuses, and the graph that comes of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from promo_assets import definitions, installation
from promo_assets.contract.project import PROJECT
from promo_assets.contract.tables import ContractError
from promo_assets.definitions import build_definitions
from promo_assets.settings import Settings
from promo_assets.warehouse.models.model import ModelError

GRAPH = Path(__file__).with_name("graph.json")
"""Every asset with its group, grid and inputs. After a wanted change of the graph write it anew:
``PROMO_WRITE_GRAPH=1 pytest tests/orchestration/test_definitions.py`` and read the difference."""

HEAVY = ("great_expectations", "mlflow", "lightgbm", "sklearn", "matplotlib", "scipy", "pandas")
PROBE = """
import sys
opened = []
def hook(event, arguments):
    if event == "open" and str(arguments[0]).startswith(sys.argv[1]):
        opened.append(str(arguments[0]))
    elif event in ("socket.connect", "socket.getaddrinfo"):
        opened.append(event)
sys.addaudithook(hook)
from promo_assets.definitions import build_definitions
build_definitions()
print(sorted(set(sys.argv[2].split(",")) & set(sys.modules)), opened)
"""


def load(tmp_path: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PROMO_HOME": str(tmp_path / "home"), **settings}
    return subprocess.run(
        [sys.executable, *command], env=environment, cwd=PROJECT, capture_output=True, text=True
    )


def test_loading_imports_nothing_heavy_opens_nothing_of_the_home_and_asks_no_network(
    tmp_path: Path,
) -> None:
    told = load(tmp_path, "-c", PROBE, str(tmp_path), ",".join(HEAVY))
    assert (told.returncode, told.stdout, told.stderr) == (0, "[] []\n", "")
    assert not (tmp_path / "home").exists()


def test_dagster_tells_a_wrong_setting_in_readable_words(tmp_path: Path) -> None:
    code = "from promo_assets.definitions import defs; defs()"
    told = load(tmp_path, "-c", code, PROMO_BUDGET="lots")
    assert told.returncode != 0
    last = told.stderr.strip().splitlines()[-1]
    assert last.startswith("promo_assets.settings.SettingsError: PROMO_BUDGET='lots': ")
    assert last.endswith("Fix the environment or .env.")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the models and expectations, to be broken."""
    for name, folder in (("MODELS", "dbt_like_sql"), ("EXPECTATIONS", "expectations")):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
        for module in (definitions, installation):
            monkeypatch.setattr(module, name, tmp_path / folder, raising=False)
    return tmp_path


@pytest.mark.parametrize("table", ["features/user_daily", "raw/events"])
def test_a_table_without_a_suite_does_not_load_and_says_which_file_to_write(
    checkout: Path, table: str
) -> None:
    missing = checkout / "expectations" / f"{table}.yaml"
    missing.unlink()
    with pytest.raises(ContractError, match="has no suite: write ") as told:
        build_definitions(Settings())
    assert str(missing) in str(told.value)


def test_a_suite_without_a_table_does_not_load(checkout: Path) -> None:
    (checkout / "dbt_like_sql" / "segments" / "segment_summary.sql").unlink()
    with pytest.raises(ContractError, match=r"unknown tables: segments\.segment_summary"):
        build_definitions(Settings())


def test_a_typo_in_a_suite_is_told_with_its_file(checkout: Path) -> None:
    suite = checkout / "expectations" / "raw" / "events.yaml"
    suite.write_text(suite.read_text() + "\nexpektations: []\n")
    with pytest.raises(ContractError, match=r"raw/events\.yaml:\d+: expektations: unknown key"):
        build_definitions(Settings())


def test_a_wrong_model_is_told_with_file_and_line(checkout: Path) -> None:
    model = checkout / "dbt_like_sql" / "core" / "events.sql"
    model.write_text(model.read_text().replace("raw.events", "raw.evnts"))
    with pytest.raises(ModelError, match=r"core/events\.sql:\d+: .*raw\.evnts.*raw\.events"):
        build_definitions(Settings())


def graph() -> dict[str, dict[str, object]]:
    """Every asset in words, those of Dagster's graph and nothing of ours."""
    resolved = build_definitions(Settings(start=date(2017, 1, 1))).resolve_asset_graph()
    found = {}
    for key in sorted(resolved.get_all_asset_keys()):
        node = resolved.get(key)
        inputs = {
            parent.to_user_string(): _mapping(resolved.get_partition_mapping(key, parent))
            for parent in sorted(node.parent_keys)
        }
        checks = sorted(check.name for check in node.check_keys)
        grid = type(node.partitions_def).__name__ if node.partitions_def else None
        found[key.to_user_string()] = {
            "group": node.group_name,
            "grid": grid,
            "checks": checks,
            "inputs": inputs,
        }
    return found


def _mapping(mapping: dg.PartitionMapping) -> str:
    if isinstance(mapping, dg.TimeWindowPartitionMapping):
        return f"{mapping.start_offset}..{mapping.end_offset}"
    return type(mapping).__name__.removesuffix("PartitionMapping")


def test_the_graph_is_the_one_that_was_meant() -> None:
    found = json.dumps(graph(), indent=1) + "\n"
    if os.environ.get("PROMO_WRITE_GRAPH"):
        GRAPH.write_text(found)
    assert found == GRAPH.read_text()
