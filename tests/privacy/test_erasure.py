"""An erased person is nowhere under PROMO_HOME, and doesn't come back; everybody else stays."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import polars as pl
import pytest
from pydantic import SecretStr

from promo_assets import installation
from promo_assets.contract.project import PROJECT
from promo_assets.contract.tables import load_contracts
from promo_assets.orchestration.runs import open_instance
from promo_assets.people.pseudonyms import pseudonym
from promo_assets.privacy import erasure
from promo_assets.privacy.erasure import Person, UnknownPersonError, person_of
from promo_assets.privacy.mentions import BusyFileError
from promo_assets.report.export import write_export
from promo_assets.settings import Settings
from tests.support.shop import DAYS, KEY, USERS, Shop, assert_consistent, failures

if TYPE_CHECKING:
    from tests.support.shop import Event

WHO = "user-04"
NAME = pseudonym(WHO, "account", KEY)
OTHER = pseudonym("user-05", "account", KEY)
CAME = [
    number
    for number in range(DAYS)
    if any(event.get("user_id") == WHO for event in Shop.events(number))
]
DAY, BAD = CAME[5], CAME[-1]
CONTRACTS = load_contracts(PROJECT / "expectations")


def erase(shop: Shop, user: str = WHO) -> erasure.Erased:
    return of(user, shop.settings)


def of(user: str, settings: Settings) -> erasure.Erased:
    keys = installation.pseudonym_keys(settings)
    return erasure.erase(user, installation.erasure(settings), keys, CONTRACTS)


def named_in(home: Path, *names: str) -> set[str]:
    """The files that hold any of the names, by another way than the tool's: raw bytes, every
    value of SQLite, every cell of Parquet."""
    found = set()
    for path in sorted(home.rglob("*")):
        if not path.is_file():
            continue
        seen = [path.read_bytes()]
        if seen[0].startswith(b"SQLite format 3"):
            with closing(sqlite3.connect(path)) as opened:
                seen.append("\n".join(opened.iterdump()).encode())
        if seen[0].startswith(b"PAR1"):
            seen.append(pl.read_parquet(path).write_csv().encode())
        if any(name.encode() in data for data in seen for name in names):
            found.add(str(path.relative_to(home)))
    return found


def folders(files: set[str]) -> set[str]:
    return {file.split("/")[0] for file in files}


def named_in_rows(shop: Shop, name: str) -> dict[str, int]:
    """Cells of the warehouse that hold the name, whatever their column is called."""
    texts = shop.query(
        "select schema_name || '.' || table_name, column_name from duckdb_columns()"
        " where data_type = 'VARCHAR' and not internal"
    )
    found = {}
    for table, column in texts:
        ((count,),) = shop.query(f"select count(*) from {table} where contains({column}, '{name}')")
        if count:
            found[f"{table}.{column}"] = count
    return found


@pytest.fixture(scope="module")
def troubled(thirty_days: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop after a bad day: a slice stays staged, and gate, page and log quote examples."""
    shop = thirty_days.copy(tmp_path_factory.mktemp("troubled"))
    events = shop.events(BAD)
    theirs = [event for event in events if event.get("user_id") == WHO]
    unknown = {"event_type": "offer_redeemed", "offer_id": "nowhere", "event_id": "theirs-only"}
    bad = [{**event, "event_type": "teleport"} for event in events]
    shop.deliver(BAD, [*bad, *theirs, {**theirs[0], **unknown}])
    ((step, _),) = failures(shop.run(BAD, BAD))
    assert step == "core__events", "the day must be held back"
    quoted = f"user_id={NAME} and {WHO} were told"
    with open_instance(shop.settings.places) as instance:
        note = dg.AssetObservation("core/events", metadata={"text": quoted})
        instance.report_runless_asset_event(note)
    log = next(shop.settings.places.dagster.rglob("*.err"))
    log.write_text(f"Could not convert string '{WHO}' to INT64\n{quoted}\n")
    return shop


def copied(shop: Shop, folder: Path) -> Shop:
    return shop.copy(folder / "open")


