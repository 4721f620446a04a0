"""Dagster's own commands work in the checkout, on the home that `promo` uses too."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from promo_assets.contract.project import PROJECT
from promo_assets.orchestration.runs import prepare_home
from tests.support.shop import Shop


def test_dg_and_the_workspace_file_name_the_same_definitions() -> None:
    """Another name of the code location would turn every schedule off that was turned on."""
    dg = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    workspace = yaml.safe_load((PROJECT / "workspace.yaml").read_text())
    (location,) = [each["python_module"] for each in workspace["load_from"]]
    assert location == {
        "module_name": dg["code_location_target_module"],
        "location_name": dg["code_location_name"],
    }


@pytest.mark.slow
def test_dg_checks_lists_and_launches(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop").deliver_all(2)
    prepare_home(shop.settings.places)
    # What docs/how-to.md says to export, and the shop's settings.
    home = shop.settings.places.dagster
    told = {"DAGSTER_HOME": str(home), "PROMO_EVENT_LOG": str(home / "history" / "runs")}

    def dg(*command: str) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("dg")), *command],
            cwd=PROJECT,
            env=shop.environment | told,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "All definitions loaded successfully" in dg("check", "defs")
    assert "follow_inputs" in dg("list", "defs")
    dg("launch", "--job", "dimensions")
    days = f"{shop.day(0)}...{shop.day(1)}"
    dg("launch", "--job", "daily_tables", "--partition-range", days)
    dg("launch", "--assets", "features/user_daily", "--partition", str(shop.day(1)))
    counts = shop.query("select event_date, count(*) from core.events group by all order by all")
    assert counts == [(shop.day(number), len(shop.events(number))) for number in range(2)]
    with_features = shop.query("select distinct event_date from features.user_daily order by all")
    assert with_features == [(shop.day(0),), (shop.day(1),)]
