"""Clusters on the page: a picture of their centres, and how segments are made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from promo_assets.contract.segments import SEGMENTS
from promo_assets.report.charts import shades
from promo_assets.report.data import Row

MANY, OFTEN = 10, 1.5
REACH = 1.5
"""Interquartile ranges from the median at which a shade is full."""


def picture_of(clusters: Sequence[Row]) -> str:
    """Clusters (rows of ``profiles.cluster_profiles`` of one week) by column of behaviour: how many
    interquartile ranges the centre lies above (blue) or below (orange) everybody's median."""
    told = [json.loads(row["definition"]) for row in clusters]
    return shades(
        [row["name"] for row in clusters],
        list(told[0]),
        [[centre for centre, *_ in one.values()] for one in told],
        "Clusters by behaviour",
        REACH,
    )


def in_force(clusters: Sequence[Row]) -> Sequence[Row]:
    """The clusters, none where everybody is one."""
    return [row for row in clusters if row["reason"] is None]


def with_segments(clusters: Sequence[Row], counts: Sequence[Row]) -> list[dict[str, Any]]:
    """Each cluster in force with its users in each segment, in the segments' order, and whether
    they are `MANY` and the cluster `OFTEN` times as frequent there as among all. ``counts``: users
    by cluster and segment."""
    found = {(row["cluster"], row["segment"]): row["users"] for row in counts}
    total = sum(found.values())
    of_segment = {name: sum(n for (_, own), n in found.items() if own == name) for name in SEGMENTS}
    told = []
    for row in in_force(clusters):
        users = [found.get((row["cluster"], name), 0) for name in SEGMENTS]
        often = [
            n >= MANY and n * total > OFTEN * of_segment[name] * sum(users)
            for n, name in zip(users, SEGMENTS, strict=True)
        ]
        told.append({**row, "segments": list(zip(users, often, strict=True))})
    return told
