"""A folder of event files, as DuckDB sees it: formats, times, days, and what can't be read."""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.settings import Settings
from promo_assets.sources import Source, SourceError, open_source
from promo_assets.sources.files import Files

FIRST = date(2024, 1, 1)
MONTH = Window(FIRST, date(2024, 2, 1))
ROW = {
    "event_time": "2024-01-03 10:00:00",
    "event_type": "purchase",
    "user_id": "anna",
    "quantity": 2,
    "unit_price": "3.50",
}
SHOWN = "event_time, event_type, user_id, quantity, unit_price, source_file, source_row"


def write_csv(path: Path, *rows: dict[str, Any]) -> None:
    pl.DataFrame(rows).write_csv(path)


def write_gzip(path: Path, *rows: dict[str, Any]) -> None:
    path.write_bytes(gzip.compress(pl.DataFrame(rows).write_csv().encode()))


def write_zstd(path: Path, *rows: dict[str, Any]) -> None:
    pl.DataFrame(rows).write_csv(path, compression="zstd", check_extension=False)


def write_jsonl(path: Path, *rows: dict[str, Any]) -> None:
    pl.DataFrame(rows).write_ndjson(path)


def write_gzip_jsonl(path: Path, *rows: dict[str, Any]) -> None:
    path.write_bytes(gzip.compress(pl.DataFrame(rows).write_ndjson().encode()))


def write_zstd_jsonl(path: Path, *rows: dict[str, Any]) -> None:
    packed = pa.compress(pl.DataFrame(rows).write_ndjson().encode(), codec="zstd", asbytes=True)
    path.write_bytes(packed)


def write_parquet(path: Path, *rows: dict[str, Any], row_group_size: int | None = None) -> None:
    pl.DataFrame(rows).write_parquet(path, row_group_size=row_group_size)


def write_tsv(path: Path, *rows: dict[str, Any]) -> None:
    pl.DataFrame(rows).write_csv(path, separator="\t")


