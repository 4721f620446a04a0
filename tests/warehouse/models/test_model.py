"""SQL models: what a file must say, what is read from it, and what it is told when it is wrong."""

from collections.abc import Mapping
from datetime import date
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promo_assets.contract.project import PROJECT
from promo_assets.contract.tables import load_contracts
from promo_assets.warehouse.models.model import ModelError, SqlModel
from promo_assets.warehouse.models.parsing import load_model, load_models, render

MODELS = PROJECT / "dbt_like_sql"
CONTRACTS = load_contracts(PROJECT / "expectations")
HEADER = "-- description: d\n-- grain: a\n-- owner: o\n"
"""Three lines: the SQL of a model in these tests begins on line 4."""


def written(root: Path, sql: str, table: str = "core.things", header: str = HEADER) -> Path:
    path = root / f"{table.replace('.', '/')}.sql"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + sql)
    return path


def loaded(root: Path, sql: str, header: str = HEADER) -> SqlModel:
    return load_model(written(root, sql, header=header), root)


def told(caught: pytest.ExceptionInfo[ModelError], path: Path, line: int, text: str) -> None:
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: "), message
    assert text in message, message


def test_a_model_says_what_it_reads_and_what_it_gives(tmp_path: Path) -> None:
    model = loaded(
        tmp_path,
        "\n-- why\nwith daily as (\n"
        "    select user_id as a, n from features.daily where d >= $start and d < $end\n"
        ")\nselect daily.a, count(*) as n, max(items.b) as B\n"
        "from daily left join core.items on items.a = daily.n group by daily.a;\n",
        header="-- description: What\n--   it is: this.\n-- grain: a, n\n-- owner: data-platform\n"
        "-- lookback: features.daily 90 days\n",
    )
    assert model.table == "core.things"
    assert model.description == "What it is: this."
    assert model.owner == "data-platform"
    assert model.grain == ("a", "n")
    assert model.windowed
    assert model.lookback == {"features.daily": 90}
    assert model.depends_on == ("core.items", "features.daily")
    assert model.columns == ("a", "n", "b")
    assert model.sql.startswith("-- why\nwith daily as (")
    assert model.sql.endswith("group by daily.a")
    assert model.first_line == 7


def test_a_lookback_without_a_table_holds_for_every_table_read(tmp_path: Path) -> None:
    header = HEADER + "-- lookback: 1 day\n"
    model = loaded(tmp_path, "select a from x.y inner join x.z on y.a = z.a", header=header)
    assert model.lookback == {"x.y": 1, "x.z": 1}
    assert not model.windowed


@pytest.mark.parametrize(
    ("sql", "line", "text"),
    [
        ("select a frm b c d", 4, "syntax error near 'b'"),
        ("select $start as a, $end as b\nfrom x.y\nwhere (a = 1", 6, "syntax error"),
        ("select $start as a, $end as b,\n'open", 5, "syntax error: Missing '"),
        ("", 4, "nothing; expected one plain select"),
        ("select 1 as a;\n\nselect 2 as a", 6, "a second statement"),
        ("\ncreate table x.y as select 1 as a", 5, "CREATE statement"),
        ("insert into x.y select 1 as a", 4, "INSERT statement"),
        ("copy x.y to 'file'", 4, "COPY statement"),
        ("with w as (insert into x.y select 1 as a)\nselect a from w", 4, "insert inside"),
        ("select a\nfrom y", 5, "'y'; expected schema.table"),
        ("select a from main.x.y", 4, "'main.x.y'; expected schema.table"),
        ("select a from 'file.parquet'", 4, "expected schema.table"),
        ("select a from w, (with w as (select 1 as a) select a from w) as v", 4, "'w'"),
        ("with v as (select a from w), w as (select 1 as a) select a from v", 4, "'w'"),
        ("select a\nfrom\n  read_csv('x.csv')", 6, "table function READ_CSV"),
        ("select a from read_parquet('x')", 4, "table function"),
        ("select a from generate_series(1, 3) as t(a)", 4, "table function"),
        ("select a from glob('*')", 4, "table function"),
        ("with t as (select * from x.y)\nselect * from t", 5, "'*' in the final select"),
        ("select t.*\nfrom x.y as t", 4, "'*' in the final select"),
        ("select a from x.y union all\nselect * from x.z", 5, "'*' in the final select"),
        ("select a, a + 1 from x.y", 4, "output column 2 (a + 1) has no name"),
        ("select a,\n  b as A from x.y", 5, "output column 'A' is there twice"),
        ("select b from x.y", 2, "grain column 'a' is not in the output"),
        ("select a from x.y where d >= $start", 4, "$start without $end"),
        ("select a from x.y\nwhere d < $end", 5, "$end without $start"),
        ("select a from x.y where b = $other", 4, "'$other'; expected only $start and $end"),
        ("select a from x.y where b = ?", 4, "'?'; expected only"),
        ("select a\nfrom {{ ref('y') }}", 5, "a template ('{{')"),
        ("{% if x %}select 1 as a", 4, "a template ('{%')"),
        ("select 1 as a {# note #}", 4, "a template ('{#')"),
        ("select a from core.things", 4, "reads itself without a lookback"),
    ],
)
def test_wrong_sql_is_told_where_and_what(tmp_path: Path, sql: str, line: int, text: str) -> None:
    path = written(tmp_path, sql)
    with pytest.raises(ModelError) as caught:
        load_model(path, tmp_path)
    told(caught, path, line, text)


