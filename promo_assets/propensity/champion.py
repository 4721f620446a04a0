"""Which model is in force: the newest one that beat the one before it on the same rows."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from promo_assets.learning import evaluation
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

    Only rows whose labels neither model was fitted to count. A champion from a short history has
    a short test part, so a later, longer one may reach back into what stopped or calibrated it.
    Raises ValueError where no row is left.
    """
    known = max(model.fitted_until for model in (challenger, champion) if model is not None)
    unseen = test.filter(pl.col("as_of_date") >= known)
    if unseen.is_empty():
        raise ValueError(
            f"no test row is from {known} on, up to where a model was fitted: expected the test "
            "part of the challenger's training, and a champion that was trained before it"
        )
    y = labels(unseen)
    new = evaluation.log_loss(y, challenger.predict(unseen))
    if champion is None:
        return Decision(True, f"the first model: log loss {new:.5f}", new, None)
    old = evaluation.log_loss(y, champion.predict(unseen))
    if new < old:
        return Decision(True, f"log loss {new:.5f} beats the champion's {old:.5f}", new, old)
    return Decision(False, f"log loss {new:.5f} does not beat the champion's {old:.5f}", new, old)
