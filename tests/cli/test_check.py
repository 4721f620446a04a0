"""``promo check``: what it says of a folder, and that it says what the platform then does."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from promo_assets import installation
from promo_assets.cli import rehearsal
from promo_assets.cli.main import main
from promo_assets.cli.rehearsal import Rehearsal, rehearse
from promo_assets.contract.days import Window
from promo_assets.contract.project import PROJECT
from promo_assets.settings import Settings, load_settings
from promo_assets.sources.check import Facts, look
from promo_assets.sources.files import Files
from promo_assets.sources.hints import (
    columns_for,
    event_type_for,
    number_formats_for,
    personal,
    time_formats_for,
)
from tests.support.shop import Shop

FIRST = date(2024, 1, 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to check, from an empty current folder, without any setting."""
    (tmp_path / "shop" / "events").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("SOURCE", "HOME", "START", "OFFERS", "PSEUDONYM_KEY"):
        monkeypatch.delenv(f"PROMO_{name}", raising=False)
    load_settings.cache_clear()
    yield tmp_path / "shop"
    load_settings.cache_clear()


@pytest.fixture(autouse=True)
def rehearsals(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds each: only where a test is marked ``rehearsed`` do the gates run."""
    if request.node.get_closest_marker("rehearsed") is None:
        monkeypatch.setattr(rehearsal, "rehearse", lambda told, first, days: Rehearsal())


def check(folder: Path | str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["check", str(folder)])
    return code, " ".join(capsys.readouterr().out.split())


def facts(folder: Path, start: date | None = None) -> Facts:
    settings = Settings(source=f"files:{folder}", **({"start": start} if start else {}))
    source = Files.at(folder, installation.delivery(settings))
    return look(source, threads=settings.threads, first=start)


def write(folder: Path, name: str, *rows: dict[str, Any]) -> None:
    (folder / "events" / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def view(number: int, **other: Any) -> dict[str, Any]:
    at = f"2024-01-02T10:{number // 60 % 60:02}:{number % 60:02}"
    return {"event_id": number, "event_time": at, "event_type": "view", "user_id": "a", **other}


@pytest.mark.rehearsed
def test_a_good_folder_is_accepted_and_the_run_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "a.jsonl", *(view(number) for number in range(50)))
    code, told = check(folder, capsys)
    assert code == 0
    assert "accepted 50 rows" in told
    assert "2024-01-02 .. 2024-01-02, 1 day with rows" in told
    assert f"PROMO_SOURCE=files:{folder} PROMO_START=2024-01-02 promo run" in told
    assert "no items.*: categories, brands and costs of items stay unknown" in told
    assert "nobody may get an offer (PROMO_CONSENT_UNKNOWN=deny)" in told


@pytest.mark.rehearsed
def test_nothing_is_written_anywhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "a.jsonl", view(1))
    before = {path: path.stat().st_mtime_ns for path in folder.parent.glob("**/*")}
    check(folder, capsys)
    after = {path: path.stat().st_mtime_ns for path in folder.parent.glob("**/*")}
    assert after == before


@pytest.mark.slow
@pytest.mark.rehearsed
def test_rejected_rows_are_told_by_reason_with_file_row_and_values(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"event_type": "purchase", "quantity": 1}
    rows = [view(number) for number in range(100)]
    rows[7] |= line | {"unit_price": "free"}
    rows[8] |= line | {"unit_price": 3, "discount": 4}
    rows[9] |= {"user_id": None}
    write(folder, "a.jsonl", *rows, rows[0])
    code, told = check(folder, capsys)
    assert code == 1
    # Both purchases are: few of all rows, but all of their type and all money.
    assert "HELD BACK: core.events on 2024-01-02: 1 of 101 rows: discount above amount" in told
    assert "rejected 4 rows (4.0%)" in told
    assert "price_unreadable 1: events/a.jsonl row 7: event_type=purchase, unit_price=free" in told
    assert "discount_above_amount 1: events/a.jsonl row 8: quantity=1, unit_price=3, disc" in told
    assert "user_missing 1: events/a.jsonl row 9: event_type=view, user_id=nothing" in told
    assert "duplicate 1: events/a.jsonl row 100: event_id=0" in told


@pytest.mark.slow
@pytest.mark.rehearsed
@pytest.mark.parametrize(("bad", "code"), [(5, 0), (6, 1)])
def test_more_than_5_percent_rejected_is_said_to_hold_the_day_back(
    folder: Path, capsys: pytest.CaptureFixture[str], bad: int, code: int
) -> None:
    unknown = [view(number, event_type="teleport") for number in range(4 * bad)]
    write(folder, "a.jsonl", *(view(number + 900) for number in range(400 - 4 * bad)), *unknown)
    assert check(folder, capsys)[0] == code


@pytest.mark.parametrize(
    "url",
    [
        "mysql://shop:s3cret@127.0.0.1:1/shop",
        "postgresql://shop:s3cret@127.0.0.1:1/shop",
        "mysql:shop:s3cret@127.0.0.1:1/shop",
        "oracle://shop:s3cret@127.0.0.1:1/shop",
    ],
)
def test_a_databases_password_is_never_printed(
    folder: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert main(["check", url]) == 2
    told = capsys.readouterr()
    assert "s3cret" not in told.out + told.err
    assert told.err.count("\n") == 1


def test_the_source_that_is_set_can_be_checked_as_it_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "a.jsonl", view(1))
    assert check(f"files:{folder}", capsys) == check(folder, capsys)


def test_columns_whose_names_differ_in_case_are_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "a.jsonl", view(1, colour="red"))
    write(folder, "b.jsonl", {name.upper(): value for name, value in view(2).items()})
    _, told = check(folder, capsys)
    assert "columns event_id, event_time, event_type, user_id kept aside colour (in 1 of 2" in told


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        ("{n}.0", "ids: {user_id: [without_decimals]}"),
        ("0{n}", "ids: {user_id: [without_leading_zeros]}"),
        ("00{n}.0", "ids: {user_id: [without_decimals, without_leading_zeros]}"),
        (" {n}\u00a0", None),  # Blanks are none of an id, and need no word.
        ("k-{n}", None),
    ],
)
def test_how_users_meet_their_events_is_suggested(
    folder: Path, capsys: pytest.CaptureFixture[str], listed: str, told: str | None
) -> None:
    write(folder, "a.jsonl", *(view(n, user_id=str(100 + n)) for n in range(30)))
    users = "".join(f"{listed.format(n=100 + n)},true\n" for n in range(40))
    (folder / "users.csv").write_text(f"user_id,consent_marketing\n{users}")
    said = check(folder, capsys)[1]
    assert (told in said) if told else ("ids: {" not in said)
    if told:
        (folder / "mapping.yaml").write_text(told)
        assert facts(folder).spelling == ()


@pytest.mark.slow
@pytest.mark.rehearsed
def test_what_is_held_back_is_shown_by_an_example(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "a.jsonl", *(view(n, user_id=f"1.{n}E+05") for n in range(30)))
    (folder / "users.csv").write_text("user_id,consent_marketing\n100000,true\n")
    code, told = check(folder, capsys)
    assert code == 1
    assert "users_are_listed: day=2024-01-02, accounts=30, listed=0" in told


def test_an_unreadable_file_is_named_and_the_rest_is_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "a.jsonl", view(1))
    (folder / "events" / "b.csv").write_text("event_type,user_id\nview,anna,secret\n")
    code, told = check(folder, capsys)
    assert code == 1
    assert "UNREADABLE events/b.csv: line 2 has more fields than the 2 of the first line" in told
    assert "secret" not in told
    assert "HELD BACK, since 1 file can't be read" in told
    assert "accepted 1 row" in told


@pytest.mark.slow
@pytest.mark.rehearsed
def test_a_shops_own_names_are_guessed_and_the_guess_makes_the_folder_good(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(
        f"{1704189600000 + number * 1000},{kind},7,d,sku,{more},a@b.c\n"
        for number in range(20)
        for kind, more in (("pv", ","), ("buy", "2,3.50"))
    )
    (folder / "events" / "a.csv").write_text(
        f"timestamp,event,customer,device,product,qty,price,email\n{rows}"
    )
    mapping = folder / "mapping.yaml"
    told: list[str] = []
    for _ in range(2):
        assert main(["check", str(folder)]) == 1
        lines = capsys.readouterr().out.splitlines()
        begin = next(place for place, line in enumerate(lines) if line.startswith("Is this meant"))
        told += [
            line[2:].split("  # ")[0].rstrip() for line in lines[begin + 1 :] if line[0] == " "
        ]
        told = [line for line in told if line and not line.startswith(" " * 20)]
        mapping.write_text("\n".join(told) + "\n")
    assert main(["check", str(folder)]) == 0
    assert facts(folder).rejected == {}
    assert 'time_format: "epoch_millis"' in told
    assert "  event_type: {buy: purchase, pv: view}" in told
    assert "drop: [email]" in told


def test_files_with_different_columns_are_told_apart(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "a.jsonl", view(1, colour="red"))
    write(folder, "b.jsonl", view(2), view(3))
    _, told = check(folder, capsys)
    assert "kept aside colour (in 1 of 2 files)" in told
    assert "missing device_id, session_id, channel" in told


def test_tables_beside_the_events_that_cant_be_used_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "a.jsonl", view(1))
    (folder / "items.csv").write_text("item_id,list_price\n1,free\n")
    (folder / "users.csv").write_text("user_id,consent_marketing\na,true\nb,false\n")
    (folder / "offers.yaml").write_text("offers: []\n")
    code, told = check(folder, capsys)
    assert code == 1
    assert "items.csv: row 0 (counted from 0), column list_price: 'free' found" in told
    assert "offers.yaml:1: offers: none found, expected a list of at least one" in told
    assert "consent marketing: 1 allow, 1 refuse" in told
    assert "no items" not in told


def test_rows_of_days_to_come_wait_and_older_ones_than_the_start_are_told(folder: Path) -> None:
    late = [view(number) | {"event_time": "2999-01-01 10:00"} for number in range(3)]
    write(folder, "a.jsonl", *late, view(7), view(8) | {"event_time": "2023-12-31"})
    found = facts(folder, start=FIRST)
    assert found.later == {date(2999, 1, 1): 3}
    assert found.rejected == {"before_partition": 1}
    assert facts(folder).first == date(2023, 12, 31)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "parameter SOURCE requires an argument"),
        (["check", "nowhere"], "nowhere/events is not a folder (is what it lies on mounted?)"),
        (["check", "{folder}"], "mapping.yaml:1: colums: unknown key; did you mean 'columns'"),
    ],
)
def test_wrong_usage_exits_2_with_one_line(
    folder: Path, arguments: list[str], message: str
) -> None:
    (folder / "mapping.yaml").write_text("colums: {}\n")
    told = subprocess.run(
        [
            sys.executable,
            "-m",
            "promo_assets.cli.main",
            *(a.format(folder=folder) for a in arguments),
        ],
        capture_output=True,
        text=True,
        cwd=folder.parent,
        env={"PYTHONPATH": str(PROJECT), "PATH": ""},
    )
    assert told.returncode == 2
    assert message in told.stderr
    assert told.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.rehearsed
def test_the_report_fits_a_screen_whatever_is_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(1)
    names = [
        "event_time",
        "event_type",
        "user_id",
        "quantity",
        "unit_price",
        "discount",
        "offer_id",
    ]
    for number in range(60):
        rows = [
            view(row, event_type=draw.choice(["view", "purchase", "offer_sent", f"type {row}"]))
            | {name: draw.choice(["", "x", "-1", "2"]) for name in draw.sample(names, 2)}
            for row in range(200)
        ]
        write(folder, f"2024-01-{number % 28 + 1:02}-{number}.jsonl", *rows)
    for number in range(10):
        (folder / "events" / f"broken-{number}.csv").write_text("")
    main(["check", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 60
    # A path is shown whole, however long; everything else is broken into lines.
    assert max(len(line.replace(str(folder), "")) for line in lines) <= 100


@pytest.mark.slow
def test_it_counts_what_the_platform_rejects(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop").deliver_all(3)
    events = shop.events(1)
    events[5] |= {"event_type": "teleport"}
    events[6] |= {"user_id": None, "device_id": None}
    shop.deliver(1, [*events, events[0], events[0]])
    shop.run(0, 2, ["events"])
    rejected = shop.query("select reason, count(*) from core.rejected_events group by reason")
    source = Files.at(shop.folder / "shop", installation.delivery(shop.settings))
    found = look(source, threads=1, first=shop.settings.start)
    assert found.rejected == Counter(dict(rejected))
    (accepted,) = shop.query("select count(*) from core.events")
    assert found.rows - found.rejected.total() == accepted[0]


@pytest.mark.slow
def test_it_holds_back_what_a_run_holds_back_for_the_same_reason(tmp_path: Path) -> None:
    """Days that are good, have an unknown type, lost every purchase, or can't be read."""
    shop = Shop(tmp_path / "shop").deliver_all(6)
    for number, change in ((1, "event_type"), (3, "unit_price")):
        events = shop.events(number)
        for event in events[:: 2 if change == "event_type" else 1]:
            if change == "event_type" or event["event_type"] == "purchase":
                event[change] = "10,50 teleports"
        shop.deliver(number, events)
    days = Window(shop.day(0), shop.day(6))
    shop.run(0, 5, ["events"])
    published = shop.query("select day from audit.publications where table_name = 'core.events'")
    held = set(days.days) - {day for (day,) in published}
    tried = rehearse(shop.settings, shop.settings.start, days)
    assert set(tried.held["core.events"]) == held == {shop.day(1), shop.day(3)}
    assert "unknown event type '10,50 teleports'" in tried.held["core.events"][shop.day(1)]
    assert "unreadable price '10,50 teleports'" in tried.held["core.events"][shop.day(3)]


def test_names_are_guessed_from_what_shops_usually_call_them() -> None:
    found = columns_for(
        ["event_id", "event_time", "event_type", "user_id", "item_id", "discount"],
        ["Event", "ts", "visitorid", "itemid", "colour"],
    )
    expected = {"event_time": "ts", "event_type": "Event", "user_id": "visitorid"}
    assert found == expected | {"item_id": "itemid"}
    assert [event_type_for(name) for name in ("PV", "add to cart", "Purchased", "zzz")] == [
        "view", "add_to_cart", "purchase", None,
    ]  # fmt: skip
    assert personal(["email", "ship_address", "phone", "item_name", "zip"]) == [
        "email", "ship_address", "phone",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1704189600", "1704189601.5"], [("epoch_seconds",)]),
        (["1704189600123"], [("epoch_millis",)]),
        (["1704189600123456"], [("epoch_micros",)]),
        (["1704189600", "1704189600123"], [("epoch_seconds", "epoch_millis")]),
        (["45293.4166666667"], [("excel_serial",)]),
        (["17"], []),
        (["31/01/2024 10:00"], [("%d/%m/%Y %H:%M",)]),
        (["01/02/2024 10:00"], [("%d/%m/%Y %H:%M",), ("%m/%d/%Y %H:%M",)]),
        (["31/01/2024 10:00", "31.01.2024"], [("%d/%m/%Y %H:%M", "%d.%m.%Y")]),
        (["01/02/2024 10:00", "31.01.2024"], []),
        (["01/31/2024 1:05 PM"], [("%m/%d/%Y %I:%M %p",)]),
        (["31/Jan/2024:10:00:00 +0100"], [("%d/%b/%Y:%H:%M:%S %z",)]),
        (["2024-01-31 10:00:00 CET"], [("%Y-%m-%d %H:%M:%S %Z",)]),
        (["20240131"], [("%Y%m%d",)]),
        (["soon"], []),
        ([], []),
    ],
)
def test_time_formats_are_those_that_read_every_value(
    values: list[str], expected: list[tuple[str, ...]]
) -> None:
    assert time_formats_for(values) == expected


