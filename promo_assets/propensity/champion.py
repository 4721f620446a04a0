"""Which model is in force: the newest one that beat the one before it on the same rows."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from promo_assets.propensity import evaluation
from promo_assets.propensity.dataset import labels
from promo_assets.propensity.model import PropensityModel


@dataclass(frozen=True)
class Decision:
    """``champion_log_loss`` is None where there was no champion to beat."""

    promote: bool
    reason: str
    challenger_log_loss: float
    champion_log_loss: float | None


def decide(
    challenger: PropensityModel, champion: PropensityModel | None, test: pl.DataFrame
) -> Decision:
    """Compare both on the challenger's test rows by log loss, which rewards ranking and
    calibration alike: the score is used as a probability. A tie keeps the champion.

    The champion may have been trained on some of these rows' weeks only if it is newer than they
    are, which can't be: it was trained earlier, so the comparison never favours it by leakage.
    """
    y = labels(test)
    new = evaluation.log_loss(y, challenger.predict(test))
    if champion is None:
        return Decision(True, f"the first model: log loss {new:.5f}", new, None)
    old = evaluation.log_loss(y, champion.predict(test))
    if new < old:
        return Decision(True, f"log loss {new:.5f} beats the champion's {old:.5f}", new, old)
    return Decision(False, f"log loss {new:.5f} does not beat the champion's {old:.5f}", new, old)
