"""docs/bring-your-own.md, followed to the letter: its files written, its commands run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from promo_assets.contract.project import PROJECT

DOCUMENT = (PROJECT / "docs" / "bring-your-own.md").read_text(encoding="utf-8")
FILE = re.compile(r"^`(shop/[^`]+)`\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """A folder of someone who wrote down every file of the document."""
    written = FILE.findall(DOCUMENT)
    for name, content in written:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    assert len(written) == len(set(re.findall(r"^`(shop/[^`]+)`$", DOCUMENT, re.MULTILINE))) == 8
    return tmp_path


def follow(folder: Path, commands: str) -> subprocess.CompletedProcess[str]:
    """Run commands as a reader does, with ``promo`` on the path."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    promo = bin_folder / "promo"
    promo.write_text(f'#!/bin/sh\nexec {sys.executable} -m promo_assets.cli.main "$@"\n')
    promo.chmod(0o755)
    own = {name: value for name, value in os.environ.items() if not name.startswith("PROMO_")}
    path = f"{bin_folder}{os.pathsep}{own['PATH']}"
    environment = own | {"PATH": path, "PYTHONPATH": str(PROJECT), "COLUMNS": "100"}
    return subprocess.run(
        ["sh", "-e", "-c", commands], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_check_of_the_document_accepts_its_folder_and_writes_nothing(reader: Path) -> None:
    before = sorted(reader.glob("**/*"))
    check, _ = COMMANDS.findall(DOCUMENT)
    told = follow(reader, check)
    assert (told.returncode, told.stderr) == (0, "")
    lines = [line.split(maxsplit=1) for line in told.stdout.splitlines()]
    said = {words[0]: words[1] for words in reversed(lines) if len(words) == 2}
    assert said["files"] == "1 csv file, 7 rows; 1 jsonl file, 2 rows"
    assert said["days"] == "2024-06-01 .. 2024-06-02, 2 days with rows"
    assert said["accepted"] == "9 rows"
    assert said["dropped"] == "mail"
    assert said["beside"] == "3 items, 2 users, 1 link, 1 offer"
    assert said["consent"] == "marketing: 2 allow, 0 refuse"
    assert said["verdict"] == "the gates would let every day through"
    assert "rejected" not in said
    after = [path for path in sorted(reader.glob("**/*")) if "bin" not in path.parts]
    assert after == before


@pytest.mark.slow
def test_the_run_of_the_document_publishes_its_days(reader: Path) -> None:
    _, run = COMMANDS.findall(DOCUMENT)
    told = follow(reader, run)
    assert told.returncode == 0, told.stdout + told.stderr
    with duckdb.connect(reader / ".promo" / "warehouse.duckdb", read_only=True) as connection:
        found = connection.execute(
            "select event_date::varchar, event_type, count(*), sum(quantity * unit_price)::varchar"
            " from core.events group by all order by all"
        ).fetchall()
        bought = connection.execute(
            "select min(event_time)::varchar from core.events where event_type = 'purchase'"
        ).fetchone()
        items = connection.execute("select count(*) from core.items").fetchone()
    assert found == [
        ("2024-06-01", "add_to_cart", 1, None),
        ("2024-06-01", "purchase", 2, "59.90"),
        ("2024-06-01", "search", 1, None),
        ("2024-06-01", "view", 3, None),
        ("2024-06-02", "purchase", 1, "6.50"),
        ("2024-06-02", "view", 1, None),
    ]
    assert bought == ("2024-06-01 07:06:30",)
    assert items == (3,)
