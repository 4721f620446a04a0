"""The estimators on real randomised experiments (their files are not part of the project).

- Gerber, Green and Larimer (2008), social pressure and voting: four mailings and a control, by
  household. Effects beside those published; the sample ratio of each arm; and false alarms of the
  effect (95 % interval without 0) and of the sample ratio (p < .001), when households of the
  control are split at random.
- ASOS digital experiments (Liu et al. 2021): false alarms when nulls are drawn with the variances
  of its metrics at the last look, and when somebody looks every day and stops at the first alarm.

    python benchmarks/real_experiments.py --ggl social_pressure.csv.gz --asos experiments.parquet
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from promo_assets.strategy.effects.estimators import is_mismatched, weighted_difference

PUBLISHED = {"Civic Duty": 0.018, "Hawthorne": 0.026, "Self": 0.049, "Neighbors": 0.081}
"""Table 2 of the paper: effects on turnout, in points."""
Z95 = 1.959964
SPLITS = 1000


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ggl", type=Path)
    parser.add_argument("--asos", type=Path)
    told = parser.parse_args()
    if told.ggl:
        ggl(told.ggl)
    if told.asos:
        asos(told.asos)
    if not (told.ggl or told.asos):
        print("left out: name --ggl or --asos, files of real experiments")


if __name__ == "__main__":
    main()
