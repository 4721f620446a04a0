"""How finely effects can be told, as a table, and its gates."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.gates.suites import suite_of
from promo_assets.people.consent import ConsentRule
from promo_assets.strategy.experiments.experiment import Holdout
from promo_assets.tables.effect_levels import effect_levels
from promo_assets.tables.propensity import Learning, ModelStore
from promo_assets.tables.strategy import Given
from promo_assets.tables.table import Production
from tests.strategy.effects.test_response import CLOSED, trials

CONTRACT = installation.contracts()["strategy.effect_levels"]
SUNDAY = date(2024, 3, 3)
OFFERS = """
offers:
  - {id: a, name: A, kind: amount_off, value: 5, valid_days: 14}
  - {id: b, name: B, kind: amount_off, value: 5, valid_days: 14}
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Path]:
    """The rows of two weeks in which nothing new closed in the second, and MLflow's home."""
    home = tmp_path_factory.mktemp("levels")
    (home / "offers.yaml").write_text(OFFERS)
    given = Given(
        home / "offers.yaml", Decimal(100), Decimal(10), 0.8, 0.3,
        Holdout("h", 0.1, CLOSED), ConsentRule((), unknown_allowed=True),
    )  # fmt: skip
    store = ModelStore(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")
    known = trials(1, 1500).with_columns(segment=pl.lit("loyal"))
    later = trials(2, 500, campaign="later", days_ago=-9).with_columns(segment=pl.lit("loyal"))
    everything = pl.concat([known, later])  # noqa: F841 - read by the engine
    with duckdb.connect() as connection:
        connection.execute("create schema strategy")
        connection.execute("create table strategy.offer_trials as from everything")
        window = Window(SUNDAY - timedelta(days=13), SUNDAY + timedelta(days=6))
        production = Production(CONTRACT, connection, window, ("",), (), "test", print, dict)
        found = effect_levels(production, given, Learning(7, 1, (), (), store))
    return found, home


def test_the_end_of_a_week_knows_the_trials_closed_by_then(told: tuple[pl.DataFrame, Path]):
    found, _ = told
    assert found["as_of_date"].unique().to_list() == [SUNDAY]
    assert found["offer_id"].to_list() == ["all", "a", "b"]
    everybody, a, b = found.iter_rows(named=True)
    assert (
        everybody["sent"] + everybody["withheld"]
        == 1500
        == sum(one["sent"] + one["withheld"] for one in (a, b))
    )
    assert everybody["level"] is None
    assert a["level"] in ("offer", "segment", "user")
    assert "segments gain" in a["reason"]


def test_the_comparison_is_in_mlflow(told: tuple[pl.DataFrame, Path]):
    from mlflow import MlflowClient

    found, home = told
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    (run_id,) = found["run_id"].unique()
    run = client.get_run(run_id)
    assert client.get_experiment(run.info.experiment_id).name == "offer_effects"
    assert run.data.tags["partition"] == str(SUNDAY)
    everybody = found.row(0, named=True)
    assert run.data.metrics["all.user_slope"] == pytest.approx(everybody["user_slope"])
    assert {"a.R.policy_value_low", "a.segment.qini", "a.segment.aucc"} <= run.data.metrics.keys()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("effect_slope = effect_slope_high + 1", "slopes_have_intervals"),
        ("user_slope_low = null", "slopes_have_intervals"),
        ("level = null where offer_id = 'a'", "slopes_have_intervals"),
        ("level = 'user', learner = null where offer_id = 'a'", "slopes_have_intervals"),
        ("level = 'shop' where offer_id = 'a'", "slopes_have_intervals"),
        ("reason = null where offer_id = 'a'", "slopes_have_intervals"),
        (
            "effect_slope = .2, effect_slope_low = 0, effect_slope_high = .4",
            "effects_hold_for_unseen_users",
        ),
        (
            "user_slope = -2, user_slope_low = -3, user_slope_high = -1",
            "effects_hold_for_unseen_users",
        ),
    ],
)
def test_a_gate_finds_what_it_says(told: tuple[pl.DataFrame, Path], change: str, rule: str):
    rows = told[0]  # noqa: F841 - read by the engine
    rules = {one.title: one for one in suite_of(CONTRACT) if one.title.endswith(("als", "users"))}
    assert rules["effects_hold_for_unseen_users"].severity == "warning"
    with duckdb.connect() as connection:
        connection.execute("create table batch as select * from (from rows)")

        def found() -> set[str]:
            queries = {name: one.query.format(batch="batch") for name, one in rules.items()}
            return {name for name, sql in queries.items() if connection.execute(sql).fetchall()}

        assert found() == set()
        connection.execute(f"update batch set {change}")
        assert found() == {rule}
