"""How good a day's decisions are, measured against what the simulated shop knows.

For every seed: a shop is simulated and run through the platform; on the last day on which it
decides, policies spend a budget on those whom it may address, one account a person, and are paid
by the truth. Among them are the learners of ``effects/learners.py``, each fitted on the same trials
(an offer against its controls) with the platform's expected cost, beside its `Response` with and
without the demand to be sure. They rank by what they believe, and stop where their true cost
reaches the budget, a share of what the oracle spends without one. Shares are of the *ceiling of the
features*: the truth regressed on features.user_features out of fold, what somebody could reach who
knew the effects but not the people. Then the day as the platform would send it, within budgets of
believed cost: believed against true cost and net, and whether the 90 % interval holds the true net.

    python benchmarks/decisions.py [--seeds 3] [--first 101] [--users 20000] [--days 60]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import duckdb
import lightgbm
import numpy as np
import numpy.typing as npt
import polars as pl

from promo_assets.contract.days import Window
from promo_assets.contract.segments import SEGMENTS
from promo_assets.people.consent import ConsentRule
from promo_assets.people.pseudonyms import SAMPLE_KEY, pseudonym
from promo_assets.simulation.folder import Options
from promo_assets.simulation.offers import OFFERS
from promo_assets.simulation.simulate import simulate
from promo_assets.strategy.allocation.budget import NONE, allocate, solve_price
from promo_assets.strategy.allocation.decisions import Candidates, candidate_values, responses_of
from promo_assets.strategy.effects.learners import LEARNERS, fit
from promo_assets.strategy.effects.levels import LEAST_ROWS, choose
from promo_assets.strategy.effects.response import Response
from promo_assets.strategy.effects.trials import covariates_of, offer_trial, segments_of
from promo_assets.strategy.offers.catalogue import Catalogue
from promo_assets.strategy.offers.rules import eligible
from promo_assets.tables.strategy import catalogue_of, users_parameters, users_sql

Matrix = npt.NDArray[np.float64]

BUDGETS = (0.1, 0.3, 0.6)
START = date(2024, 1, 1)
CONSENT = ConsentRule(("marketing",), unknown_allowed=False)
MARGIN_RATE = 0.25
Z90 = 1.645
IN_FORCE = "level in force"
TREES = {
    "learning_rate": 0.05, "num_leaves": 10, "min_data_in_leaf": 40, "feature_fraction": 0.4,
    "lambda_l2": 20.0, "bagging_fraction": 0.7, "bagging_freq": 1, "num_threads": 2,
    "verbosity": -1, "seed": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Day:
    """The addressable of a day: [user, offer] in money, true and believed."""

    gain: Matrix
    cost: Matrix
    believed: Matrix
    """Net of cost; -inf where the platform would not send it."""
    believed_cost: Matrix
    expected: Matrix
    """Net of cost as it is told: the mean, where the platform decides by a lower bound."""
    users: pl.DataFrame
    responses: list[Response | None]
    """One an offer."""
    likely: npt.NDArray[np.float64]
    """Propensity."""
    features: Matrix
    learned: dict[str, Matrix]
    """Net of cost by other estimators, where the platform may send."""


def run(
    home: Path, seed: int, users: int, days: int, assignment: Literal["random", "biased"] = "random"
) -> None:
    """Simulate a shop and run it through the platform."""
    options = Options(users=users, seed=seed, start=START, assignment=assignment)
    simulate(options, days, home / "simulated")
    settings = {
        "PROMO_HOME": str(home),
        "PROMO_SOURCE": "simulated",
        "PROMO_START": str(START),
        "PROMO_END": str(START + timedelta(days=days)),
    }
    last = START + timedelta(days=days - 1)
    command = [sys.executable, "-m", "promo_assets.cli.main", "run"]
    command += ["--from", str(START), "--to", str(last)]
    for group in ("events", "features", "profiles", "propensity", "segments", "strategy"):
        command += ["--select", group]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def look(home: Path) -> Day:
    """The last day whose truth is known: decided the evening before."""
    truth = home / "simulated" / "truth"
    on = max(date.fromisoformat(path.stem) for path in (truth / "potential_outcomes").iterdir())
    day = on - timedelta(days=1)
    catalogue = catalogue_of(home / "simulated" / "offers.yaml")
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as read:

        def rows(sql: str, parameters: object = None) -> pl.DataFrame:
            return pl.DataFrame(read.execute(sql, parameters).to_arrow_table())

        users = rows(
            users_sql(catalogue), users_parameters(Window(day, on), SEGMENTS, CONSENT, catalogue)
        )
        effects = rows("select * from strategy.offer_effects where as_of_date = ?", [day])
        scores = rows(
            "select user_id, propensity from propensity.scores where as_of_date = ?", [day]
        )
        known = rows("select * from features.user_features where as_of_date = ?", [day])
        trials = rows("select * from strategy.offer_trials where closed_date <= ?", [day])
    accounts = pl.read_parquet(truth / "accounts.parquet")
    names = [pseudonym(user, "account", SAMPLE_KEY) for user in accounts["user_id"]]
    users = (
        users.filter(pl.Series(eligible(users, catalogue, day, MARGIN_RATE).mask.any(axis=1)))
        .join(accounts.with_columns(user_id=pl.Series(names)), on="user_id")
        .unique("person_id", keep="first", maintain_order=True)
        .join(scores, on="user_id", how="left", maintain_order="left")
    )
    happens = pl.read_parquet(truth / "potential_outcomes" / f"{on}.parquet")
    happens = users.select("person_id").join(happens, on="person_id", maintain_order="left")
    features = users.select("user_id").join(known, on="user_id", maintain_order="left")
    mask = eligible(users, catalogue, day, MARGIN_RATE).mask
    worth = candidate_values(users, effects, catalogue, mask, MARGIN_RATE)
    send = {offer.id: offer.send_cost / 100 for offer in OFFERS}

    def matrix(name: str) -> Matrix:
        return happens.select(f"{name}_{offer}" for offer in catalogue.ids).to_numpy().astype(float)

    return Day(
        gain=np.where(mask, matrix("gain"), -np.inf),
        cost=matrix("cost") + np.array([send[offer] for offer in catalogue.ids]),
        believed=worth.decided_by - worth.cost,
        believed_cost=worth.cost,
        expected=worth.value - worth.cost,
        users=users,
        responses=[
            None if text is None else Response.read(text)
            for text in responses_of(effects, catalogue)
        ],
        likely=users["propensity"].fill_null(0.0).to_numpy(),
        learned=learned(trials, users, catalogue, worth),
        features=features.select(pl.selectors.numeric().cast(pl.Float64))
        .fill_null(float("nan"))
        .to_numpy(),
    )


def learned(
    trials: pl.DataFrame, users: pl.DataFrame, catalogue: Catalogue, worth: Candidates
) -> dict[str, Matrix]:
    """Net values by each learner and by the level in force; of an offer without a trial the
    platform's own. An effect that is not above its cost is not sent."""
    found = {"response, unsure too": worth.value}
    found |= {name: worth.value.copy() for name in (*LEARNERS, IN_FORCE)}
    covariates, segments = covariates_of(users), segments_of(users, SEGMENTS)
    for column, offer in enumerate(catalogue.ids):
        trial = offer_trial(trials, offer, MARGIN_RATE, SEGMENTS)
        if min((trial.arm == 0).sum(), trial.arm.sum()) < LEAST_ROWS:
            continue
        for name in LEARNERS:
            found[name][:, column] = fit(name, trial)(covariates, segments)[:, 0]
        levels = choose(trial)
        print("  " + levels.told([offer])[0], flush=True)
        found[IN_FORCE][:, column] = levels.effects(covariates, segments).effects[:, 0]
    return {
        name: np.where(worth.eligible, value - worth.cost, -np.inf) for name, value in found.items()
    }