def test_a_time_format_that_is_suggested_leaves_what_could_be_read() -> None:
    assert time_formats_for(["1704189600123"], ("epoch_seconds",)) == [
        ("epoch_seconds", "epoch_millis")
    ]
    assert time_formats_for(["31.01.2024"], ("iso",)) == [("iso", "%d.%m.%Y")]
    # Which takes months for days reads the rest wrongly.
    assert time_formats_for(["31/01/2024"], ("%m/%d/%Y",)) == [("%d/%m/%Y",)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["10,50"], ['{decimal: ","}']),
        (["1.214,50", "1,0"], ['{decimal: ",", thousands: "."}']),
        (["$1,059.00", "$5"], ['{decimal: ".", thousands: ",", currency: "$"}']),
        (["1 059,00 kr", "7 kr"], ['{decimal: ",", thousands: " ", currency: "kr"}']),
        (["1.299"], ['{decimal: ",", thousands: "."}']),
        (["1.299", "10.50"], []),
        (["$1.00", "€1.00"], []),
        (["gratis"], []),
        (["1\u202f059,00\u00a0€"], ['{decimal: ",", thousands: " ", currency: "€"}']),
        *(([sign], []) for sign in ("10%", "\u22121", "5-", "(12.50)", "\uff11\uff12.\uff15")),
        ([], []),
    ],
)
def test_number_formats_are_those_that_read_every_value(
    values: list[str], expected: list[str]
) -> None:
    assert number_formats_for(values) == expected


