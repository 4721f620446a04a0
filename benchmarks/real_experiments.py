"""The estimators on real randomised experiments (their files are not part of the project).

- Gerber, Green and Larimer (2008), social pressure and voting: four mailings and a control, by
  household. Effects beside those published; the sample ratio of each arm; and false alarms of the
  effect (95 % interval without 0) and of the sample ratio (p < .001), when households of the
  control are split at random.
- ASOS digital experiments (Liu et al. 2021): false alarms when nulls are drawn with the variances
  of its metrics at the last look, and when somebody looks every day and stops at the first alarm.
- Any experiment with several arms that cost something (``--table``): what targeting by the level in
  force, and by each learner, gains under a budget a person, beside the best untargeted mix of arms.
  Split after split, half of the groups are learned from and half judge (doubly robust, clustered
  by group); told are the means over splits, and medians of 97.5 % intervals, which hold with 95 %
  however the splits fell (Chernozhukov, Demirer, Duflo and Fernandez-Val 2018). A gain is claimed
  only where the interval of the declared policy, the level in force, is above 0. Costs of arms are
  told by the experiment; a person with the control costs nothing.

A table is CSV (also .gz) or Parquet, a row a person: a column with the outcome (a number, or
yes/no), one with the arm (text), and covariates, known before the draw (numbers, or text that is
numbered in its order). Optional: the group that was drawn together (household), a segment, and
the probability of each arm in a column ``probability_<arm>``; else give ``--probabilities``; else
the arms' shares, which is right only where everybody had the same chances.

    python benchmarks/real_experiments.py --ggl social_pressure.csv.gz --asos experiments.parquet
    python benchmarks/real_experiments.py --table social_pressure.csv.gz --outcome voted \\
        --arm treatment --control Control --group hh_id --segment p2004 --budget 5 \\
        --costs "Civic Duty=1,Hawthorne=15,Self=30,Neighbors=45" \\
        --leave-out cluster,numberofnames,p2004_mean,g2004_mean \\
        --probabilities "Control=10,Civic Duty=2,Hawthorne=2,Self=2,Neighbors=2"
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from promo_assets.strategy.allocation.budget import allocate, solve_price
from promo_assets.strategy.effects.estimators import is_mismatched, weighted_difference
from promo_assets.strategy.effects.learners import FOLDS, LEARNERS, OF_USERS, Trial, fit, folds_of
from promo_assets.strategy.effects.levels import choose
from promo_assets.strategy.effects.ranking import (
    Interval,
    Labels,
    Matrix,
    Vector,
    clustered_mean,
    policy_gains,
)

PUBLISHED = {"Civic Duty": 0.018, "Hawthorne": 0.026, "Self": 0.049, "Neighbors": 0.081}
"""Table 2 of the paper: effects on turnout, in points."""
Z95 = 1.959964
SPLITS = 1000
Z975 = 2.241403
"""Of an interval that 97.5 % hold."""
IN_FORCE, UNTARGETED = "level in force", "best untargeted mix"


def ggl(path: Path) -> None:
    """Households are the units: outcome = mean vote of the household, weight = its size."""
    people = pl.read_csv(path, infer_schema_length=None)
    people = people.with_columns(pl.col("treatment", "voted").str.strip_chars())
    houses = people.group_by("hh_id").agg(
        pl.col("treatment").first(), (pl.col("voted") == "Yes").mean(), size=pl.len()
    )
    houses = houses.sort("hh_id")
    shares = houses["treatment"].value_counts(normalize=True)
    chance = dict(shares.iter_rows())
    control = houses["treatment"] == "Control"
    print(f"{people.height:,} people, {houses.height:,} households")
    for name, published in PUBLISHED.items():
        arms = houses.filter((pl.col("treatment") == name) | (pl.col("treatment") == "Control"))
        treated = (arms["treatment"] == name).to_numpy()
        found = weighted_difference(
            arms["voted"].to_numpy(), treated, arms["size"].to_numpy().astype(float)
        )
        drawn = 1 / 9 / (1 / 9 + 5 / 9)
        probability = np.where(treated, drawn, 1 - drawn)
        effect, error = found.difference, found.difference_se
        assert effect is not None
        assert error is not None
        fits = "mismatched" if is_mismatched(treated, probability) else "as drawn"
        print(
            f"  {name:<11} {effect:+.4f} ± {Z95 * error:.4f}  published {published:+.3f}"
            f"  sample ratio {fits} (share {chance[name]:.4f}, drawn {1 / 9:.4f})"
        )
    null = houses.filter(control)
    voted, size = null["voted"].to_numpy(), null["size"].to_numpy().astype(float)
    rng = np.random.default_rng(1)
    alarms = mismatches = 0
    for _ in range(SPLITS):
        treated = rng.random(len(voted)) < 0.1
        found = weighted_difference(voted, treated, size)
        assert found.difference is not None
        assert found.difference_se is not None
        alarms += abs(found.difference) > Z95 * found.difference_se
        mismatches += is_mismatched(treated, np.where(treated, 0.1, 0.9))
    print(
        f"  {SPLITS:,} random splits of the control, a tenth treated: effect without 0 in its 95 % "
        f"interval {alarms / SPLITS:.1%}, sample ratio mismatched {mismatches / SPLITS:.1%}"
    )


def asos(path: Path) -> None:
    """Means drawn anew under no effect, with each comparison's own variance and counts."""
    looks = pl.read_parquet(path).drop_nulls(["variance_c", "variance_t", "count_c", "count_t"])
    looks = looks.filter(pl.min_horizontal("count_c", "count_t") > 100)
    key = ["experiment_id", "variant_id", "metric_id"]
    rng = np.random.default_rng(2)
    last = ever = series = 0
    for _, rows in looks.sort("time_since_start").group_by(key, maintain_order=True):
        arms = []
        for arm in ("c", "t"):
            count = rows[f"count_{arm}"].to_numpy().astype(float)
            steps = np.diff(count, prepend=0.0)
            variance = rows[f"variance_{arm}"][-1]
            # A cumulated mean has independent increments.
            noise = rng.standard_normal((200, len(count))) * np.sqrt(
                np.maximum(steps, 0) * variance
            )
            arms.append((noise.cumsum(axis=1) / count, variance / count))
        z = (arms[1][0] - arms[0][0]) / np.sqrt(arms[1][1] + arms[0][1])
        last += (abs(z[:, -1]) > Z95).mean()
        ever += (abs(z) > Z95).any(axis=1).mean()
        series += 1
    print(
        f"ASOS: {series} comparisons; nulls with an alarm at the last look {last / series:.1%}, "
        f"at any look {ever / series:.1%}: an interval that is looked at every day is no test"
    )


