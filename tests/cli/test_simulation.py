from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from promo_assets import installation
from promo_assets.cli.main import main
from promo_assets.settings import Settings, load_settings
from promo_assets.simulation.folder import Manifest
from promo_assets.sources import SourceError, open_source


class Told(NamedTuple):
    code: int
    out: str
    err: str


class Promo(Protocol):
    def __call__(self, *arguments: str) -> Told: ...


@pytest.fixture
def promo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Promo:
    """Runs ``promo simulate`` in an empty folder, with its home in there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMO_HOME", str(tmp_path / "home"))

    def run(*arguments: str) -> Told:
        load_settings.cache_clear()
        try:
            code = main(["simulate", *arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            load_settings.cache_clear()
        return Told(code, *capfd.readouterr())

    return run


def test_the_default_goes_to_where_the_source_simulated_looks(promo: Promo, tmp_path: Path) -> None:
    told = promo("--users", "200", "--days", "4", "--start", "2024-05-01")
    assert told.code == 0, told
    folder = tmp_path / "home" / "simulated"
    manifest = Manifest.read(folder)
    total = sum(manifest.rows.values())
    shown = dict(line.split()[:2] for line in told.out.splitlines() if line.startswith("  "))
    assert shown["view"] == f"{manifest.rows['view']:,}"
    assert shown["events"] == f"{total:,}"
    assert "events/s" in told.out
    assert (
        "PROMO_SOURCE=simulated PROMO_START=2024-05-01 PROMO_END=2024-05-04 "
        "promo run --from 2024-05-01 --to 2024-05-04"
    ) in told.out
    source = open_source(
        installation.delivery(Settings(home=tmp_path / "home", source="simulated"))
    )
    assert source.name == "simulated"


def test_a_named_folder_is_read_as_files(promo: Promo, tmp_path: Path) -> None:
    told = promo("--users", "100", "--days", "2", "--format", "csv", "--out", "my shop")
    assert told.code == 0, told
    folder = tmp_path / "my shop"
    assert f"PROMO_SOURCE='files:{folder}'" in told.out
    assert [path.name for path in sorted(folder.glob("events/*/*"))] == [
        "2017-01-01-000.csv",
        "2017-01-02-000.csv",
    ]
    assert (folder / "users.csv").exists()


def test_equal_options_give_equal_files(promo: Promo, tmp_path: Path) -> None:
    from tests.simulation.conftest import Folder

    for out in ("one", "two"):
        assert promo("--users", "100", "--days", "3", "--seed", "9", "--out", out).code == 0
    one, two = (Folder(tmp_path / out, Manifest.read(tmp_path / out)) for out in ("one", "two"))
    assert one.files() == two.files()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--users", "0"], ["--users", "'0'", "1 or more"]),
        (["--days", "ten"], ["--days", "'ten'"]),
        (["--start", "9999-12-10"], ["30 days from 9999-12-10", "at most 21"]),
        (["--start", "yesterday"], ["'yesterday'", "YYYY-MM-DD"]),
        (["--format", "xml"], ["xml", "parquet"]),
        (["--assignment", "fair"], ["fair", "biased"]),
        (["--mess", "lots"], ["lots", "wild"]),
        (["--seed", "x"], ["--seed"]),
        (["--step"], ["is not a simulation", "promo simulate"]),
        (["--out", "mine"], ["mine", "not a simulation", "--out"]),
    ],
)
def test_wrong_usage_exits_2_with_one_line(
    promo: Promo, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep")
    told = promo(*arguments)
    assert told.code == 2, told
    assert told.out == ""
    assert told.err.count("\n") == 1, told.err
    for word in words:
        assert word in told.err
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep"


def test_the_source_says_that_nothing_was_simulated(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="run `promo simulate` first"):
        open_source(installation.delivery(Settings(home=tmp_path, source="simulated")))
