"""The map of what may import what: it holds, and it would notice."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from promo_assets.contract.project import PROJECT

BREACHES = {
    "contract/days.py": "import dagster",
    "people/identity.py": "import duckdb",
    "strategy/effects/estimators.py": "import promo_assets.tables.strategy",
    "report/page.py": "from promo_assets.settings import Settings",
    "tables/strategy.py": "import mlflow",
    "sources/files.py": "import promo_assets.gates.audit",
    "warehouse/connection.py": "import promo_assets.warehouse.reading",
}


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    """``lint-imports`` on a copy of the package."""
    script = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(script), "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(PROJECT / "promo_assets", tmp_path / "promo_assets")
    shutil.copyfile(PROJECT / ".importlinter", tmp_path / ".importlinter")
    return tmp_path


def test_every_room_keeps_to_the_map(copy: Path) -> None:
    told = checked(copy)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize(("module", "breach"), BREACHES.items())
def test_a_breach_is_found(copy: Path, module: str, breach: str) -> None:
    path = copy / "promo_assets" / module
    path.write_text(path.read_text().replace("import annotations", f"import annotations\n{breach}"))
    told = checked(copy)
    assert told.returncode == 1, told.stdout
    assert "BROKEN" in told.stdout


def test_every_room_is_on_the_map() -> None:
    """A new folder or module of the package must be given its place."""
    rooms = {
        path.stem
        for path in (PROJECT / "promo_assets").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    } - {"__init__"}
    text = (PROJECT / ".importlinter").read_text()
    layers = text[text.index("layers =") : text.index("[importlinter:contract:dagster]")]
    assert {name for name in rooms if f"promo_assets.{name}" not in layers} == set()