def spent(day: Day, net: Matrix, cost: Matrix, budget: float) -> float:
    """True gain of who believes in ``net`` and ``cost`` and may truly spend
    ``budget``: the believed budget is set so that the true one is kept."""
    ties = np.linspace(0, 1, len(net), endpoint=False)
    low, high, best = 0.0, float(np.where(np.isfinite(net), cost, 0).sum()) + 1.0, 0.0
    for _ in range(30):
        middle = (low + high) / 2
        choice = allocate(net + cost, cost, solve_price(net + cost, cost, middle, ties), ties)
        gained, paid = paid_for(day, choice)
        if paid <= budget:
            low, best = middle, gained
        else:
            high = middle
    return best


def paid_for(day: Day, choice: npt.NDArray[np.int64]) -> tuple[float, float]:
    """True gain and cost of sending each user an offer (a column, or none)."""
    who = np.flatnonzero(choice != NONE)
    at = (who, choice[who])
    return float(day.gain[at].sum()), float(day.cost[at].sum())


def error_of(day: Day, choice: npt.NDArray[np.int64]) -> float:
    """Standard error of the believed gain of all sends together, under the posterior."""
    total: Matrix = np.zeros(1)
    for offer, response in enumerate(day.responses):
        chosen = day.users.filter(pl.Series(choice == offer))
        if chosen.height and response is not None:
            total = total + response.draws(chosen)
    return float(total.std())


