"""How far a day's scored people are from those whom its champion learned from.

The SQL of ``propensity.drift``: the reference, counting by bin, and the comparison. One aggregate
a feature over all days of a window, so that a range costs little more than a day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from promo_assets.contract.days import Window
from promo_assets.propensity.drift import Bins, bins_of, is_judged
from promo_assets.warehouse.reading import Read, row

if TYPE_CHECKING:
    import polars as pl

SCORE = "score"
FIRST_DAYS = 7
"""Days whose scores are the reference of later ones: every weekday once."""
DRAWN = 10_000
"""Users that are the reference at most: with so many, chance moves a PSI by 0.001."""
LEAST_USERS = 200
DRIFTED = 0.25
"""Of PSI beyond what chance gives: the usual bound of a large shift (Siddiqi 2006)."""

LEARNED_FROM = """
select {columns} from features.user_features
where as_of_date = $day order by md5(user_id) limit $drawn
"""

FIRST_SCORED = """
select cast(min(week) + 7 as date) as day from propensity.champions where model_version = $version
"""

FIRST_SCORES = """
with days as (
    select user_id, propensity, md5(user_id || cast(as_of_date as varchar)) as place
    from propensity.scores
    where model_version = $version and as_of_date >= $first and as_of_date < $later
)

select arg_min(propensity, place) as score from days
group by user_id order by min(place) limit $drawn
"""

COMPARED = """
with reference as (
    select unnest($features) as feature, unnest($counts) as known, unnest($judged) as judged
),

counted as (
    select as_of_date, count(*) as users, {histograms}
    from {table}
    where as_of_date >= $start and as_of_date < $end
    group by as_of_date
),

told as (
    from counted unpivot include nulls
    (found for feature in (columns(* exclude (as_of_date, users))))
),

-- A histogram has no bin for what lies above the last edge where nothing does, and is null where
-- nothing is known.
aligned as (
    select told.as_of_date, told.feature, told.users, reference.known, reference.judged,
        list_resize(
            coalesce(map_values(told.found), []), len(reference.known) - 1, cast(0 as ubigint)
        ) as found
    from told inner join reference using (feature)
),

bins as (
    select * exclude (known, found),
        list_sum(known) as reference_users,
        unnest(found || [users - cast(list_sum(found) as bigint)]) as n,
        unnest(known) as m
    from aligned
),

shares as (
    select *,
        n / users as p,
        m / reference_users as q,
        -- Half a user more in each bin, else one that was empty makes the PSI infinite.
        (n + 0.5) / (users + 0.5 * count(*) over one) as smooth_p,
        (m + 0.5) / (reference_users + 0.5 * count(*) over one) as smooth_q
    from bins
    where n + m > 0
    window one as (partition by as_of_date, feature)
),

-- Sums of decimals do not depend on the order of rows.
compared as (
    select as_of_date, feature,
        any_value(users) as users,
        cast(any_value(reference_users) as bigint) as reference_users,
        any_value(judged) as judged,
        count(*) as bins,
        cast(sum(cast(
            (smooth_p - smooth_q) * ln(smooth_p / smooth_q)
        as decimal(18, 12))) as double) as psi,
        cast(sum(cast(
            if(p > 0, p * log2(2 * p / (p + q)), 0) + if(q > 0, q * log2(2 * q / (p + q)), 0)
        as decimal(18, 12))) as double) as divergence
    from shares
    group by as_of_date, feature
),

chance as (
    select *, (bins - 1) * (1 / users + 1 / reference_users) as psi_by_chance from compared
)

select as_of_date, feature, cast($version as bigint) as model_version,
    cast($since as date) as reference_day, reference_users, users, bins, psi, psi_by_chance,
    sqrt(greatest(divergence, 0) / 2) as js_distance,
    judged,
    least(users, reference_users) >= $least and psi - psi_by_chance > $drifted as drifted
from chance
"""


@dataclass(frozen=True)
class Reference:
    """Whom a champion's days are compared with: the bins of each feature, and the first of the days
    that they are of."""

    bins: Mapping[str, Bins]
    day: date


def learned_from(read: Read, features: Sequence[str], day: date) -> Reference | None:
    """Everybody on ``day`` (`DRAWN` of them, by a hash of their id); None where nobody is kept."""
    columns = ", ".join(f'{_number(name)} as "{name}"' for name in features)
    frame = read(LEARNED_FROM.format(columns=columns), {"day": day, "drawn": DRAWN})
    return _reference(frame, day)


def first_scores(read: Read, version: int) -> Reference | None:
    """A score for each user of the first week that the model scored, of a day drawn by a hash; None
    where none is kept."""
    first = row(read, FIRST_SCORED, {"version": version})
    if first is None or first["day"] is None:
        return None
    later = first["day"] + timedelta(days=FIRST_DAYS)
    told = {"version": version, "first": first["day"], "later": later, "drawn": DRAWN}
    return _reference(read(FIRST_SCORES, told), first["day"])


def compare(
    read: Read,
    table: str,
    columns: Mapping[str, str],
    reference: Reference,
    days: Window,
    version: int,
) -> pl.DataFrame:
    """A row a day and feature, as the contract of ``propensity.drift`` has them.

    ``columns``: the column of ``table`` (it has a row a user and ``as_of_date``) by feature.
    """
    bins = {name: reference.bins[name] for name in columns}
    histograms = ", ".join(
        f'histogram({_number(column)}, $edges_{place}_) as "{name}"'
        for place, (name, column) in enumerate(columns.items())
    )
    parameters: dict[str, Any] = {
        f"edges_{place}_": list(of.edges) for place, of in enumerate(bins.values())
    }
    return read(
        COMPARED.format(table=table, histograms=histograms),
        parameters
        | {
            "features": list(bins),
            "counts": [list(of.counts) for of in bins.values()],
            "judged": [is_judged(name) for name in bins],
            "since": reference.day,
            "start": days.start,
            "end": days.end,
            "version": version,
            "least": LEAST_USERS,
            "drifted": DRIFTED,
        },
    )


def _number(column: str) -> str:
    # The reference is cast by the engine too: another's doubles of decimals may differ in the last
    # digit, and a value that is an edge would change its bin.
    return f'cast("{column}" as double)'


def _reference(frame: pl.DataFrame, day: date) -> Reference | None:
    if not frame.height:
        return None
    numbers = frame.fill_null(float("nan"))
    return Reference({name: bins_of(numbers[name].to_numpy()) for name in frame.columns}, day)
