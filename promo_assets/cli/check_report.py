"""What ``promo check`` prints: the facts of a folder on one screen, and what to do about them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from promo_assets.cli.rehearsal import Rehearsal
from promo_assets.contract.days import Window
from promo_assets.contract.segments import SEGMENTS
from promo_assets.gates.verdict import spans
from promo_assets.people.consent import ConsentRule
from promo_assets.sources.check import Facts
from promo_assets.sources.files import Files
from promo_assets.sources.hints import (
    columns_for,
    event_type_for,
    looks_like_data,
    number_formats_for,
    personal,
    time_formats_for,
)
from promo_assets.sources.mapping import COLUMNS, Chosen, Constant
from promo_assets.strategy.offers.catalogue import CatalogueError, load_catalogue
from promo_assets.warehouse.publish import ALWAYS

NEEDED = ("event_time", "event_type", "user_id", "device_id")
MARGIN = 24
"""Width of the left column."""

FEW = 3
"""Files, days and examples that are shown of many."""

MOST_FILES = 50
"""Unreadable files that are named: each has rows that nobody has seen."""

MOST_REASONS = 8
MOST_WARNINGS = 4
MOST_CAUSE = 200
"""Characters of what a gate says."""
MOST_TYPES = 6
PLAIN = re.compile(r"[^\W\d][\w-]*")

CONCERNED = {
    "event_time_unreadable": ("event_time",),
    "before_partition": ("event_time",),
    "after_partition": ("event_time",),
    "event_type_unknown": ("event_type",),
    "user_missing": ("event_type", "user_id", "device_id"),
    "quantity_unreadable": ("event_type", "quantity"),
    "quantity_not_positive": ("event_type", "quantity"),
    "quantity_too_large": ("event_type", "quantity"),
    "price_unreadable": ("event_type", "unit_price"),
    "price_too_precise": ("event_type", "unit_price"),
    "price_negative": ("event_type", "unit_price"),
    "price_too_large": ("event_type", "quantity", "unit_price"),
    "discount_unreadable": ("event_type", "discount"),
    "discount_too_precise": ("event_type", "discount"),
    "discount_negative": ("event_type", "discount"),
    "discount_above_amount": ("quantity", "unit_price", "discount"),
    "offer_missing": ("event_type", "offer_id"),
    "probability_out_of_range": ("assignment_probability",),
    "event_id_reused": ("event_id", "event_type", "item_id"),
    "duplicate": ("event_id",),
    "equal_row": ("event_type", "user_id", "item_id"),
}
"""The columns of a rejected row that show why."""

WITHOUT = {
    "items": "no items.*: categories, brands and costs of items stay unknown",
    "users": "no users.*: attributes and sign-up times stay unknown",
    "identities": "no identities.*: devices belong to who logs in on them",
    "offers": "no offers.yaml: set PROMO_OFFERS to a catalogue before you run",
}


def add_offers(facts: Facts, path: Path) -> None:
    """Count the offers of the catalogue in ``path``, if there is one, or tell what is wrong."""
    if path.exists():
        try:
            facts.tables["offers"] = len(load_catalogue(path, SEGMENTS).offers)
        except CatalogueError as error:
            facts.wrong.append(str(error))


def report(
    facts: Facts, source: Files, consent: ConsentRule, rehearsed: Rehearsal, start: date
) -> str:
    """The whole report, in lines no wider than the terminal; ``start`` is the ``PROMO_START`` to
    run with."""
    return _printed(
        _delivered(facts, source),
        _columns(facts, source),
        _rows(facts),
        _beside(facts, consent),
        _mapping(facts, source),
        _warnings(rehearsed),
        _verdict(facts, source, rehearsed, start),
    )


def report_database(source: str, days: Window, rehearsed: Rehearsal, start: date) -> str:
    """What the gates say of a database, whose URL comes without its password."""
    return _printed(
        iter([("database", source), ("days", str(days))]),
        _warnings(rehearsed),
        _gates(rehearsed),
        _next(source, start, days) if rehearsed.passed else iter(()),
    )


def _printed(*sections: Lines) -> str:
    width = max(shutil.get_terminal_size((100, 40)).columns, 60)
    return "\n".join(
        line
        for section in sections
        for label, text in section
        for line in _line(label, text, width)
    )


Lines = Iterator[tuple[str, str]]
"""Pairs of what stands left and what stands right of the margin."""


def _line(label: str, text: str, width: int) -> list[str]:
    if not text:
        return [label]
    wrapped = textwrap.wrap(text, width - MARGIN, break_on_hyphens=False, break_long_words=False)
    first = f"{label:<{MARGIN}}{wrapped[0]}" if len(label) < MARGIN else f"{label} {wrapped[0]}"
    return [first, *(" " * MARGIN + rest for rest in wrapped[1:])]


def _delivered(facts: Facts, source: Files) -> Lines:
    yield "folder", str(source.folder)
    formats: Counter[str] = Counter()
    by_format: Counter[str] = Counter()
    for file in facts.files:
        if file.layout:
            formats[file.layout.format] += 1
            by_format[file.layout.format] += file.rows
    told = [
        f"{_number(n, f'{name} file')}, {_number(by_format[name], 'row')}"
        for name, n in formats.items()
    ]
    yield "files", "; ".join(told) or "none that can be read"
    for lost in facts.lost:
        yield "  WRONG", lost
    for file in facts.broken[:MOST_FILES]:
        yield "  UNREADABLE", f"{file.path}: {file.problem}"
    if len(facts.broken) > MOST_FILES:
        yield "", f"{len(facts.broken) - MOST_FILES} more unreadable files"
    if facts.days:
        yield "days", _days(facts)
    if facts.later:
        rows = _number(sum(facts.later.values()), "row")
        yield "  later", f"{rows} from {min(facts.later)} on, which wait for their day"


def _days(facts: Facts) -> str:
    first, last = min(facts.days), max(facts.days)
    between = (first + timedelta(days=n) for n in range((last - first).days + 1))
    gaps = tuple(day for day in between if day not in facts.days)
    without = f"; no row on {_number(len(gaps), 'day')}: {spans(gaps)}" if gaps else ""
    return f"{first} .. {last}, {_number(len(facts.days), 'day')} with rows{without}"


def _columns(facts: Facts, source: Files) -> Lines:
    mapping = source.mapping
    # Names that differ in their case only are one.
    names = [*{name.casefold(): name for name in reversed(facts.columns)}.values()][::-1]
    if not names:
        return
    told = {column: mapping.delivered_as(column, names) for column in COLUMNS}
    constants = {
        name: one.value for name, one in mapping.columns.items() if isinstance(one, Constant)
    }
    same = [column for column, name in told.items() if name and name.casefold() == column]
    yield "columns", _listed(_some(column, told[column], facts) for column in same) or "none"
    renamed = {column: name for column, name in told.items() if name and column not in same}
    if renamed:
        yield (
            "  renamed",
            _listed(_some(f"{column} <- {name}", name, facts) for column, name in renamed.items()),
        )
    if constants:
        yield "  constant", _listed(f"{name} = {value}" for name, value in constants.items())
    if chosen := [name for name, one in mapping.columns.items() if isinstance(one, Chosen)]:
        yield "  by cases", _listed(chosen)
    if aside := mapping.kept_aside(names):
        yield (
            "  kept aside",
            (
                _listed(_some(name, name, facts) for name in aside)
                + " (stored as delivered in raw.events.extra; list personal data under drop:)"
            ),
        )
    if dropped := [name for name in names if mapping.dropped(name)]:
        yield "  dropped", _listed(dropped)
    if missing := _missing(facts, source):
        yield "  missing", _listed(missing)


def _missing(facts: Facts, source: Files) -> list[str]:
    mapping = source.mapping
    return [
        column
        for column in COLUMNS
        if mapping.delivered_as(column, facts.columns) is None
        and not isinstance(mapping.columns.get(column), Constant | Chosen)
    ]


def _some(text: str, name: str | None, facts: Facts) -> str:
    files = sum(1 for file in facts.files if file.layout)
    same = (name or "").casefold()
    found = sum(files for one, files in facts.columns.items() if one.casefold() == same)
    return text if found >= files else f"{text} (in {found} of {files} files)"


def _rows(facts: Facts) -> Lines:
    rejected = facts.rejected.total()
    if facts.skipped:
        yield "skipped", f"{_number(facts.skipped, 'row')}, by skip_rows_where"
    yield "accepted", f"{_number(facts.rows - rejected, 'row')}"
    if not rejected:
        return
    yield "rejected", f"{_number(rejected, 'row')} ({rejected / facts.rows:.1%})"
    for reason, count in facts.rejected.most_common(MOST_REASONS):
        yield f"  {reason}", f"{count:,}: {_example(facts.examples[reason][0], reason)}"
    if len(facts.rejected) > MOST_REASONS:
        yield "", f"and {_number(len(facts.rejected) - MOST_REASONS, 'more reason')}"
    if facts.types:
        told = [f"{name or 'none'} ({count:,})" for name, count in facts.types.most_common()]
        yield "  unknown types", _listed(told, MOST_TYPES)


def _example(row: Mapping[str, Any], reason: str) -> str:
    values = ", ".join(f"{name}={_short(row[name])}" for name in CONCERNED[reason])
    return f"{row['source_file']} row {row['source_row']}: {values}"


def _beside(facts: Facts, consent: ConsentRule) -> Lines:
    found = [
        f"{_number(rows, stem.removesuffix('s') if stem != 'identities' else 'link')}"
        for stem, rows in facts.tables.items()
    ]
    yield "beside", _listed(found) or "nothing"
    for stem, text in WITHOUT.items():
        if stem not in facts.tables and not any(f"/{stem}." in wrong for wrong in facts.wrong):
            yield "", text
    for wrong in facts.wrong:
        for line in wrong.splitlines():
            yield "  WRONG", line
    yield from _consent(facts, consent)


def _consent(facts: Facts, consent: ConsentRule) -> Lines:
    purposes = sorted({purpose for purpose, _ in facts.consents})
    for purpose in purposes:
        yes, no = (facts.consents.get((purpose, answer), 0) for answer in (True, False))
        yield "consent", f"{purpose}: {yes:,} allow, {no:,} refuse"
    if unstated := [purpose for purpose in consent.purposes if purpose not in purposes]:
        who = "everybody" if consent.unknown_allowed else "nobody"
        yield (
            "consent",
            (
                f"to {_listed(unstated)} is not stated, neither in users.* (consent_{unstated[0]}) "
                f"nor in consents.*: {who} may get an offer "
                f"(PROMO_CONSENT_UNKNOWN={'allow' if consent.unknown_allowed else 'deny'})"
            ),
        )


def _mapping(facts: Facts, source: Files) -> Lines:
    """What to add to mapping.yaml, as far as names and values let it be guessed."""
    columns = _guessed_columns(facts, source)
    for file in facts.files:
        if file.layout and looks_like_data([*file.layout.types()]):
            first = ", ".join(file.layout.types())
            yield "  no header?", f"{file.path} begins with {textwrap.shorten(first, 60)}: name its"
            yield "", "columns under header: in mapping.yaml"
            break
    for name, rows in facts.repeats.items():
        if rows:
            yield "  repeats", f"{name}: {_number(rows, 'row')} without a value of its own, so it"
            yield "", f"is no event's id; of orders it is order_id: {name}"
    lines = [("columns:", "")] if columns else []
    lines += [(f"  {column}: {name}", f"{column} is missing") for column, name in columns.items()]
    types = {name: event_type_for(name) for name, _ in facts.types.most_common() if name}
    if known := _listed(f"{_key(name)}: {kind}" for name, kind in types.items() if kind):
        lines += [("values:", ""), (f"  event_type: {{{known}}}", "unknown event types")]
    formats = time_formats_for(facts.times, source.mapping.time_formats if facts.timed else ())
    lines += [(f"time_format: {_yaml(one)}", "times that can't be read") for one in formats]
    if not source.mapping.number_format:
        numbers = number_formats_for([*facts.numbers, *facts.readable])
        lines += [(f"number_format: {one}", "numbers that can't be read") for one in numbers]
        if not numbers and number_formats_for(facts.numbers):
            other = next(
                one for one in facts.readable if not number_formats_for([one, *facts.numbers])
            )
            yield (
                "  two formats?",
                f"numbers are written {facts.numbers[0]!r} and {other!r}: write them",
            )
            yield "", "in one way, or translate them in a view"
    quantities = [row["quantity"] for row in facts.examples.get("quantity_not_positive", ())]
    if any(quantity.startswith("-") for quantity in quantities):
        lines.append(("negative_quantity: return", "purchases of less than nothing: returns?"))
    if facts.rejected["equal_row"]:
        lines.append(("equal_rows: keep", "are equal rows real?"))
    if facts.spelling:
        alike = f"ids: {{user_id: [{', '.join(facts.spelling)}]}}"
        lines.append((alike, "accounts are spelled in another way in users or consents"))
    aside = source.mapping.kept_aside(facts.columns)
    if told := personal(name for name in aside if name not in columns.values()):
        lines.append((f"drop: [{_listed(told)}]", "personal data?"))
    if lines:
        yield f"Is this meant? Then add it to {source.folder / 'mapping.yaml'}:", ""
    for what, why in lines:
        yield f"  {what:<38}" + (f"  # {why}" if why else ""), ""


def _key(text: str) -> str:
    """A text as a key in YAML, which strips blanks and takes signs for more."""
    return text if PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _yaml(told: Sequence[str]) -> str:
    """One text, or a list of several."""
    quoted = [f'"{one}"' for one in told]
    return quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"


def _guessed_columns(facts: Facts, source: Files) -> dict[str, str]:
    """Files may differ: each is asked for what is missing in it."""
    mapping, found = source.mapping, dict[str, str]()
    for layout in dict.fromkeys(file.layout for file in facts.files if file.layout):
        names = [*layout.types()]
        missing = [
            column
            for column in COLUMNS
            if column not in mapping.columns and mapping.delivered_as(column, names) is None
        ]
        # A row's id that repeats is that of something else: of an order, most often.
        found |= columns_for(
            missing, [name for name in mapping.kept_aside(names) if not facts.repeats[name]]
        )
    return found


def _warnings(rehearsed: Rehearsal) -> Lines:
    for table, finding in rehearsed.warnings[:MOST_WARNINGS]:
        where = f" on {spans(finding.days)}" if finding.days else ""
        example = _values((*finding.examples, {})[0])
        told = f"{table} {finding.expectation}: {finding.observed}{where}; {example}"
        yield "warning", textwrap.shorten(told, MOST_CAUSE)
    if len(rehearsed.warnings) > MOST_WARNINGS:
        yield "", f"and {_number(len(rehearsed.warnings) - MOST_WARNINGS, 'more warning')}"


def _values(example: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in example.items())


def _gates(rehearsed: Rehearsal) -> Lines:
    """What would be held back, by table and cause."""
    for table, why in rehearsed.failed.items():
        yield "verdict", f"HELD BACK, since {table} can't be made: {why}"
    causes: dict[tuple[str, str], list[date]] = {}
    for table, days in rehearsed.held.items():
        for day, cause in sorted(days.items()):
            causes.setdefault((table, cause), []).append(day)
    for (table, cause), held in list(causes.items())[:FEW]:
        where = "" if held == [ALWAYS] else f" on {spans(tuple(held))}"
        yield "verdict", f"HELD BACK: {table}{where}: {textwrap.shorten(cause, MOST_CAUSE)}"
        for finding in rehearsed.findings.get(table, ()):
            if finding.examples and f"{finding.expectation}: " in cause:
                yield "", f"{finding.expectation}: {_values(finding.examples[0])}"
    if rest := list(causes.values())[FEW:]:
        more = len({day for held in rest for day in held})
        yield "", f"and {_number(len(rest), 'more cause')}, on {_number(more, 'day')}"
    if rehearsed.passed:
        yield "verdict", "the gates would let every day through"


def _next(source: str, first: date, days: Window) -> Lines:
    last = days.end - timedelta(days=1)
    told = f"PROMO_SOURCE={shlex.quote(source)} PROMO_START={first}"
    yield "", f"{told} promo run --from {days.start} --to {last}"


def _verdict(facts: Facts, source: Files, rehearsed: Rehearsal, start: date) -> Lines:
    if not facts.rows:
        yield "verdict", "nothing is delivered"
        return
    if facts.broken:
        yield "verdict", f"HELD BACK, since {_number(len(facts.broken), 'file')} can't be read"
    if facts.lost:
        yield "verdict", "HELD BACK, since mapping.yaml names columns that no file has"
    if facts.wrong:
        yield "verdict", "HELD BACK, since a table beside the events can't be used"
    if facts.accepted or not rehearsed.passed:
        yield from _gates(rehearsed)
    if facts.accepted and rehearsed.passed:
        yield from _next(f"files:{source.folder}", start, Window.of(facts.days))


def _listed(names: Iterable[str], most: int = 30) -> str:
    told = list(names)
    more = f" and {len(told) - most} more" if len(told) > most else ""
    return ", ".join(told[:most]) + more


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
