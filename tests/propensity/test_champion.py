from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import pytest

from promo_assets.propensity.champion import decide
from promo_assets.propensity.dataset import split_by_time
from promo_assets.propensity.model import PropensityModel
from promo_assets.propensity.training import TrainingSettings, train

Snapshots = Callable[..., pl.DataFrame]


@pytest.fixture
def frame(snapshots: Snapshots) -> pl.DataFrame:
    return snapshots(weeks=18)


@pytest.fixture
def model(frame: pl.DataFrame) -> PropensityModel:
    return train(frame, TrainingSettings(date(2024, 5, 12), threads=1)).model


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
    assert champion.fitted_until > min(test["as_of_date"].to_list())
    challenger = train(longer, TrainingSettings(days[15] + timedelta(days=7), threads=1)).model
    clean = test.filter(pl.col("as_of_date") >= champion.fitted_until)
    assert decide(challenger, champion, test) == decide(challenger, champion, clean)


def test_a_champion_from_the_future_is_refused(
    model: PropensityModel, test_rows: pl.DataFrame
) -> None:
    future = replace(model, fitted_until=date(2030, 1, 1))
    with pytest.raises(ValueError, match="no test row is from 2030-01-01 on"):
        decide(model, future, test_rows)
