"""The commands of README.md exist: CI runs `make test` and `make demo` as they are written."""

from __future__ import annotations

import re
import shlex

import pytest

from promo_assets.cli import _parser
from promo_assets.settings import PROJECT

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
INLINE = re.findall(r"`(make [a-z-]+)`", README)
LINKS = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", README)


@pytest.mark.parametrize("command", [*COMMANDS, *INLINE])
def test_every_command_of_the_readme_exists(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert set(words[1:]) <= TARGETS
    else:
        assert words[0] == "promo"
        assert callable(_parser().parse_args(words[1:]).command)


def test_the_readme_shows_how_to_start() -> None:
    assert {"make demo", "make dev"} <= set(COMMANDS)


@pytest.mark.parametrize("link", sorted(set(LINKS) - {"LICENSE"}))
def test_every_document_that_the_readme_links_to_exists(link: str) -> None:
    assert (PROJECT / link).exists()
