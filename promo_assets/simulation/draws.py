"""Random draws by counter: a draw is a function of what it is for, not of when it is made.

``splitmix64`` (Steele, Lea and Flood, 2014) of a purpose's seed and a counter. So people can be
simulated in chunks of any size, and a day can be played again, with the same result to the bit.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

GOLDEN = 0x9E3779B97F4A7C15
_WORD = 0xFFFFFFFFFFFFFFFF


def purpose(seed: int, *names: object) -> int:
    """The 64-bit stream of a purpose, such as ``(seed, "visits", day)``."""
    told = "/".join(map(str, (seed, *names))).encode()
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "little")


def bits(stream: int, counters: npt.NDArray[np.integer]) -> Bits:
    """64 random bits for each of ``counters`` (0 and up)."""
    value = counters.astype(np.uint64)
    value *= np.uint64(GOLDEN)
    value += np.uint64((stream + GOLDEN) & _WORD)
    return _mixed(value)


def more_bits(drawn: Bits, step: npt.NDArray[np.integer] | int) -> Bits:
    """Further bits: those of ``step`` (1 and up) in the stream that each of ``drawn`` starts."""
    if isinstance(step, int):
        return _mixed(drawn + np.uint64((step * GOLDEN) & _WORD))
    value = step.astype(np.uint64)
    value *= np.uint64(GOLDEN)
    value += drawn
    return _mixed(value)


def field(drawn: Bits, shift: int, width: int) -> Integers:
    """The integer in ``width`` (at most 32) of the bits, from bit ``shift`` on."""
    shifted = drawn >> np.uint64(shift)
    shifted &= np.uint64((1 << width) - 1)
    return shifted.view(np.int64)


def threshold(probability: float, width: int) -> int:
    """A `field` of ``width`` bits lies below this with ``probability``."""
    return round(probability * (1 << width))


def _mixed(value: Bits) -> Bits:
    """The finaliser of splitmix64, in place. A bijection: equal results mean equal inputs."""
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    value ^= value >> np.uint64(31)
    return value


def choices(shares: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.int64]:
    """A table of ``size`` entries in which choice ``i`` stands as often as ``shares[i]`` says.

    A uniform draw of an entry is a draw of a choice; the exact shares are those of the table
    (largest remainders), at least one entry each where there is room.
    """
    wanted = shares / shares.sum() * size
    counts = np.floor(wanted).astype(np.int64)
    if np.count_nonzero(shares) <= size // 2:
        counts = np.where(shares > 0, np.maximum(counts, 1), 0)
    order = np.argsort(counts - wanted, kind="stable")
    while counts.sum() < size:
        counts[order[: size - counts.sum()]] += 1
    while counts.sum() > size:
        counts[np.argmax(counts)] -= 1
    return np.repeat(np.arange(len(shares)), counts)
