from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import pytest

from promo_assets.propensity.champion import OTHER_FEATURES, OTHER_HORIZON, decide
from promo_assets.propensity.dataset import split_by_time
from promo_assets.propensity.model import PropensityModel
from promo_assets.propensity.training import TrainingSettings, train

Snapshots = Callable[..., pl.DataFrame]


@pytest.fixture
def frame(snapshots: Snapshots) -> pl.DataFrame:
    return snapshots(weeks=18)


@pytest.fixture
def model(frame: pl.DataFrame) -> PropensityModel:
    """As it was tested."""
    tested = train(frame, TrainingSettings(date(2024, 5, 12), threads=1)).model.tested
    assert tested is not None
    return tested


@pytest.fixture
def test_rows(frame: pl.DataFrame) -> pl.DataFrame:
    return split_by_time(frame, horizon=7).test


def worse(model: PropensityModel) -> PropensityModel:
    return replace(model, platt=(-model.platt[0], model.platt[1]))


def test_the_first_model_is_promoted(model: PropensityModel, test_rows: pl.DataFrame) -> None:
    decision = decide(model, None, test_rows)
    assert decision.promote
    assert decision.champion_log_loss is None


def test_the_better_model_wins_whichever_is_newer(
    model: PropensityModel, test_rows: pl.DataFrame
) -> None:
    won, lost = (
        decide(model, worse(model), test_rows),
        decide(worse(model), model, test_rows),
    )
    assert won.promote
    assert "beats the champion's" in won.reason
    assert not lost.promote
    assert won.challenger_log_loss == lost.champion_log_loss


def test_a_tie_keeps_the_champion(model: PropensityModel, test_rows: pl.DataFrame) -> None:
    assert not decide(model, model, test_rows).promote


def test_a_better_mean_without_a_margin_keeps_the_champion(
    model: PropensityModel, test_rows: pl.DataFrame
) -> None:
    slope, intercept = model.platt
    near = [replace(model, platt=(slope, intercept + shift)) for shift in (-0.01, 0.01)]
    decisions = [decide(one, model, test_rows) for one in near]
    assert any(decision.difference < 0 for decision in decisions)  # type: ignore[operator]
    for decision in decisions:
        assert not decision.promote
        assert decision.low < 0 < decision.high  # type: ignore[operator]
        assert "does not clearly beat" in decision.reason


def test_a_decision_tells_its_numbers(model: PropensityModel, test_rows: pl.DataFrame) -> None:
    told = decide(model, worse(model), test_rows)
    assert told.champion_log_loss is not None
    assert told.difference == pytest.approx(told.challenger_log_loss - told.champion_log_loss)
    assert told.low < told.difference < told.high < 0  # type: ignore[operator]
    assert (told.rows, told.users) == (test_rows.height, test_rows["user_id"].n_unique())


def test_a_champion_of_another_horizon_is_not_compared_and_gives_way(
    model: PropensityModel, test_rows: pl.DataFrame
) -> None:
    decision = decide(worse(model), replace(model, horizon=14), test_rows)
    assert (decision.verdict, decision.promote) == (OTHER_HORIZON, True)
    assert "7 days ahead, the former champion 14" in decision.reason
    assert decision.champion_log_loss is None


def test_a_champion_of_other_features_gives_way_and_the_change_is_told(
    model: PropensityModel, test_rows: pl.DataFrame
) -> None:
    features = ("gone_feature", *model.features[1:])
    decision = decide(model, replace(model, features=features), test_rows)
    assert (decision.verdict, decision.promote) == (OTHER_FEATURES, True)
    assert f"new: {model.features[0]}; gone: gone_feature" in decision.reason


def test_rows_that_the_champion_was_fitted_to_do_not_count(
    model: PropensityModel, test_rows: pl.DataFrame
) -> None:
    known = max(test_rows["as_of_date"].to_list())
    champion = replace(worse(model), fitted_until=known)
    decision = decide(model, champion, test_rows)
    last_week = test_rows.filter(pl.col("as_of_date") == known)
    assert decision == decide(model, worse(model), last_week)


def test_a_champion_of_a_short_history_shares_no_fitted_row_with_its_challenger(
    frame: pl.DataFrame,
) -> None:
    days = sorted(frame["as_of_date"].unique())
    short = frame.filter(pl.col("as_of_date") <= days[14])
    longer = frame.filter(pl.col("as_of_date") <= days[15])
    champion = train(short, TrainingSettings(days[14] + timedelta(days=7), threads=1)).model
    test = split_by_time(longer, horizon=7).test
    assert champion.tested is not None
    assert champion.tested.fitted_until > min(test["as_of_date"].to_list())
    challenger = train(longer, TrainingSettings(days[15] + timedelta(days=7), threads=1)).model
    clean = test.filter(pl.col("as_of_date") >= champion.tested.fitted_until)
    assert decide(challenger, champion, test) == decide(challenger, champion, clean)


def test_models_are_compared_as_they_were_tested(
    model: PropensityModel, test_rows: pl.DataFrame
) -> None:
    refitted = [replace(worse(one), tested=one) for one in (model, worse(model))]
    later = [replace(one, fitted_until=date(2030, 1, 1)) for one in refitted]
    assert decide(*later, test_rows) == decide(model, worse(model), test_rows)


def test_a_champion_from_the_future_is_refused(
    model: PropensityModel, test_rows: pl.DataFrame
) -> None:
    future = replace(model, fitted_until=date(2030, 1, 1))
    with pytest.raises(ValueError, match="no test row is from 2030-01-01 on"):
        decide(model, future, test_rows)
