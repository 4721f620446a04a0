"""``mapping.yaml``: what it accepts, what it says about mistakes, and what its select gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_assets.sources.mapping import (
    COLUMNS,
    MappingError,
    SourceMapping,
    cents_sql,
    load_mapping,
)

NANO = datetime(2024, 7, 1, microsecond=123456)

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        path = tmp_path / "mapping.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def mapped(mapping: SourceMapping, relation: str, zone: str = "UTC") -> list[dict[str, Any]]:
    """The contract's columns of what ``relation`` (a select) delivers, without those all null."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        described = connection.execute(f"describe {relation}").fetchall()
        delivered = {name: type_ for name, type_, *_ in described}
        listed = mapping.select_list(delivered, zone)
        rows = connection.execute(f"select {listed} from ({relation}) as delivered")
        names = [column[0] for column in rows.description]
        assert names == [*COLUMNS, "extra", "happened_at"]
        found = [dict(zip(names, row, strict=True)) for row in rows.fetchall()]
    return [{name: value for name, value in row.items() if value is not None} for row in found]


def test_a_folder_without_a_mapping_delivers_the_contracts_names(tmp_path: Path) -> None:
    assert load_mapping(tmp_path / "mapping.yaml") == SourceMapping()


def test_a_full_mapping_turns_a_shops_own_columns_into_the_contracts(write: Write) -> None:
    mapping = load_mapping(
        write("""
columns:
  event_time: at
  event_type: [kind, type]
  user_id: customer
  unit_price: price_each
  channel: {value: app}
values:
  event_type: {pv: view, 2: purchase, yes: click}
  user_id: {"0": null}
time_zone: Asia/Shanghai
time_format: "%d/%m/%Y %H:%M"
units: {money: cents, discount: currency}
drop: [email]
""")
    )
    (row,) = mapped(
        mapping,
        "select '03/01/2024 06:30' as at, '2' as type, 'anna' as customer, 'a@b.c' as email,"
        " '350' as price_each, '1.50' as discount, 'red' as colour, '' as size",
    )
    assert row == {
        "event_time": "2024-01-02 22:30:00.000000",
        "event_type": "purchase",
        "user_id": "anna",
        "channel": "app",
        "unit_price": "3.50",
        "discount": "1.50",
        "extra": '{"colour": "red"}',
        "happened_at": datetime(2024, 1, 2, 22, 30),
    }
    (guest,) = mapped(mapping, "select '0' as customer, 'yes' as kind, 'x' as at")
    assert guest == {"event_type": "click", "channel": "app", "event_time": "x"}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("colums: {}\n", 1, "colums: unknown key; did you mean 'columns'?"),
        (
            "columns:\n  user: id\n",
            2,
            "'user' is no column of the contract; did you mean 'user_id'",
        ),
        ("columns:\n  event_date: day\n", 2, "'event_date' is no column of the contract"),
        ("columns:\n  user_id: {val: 1}\n", 2, "expected a delivered column's name"),
        ("columns:\n  user_id: a\n  user_id: b\n", 3, "user_id: repeated, first on line 2"),
        ("values:\n  event_typ: {}\n", 2, "takes no values; did you mean 'event_type'?"),
        ("values:\n  event_type: pv\n", 2, "'pv' found, expected keys and values"),
        ("time_zone: Shanghai\n", 1, "'Shanghai' found, expected an IANA zone such as"),
        ("time_format: epoch\n", 1, "'epoch' found, expected one of epoch_seconds"),
        ("time_format: '%d/%Q'\n", 1, "expected one of epoch_seconds"),
        ("explode: [a, b.c]\n", 1, "explode: 'b.c' should lie in 'a': a.b.c"),
        ("explode: {a: b}\n", 1, "expected what holds a list, such as orders, or [orders, "),
        ("time_format: [iso, epoch]\n", 1, "or a pattern such as %d/%m/%Y %H:%M:%S in place of"),
        ("time_format: {a: b}\n", 1, "expected a time format such as '%d.%m.%Y %H:%M', or a list"),
        (
            "skip_rows_where:\n  - {column: a}\n",
            2,
            "should have one of one_of, none_of, matches beside its column",
        ),
        (
            "skip_rows_where:\n  - {column: a, one_of: [x]}\n  - {column: a, matches: '('}\n",
            3,
            "expected a pattern such as TEST.*|POST",
        ),
        (
            "skip_rows_where: [{column: a, one_of: [x], match: b}]\n",
            1,
            "unknown key; did you mean 'matches'?",
        ),
        ("header: user_id\n", 1, "'user_id' found, expected a list such as [a, b]"),
        ("header: [user, item, User]\n", 1, "header: 'User' is named twice"),
        ("units: {unit_price: kopeks}\n", 1, "'kopeks' found; expected one of cents, currency"),
        ("units: {price: cents}\n", 1, "'price' has no unit; did you mean 'unit_price'?"),
        ("drop: email\n", 1, "'email' found, expected a list such as [a, b]"),
        ("columns: {user_id: mail}\ndrop: [Mail]\n", 1, "'mail' is under drop: too"),
        ("user_columns: {user: id}\n", 1, "is no column of users; did you mean 'user_id'?"),
        ("- columns\n", 1, "expected keys such as 'columns:'"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_is_expected(
    write: Write, text: str, line: int, message: str
) -> None:
    path = write(text)
    with pytest.raises(MappingError) as told:
        load_mapping(path)
    assert str(told.value).startswith(f"{path}:{line}: ")
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_every_mistake_is_told_and_broken_yaml_too(write: Write) -> None:
    with pytest.raises(MappingError, match=r"(?s)mapping.yaml:1: .*mapping.yaml:2: "):
        load_mapping(write("time_zone: Mars\nunits: {unit_price: kopeks}\n"))
    with pytest.raises(MappingError, match="not valid YAML"):
        load_mapping(write("columns: [\n"))


@pytest.mark.parametrize(
    ("value", "zone", "expected"),
    [
        ("timestamp '2024-07-01 12:00:00'", "Europe/Berlin", datetime(2024, 7, 1, 10)),
        ("timestamptz '2024-07-01 12:00:00+05'", "Europe/Berlin", datetime(2024, 7, 1, 7)),
        ("timestamp_ns '2024-07-01 00:00:00.123456789'", "UTC", NANO),
        ("date '2024-07-01'", "Asia/Shanghai", datetime(2024, 6, 30, 16)),
        ("'2024-07-01T12:00:00Z'", "Europe/Berlin", datetime(2024, 7, 1, 12)),
        ("'infinity'", "UTC", None),
        ("'2024-07-32'", "UTC", None),
        ("1719835200", "UTC", None),
        ("null", "UTC", None),
    ],
)  # fmt: skip
def test_a_time_is_read_by_its_type_its_offset_or_the_zone(
    value: str, zone: str, expected: datetime | None
) -> None:
    (row,) = mapped(SourceMapping(), f"select {value} as event_time, 'view' as event_type", zone)
    assert row.get("happened_at") == expected
    if expected:
        assert row["event_time"] == expected.strftime("%Y-%m-%d %H:%M:%S.%f")


@pytest.mark.parametrize(
    ("format_", "value", "expected"),
    [
        ("epoch_seconds", "1719835200", datetime(2024, 7, 1, 12)),
        ("epoch_seconds", "'1719835200.25'", datetime(2024, 7, 1, 12, 0, 0, 250_000)),
        ("epoch_seconds", "1719835200.5::double", datetime(2024, 7, 1, 12, 0, 0, 500_000)),
        ("epoch_millis", "1719835200001", datetime(2024, 7, 1, 12, 0, 0, 1000)),
        ("epoch_micros", "'1719835200000001'", datetime(2024, 7, 1, 12, 0, 0, 1)),
        ("epoch_seconds", "1719835200000", None),
        ("epoch_seconds", "'soon'", None),
        ("%d.%m.%Y %H:%M", "'01.07.2024 12:00'", datetime(2024, 7, 1, 10)),
        ("%d.%m.%Y %H:%M %z", "'01.07.2024 12:00 +0530'", datetime(2024, 7, 1, 6, 30)),
        ("%d.%m.%Y", "'2024-07-01'", None),
    ],
)
def test_a_time_format_says_how_times_are_told(
    format_: str, value: str, expected: datetime | None
) -> None:
    mapping = SourceMapping(time_format=format_, time_zone="Europe/Berlin")
    (row,) = mapped(mapping, f"select {value} as event_time")
    assert row.get("happened_at") == expected


def test_of_several_time_formats_the_first_that_fits_counts() -> None:
    formats = ("%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p %z", "iso", "epoch_millis")
    mapping = SourceMapping(time_format=formats, time_zone="Europe/Berlin")
    told = {
        "01.07.2024 12:00": datetime(2024, 7, 1, 10),
        "07/01/2024 01:30 PM -0500": datetime(2024, 7, 1, 18, 30),
        "2024-07-01T12:00:00Z": datetime(2024, 7, 1, 12),
        "1719835200001": datetime(2024, 7, 1, 12, 0, 0, 1000),
        "13/13/2024": None,
    }
    values = ", ".join(f"('{one}')" for one in told)
    rows = mapped(mapping, f"select * from (values {values}) as t(event_time)")
    assert [row.get("happened_at") for row in rows] == list(told.values())


OFFSETS = st.integers(-15 * 60, 15 * 60)


@settings(max_examples=60, deadline=None)
@given(
    st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30)),
    OFFSETS,
    st.sampled_from(["{}:{}", "{}{}", " {}:{}", " {}{}", "{}:{}:00", " {}:{}  "]),
    st.sampled_from(["T", " "]),
)
def test_an_offset_counts_however_it_is_written(
    at: datetime, minutes: int, style: str, between: str
) -> None:
    """The oracle is Python's datetime."""
    hours, rest = divmod(abs(minutes), 60)
    sign = "-" if minutes < 0 else "+"
    told = at.isoformat(between, "microseconds") + style.format(f"{sign}{hours:02}", f"{rest:02}")
    (row,) = mapped(SourceMapping(), f"select '{told}' as event_time", "Asia/Shanghai")
    assert row["happened_at"] == at - timedelta(minutes=minutes)


