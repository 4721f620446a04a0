"""A folder of event files: ``events/**/*.{parquet,csv,jsonl}`` (also ``.gz``, ``.zst``).

Column names are the contract's; missing columns are null. Times without a zone are read in
``PROMO_TIMEZONE``. Every value is taken as text: what can't be used is rejected later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from promo_assets.contract.events import EVENT_COLUMNS
from promo_assets.partitions import Window
from promo_assets.settings import Settings
from promo_assets.sources import SourceError
from promo_assets.warehouse.publish import Query

FORMATS = {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json"}
NAME = re.compile(r".+\.(parquet|csv|jsonl)(\.gz|\.zst)?")
READ = {
    "parquet": "read_parquet({files}, filename = true, union_by_name = true)",
    "csv": "read_csv({files}, filename = true, union_by_name = true, all_varchar = true,"
    " header = true, delim = ',', quote = '\"', escape = '\"')",
    "jsonl": "read_json({files}, filename = true, format = 'newline_delimited')",
}
EMPTY = "select {columns}, cast(null as varchar) as filename, 0 as source_row where false"


@dataclass(frozen=True)
class Files:
    """The folder; ``first`` is the first partition, which takes what has no readable time."""

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