@pytest.mark.parametrize(
    ("header", "line", "text"),
    [
        ("", 1, "no description"),
        ("-- description: d\n-- owner: o\n", 1, "no grain"),
        ("-- description: d\n-- grain: a\n-- owner:\n", 3, "no owner"),
        (HEADER + "-- ownr: o\n", 4, "did you mean 'owner'"),
        (HEADER + "-- owner: p\n", 4, "a second header line 'owner'"),
        (HEADER + "-- just words\n", 4, "leave an empty line"),
        (HEADER + "-- lookback: x.z 9 days\n", 4, "a lookback for x.z, which"),
        (HEADER + "-- lookback: x.y 0 days\n", 4, "'x.y 0 days'"),
        (HEADER + "-- lookback: x.y 3 weeks\n", 4, "'x.y 3 weeks'"),
    ],
)
def test_a_wrong_header_is_told_where_and_what(
    tmp_path: Path, header: str, line: int, text: str
) -> None:
    path = written(tmp_path, "select a from x.y", header=header)
    with pytest.raises(ModelError) as caught:
        load_model(path, tmp_path)
    told(caught, path, line, text)


def test_braces_in_a_string_and_a_struct_are_not_a_template(tmp_path: Path) -> None:
    assert loaded(tmp_path, "select '{{' as a, {'b': {'c': 1}} as s").columns == ("a", "s")


def test_a_file_outside_a_schema_is_told_to_move(tmp_path: Path) -> None:
    path = tmp_path / "things.sql"
    path.write_text(HEADER + "select 1 as a")
    with pytest.raises(ModelError, match=r"expected <schema>/<table>\.sql"):
        load_models(tmp_path, known=(), windowed={})


def load_all(
    root: Path, sqls: Mapping[str, str], windowed: Mapping[str, bool] | None = None
) -> list[str]:
    for table, sql in sqls.items():
        written(root, sql, table)
    return list(load_models(root, known=["raw.events"], windowed=windowed or {}))


def test_models_come_upstream_first(tmp_path: Path) -> None:
    sqls = {
        "a.last": "select a from b.middle",
        "b.middle": "select a from c.first inner join raw.events using (a)",
        "c.first": "select a from raw.events",
    }
    assert load_all(tmp_path, sqls) == ["c.first", "b.middle", "a.last"]


