"""A built wheel, installed away from any checkout, is the whole platform.

What it depends on comes from the environment of the tests, so that nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

import pytest

from promo_assets.contract.project import PROJECT
from tests.support.processes import answers, free_port
from tests.support.shop import Shop

pytestmark = pytest.mark.slow
NOT_IN_CHECKOUT = """
import json, sys
import promo_assets
from promo_assets.contract.project import PROJECT
print(json.dumps([promo_assets.__file__, str(PROJECT), sys.path]))
"""
LOCATIONS = """
{workspaceOrError {... on Workspace {locationEntries {name locationOrLoadError {__typename}}}}}
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment that has the wheel, and sees what the wheel depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    (found,) = folder.glob("*.whl")
    pip = [str(environment / "bin" / "pip"), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run(
        [*pip, str(found)], check=True, env={**os.environ, "PIP_CONFIG_FILE": "/dev/null"}
    )
    (packages,) = environment.glob("lib/python*/site-packages")
    # Its own packages first; the .pth files in there, that of the checkout too, are not followed.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment / "bin"


def away(**settings: str) -> dict[str, str]:
    """The tests' environment without what could lead to the checkout, or to its settings."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("PROMO_", "PYTHON", "DAGSTER"))
    }
    return {**kept, **settings}


def run(command: list[str], folder: Path, **settings: str) -> str:
    told = subprocess.run(
        command, cwd=folder, env=away(**settings), capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


def test_what_is_imported_and_read_is_the_wheels(scripts: Path, tmp_path: Path) -> None:
    told = run([str(scripts / "python"), "-c", NOT_IN_CHECKOUT], tmp_path)
    package, project, path = json.loads(told)
    assert Path(package).is_relative_to(scripts.parent)
    assert Path(project).is_relative_to(Path(package).parent)
    assert str(PROJECT) not in path
    for name in ("dbt_like_sql", "expectations", "offers"):
        for file in filter(Path.is_file, (PROJECT / name).rglob("*")):
            assert (Path(project) / file.relative_to(PROJECT)).read_bytes() == file.read_bytes()
    assert "usage" in run([str(scripts / "promo"), "--help"], tmp_path).lower()


def test_days_of_files_run_through_every_phase(scripts: Path, tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop").deliver_all(3)
    told = {k: v for k, v in shop.environment.items() if k.startswith("PROMO_")}
    dates = ["--from", str(shop.day(0)), "--to", str(shop.day(2))]
    output = run([str(scripts / "promo"), "run", *dates, "--decide", "1"], tmp_path, **told)
    assert "WAITS" not in output
    delivered = sum(len(shop.events(number)) for number in range(3))
    assert shop.query("select count(*) from core.events") == [(delivered,)]
    # The last day alone is decided.
    reports = shop.settings.places.reports
    assert [path.stem for path in reports.glob("2*.html")] == [str(shop.day(2))]
    decided = shop.query("select distinct as_of_date from strategy.segment_strategy")
    assert decided == [(shop.day(2),)]


def test_the_sample_runs_and_has_its_offers(scripts: Path, tmp_path: Path) -> None:
    day = ["--from", "2017-01-01", "--to", "2017-01-01", "--select", "events"]
    run([str(scripts / "promo"), "run", *day], tmp_path)
    shop = Shop(tmp_path)
    shutil.move(tmp_path / ".promo", shop.settings.home)
    assert shop.query("select count(*) > 0 from core.events") == [(True,)]
    assert shop.query("select count(*) > 0 from core.offers") == [(True,)]


def test_dev_serves_the_definitions(scripts: Path, tmp_path: Path) -> None:
    dagster, mlflow = free_port(), free_port()
    ports = ["--port", str(dagster), "--mlflow-port", str(mlflow)]
    process = subprocess.Popen(
        [str(scripts / "promo"), "dev", *ports],
        cwd=tmp_path,
        env=away(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert answers(f"http://127.0.0.1:{dagster}/server_info", process)
        assert answers(f"http://127.0.0.1:{mlflow}/health", process)
        asked = urllib.request.Request(
            f"http://127.0.0.1:{dagster}/graphql",
            json.dumps({"query": LOCATIONS}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            (entry,) = json.load(answer)["data"]["workspaceOrError"]["locationEntries"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert entry["name"] == "promo_assets"
    assert entry["locationOrLoadError"] == {"__typename": "RepositoryLocation"}
