"""Clusters of users: what a week of a million made-up users takes.

Prints the seconds of looking for clusters, of a week in which they stay, and of assigning
everybody; the first two read a sample of fixed size (`clusters.SAMPLE`).
"""

from __future__ import annotations

import resource
import time
from datetime import date

import numpy as np

from promo_assets.propensity.cluster_standing import Standing, renewed
from promo_assets.propensity.clusters import Floats

USERS = 1_000_000
KINDS = np.array([[0.5, 3.0, 0.1], [2.5, 3.5, 0.1], [1.5, 2.0, 0.4], [0.5, 4.5, 0.02]])
"""Means of orders and basket as logarithms, and of the discount's share, by kind."""


def made_up(users: int, seed: int = 0) -> dict[str, Floats]:
    """Behaviour of users of four kinds; most have no offers redeemed and some no order."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, len(KINDS), users)
    orders = rng.poisson(np.exp(KINDS[kind, 0] + rng.normal(0, 0.3, users))).astype(float)
    bought = orders > 0
    basket = np.exp(KINDS[kind, 1] + rng.normal(0, 0.3, users))
    discount = rng.beta(20 * KINDS[kind, 2] + 0.1, 20 * (1 - KINDS[kind, 2]))
    views = rng.poisson(np.exp(KINDS[kind, 0] + 2 + rng.normal(0, 0.5, users))).astype(float)
    return {
        "orders": orders,
        "basket": np.where(bought, basket, np.nan),
        "discount": np.where(bought, discount, np.nan),
        "redemptions": rng.poisson(0.1, users).astype(float),
        "views": views,
    }


def main() -> None:
    """Print the table."""
    values = made_up(USERS)
    day, found = date(2024, 1, 21), None
    for title in ("looked for", "kept"):
        began = time.perf_counter()
        found, _ = renewed(found, values, date(2024, 1, 15), day)
        print(f"{title}: {time.perf_counter() - began:.2f} s, {_told(found)}")
    began = time.perf_counter()
    assert found is not None
    found.clustering.assign(values)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{USERS:,} users assigned: {time.perf_counter() - began:.2f} s, peak {peak:.1f} GiB")


def _told(found: Standing) -> str:
    return found.reason or f"{len(found.numbers)} clusters: {'; '.join(found.names)}"


if __name__ == "__main__":
    main()
