"""The holdout: draws that are uniform, stable and independent."""

from __future__ import annotations

import math
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promo_assets.strategy.experiments.holdout import draws, is_held_out

USERS = [f"user-{number}" for number in range(20_000)]


@given(st.text(max_size=20), st.text(max_size=20).filter(lambda salt: "|" not in salt))
def test_a_draw_is_the_first_53_bits_of_the_hash(user: str, salt: str) -> None:
    bits = int(sha256(f"{salt}|{user}".encode()).hexdigest()[:16], 16) >> 11
    assert draws([user], salt)[0] == bits / 2**53 < 1


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.5, 0.9])
def test_the_share_held_out_is_the_share_asked_for(share: float) -> None:
    found = is_held_out(USERS, "2017-q1", share).mean()
    # Five binomial standard errors: a fixed salt, so this can't fail by chance later.
    assert abs(found - share) <= 5 * math.sqrt(share * (1 - share) / len(USERS))


@given(st.permutations(USERS[:30]))
def test_a_user_is_drawn_alike_in_any_company_and_order(users: list[str]) -> None:
    alone = dict(zip(USERS[:30], is_held_out(USERS[:30], "s", 0.3), strict=True))
    assert is_held_out(users, "s", 0.3).tolist() == [alone[user] for user in users]


def test_draws_of_different_salts_are_independent() -> None:
    one, two = is_held_out(USERS, "one", 0.3), is_held_out(USERS, "two", 0.3)
    assert abs((one & two).mean() - 0.09) < 5 * math.sqrt(0.09 * 0.91 / len(USERS))


def test_a_larger_share_keeps_those_held_out_before() -> None:
    assert (is_held_out(USERS, "s", 0.2) >= is_held_out(USERS, "s", 0.1)).all()


def test_another_process_draws_the_same() -> None:
    code = (
        "from promo_assets.strategy.experiments.holdout import draws; "
        "print(draws(['a', 'ü'], 's').tolist())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == str(draws(["a", "ü"], "s").tolist())


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="expected 0 <= share < 1"):
        is_held_out(USERS, "s", share)


def test_a_salt_with_the_separator_is_refused() -> None:
    with pytest.raises(ValueError, match="remove it"):
        draws(USERS, "a|b")


def test_no_two_of_many_users_draw_the_same() -> None:
    assert len(np.unique(draws(map(str, range(100_000)), "s"))) == 100_000
