"""Truth is for tests: it is complete, and nothing of the platform reads it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.settings import Settings
from promo_assets.simulation.calibration import FIGURES, measure
from promo_assets.sources import open_source

if TYPE_CHECKING:
    from tests.simulation.conftest import Folder

PROJECT = Path(__file__).resolve().parents[2]


def test_no_module_outside_the_simulation_names_truth_or_imports_its_parts() -> None:
    """`promo simulate` itself, in cli/, is the only door."""
    package = PROJECT / "promo_assets"
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package)
        if inside.parts[0] == "simulation" or inside.parts == ("cli", "simulation.py"):
            continue
        text = path.read_text()
        assert "truth/" not in text, path
        assert '"truth"' not in text, path
        if inside.parts[0] != "cli":
            assert "promo_assets.simulation" not in text, path
    for path in sorted((PROJECT / "dbt_like_sql").rglob("*.sql")):
        assert "truth" not in path.read_text().lower(), path


def test_the_simulation_does_not_import_dagster() -> None:
    import subprocess

    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, promo_assets.cli.simulation, promo_assets.simulation.calibration;"
            "print([name for name in sys.modules if name.split('.')[0] in ('dagster', 'mlflow')])",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
    )
    assert told.stdout.strip() == "[]"


@contextmanager
def opened() -> Iterator[list[str]]:
    """The paths that this process opens, as Python sees it."""
    paths: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event in ("open", "os.listdir", "os.scandir"):
            paths.append(str(arguments[0]))

    sys.addaudithook(hook)
    yield paths
    watching = False


def everything(folder: Path, home: Path, days: int, folder_start: Any) -> dict[str, pl.DataFrame]:
    """All that the platform's source takes from a folder."""
    source = open_source(
        installation.delivery(Settings(home=home, source=f"files:{folder}", start=folder_start))
    )
    window = Window(folder_start, folder_start + timedelta(days=days))
    found = {}
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for name in ("events", "items", "users", "device_links", "consents"):
            if name == "events":
                query = source.take(window, connection).query
            else:
                query = getattr(source, name)(connection)
            rows = connection.execute(f"select * from ({query.sql}) order by all", query.parameters)
            found[name] = pl.DataFrame(rows.to_arrow_table())
    return found


def test_a_folder_without_its_truth_gives_the_platform_the_same(
    shop: Folder, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(shop.path, bare)
    shutil.rmtree(bare / "truth")
    shutil.rmtree(bare / "state")
    start, days = shop.manifest.options.start, 5
    with opened() as paths:
        whole = everything(shop.path, tmp_path, days, start)
    assert paths, "the hook saw nothing"
    assert not [path for path in paths if "/truth" in path or "/state" in path]
    without = everything(bare, tmp_path, days, start)
    assert whole["events"].height > 1_000
    for name, frame in whole.items():
        assert frame.equals(without[name]), name


def test_the_funnel_is_what_was_delivered(shop: Folder) -> None:
    counted = shop.query(
        "select cast(event_time as date) as event_date, event_type, count(*) as rows"
        " from events group by all order by all"
    )
    funnel = shop.truth("funnel").filter(pl.col("rows") > 0).sort("event_date", "event_type")
    assert counted.equals(funnel)
    assert shop.manifest.rows == dict(
        funnel.group_by("event_type").agg(pl.col("rows").sum()).iter_rows()
    )


def test_days_and_offers_add_up(shop: Folder) -> None:
    money = "cast({} as decimal(18, 2))"
    counted = shop.query(f"""
        select cast(event_time as date) as event_date,
            count(distinct order_id) filter (event_type = 'purchase') as orders,
            {money.format("sum(quantity * unit_price) filter (event_type = 'purchase')")} as gross,
            {money.format("sum(discount) filter (event_type = 'purchase')")} as discount
        from events group by all order by event_date
    """)
    days = shop.truth("days").select("event_date", "orders", "gross", "discount")
    assert counted.rows() == days.rows()
    offers = shop.query("""
        select offer_id, count(*) filter (event_type = 'offer_sent') as sent,
            count(*) filter (event_type = 'offer_redeemed') as redeemed,
            cast(coalesce(sum(discount) filter (event_type = 'offer_redeemed'), 0)
                as decimal(18, 2)) as cost
        from events where offer_id is not null group by all order by all
    """)
    sums = (
        shop.truth("offers")
        .drop_nulls("offer_id")
        .group_by("offer_id")
        .agg(pl.col("sent", "redeemed", "redemption_cost").sum())
        .sort("offer_id")
    )
    assert offers.rows() == sums.rows()


def test_every_device_and_account_has_a_true_person(shop: Folder) -> None:
    devices, accounts = shop.truth("devices"), shop.truth("accounts")
    pairs = shop.query(
        "select distinct device_id, user_id from events"
        " where device_id is not null and user_id is not null"
    )
    seen = set(shop.query("select distinct device_id from events")["device_id"]) - {None}
    assert seen <= set(devices["device_id"])
    owners = pairs.join(devices, on="device_id").join(accounts, on="user_id", suffix="_account")
    right = owners.filter(pl.col("person_id") == pl.col("person_id_account"))
    # Whoever logs in on a device is one of its owners.
    assert right.select("device_id", "user_id").n_unique() == pairs.height
    shared = devices.group_by("device_id").len().filter(pl.col("len") > 1)
    assert 0.001 < shared.height / devices.height < 0.05
    assert accounts.group_by("person_id").len()["len"].max() == 2
    guests = shop.one(
        "select count(*) filter (user_id is null) / count(*) from events"
        " where device_id is not null"
    )
    assert 0.1 < float(str(guests[0])) < 0.5


def test_planted_pairs_are_in_the_baskets(shop: Folder) -> None:
    planted = shop.truth("pairs")
    assert planted.height == 30
    assert set(planted["item_a"]).isdisjoint(planted["item_b"])
    baskets = shop.query(
        "select distinct order_id, item_id from events where event_type = 'purchase'"
    )
    both = planted.join(baskets, left_on="item_a", right_on="item_id").join(
        baskets.with_columns(found=pl.lit(True)),
        left_on=["order_id", "item_b"],
        right_on=["order_id", "item_id"],
        how="left",
    )
    bought = both.height
    found, expected = both["found"].count(), both["probability"].sum()
    assert bought > 150
    spread = (both["probability"] * (1 - both["probability"])).sum() ** 0.5
    # A complement joins each time its item is chosen, and now and then it is out of stock.
    assert abs(found - expected) < 4 * spread + 0.05 * expected


def test_defaults_are_where_the_published_figures_are(shop: Folder) -> None:
    for figure, value in measure(shop.path, shop.manifest.options.users):
        assert figure.low <= value <= figure.high, (figure.name, value)
    assert len(FIGURES) > 8


@pytest.mark.slow
def test_the_table_in_the_documentation_is_what_is_measured(tmp_path: Path) -> None:
    from promo_assets.simulation.calibration import table
    from promo_assets.simulation.folder import Options
    from promo_assets.simulation.simulate import simulate

    simulate(Options(users=50_000), 90, tmp_path / "shop")
    assert table(tmp_path / "shop", 50_000) in (PROJECT / "docs" / "simulator.md").read_text()
