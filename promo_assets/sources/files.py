"""A folder of event files: ``events/**/*.{parquet,csv,tsv,jsonl,ndjson,json}``, text also packed.

DuckDB scans the files that hold rows of the wanted days, as the inventory knows them; nothing is
loaded here. Every value is taken as text: what can't be used is rejected later, with its reason.
A row without a readable time belongs to the day in its file's name (``2026-11-24``), or else to
the first partition. ``mapping.yaml`` names the folder's own columns (``mapping.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import duckdb

from promo_assets.contract.days import Window
from promo_assets.contract.limits import Gates
from promo_assets.contract.located_yaml import nearest
from promo_assets.people.identifiers import Spellings
from promo_assets.sources import DeliveredDay, Delivery, SourceError, Taken, nothing
from promo_assets.sources.dimensions import Dimensions, TableFile
from promo_assets.sources.formats import FILE, ROW, Layout
from promo_assets.sources.inventory import (
    DAYS_AHEAD,
    EARLIEST,
    DeliveredFile,
    Inventory,
)
from promo_assets.sources.mapping import COLUMNS, RELATION, SourceMapping, load_mapping
from promo_assets.warehouse.publish import Query

MAPPED = """
select
    * exclude (happened_at, "{file}", "{row}"),
    greatest(
        coalesce(
            case
                when happened_at >= timestamp '{earliest}' and not coalesce(
                    cast(happened_at as date)
                    > cast($days_{n} as date[])["{file}" + 1] + {days_ahead}, false
                ) then cast(happened_at as date)
            end,
            cast($days_{n} as date[])["{file}" + 1],
            $first
        ),
        $first
    ) as event_date,
    $paths_{n}["{file}" + 1] as source_file,
    {source_row} as source_row
