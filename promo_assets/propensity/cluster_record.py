"""What MLflow keeps of a week in which clusters were looked for.

Not here: the store itself (``learning/tracking.py``), and the picture (``report/charts.py``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from promo_assets.learning.tracking import Note, Registry
from promo_assets.propensity import clusters
from promo_assets.propensity.cluster_standing import KEPT
from promo_assets.propensity.clusters import Choice

CLUSTERS = Registry("clusters", "", "Users by behaviour.")
STEPS = ("stability", "silhouette", "silhouette_by_chance", "smallest_share")


def note_of(
    day: date, choice: Choice, found: Sequence[Mapping[str, Any]], picture: str | None
) -> Note:
    """Every number of clusters that was judged, what was taken, and its clusters: ``found`` are
    their rows of ``profiles.cluster_profiles``. Metrics of k clusters are named ``<metric>.k<k>``.
    """
    metrics = {
        f"{name}.k{one.number}": value
        for one in choice.judged
        for name, value in zip(
            STEPS, (one.stability, one.silhouette, one.shapeless, one.smallest), strict=True
        )
        if value is not None and math.isfinite(value)
    }
    if choice.chosen is not None:
        metrics |= {"stability": choice.chosen.stability, "silhouette": choice.chosen.silhouette}
    metrics["clusters"] = float(choice.chosen.number if choice.chosen else 1)
    params = {
        "as_of": day,
        "users": sum(row["users"] for row in found),
        "columns": ", ".join(choice.scaling.names),
        "seed": clusters.SEED,
        "sample": clusters.SAMPLE,
        "bootstrap_pairs": clusters.PAIRS,
        "starts": clusters.STARTS,
        "least_stability": clusters.STABLE,
        "least_share": clusters.LEAST_SHARE,
        "clouds_without_clusters": clusters.SHAPELESS,
        "kept_from_agreement": KEPT,
        "reason": found[0]["reason"] or "",
    }
    return Note(f"{day} clusters", params, metrics, write=partial(_write, choice, found, picture))


def _write(
    choice: Choice, found: Sequence[Mapping[str, Any]], picture: str | None, folder: Path
) -> None:
    judged = [{**asdict(one), "centres": one.centres.tolist()} for one in choice.judged]
    (folder / "judged.json").write_text(json.dumps(judged, indent=1))
    told = [
        f"{row['cluster']}. {row['name']}: {row['share']:.0%}; {row['profile']}" for row in found
    ]
    (folder / "clusters.txt").write_text("\n".join(told) + "\n")
    if picture is not None:
        (folder / "clusters.svg").write_text(picture)
