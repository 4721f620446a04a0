"""What the platform makes of a shop that sends by habit: a log without probabilities, in which who
ordered lately is sent more, and better, offers.

For every seed a shop with ``--assignment biased`` is simulated and run through the platform. Told
is the effect on spend a sent user, mean over campaigns of offers that only move orders within their
horizon (the others pull some forward, which the truth's 28 days see and the horizon does not): the
truth, the plain difference of means, the platform's adjusted effect with its 95 % interval, and the
share of sends of which it refuses to tell any. Whatever is told is observational and decides
nothing.

    python benchmarks/biased_log.py [--seeds 3] [--first 401] [--users 8000] [--days 45]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
from decisions import run

from promo_assets.simulation.offers import OFFERS
from promo_assets.strategy.effects.estimators import Z95

COUNTED = [offer.id for offer in OFFERS if not offer.pull_forward]
EFFECTS = """
select
    cast(sum(sent) as double) as sent,
    cast(coalesce(sum(sent) filter (spend_effect is not null), 0) as double) as told,
    sum(sent * spend_effect) as effect,
    sqrt(sum(power(sent * spend_effect_se, 2))) as error,
    list(distinct evidence) as evidence,
    list(distinct campaign_id) as campaigns
from strategy.campaign_effects where offer_id in (select unnest($offers))
"""
NAIVE = """
select avg(spend_after) filter (arm = 'sent') - avg(spend_after) filter (arm = 'comparison')
from strategy.offer_trials where offer_id in (select unnest($offers))
"""


def measured(home: Path) -> dict[str, float]:
    """The truth of a shop's sends beside what is told of them, in money a sent user."""
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as read:
        offers = {"offers": COUNTED}
        row = read.execute(EFFECTS, offers).pl().row(0, named=True)
        (naive,) = read.execute(NAIVE, offers).fetchone() or (float("nan"),)
        (earning,) = read.execute(
            "select count(*) from strategy.assignments where purpose = 'earn'"
        ).fetchone() or (0,)
    assert row["evidence"] == ["observational"], row["evidence"]
    sends = pl.read_parquet(home / "simulated" / "truth" / "sends" / "*.parquet", glob=True)
    sends = sends.filter(
        pl.col("arm") == "sent",
        pl.col("offer_id").is_in(COUNTED),
        pl.col("campaign_id").is_in(row["campaigns"]),
    )
    told = row["told"]
    return {
        "truth": float((sends["expected_spend"] - sends["expected_spend_without"]).mean()),  # type: ignore[arg-type]
        "naive": float(naive),
        "adjusted": float(row["effect"]) / told if told else float("nan"),
        "its error": float(row["error"]) / told if told else float("nan"),
        "refused share of sends": 1 - told / row["sent"],
        "sends to earn that rest on it": float(earning),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=401)
    parser.add_argument("--users", type=int, default=8_000)
    parser.add_argument("--days", type=int, default=45)
    told = parser.parse_args()
    found = []
    for seed in range(told.first, told.first + told.seeds):
        with tempfile.TemporaryDirectory() as place:
            run(Path(place), seed, told.users, told.days, "biased")
            found.append(measured(Path(place)))
        line = "; ".join(f"{name} {value:,.3g}" for name, value in found[-1].items())
        print(f"  seed {seed}: {line}", flush=True)
    shops = {name: np.array([one[name] for one in found]) for name in found[0]}
    print(f"{told.seeds} biased shops of {told.users:,} people, {told.days} days; mean over shops")
    for name, values in shops.items():
        print(f"  {name:<32}{np.nanmean(values):10,.3f}")
    for name in ("naive", "adjusted"):
        print(f"  bias of {name:<24}{np.nanmean(shops[name] - shops['truth']):10,.3f}")
    inside = np.abs(shops["adjusted"] - shops["truth"]) <= Z95 * shops["its error"]
    print(f"  truth in the 95 % interval      {np.mean(inside):10,.2f}")


if __name__ == "__main__":
    main()