@pytest.mark.parametrize("word", ["UTC", " UTC", " GMT", "Z", " z", " utc "])
def test_utc_in_words_is_an_offset(word: str) -> None:
    (row,) = mapped(
        SourceMapping(), f"select '2024-06-01 22:09:31{word}' as event_time", "Asia/Shanghai"
    )
    assert row["happened_at"] == datetime(2024, 6, 1, 22, 9, 31)


@pytest.mark.parametrize(
    "told",
    [
        "24-06-01 09:00:00",
        "2024-06-01 09:00:00 CST",
        "2024-06-01 09:00:00+99:00",
        "2024-06-01 09:00:00 Asia/Shanghai",
        "2024-06-01 09:00:00+",
        "2024-06-01 9 o'clock",
        "12024-06-01 09:00:00",
        "1_024-06-01 09:00:00",
    ],
)
def test_what_is_not_wholly_a_moment_is_none(told: str) -> None:
    quoted = told.replace("'", "''")
    (row,) = mapped(SourceMapping(), f"select '{quoted}' as event_time", "Asia/Shanghai")
    assert row.get("happened_at") is None
    assert row["event_time"] == told


def test_a_date_and_a_time_are_joined() -> None:
    mapping = SourceMapping.model_validate({"columns": {"event_time": {"join": ["date", "hour"]}}})
    (row,) = mapped(mapping, "select '2026-03-02' as date, '10:00' as hour", "UTC")
    assert row["happened_at"] == datetime(2026, 3, 2, 10)
    assert row.get("extra") is None
    (row,) = mapped(mapping, "select '2026-03-02' as date", "UTC")
    assert row.get("happened_at") is None