def read_trial(told: argparse.Namespace) -> tuple[Trial, list[str]]:
    """The table as a trial, the treatments in the order of their costs."""
    if told.table.suffix == ".parquet":
        table = pl.read_parquet(told.table)
    else:
        table = pl.read_csv(told.table, infer_schema_length=None)
    table = table.with_columns(pl.col(pl.String).str.strip_chars().str.to_lowercase())
    costs = {name.lower(): cost for name, cost in numbers(told.costs).items()}
    arms = [told.control.lower(), *costs]
    strange = set(table[told.arm].unique().to_list()) - set(arms)
    if strange:
        raise SystemExit(f"arms {sorted(strange)} found in {told.table}; name their --costs")
    columns = [f"probability_{name}" for name in arms]
    if set(columns) <= set(table.columns):
        probability = table.select(columns).to_numpy().astype(float)
    else:
        given = {name.lower(): share for name, share in numbers(told.probabilities).items()}
        given = given or dict(table[told.arm].value_counts().iter_rows())
        share = np.array([given[name] for name in arms], dtype=float)
        probability = np.tile(share / share.sum(), (table.height, 1))
    place = {name: number for number, name in enumerate(arms)}
    left_out = {told.outcome, told.arm, told.group, *told.leave_out.split(","), *columns}
    covariates = table.select(pl.exclude([name for name in table.columns if name in left_out]))
    group, segment = (
        (table[name].rank("dense").cast(pl.Int64) - 1).fill_null(-1).to_numpy() if name else default
        for name, default in (
            (told.group, np.arange(table.height)),
            (told.segment, np.full(table.height, -1)),
        )
    )
    trial = Trial(
        np.column_stack([numbered(column).fill_null(np.nan).to_numpy() for column in covariates]),
        np.array([place[name] for name in table[told.arm]]),
        numbered(table[told.outcome]).to_numpy(),
        probability,
        group,
        segment,
        parts=told.folds,
    )
    return trial, arms[1:]


def numbered(column: pl.Series) -> pl.Series:
    """Numbers as they are, text by its place in the alphabet (no 0, yes 1)."""
    if column.dtype == pl.String:
        column = column.rank("dense") - 1
    return column.cast(pl.Float64)


def numbers(told: str) -> Mapping[str, float]:
    """``a=1,b=2`` as a mapping."""
    pairs = (part.split("=") for part in told.split(",") if part)
    return {name.strip(): float(number) for name, number in pairs}


