"""How many users an experiment needs, and what one of a given size can see.

Two arms of equal size, a difference of means, a two-sided test (Lachin 1981). Here: numbers in,
numbers out. Not here: whose outcomes they are.
"""

from __future__ import annotations

import math

ERROR, POWER = 0.05, 0.8


def users_an_arm(lift: float, mean: float, variance: float) -> int | None:
    """Users that each of two arms needs so that a relative change ``lift`` of an outcome with
    this ``mean`` and ``variance`` is found with probability `POWER`; None where there is nothing
    to change."""
    if mean <= 0 or lift == 0:
        return None
    return max(math.ceil(2 * _quantiles() ** 2 * variance / (lift * mean) ** 2), 2)


def detectable_lift(users: float, mean: float, variance: float) -> float | None:
    """The least relative change that arms of so many ``users`` each find with `POWER`."""
    if mean <= 0 or users <= 0:
        return None
    return _quantiles() * math.sqrt(2 * variance / users) / mean


def _quantiles() -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - ERROR / 2) + ndtri(POWER))
