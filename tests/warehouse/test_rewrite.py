"""The warehouse is written anew whole: nothing is lost, deleted bytes are gone, kills are safe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from promo_assets.warehouse import rewrite as rewriting
from promo_assets.warehouse.connection import Warehouse, WarehouseError
from promo_assets.warehouse.rewrite import UNFINISHED, rewrite

MADE = """
create schema raw; create schema "Odd one";
create type raw.mood as enum ('good', 'bad');
create table raw.events (event_id integer primary key, who varchar not null default 'nobody',
    mood raw.mood, check (event_id >= 0));
insert into raw.events select i, 'person-' || (i % 1000), 'good' from range(20000) as t(i);
create table "Odd one"."select" ("a b" struct(x integer, y varchar[]), price decimal(18, 2));
insert into "Odd one"."select" values ({'x': 1, 'y': ['a']}, 1.50);
create view raw.good as select * from raw.events where mood = 'good';
create index by_who on raw.events (who);
create sequence raw.numbers start 5;
create macro raw.more(a) as a + 1;
"""
SECRET = "person-00000077"


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """A warehouse with one of everything that DuckDB's catalogue knows."""
    made = Warehouse.with_options(
        tmp_path / "home" / "warehouse.duckdb",
        {
            "memory_limit": "500MB",
            "threads": 2,
            # DuckDB samples to choose a compression: with FSST a tenth of the files hide the bytes.
            "force_compression": "uncompressed",
        },
        retry=False,
    )
    with made.get_connection() as connection:
        connection.execute(MADE)
        connection.execute(
            "insert into raw.events select 100000 + i, ?, 'bad' from range(50) as t(i)", [SECRET]
        )
    return made


def erase(warehouse: Warehouse) -> None:
    with warehouse.get_connection() as connection:
        connection.execute("delete from raw.events where who = ?", [SECRET])


def on_disk(warehouse: Warehouse, text: str) -> set[str]:
    """The files of the warehouse's folder that hold the text."""
    folder = warehouse.path.parent
    return {path.name for path in folder.iterdir() if text.encode() in path.read_bytes()}


@pytest.mark.parametrize("checkpointed", [False, True])
def test_deleted_bytes_are_gone_only_after_rewriting(
    warehouse: Warehouse, checkpointed: bool
) -> None:
    erase(warehouse)
    if checkpointed:
        with warehouse.get_connection() as connection:
            connection.execute("force checkpoint")
    assert on_disk(warehouse, SECRET), "the test can't see what it looks for"
    rewrite(warehouse)
    assert on_disk(warehouse, SECRET) == set()
    assert on_disk(warehouse, "nobody") == {"warehouse.duckdb"}


def test_everything_else_survives(warehouse: Warehouse) -> None:
    erase(warehouse)
    with warehouse.get_connection() as connection:
        rows = connection.execute("select * from raw.events order by all").fetchall()
    done = rewrite(warehouse)
    assert done.bytes_before > 0
    assert done.bytes_after == warehouse.path.stat().st_size
    assert [path.name for path in warehouse.path.parent.iterdir()] == ["warehouse.duckdb"]
    with warehouse.get_connection() as connection:
        assert connection.execute("select * from raw.good order by all").fetchall() == rows
        assert connection.execute('select "a b".y[1] from "Odd one"."select"').fetchall() == [
            ("a",)
        ]
        assert connection.execute("select nextval('raw.numbers'), raw.more(1)").fetchall() == [
            (5, 2)
        ]
        assert connection.execute("select index_name from duckdb_indexes()").fetchall() == [
            ("by_who",)
        ]
        for refused in ("(1, 'x', 'good')", "(-1, 'x', 'good')", "(200000, null, 'good')"):
            with pytest.raises(duckdb.ConstraintException):
                connection.execute(f"insert into raw.events values {refused}")
        connection.execute("insert into raw.events (event_id) values (200000)")


def test_a_file_that_is_in_use_is_left_alone_and_its_user_named(warehouse: Warehouse) -> None:
    before = warehouse.path.read_bytes()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import duckdb, sys\n"
            "held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()",
            str(warehouse.path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(WarehouseError, match=f"another process.*PID {holder.pid}"):
        rewrite(warehouse)
    holder.communicate("")
    assert warehouse.path.read_bytes() == before


def test_an_open_connection_of_the_process_itself_is_refused(warehouse: Warehouse) -> None:
    with warehouse.get_connection() as connection:
        with pytest.raises(WarehouseError, match="in use"):
            rewrite(warehouse)
        assert connection.execute("select count(*) from raw.events").fetchall() == [(20050,)]
    assert not Path(f"{warehouse.path}{UNFINISHED}").exists()


def test_a_full_disk_is_told_before_anything_is_written(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(free=10 * 2**20)
    monkeypatch.setattr(rewriting.shutil, "disk_usage", lambda path: full)
    with pytest.raises(WarehouseError, match=r"6\d MiB are needed .* 10 MiB are free"):
        rewrite(warehouse)


KILLING = """
import os, shutil, signal, sys
from pathlib import Path
from promo_assets.warehouse import rewrite as module
from promo_assets.warehouse.connection import Warehouse

home, work = Path(sys.argv[1]), Path(sys.argv[2])

def of(folder):
    options = {"memory_limit": "500MB", "threads": 1}
    return Warehouse.with_options(folder / "warehouse.duckdb", options, retry=False)

def apart(act):
    # DuckDB is only ever opened in a child: the parent stays free to fork.
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
    # The nth line of the module that is reached for the first time.
    seen = set()
    def trace(frame, event, argument):
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line":
            seen.add(frame.f_lineno)
            if len(seen) == nth:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    module.rewrite(of(work))

def usable(rows):
    with of(work).get_connection() as connection:
        found = connection.execute("select count(*), sum(event_id) from raw.events").fetchone()
    assert found == rows, found

def complete():
    module.rewrite(of(work))
    assert [path.name for path in work.iterdir()] == ["warehouse.duckdb"], list(work.iterdir())

rows = (20000, 199990000)
line, kills = int(sys.argv[3]), 0
while True:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(home, work)
    code = apart(lambda: killed_at(line))
    if code == 0:
        break  # The rewriting has fewer lines than that: every one had its turn.
    assert code == -signal.SIGKILL, code
    kills += 1
    assert apart(lambda: usable(rows)) == 0, line
    assert apart(complete) == 0, line
    assert apart(lambda: usable(rows)) == 0, line
    line += int(sys.argv[3])
print("kills", kills)
"""


@pytest.mark.slow
def test_a_kill_at_any_line_leaves_a_usable_warehouse_and_rewriting_can_be_repeated(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    erase(warehouse)
    home = warehouse.path.parent
    told = subprocess.run(
        [sys.executable, "-c", KILLING, str(home), str(tmp_path / "work"), "4"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert int(told.stdout.split()[-1]) >= 12, told.stdout