@pytest.mark.slow
@pytest.mark.parametrize("checkpointed", [False, True])
def test_an_erased_person_is_nowhere_on_disk_and_everybody_else_is(
    troubled: Shop, tmp_path: Path, checkpointed: bool
) -> None:
    shop = copied(troubled, tmp_path)
    home = shop.settings.home
    spilled = home / "spill" / "duckdb_temp_storage_DEFAULT-0.tmp"
    spilled.parent.mkdir(exist_ok=True)
    spilled.write_bytes(NAME.encode())
    if checkpointed:
        shop.query("force checkpoint")
    everywhere = {"dagster", "exports", "spill", "warehouse.duckdb", "gx"}
    assert folders(named_in(home, NAME, WHO, "theirs-only")) == everywhere
    staged = f"staging.core__events__{shop.day(BAD):%Y%m%d}_{shop.day(BAD + 1):%Y%m%d}__run_"
    assert [
        place
        for place in named_in_rows(shop, NAME)
        if place.startswith(staged) and place.endswith(".user_id")
    ]
    before = shop.query(f"select * from core.events where user_id = '{OTHER}' order by all")
    others = named_in(home, OTHER)
    pages = sorted(shop.settings.places.data_docs.rglob("*.html"))

    done = erase(shop)

    assert named_in(home, NAME, WHO, "theirs-only") == set()
    assert named_in_rows(shop, NAME) == {}
    assert done.left == {}
    assert [name for name in done.tables if name.startswith(staged)]
    assert "the person is in none of them" in "\n".join(done.lines())
    assert named_in(home, OTHER) == others - {"spill"}
    after = shop.query(f"select * from core.events where user_id = '{OTHER}' order by all")
    assert after == before
    assert_consistent(shop)
    assert sorted(shop.settings.places.data_docs.rglob("*.html")) == pages
    with open_instance(shop.settings.places) as instance:  # What is left can still be read.
        ((entry,),) = [
            instance.fetch_observations(dg.AssetKey(["core", "events"]), limit=1).records
        ]
        told = entry.asset_observation.metadata["text"].value
    assert told == "user_id=erased------ and erased- were told"


@pytest.mark.slow
def test_a_replay_brings_neither_the_person_nor_their_device_back_under_any_key(
    open_shop: Shop,
) -> None:
    view = {"event_type": "view", "device_id": "the-phone"}
    at = open_shop.events(DAY)[-1]["event_time"]
    theirs: list[Event] = [
        {"event_time": at, "event_id": "m1", **view, "user_id": WHO},
        {"event_time": at, "event_id": "m2", **view},
    ]
    open_shop.deliver(DAY, open_shop.events(DAY) + theirs)
    assert failures(open_shop.run(DAY, DAY, groups=["events"])) == []
    phone = pseudonym("the-phone", "device", KEY)
    assert named_in_rows(open_shop, phone)["raw.events.device_id"] == 2
    assert erase(open_shop).left == {}
    assert named_in(open_shop.settings.home, phone, NAME) == set()

    # A later account on the device is somebody else's, and keeps its own rows.
    later = {"event_time": at, "event_id": "m3", **view, "user_id": "user-05"}
    open_shop.deliver(DAY, [*open_shop.events(DAY), *theirs, later])
    assert failures(open_shop.run(DAY, DAY, groups=["events"])) == []
    assert named_in(open_shop.settings.home, NAME, WHO) == set()
    keys = "select event_key, user_id from raw.events where device_id = "
    assert open_shop.query(f"{keys} '{phone}'") == [("m3", OTHER)]

    new = "the key after the rotation"
    rotated = Shop(open_shop.folder)
    key = {"pseudonym_key": SecretStr(f"{new},{KEY}")}
    rotated.__dict__["settings"] = open_shop.settings.model_copy(update=key)
    assert failures(rotated.run(DAY, DAY, groups=["events"])) == []
    assert named_in(rotated.settings.home, NAME, WHO, pseudonym(WHO, "account", new)) == set()
    phone, other = pseudonym("the-phone", "device", new), pseudonym("user-05", "account", new)
    assert rotated.query(f"{keys} '{phone}'") == [("m3", other)]
    came = {event.get("user_id") for event in rotated.events(DAY)} | {"user-05"} - {None, WHO}
    day = f"event_date = '{rotated.day(DAY)}' and user_id is not null"
    found = rotated.query(f"select distinct user_id from core.events where {day}")
    expected = {pseudonym(user, "account", new) for user in came - {None, WHO}}
    assert {user for (user,) in found} == expected


