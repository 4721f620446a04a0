"""The commands of README.md exist: CI runs `make test` and `make demo` as they are written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from promo_assets.cli.main import app
from promo_assets.contract.project import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
TARGETS = set(
    re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
)
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]
SETTING = re.compile("PROMO_[A-Z]+=")
INLINE = re.findall(r"`(make [a-z-]+)`", README)
LINKS = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", README)


@pytest.mark.parametrize("line", [*COMMANDS, *INLINE])
def test_every_command_of_the_readme_exists(line: str) -> None:
    words = [word for word in shlex.split(line) if not SETTING.match(word)]
    if words[0] == "make":
        assert set(words[1:]) <= TARGETS
    else:
        assert words[0] == "promo"
        command, _, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
        assert callable(command)


def test_the_readme_shows_how_to_start() -> None:
    assert {"make demo", "make dev"} <= set(COMMANDS)


@pytest.mark.slow
def test_the_simulated_shop_of_the_readme_runs_as_it_is_written(tmp_path: Path) -> None:
    section = README.split("## A shop whose truth is known")[1]
    (block, *_) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    told = subprocess.run(
        ["bash", "-euc", block],
        cwd=tmp_path,
        env={**os.environ, "PATH": scripts, "PROMO_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert (tmp_path / "home" / "reports" / "2024-02-11.html").exists()
    played = tmp_path / "home" / "simulated" / "events" / "2024-02-12"
    assert any(played.iterdir())


@pytest.mark.parametrize("link", sorted(set(LINKS) - {"LICENSE"}))
def test_every_document_that_the_readme_links_to_exists(link: str) -> None:
    assert (PROJECT / link).exists()
