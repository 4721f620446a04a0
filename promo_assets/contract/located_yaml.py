"""Files that people write in YAML: on which line a value stands, and what a wrong key meant.

Here: what every such file's errors need. Not here: what any file holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import yaml

Location = tuple[int | str, ...]
"""The path of a value from the root of its file."""


def lines_of(node: yaml.Node | None, at: Location) -> Iterator[tuple[Location, int]]:
    """The line of every value, by its path from the root; of a key's value, the key's line."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*at, key.value)
            yield from lines_of(value, place)
            yield place, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*at, index), value.start_mark.line + 1
            yield from lines_of(value, (*at, index))


def line_of(lines: Mapping[Location, int], at: Location) -> int:
    """The line of the nearest place in the file that holds ``at``."""
    while at and at not in lines:
        at = at[:-1]
    return lines.get(at, 1)


def repeated_keys(node: yaml.Node | None) -> Iterator[tuple[int, str]]:
    # YAML itself keeps the last of two equal keys and says nothing.
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in first:
                yield line, f"{key.value}: repeated, first on line {first[key.value]}; keep one"
            first.setdefault(str(key.value), line)
            yield from repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from repeated_keys(value)


def nearest(found: str, expected: Collection[str]) -> str:
    near = get_close_matches(found, expected, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}expected one of {', '.join(expected)}"


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
