"""The inventory of a folder: what it reads again and what not, and what fingerprints tell."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promo_assets.contract.days import Window
from promo_assets.sources import inventory
from promo_assets.sources.files import Files
from promo_assets.sources.inventory import day_in
from promo_assets.sources.listing import listed
from promo_assets.sources.mapping import SourceMapping, load_mapping

FIRST = date(2024, 1, 1)
MONTH = Window(FIRST, date(2024, 2, 1))
HEADER = "event_time,event_type,user_id,price_each\n"


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def rows(number: int, count: int = 3) -> str:
    return "".join(f"{day(number)} 10:00:0{row},view,anna,1\n" for row in range(count))


class Folder:
    """A folder of event files with an installation's inventory beside it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.store = place / "home" / "inventory.sqlite"
        (place / "events").mkdir(parents=True)

    def write(self, name: str, content: str) -> Path:
        path = self.place / "events" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    @property
    def source(self) -> Files:
        mapping = load_mapping(self.place / "mapping.yaml")
        return Files(self.place, FIRST, "UTC", mapping, self.store)

    def fingerprints(self, window: Window = MONTH) -> Mapping[date, str]:
        with duckdb.connect() as connection:
            delivered = self.source.delivered(window, connection)
        return {day: told.fingerprint for day, told in delivered.items()}

    def count(self, window: Window) -> int:
        with duckdb.connect() as connection:
            query = self.source.take(window, connection).query
            (found,) = connection.execute(
                f"select count(*) from ({query.sql})", dict(query.parameters)
            ).fetchone()
        return found

    def problems(self, window: Window) -> Mapping[date, tuple[str, ...]]:
        with duckdb.connect() as connection:
            return self.source.take(window, connection).problems


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path)
    for number in range(5):
        folder.write(f"{day(number)}.csv", HEADER + rows(number))
    return folder


def changed(before: Mapping[date, str], after: Mapping[date, str]) -> set[date]:
    return {one for one in before.keys() | after.keys() if before.get(one) != after.get(one)}


def test_every_day_with_rows_has_a_fingerprint_and_others_have_none(folder: Folder) -> None:
    assert list(folder.fingerprints()) == [day(number) for number in range(5)]
    assert list(folder.fingerprints(Window(day(3), day(9)))) == [day(3), day(4)]


@pytest.mark.parametrize(
    ("change", "days"),
    [
        (lambda folder: folder.write("late.csv", HEADER + rows(1)), {1}),
        (lambda folder: folder.write(f"{day(2)}.csv", HEADER + rows(2, 2)), {2}),
        (lambda folder: folder.write(f"{day(2)}.csv", HEADER + rows(3)), {2, 3}),
        (lambda folder: folder.write("more/x.csv", HEADER + rows(0) + rows(4)), {0, 4}),
        (lambda folder: (folder.place / "events" / f"{day(3)}.csv").unlink(), {3}),
        (lambda folder: (folder.place / "events" / f"{day(3)}.csv").touch(), set()),
        (lambda folder: folder.write("README.txt", "x"), set()),
        (lambda folder: folder.write("empty.csv", HEADER), set()),
    ],
    ids=["late", "shorter", "moved", "two days", "gone", "touched", "no events", "no rows"],
)
def test_fingerprints_change_on_the_days_whose_rows_may_have_changed(
    folder: Folder, change: Callable[[Folder], object], days: set[int]
) -> None:
    before = folder.fingerprints()
    change(folder)
    assert changed(before, folder.fingerprints()) == {day(number) for number in days}


def test_a_mapping_changes_the_days_that_it_reads_differently_and_no_others(folder: Folder) -> None:
    folder.write(f"{day(4)}.csv", (HEADER + rows(4)).replace("price_each", "unit_price"))
    before = folder.fingerprints()
    (folder.place / "mapping.yaml").write_text("columns: {unit_price: price_each}\n")
    assert changed(before, folder.fingerprints()) == {day(number) for number in range(4)}

    (folder.place / "mapping.yaml").write_text("time_zone: Pacific/Auckland\n")
    assert list(folder.fingerprints()) == [day(number) for number in range(4)]
    assert folder.count(Window(FIRST, day(1))) == 6


