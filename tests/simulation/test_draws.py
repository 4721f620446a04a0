from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promo_assets.simulation.draws import bits, choices, field, more_bits, purpose
from promo_assets.simulation.rows import account_ids

STREAMS = st.integers(0, 2**64 - 1)


def splitmix64(state: int) -> int:
    """The published generator's next number, in Python's integers."""
    word = 2**64 - 1
    value = (state + 0x9E3779B97F4A7C15) & word
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & word
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & word
    return value ^ (value >> 31)


@given(STREAMS, st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
def test_draws_are_splitmix64_by_counter(stream: int, counters: list[int]) -> None:
    found = bits(stream, np.array(counters))
    word = 2**64 - 1
    assert found.tolist() == [
        splitmix64((stream + n * 0x9E3779B97F4A7C15) & word) for n in counters
    ]


@given(STREAMS, st.integers(1, 1000))
def test_a_draw_depends_on_its_counter_alone(stream: int, size: int) -> None:
    whole = bits(stream, np.arange(size))
    half = size // 2
    parts = [bits(stream, np.arange(half)), bits(stream, np.arange(half, size))]
    assert np.array_equal(whole, np.concatenate(parts))
    steps = np.arange(1, size + 1)
    assert more_bits(whole, steps)[-1:] == more_bits(whole[-1:], size)


def test_fields_are_uniform_and_independent() -> None:
    drawn = bits(purpose(1, "test"), np.arange(100_000))
    counts = np.bincount(field(drawn, 5, 6), minlength=64)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 110  # chi2, 63 degrees: 0.9998
    first, second = field(drawn, 0, 16), field(more_bits(drawn, 1), 0, 16)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.015
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.015


def test_purposes_have_streams_of_their_own() -> None:
    streams = {purpose(seed, name, day) for seed in (1, 2) for name in "ab" for day in range(50)}
    assert len(streams) == 200


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=40), st.sampled_from([64, 256, 1024]))
def test_a_table_of_choices_has_the_shares_asked_for(shares: list[float], size: int) -> None:
    table = choices(np.array(shares), size)
    counts = np.bincount(table, minlength=len(shares))
    assert len(table) == size
    if len(shares) <= size // 2:
        assert counts.min() >= 1
    wanted = np.array(shares) / sum(shares) * size
    assert np.abs(counts - wanted).max() <= 1 + np.maximum(1 - wanted, 0).sum()


@pytest.mark.parametrize("first", [0, 2**31, 2**35])
def test_ids_are_unique_and_short(first: int) -> None:
    ids = account_ids(first + np.arange(50_000))[:-1]
    assert ids.n_unique() == 50_000
    assert ids.str.len_bytes().max() <= 12  # type: ignore[operator]
    assert ids.to_list() != ids.sort().to_list()
