"""Files that people write in YAML: read, checked against a model, and each mistake told with its
file, line, key, what was found and what was expected.

Here: what every such file needs. Not here: what any file holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

Location = tuple[int | str, ...]
"""The path of a value from the root of its file."""
Problem = tuple[Location, str]
"""Where something is wrong, and what."""
Model = TypeVar("Model", bound=BaseModel)

PLAIN = {
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "dict_type": "keys and values, one a line",
    "tuple_type": "a list such as [a, b]",
    "string_type": "text; put it in quotes",
    "string_too_short": "a name",
    "decimal_type": "a number",
    "decimal_parsing": "a number",
    "decimal_max_places": "at most two decimal places",
}
"""What pydantic expects, in the words of someone who writes YAML."""
OPTION = re.compile(r"'([^']*)'|\b(\d+)\b")


def conflict(field: str, problem: str) -> PydanticCustomError:
    """What a model's validator raises where ``field`` contradicts another."""
    return PydanticCustomError("conflict", "{problem}", {"field": field, "problem": problem})


def dotted(at: Location, _: Any = None) -> str:
    """A place as people write it: its keys with dots between."""
    return ".".join(map(str, at))


def load(
    path: Path,
    model: type[Model],
    error: type[Exception],
    *,
    holds: str,
    missing: str = "",
    texts: bool = False,
    beside: Mapping[str, Any] | None = None,
    place: Callable[[Location, Any], str] = dotted,
    shapes: Callable[[Location], tuple[Location, str] | None] = lambda at: None,
    check: Callable[[Model], Iterator[Problem]] = lambda value: iter(()),
) -> Model:
    """The file as ``model``.

    ``holds`` says what the file is expected to hold, ``missing`` what to do where it can't be
    read. ``texts`` keeps scalars as they are written (``1``, ``yes``, ``0.10``). ``beside`` are
    values that the file does not tell itself. ``place`` names a place for people. ``shapes`` may
    say what is expected at a place that can take several shapes. ``check`` finds what the model
    alone does not. Raises ``error`` with one line a problem, ``path:line: what, expected what``.
    """
    node, raw = _read(path, error, missing, texts=texts)
    if not isinstance(raw, dict):
        raise error(f"{path}:1: expected {holds}, found {short(raw)}")
    problems = list(_repeated_keys(node))
    found: list[Problem] = []
    try:
        value = model.model_validate({**(beside or {}), **raw})
    except ValidationError as invalid:
        for item in invalid.errors():
            found.append(_explained(item, model, raw, place, shapes))
    else:
        found += [(at, text) for at, text in check(value)]
        if not (problems or found):
            return value
    lines = dict(_lines_of(node, ()))
    problems += [(_line_of(lines, at), text) for at, text in dict.fromkeys(found)]
    raise error("\n".join(f"{path}:{line}: {text}" for line, text in sorted(problems)))


def nearest(found: str, expected: Collection[str]) -> str:
    """What was perhaps meant, and what is expected."""
    near = get_close_matches(found, expected, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}expected one of {', '.join(expected)}"


def short(value: Any) -> str:
    """A value as it is shown in an error."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read(
    path: Path, error: type[Exception], missing: str, *, texts: bool
) -> tuple[yaml.Node | None, Any]:
    """The file's node and value."""
    try:
        loader = yaml.CSafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None, {} if texts else None
        return node, _as_written(node) if texts else loader.construct_document(node)
    except OSError as problem:
        hint = f"; {missing}" if missing else ""
        raise error(f"{path}: {problem.strerror}{hint}") from problem
    except UnicodeDecodeError as problem:
        told = f"byte {problem.start} is no UTF-8 text ({problem.reason})"
        raise error(f"{path}: not valid YAML: {told}; save the file as UTF-8") from problem
    except (yaml.YAMLError, ValueError) as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        told = getattr(problem, "problem", None) or " ".join(str(problem).split())
        raise error(f"{path}{line}: not valid YAML: {told}") from problem


def _as_written(node: yaml.Node) -> Any:
    """Scalars as the text that was written, null as None."""
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _as_written(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_as_written(value) for value in node.value]
    return None if node.tag == "tag:yaml.org,2002:null" else node.value


def _explained(
    item: ErrorDetails,
    model: type[BaseModel],
    raw: Any,
    place: Callable[[Location, Any], str],
    shapes: Callable[[Location], tuple[Location, str] | None],
) -> Problem:
    at: Location = tuple(item["loc"])
    context = item.get("ctx", {})
    if shape := shapes(at):
        at, text = shape
    elif item["type"] == "conflict":
        at, text = (*at, context["field"]), str(context["problem"])
    elif item["type"] == "extra_forbidden":
        text = f"unknown key; {nearest(str(at[-1]), _keys(model, at[:-1]))}"
    elif item["type"] == "missing":
        text = "missing; it is required"
    elif item["type"] == "literal_error":
        options = ["".join(option) for option in OPTION.findall(str(context["expected"]))]
        text = f"{short(item['input'])} found; {nearest(str(item['input']), options)}"
    elif item["type"] == "value_error":
        said, should, expected = item["msg"].removeprefix("Value error, ").partition("should be ")
        text = f"{short(item['input'])} found, expected {expected}" if should else said
    else:
        expected = PLAIN.get(item["type"], item["msg"].split("should be ")[-1])
        text = f"{short(item['input'])} found, expected {expected}"
    named = place(at, raw)
    return at, f"{named}: {text}" if named else text


def _keys(model: type[BaseModel], at: Location) -> Collection[str]:
    """The keys that are allowed in the value at ``at``."""
    for step in at:
        if isinstance(step, str) and step in model.model_fields:
            model = _nested(model.model_fields[step].annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _nested(annotation: Any) -> type[BaseModel] | None:
    """The first model that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_nested, get_args(annotation))), None)


def _lines_of(node: yaml.Node | None, at: Location) -> Iterator[tuple[Location, int]]:
    """The line of every value, by its path from the root; of a key's value, the key's line."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*at, key.value)
            yield from _lines_of(value, place)
            yield place, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*at, index), value.start_mark.line + 1
            yield from _lines_of(value, (*at, index))


def _line_of(lines: Mapping[Location, int], at: Location) -> int:
    """The line of the nearest place in the file that holds ``at``."""
    while at and at not in lines:
        at = at[:-1]
    return lines.get(at, 1)


def _repeated_keys(node: yaml.Node | None) -> Iterator[tuple[int, str]]:
    # YAML itself keeps the last of two equal keys and says nothing.
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in first:
                yield line, f"{name}: repeated, first on line {first[name]}; keep one"
            first.setdefault(name, line)
            yield from _repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated_keys(value)
