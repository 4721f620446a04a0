"""What MLflow keeps of how finely offers' effects are told: what was compared, and what won.

Not here: the store itself (``learning/tracking.py``), the comparisons (``levels.py``,
``unseen.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from promo_assets.learning.tracking import Note, Registry
from promo_assets.strategy.effects.learners import FOLDS, OUTER, SETTINGS, TREES
from promo_assets.strategy.effects.levels import ERROR, InForce
from promo_assets.strategy.effects.unseen import Unseen

OFFER_EFFECTS = Registry(
    "offer_effects", "promo_offer_effects", "By which level the effect of each offer is told."
)
ALL = "all"
"""All offers together, where one is named."""


def note_of(
    name: str,
    unseen: Sequence[Unseen],
    in_force: Mapping[str, InForce],
    comparison: pl.DataFrame,
) -> Note:
    """Metrics are named ``<offer>.effect_slope``, ``<offer>.user_slope`` and
    ``<offer>.<candidate>.policy_value``, ``.qini`` and ``.aucc``, with ``_low`` and ``_high``; what
    is not known is left out. ``in_force``: by offer; ``comparison``: of `levels.compared`, for some
    of the candidates."""
    params = {f"lightgbm.{key}": value for key, value in SETTINGS.items()}
    params |= {"trees": TREES, "folds": FOLDS, "fold_seed": OUTER, "error": ERROR}
    params |= {f"level.{offer}": standing.level for offer, standing in in_force.items()}
    told = _metrics(unseen, in_force, comparison)
    return Note(name, params, {key: value for key, value in told.items() if value == value})


def _metrics(
    unseen: Sequence[Unseen], in_force: Mapping[str, InForce], comparison: pl.DataFrame
) -> dict[str, float]:
    told: dict[str, float] = {}
    for slopes in unseen:
        offer = slopes.offer_id or ALL
        told |= slopes.effect.told(f"{offer}.effect_slope")
        told |= slopes.users.told(f"{offer}.user_slope")
    for offer, standing in in_force.items():
        for candidate, gained in standing.gains.items():
            told |= gained.told(f"{offer}.{candidate}.policy_value")
    for row in comparison.iter_rows(named=True):
        for metric in ("qini", "aucc"):
            for end in ("", "_low", "_high"):
                told[f"{row['treatment']}.{row['candidate']}.{metric}{end}"] = row[metric + end]
    return told
