"""The platform on a database: what is published, and that no byte of it holds the password."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import pytest

from promo_assets import installation
from promo_assets.cli.main import main
from promo_assets.contract.days import Window
from promo_assets.definitions import build_definitions
from promo_assets.orchestration.runs import open_instance, run_days
from promo_assets.settings import Settings, load_settings
from tests.support.servers import NEEDLE, Server

if TYPE_CHECKING:
    from tests.support.shop import Rows, Shop

DAYS = 2


class Told(NamedTuple):
    """What one command did."""

    code: int
    out: str
    err: str


Promo = Callable[..., Told]


@pytest.fixture
def promo(
    new_shop: Shop, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Promo:
    """Runs a command, by default the group ``events`` of the first days, with a home and a source
    of one's own."""
    new_shop.deliver_all(DAYS)
    for name, value in new_shop.environment.items():
        monkeypatch.setenv(name, value)

    first, last = str(new_shop.day(0)), str(new_shop.day(DAYS - 1))
    first_days = ("run", "--from", first, "--to", last, "--select", "events")

    def run(home: Path, source: str, *command: str) -> Told:
        monkeypatch.setenv("PROMO_HOME", str(home))
        monkeypatch.setenv("PROMO_SOURCE", source)
        load_settings.cache_clear()
        try:
            code = main(command or first_days)
        finally:
            load_settings.cache_clear()
        return Told(code, *capfd.readouterr())

    return run


def fill(server: Server, shop: Shop) -> None:
    """Put the shop's first days into the server."""
    rows = [row for number in range(DAYS) for row in shop.events(number)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    kind = {"mariadb": "datetime(6)", "postgresql": "timestamp"}[server.kind]
    columns = ", ".join(f"{name} {kind if name == 'event_time' else 'text'}" for name in names)
    server.execute(f"create table events (place bigint primary key, {columns})")
    told = [{name: row.get(name) for name in names} for row in rows]
    server.insert("events", [{"place": place, **row} for place, row in enumerate(told)])


def files_with(needle: str, folder: Path) -> list[Path]:
    """The files that hold the text, whatever its case."""
    wanted, files = needle.lower().encode(), (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if wanted in path.read_bytes().lower()]


def tables(home: Path) -> dict[str, Rows]:
    """Every row of every table: DuckDB may have compressed its text in the file."""
    with duckdb.connect(home / "warehouse.duckdb", read_only=True) as connection:
        names = connection.execute(
            "select schema_name || '.' || table_name from duckdb_tables()"
        ).fetchall()
        return {
            name: connection.execute(f"select * from {name} order by all").fetchall()
            for (name,) in names
        }


@pytest.mark.slow
@pytest.mark.parametrize(
    "server",
    [
        pytest.param("mariadb", marks=pytest.mark.databases),
        pytest.param("postgresql", marks=pytest.mark.databases),
    ],
    indirect=True,
)
def test_a_database_publishes_what_the_same_rows_in_files_do_and_its_password_is_nowhere(
    server: Server, new_shop: Shop, promo: Promo, tmp_path: Path
) -> None:
    fill(server, new_shop)
    assert promo(tmp_path / "files", new_shop.settings.source).code == 0
    told = promo(tmp_path / "database", server.url())
    assert told.code == 0, told

    found, expected = tables(tmp_path / "database"), tables(tmp_path / "files")
    assert found.keys() == expected.keys()
    published = [name for name in found if not name.startswith(("audit.", "staging."))]
    for name in published:
        if name not in ("raw.events", "core.rejected_events"):  # They tell source and place.
            assert found[name] == expected[name], name
    assert len(found["core.events"]) == sum(len(new_shop.events(day)) for day in range(DAYS))

    assert NEEDLE not in str(told)
    assert NEEDLE not in str(found)
    assert files_with(NEEDLE, tmp_path / "database") == []

    in_time = promo(tmp_path / "database", server.url(), "late").out
    assert in_time == "every published day is as it is delivered\n"
    late = {**new_shop.events(1)[0], "event_id": "late", "place": 10**6}
    server.insert("events", [late])
    assert str(new_shop.day(1)) in promo(tmp_path / "database", server.url(), "late").out


def test_the_search_for_a_password_finds_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"\0\1 S3cret\2")
    assert files_with(NEEDLE, tmp_path) == [tmp_path / "a" / "b"]


WRONG_PASSWORD = ("Check the user, the password", {"password": "wr0ng s3cret'\"%"})
NO_SERVER = ("Is the server running, and reachable?", {"port": 1})
NO_TABLE = ("there is no table 'events'", {})


@pytest.mark.parametrize(("words", "change"), [WRONG_PASSWORD, NO_SERVER, NO_TABLE])
def test_a_fault_is_told_in_one_line_without_the_password(
    server: Server, promo: Promo, tmp_path: Path, words: str, change: Mapping[str, Any]
) -> None:
    told = promo(tmp_path / "home", server.url(**change))
    assert told.code == 2
    assert len(told.err.splitlines()) == 1
    assert words in told.err
    assert NEEDLE not in str(told)
    assert files_with(NEEDLE, tmp_path / "home") == []


@pytest.mark.slow  # Nobody answering is tried again, after 5 and 10 seconds.
@pytest.mark.parametrize(("words", "change"), [WRONG_PASSWORD, NO_SERVER, NO_TABLE])
def test_a_run_that_meets_a_fault_tells_it_and_not_the_password(
    server: Server,
    new_shop: Shop,
    tmp_path: Path,
    words: str,
    change: Mapping[str, Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What Dagster stores and shows of it, where no terminal looked before."""
    new_shop.folder.mkdir()
    told = {**new_shop.settings.model_dump(), "source": server.url(**change)}
    settings = Settings(**{**told, "home": tmp_path / "home"})
    # What is there without the events' table goes through.
    window = Window(new_shop.day(0), new_shop.day(1))
    with open_instance(settings.places) as instance:
        partitions, definitions = installation.partitions(settings), build_definitions(settings)
        results = run_days(window, partitions, definitions, instance, groups=["events"])
    failures = str([result.failures for result in results])
    assert words in failures
    assert NEEDLE not in failures + str(capfd.readouterr())
    assert files_with(NEEDLE, tmp_path / "home") == []
    assert files_with(words, tmp_path / "home" / "dagster") != []