def write_array(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text(json.dumps(rows))


def write_pretty(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("\n".join(json.dumps(row, indent=2) for row in rows))


WRITERS = {
    "a.CSV": write_csv,
    "a.tsv": write_tsv,
    "a.Csv.GZ": write_gzip,
    "a.csv.Zst": write_zstd,
    "a.PARQUET": write_parquet,
    "a.ndjson": write_jsonl,
    "a.json": write_jsonl,
    "array.json": write_array,
    "array.jsonl": write_array,
    "pretty.json": write_pretty,
    "a.JSON.gz": write_gzip_jsonl,
    "a.ndjson.ZST": write_zstd_jsonl,
    "a.csv": write_csv,
    "a.csv.gz": write_gzip,
    "a.csv.zst": write_zstd,
    "a.jsonl": write_jsonl,
    "a.jsonl.gz": write_gzip_jsonl,
    "a.jsonl.zst": write_zstd_jsonl,
    "a.parquet": write_parquet,
    "2024/01/a.csv": write_csv,
}


@pytest.fixture
def events(tmp_path: Path) -> Path:
    folder = tmp_path / "events"
    folder.mkdir()
    return folder


class Unread(Exception):
    """Days can't be taken in; the message names the files."""


def source_of(folder: Path, timezone: str = "UTC") -> Source:
    told = Settings(
        home=folder.parent / "home", source=f"files:{folder.parent}", start=FIRST, timezone=timezone
    )
    return open_source(installation.delivery(told))


def read(events: Path, shown: str = SHOWN, timezone: str = "UTC", window: Window = MONTH) -> Any:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        taken = source_of(events, timezone).take(window, connection)
        if problems := {told for day in taken.problems.values() for told in day}:
            raise Unread("; ".join(sorted(problems)))
        query = taken.query
        sql = f"select {shown} from ({query.sql}) order by source_file, source_row"
        return connection.execute(sql, query.parameters).fetchall()


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_row_with_its_file_and_row(events: Path, name: str) -> None:
    path = events / name
    path.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[name](path, ROW)
    expected = ("2024-01-03 10:00:00.000000", "purchase", "anna", "2", "3.50")
    assert read(events) == [(*expected, f"events/{name}", 0)]


ODD = [
    "data[12]",
    "[data]",
    "a*",
    "a?b",
    "[!x]",
    "**",
    "a]b[c",
    "it's",
    'say "hi"',
    "semi;colon",
    "{x,y}",
    "$1",
    "%20",
    "a\nb",
    "back\\slash",
    "#",
    "~",
    "ü 好",
    "file:a",
    "s3:--a",
    "a=b",
]
"""Names that mean something else to a shell, a glob, SQL or a URL."""


@pytest.mark.parametrize("writer", ["a.csv", "a.jsonl", "a.parquet", "a.csv.gz"])
def test_every_path_is_read_as_itself(tmp_path: Path, writer: str) -> None:
    events = tmp_path / "it's a [shop]*?" / "events"
    ending = writer.removeprefix("a")
    places = [f"{name}{ending}" for name in ODD if "\\" not in name]
    places += [f"{name}/x{ending}" for name in ODD if "\\" not in name]
    places += [f"data1{ending}", f"data2{ending}", f"ab{ending}", f"axb{ending}", f"d{ending}"]
    for place in places:
        path = events / place
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[writer](path, ROW | {"search_query": place})
    found = read(events, "source_file, search_query")
    assert sorted(found) == sorted((f"events/{place}", place) for place in places)


def test_a_path_that_cant_be_told_to_the_reader_is_named(tmp_path: Path) -> None:
    for folder in ("plain", "with [brackets]"):
        (tmp_path / folder / "events").mkdir(parents=True)
        write_csv(tmp_path / folder / "events" / "back\\slash.csv", ROW)
    assert len(read(tmp_path / "plain" / "events")) == 1
    with pytest.raises(Unread, match="rename it"):
        read(tmp_path / "with [brackets]" / "events")


def test_a_name_that_is_no_text_and_a_link_to_nothing_are_named(events: Path) -> None:
    Path(os.fsdecode(os.fsencode(events) + b"/caf\xe9.csv")).write_text("event_type\nview\n")
    (events / "b.csv").symlink_to("nowhere")
    with pytest.raises(Unread) as told:
        read(events)
    assert r"events/caf\xe9.csv: its name is not UTF-8; rename it" in str(told.value)
    assert "events/b.csv: it is a link to nothing" in str(told.value)


def test_folders_behind_links_are_read_once(events: Path, tmp_path: Path) -> None:
    share = tmp_path / "share" / "2024"
    share.mkdir(parents=True)
    write_csv(share / "a.csv", ROW)
    (events / "share").symlink_to(share.parent)
    (share / "round").symlink_to(share)
    assert read(events, "source_file") == [("events/share/2024/a.csv",)]


@pytest.mark.parametrize("writer", ["a.csv", "a.jsonl", "a.parquet", "array.json"])
def test_folders_of_hive_are_columns_where_they_mean_something(events: Path, writer: str) -> None:
    ending = writer.partition(".")[2]
    for place in (
        f"channel=app/dt=2024-01-03/part-0.{ending}",
        f"dt=2024-01-03/Channel=in%20store/part-0.{ending}",
        f"channel=__HIVE_DEFAULT_PARTITION__/x.{ending}",
        f"plain.{ending}",
    ):
        (events / place).parent.mkdir(parents=True, exist_ok=True)
        WRITERS[writer](events / place, ROW)
    (events / "channel=web").mkdir()
    WRITERS[writer](events / "channel=web" / f"own.{ending}", ROW | {"channel": "its own"})
    assert read(events, "channel, extra") == [
        (None, None),
        ("app", None),
        ("its own", None),
        ("in store", None),
        (None, None),
    ]
    assert {told[0] for told in read(events)} == {"2024-01-03 10:00:00.000000"}


def test_a_folder_can_tell_what_the_mapping_asks_for(events: Path) -> None:
    for place in ("dt=2024-01-05", "dt=2024-01-06"):
        (events / place).mkdir()
        write_csv(events / place / "a.csv", {"event_type": "view", "user_id": "anna"})
    assert read(events, "event_time, event_date") == [
        (None, date(2024, 1, 5)),
        (None, date(2024, 1, 6)),
    ]
    (events.parent / "mapping.yaml").write_text("columns: {event_time: dt}\n")
    assert read(events, "event_time, event_date") == [
        ("2024-01-05 00:00:00.000000", date(2024, 1, 5)),
        ("2024-01-06 00:00:00.000000", date(2024, 1, 6)),
    ]


def test_typed_parquet_columns_keep_their_values(events: Path) -> None:
    at = datetime(2024, 1, 3, 22, 0, 0, 123456, tzinfo=timezone(timedelta(hours=-5)))
    pl.DataFrame(
        {
            "event_time": pl.Series([at]).dt.convert_time_zone("America/New_York"),
            "event_type": ["purchase"],
            "user_id": [17],
            "quantity": [2],
            "unit_price": pl.Series([Decimal("3.50")]),
        }
    ).write_parquet(events / "a.parquet")
    expected = ("2024-01-04 03:00:00.123456", "purchase", "17", "2", "3.50")
    assert read(events)[0][:5] == expected


def test_columns_that_are_missing_are_null_and_unknown_ones_kept_aside(events: Path) -> None:
    write_csv(events / "a.csv", {"event_type": "view", "colour": "red", "size": None})
    expected = [("view", None, None, None, '{"colour": "red"}')]
    assert read(events, "event_type, user_id, discount, note, extra") == expected


@pytest.mark.parametrize(
    ("told", "zone", "expected"),
    [
        ("2024-01-03T10:00:00", "UTC", "2024-01-03 10:00:00.000000"),
        ("2024-01-03T10:00:00Z", "America/New_York", "2024-01-03 10:00:00.000000"),
        ("2024-01-03 10:00:00.5+02:00", "America/New_York", "2024-01-03 08:00:00.500000"),
        ("2024-01-03 10:00:00+0530", "UTC", "2024-01-03 04:30:00.000000"),
        ("2024-01-03 23:00:00", "America/New_York", "2024-01-04 04:00:00.000000"),
        ("2024-01-03", "Asia/Shanghai", "2024-01-02 16:00:00.000000"),
        ("yesterday", "UTC", "yesterday"),
    ],
)
def test_times_become_utc_by_their_offset_or_the_sources_zone(
    events: Path, told: str, zone: str, expected: str
) -> None:
    write_csv(events / "a.csv", ROW | {"event_time": told})
    assert read(events, "event_time", zone) == [(expected,)]


@settings(max_examples=20, deadline=None)
@given(
    at=st.datetimes(datetime(2024, 1, 2), datetime(2024, 1, 30)),
    minutes=st.integers(-12 * 60, 14 * 60),
)
def test_any_offset_means_what_python_says(
    tmp_path_factory: pytest.TempPathFactory, at: datetime, minutes: int
) -> None:
    folder = tmp_path_factory.mktemp("times") / "events"
    folder.mkdir()
    there = at.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    write_csv(folder / "a.csv", ROW | {"event_time": there.isoformat()})
    expected = there.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    assert read(folder, "event_time") == [(expected,)]


@pytest.mark.parametrize(
    ("name", "told", "day"),
    [
        ("shop-2024-01-09.csv", None, date(2024, 1, 9)),
        ("shop-2024-01-09.csv", "whenever", date(2024, 1, 9)),
        ("shop-2024-01-09.csv", "2024-01-05 10:00:00", date(2024, 1, 5)),
        ("shop.csv", None, FIRST),
        ("shop-2024-13-99.csv", None, FIRST),
        ("shop.csv", "2019-05-05 10:00:00", FIRST),
    ],
)
def test_a_row_belongs_to_its_times_day_or_its_files_or_the_first(
    events: Path, name: str, told: str | None, day: date
) -> None:
    (events / name).write_text(f"event_type,event_time\nview,{told or ''}\n")
    assert read(events, "event_date") == [(day,)]


def test_a_window_takes_its_days_only_and_all_windows_take_every_row(events: Path) -> None:
    rows = [ROW | {"event_time": f"2024-01-0{day} 23:59:59"} for day in range(1, 8)]
    write_csv(events / "a.csv", *rows)
    by_day = [read(events, window=Window(day, day + timedelta(days=1))) for day in MONTH.days]
    assert [len(found) for found in by_day[:8]] == [1] * 7 + [0]
    assert [row for found in by_day for row in found] == read(events)


CSV = "event_type,user_id,search_query\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (CSV + "view,anna,tea\n", [("view", "anna", "tea")]),
        ("\ufeff" + CSV + "view,anna,tea\n", [("view", "anna", "tea")]),
        (CSV.replace("\n", "\r\n") + "view,anna,tea\r\n", [("view", "anna", "tea")]),
        (CSV + 'view,"an""na","t\ne;a"\n', [("view", 'an"na', "t\ne;a")]),
        (CSV + 'view,"",\n', [("view", None, None)]),
        (CSV.replace(",", ";") + "view;anna;t,e,a\n", [("view", "anna", "t,e,a")]),
        (CSV.replace(",", "\t") + "view\tanna\ttea\n", [("view", "anna", "tea")]),
        ("user_id|event_type\nanna|view\n", [("view", "anna", None)]),
        ('"user_id", "event_type"\nanna,view\n', [("view", "anna", None)]),
        (CSV + "view,anna,tea\n\nview,ben,\n", [("view", "anna", "tea"), ("view", "ben", None)]),
        (CSV + "view,007,1e5\n", [("view", "007", "1e5")]),
        ("event_type,user_id,search_query,\nview,anna,tea,\n", [("view", "anna", "tea")]),
        ("event_type,user_id,user_id\nview,anna,ben\n", [("view", "anna", None)]),
        ("event_type\nview\n", [("view", None, None)]),
    ],
)
def test_csv_as_shops_write_it(events: Path, content: str, expected: list[Any]) -> None:
    (events / "a.csv").write_bytes(content.encode())
    assert read(events, "event_type, user_id, search_query") == expected


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_files_with_other_columns_or_another_order_are_read_by_name(
    events: Path, name: str
) -> None:
    write = WRITERS[name]
    write(events / name, ROW)
    write(events / f"b{name}", {key: ROW[key] for key in reversed(ROW)} | {"colour": "red"})
    shown = "event_time, user_id, unit_price, source_row"
    assert len(set(read(events, shown))) == 1
    assert {told for (told,) in read(events, "extra")} == {None, '{"colour": "red"}'}


