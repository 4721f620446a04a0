"""The platform's trials as learners read them, and what MLflow keeps of their comparison."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from promo_assets.learning.tracking import Tracking
from promo_assets.strategy.effects.learners import Trial
from promo_assets.strategy.effects.levels import choose, compared
from promo_assets.strategy.effects.ranking import Interval
from promo_assets.strategy.effects.record import OFFER_EFFECTS, note_of
from promo_assets.strategy.effects.response import FEATURES
from promo_assets.strategy.effects.trials import offer_trial
from promo_assets.strategy.effects.unseen import Unseen

SEGMENTS = ("new", "loyal")


def row(user: str, arm: str, probability: float | None, **more: object) -> dict[str, object]:
    return {
        "closed_date": date(2024, 3, 8),
        "sent_date": date(2024, 3, 1),
        "campaign_id": "c1",
        "offer_id": "ten",
        "user_id": user,
        "segment": "loyal",
        "arm": arm,
        "assignment_probability": probability,
        "spend_after": 100.0,
        "goods_cost_after": 30.0,
        "uncosted_after": 40.0,
        "orders_after": 1,
        **dict.fromkeys(FEATURES, 1.0),
        **more,
    }


def test_an_offers_trial_is_those_who_were_drawn_for_it():
    trials = pl.DataFrame(
        [
            row("b", "sent", 0.8, segment="new", recency_days=None),
            row("a", "withheld", 0.2, gross_life=7.0, orders_after=2, segment="odd"),
            row("c", "sent", 0.8, offer_id="other"),
            row("d", "comparison", None),
            row("e", "sent", 1.0, campaign_id="c2"),
        ]
    )
    trial = offer_trial(trials, "ten", 0.25, SEGMENTS)
    assert trial.arm.tolist() == [0, 1]
    assert trial.probability == pytest.approx(np.array([[0.2, 0.8], [0.2, 0.8]]))
    # An order is usually worth (7 + 1) / 2 = 4, theirs (7 + 3 x 4) / (1 + 3) and (1 + 3 x 4) / 4;
    # the control's margin of 100 - 30 - .75 x 40 = 40 is of two such orders.
    assert trial.outcome == pytest.approx([40, 40 / (2 * 19 / 4) * 13 / 4])
    assert trial.segment.tolist() == [-1, 0]
    assert np.isnan(trial.covariates[1, FEATURES.index("recency_days")])


def test_draws_among_several_offers_and_none_compare_evenly():
    trials = pl.DataFrame([row("a", "sent", 0.25), row("b", "withheld", 0.25)])
    assert offer_trial(trials, "ten", 0.25, SEGMENTS).probability.tolist() == [[0.5, 0.5]] * 2


def test_arms_that_are_not_as_large_as_drawn_tell_nothing():
    arms = ["sent"] * 90 + ["withheld"] * 10
    fits = [row(f"a{n}", arm, 0.9 if arm == "sent" else 0.1) for n, arm in enumerate(arms)]
    odd = [row(f"b{n}", arm, 0.5, campaign_id="c2") for n, arm in enumerate(arms)]
    assert len(offer_trial(pl.DataFrame(fits + odd), "ten", 0.25, SEGMENTS).arm) == 100


@pytest.mark.slow
def test_a_comparison_is_kept_with_what_is_in_force(tmp_path: Path):
    from mlflow import MlflowClient

    rng = np.random.default_rng(1)
    people = 600
    arm, covariates = rng.integers(0, 2, people), rng.standard_normal((people, 2))
    outcome = arm * (1 + 2 * covariates[:, 0]) + rng.standard_normal(people)
    trial = Trial(
        covariates,
        arm,
        outcome,
        np.full((people, 2), 0.5),
        np.arange(people),
        np.zeros(people, int),
    )
    levels = choose(trial, learners=("T",))
    unknown = Interval(*[float("nan")] * 4)
    unseen = Unseen(None, 300, 300, Interval(1.0, 0.5, 0.0, 2.0), unknown)
    note = note_of(
        "2024-03-08",
        [unseen],
        {"ten": levels.in_force[0]},
        compared(trial, ["T"], ["ten"], arm * 1.0),
    )
    store = Tracking(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", OFFER_EFFECTS)
    run = MlflowClient(store.uri).get_run(store.keep(note, {"partition": "2024-03-08"}))
    assert run.data.tags["partition"] == "2024-03-08"
    assert run.data.params["level.ten"] == "user"
    assert run.data.metrics["ten.T.policy_value_low"] > 0
    assert run.data.metrics["ten.T.qini_high"] > run.data.metrics["ten.T.qini"]
    assert run.data.metrics["ten.T.aucc"] > 0.5
    assert run.data.metrics["all.effect_slope_high"] == 2
    assert "all.user_slope" not in run.data.metrics
