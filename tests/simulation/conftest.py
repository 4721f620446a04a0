"""Simulated shops on disk, made once and only read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest

from promo_assets.simulation.folder import Manifest, Options
from promo_assets.simulation.simulate import simulate


@dataclass(frozen=True)
class Folder:
    """A simulation's folder, and questions to it."""

    path: Path
    manifest: Manifest

    @classmethod
    def made(cls, path: Path, days: int, chunk: int = 65_536, **options: object) -> Folder:
        manifest = simulate(Options(**options), days, path, chunk=chunk)  # type: ignore[arg-type]
        return cls(path, manifest)

    def truth(self, name: str) -> pl.DataFrame:
        """A table of the truth: one file, or all files of a folder."""
        one = self.path / "truth" / f"{name}.parquet"
        return pl.read_parquet(one if one.exists() else self.path / "truth" / name / "*.parquet")

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.path / f"{name}.parquet")

    def query(self, sql: str) -> pl.DataFrame:
        """The answer to ``sql`` about ``events`` (Parquet), in UTC."""
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            events = str(self.path / "events" / "*" / "*.parquet")
            read = connection.read_parquet(events, filename=True, union_by_name=True)
            read.create_view("events")
            return pl.DataFrame(connection.execute(sql).to_arrow_table())

    def one(self, sql: str) -> tuple[object, ...]:
        """The only row of the answer."""
        (row,) = self.query(sql).rows()
        return row

    def files(self) -> dict[str, bytes]:
        """Every file with its bytes."""
        paths = (path for path in sorted(self.path.rglob("*")) if path.is_file())
        return {str(path.relative_to(self.path)): path.read_bytes() for path in paths}


START = date(2024, 3, 1)
Made = Callable[..., Folder]


@pytest.fixture
def made() -> Made:
    """Simulates 300 people for 10 days into a folder, unless told otherwise."""

    def small(path: Path, days: int = 10, **options: object) -> Folder:
        return Folder.made(path, days, **{"users": 300, "seed": 5} | options)

    return small


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """3,000 people, 31 days, randomised campaigns."""
    path = tmp_path_factory.mktemp("simulated") / "shop"
    return Folder.made(path, 31, users=3_000, start=START, seed=7)