@pytest.mark.slow
def test_a_receipt_tells_what_was_done_and_nothing_of_whom(open_shop: Shop) -> None:
    done = erase(open_shop)
    assert done.receipt.parent == open_shop.settings.home / "receipts"
    text = done.receipt.read_text()
    told = json.loads(text)
    assert told["rows"] == dict(done.tables)
    assert told["rows"]["core.events"] > 0
    assert told["verified"]["still_named_in"] == {}
    assert told["warehouse"]["bytes_after"] == open_shop.settings.places.warehouse.stat().st_size
    assert told["receipt"] == done.receipt.stem
    secrets = [KEY]
    for number in range(USERS):
        user = f"user-{number:02}"
        name = pseudonym(user, "account", KEY)
        secrets += [user, name, *(hash_of(id_) for id_ in (user, name))]
    assert [secret for secret in secrets if secret in text] == []
    (tombstone,) = open_shop.query("select key from audit.erased")
    assert tombstone == (hash_of(NAME),)


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.slow
def test_erasing_twice_finishes_what_is_left_and_changes_nothing_else(open_shop: Shop) -> None:
    erase(open_shop)
    tables = open_shop.tables()
    log = next(open_shop.settings.places.dagster.rglob("*.err"))
    log.write_text(f"a run that went on meanwhile told of {NAME}\n")
    again = erase(open_shop)
    assert again.tables == {}
    assert list(again.files.values()) == [1]
    assert again.left == {}
    assert open_shop.tables() == tables


@pytest.mark.slow
def test_what_can_not_be_cleaned_is_listed(open_shop: Shop) -> None:
    kept = open_shop.settings.home / "old" / "backup.bin"
    kept.parent.mkdir()
    kept.write_bytes(b"\0" + NAME.encode() + b"\0")
    done = erase(open_shop)
    assert done.left == {"old/backup.bin": 1}
    assert "STILL NAMED in old/backup.bin: 1 times" in "\n".join(done.lines())
    assert json.loads(done.receipt.read_text())["verified"]["still_named_in"] == done.left


@pytest.mark.slow
def test_the_sources_own_folder_is_left_to_the_source(open_shop: Shop) -> None:
    settings = open_shop.settings.model_copy(
        update={"source": f"files:{open_shop.settings.home / 'own'}"}
    )
    own = open_shop.settings.home / "own" / "events" / "a.csv"
    own.parent.mkdir(parents=True)
    own.write_text(f"user_id\n{WHO}\n")
    assert of(WHO, settings).left == {}
    assert own.read_text() == f"user_id\n{WHO}\n"


def test_a_stranger_changes_nothing(open_shop: Shop) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in open_shop.settings.places.exports.rglob("*")
    }
    tables = open_shop.tables()
    with pytest.raises(UnknownPersonError, match="'user-0' has no rows"):
        erase(open_shop, "user-0")
    assert open_shop.tables() == tables
    assert open_shop.query("from audit.erased") == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not (open_shop.settings.home / "receipts").exists()


