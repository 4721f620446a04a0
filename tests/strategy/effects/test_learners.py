"""Learners of effects find what is there, by users, by segment, and by depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from promo_assets.strategy.effects import learners
from promo_assets.strategy.effects.learners import LEARNERS, OF_USERS, Trial


def trial_of(people: int = 4000, strength: float = 2.0, seed: int = 1) -> tuple[Trial, np.ndarray]:
    """Two treatments and a control, drawn with differing probabilities, and the true effects: the
    first does more for who is high in the first column, the second in the second."""
    rng = np.random.default_rng(seed)
    covariates = rng.standard_normal((people, 4))
    probability = np.where(
        covariates[:, [2]] > 0, np.array([[0.5, 0.3, 0.2]]), np.array([[0.3, 0.3, 0.4]])
    )
    arm = (rng.random(people)[:, None] > probability.cumsum(axis=1)).sum(axis=1)
    effects = 0.5 + strength * (covariates[:, :2] > 0)
    under = np.column_stack([np.zeros(people), effects])
    outcome = 2 * covariates[:, 2] + under[np.arange(people), arm] + rng.standard_normal(people)
    segment = (covariates[:, 0] > 0).astype(np.int64)
    return Trial(covariates, arm, outcome, probability, np.arange(people), segment), effects


@pytest.fixture(scope="module")
def told() -> tuple[Trial, np.ndarray, Trial, np.ndarray]:
    return *trial_of(), *trial_of(seed=2)


@pytest.mark.parametrize("name", [*OF_USERS, "class transformation"])
def test_learners_tell_users_apart(name: str, told):
    trial, _, new, effects = told
    found = learners.fit(name, trial)(new.covariates, new.segment)
    for column in range(2):
        assert np.corrcoef(found[:, column], effects[:, column])[0, 1] > 0.6
    # Who is treated more often also buys more: an average that forgot it would be off by 1.
    assert found.mean(axis=0) == pytest.approx(effects.mean(axis=0), abs=0.25)


def test_a_learner_says_the_same_twice(told):
    trial, _, new, _ = told
    twice = [learners.fit("R", trial)(new.covariates[:200], new.segment[:200]) for _ in range(2)]
    assert np.array_equal(*twice)


def test_plain_response_takes_who_comes_anyway_for_moved(told):
    trial, _, new, effects = told
    found = learners.fit("plain response", trial)(new.covariates, new.segment)[:, 0]
    assert np.corrcoef(found, new.covariates[:, 2])[0, 1] > 0.6
    assert np.corrcoef(found, effects[:, 0])[0, 1] < 0.6


def test_segments_have_their_own_effect_and_strangers_the_offers(told):
    trial, effects, _, _ = told
    found = learners.fit("segment", trial)(np.zeros((3, 4)), np.array([0, 1, -1]))
    assert found[:, 0] == pytest.approx([0.5, 2.5, effects[:, 0].mean()], abs=0.2)
    # The second treatment does not differ between these segments.
    assert abs(found[0, 1] - found[1, 1]) < 0.2
    offer = learners.fit("offer", trial)(np.zeros((1, 4)), np.array([0]))
    assert offer[0] == pytest.approx(effects.mean(axis=0), abs=0.15)


def test_no_learner_sees_what_it_is_judged_on():
    # Outcomes of pure noise: in sample a learner finds effects, out of fold it must not.
    trial, _ = trial_of(people=1500)
    noise = replace(trial, outcome=np.random.default_rng(5).standard_normal(1500))
    told_ = noise.out_of_fold("T")[:, 0]
    assert abs(np.corrcoef(told_, noise.scores[:, 0])[0, 1]) < 0.08
    seen = learners.fit("T", noise)(noise.covariates, noise.segment)[:, 0]
    assert np.corrcoef(seen, noise.scores[:, 0])[0, 1] > 0.15


def test_a_household_is_in_one_fold():
    group = np.repeat(np.arange(50), 3)
    fold = learners.folds_of(group, 3, seed=0)
    assert all(len(set(fold[group == house])) == 1 for house in range(50))
    assert set(fold) == {0, 1, 2}


@pytest.mark.parametrize("name", ["S", "T", "DR"])
def test_a_deeper_discount_never_lowers_the_response(name: str):
    # The truth is the other way round, so a learner without the constraint would say so.
    rng = np.random.default_rng(3)
    people = 3000
    covariates, arm = rng.standard_normal((people, 2)), rng.integers(0, 3, people)
    outcome = np.array([0.0, 1.0, 0.2])[arm] + 0.3 * rng.standard_normal(people)
    free = Trial(
        covariates,
        arm,
        outcome,
        np.full((people, 3), 1 / 3),
        np.arange(people),
        np.full(people, -1),
    )
    bound = replace(free, chains=((1, 2),))
    of_free, of_bound = (
        learners.LEARNERS[name](trial)(covariates, trial.segment)
        if name == "S"
        else learners.fit(name, trial)(covariates, trial.segment)
        for trial in (free, bound)
    )
    assert (of_free[:, 1] < of_free[:, 0]).all()
    assert (of_bound[:, 1] >= of_bound[:, 0] - 1e-9).all()


def test_few_rows_tell_a_mean_and_nothing_more():
    trial, _ = trial_of(people=60)
    for name in LEARNERS:
        found = learners.fit(name, trial)(trial.covariates, trial.segment)
        assert found.shape == (60, 2)
        assert np.isfinite(found).all()