def test_files_that_did_not_change_are_not_read_again_and_other_days_not_at_all(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder.fingerprints()
    seen = listed(folder.place, SourceMapping())
    # Whoever reads it now stumbles; the folder looks as it did.
    folder.write(f"{day(0)}.csv", "1,2,3,4,5\n" * 9)
    monkeypatch.setattr(inventory, "listed", lambda place, mapping: seen)
    assert folder.fingerprints() == before
    assert folder.count(Window(day(1), day(5))) == 12
    with pytest.raises(duckdb.Error):
        folder.count(Window(day(0), day(1)))


@pytest.mark.parametrize("way", ["in place", "another inode"])
def test_a_corrected_file_with_the_same_size_and_time_is_seen(folder: Folder, way: str) -> None:
    before = folder.fingerprints()
    path = folder.place / "events" / f"{day(1)}.csv"
    stat = path.stat()
    corrected = path.with_name(".new") if way == "another inode" else path
    corrected.write_text(path.read_text().replace("anna", "bert"))
    os.utime(corrected, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    corrected.rename(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert changed(before, folder.fingerprints()) == {day(1)}


def test_a_broken_file_holds_up_its_own_day_only_until_it_is_repaired(folder: Folder) -> None:
    folder.write(f"{day(2)}.csv", HEADER + "one,two\n")
    assert folder.problems(MONTH).keys() == {day(2)}
    assert f"{day(2)}.csv: line 2 has 2 of 4 fields" in folder.problems(MONTH)[day(2)][0]
    assert folder.count(MONTH) == 12
    folder.write(f"{day(2)}.csv", HEADER + rows(2))
    assert folder.problems(MONTH) == {}
    assert folder.count(MONTH) == 15


def test_a_broken_file_among_many_is_found_and_the_others_are_read(folder: Folder) -> None:
    for number in range(5, 25):
        folder.write(f"{day(number)}.csv", HEADER + rows(number))
    folder.write(f"{day(13)}.csv", HEADER + '2024-01-14,view,"open,1\n')
    assert list(folder.fingerprints()) == [day(number) for number in range(25) if number != 13]


@pytest.mark.parametrize("damage", ["deleted", "no database", "another version"])
def test_the_inventory_is_only_a_cache(folder: Folder, damage: str) -> None:
    before = folder.fingerprints()
    if damage == "deleted":
        folder.store.unlink()
    elif damage == "no database":
        folder.store.write_bytes(b"x" * 5_000)
    else:
        with sqlite3.connect(folder.store) as db:
            db.executescript("drop table files; pragma user_version = 99;")
    assert folder.fingerprints() == before


def test_two_folders_share_an_inventory_without_seeing_each_other(tmp_path: Path) -> None:
    one, other = Folder(tmp_path / "one"), Folder(tmp_path / "other")
    other.store = one.store
    one.write("a.csv", HEADER + rows(1))
    other.write("a.csv", HEADER + rows(2))
    assert list(one.fingerprints()) == [day(1)]
    assert list(other.fingerprints()) == [day(2)]
    assert list(one.fingerprints()) == [day(1)]


SCAN = """
import sys
from datetime import date
from pathlib import Path
import duckdb
from promo_assets.contract.days import Window
from promo_assets.sources.files import Files
from promo_assets.sources.mapping import SourceMapping
place = Path(sys.argv[1])
source = Files(place, date(2024, 1, 1), "UTC", SourceMapping(), place / "home/inventory.sqlite")
month = Window(date(2024, 1, 1), date(2024, 2, 1))
with duckdb.connect() as connection:
    for day, told in source.delivered(month, connection).items():
        print(day, told.fingerprint)
"""


def test_processes_that_take_inventory_at_once_agree(folder: Folder) -> None:
    for number in range(300):
        folder.write(f"{day(number % 25)}/{number}.csv", HEADER + rows(number % 25))
    commands = [[sys.executable, "-c", SCAN, str(folder.place)]] * 2
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    told = [process.communicate(timeout=120) for process in running]
    expected = "".join(f"{day} {told}\n" for day, told in folder.fingerprints().items())
    assert told == [(expected, "")] * 2


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("events/2024-01-09.csv", date(2024, 1, 9)),
        ("events/date=2024-01-09/part-0.parquet", date(2024, 1, 9)),
        ("events/shop_20240109_3.csv", date(2024, 1, 9)),
        ("events/2024-13-99/2024-01-09.csv", date(2024, 1, 9)),
        ("events/part-000020240109.csv", None),
        ("events/1234567890.csv", None),
        ("events/a.csv", None),
    ],
)
def test_the_day_in_a_path(path: str, expected: date | None) -> None:
    assert day_in(path) == expected


FILES = st.dictionaries(
    st.sampled_from(["a.csv", "b.csv", "2024-01-03.csv", "x/2024-01-20.csv"]),
    st.lists(st.integers(-3, 8) | st.none(), max_size=4),
)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=FILES, after=FILES)
def test_whatever_changes_a_kept_inventory_says_what_a_new_one_says(
    tmp_path_factory: pytest.TempPathFactory,
    before: dict[str, list[int | None]],
    after: dict[str, list[int | None]],
) -> None:
    folder = Folder(tmp_path_factory.mktemp("any"))
    for files in (before, after):
        for path in (folder.place / "events").glob("**/*.csv"):
            path.unlink()
        for name, numbers in files.items():
            told = (f"{'' if n is None else day(n)},view,anna,1\n" for n in numbers)
            folder.write(name, HEADER + "".join(told))
        kept = folder.fingerprints()
        total = folder.count(MONTH)
        folder.store.rename(folder.store.with_suffix(".kept"))
        assert folder.fingerprints() == kept
        assert total == sum(len(numbers) for numbers in files.values())
        folder.store.with_suffix(".kept").rename(folder.store)
