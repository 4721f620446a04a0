"""Models as last parsed: the same as parsed anew, whatever changed or broke in between."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from promo_assets.contract.project import MODELS, PROJECT
from promo_assets.contract.tables import load_contracts
from promo_assets.warehouse.models import kept, parsing
from promo_assets.warehouse.models.model import ModelError

CONTRACTS = load_contracts(PROJECT / "expectations")
WINDOWED = {name: contract.window is not None for name, contract in CONTRACTS.items()}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's models, and nothing kept."""
    monkeypatch.setattr(kept, "KEPT", tmp_path / "cache" / "models.json")
    shutil.copytree(MODELS, tmp_path / "models")
    return tmp_path / "models"


def assert_as_parsed(root: Path) -> None:
    parsed = parsing.load_models(root, list(CONTRACTS), WINDOWED)
    assert list(kept.load_models(root, list(CONTRACTS), WINDOWED).items()) == list(parsed.items())


def refuse(*_: object) -> None:
    raise AssertionError("parsed again")


def test_what_is_kept_is_what_was_parsed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = parsing.load_models(root, list(CONTRACTS), WINDOWED)
    assert_as_parsed(root)
    monkeypatch.setattr(parsing, "load_models", refuse)
    found = kept.load_models(root, list(CONTRACTS), WINDOWED)
    assert list(found.items()) == list(expected.items())
    assert [model.lookback for model in found.values()] == [
        model.lookback for model in expected.values()
    ]
    assert [model.reads for model in found.values()] == [model.reads for model in expected.values()]


def test_a_change_of_anything_is_parsed_anew(root: Path) -> None:
    assert_as_parsed(root)
    model = root / "segments" / "segment_summary.sql"
    model.write_text(model.read_text().replace("users", "people"))
    assert_as_parsed(root)
    model.unlink()
    assert_as_parsed(root)
    model.write_text("-- description: d\n-- grain: a\n-- owner: o\nselect 1\n")
    with pytest.raises(ModelError, match="has no name"):
        kept.load_models(root, list(CONTRACTS), WINDOWED)
    with pytest.raises(ModelError):
        kept.load_models(MODELS, [], WINDOWED)


@pytest.mark.parametrize("damage", ["", "{}", '{"key": 1}', "[]", "\x00"])
def test_a_damaged_file_is_parsed_anew(root: Path, damage: str) -> None:
    assert_as_parsed(root)
    kept.KEPT.write_text(damage)
    assert_as_parsed(root)


def test_where_nothing_can_be_written_nothing_is_kept(root: Path) -> None:
    kept.KEPT.parent.write_text("a file where the folder would be")
    assert_as_parsed(root)
    assert kept.KEPT.parent.is_file()