@settings(max_examples=80, deadline=None)
@given(
    st.integers(-(10**11), 10**11),
    st.sampled_from([(",", "."), (".", ","), (",", " "), (".", "'"), (",", "")]),
    st.sampled_from(["{}", "$ {}", "{} €", "{}€"]),
)
def test_numbers_are_read_as_they_are_written(
    cents: int, style: tuple[str, str], currency: str
) -> None:
    """The oracle is Python's decimal, written with other separators."""
    decimal, thousands = style
    amount = Decimal(cents) / 100
    written = f"{amount:,.2f}".translate(str.maketrans({",": thousands, ".": decimal}))
    sign = "$" if "$" in currency else "€" if "€" in currency else ""
    mapping = SourceMapping.model_validate(
        {"number_format": {"decimal": decimal, "thousands": thousands, "currency": sign}}
    )
    told = currency.format(written).replace("'", "''")
    (row,) = mapped(mapping, f"select '{told}' as unit_price")
    assert Decimal(row["unit_price"]) == amount


@pytest.mark.parametrize("told", ["1.21,50", "1,214.50", "12,5,0", "1.5", "ten", "1.2345"])
def test_a_number_written_otherwise_is_none_and_is_shown_as_delivered(told: str) -> None:
    mapping = SourceMapping.model_validate({"number_format": {"decimal": ",", "thousands": "."}})
    (row,) = mapped(mapping, f"select '{told}' as unit_price")
    assert row["unit_price"] == f"{told} (not as number_format)"


