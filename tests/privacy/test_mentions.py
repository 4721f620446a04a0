"""Where a file names a person: found in every form a reader sees, overwritten without a trace."""

from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from promo_assets.privacy import mentions as module
from promo_assets.privacy.mentions import BusyFileError, Names, filler, mentions, overwrite

NAME = "uAbCdEf-_123"
WHO = Names(frozenset({NAME}), "anna.b@x")


def spans(text: str, names: Names = WHO) -> list[str]:
    return [text[start:end] for start, end in names.spans(text.encode())]


@pytest.mark.parametrize(
    ("delivered", "text", "found"),
    [
        ("anna.b@x", "of anna.b@x.", 1),
        ("anna.b@x", "joanna.b@x", 0),
        ("anna.b@x", "annaXb@x", 0),
        ("user-04", "user-04, 'user-04' and user-041", 2),
        ("ann", "ann", 0),
        ("1023456", "Could not convert '1023456' of user 1023456", 2),
        ("1023456", '{"rows": 1023456, "seconds": 0.1023456, "ids": [1023456]}', 0),
        ("1023456", "2024-01-01T10:00:00.1023456 and 91023456", 0),
    ],
)
def test_a_delivered_id_is_found_as_a_word_but_not_in_other_words_and_numbers(
    delivered: str, text: str, found: int
) -> None:
    names = Names(frozenset({NAME}), delivered)
    assert spans(text, names) == [delivered] * found
    assert spans(f"{text} {NAME}xyz", names) == [delivered] * found + [NAME]


@pytest.mark.parametrize(
    "quote",
    [
        "event_id=E-77, event_time=2024",
        "user_id=x, order_id=E-77; event_id=E-78",
        '{"event_id": "E-77"}',
        json.dumps({"text": json.dumps({"session_id": "E-77"})}),
        "<td>E-77</td>",
        "&quot;event_key&quot;: &quot;E-77&quot;",
    ],
)
def test_the_key_of_a_persons_row_is_found_where_it_is_quoted(quote: str) -> None:
    names = Names(frozenset({NAME}), "anna.b@x", frozenset({"E-77"}))
    assert spans(quote, names) == ["E-77"]
    assert spans(quote.replace("E-77", "E-770"), names) == []
    assert spans("nothing of E-77 here", names) == []


def test_a_filler_keeps_lengths_and_numbers() -> None:
    assert filler(b"uAbCdEf-_123") == b"erased------"
    assert filler(b"anna.b") == b"erased"
    for number in (b"1023456", b"1111111", b"0012345"):
        assert int(filler(number)) != int(number)
        assert len(filler(number)) == len(number)


@pytest.mark.parametrize("at", [0, 990, 995, 999, 1000, 1001, 1988, 2500])
def test_a_name_across_the_border_of_two_chunks_is_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1000)
    path = tmp_path / "log.txt"
    path.write_bytes(b"." * at + NAME.encode() + b"." * (3000 - at))
    assert mentions(path, WHO) == 1
    assert overwrite(path, WHO) == 1
    assert path.read_bytes() == b"." * at + b"erased------" + b"." * (3000 - at)
    assert overwrite(path, WHO) == mentions(path, WHO) == 0


def test_compressed_files_are_looked_at_decoded(tmp_path: Path) -> None:
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(f"a line\nwith {NAME}\n".encode() * 3))
    table = tmp_path / "table.parquet"
    pl.DataFrame({"n": range(500), "who": [NAME, *["x"] * 499]}).write_parquet(table)
    assert mentions(packed, WHO) == 3
    assert mentions(table, WHO) == 1
    before = table.read_bytes()
    assert overwrite(table, WHO) == 0
    assert table.read_bytes() == before


def database(path: Path, *, wal: bool) -> Path:
    """SQLite with a name in a long value, which lies on several pages, and in a deleted one."""
    with closing(sqlite3.connect(path)) as made:
        if wal:
            made.execute("pragma journal_mode = wal")
        made.execute("pragma secure_delete = off")
        made.execute('create table "the events" (id integer primary key, "a body" text, raw blob)')
        long = json.dumps([f"{number:05} {NAME}" for number in range(2000)])
        for number in range(10):
            row = (number, long if number == 5 else "short", f"{NAME}!".encode())
            made.execute('insert into "the events" values (?, ?, ?)', row)
        made.execute('delete from "the events" where id = 9')
        made.commit()
    return path


@pytest.mark.parametrize("wal", [False, True])
def test_sqlite_forgets_a_name_on_its_pages_too(tmp_path: Path, wal: bool) -> None:
    path = database(tmp_path / "index.db", wal=wal)
    assert mentions(path, WHO) == 10  # One long text, nine blobs.
    assert overwrite(path, WHO) == 10
    assert mentions(path, WHO) == 0
    assert all(NAME.encode() not in file.read_bytes() for file in tmp_path.iterdir())
    with closing(sqlite3.connect(path)) as opened:
        ((long,),) = opened.execute('select "a body" from "the events" where id = 5').fetchall()
        assert json.loads(long)[1999] == "01999 erased------"
        kinds = 'select distinct typeof("a body"), typeof(raw) from "the events"'
        assert opened.execute(kinds).fetchall() == [("text", "blob")]
        assert opened.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_a_name_that_only_a_freed_page_holds_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("pragma secure_delete = off")
        made.execute("create table events (body text)")
        made.execute("insert into events values (?)", [NAME])
        made.commit()
        made.execute("delete from events")
        made.commit()
    assert mentions(path, WHO) == 1
    assert overwrite(path, WHO) == 0
    assert NAME.encode() not in path.read_bytes()


def test_a_locked_database_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    path = database(tmp_path / "index.db", wal=False)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(BusyFileError, match=r"index\.db.*Stop the Dagster daemon"):
            overwrite(path, WHO)
