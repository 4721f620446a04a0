"""The summary names the model that scored, though a newer one was trained."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from promo_assets import installation
from promo_assets.cli.progress import _print_model
from promo_assets.settings import Settings

DAY = date(2024, 2, 1)
MEASURES = ("auc_low", "auc_high", "average_precision", "log_loss", "brier", "calibration_error")
BASELINES = ("logistic_auc", "frequency_auc", "recency_auc")


@pytest.mark.parametrize(
    ("promoted", "told"), [(False, "lost: log loss 2"), (True, "scores from the next week on")]
)
def test_the_model_is_the_one_that_scored_the_last_day(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], promoted: bool, told: str
) -> None:
    weeks = [date(2024, 1, 15), date(2024, 1, 22)]
    trained = pl.DataFrame({"week": weeks, "model_version": [7, 8], "auc": [0.71, 0.72]})
    trained = trained.with_columns(
        *(pl.lit(0.5).alias(name) for name in (*MEASURES, *BASELINES)), status=pl.lit("trained")
    )
    decided = pl.DataFrame(
        {"week": weeks, "promoted": [True, promoted], "reason": ["first", "log loss 2"]}
    )
    scored = pl.DataFrame({"as_of_date": [DAY], "user_id": ["u"], "model_version": [7]})
    settings = Settings(home=tmp_path, _env_file=None)
    with installation.reading(settings), installation.warehouse(settings).get_connection() as to:
        for name, frame in (("trainings", trained), ("champions", decided), ("scores", scored)):
            to.register("frame", frame.to_arrow())
            to.execute(f"insert into propensity.{name} by name select * from frame")
    with installation.reading(settings) as read:
        _print_model(Console(width=200), read, DAY)
    out = capsys.readouterr().out
    assert "version 7 of week 2024-01-15: AUC 0.7100" in out
    assert f"the newest training, version 8 of week 2024-01-22, {told}" in out
