"""The folder of a simulated shop: where everything is, how files are written and replaced.

simulation.json      options, days, counts (the manifest; its presence marks a simulation)
events/<day>/        the events delivered on each day
items, users, identities, consents (.parquet, .csv or .jsonl), offers.yaml
state/               what the next day needs
truth/               what really happened and would have happened
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import polars as pl

from promo_assets.simulation.campaigns import Policy

Format = Literal["parquet", "csv", "jsonl"]
Mess = Literal["none", "some", "wild"]

MANIFEST = "simulation.json"
VERSION = 2
"""Of the folder's layout and of the draws: another version can't be continued."""
ISO_UTC = "%Y-%m-%dT%H:%M:%S%.6fZ"


class SimulationError(ValueError):
    """A folder can't be simulated into or continued; the message says why and what to do."""


@dataclass(frozen=True)
class Options:
    """What determines a simulation: equal options give equal files."""

    users: int = 10_000
    """People who know the shop when it starts; more come every day."""
    start: date = date(2017, 1, 1)
    seed: int = 1
    format: Format = "parquet"
    assignment: Policy = "random"
    mess: Mess = "none"
    warm_up: int = 0
    """Days without campaigns at the start."""

    @classmethod
    def read(cls, told: dict[str, Any]) -> Options:
        return cls(**told | {"start": date.fromisoformat(told["start"])})


@dataclass(frozen=True)
class Manifest:
    """What simulation.json tells."""

    options: Options
    days: int
    people: int
    rows: dict[str, int]
    """What happened, by event type, before any mess."""
    delivered: int
    """Rows in the files of events."""
    campaigns: tuple[str, ...]
    version: int = VERSION

    def write(self, folder: Path) -> None:
        start = self.options.start
        told = {
            "version": self.version,
            "first_day": str(start),
            "last_day": str(date.fromordinal(start.toordinal() + self.days - 1)),
            "days": self.days,
            "options": asdict(self.options) | {"start": str(start)},
            "people": self.people,
            "rows": self.rows,
            "delivered": self.delivered,
            "campaigns": self.campaigns,
        }
        text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
        replace_text(folder / MANIFEST, text)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises `SimulationError` where ``folder`` is not a simulation of this version."""
        path = folder / MANIFEST
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SimulationError(
                f"{folder} is not a simulation (no {MANIFEST}); run `promo simulate` first"
            ) from error
        except (OSError, ValueError) as error:
            raise SimulationError(f"{path}: can't be read ({error}); simulate again") from error
        if told.get("version") != VERSION:
            raise SimulationError(
                f"{path}: found version {told.get('version')}, expected {VERSION}; simulate again"
            )
        options = Options.read(told["options"])
        names = ("days", "people", "rows", "delivered")
        counts = {name: told[name] for name in names}
        return cls(options=options, campaigns=tuple(told["campaigns"]), **counts)


def replace_text(path: Path, text: str) -> None:
    """Write a text file so that it is either the old or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write ``frame`` in the format that ``path`` ends with; never a part of a file.

    Text formats have times as ISO 8601 with ``Z``, and decimals with all their digits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    if path.suffix == ".parquet":
        frame.write_parquet(partial, compression="zstd", compression_level=1, statistics=True)
    else:
        texts = frame.with_columns(pl.col(pl.Datetime).dt.strftime(ISO_UTC))
        if path.suffix == ".csv":
            texts.write_csv(partial)
        else:
            texts.with_columns(pl.col(pl.Decimal).cast(pl.String)).write_ndjson(partial)
    partial.replace(path)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder``, which takes its place when the block ends well.

    Raises `SimulationError` where ``folder`` has anything in it that is not a simulation.
    """
    folder = folder.absolute()
    refuse_strangers(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = folder.with_name(f".{folder.name}.making-{os.getpid()}")
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    try:
        yield making
        if folder.exists():
            folder.rename(old)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def refuse_strangers(folder: Path) -> None:
    """Raise `SimulationError` unless ``folder`` is missing, empty, or a simulation."""
    if folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir())):
        return
    if folder.exists() or folder.is_symlink():
        raise SimulationError(
            f"{folder} is there and is not a simulation (no {MANIFEST}): it stays as it is. "
            "Name another folder with --out, or move this one away"
        )


def size_of(folder: Path) -> int:
    """Bytes of all files in ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
