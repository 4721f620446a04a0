"""Which model is in force: the newest one that clearly beat the one before it on the same rows,
or that took over from one it can't be compared with."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from promo_assets.learning import evaluation
from promo_assets.propensity.dataset import labels
from promo_assets.propensity.model import PropensityModel

FIRST, BETTER, NOT_BETTER = "first_model", "better", "not_better"
OTHER_HORIZON, OTHER_FEATURES = "other_horizon", "other_features"

SEED = 20240229
"""Of the paired bootstrap."""


@dataclass(frozen=True)
class Decision:
    """``difference`` is the challenger's mean log loss less the champion's (nats, negative is
    better), ``low`` and ``high`` its 95 % interval with users resampled, ``rows`` and ``users``
    what it rests on; None where there was no champion to be compared with."""

    verdict: str
    reason: str
    challenger_log_loss: float
    champion_log_loss: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int | None = None
    users: int | None = None

    @property
    def promote(self) -> bool:
        return self.verdict != NOT_BETTER


def decide(
    challenger: PropensityModel, champion: PropensityModel | None, test: pl.DataFrame
) -> Decision:
    """Compare both on the challenger's test rows by log loss, which rewards ranking and
    calibration alike: the score is used as a probability.

    The challenger takes over if the whole interval of the difference is below 0 (paired bootstrap
    by user). A champion of another horizon or another set of features answers another question:
    it is not compared, and the challenger takes over.

    Both are compared as they were tested, before they were refitted: else the champion would know
    the test rows. Only rows whose labels neither was fitted to count. A champion from a short
    history has a short test part, so a later, longer one may reach back into what stopped or
    calibrated it.
    Raises ValueError where no row is left.
    """
    challenger = challenger.tested or challenger
    if champion is not None:
        champion = champion.tested or champion
    if champion is not None and (difference := _incompatible(challenger, champion)):
        verdict, reason = difference
        return Decision(verdict, reason, _loss(challenger, _unseen(test, challenger)))
    if champion is None:
        new = _loss(challenger, _unseen(test, challenger))
        return Decision(FIRST, f"the first model: log loss {new:.5f}", new)
    return _compare(challenger, champion, _unseen(test, challenger, champion))


def _compare(
    challenger: PropensityModel, champion: PropensityModel, rows: pl.DataFrame
) -> Decision:
    y, users = labels(rows), rows["user_id"].to_numpy()
    new, old = (evaluation.log_losses(y, model.predict(rows)) for model in (challenger, champion))
    low, high = evaluation.paired_interval(new - old, users, SEED)
    better = high < 0
    told = "beats" if better else "does not clearly beat"
    return Decision(
        BETTER if better else NOT_BETTER,
        f"log loss {new.mean():.5f} {told} the champion's {old.mean():.5f}: difference "
        f"{(new - old).mean():+.5f} [{low:+.5f}, {high:+.5f}]",
        float(new.mean()),
        float(old.mean()),
        float((new - old).mean()),
        low,
        high,
        rows.height,
        rows["user_id"].n_unique(),
    )


def _incompatible(challenger: PropensityModel, champion: PropensityModel) -> tuple[str, str] | None:
    """The verdict and the reason where the two answer different questions."""
    if challenger.horizon != champion.horizon:
        return OTHER_HORIZON, (
            f"takes over: it predicts {challenger.horizon} days ahead, the former champion "
            f"{champion.horizon}; their log losses can't be compared"
        )
    added = sorted({*challenger.features} - {*champion.features})
    gone = sorted({*champion.features} - {*challenger.features})
    if added or gone:
        return OTHER_FEATURES, (
            "takes over: the features changed since the former champion "
            f"(new: {_few(added)}; gone: {_few(gone)}), which can't be compared"
        )
    return None


def _unseen(test: pl.DataFrame, *models: PropensityModel) -> pl.DataFrame:
    known = max(model.fitted_until for model in models)
    unseen = test.filter(pl.col("as_of_date") >= known)
    if unseen.is_empty():
        raise ValueError(
            f"no test row is from {known} on, up to where a model was fitted: expected the test "
            "part of the challenger's training, and a champion that was trained before it"
        )
    return unseen


def _loss(model: PropensityModel, rows: pl.DataFrame) -> float:
    return evaluation.log_loss(labels(rows), model.predict(rows))


def _few(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more or "none"
