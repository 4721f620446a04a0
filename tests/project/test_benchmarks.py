"""`make bench` measures whatever it can, says what it left out, and fails only for a failure."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from promo_assets.contract.project import PROJECT
from tests.support import servers

Bench = Callable[..., subprocess.CompletedProcess[str]]
BENCHMARKS = {
    "passes": "print('measured')",
    "breaks": "raise RuntimeError('broken')",
    "misses": "print('LEFT OUT: mariadb is not installed')",
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """`make bench` with some of `BENCHMARKS` in place of the project's."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed: apt-get install make")

    def run(*names: str) -> subprocess.CompletedProcess[str]:
        files = []
        for name in names:
            files.append(tmp_path / f"{name}.py")
            files[-1].write_text(BENCHMARKS[name])
        made = Path(sys.executable).parent
        told = [f"BENCHMARKS={' '.join(map(str, files))}", f"BIN={made}", "SETUP=Makefile"]
        return subprocess.run(
            ["make", "--no-print-directory", "bench", *told],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.slow
def test_what_is_left_out_is_told_and_is_no_failure(bench: Bench) -> None:
    told = bench("misses", "passes")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines()[1::2] == ["LEFT OUT: mariadb is not installed", "measured"]


def test_a_failure_is_named_after_all_others_ran(bench: Bench) -> None:
    told = bench("breaks", "passes")
    assert told.returncode != 0
    assert "RuntimeError: broken" in told.stderr
    assert "measured" in told.stdout
    (failed,) = [line for line in told.stderr.splitlines() if line.startswith("FAILED:")]
    assert failed.endswith("breaks.py")
    assert "passes.py" not in failed


def test_a_database_that_is_not_installed_is_left_out_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(servers, "_binary", lambda kind, name: None)
    runpy.run_path(str(PROJECT / "benchmarks" / "database.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        f"LEFT OUT: {kind} is not installed" for kind in servers.KINDS
    ]
    for line, kind in zip(lines, servers.KINDS, strict=True):
        assert line.endswith(f"apt-get install {servers.PACKAGES[kind]}")
