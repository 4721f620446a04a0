"""Which clusters are in force from week to week, under which numbers and names.

Clusters stay as long as a new fit would tell users apart alike; then others are looked for, and
those of them that hold most of an old one's users go on under its number and name. Not here: how
clusters are found (``clusters.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from promo_assets.contract.days import every_nth
from promo_assets.propensity.cluster_words import EVERYBODY, names_of
from promo_assets.propensity.clusters import (
    Choice,
    Clustering,
    Floats,
    Labels,
    Scaling,
    agreement,
    choose,
    drawn,
)

LEAST_USERS = 300
"""Of fewer, clusters of a twentieth are not told from chance."""
KEPT = 0.6
"""Adjusted Rand index with a new fit from which on clusters stay in force. Lower than what new ones
need (`STABLE`): changing them has a price, as people know them by name."""
SAME = 0.5
"""Jaccard index above which a new cluster is an old one (Hennig 2007): at most one can be."""
LOOKED_EVERY_WEEKS = 4
"""Where nothing was stable it is looked for again so often."""
TOO_FEW, NOTHING_STABLE = "too_few_users", "nothing_stable"


@dataclass(frozen=True)
class Standing:
    """The clusters in force in a week: ``numbers`` and ``names`` in the order of the centres.

    ``reason`` says why everybody is one cluster, number 0; None = they are not. ``newest`` is the
    highest number given so far: none is given twice. ``fitted_on``, ``stability``, ``silhouette``
    and ``shapeless`` are of the fit that found them; ``agreement`` is that with a new fit of the
    week, None in the week of the fit itself.
    """

    clustering: Clustering
    numbers: tuple[int, ...]
    names: tuple[str, ...]
    newest: int
    reason: str | None = None
    fitted_on: date | None = None
    stability: float | None = None
    silhouette: float | None = None
    shapeless: float | None = None
    agreement: float | None = None


def renewed(
    before: Standing | None, values: Mapping[str, Floats], week: date, day: date
) -> tuple[Standing, Choice | None]:
    """The clusters in force in ``week``, and what was judged if others were looked for.

    ``before``: those of the week before, None in the first one; ``values``: behaviour of every user
    up to ``day``, as `Scaling.of` takes it.
    """
    newest = before.newest if before else 0
    if len(next(iter(values.values()))) < LEAST_USERS:
        return _everybody(TOO_FEW, newest), None
    sample = drawn(values)
    old = _rescaled(before, sample) if before and not before.reason else None
    if old and old.agreement is not None and old.agreement >= KEPT:
        return old, None
    if before and before.reason == NOTHING_STABLE and not every_nth(week, LOOKED_EVERY_WEEKS):
        return before, None
    choice = choose(values, len(before.numbers) if old and before else None)
    if choice.chosen is None:
        return _everybody(NOTHING_STABLE, newest), choice
    return _found(choice, old, sample, newest, day), choice


def same_clusters(old: Labels, new: Labels) -> dict[int, int]:
    """Which new cluster is which old one: those with more than `SAME` of the users of both in
    common. ``old``, ``new``: the labels of the same users."""
    found = {}
    for label in np.unique(new):
        inside = new == label
        for other in np.unique(old[inside]):
            was = old == other
            if (inside & was).sum() > SAME * (inside | was).sum():
                found[int(label)] = int(other)
    return found


def _everybody(reason: str, newest: int) -> Standing:
    nothing = Scaling((), *np.zeros((3, 0)))
    whole = Clustering(nothing, np.zeros((1, 0)))
    return Standing(whole, (0,), (EVERYBODY,), newest, reason)


def _rescaled(before: Standing, sample: Mapping[str, Floats]) -> Standing | None:
    """Clusters of the week before among the users of this one: the same centres, in interquartile
    ranges from the median of now. Their agreement is told where users are told apart by the same
    columns as then; None where no column is left."""
    scaling = Scaling.of(sample)
    known = before.clustering.scaling.names
    shared = [name for name in scaling.names if name in known]
    if not shared:
        return None
    centres = before.clustering.centres[:, [known.index(name) for name in shared]]
    agrees = agreement(scaling.apply(sample), centres) if scaling.names == known else None
    return replace(before, clustering=Clustering(scaling.only(shared), centres), agreement=agrees)


def _found(
    choice: Choice, old: Standing | None, sample: Mapping[str, Floats], newest: int, day: date
) -> Standing:
    """New clusters, numbered by size from the first number that was never given, but for those that
    are old ones."""
    assert choice.chosen is not None
    clustering = Clustering(choice.scaling, choice.chosen.centres)
    labels, _, _ = clustering.assign(sample)
    same = same_clusters(old.clustering.assign(sample)[0], labels) if old else {}
    kept = {new: (old.numbers[was], old.names[was]) for new, was in same.items()} if old else {}
    sizes = np.bincount(labels, minlength=len(clustering.centres))
    fresh = [int(new) for new in np.argsort(-sizes, kind="stable") if int(new) not in kept]
    told = names_of(
        clustering.scaling.names, clustering.centres[fresh], [name for _, name in kept.values()]
    )
    kept |= {new: (newest + place + 1, told[place]) for place, new in enumerate(fresh)}
    order = sorted(kept, key=lambda new: kept[new][0])
    return Standing(
        Clustering(clustering.scaling, clustering.centres[order]),
        tuple(kept[new][0] for new in order),
        tuple(kept[new][1] for new in order),
        newest + len(fresh),
        fitted_on=day,
        stability=choice.chosen.stability,
        silhouette=choice.chosen.silhouette,
        shapeless=choice.chosen.shapeless,
    )