def test_an_unknown_table_is_told_with_its_near_matches(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_all(tmp_path, {"a.one": "select a\nfrom raw.event"})
    told(caught, tmp_path / "a" / "one.sql", 5, "unknown table raw.event;")
    assert "did you mean raw.events" in str(caught.value)


def test_a_cycle_is_told_with_its_path(tmp_path: Path) -> None:
    sqls = {
        "a.one": "select a\nfrom a.three",
        "a.two": "select a\nfrom a.one",
        "a.three": "select a\nfrom a.two",
    }
    with pytest.raises(ModelError) as caught:
        load_all(tmp_path, sqls)
    path = str(caught.value).partition("a cycle: ")[2].partition(";")[0].split(" reads ")
    assert path[0] == path[-1]
    assert set(path) == {"a.one", "a.two", "a.three"}
    reads = {"a.one": "a.three", "a.two": "a.one", "a.three": "a.two"}
    assert all(reads[table] == upstream for table, upstream in pairwise(path))
    told(caught, tmp_path / f"{path[0].replace('.', '/')}.sql", 5, "a cycle")


def test_a_model_may_read_its_own_past(tmp_path: Path) -> None:
    written(
        tmp_path,
        "select a from core.things where d >= $start - 1 and d < $end",
        header=HEADER + "-- lookback: core.things 1 day\n",
    )
    (model,) = load_models(tmp_path, known=(), windowed={"core.things": True}).values()
    assert model.depends_on == ("core.things",)


@pytest.mark.parametrize(
    ("sql", "windowed", "text"),
    [
        ("select a from raw.events", True, "its SQL has no bounds"),
        (
            "select a from raw.events where d >= $start and d < $end",
            False,
            "its contract has no window column",
        ),
    ],
)
def test_bounds_must_agree_with_the_contract(
    tmp_path: Path, sql: str, windowed: bool, text: str
) -> None:
    with pytest.raises(ModelError) as caught:
        load_all(tmp_path, {"a.one": sql}, {"a.one": windowed})
    told(caught, tmp_path / "a" / "one.sql", 4, text)


LEXEMES = [
    *("select", "user_id", "as", "a", ",", "sum", "(", "x", ")", "as", '"B c"', ",", "'It'"),
    *("as", "c", "from", "s.t", "where", "d", ">=", "$start", "and", "d", "<", "$end"),
    *("group by", "user_id"),
]


@given(st.data())
def test_the_version_ignores_comments_whitespace_and_letter_case(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    gaps = st.sampled_from([" ", "\n", "\t  ", " -- note, $end\n", " /* it's */ ", "\n\n"])
    text = ""
    for lexeme in LEXEMES:
        keeps_case = lexeme[0] in "'\"$"
        upper = not keeps_case and data.draw(st.booleans())
        spaced = lexeme.replace(" ", data.draw(st.sampled_from([" ", "\n", "   "])))
        text += (spaced.upper() if upper else lexeme if keeps_case else spaced) + data.draw(gaps)
    root = tmp_path_factory.mktemp("models")
    assert loaded(root, text).code_version == loaded(root, " ".join(LEXEMES)).code_version


@given(st.integers(0, len(LEXEMES) - 1))
def test_the_version_changes_with_any_word(
    tmp_path_factory: pytest.TempPathFactory, place: int
) -> None:
    root = tmp_path_factory.mktemp("models")
    swaps = {"user_id": "a_user", "x": "y", "d": "e", "s.t": "s.u", "'It'": "'it'", "<": "<="}
    swaps |= {'"B c"': '"B  c"', "sum": "max", ">=": ">", "and": "or", "c": "cc"}
    changed = [*LEXEMES]
    changed[place] = swaps.get(LEXEMES[place], LEXEMES[place])
    same = changed == LEXEMES
    versions = {loaded(root, " ".join(words)).code_version for words in (LEXEMES, changed)}
    assert len(versions) == (1 if same else 2)
    assert all(len(version) == 12 for version in versions)


def test_rendered_sql_runs_in_a_shell_and_gives_what_the_bound_one_gives(tmp_path: Path) -> None:
    model = loaded(
        tmp_path,
        "\n-- from $start\nselect d as a, '$start' as text, $end as upto\nfrom s.t\n"
        "where d >= cast($start - interval 1 day as date) and d < $end -- until $end",
    )
    shown = render(model, date(2017, 3, 2), date(2017, 3, 4))
    assert "-- from $start\n" in shown
    assert "'$start' as text, date '2017-03-04' as upto" in shown
    connection = duckdb.connect()
    connection.execute("create schema s")
    connection.execute(
        "create table s.t as select date '2017-02-26' + i::int as d from range(9) as r(i)"
    )
    bounds = {"start": date(2017, 3, 2), "end": date(2017, 3, 4)}
    expected = connection.execute(model.sql, bounds).fetchall()
    assert len(expected) == 3
    assert connection.execute(shown).fetchall() == expected


def real_models() -> dict[str, SqlModel]:
    windowed = {table: contract.window is not None for table, contract in CONTRACTS.items()}
    return load_models(MODELS, known=list(CONTRACTS), windowed=windowed)


@pytest.fixture(scope="module")
def empty_warehouse() -> duckdb.DuckDBPyConnection:
    """Every table of a contract, without rows."""
    connection = duckdb.connect()
    for contract in CONTRACTS.values():
        columns = ", ".join(f'"{name}" {kind}' for name, kind in contract.types.items())
        connection.execute(f"create schema if not exists {contract.schema_name}")
        connection.execute(f"create table {contract.table} ({columns})")
    return connection


@pytest.mark.parametrize("model", real_models().values(), ids=lambda model: model.table)
def test_duckdb_reads_a_model_of_ours_as_we_do(
    model: SqlModel, empty_warehouse: duckdb.DuckDBPyConnection
) -> None:
    bounds = {"start": date(2017, 3, 1), "end": date(2017, 3, 2)} if model.windowed else {}
    result = empty_warehouse.execute(model.sql, bounds)
    assert tuple(column[0] for column in result.description) == model.columns
    assert set(model.columns) == set(CONTRACTS[model.table].types)
    shown = render(model, date(2017, 3, 1), date(2017, 3, 2))
    tables = empty_warehouse.get_table_names(shown, qualified=True)
    assert {name.partition(" AS ")[0] for name in tables} == set(model.depends_on)


STEP = HEADER + "-- materialized: ephemeral\n"


def test_an_ephemeral_model_is_no_table_but_a_cte_of_those_that_read_it(tmp_path: Path) -> None:
    written(tmp_path, "select a, n from raw.events where d >= $start and d < $end", "b.few", STEP)
    written(tmp_path, "select few.*, 2 * few.n as twice from b.few", "b.more", STEP)
    sql = (
        "\n-- why\nWith own as (select 1 as a)\nselect more.a, twice from B.More join own using (a)"
    )
    written(tmp_path, sql, "c.last", HEADER)
    models = load_models(tmp_path, known=["raw.events"], windowed={"c.last": True})
    assert list(models) == ["c.last"]
    last = models["c.last"]
    assert last.depends_on == ("raw.events",)
    assert last.reads["raw.events"] == (tmp_path / "b" / "few.sql", 5)
    with duckdb.connect() as connection:
        connection.execute("create schema raw; create table raw.events (a int, n int, d date)")
        connection.execute("insert into raw.events values (1, 3, '2024-01-01'), (1, 4, '2023-1-1')")
        bounds = {"start": date(2024, 1, 1), "end": date(2024, 1, 2)}
        assert connection.execute(last.sql, bounds).fetchall() == [(1, 6)]
    before = last.code_version
    written(tmp_path, "select few.*, 3 * few.n as twice from b.few", "b.more", STEP)
    assert load_model(last.path, tmp_path).code_version != before


def test_an_ephemeral_model_hands_on_how_far_back_it_reads(tmp_path: Path) -> None:
    own = "select a from core.things where d >= $start - 3 and d < $end"
    header = STEP + "-- lookback: core.things 3 days\n"
    written(tmp_path, own, "core.past", header)
    written(tmp_path, "select a from core.past", "core.things")
    (model,) = load_models(tmp_path, known=(), windowed={"core.things": True}).values()
    assert (model.depends_on, model.lookback) == (("core.things",), {"core.things": 3})


@pytest.mark.parametrize(
    ("steps", "last", "at", "text"),
    [
        ({"b.x": "select a from raw.events"}, "select 1 as a", ("b/x", 1), "no model reads"),
        ({"b.x": "select a\nfrom b.x"}, "select a from b.x", ("b/x", 6), "b.x reads b.x"),
        (
            {"b.x": "select a from b.y", "b.y": "select a from b.x"},
            "select a from b.x",
            ("b/y", 5),
            "in a circle: b.x reads b.y reads b.x",
        ),
        (
            {"b.x": "select a from raw.events"},
            "with x as (select 1 as a) select x.a from b.x, x",
            ("b/x", 5),
            "'x' is a CTE or a step of c.last already",
        ),
        (
            {"b.x": "select a from raw.events", "d.x": "select a from raw.events"},
            "select a from b.x union all select a from d.x",
            ("d/x", 5),
            "expected different names",
        ),
        ({"b.x": "select a from raw.evnts"}, "select a from b.x", ("b/x", 5), "unknown table"),
    ],
)
def test_a_wrong_ephemeral_model_is_told(
    tmp_path: Path, steps: dict[str, str], last: str, at: tuple[str, int], text: str
) -> None:
    for table, sql in steps.items():
        written(tmp_path, sql, table, STEP)
    written(tmp_path, last, "c.last")
    with pytest.raises(ModelError) as caught:
        load_models(tmp_path, known=["raw.events"], windowed={})
    told(caught, tmp_path / f"{at[0]}.sql", at[1], text)


def test_an_unknown_materialisation_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"4: materialized 'view'; expected one of table, eph"):
        loaded(tmp_path, "select 1 as a", header=HEADER + "-- materialized: view\n")
