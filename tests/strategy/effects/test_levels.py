"""A finer level is in force where it wins out of fold, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from promo_assets.strategy.effects.learners import Trial
from promo_assets.strategy.effects.levels import OFFER, PRIOR, SEGMENT, USER, choose, compared

NAMES = ("X",)


def trial_of(people: int, by_user: float, by_segment: float, seed: int = 1) -> Trial:
    """One treatment whose effect differs by a covariate and by segment."""
    rng = np.random.default_rng(seed)
    covariates = rng.standard_normal((people, 3))
    segment = rng.integers(0, 3, people)
    arm = rng.integers(0, 2, people)
    effect = 0.3 + by_user * covariates[:, 0] + by_segment * (segment - 1)
    outcome = covariates[:, 1] + effect * arm + rng.standard_normal(people)
    return Trial(covariates, arm, outcome, np.full((people, 2), 0.5), np.arange(people), segment)


@pytest.mark.parametrize(
    ("by_user", "by_segment", "level"), [(0, 0, OFFER), (0, 1, SEGMENT), (1, 0, USER)]
)
def test_the_level_in_force_is_that_of_the_truth(by_user: float, by_segment: float, level: str):
    trial = trial_of(3000, by_user, by_segment)
    levels = choose(trial, learners=NAMES)
    assert levels.in_force[0].level == level
    (line,) = levels.told(["ten off"])
    assert line.startswith(f"ten off: by {level}")
    known = levels.effects(trial.covariates, trial.segment)
    assert set(known.level[:, 0]) == {level}
    assert known.effects.mean() == pytest.approx(0.3, abs=0.1)
    if level == OFFER:
        assert np.ptp(known.effects) == 0


@pytest.mark.slow
def test_nothing_is_claimed_where_nothing_is():
    finer = [
        choose(trial_of(800, 0, 0, seed), learners=("T", "R")).in_force[0].level != OFFER
        for seed in range(24)
    ]
    # One in 20 may; more than 4 of 24 would then happen once in 160 times.
    assert sum(finer) <= 4


def test_users_and_offers_without_history_fall_back():
    trial = trial_of(3000, 1, 1)
    unseen = np.column_stack([trial.probability, np.zeros(3000)])
    trial = replace(trial, probability=unseen)
    levels = choose(trial, prior=np.array([0.0, 0.07]), learners=NAMES)
    nothing = np.full(3, np.nan)
    known = levels.effects(np.array([trial.covariates[0], nothing, nothing]), np.array([0, 2, -1]))
    assert known.level.tolist() == [[USER, PRIOR], [SEGMENT, PRIOR], [OFFER, PRIOR]]
    assert known.effects[:, 1].tolist() == [0.07] * 3
    assert known.effects[1, 0] == pytest.approx(1.3, abs=0.25)
    assert known.effects[2, 0] == pytest.approx(0.3, abs=0.1)


def test_what_is_told_too_strongly_is_drawn_in():
    trial = trial_of(3000, 0.4, 0)
    levels = choose(trial, learners=("class transformation",))
    assert 0.1 < levels.in_force[0].slope < 1


def test_candidates_are_compared_by_every_metric():
    trial = trial_of(1500, 1, 0)
    cost = trial.arm * (1.0 + (trial.covariates[:, 2] > 0))
    table = compared(trial, ["offer", "X"], ["ten off"], cost)
    best, other = table.rows(named=True)
    assert (best["candidate"], other["candidate"]) == ("X", "offer")
    assert best["policy_value_low"] > 0 >= other["policy_value_low"]
    assert best["qini_low"] > best["qini_random_95"]
    assert best["aucc_low"] > 0.5
