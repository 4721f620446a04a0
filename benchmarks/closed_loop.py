"""Whether the platform learns the truth from what it did itself.

The shop sends its own randomised campaigns for ``--before`` days; then the platform decides every
evening and the simulated shop plays the next day. Told for each shop: the least p of the arms'
sizes on any day of the loop (sample ratio); the share of the held out; the truth of all that was
sent beside what was believed; of the offers' total values on the last day how many lie in their
90 % interval; and the programme's effect against the holdout beside the truth of its sends.

    python benchmarks/closed_loop.py [--seeds 1] [--first 201] [--users 5000] [--days 60]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
from decisions import START, Z90, look
from scipy.stats import chi2

from promo_assets.simulation.folder import Options
from promo_assets.simulation.offers import OFFERS
from promo_assets.simulation.simulate import simulate
from promo_assets.warehouse.reading import reader

GROUPS = ("events", "features", "profiles", "propensity", "segments", "strategy")
SEND_COST = {offer.id: offer.send_cost / 100 for offer in OFFERS}


def promo(home: Path, days: int, *told: str) -> None:
    """A command of the platform on the shop of ``home``."""
    settings = {
        "PROMO_HOME": str(home),
        "PROMO_SOURCE": "simulated",
        "PROMO_START": str(START),
        "PROMO_END": str(START + timedelta(days=days)),
        "PROMO_HOLDOUT_SHARE": "0.2",
    }
    command = [sys.executable, "-m", "promo_assets.cli.main", *told]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def materialised(home: Path, days: int, first: date, last: date) -> None:
    chosen = [word for group in GROUPS for word in ("--select", group)]
    promo(home, days, "run", "--from", str(first), "--to", str(last), *chosen)


def loop(home: Path, seed: int, users: int, before: int, days: int) -> None:
    """Play the shop's own weeks, then the platform's."""
    simulate(Options(users=users, seed=seed, start=START), before, home / "simulated")
    materialised(home, days, START, START + timedelta(days=before - 1))
    for number in range(before, days):
        promo(home, days, "simulate", "--step")
        day = START + timedelta(days=number)
        materialised(home, days, day, day)


def measured(home: Path, began: date) -> dict[str, float]:
    """What the loop learned, beside the truth."""
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as read:

        def rows(sql: str) -> pl.DataFrame:
            return reader(read)(sql, {"began": began})

        ratio = rows(
            "select max(chi_square) as worst from strategy.experiment_checks"
            " where experiment = 'all' and drawn_on > $began"
        )["worst"][0]
        drawn = rows(
            "select count(*) filter (arm = 'holdout') / count(*) as held"
            " from strategy.assignments where purpose = 'earn' and as_of_date >= $began"
        )["held"][0]
        believed = rows(
            "select coalesce(sum(expected_value - expected_cost), 0) as net"
            " from strategy.assignments where arm = 'offer' and as_of_date >= $began"
            " and as_of_date < (select max(as_of_date) from strategy.assignments)"
        )["net"][0]
        programme = rows(
            "select total, total_low, total_high from strategy.holdout_effects"
            " where as_of_date = (select max(as_of_date) from strategy.holdout_effects)"
        )
    sends = pl.read_parquet(home / "simulated" / "truth" / "sends" / "*.parquet", glob=True)
    ours = sends.filter(pl.col("campaign_id").str.starts_with("holdout-1/"), arm="sent")
    day = look(home)
    inside = []
    for offer, response in enumerate(day.responses):
        if response is None:
            continue
        who = np.isfinite(day.gain[:, offer])
        draws = response.draws(day.users.filter(pl.Series(who)))
        true = float((day.gain + day.cost)[who, offer].sum())
        inside.append(abs(draws.mean() - true) <= Z90 * draws.std())
    told = {
        "least p of a sample ratio": float(chi2.sf(ratio, 1))
        if ratio is not None
        else float("nan"),
        "share held out (drawn .2)": float(drawn) if drawn is not None else float("nan"),
        "sent": float(ours.height),
        "true net of what was sent": float(ours["expected_gain"].sum()),
        "believed net of it": float(believed),
        "offers with a response": float(len(inside)),
        "their values in the 90 % interval": float(np.mean(inside)) if inside else float("nan"),
    }
    for name in ("total", "total_low", "total_high"):
        value = programme[name][0] if programme.height else None
        told[f"programme's {name}"] = float("nan") if value is None else float(value)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=201)
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--before", type=int, default=30)
    parser.add_argument("--days", type=int, default=60)
    told = parser.parse_args()
    # The round begins with the platform's own decisions: the shop's sends reached everybody.
    began = START + timedelta(days=told.before - 1)
    os.environ["PROMO_HOLDOUT_START"] = str(began)
    found = []
    for seed in range(told.first, told.first + told.seeds):
        with tempfile.TemporaryDirectory() as place:
            loop(Path(place), seed, told.users, told.before, told.days)
            found.append(measured(Path(place), began))
        line = "; ".join(f"{name} {value:,.3g}" for name, value in found[-1].items())
        print(f"  seed {seed}: {line}", flush=True)
    print(f"{told.seeds} shops of {told.users:,} people, {told.days} days; mean over shops")
    for name in found[0]:
        print(f"  {name:<40}{np.mean([one[name] for one in found]):12,.3f}")
    print(
        f"  {'least p of all':<40}{min(one['least p of a sample ratio'] for one in found):12,.4f}"
    )


if __name__ == "__main__":
    main()