def test_blanks_that_do_not_break_a_line_are_blanks_of_numbers() -> None:
    told = {"decimal": ",", "thousands": " ", "currency": "€"}
    mapping = SourceMapping.model_validate({"number_format": told})
    for text in ("1\u202f299,50\u00a0€", "1\u00a0299,50 €", "€ 1 299,50", "\u00a01299,50"):
        assert mapped(mapping, f"select '{text}' as unit_price") == [{"unit_price": "1299.50"}]


@pytest.mark.parametrize("sign", ["%", "-", "\u2212"])
def test_a_sign_that_changes_a_number_is_no_currency(sign: str) -> None:
    with pytest.raises(ValueError, match="currency"):
        SourceMapping.model_validate({"number_format": {"currency": sign}})


@settings(max_examples=25, deadline=None)
@given(st.datetimes(datetime(1999, 1, 1), datetime(2100, 1, 1)))
def test_a_cell_without_a_format_gives_its_moment(at: datetime) -> None:
    at = at.replace(microsecond=0)
    serial = Decimal((at - datetime(1899, 12, 30)).total_seconds()) / 86_400
    mapping = SourceMapping(time_format=("iso", "excel_serial"), time_zone="Asia/Kolkata")
    (row,) = mapped(mapping, f"select '{serial:.10f}' as event_time")
    assert row["happened_at"] == at - timedelta(hours=5, minutes=30)


def test_a_fraction_of_a_second_may_follow_a_comma() -> None:
    (row,) = mapped(SourceMapping(), "select '2024-01-02 10:00:00,250+01:00' as event_time")
    assert row["happened_at"] == datetime(2024, 1, 2, 9, 0, 0, 250_000)


def test_a_negative_quantity_can_be_a_return() -> None:
    mapping = SourceMapping(negative_quantity="return")
    rows = mapped(
        mapping,
        "select * from (values ('purchase', '-2'), ('purchase', '3'), ('view', '-1'))"
        " as t(event_type, quantity)",
    )
    assert [(row["event_type"], row["quantity"]) for row in rows] == [
        ("return", "2"),
        ("purchase", "3"),
        ("view", "-1"),
    ]


def test_a_return_that_is_told_by_a_condition_is_of_a_positive_quantity() -> None:
    kinds = {
        "cases": [
            {"column": "Invoice", "matches": "C.*", "value": "return"},
            {"column": "status", "one_of": ["refunded", None], "value": "gone"},
        ],
        "otherwise": "purchase",
    }
    told = {"columns": {"event_type": kinds}, "values": {"event_type": {"gone": "return"}}}
    select = (
        "select * from (values ('C12', 'paid', '-2'), ('12', 'paid', '3'), ('13', null, '1'), "
        "('14', 'refunded', '-1')) as t(invoice, status, quantity)"
    )
    for negative, quantities in (("return", "2311"), ("reject", None)):
        mapping = SourceMapping.model_validate(told | {"negative_quantity": negative})
        rows = mapped(mapping, select)
        assert [row["event_type"] for row in rows] == ["return", "purchase", "return", "return"]
        found = [row["quantity"] for row in rows]
        assert found == (list(quantities) if quantities else ["-2", "3", "1", "-1"])
    (row,) = mapped(mapping, "select 'C12' as number")
    assert row["event_type"] == "purchase"
    assert list(mapping.unknown(["number"])) == [
        "columns: event_type: nothing has a column 'Invoice'; expected one of number"
    ]
    assert list(mapping.unknown(["INVOICE", "status"])) == []


@settings(max_examples=25, deadline=None)
@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)))
def test_every_epoch_gives_its_moment(at: datetime) -> None:
    micros = (at.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )
    mapping = SourceMapping(time_format="epoch_micros")
    (row,) = mapped(mapping, f"select {micros} as event_time")
    assert row["happened_at"] == at


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**13))
def test_cents_become_amounts_to_the_cent(cents: int) -> None:
    (found,) = duckdb.sql(f"select {cents_sql(repr(str(cents)))}").fetchone()
    assert Decimal(found) * 100 == cents
    assert found == f"{cents // 100}.{cents % 100:02}"


