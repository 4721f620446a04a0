"""A folder of event files: ``events/**/*.{parquet,csv,jsonl}`` (also ``.gz``, ``.zst``).

DuckDB scans the files that hold rows of the wanted days, as the inventory knows them; nothing is
loaded here. Every value is taken as text: what can't be used is rejected later, with its reason.
A row without a readable time belongs to the day in its file's name (``2026-11-24``), or else to
the first partition. ``mapping.yaml`` names the folder's own columns (``mapping.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import accumulate
from pathlib import Path
from typing import Any

import duckdb

from promo_assets.contract.days import Window
from promo_assets.contract.limits import Gates
from promo_assets.people.identifiers import Spellings
from promo_assets.sources import Delivery, SourceError, nothing
from promo_assets.sources.dimensions import Dimensions, TableFile
from promo_assets.sources.formats import FILE, ROW, Layout
from promo_assets.sources.inventory import DeliveredFile, Inventory
from promo_assets.sources.mapping import COLUMNS, RELATION, SourceMapping, load_mapping
from promo_assets.warehouse.publish import Query

MAPPED = """
select
    * exclude (happened_at, "{file}", "{row}"),
    greatest(
        coalesce(cast(happened_at as date), cast($days_{n} as date[])["{file}" + 1], $first),
        $first
    ) as event_date,
    $paths_{n}["{file}" + 1] as source_file,
    {source_row} as source_row
from (select {listed}, {relation}."{file}", {relation}."{row}" from ({rows}) as {relation})
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
                f"{expected} is not a folder; expected event files in "
                "events/**/*.{parquet,csv,jsonl}, or where mapping.yaml says under events:"
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

    def events(self, window: Window, connection: duckdb.DuckDBPyConnection) -> Query:
        with self.inventory(connection) as inventory:
            if broken := inventory.broken(window):
                raise SourceError(self._unreadable(broken))
            return self.rows(window, inventory)

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
            parameters |= self._delivered(layout, group, number)
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

    def fingerprints(
        self, window: Window, connection: duckdb.DuckDBPyConnection
    ) -> Mapping[date, str]:
        with self.inventory(connection) as inventory:
            return inventory.fingerprints(window)

    def dimensions(self, connection: duckdb.DuckDBPyConnection) -> Dimensions:
        """The tables beside the events."""

        def find(stem: str) -> TableFile | None:
            return TableFile.find(self.folder, stem, connection)

        return Dimensions(find, self.mapping, self.zone, connection)

    def _mapped(self, layout: Layout, listed: str, number: int) -> str:
        aside = self.mapping.kept_aside(layout.types())
        # Parquet numbers the rows of each file, other readers those of all files together.
        before = "" if layout.format == "parquet" else f' - $before_{number}["{FILE}" + 1]'
        return MAPPED.format(
            n=number,
            file=FILE,
            row=ROW,
            relation=RELATION,
            listed=listed,
            source_row=f'"{ROW}"{before}',
            rows=layout.relation(f"$files_{number}", aside),
        )

    def _delivered(
        self, layout: Layout, group: Sequence[DeliveredFile], number: int
    ) -> dict[str, Any]:
        told: dict[str, Any] = {
            f"files_{number}": [str(self.folder / file.path) for file in group],
            f"paths_{number}": [file.path for file in group],
            f"days_{number}": [file.day for file in group],
        }
        if layout.format != "parquet":
            rows = [0, *(file.rows for file in group)]
            told[f"before_{number}"] = list(accumulate(rows))[:-1]
        return told

    def _unreadable(self, broken: Sequence[DeliveredFile]) -> str:
        more = f" (and {len(broken) - 1} more files)" if len(broken) > 1 else ""
        file = broken[0]
        return (
            f"{self.folder / file.path}: can't be read: {file.problem}{more}. Repair or remove "
            "the file"
        )


def _by_layout(files: Sequence[DeliveredFile]) -> dict[Layout, list[DeliveredFile]]:
    groups: dict[Layout, list[DeliveredFile]] = {}
    for file in files:
        if file.layout is not None:
            groups.setdefault(file.layout, []).append(file)
    return groups