from (
    select {listed}, {relation}."{file}", {relation}."{row}"
    from ({rows}) as {relation}
    where not ({skipped})
)
"""
EVENT_TYPES = dict.fromkeys((*COLUMNS, "extra", "source", "source_file", "note"), "varchar") | {
    "event_date": "date",
    "source_row": "bigint",
}


@dataclass(frozen=True)
class Files:
    """The folder; ``first`` is the first partition, which takes older rows too. ``store`` is the
    inventory's file; None keeps it in memory."""

    folder: Path
    first: date
    zone: str
    mapping: SourceMapping
    store: Path | None
    name: str = "files"
    version: str = "1"

    @classmethod
    def at(cls, place: str | Path, delivery: Delivery, name: str = "files") -> Files:
        """The source in ``place``; raises `SourceError` where nothing is delivered there."""
        folder = Path(place).expanduser().resolve()
        mapping = load_mapping(folder / "mapping.yaml")
        expected = folder if mapping.events else folder / "events"
        if not expected.is_dir():
            raise SourceError(
                f"{expected} is not a folder (is what it lies on mounted?); expected event files "
                f"in {expected}, or where mapping.yaml says under events:"
            )
        return cls(folder, delivery.first, delivery.zone, mapping, delivery.inventory, name)

    @contextmanager
    def inventory(self, connection: duckdb.DuckDBPyConnection) -> Iterator[Inventory]:
        """What is delivered now."""
        inventory = Inventory(self.folder, self.store, self.mapping, self.zone, self.first)
        try:
            inventory.refresh(connection)
            yield inventory
        finally:
            inventory.close()

    @property
    def gates(self) -> Gates:
        return self.mapping.gates

    @property
    def ids(self) -> Spellings:
        return self.mapping.ids

    @property
    def equal_rows_kept(self) -> bool:
        return self.mapping.equal_rows == "keep"

    def unknown(self, inventory: Inventory) -> list[str]:
        """What the mapping names and no readable file has, where there are any."""
        layouts = {file.layout: None for file in inventory.files() if file.layout}
        names = dict.fromkeys(name for layout in layouts for name in layout.types())
        told = [*self.mapping.unknown([*names])] if names else []
        for explode in self.mapping.exploded[:1]:
            if names and not any(layout.explode for layout in layouts):
                told.append(f"explode: nothing has a column {explode!r}; {nearest(explode, names)}")
        return told

    def take(self, window: Window, connection: duckdb.DuckDBPyConnection) -> Taken:
        with self.inventory(connection) as inventory:
            for told in self.unknown(inventory):
                raise SourceError(f"{self.folder / 'mapping.yaml'}: {told}")
            problems: dict[date, list[str]] = {}
            for file in inventory.broken(window):
                days = window.days if file.day is None else (max(file.day, self.first),)
                for day in days:
                    problems.setdefault(day, []).append(f"{file.path}: {file.problem}")
            return Taken(
                self.rows(window, inventory),
                inventory.delivered(window),
                {day: tuple(told) for day, told in problems.items()},
            )

    def rows(self, window: Window, inventory: Inventory) -> Query:
        """The rows of ``window`` in the readable files of the inventory."""
        groups = _by_layout(inventory.files(window))
        selects = [inventory.select_of(layout) for layout in groups]
        if not groups:
            return nothing(EVENT_TYPES)
        parameters: dict[str, Any] = {
            "first": inventory.first,
            "start": window.start,
            "end": window.end,
            "source": self.name,
        }
        mapped = []
        for number, ((layout, group), listed) in enumerate(
            zip(groups.items(), selects, strict=True)
        ):
            mapped.append(self._mapped(layout, listed, number))
            parameters |= self._delivered(layout, group, number, inventory)
        return Query(
            f"select *, $source as source, {self.mapping.note_sql()} as note "
            f"from ({'union all by name'.join(mapped)}) "
            "where event_date >= $start and event_date < $end",
            parameters,
        )

    def items(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return self.dimensions(connection).items()

    def users(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return self.dimensions(connection).users()

    def device_links(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return self.dimensions(connection).device_links()

    def consents(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return self.dimensions(connection).consents()

    def delivered(
        self, window: Window, connection: duckdb.DuckDBPyConnection
    ) -> Mapping[date, DeliveredDay]:
        with self.inventory(connection) as inventory:
            return inventory.delivered(window)

    def span(self, connection: duckdb.DuckDBPyConnection) -> Window | None:
        with self.inventory(connection) as inventory:
            return inventory.span(datetime.now(UTC).date())

    def dimensions(self, connection: duckdb.DuckDBPyConnection) -> Dimensions:
        """The tables beside the events."""

        def find(stem: str) -> TableFile | None:
            return TableFile.find(self.folder, stem, self.mapping, connection)

        return Dimensions(find, self.mapping, self.zone, connection)

    def _mapped(self, layout: Layout, listed: str, number: int) -> str:
        aside = self.mapping.kept_aside(layout.types())
        # Parquet numbers the rows of each file, other readers those of all files together.
        before = "" if layout.row_of_file else f' - $before_{number}["{FILE}" + 1]'
        return MAPPED.format(
            earliest=EARLIEST,
            days_ahead=DAYS_AHEAD,
            n=number,
            file=FILE,
            row=ROW,
            relation=RELATION,
            listed=listed,
            skipped=self.mapping.skipped_sql(layout.types(aside)),
            source_row=f'"{ROW}"{before}',
            rows=layout.relation(f"$files_{number}", aside, f"$files_{number}_folders"),
        )

    def _delivered(
        self, layout: Layout, group: Sequence[DeliveredFile], number: int, inventory: Inventory
    ) -> dict[str, Any]:
        paths = [file.path for file in group]
        told: dict[str, Any] = {
            f"paths_{number}": paths,
            f"days_{number}": [file.day for file in group],
        }
        if not layout.row_of_file:
            rows = [0, *(file.rows for file in group)]
            told[f"before_{number}"] = list(accumulate(rows))[:-1]
        return told | inventory.files_of(layout, paths, f"files_{number}")


def _by_layout(files: Sequence[DeliveredFile]) -> dict[Layout, list[DeliveredFile]]:
    groups: dict[Layout, list[DeliveredFile]] = {}
    for file in files:
        if file.layout is not None:
            groups.setdefault(file.layout, []).append(file)
    return groups
