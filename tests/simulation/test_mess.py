"""Mess in known numbers: what the platform's cleaning rejects is what the truth says."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.contract.events import EVENT_TYPES
from promo_assets.settings import Settings
from promo_assets.simulation.mess import KINDS, LOST
from promo_assets.sources import open_source
from promo_assets.warehouse.models.parsing import load_model

if TYPE_CHECKING:
    from tests.simulation.conftest import Folder, Made

MODELS = Path(__file__).resolve().parents[2] / "dbt_like_sql"
DAYS = 14


def ingested(folder: Folder, place: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Delivered rows by day, and rejected ones by day and reason, as the platform's own SQL finds
    them in the folder; files that are cut are removed first, as an engineer would."""
    for path in folder.path.glob("events/*/*truncated*"):
        path.unlink()
    start = folder.manifest.options.start
    window = Window(start, start + timedelta(days=folder.manifest.days))
    source = open_source(
        installation.delivery(Settings(home=place, source=f"files:{folder.path}", start=start))
    )
    types = pl.DataFrame(
        [(kind.name, kind.needs_order_line, kind.needs_offer) for kind in EVENT_TYPES],
        schema=["event_type", "needs_order_line", "needs_offer"],
        orient="row",
    )
    rejected = load_model(MODELS / "core" / "rejected_events.sql", MODELS).sql
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute("create schema raw")
        connection.execute("create schema core")
        connection.register("types", types.to_arrow())
        connection.execute("create table core.event_types as select * from types")
        query = source.take(window, connection).query
        connection.execute(
            f"create table raw.events as select *, event_id as event_key from ({query.sql})",
            query.parameters,
        )
        bounds = {"start": window.start, "end": window.end}
        return (
            pl.DataFrame(
                connection.execute(
                    "select event_date, count(*) as rows from raw.events group by all order by all"
                ).to_arrow_table()
            ),
            pl.DataFrame(
                connection.execute(
                    f"select event_date, reason, count(*) as rows from ({rejected})"
                    " group by all order by all",
                    bounds,
                ).to_arrow_table()
            ),
        )


def expected(folder: Folder, *keys: str) -> pl.DataFrame:
    """The same from the truth."""
    last = folder.manifest.options.start + timedelta(days=folder.manifest.days - 1)
    rows = folder.truth("rows").filter(
        (pl.col("delivered_on") <= last)
        & (pl.col("event_date") <= last)
        & (pl.col("reason").ne_missing(LOST))
    )
    if "reason" in keys:
        rows = rows.filter(pl.col("reason").is_not_null())
    return rows.group_by(keys).agg(pl.col("rows").sum()).sort(keys)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_rejected_rows_are_exactly_those_of_the_truth(
    made: Made, tmp_path: Path, kind: str
) -> None:
    folder = made(tmp_path / "shop", DAYS, users=4_000, seed=1, mess="wild", format=kind)
    delivered, rejected = ingested(folder, tmp_path / "home")
    assert delivered.equals(expected(folder, "event_date"))
    assert rejected.equals(expected(folder, "event_date", "reason"))
    assert set(rejected["reason"]) == {reason for reason in KINDS.values() if reason} | {
        "before_partition"
    }


def test_some_mess_keeps_every_day_below_the_gate(made: Made, tmp_path: Path) -> None:
    folder = made(tmp_path / "shop", DAYS, users=2_000, mess="some")
    delivered, rejected = ingested(folder, tmp_path / "home")
    assert rejected.equals(expected(folder, "event_date", "reason"))
    counted = rejected.filter(~pl.col("reason").is_in(["duplicate", "before_partition"]))
    share = (
        counted.group_by("event_date")
        .agg(bad=pl.col("rows").sum())
        .join(delivered, on="event_date", how="right")
        .select(pl.col("bad").fill_null(0) / pl.col("rows"))
        .to_series()
    )
    assert 0.002 < share.max() < 0.05  # type: ignore[operator]
    names = {path.name for path in folder.path.glob("events/*/*")}
    assert not any(word in name for name in names for word in ("truncated", "renamed", "added"))


def test_every_delivered_row_is_accounted_for(made: Made, tmp_path: Path) -> None:
    folder = made(tmp_path / "shop", DAYS, mess="wild", format="csv")
    cut = [path for path in folder.path.glob("events/*/*truncated*")]
    whole = [path for path in folder.path.glob("events/*/*") if path not in cut]
    rows = sum(pl.read_csv(path, infer_schema=False).height for path in whole)
    told = json.loads((folder.path / "truth" / "mess.json").read_text())
    assert rows == told["delivered"] - told["kinds"]["truncated_file"]
    assert sum(told["kinds"].values()) == told["delivered"] == folder.manifest.delivered
    # What was late and has not come yet, and copies, aside: the rows are what happened.
    happened = sum(folder.manifest.rows.values())
    others = sum(told["kinds"][name] for name in ("duplicate", "bot", "test_account"))
    assert told["delivered"] - others + told["not_yet_delivered"] == happened
    assert len(cut) == 1
    assert not cut[0].read_text().endswith("\n")


def test_late_rows_come_with_a_later_day_and_files_of_other_columns_are_apart(
    made: Made, tmp_path: Path
) -> None:
    folder = made(tmp_path / "shop", DAYS, mess="wild")
    late = pl.concat(
        [
            pl.read_parquet(path).select("event_time", filename=pl.lit(path.name))
            for path in folder.path.glob("events/*/*-late-*")
        ]
    )
    delivered = late["filename"].str.slice(0, 10).str.to_date()
    days = (delivered - late["event_time"].dt.date()).dt.total_days()
    assert set(days) == {1, 2, 3}
    (renamed,) = folder.path.glob("events/*/*renamed*")
    (added,) = folder.path.glob("events/*/*added*")
    assert "unit_price" not in pl.read_parquet_schema(renamed)
    assert "price" in pl.read_parquet_schema(renamed)
    assert "referrer" in pl.read_parquet_schema(added)


def test_bots_test_accounts_and_wrong_clocks_are_named(made: Made, tmp_path: Path) -> None:
    folder = made(tmp_path / "shop", DAYS, users=1_000, mess="some")
    told = json.loads((folder.path / "truth" / "mess.json").read_text())
    bots = folder.query(
        "select device_id, substr(event_time, 1, 10) as day, count(*) as views from events"
        f" where device_id in {(*told['bot_devices'], '')} and event_type = 'view' group by all"
    )
    assert bots.height > 2
    assert bots["views"].min() >= 1_500  # type: ignore[operator]
    (tests,) = folder.one(f"select count(*) from events where user_id in {(*told['test_users'],)}")
    assert tests == told["kinds"]["test_account"] == DAYS * 18
    wrong = folder.truth("devices").filter(pl.col("clock_ahead_seconds") != 0)
    assert wrong.height > 5
    assert wrong["clock_ahead_seconds"].abs().is_between(3600, 6 * 3600).all()


def test_a_simulation_without_mess_is_clean(shop: Folder) -> None:
    assert shop.truth("rows")["kind"].unique().to_list() == ["clean"]
    assert shop.truth("rows")["reason"].null_count() == shop.truth("rows").height
