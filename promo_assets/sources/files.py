"""A folder of event files: ``events/**/*.{parquet,csv,jsonl}`` (also ``.gz``, ``.zst``).

Column names are the contract's; missing columns are null, other columns are ignored. Times
without an offset are read in ``PROMO_TIMEZONE``. Every value is taken as text: what can't be used
is rejected later, with its reason. A row without a readable time belongs to the day in its file's
name (``2026-11-24``), or else to the first partition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import polars as pl

from promo_assets.contract.events import EVENT_COLUMNS
from promo_assets.partitions import Window
from promo_assets.settings import Settings
from promo_assets.sources import (
    CONSENT_COLUMNS,
    ITEM_COLUMNS,
    LINK_COLUMNS,
    USER_COLUMNS,
    SourceError,
    nothing,
)
from promo_assets.warehouse.publish import Query

NAME = re.compile(r".+\.(parquet|csv|jsonl)(\.gz|\.zst)?")
COLUMNS = tuple(column.name for column in EVENT_COLUMNS if column.name != "event_date")

EVENTS = f"""
with timed as (
    select
        *,
        timezone('UTC', case
            when regexp_matches(event_time, '\\d(Z|[+-]\\d\\d(:?\\d\\d)?)$')
                and length(event_time) > 10
                then try_cast(event_time as timestamptz)
            else timezone($zone, try_cast(event_time as timestamp))
        end) as happened_at,
        try_cast(regexp_extract(source_file, '\\d{{4}}-\\d\\d-\\d\\d') as date) as file_day,
    from delivered_files
),
dated as (
    select *, greatest(coalesce(cast(happened_at as date), file_day, $first), $first) as event_date
    from timed
)
select
    {", ".join(name for name in COLUMNS if name != "event_time")},
    coalesce(strftime(happened_at, '%Y-%m-%d %H:%M:%S.%f'), event_time) as event_time,
    event_date,
    'files' as source,
    source_file,
    source_row,
    cast(null as varchar) as note,
from dated
where event_date >= $start and event_date < $end
"""


@dataclass(frozen=True)
class Files:
    """The folder; ``first`` is the first partition, which takes older rows too."""

    folder: Path
    first: date
    zone: str
    name: str = "files"
    version: str = "1"

    @classmethod
    def at(cls, place: str, settings: Settings) -> Files:
        folder = Path(place).expanduser().resolve()
        if not (folder / "events").is_dir():
            raise SourceError(
                f"PROMO_SOURCE=files:{place}: {folder / 'events'} is not a folder; expected event "
                "files in events/**/*.{parquet,csv,jsonl}"
            )
        return cls(folder, settings.start, settings.timezone)

    def events(self, window: Window, connection: duckdb.DuckDBPyConnection) -> Query:
        frames = [_read(path, self.folder) for path in sorted(self.folder.glob("events/**/*"))]
        nothing = pl.DataFrame(
            schema=dict.fromkeys((*COLUMNS, "source_file"), pl.String) | {"source_row": pl.Int64}
        )
        rows = pl.concat([nothing, *(frame for frame in frames if frame is not None)])
        connection.register("delivered_files", rows.to_arrow())
        parameters = {"start": window.start, "end": window.end}
        return Query(EVENTS, parameters | {"first": self.first, "zone": self.zone})

    def items(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return nothing(ITEM_COLUMNS)

    def users(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return nothing(USER_COLUMNS)

    def device_links(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return nothing(LINK_COLUMNS)

    def consents(self, connection: duckdb.DuckDBPyConnection) -> Query:
        return nothing(CONSENT_COLUMNS)

    def fingerprints(
        self, window: Window, connection: duckdb.DuckDBPyConnection
    ) -> Mapping[date, str]:
        raise NotImplementedError


def _read(path: Path, folder: Path) -> pl.DataFrame | None:
    """The file's contract columns as text, with file and row number; None for other files."""
    match = NAME.fullmatch(path.name)
    if match is None or not path.is_file():
        return None
    try:
        if match[1] == "parquet":
            frame = pl.read_parquet(path)
        elif match[1] == "csv":
            frame = pl.read_csv(path, infer_schema=False)
        else:
            frame = pl.read_ndjson(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(
            f"{path}: can't be read as {match[1]} ({reason}). Repair or remove the file"
        ) from error
    return frame.select(
        *(
            (
                pl.col(name).cast(pl.String) if name in frame.columns else pl.lit(None, pl.String)
            ).alias(name)
            for name in COLUMNS
        ),
        source_file=pl.lit(str(path.relative_to(folder))),
        source_row=pl.int_range(pl.len(), dtype=pl.Int64),
    )
