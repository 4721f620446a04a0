"""The lint for Spark: what passes, what is found and where, and the text of the translation."""

from pathlib import Path

import pytest
import sqlglot

from promo_assets.contract.project import PROJECT
from promo_assets.contract.tables import load_contracts
from promo_assets.warehouse.models.model import SqlModel
from promo_assets.warehouse.models.parsing import load_model, load_models
from promo_assets.warehouse.models.spark import to_spark
from tests.warehouse.models.spark_lint import spark_findings

CONTRACTS = load_contracts(PROJECT / "expectations")
SCHEMAS = {
    "s.t": {"i": "INTEGER", "n": "DECIMAL(18,2)", "f": "DOUBLE", "d": "DATE", "v": "VARCHAR"},
    "s.u": {"i": "INTEGER", "e": "DATE"},
}


def model_of(root: Path, sql: str) -> SqlModel:
    path = root / "s" / "model.sql"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"-- description: d\n-- grain: r\n-- owner: o\n{sql}")
    return load_model(path, root)


@pytest.mark.parametrize(
    "sql",
    [
        "select i as r from s.t where d >= $start and d < $end",
        "select cast(d - interval 7 day as date) as r from s.t",
        "select cast(date_trunc('month', d) as date) as r from s.t",
        "select date_diff('day', d, e) as r from s.t inner join s.u on t.i = u.i",
        "select d + 1 as r from s.t",
        "select cast(n as double) / nullif(cast(i as double), 0) as r from s.t",
        "select i / 7 as r from s.t",
        "select f / coalesce(nullif(f, 0), 1) as r from s.t",
        "select i % 7 as r from s.t",
        "select avg(f) as r, avg(cast(n as double)) as q from s.t",
        "select cast(floor(f) as integer) as r, cast(round(n, 0) as bigint) as q from s.t",
        "select cast(cast(round(100 * f, 0) as bigint) * 0.01 as decimal(18, 2)) as r from s.t",
        "select cast(count(*) as integer) as r, cast(sum(i) as bigint) as q from s.t",
        "select count(*) filter (where v like 'a%') as r from s.t",
        "select row_number() over (partition by v order by d desc, i) as r from s.t",
        "select sum(n) over w as r from s.t window w as (order by d"
        " range between interval 6 day preceding and current row)",
        "select distinct on (v) v, i as r from s.t order by v, i",
        "select i as r from s.t qualify row_number() over (order by d) = 1",
        "select i as r from s.t union all select i from s.u",
        "select trimmed as r from (select v || '-' || cast(i as varchar) as trimmed from s.t) as q",
        "select i as r from s.t where exists (select 1 from s.u where u.i = t.i)",
        "select coalesce(v, '') as v, 1 as r from s.t where v = 'a'",
        "select d as v, 1 as r from s.t where v = 'a'",
        "with w as (select * from s.t) select i as v, 1 as r from w where v = 'a'",
        "select split_part(v, '/', 2) as r, cast(v as decimal) as n from s.t",
        "select try_cast(v as decimal(18, 2)) as r, cast(v as timestamp) as t from s.t",
    ],
)
def test_what_means_the_same_has_no_findings(tmp_path: Path, sql: str) -> None:
    model = model_of(tmp_path, sql)
    assert spark_findings(model, SCHEMAS) == []
    assert sqlglot.parse_one(to_spark(model), dialect="spark")


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("select isodow(d) as r from s.t", "isodow"),
        ("select dayofweek(d) as r from s.t", "DuckDB counts 0-6"),
        ("select date_diff('month', d, $end) as r from s.t where d >= $start", "'day'"),
        ("select date_diff('hour', d, d) as r from s.t", "'day'"),
        ("select d - interval 7 day as r from s.t", "expected cast(… as date)"),
        ("select cast(d - interval 1 month as date) as r from s.t", "interval N day"),
        ("select cast(d - interval (i) day as date) as r from s.t", "interval N day"),
        ("select date_trunc('month', d) as r from s.t", "a timestamp on Spark"),
        ("select d - e as r from s.t inner join s.u on t.i = u.i", "date_diff('day', a, b)"),
        ("select $end - d as r from s.t where d >= $start", "date_diff('day', a, b)"),
        ("select cast(n as integer) as r from s.t", "Spark truncates"),
        ("select cast(2.5 as int) as r from s.t", "Spark truncates"),
        ("select cast(f / 2 as bigint) as r from s.t", "Spark truncates"),
        ("with a as (select n as m from s.t) select cast(m as int) as r from a", "truncates"),
        ("with a as (select * from s.t) select cast(sum(f) as int) as r from a", "truncates"),
        ("select cast(case when i > 1 then f end as int) as r from s.t", "Spark truncates"),
        ("select cast(f as decimal(18, 2)) as r from s.t", "halves of doubles"),
        ("select cast(f as varchar) as r from s.t", "print differently"),
        ("select f || v as r from s.t", "print differently"),
        ("select cast(v as hugeint) as r from s.t", "a cast to INT128"),
        ("select cast(v as integer[]) as r from s.t", "a cast to"),
        ("select round(f, 2) as r from s.t", "halves of doubles"),
        ("select n / 2 as r from s.t", "a quotient of decimals"),
        ("select f / i as r from s.t", "Spark fails on zero"),
        ("select f / 0 as r from s.t", "Spark fails on zero"),
        ("select f / nullif(i, 1) as r from s.t", "Spark fails on zero"),
        ("select i % n as r from s.t", "Spark fails on zero"),
        ("select i // 2 as r from s.t", "floor(a / b)"),
        ("select avg(n) as r from s.t", "the mean of decimals"),
        ("select log(f) as r from s.t", "base 10"),
        ("select list(v order by i) as r from s.t", "loses the order"),
        ("select hash(v) as r from s.t", "hash: the function is not in the list"),
        ("select quantile_cont(f, 0.5) as r from s.t", "rank the rows"),
        ("select median(f) as r from s.t", "Median"),
        ("select arg_max(v, i) as r from s.t", "row_number()"),
        ("select concat(v, v) as r from s.t", "use ||"),
        ("select lower(v) as r from s.t", "ASCII"),
        ("select v like 'a\\_b' as r from s.t", "a backslash"),
        ("select v ~ 'a' as r from s.t", "not in the list"),
        ("select random() as r from s.t", "not in the list"),
        ("select current_date as r from s.t", "not in the list"),
        ("select split_part(v, '/', 0) as r from s.t", "part 0"),
        ("select [1, 2, 3][1:2] as r from s.t", "list slices"),
        ("select unnest([1, 2]) as r from s.t", "unnest()"),
        ("select t.i as r from s.t asof join s.u on t.d >= u.e", "asof join"),
        ("select t.i as r from s.t natural join s.u", "natural join"),
        ("with p as (pivot s.t on v using sum(i)) select i as r from p", "PIVOT"),
        ("with a as (select columns('i') from s.t) select i as r from a", "COLUMNS()"),
        ("with a as (select * replace (1 as i) from s.t) select i as r from a", "* exclude"),
        ("with a as (select * exclude (v) from s.t) select i as r from a", "* exclude"),
        ("select i as r from s.t union all by name select i as r from s.u", "union by name"),
        (
            "with recursive a as (select 1 as r union all select r + 1 from a) select r from a",
            "4.1",
        ),
        ("select i as r from s.t order by i limit 3", "LIMIT"),
        ("select i + 1 as r from s.t where r > 1", "r: an alias of the same select"),
        ("select i + 1 as r, r + 1 as q from s.t", "r: an alias of the same select"),
    ],
)
def test_what_may_differ_is_found(tmp_path: Path, sql: str, told: str) -> None:
    findings = spark_findings(model_of(tmp_path, sql), SCHEMAS)
    assert any(told in finding.message for finding in findings), findings


