"""Complete Journey: the counts behind docs/complete-journey.md, on the real data."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.settings import Settings
from promo_assets.sources import SourceError, open_source
from promo_assets.sources.complete_journey import CompleteJourney

YEAR = Window(date(2017, 1, 1), date(2018, 1, 1))


@pytest.fixture(scope="module")
def source() -> CompleteJourney:
    return CompleteJourney.installed(YEAR.start)


@pytest.fixture(scope="module")
def year(source: CompleteJourney):
    connection = duckdb.connect()
    query = source.take(YEAR, connection).query
    connection.execute(f"create table events as {query.sql}", query.parameters)
    yield connection
    connection.close()


def test_every_line_send_and_redemption_of_the_year_is_delivered(year) -> None:
    counts = dict(year.execute("select event_type, count(*) from events group by all").fetchall())
    assert counts == {"purchase": 1_469_307 - 534, "offer_sent": 6_589, "offer_redeemed": 2_102}


def test_the_534_late_lines_belong_to_the_next_utc_day(source) -> None:
    connection = duckdb.connect()
    query = source.take(Window(date(2018, 1, 1), date(2018, 1, 2)), connection).query
    late = connection.execute(query.sql, query.parameters).fetchall()
    assert len(late) == 534


def test_what_was_paid_is_exact_to_the_cent(year, source) -> None:
    (found,) = year.execute(
        "select sum(cast(quantity as bigint) * cast(unit_price as decimal(18, 2))"
        " - cast(discount as decimal(18, 2))) from events"
        " where event_type = 'purchase' and cast(quantity as bigint) > 0"
    ).fetchone()
    (expected,) = year.execute(
        "select sum(greatest(cast(round(100 * (sales_value - coupon_disc)) as bigint), 0))"
        " from read_parquet($file) where quantity > 0 and transaction_timestamp < '2018-01-01'",
        {"file": str(source.folder / "transactions.parquet")},
    ).fetchone()
    assert found == Decimal(expected) / 100


def test_event_ids_are_unique(year) -> None:
    assert year.execute("select count(*) - count(distinct event_id) from events").fetchone() == (0,)


def test_measured_goods_coupons_and_free_lines_are_noted(year) -> None:
    notes = dict(
        year.execute(
            "select split_part(note, ':', 1), count(*) from events"
            " where note is not null group by 1"
        ).fetchall()
    )
    assert notes == {"measured_goods": 13_506, "coupon_above_amount": 3_504, "free_line": 3_547}


def test_sends_of_2016_arrive_with_the_first_partition(year) -> None:
    early = year.execute(
        "select count(*), max(event_date) from events where cast(event_time as date) < '2017-01-01'"
    ).fetchone()
    assert early == (147, YEAR.start)


def test_every_redemption_finds_a_basket_of_its_shop_day(year) -> None:
    (without,) = year.execute(
        "select count(*) from events where event_type = 'offer_redeemed' and order_id is null"
    ).fetchone()
    assert without == 0


@pytest.mark.slow
def test_a_day_alone_gives_the_rows_that_the_year_gives(year, source) -> None:
    day = Window(date(2017, 5, 10), date(2017, 5, 11))
    query = source.take(day, year).query
    year.execute(f"create or replace table one as {query.sql}", query.parameters)
    (different,) = year.execute(
        "select count(*) from (from one except all from events"
        " union all (from events where event_date = '2017-05-10' except all from one))"
    ).fetchone()
    assert different == 0


def test_an_unknown_source_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Did you mean 'complete_journey'"):
        open_source(installation.delivery(Settings(home=tmp_path, source="complete_jurney")))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is not a folder .*expected event files in"):
        open_source(
            installation.delivery(Settings(home=tmp_path, source=f"files:{tmp_path / 'none'}"))
        )
