"""Whatever people write in YAML: a mistake is told with file, line, key and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from promo_assets.contract.located_yaml import load
from promo_assets.contract.tables import ContractError, load_contract
from promo_assets.sources.mapping import MappingError, load_mapping
from promo_assets.strategy.offers.catalogue import CatalogueError, load_catalogue

CONTRACT = "columns:\n  a: {type: date, description: d}\n"
OFFERS = "offers:\n  - {id: a, name: A, kind: informational}\n"
MAPPING = "drop: [email]\n"
KINDS = [
    pytest.param(CONTRACT, load_contract, ContractError, id="contract"),
    pytest.param(OFFERS, load_catalogue, CatalogueError, id="catalogue"),
    pytest.param(MAPPING, load_mapping, MappingError, id="mapping"),
]
Load = Callable[[Path], object]


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "core" / "things.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(("good", "read", "error"), KINDS)
@pytest.mark.parametrize(
    ("change", "line", "told"),
    [
        pytest.param(lambda good: good, None, "", id="good"),
        pytest.param(lambda good: good + "surprise: 1\n", 3, "surprise: unknown key", id="key"),
        pytest.param(lambda good: good + good, 3, "repeated, first on line 1", id="repeated"),
        pytest.param(lambda good: good + "b: [\n", 4, "not valid YAML", id="syntax"),
        pytest.param(lambda good: "[a, b]\n", 1, "found ['a', 'b']", id="a list"),
        pytest.param(lambda good: b"\xff\xfe" + good.encode(), None, "save the file as UTF-8",
                     id="encoding"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_whatever_the_file_is(
    tmp_path: Path, good: str, read: Load, error: type[Exception], change: Load, line: int | None,
    told: str,
) -> None:  # fmt: skip
    path = written(tmp_path, change(good))  # type: ignore[arg-type]
    if not told:
        read(path)
        return
    if line is not None and good.count("\n") == 1 and line > 1:
        line -= 1  # The mapping has one line, the others two.
    with pytest.raises(error) as caught:
        read(path)
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"{path}:{line or ''}")


@pytest.mark.parametrize(("read", "error"), [(load_contract, ContractError),
                                              (load_catalogue, CatalogueError)])  # fmt: skip
def test_a_file_that_is_not_there_is_told(
    tmp_path: Path, read: Load, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"none\.yaml: No such file"):
        read(tmp_path / "none.yaml")


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: int


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    things: list[Inner]


@given(wrong=st.integers(0, 9), count=st.integers(1, 10), gap=st.integers(0, 3))
def test_the_line_is_that_of_the_wrong_value(
    tmp_path_factory: pytest.TempPathFactory, wrong: int, count: int, gap: int
) -> None:
    wrong %= count
    lines = ["things:"]
    for index in range(count):
        lines += ["#"] * gap
        lines.append(f"  - number: {'many' if index == wrong else index}")
    path = written(tmp_path_factory.mktemp("yaml"), "\n".join(lines))
    with pytest.raises(ValueError, match="found, expected") as caught:
        load(path, Outer, ValueError, holds="things")
    expected = 1 + (gap + 1) * (wrong + 1)
    assert str(caught.value).startswith(f"{path}:{expected}: things.{wrong}.number: 'many' found")


@given(value=st.dictionaries(st.sampled_from("abc"), st.integers() | st.booleans() | st.text()))
def test_what_is_read_is_what_yaml_says(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, object]
) -> None:
    class Any_(BaseModel):
        model_config = ConfigDict(extra="allow")

    path = written(tmp_path_factory.mktemp("yaml"), yaml.safe_dump(value))
    if value:
        assert load(path, Any_, ValueError, holds="anything").model_extra == value