def test_json_values_keep_their_exact_text(events: Path) -> None:
    (events / "a.jsonl").write_text(
        '{"event_id": 123456789012345678901234567890, "unit_price": 3.50, "discount": 1e1,'
        ' "search_query": ":1.50,", "a": {"b": 2}, "c": "x\\":1.0,", "d": null}\n'
        '{"event_id": "x", "unit_price": "0.10", "user_id": "", "quantity": 2.0}\n'
    )
    shown = "event_id, unit_price, discount, search_query, quantity, user_id, extra, source_row"
    assert read(events, shown) == [
        ("123456789012345678901234567890", "3.50", "1e1", ":1.50,", None, None,
         '{"a": {"b":2}, "c": "x\\":1.0,"}', 0),
        ("x", "0.10", None, None, "2.0", None, None, 1),
    ]  # fmt: skip


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
            st.decimals(-(10**9), 10**9, places=2),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_and_number_comes_through_every_format(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, Decimal]]
) -> None:
    folder = tmp_path_factory.mktemp("any") / "events"
    folder.mkdir()
    rows = [{"search_query": text, "unit_price": f"{number}"} for text, number in values]
    write_csv(folder / "a.csv", *rows)
    write_parquet(folder / "a.parquet", *rows)
    lines = (
        f'{{"search_query": {json.dumps(text)}, "unit_price": {number}}}\n'
        for text, number in values
    )
    (folder / "a.jsonl").write_text("".join(lines))
    expected = [(text or None, f"{number}") for text, number in values]
    found = read(folder, "source_file, search_query, unit_price")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        assert [told[1:] for told in found if told[0] == f"events/{name}"] == expected