@pytest.mark.slow
def test_a_log_that_is_in_use_stops_the_erasure_before_any_row_is_deleted(
    open_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promo_assets.privacy.mentions.BUSY_SECONDS", 0.1)
    tables = open_shop.tables()
    index = open_shop.settings.places.dagster / "history" / "runs" / "index.db"
    with closing(sqlite3.connect(index, isolation_level=None)) as daemon:
        daemon.execute("pragma locking_mode = exclusive")
        daemon.execute("begin exclusive")
        with pytest.raises(BusyFileError, match="Stop the Dagster daemon"):
            erase(open_shop)
    assert open_shop.tables() == tables
    assert erase(open_shop).left == {}


@pytest.mark.slow
def test_a_pseudonym_of_an_export_names_the_person_too(open_shop: Shop) -> None:
    assert erase(open_shop, NAME).tables["core.events"] > 0
    assert named_in(open_shop.settings.home, NAME) == set()


# Who is the person.

IDENTITY = """
create schema core; create schema raw;
create table core.identities (as_of_date date, identifier varchar, kind varchar, user_id varchar,
    status varchar);
create table core.logins (event_date date, device_id varchar, user_id varchar);
create table raw.events (event_date date, event_key varchar, user_id varchar, device_id varchar);
create table core.events (event_date date, event_id varchar, user_id varchar, account_id varchar,
    device_id varchar);
insert into core.identities values
    ('2024-01-01', 'phone', 'device', 'ann', 'linked'),
    ('2024-01-01', 'tablet', 'device', 'ann', 'linked'),
    ('2024-01-05', 'tablet', 'device', null, 'shared'),
    ('2024-01-01', 'watch', 'device', 'bob', 'linked'),
    ('2024-01-09', 'watch', 'device', 'ann', 'linked'),
    ('2024-01-01', 'laptop', 'device', 'ann', 'linked'),
    ('2024-01-09', 'laptop', 'device', null, 'unlinked'),
    ('2024-01-01', 'kiosk', 'device', 'ann', 'linked'),
    ('2024-01-02', 'ann2', 'account', 'ann', 'merged'),
    ('2024-01-02', 'ann3', 'account', 'ann2', 'merged'),
    ('2024-01-02', 'bob2', 'account', 'ann', 'merged'),
    ('2024-01-08', 'bob2', 'account', 'bob2', 'alone');
insert into core.logins values ('2024-01-01', 'phone', 'ann'), ('2024-01-01', 'tablet', 'ann'),
    ('2024-01-05', 'tablet', 'bob'), ('2024-01-01', 'kiosk', 'ann'), ('2024-01-02', 'kiosk', 'eve');
insert into raw.events values
    ('2024-01-01', 'e1', 'ann', 'phone'), ('2024-01-01', 'e2', null, 'phone'),
    ('2024-01-01', 'e3', null, 'tablet'), ('2024-01-06', 'e4', null, 'tablet'),
    ('2024-01-06', 'e5', 'ann', 'tablet'), ('2024-01-06', 'e6', 'bob', 'tablet'),
    ('2024-01-06', 'e7', 'ann3', null), ('2024-01-06', 'e8', null, 'laptop');
insert into core.events values
    ('2024-01-01', 'e1', 'ann', 'ann', 'phone'), ('2024-01-01', 'e2', 'ann', null, 'phone'),
    ('2024-01-01', 'e3', 'ann', null, 'tablet'), ('2024-01-06', 'e4', null, null, 'tablet'),
    ('2024-01-06', 'e5', 'ann', 'ann', 'tablet'), ('2024-01-06', 'e6', 'bob', 'bob', 'tablet'),
    ('2024-01-06', 'e7', 'ann', 'ann3', null), ('2024-01-06', 'e8', null, null, 'laptop');
"""


@pytest.fixture
def identified() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(IDENTITY)
        erasure.prepare(connection)
        yield connection


def test_a_person_is_merged_accounts_and_the_devices_that_are_nobody_elses(
    identified: duckdb.DuckDBPyConnection,
) -> None:
    person = Person(frozenset({"ann", "ann2", "ann3"}), frozenset({"phone", "laptop"}))
    assert person_of(["ann"], identified) == person
    assert person_of(["ann3"], identified) == person
    assert person_of(["bob"], identified) == Person(frozenset({"bob"}))
    assert person_of(["stranger"], identified) == Person(frozenset({"stranger"}))


def test_without_identities_the_person_is_the_account(
    identified: duckdb.DuckDBPyConnection,
) -> None:
    identified.execute("drop table core.identities; drop table core.logins")
    assert person_of(["ann"], identified) == Person(frozenset({"ann"}))


def test_of_a_shared_device_only_the_persons_own_rows_go(
    identified: duckdb.DuckDBPyConnection,
) -> None:
    person = person_of(["ann"], identified)
    names = erasure.Names(person.pseudonyms, "ann")
    deleted = erasure.delete_rows(person, names, identified, {})

    def left(table: str, column: str) -> list[str]:
        rows = identified.execute(f"select distinct {column} from {table} order by all").fetchall()
        return [value for (value,) in rows]

    # e4 was nobody's; e3 was the person's while the tablet was theirs.
    assert left("raw.events", "event_key") == ["e4", "e6"]
    assert left("core.events", "event_id") == ["e4", "e6"]
    assert left("core.logins", "device_id") == ["kiosk", "tablet"]
    assert left("core.logins", "user_id") == ["bob", "eve"]
    assert left("core.identities", "user_id") == ["bob", "bob2", None]
    assert deleted["raw.events"] == 6
    assert left("audit.erased", "key") == sorted(map(hash_of, person.pseudonyms))


def test_what_is_recommended_to_any_account_of_the_person_goes_and_sums_stay(
    identified: duckdb.DuckDBPyConnection,
) -> None:
    by_user = ("recommendations.user_items", "recommendations.user_offers")
    sums = tuple(
        name
        for name, contract in CONTRACTS.items()
        if contract.schema_name == "recommendations" and name not in by_user
    )
    identified.execute("create schema recommendations")
    for name in (*by_user, *sums):
        columns = ", ".join(f"{key} {kind}" for key, kind in CONTRACTS[name].types.items())
        identified.execute(f"create table {name} ({columns})")
    for name in by_user:
        for user in ("ann", "ann3", "bob"):
            identified.execute(
                f"insert into {name} by name select date '2024-01-06' as as_of_date, ? as user_id",
                [user],
            )
    for name in sums:
        identified.execute(f"insert into {name} by name select date '2024-01-01' as week")

    person = person_of(["ann3"], identified)
    names = erasure.Names(person.pseudonyms, "ann3")
    deleted = erasure.delete_rows(person, names, identified, CONTRACTS)

    assert {name: deleted[name] for name in by_user} == dict.fromkeys(by_user, 2)
    for name in by_user:
        assert identified.execute(f"select user_id from {name}").fetchall() == [("bob",)]
    for name in sums:
        assert identified.execute(f"select count(*) from {name}").fetchall() == [(1,)]


# Kills.

KILLING = """
import os, shutil, signal, sys
from pathlib import Path

import pandas  # DuckDB's bound parameters import it: once here, not in every child.

from promo_assets import installation
from promo_assets.privacy import erasure, mentions
from promo_assets.contract.tables import load_contracts
from promo_assets.contract.project import PROJECT
from promo_assets.settings import Settings
from promo_assets.report import export
from promo_assets.warehouse import rewrite
from promo_assets.warehouse.connection import Warehouse

home, work, who, name, step = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:5], int(sys.argv[5])
watched = {module.__file__ for module in (erasure, mentions, export, rewrite)}
contracts = load_contracts(PROJECT / "expectations")
settings = Settings(home=work, source="files:/nowhere", pseudonym_key=sys.argv[6], threads=1)
place, keys = installation.erasure(settings), installation.pseudonym_keys(settings)

def apart(act):
    # DuckDB and Polars only ever work in a child: the parent stays free to fork.
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def killed_at(nth):
    # The nth line of the modules that is reached for the first time.
    seen = set()
    def trace(frame, event, argument):
        if frame.f_code.co_filename not in watched:
            return None
        if event == "line":
            seen.add((frame.f_code.co_filename, frame.f_lineno))
            if len(seen) == nth:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    erasure.erase(who, place, keys, contracts)

def whole():
    with installation.warehouse(settings).get_connection() as connection:
        (theirs, others), tombstones = (
            connection.execute(sql).fetchone() for sql in (
                f"select count(*) filter (user_id = '{name}'), count(*) from raw.events",
                "select count(*) from audit.erased",
            )
        )
        told = connection.execute("select sum(row_count) from audit.publications").fetchone()
    assert (theirs, others, tombstones[0]) in ((20, 100, 0), (0, 80, 1)), (theirs, others)
    assert told == (others,), told

def finished():
    try:
        assert erasure.erase(who, place, keys, contracts).left == {}
    finally:
        whole()
    files = [path for path in work.rglob("*") if path.is_file()]
    assert [path for path in files if name.encode() in path.read_bytes()] == []
    assert sorted(path.name for path in work.glob("warehouse*")) == ["warehouse.duckdb"]

nth, kills = step, 0
while True:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(home, work)
    code = apart(lambda: killed_at(nth))
    if code == 0:
        break
    assert code == -signal.SIGKILL, code
    kills += 1
    assert apart(whole) == 0, nth
    assert apart(finished) == 0, nth
    nth += step
print("kills", kills)
"""


def small_home(home: Path) -> None:
    """A person in a warehouse, an export, a log and a database."""
    with installation.warehouse(Settings(home=home, _env_file=None)).get_connection() as connection:
        erasure.prepare(connection)
        connection.execute(
            "create schema raw; create table raw.events as select date '2024-01-01' as event_date,"
            f" if(i % 5 = 0, '{NAME}', 'u' || i) as user_id, null::varchar as device_id,"
            " 'event-' || i as event_id, 'event-' || i as event_key from range(100) as t(i);"
            "insert into audit.publications (table_name, day, part, row_count)"
            " values ('raw.events', date '2024-01-01', '', 100)"
        )
    assignments = pl.DataFrame({"user_id": [NAME, OTHER], "offer_id": ["a", None]})
    write_export(assignments, assignments.clear(), home / "exports", date(2024, 1, 1))
    (home / "dagster").mkdir()
    (home / "dagster" / "run.err").write_text(f"of {NAME}, event_id=event-5\n" * 3)
    with closing(sqlite3.connect(home / "dagster" / "index.db")) as made:
        made.execute("create table events (body text)")
        made.execute("insert into events values (?)", [f"of {NAME}"])
        made.commit()


@pytest.mark.parametrize(
    "step", [72, pytest.param(2, marks=pytest.mark.slow)], ids=["some lines", "every other line"]
)
def test_a_kill_at_any_line_leaves_a_usable_warehouse_and_the_erasure_can_be_repeated(
    tmp_path: Path, step: int
) -> None:
    small_home(tmp_path / "home")
    folders = [str(tmp_path / "home"), str(tmp_path / "work")]
    told = subprocess.run(
        [sys.executable, "-c", KILLING, *folders, WHO, NAME, str(step), KEY],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert int(told.stdout.split()[-1]) * step > 200, told.stdout