def test_findings_name_their_lines_in_order(tmp_path: Path) -> None:
    sql = "select\n    $start as r,\n    hash(v) as h,\n    f / i as q\nfrom s.t\nwhere d < $end"
    findings = spark_findings(model_of(tmp_path, sql), SCHEMAS)
    assert [finding.line for finding in findings] == [6, 7]


def test_without_schemas_only_what_the_sql_shows_is_known(tmp_path: Path) -> None:
    stored = model_of(tmp_path, "select cast(f as integer) as r from s.t")
    assert spark_findings(stored) == []
    shown = model_of(tmp_path, "select cast(cast(f as double) as integer) as r from s.t")
    assert len(spark_findings(shown)) == 1


def test_the_translation_keeps_days_nulls_and_parameters(tmp_path: Path) -> None:
    text = to_spark(
        model_of(
            tmp_path,
            "select date_diff('day', d, $end) as r, row_number() over (order by d) as n\n"
            "from s.t where d >= $start -- why",
        )
    )
    # Two arguments: datediff(DAY, …) would count full 24 hours of timestamps.
    assert "DATEDIFF(:end, d)" in text
    assert "ORDER BY d NULLS LAST" in text
    assert ":start" in text
    assert "why" not in text


def real_models() -> dict[str, SqlModel]:
    windowed = {table: contract.window is not None for table, contract in CONTRACTS.items()}
    return load_models(PROJECT / "dbt_like_sql", known=list(CONTRACTS), windowed=windowed)


@pytest.mark.parametrize("model", real_models().values(), ids=lambda model: model.table)
def test_a_model_of_ours_means_the_same_on_spark(model: SqlModel) -> None:
    schemas = {table: contract.types for table, contract in CONTRACTS.items()}
    assert spark_findings(model, schemas) == []
    again = sqlglot.parse_one(to_spark(model), dialect="spark")
    assert tuple(again.named_selects) == model.columns