def test_every_row_knows_its_place_in_its_file(events: Path) -> None:
    for name in ("a", "b", "c"):
        rows = [{"event_id": f"events/{name}.csv {n}", "event_type": "view"} for n in range(2_500)]
        write_csv(events / f"{name}.csv", *rows)
        write_jsonl(events / f"{name}.jsonl", *rows)
        write_parquet(events / f"{name}.parquet", *rows, row_group_size=100)
    told = read(
        events,
        "event_id, replace(replace(source_file, 'jsonl', 'csv'), 'parquet', 'csv')"
        " || ' ' || source_row",
    )
    assert len(told) == 9 * 2_500
    assert all(event_id == place for event_id, place in told)


def test_the_mapping_of_the_folder_is_used_and_its_mistakes_are_told(events: Path) -> None:
    write_csv(events / "a.csv", {"at": "1704276000", "type": "pv", "who": "anna", "mail": "x@y"})
    mapping = events.parent / "mapping.yaml"
    mapping.write_text(
        "columns: {event_time: at, event_type: type, user_id: who}\n"
        "values: {event_type: {pv: view}}\ntime_format: epoch_seconds\ndrop: [mail]\n"
    )
    shown = "event_time, event_type, user_id, extra"
    assert read(events, shown) == [("2024-01-03 10:00:00.000000", "view", "anna", None)]
    mapping.write_text("column: {}\n")
    with pytest.raises(SourceError, match=r"mapping.yaml:1: column: unknown key; did you mean"):
        read(events)