def sell(folder: Path, *prices: str) -> None:
    """A purchase at each price, each in a file of its own."""
    for number, price in enumerate(prices):
        line = view(number, event_type="purchase", item_id="i", quantity="1", unit_price=price)
        write(folder, f"{number}.jsonl", line)


def test_a_number_format_that_is_suggested_reads_what_could_not_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sell(folder, "1.214,50 €", "9,90 €", "3,00 €")
    _, told = check(folder, capsys)
    begin = told.index("number_format: {")
    (folder / "mapping.yaml").write_text(told[begin : told.index("}", begin) + 1])
    assert facts(folder).rejected == {}


def test_a_number_format_that_other_files_break_is_not_suggested(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sell(folder, "9,90", "12.50", "3.00")
    _, told = check(folder, capsys)
    assert "number_format: " not in told
    assert "numbers are written '9,90' and '12.50'" in told


@pytest.mark.slow
@pytest.mark.rehearsed
def test_a_start_before_the_first_row_hides_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of days before the first, nothing could ever be made: those after waited for them, and what
    waits was taken for what passes."""
    monkeypatch.setenv("PROMO_START", "2023-12-30")
    load_settings.cache_clear()
    lines = [view(n, event_type="purchase", item_id="i", quantity="1") for n in range(3)]
    write(folder, "a.jsonl", *lines, view(7))
    code, told = check(folder, capsys)
    assert code == 1
    assert "HELD BACK: core.events on 2024-01-02: 3 of 4 rows: unreadable price" in told
    write(folder, "a.jsonl", *({**one, "unit_price": "2.50"} for one in lines), view(7))
    code, told = check(folder, capsys)
    assert code == 0
    assert "PROMO_START=2024-01-02 promo run --from 2024-01-02 --to 2024-01-02" in told
    # An installation goes on with the start that it has, however old what is left in the source.
    monkeypatch.setenv("PROMO_HOME", str(folder.parent))
    load_settings.cache_clear()
    (folder.parent / "warehouse.duckdb").touch()
    assert "PROMO_START=2023-12-30 promo run --from 2024-01-02" in check(folder, capsys)[1]


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        (
            "columns: {unit_price: pirce}",
            "columns: unit_price: nothing has a column 'pirce'; did you mean 'price'?",
        ),
        ("columns: {channel: [medium, sourec]}", "nothing has a column 'medium'"),
        ("columns: {event_time: {join: [event_time, hour]}}", "nothing has a column 'hour'"),
    ],
)
def test_a_name_of_the_mapping_that_no_file_has_is_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str], mapping: str, told: str
) -> None:
    write(folder, "a.jsonl", view(1, price="2.50", source="web"))
    (folder / "mapping.yaml").write_text(mapping)
    code, said = check(folder, capsys)
    assert code == 1
    assert told in said
    assert "HELD BACK, since mapping.yaml names columns that no file has" in said
    (folder / "mapping.yaml").write_text("columns: {channel: [medium, source], unit_price: Price}")
    assert facts(folder).lost == []
    (folder / "mapping.yaml").write_text("columns: {channel: soon}\nnot_delivered: [channel]")
    assert facts(folder).lost == []


def test_an_id_that_repeats_is_no_events_id(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"id": number // 2, **view(number)} for number in range(20)]
    for line in lines:
        del line["event_id"]
    write(folder, "a.jsonl", *lines)
    _, told = check(folder, capsys)
    assert "event_id: id" not in told
    assert "id: 10 rows without a value of its own, so it is no event's id" in told
    assert "of orders it is order_id: id" in told
    # The order's number, on the first line of the order only, as Shopify writes it.
    for number, line in enumerate(lines):
        line["id"] = None if number % 3 else number
    write(folder, "a.jsonl", *lines)
    assert "event_id: id" not in check(folder, capsys)[1]
    write(folder, "a.jsonl", *({**line, "id": number} for number, line in enumerate(lines)))
    assert "event_id: id" in check(folder, capsys)[1]


def test_returns_and_equal_rows_that_are_rejected_may_be_meant(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bought = view(1, event_type="purchase", item_id="i", quantity=1, unit_price=2.5)
    del bought["event_id"]
    write(folder, "a.jsonl", bought, bought, bought | {"quantity": -1})
    told = check(folder, capsys)[1]
    begin = told.index("negative_quantity: return")
    assert "equal_rows: keep" in told[begin:]
    (folder / "mapping.yaml").write_text("negative_quantity: return\nequal_rows: keep")
    assert facts(folder).rejected == {}
    assert "negative_quantity" not in check(folder, capsys)[1]


def test_a_file_whose_first_row_is_data_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{user},17,{item},pv,{1511544070 + item}" for user in (1, 2) for item in (5, 6)]
    (folder / "events" / "log.csv").write_text("\n".join(rows) + "\n")
    _, told = check(folder, capsys)
    assert "no header?" in told
    assert "events/log.csv begins with 1" in told
    assert "header: in mapping.yaml" in told
