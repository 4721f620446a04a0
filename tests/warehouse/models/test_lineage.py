"""Column lineage: hand-made queries whose sources are known, and the models of the platform."""

from pathlib import Path

import pytest

from promo_assets.contract.project import PROJECT
from promo_assets.contract.tables import load_contracts
from promo_assets.warehouse.models.lineage import column_lineage
from promo_assets.warehouse.models.model import ModelError, SqlModel
from promo_assets.warehouse.models.parsing import load_model, load_models

CONTRACTS = load_contracts(PROJECT / "expectations")
COLUMNS = {"k": "VARCHAR", "d": "DATE", "x": "INTEGER", "y": "DECIMAL(18,2)"}
SCHEMAS = {"s.t": COLUMNS, "s.u": {**COLUMNS, "z": "DOUBLE"}}


def model_of(root: Path, sql: str, header: str = "") -> SqlModel:
    path = root / "s" / "model.sql"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"-- description: d\n-- grain: r\n-- owner: o\n{header}{sql}")
    return load_model(path, root)


@pytest.mark.parametrize(
    ("sql", "sources"),
    [
        ("select x + y as r from s.t", "s.t.x s.t.y"),
        ("select count(*) as r from s.t", ""),
        ("select 1 as r from s.t where x > 1", ""),
        ("select $start as r from s.t where d < $end", ""),
        ("select sum(x) filter (where k = 'a') as r from s.t group by d", "s.t.k s.t.x"),
        ("select case when k = 'a' then x else u.z end as r from s.t as a, s.u as u", None),
        ("select case when t.k = 'a' then t.x else 0 end as r from s.t", "s.t.k s.t.x"),
        ("select t.x + u.z as r from s.t inner join s.u on u.k = t.k", "s.t.x s.u.z"),
        ("select z as r from s.t left join s.u using (d)", "s.u.z"),
        # A chain of CTEs with '*', renames, and a CTE that has its table's name.
        (
            "with t as (select *, x * 2 as double_x from s.t),"
            " more as (select t.*, double_x + y as w from t),"
            " last as (select w as v from more)\nselect v as r from last",
            "s.t.x s.t.y",
        ),
        # A union is matched by place, not by name.
        (
            "with both as (select x as a, k as b from s.t union all select z, d from s.u)"
            " select a as r from both",
            "s.t.x s.u.z",
        ),
        ("select x as r from s.t union select z from s.u", "s.t.x s.u.z"),
        # Windows count with what they partition and order by, named or not.
        (
            "select sum(x) over (partition by k order by d) as r from s.t",
            "s.t.d s.t.k s.t.x",
        ),
        (
            "select sum(x) over w as r from s.t window w as (partition by k order by d)",
            "s.t.d s.t.k s.t.x",
        ),
        # Rows that are chosen by a column are not computed from it.
        (
            "select x as r from s.t qualify row_number() over (partition by k order by d) = 1",
            "s.t.x",
        ),
        (
            "with n as (select x, row_number() over (order by d) as place from s.t)"
            " select place as r from n where x > 1",
            "s.t.d",
        ),
        ("select (select max(u.z) from s.u as u) as r from s.t", "s.u.z"),
        ("select v.w as r from (select y as w from s.t) as v", "s.t.y"),
    ],
)
def test_a_column_comes_from(tmp_path: Path, sql: str, sources: str | None) -> None:
    if sources is None:
        with pytest.raises(ModelError, match="k"):
            column_lineage(model_of(tmp_path, sql), SCHEMAS)
        return
    expected = tuple(tuple(source.rsplit(".", 1)) for source in sources.split())
    assert column_lineage(model_of(tmp_path, sql), SCHEMAS) == {"r": expected}


def test_a_model_that_reads_its_own_past_comes_from_itself(tmp_path: Path) -> None:
    model = model_of(
        tmp_path,
        "select x + 1 as r, x as other from s.model where d >= $start - 1 and d < $end",
        header="-- lookback: s.model 1 day\n",
    )
    assert column_lineage(model, {"s.model": COLUMNS}) == {
        "r": (("s.model", "x"),),
        "other": (("s.model", "x"),),
    }


def test_a_column_that_no_table_has_is_told(tmp_path: Path) -> None:
    model = model_of(tmp_path, "select t.nothing as r from s.t")
    with pytest.raises(ModelError, match=r"model\.sql:4: .*nothing.*expected columns of s\.t"):
        column_lineage(model, SCHEMAS)


def test_a_table_without_known_columns_is_told(tmp_path: Path) -> None:
    model = model_of(tmp_path, "select x as r from s.other")
    with pytest.raises(ModelError, match=r"no columns known of s\.other"):
        column_lineage(model, SCHEMAS)


def test_lineage_follows_a_change_of_the_upstream_columns(tmp_path: Path) -> None:
    model = model_of(tmp_path, "select x as r from s.t, s.u as u where t.k = u.k")
    without = {"s.t": {"k": "VARCHAR"}, "s.u": COLUMNS}
    assert column_lineage(model, without) == {"r": (("s.u", "x"),)}
    swapped = {"s.t": COLUMNS, "s.u": {"k": "VARCHAR"}}
    assert column_lineage(model, swapped) == {"r": (("s.t", "x"),)}


def real_models() -> dict[str, SqlModel]:
    windowed = {table: contract.window is not None for table, contract in CONTRACTS.items()}
    return load_models(PROJECT / "dbt_like_sql", known=list(CONTRACTS), windowed=windowed)


@pytest.mark.parametrize("model", real_models().values(), ids=lambda model: model.table)
def test_every_column_of_ours_comes_from_columns_that_exist(model: SqlModel) -> None:
    schemas = {table: contract.types for table, contract in CONTRACTS.items()}
    lineage = column_lineage(model, schemas)
    assert tuple(lineage) == model.columns
    for sources in lineage.values():
        for table, column in sources:
            assert table in model.depends_on
            assert column in schemas[table]