def test_other_globs_than_events_can_be_told(events: Path) -> None:
    logs = events.parent / "logs" / "2024"
    logs.mkdir(parents=True)
    write_csv(logs / "a.csv", ROW)
    write_csv(events / "a.csv", ROW)
    (events.parent / "mapping.yaml").write_text("events: logs/**/*.csv\n")
    assert read(events, "source_file") == [("logs/2024/a.csv",)]


def test_a_simulated_shop_is_read_like_files_under_its_own_name(events: Path) -> None:
    write_csv(events / "a.csv", ROW)
    told = Settings(home=events.parent / "home", start=FIRST)
    source = Files.at(events.parent, installation.delivery(told), name="simulated")
    with duckdb.connect() as connection:
        query = source.take(MONTH, connection).query
        found = connection.execute(f"select source from ({query.sql})", query.parameters)
        assert found.fetchall() == [("simulated",)]


@pytest.mark.parametrize("name", ["README.txt", "a.xlsx", "a.zip", "a.csv.bz2", "2024/a", "a.CSV~"])
def test_a_file_that_is_not_read_is_named_unless_the_mapping_leaves_it_out(
    events: Path, name: str
) -> None:
    path = events / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("not events")
    with pytest.raises(Unread, match=f"events/{name}: its ending is none of .*under ignore:"):
        read(events)
    (events.parent / "mapping.yaml").write_text(f"ignore: ['events/**/{path.name}']\n")
    assert read(events) == []


def test_hidden_names_are_left_alone_and_no_file_is_no_row(events: Path) -> None:
    (events / "_SUCCESS.csv").write_text("")
    (events / ".a.csv.part").write_text("")
    (events / ".a.csv").write_text("")
    for name in (".csv", "_temporary"):
        (events / name).mkdir()
        (events / name / "a.csv").write_text("")
    assert read(events) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"event_type,user_id\nview,anna,too,many\n"),
        ("a.csv", b""),
        ("a.jsonl", b'{"event_type": "view"\n'),
        ("a.parquet", b"PAR1 but no more"),
        ("a.parquet.gz", b""),
        ("a.csv", "event_type,user_id\nview,ren\xe9\n".encode("latin-1")),
        ("a.csv", "event_type,user_id\n".encode("utf-16")),
        ("a.csv", b"event_type,user_id\nview\n"),
        ("a.csv", b'event_type,user_id\nview,"anna\n'),
        ("a.csv", b"event_type,file_index\nview,anna\n"),
        ("a.jsonl", b'[{"event_type": "view"}\n'),
        ("a.json", b'{"event_type": "view"'),
        ("a.json", b"[1, 2]"),
        ("a.jsonl", b"view\n"),
        ("a.csv.zst", b"event_type\n"),
        ("a.csv.gz", gzip.compress(b"event_type,user_id\n" + b"view,anna\n" * 999, mtime=0)[:-20]),
    ],
)
def test_a_file_that_cant_be_read_is_named(events: Path, name: str, content: bytes) -> None:
    (events / name).write_bytes(content)
    with pytest.raises(Unread, match=f"^events/{name}: ") as told:
        read(events)
    assert "\n" not in str(told.value)