def examine(told: argparse.Namespace) -> None:
    """Policy values under a budget, split after split, and what may be claimed."""
    trial, treatments = read_trial(told)
    costs = np.array(list(numbers(told.costs).values()))
    print(
        f"{told.table.name}: {len(trial.arm):,} people, "
        f"{len(np.unique(trial.group)):,} groups, {trial.covariates.shape[1]} covariates"
    )
    values: dict[str, list[Interval]] = {}
    gains: dict[str, list[Interval]] = {}
    levels: list[list[str]] = []
    for split in range(told.splits):
        learned = folds_of(trial.group, 2, seed=split) == 0
        train, judge = trial.rows(learned), trial.rows(~learned)
        names = told.learners.split(",")
        in_force = choose(train, learners=[name for name in names if name in OF_USERS])
        levels.append([standing.level for standing in in_force.in_force])
        if not split:
            print("\n".join(f"  {line}" for line in in_force.told(treatments)))
        policies = {UNTARGETED: fit("offer", train)(judge.covariates, judge.segment)}
        policies[IN_FORCE] = in_force.effects(judge.covariates, judge.segment).effects
        for name in names:
            policies[name] = fit(name, train)(judge.covariates, judge.segment)
        zero = np.zeros((len(judge.arm), 1))
        scores = np.column_stack([zero, judge.scores])
        usual = np.zeros(len(judge.arm))
        for name, effects in policies.items():
            gained = policy_gains(scores, spent(effects, costs, told.budget, split))
            usual = gained if name == UNTARGETED else usual
            values.setdefault(name, []).append(clustered_mean(gained, judge.group))
            gains.setdefault(name, []).append(clustered_mean(gained - usual, judge.group, Z975))
        shown = ", ".join(f"{name} {found[-1].value:.4f}" for name, found in values.items())
        gain = gains[IN_FORCE][-1]
        print(f"  split {split}: {shown}; gain {gain.low:+.4f} to {gain.high:+.4f}", flush=True)
    print(f"value a person at {told.budget:g} a person, {told.splits} splits; over {UNTARGETED}")
    for name, found in values.items():
        low, high = (
            float(np.median([getattr(gain, bound) for gain in gains[name]]))
            for bound in ("low", "high")
        )
        mean = np.mean([interval.value for interval in found])
        over = np.mean([interval.value for interval in gains[name]])
        error = np.mean([interval.error for interval in found])
        print(f"  {name:<22}{mean:.4f} (se {error:.4f})  {over:+.4f} ({low:+.4f} to {high:+.4f})")
        if name == IN_FORCE:
            claimed = "a gain is claimed" if low > 0 else "no gain may be claimed"
    print(f"of targeting by the level in force: {claimed}")
    for column, name in enumerate(treatments):
        found_ = [level[column] for level in levels]
        shares = ", ".join(f"{level} {found_.count(level)}" for level in sorted(set(found_)))
        print(f"  {name}: in force by {shares} of {told.splits}")


def spent(effects: Matrix, costs: Vector, budget: float, seed: int) -> Labels:
    """Each person's treatment under a budget a person, or -1: the knapsack on believed effects."""
    cost = np.tile(costs, (len(effects), 1))
    # The knapsack earns value - cost; the outcome is no money, so its cost is given back.
    value = np.where(effects > 0, effects + cost, -np.inf)
    ties = np.random.default_rng(seed).random(len(effects))
    return allocate(value, cost, solve_price(value, cost, budget * len(effects), ties), ties)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ggl", type=Path)
    parser.add_argument("--asos", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--outcome", default="outcome")
    parser.add_argument("--arm", default="arm")
    parser.add_argument("--control", default="control")
    parser.add_argument("--group", default="")
    parser.add_argument("--segment", default="")
    parser.add_argument("--costs", default="", help="of each treatment: a=1,b=15")
    parser.add_argument("--probabilities", default="", help="of each arm, up to a factor")
    parser.add_argument("--leave-out", default="", help="columns that are no covariates")
    parser.add_argument("--budget", type=float, default=1.0, help="a person")
    parser.add_argument(
        "--learners", default=",".join(name for name in LEARNERS if name != "offer")
    )
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--splits", type=int, default=20)
    told = parser.parse_args()
    if told.table:
        examine(told)
    if told.ggl:
        ggl(told.ggl)
    if told.asos:
        asos(told.asos)
    if not (told.ggl or told.asos or told.table):
        print("left out: name --ggl, --asos or --table, files of real experiments")


if __name__ == "__main__":
    main()
