"""Clusters on the page: a picture of their centres, and how segments are made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from promo_assets.contract.segments import SEGMENTS
from promo_assets.report.charts import shades

REACH = 1.5
"""Interquartile ranges from the median at which a shade is full."""


def picture_of(clusters: Sequence[Mapping[str, Any]]) -> str:
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


def by_segment(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a cluster from rows a cluster and segment: its users in each segment, in the segments'
    order, and whether the cluster is more than twice as frequent there as among all."""
    clusters: dict[int, dict[str, int]] = {}
    for row in rows:
        clusters.setdefault(row["cluster"], {})[row["segment"]] = row["users"]
    total = sum(row["users"] for row in rows)
    in_segment = {name: sum(found.get(name, 0) for found in clusters.values()) for name in SEGMENTS}
    first = {row["cluster"]: row for row in rows}
    return [
        {
            **first[cluster],
            "segments": [
                (
                    found.get(name, 0),
                    found.get(name, 0) * total > 2 * in_segment[name] * sum(found.values()),
                )
                for name in SEGMENTS
            ],
        }
        for cluster, found in sorted(clusters.items())
    ]
