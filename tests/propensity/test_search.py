"""The search for parameters: what it finds, on which origins, and that it can be repeated."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from promo_assets.propensity import search as searching
from promo_assets.propensity.dataset import rolling_folds
from promo_assets.propensity.search import FOUND, IN_FORCE, SPACE, search
from promo_assets.propensity.training import LIGHTGBM


@pytest.mark.slow
def test_a_search_starts_in_force_is_judged_later_and_can_be_repeated(
    snapshots: Callable[..., pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = snapshots(weeks=14, users=120)
    folds = rolling_folds(frame["as_of_date"].to_list(), horizon=7, origins=3, test_weeks=2)
    seen = []
    fit = searching.fit_lightgbm

    def watched(train: pl.DataFrame, *told: object, **more: object) -> object:
        seen.append((train["as_of_date"].max(), more["parameters"]))
        return fit(train, *told, **more)

    monkeypatch.setattr(searching, "fit_lightgbm", watched)
    found = search(frame, folds, judged_on=1, trials=4)
    assert {**seen[0][1]} == LIGHTGBM
    assert all(day <= folds[-2].train[-1] for day, _ in seen[:-2])
    assert [parameters == dict(found.parameters) for _, parameters in seen[-2:]] == [False, True]
    assert found.judged.folds == folds[-1:]
    assert set(found.judged.scores) == {IN_FORCE, FOUND}
    assert min(found.log_losses) <= found.log_losses[0]
    for name, (low, high) in SPACE.items():
        assert low <= found.parameters[name] <= high
    again = search(frame, folds, judged_on=1, trials=4)
    assert (again.parameters, again.log_losses) == (found.parameters, found.log_losses)


def test_both_sides_need_an_origin(snapshots: Callable[..., pl.DataFrame]) -> None:
    frame = snapshots(weeks=14, users=60)
    folds = rolling_folds(frame["as_of_date"].to_list(), horizon=7, origins=3, test_weeks=2)
    for judged_on, trials in ((0, 1), (3, 1), (1, 0)):
        with pytest.raises(ValueError, match="expected at least one trial, and one origin"):
            search(frame, folds, judged_on, trials)