@pytest.mark.parametrize(
    ("told", "expected"),
    [("350.0", "3.50"), ("-5", "-0.05"), ("3.50", "3.50 cents"), ("free", "free")],
)
def test_what_is_no_whole_number_of_cents_stays_no_amount(told: str, expected: str) -> None:
    assert duckdb.sql(f"select {cents_sql(repr(told))}").fetchone() == (expected,)


def test_ids_that_came_as_floating_point_are_the_same_as_whole_numbers() -> None:
    (row,) = mapped(SourceMapping(), "select 17.0::double as user_id, 2.5::double as quantity")
    assert row == {"user_id": "17", "quantity": "2.5"}


def test_columns_kept_aside_are_json_with_their_types_and_without_nulls() -> None:
    relation = (
        'select 1 as "a b", 2.50::decimal(9, 2) as price, \'x"y\' as quote, null as nothing,'
        " {k: [1, 2]} as nested, '{\"z\": null}'::json as told, 'null'::json as none,"
        " 'anna' as USER_ID"
    )
    (row,) = mapped(SourceMapping(), relation)
    assert row["user_id"] == "anna"
    assert json.loads(row["extra"]) == {
        "a b": 1,
        "price": 2.5,
        "quote": 'x"y',
        "nested": {"k": [1, 2]},
        "told": {"z": None},
    }


def test_an_identifier_that_another_column_replaces_is_kept_nowhere() -> None:
    mapping = SourceMapping(columns={"user_id": "customer"}, drop=("email",))
    (row,) = mapped(mapping, "select 'c1' as customer, 'anna' as user_id, 'a@b' as Email")
    assert row == {"user_id": "c1"}


def test_an_identifier_that_is_delivered_twice_is_kept_once_and_nowhere_as_delivered() -> None:
    """A join's export has two columns of one name; readers number the second one."""
    twice = "select 'anna' as user_id, 'bert' as \"User_ID_1\", 'x' as item_1"
    assert mapped(SourceMapping(), twice) == [{"user_id": "anna", "extra": '{"item_1": "x"}'}]
    renamed = SourceMapping(columns={"device_id": "Cookie"})
    assert mapped(renamed, "select 'c' as Cookie, 'd' as cookie_2") == [{"device_id": "c"}]


def test_a_renamed_column_is_found_under_its_old_name_in_older_files() -> None:
    mapping = SourceMapping(columns={"unit_price": ("price_each", "price")})
    for name in ("price_each", "price", "unit_price", "UNIT_PRICE"):
        assert mapped(mapping, f"select '3.50' as {name}") == [{"unit_price": "3.50"}]


def test_names_and_values_with_quotes_are_only_text() -> None:
    mapping = SourceMapping(
        columns={"user_id": 'a"b', "channel": {"value": "o'clock"}},
        values={"user_id": {"x'y": "it's"}},
    )
    (row,) = mapped(mapping, """select 'x''y' as "a""b", 'z' as "q'r" """)
    assert row == {"user_id": "it's", "channel": "o'clock", "extra": '{"q\'r": "z"}'}


def test_what_a_shop_tolerates_is_read_and_each_mistake_is_told_with_its_line(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(
        "gates:\n  rejected: 0.08\n  tolerated:\n    user_missing: {at_most: 0.3, note: no card}\n"
    )
    gates = load_mapping(path).gates
    assert gates.rejected == 0.08
    assert gates.tolerated["user_missing"].at_most == 0.3
    path.write_text(
        "gates:\n  rejected: 5\n  tolerated:\n    user_missing: {at_most: 0.3}\n"
        "    duplicate: {at_most: lots, note: n}\n"
    )
    with pytest.raises(MappingError) as wrong:
        load_mapping(path)
    assert [line.split(":")[1] for line in str(wrong.value).splitlines()] == ["2", "4", "5"]
    path.write_text(
        "gates:\n  rejected_by_type: {sale: 0.1}\n  tolerated:\n"
        "    user_mising: {at_most: 0.3, note: n}\n"
    )
    with pytest.raises(MappingError) as wrong:
        load_mapping(path)
    told = str(wrong.value).splitlines()
    assert f"{path}:2: gates.rejected_by_type: 'sale' is no event type" in told[0]
    assert f"{path}:4: gates.tolerated: 'user_mising' is nothing that" in told[1]
    assert "did you mean 'user_missing'?" in told[1]
