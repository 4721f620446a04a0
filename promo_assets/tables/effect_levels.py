"""``strategy.effect_levels``: how finely offers' effects can be told.

On the last day of each week in which models are trained; other days have no rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from promo_assets.contract.days import cut_off, every_nth, week_of
from promo_assets.contract.segments import SEGMENTS
from promo_assets.contract.tables import TableContract
from promo_assets.tables.propensity import Learning, run_tags, tracking
from promo_assets.tables.strategy import EVIDENCE_DAYS, Given, catalogue_of
from promo_assets.tables.table import Production, Table

if TYPE_CHECKING:
    import polars as pl

    from promo_assets.strategy.effects.levels import InForce
    from promo_assets.strategy.effects.unseen import Unseen
    from promo_assets.strategy.offers.catalogue import Offer

MOST_ROWS = 20_000
"""Of one offer's trials are given to learners, of more a draw of users: they compare in seconds."""

TRIALS = """
select {columns}, segment from strategy.offer_trials
where arm <> 'comparison' and assignment_probability is not null
    and closed_date >= $start and closed_date <= $last
order by closed_date, sent_date, campaign_id, offer_id, user_id
"""


def effect_levels(production: Production, given: Given, learning: Learning) -> pl.DataFrame:
    """Of every offer in the trials closed by each day that ends a week of training."""
    import polars as pl

    from promo_assets.strategy.effects.record import OFFER_EFFECTS, note_of
    from promo_assets.strategy.effects.response import TRIAL_COLUMNS
    from promo_assets.strategy.effects.unseen import on_unseen

    rows: list[dict[str, Any]] = []
    catalogue = catalogue_of(given.catalogue)
    for day in production.days.days:
        if day != cut_off(week_of(day)) or not every_nth(week_of(day), learning.every_weeks):
            continue
        trials = production.read(
            TRIALS.format(columns=", ".join(TRIAL_COLUMNS)),
            {"start": day - timedelta(days=EVIDENCE_DAYS), "last": day},
        )
        unseen = on_unseen(trials, catalogue, given.margin_rate)
        if not unseen:
            continue
        tried = {one.offer_id for one in unseen}
        levels = {
            offer.id: _level(trials, offer, given.margin_rate)
            for offer in catalogue.offers
            if offer.id in tried
        }
        in_force = {offer: standing for offer, (standing, _) in levels.items()}
        compared = [pl.DataFrame(), *(frame for _, frame in levels.values())]
        comparison = pl.concat(compared, how="diagonal")
        note = note_of(str(day), unseen, in_force, comparison)
        store = tracking(learning.store, OFFER_EFFECTS)
        run_id = store.keep(note, run_tags(production, day))
        for one in unseen:
            told = _row(one, in_force.get(one.offer_id or ""))
            rows.append({"as_of_date": day, "run_id": run_id} | told)
    return production.frame(rows)


def _level(trials: pl.DataFrame, offer: Offer, margin_rate: float) -> tuple[InForce, pl.DataFrame]:
    """The level that the offer's own trials bear, and how segments and the best learner rank."""
    import numpy as np
    import polars as pl

    from promo_assets.strategy.effects.levels import best_of_users, choose, compared
    from promo_assets.strategy.effects.trials import drawn_for, trial_of
    from promo_assets.strategy.experiments.holdout import draws

    rows = trials.filter(offer_id=offer.id)
    some = draws(rows["user_id"], "levels") < MOST_ROWS / max(rows.height, 1)
    rows = drawn_for(rows.filter(pl.Series(some)), offer.id)
    trial = trial_of(rows, margin_rate, SEGMENTS)
    standing = choose(trial).in_force[0]
    if not standing.gains:
        return standing, pl.DataFrame()
    redeemed = rows["redemption_cost"].cast(pl.Float64).fill_null(0.0).to_numpy()
    cost = np.where(trial.arm == 1, redeemed + float(offer.send_cost), 0.0)
    candidates = ["segment", best_of_users(standing)]
    return standing, compared(trial, candidates, [offer.id], cost)


def _row(slopes: Unseen, standing: InForce | None) -> dict[str, Any]:
    from promo_assets.strategy.effects.record import ALL

    told: dict[str, Any] = {
        "offer_id": slopes.offer_id or ALL,
        "sent": slopes.sent,
        "withheld": slopes.withheld,
    }
    numbers = slopes.effect.told("effect_slope") | slopes.users.told("user_slope")
    told |= {name: value if value == value else None for name, value in numbers.items()}
    if standing is not None:
        told |= {"level": standing.level, "learner": standing.learner, "reason": standing.reason}
    return told


def tables(contracts: Mapping[str, TableContract], given: Given, learning: Learning) -> list[Table]:
    """The one table."""
    return [
        Table(
            contracts["strategy.effect_levels"],
            "strategy",
            partial(effect_levels, given=given, learning=learning),
            f"1+{learning.every_weeks}",
            inputs={"strategy.offer_trials": EVIDENCE_DAYS},
            whole=("core.offers",),
            kinds=frozenset({"lightgbm", "mlflow", "table"}),
        )
    ]