def ceiling(day: Day) -> tuple[Matrix, Matrix]:
    """Gain and cost regressed on the features, out of fold."""
    mask = np.isfinite(day.gain)
    gain, cost = np.full(day.gain.shape, -np.inf), np.full(day.gain.shape, 0.01)
    fold = np.random.default_rng(1).integers(0, 5, len(gain))
    for offer in range(day.cost.shape[1]):
        targets: list[tuple[Matrix, Matrix]] = [
            (np.where(mask, day.gain, 0.0), gain),
            (day.cost, cost),
        ]
        for target, found in targets:
            for part in range(5):
                rest = fold != part
                data = lightgbm.Dataset(day.features[rest], target[rest, offer])
                model = lightgbm.train(TREES, data, 150)
                found[~rest, offer] = model.predict(day.features[~rest])
    return np.where(mask, gain, -np.inf), np.maximum(cost, 0.01)


def one_offer(day: Day, order: npt.NDArray[np.float64], offer: int) -> tuple[Matrix, Matrix]:
    """Everybody would get the same offer, in the order of ``order``."""
    net = np.full(day.gain.shape, -np.inf)
    net[:, offer] = np.where(np.isfinite(day.gain[:, offer]), 1.0 + order, -np.inf)
    return net, np.ones(net.shape)


def score(day: Day, seed: int) -> dict[str, list[float]]:
    """Of each policy the share of the ceiling at each budget; and how true the beliefs were."""
    rng = np.random.default_rng(seed)
    ties = np.linspace(0, 1, len(day.gain), endpoint=False)
    oracle = allocate(
        day.gain + day.cost, day.cost, solve_price(day.gain + day.cost, day.cost, 1e12, ties), ties
    )
    gained, full = paid_for(day, oracle)
    known, known_cost = ceiling(day)
    everybody = np.where(np.isfinite(day.believed), day.believed, 0.0).sum(axis=0)
    best, top = (
        int(everybody.argmax()),
        int(np.where(np.isfinite(day.gain), day.gain, 0).sum(0).argmax()),
    )
    shuffled = rng.random(len(day.gain))
    policies = {
        "oracle": (day.gain, day.cost),
        "platform": (day.believed, day.believed_cost),
        "random users, its best average offer": one_offer(day, shuffled, best),
        "random users, truly best average offer": one_offer(day, shuffled, top),
        "highest propensity, its best average offer": one_offer(day, day.likely, best),
    }
    policies |= {name: (net, day.believed_cost) for name, net in day.learned.items()}
    reached = [spent(day, known, known_cost, share * full) for share in BUDGETS]
    told: dict[str, list[float]] = {}
    for name, (net, cost) in policies.items():
        told[name] = [
            spent(day, net, cost, share * full) / most
            for share, most in zip(BUDGETS, reached, strict=True)
        ]
    told["addressable people"] = [float(len(day.gain))]
    told["oracle's gain"] = [gained]
    believed = day.believed
    for name in ("true over believed cost", "believed net", "true net", "in its 90 % interval"):
        told[name] = []
    for share in BUDGETS:
        price = solve_price(believed + day.believed_cost, day.believed_cost, share * full, ties)
        choice = allocate(believed + day.believed_cost, day.believed_cost, price, ties)
        who = np.flatnonzero(choice != NONE)
        at = (who, choice[who])
        truth, paid = paid_for(day, choice)
        expected = float(day.expected[at].sum())
        told["true over believed cost"].append(paid / max(float(day.believed_cost[at].sum()), 1e-9))
        told["believed net"].append(expected)
        told["true net"].append(truth)
        told["in its 90 % interval"].append(
            float(abs(truth - expected) <= Z90 * error_of(day, choice))
        )
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=101)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=60)
    told = parser.parse_args()
    found: dict[str, list[list[float]]] = {}
    for seed in range(told.first, told.first + told.seeds):
        with tempfile.TemporaryDirectory() as place:
            run(Path(place), seed, told.users, told.days)
            scored = score(look(Path(place)), seed)
        for name, values in scored.items():
            found.setdefault(name, []).append(values)
        shares = ", ".join(f"{value:.2f}" for value in scored["platform"])
        print(f"  seed {seed}: platform {shares}", flush=True)
    print(
        f"{told.seeds} shops of {told.users:,} people, {told.days} days; budgets of "
        f"{', '.join(f'{share:.0%}' for share in BUDGETS)} of the oracle's; mean and standard error"
    )
    for name, shops in found.items():
        line(name, np.array(shops))
    line("days with a true loss", (np.array(found["true net"]) < 0).astype(float))
    for name in found:
        if name.startswith(("random", "highest", "response")) or name in (*LEARNERS, IN_FORCE):
            line(f"platform less {name}", np.array(found["platform"]) - np.array(found[name]))


def line(name: str, values: Matrix) -> None:
    """Mean and standard error over shops, one column a budget."""
    shops = len(values)
    spread = values.std(axis=0, ddof=1) if shops > 1 else np.zeros(values.shape[1])
    cells = zip(values.mean(axis=0), spread / np.sqrt(shops), strict=True)
    print(f"  {name:<58}" + "  ".join(f"{mean:9,.2f} ({error:.2f})" for mean, error in cells))


if __name__ == "__main__":
    main()