ROWS_CSV = b"event_type,user_id\nview,anna\n"
CAUSES = {
    "utf-16 without mark": ("a.csv", ROWS_CSV.decode().encode("utf-16-le"), "it is UTF-16"),
    "utf-16 big endian": ("a.csv", ROWS_CSV.decode().encode("utf-16-be"), "it is UTF-16"),
    "utf-16 json": ("a.jsonl", '{"event_type": "view"}\n'.encode("utf-16-le"), "it is UTF-16"),
    "byte order mark": ("a.jsonl", b'\xef\xbb\xbf{"event_type": "view"}\n', "byte order mark"),
    "mark of an array": ("a.json", b'\xef\xbb\xbf[{"event_type": "view"}]\n', "byte order mark"),
    "latin-1": ("a.csv", ROWS_CSV + b"view,ren\xe9\n", "byte 37 is not UTF-8 .*Latin-1"),
    "latin-1 far behind": (
        "a.csv",
        ROWS_CSV + b"view,anna\n" * 150_000 + b"view,ren\xe9\n",
        "line 150003: byte 8 is not UTF-8 .*Latin-1",
    ),
    "line ends that change": (
        "a.csv",
        ROWS_CSV + b"view,ben\r\n",
        "line 3 ends with CRLF, the line before it with LF",
    ),
    "line ends that change back": (
        "a.csv",
        ROWS_CSV.replace(b"\n", b"\r\n") + b"view,ben\n",
        "line 3 ends with LF, the line before it with CRLF",
    ),
    "bytes behind gzip": ("a.csv.gz", gzip.compress(ROWS_CSV) + bytes(512), "packed end"),
    "text behind gzip": (
        "a.csv.gz",
        gzip.compress(ROWS_CSV) + b"more",
        "(?i)not a gzip|packed end",
    ),
    "no gzip": ("a.csv.gz", ROWS_CSV, "it is not packed, but its name ends in .gz"),
    "gzip by another name": ("a.csv", gzip.compress(ROWS_CSV), "packed with gzip; let its name"),
    "zip": ("a.csv", b"PK\x03\x04" + bytes(40), "a ZIP archive or an Excel file"),
    "parquet": ("a.csv", b"PAR1" + bytes(40), "it is Parquet; let its name end in .parquet"),
    "page": ("a.csv", b"<!DOCTYPE html>\n<p>Log in\n", "a page of HTML"),
    "title above the header": (
        "a.csv",
        b"Orders of June\n" + ROWS_CSV,
        "line 2 has more fields than the 1 of the first line; .* above the header",
    ),
    "short line": ("a.csv", ROWS_CSV + b"view\n", "line 3 has 1 of 2 fields"),
    "no last line end": ("a.csv", ROWS_CSV[:-3], "half written: its last line has no end"),
    "no last line end, packed": ("a.csv.gz", gzip.compress(ROWS_CSV[:-3]), "half written"),
    "NULs at the end": ("a.csv", ROWS_CSV + bytes(9), "half written: it holds NUL at byte 29"),
    "NULs in JSON": ("a.jsonl", b'{"event_type": "view"}\n' + bytes(9), "half written"),
}


@pytest.mark.parametrize("case", CAUSES)
def test_the_true_cause_is_told_and_other_files_are_read(events: Path, case: str) -> None:
    name, content, cause = CAUSES[case]
    (events / f"2024-01-09-{name}").write_bytes(content)
    write_csv(events / "2024-01-03.csv", ROW)
    assert len(read(events, window=Window(FIRST, date(2024, 1, 9)))) == 1
    with pytest.raises(Unread, match=cause):
        read(events, window=Window(date(2024, 1, 9), date(2024, 1, 10)))


@pytest.mark.parametrize("files", [1, 12])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_open_quote_swallows_nothing_silently(events: Path, files: int, threads: int) -> None:
    """Of many files, or with one thread, DuckDB leaves out all that follows an open quote."""
    for number in range(2, files + 1):
        # One within a field is no open quote.
        (events / f"2024-01-{number:02}.csv").write_bytes(ROWS_CSV.replace(b"nn", b'n"n'))
    swallowing = ROWS_CSV + b'view,"ben\nview,secret\n' + b"view,carl\n" * 50
    (events / "2024-01-01.csv").write_bytes(swallowing)
    with duckdb.connect(config={"threads": threads}) as connection:
        told = source_of(events).take(MONTH, connection)
    assert told.problems == {
        date(2024, 1, 1): ("events/2024-01-01.csv: line 3 opens a quote that is not closed",)
    }
    assert sum(day.rows for day in told.days.values()) == files - 1


def test_what_may_be_half_written_is_taken_where_the_mapping_says_so(events: Path) -> None:
    (events / "a.csv").write_bytes(ROWS_CSV + b"view,ben")
    (events / "b.jsonl").write_text('{"event_type": "view", "user_id": "carl"}')
    with pytest.raises(Unread, match=r"^events/a.csv: it may be half written"):
        read(events)
    (events.parent / "mapping.yaml").write_text("unfinished: take\n")
    assert read(events, "user_id") == [("anna",), ("ben",), ("carl",)]
    (events.parent / "mapping.yaml").write_text("unfinished: hold\n")
    with pytest.raises(Unread, match=r"^events/a.csv"):
        read(events)


@pytest.mark.parametrize("place", ["nowhere", "file"])
def test_a_place_that_is_no_source_is_told_with_what_is_expected(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        SourceError, match=r"is not a folder \(is what it lies on mounted\?\); expected event files"
    ):
        open_source(
            installation.delivery(Settings(source=f"files:{tmp_path / place}", start=FIRST))
        )
