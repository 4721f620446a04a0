"""Which model the purchase model should be, on the labelled snapshots of an installation.

Reads the warehouse of PROMO_HOME (propensity.training_set and features.user_features) and prints
candidates x metrics, mean and standard error over rolling origins, the lowest log loss first, with
the share of the way from the best rule to the best candidate, the difference to LightGBM and its
interval, and what the one-standard-error rule chooses. ``--origins`` and ``--test-weeks`` fit a
shorter history; ``--log`` writes runs into MLflow's experiment ``propensity-candidates``: the
comparison, and each candidate nested in it. ``--search N`` searches LightGBM's parameters instead:
N trials on all origins but the two newest, which judge what was found. ``--features`` chooses
features instead, on the same origins, judged on the same two; ``--log`` logs that, too.

A simulated shop's true probabilities make no row here: they are of persons on the days of its
campaigns, the snapshots of accounts on Sundays.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import duckdb
import polars as pl

from promo_assets.contract.home import Home
from promo_assets.learning.tracking import Note, Registry, Tracking
from promo_assets.propensity.candidates import CANDIDATES
from promo_assets.propensity.comparison import (
    METRICS,
    Comparison,
    Selection,
    compare,
    gap_closed,
    mean_and_error,
    select,
)
from promo_assets.propensity.dataset import TrainingError, rolling_folds
from promo_assets.propensity.search import FOUND, SPACE, Search, search
from promo_assets.propensity.selection import ALL, CHOSEN, Choice, choose
from promo_assets.settings import load_settings
from promo_assets.tables.propensity import LABELLED

IN_FORCE = "LightGBM"
JUDGED_ON = 2
"""The newest origins, which judge what ``--search`` or ``--features`` found on the others."""
RULES = [candidate.name for candidate in CANDIDATES if candidate.kind == "rule"]
EVER = {"after": date(1900, 1, 1), "week": date(2200, 1, 1)}


def snapshots(warehouse: Path) -> pl.DataFrame:
    """All labelled snapshots of an installation, which is only read."""
    limits: dict[str, str | bool | int | float | list[str]] = {"threads": 2, "memory_limit": "4GB"}
    with duckdb.connect(str(warehouse), read_only=True, config=limits) as read:
        return read.execute(LABELLED, EVER).pl()


def table(comparison: Comparison, selection: Selection) -> list[str]:
    """A line of Markdown for each candidate, the lowest log loss first."""
    lines = [
        f"| candidate | {' | '.join(METRICS)} | seconds | gap closed | log loss - {IN_FORCE}'s | "
        "calibrated by |",
        "|---" * (len(METRICS) + 5) + "|",
    ]
    closed = gap_closed(selection.mean, RULES)
    measured = {metric: comparison.values(metric) for metric in (*METRICS, "seconds")}
    for name in sorted(selection.mean, key=lambda name: selection.mean[name]):
        told = [mean_and_error(measured[metric][name]) for metric in METRICS]
        seconds = mean_and_error(measured["seconds"][name])[0]
        difference = "{:+.4f} [{:+.4f}, {:+.4f}]".format(*comparison.difference(name, IN_FORCE))
        cells = [
            name,
            *(f"{mean:.4f} ± {error:.4f}" for mean, error in told),
            f"{seconds:.1f}",
            f"{closed[name]:.0%}",
            "" if name == IN_FORCE else difference,
            methods(comparison, name),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def methods(comparison: Comparison, name: str) -> str:
    """How often each calibration was chosen, as ``beta 4, none 2``."""
    counted = Counter(score.calibration for score in comparison.scores[name])
    return ", ".join(f"{method} {count}" for method, count in sorted(counted.items()))


def notes(comparison: Comparison, selection: Selection) -> tuple[Note, list[Note]]:
    """The comparison and each candidate, as MLflow keeps them."""
    shared: Mapping[str, object] = {
        "rows": comparison.rows,
        "features": comparison.features,
        "origins": len(comparison.folds),
        "first_test": comparison.folds[0].test[0],
        "last_test": comparison.folds[-1].test[-1],
        "seed": comparison.seed,
    }
    parent = Note(
        "candidates compared",
        {**shared, "chosen": selection.chosen, "best": selection.best, "why": selection.why},
        {
            "chosen_log_loss": selection.mean[selection.chosen],
            "best_log_loss": selection.mean[selection.best],
            "best_log_loss_error": selection.error[selection.best],
        },
    )
    closed = gap_closed(selection.mean, RULES)
    children = []
    for candidate in CANDIDATES:
        name = candidate.name
        metrics = {"gap_closed": closed[name]}
        steps = {}
        for metric in (*METRICS, "seconds"):
            steps[f"fold_{metric}"] = comparison.values(metric)[name]
            metrics[metric], metrics[f"{metric}_error"] = mean_and_error(steps[f"fold_{metric}"])
        difference = comparison.difference(name, IN_FORCE)
        ends = ("difference", "difference_low", "difference_high")
        metrics |= dict(zip(ends, difference, strict=True))
        params = {**candidate.params, "kind": candidate.kind}
        children.append(
            Note(name, {**params, "calibrated_by": methods(comparison, name)}, metrics, steps)
        )
    return parent, children


def tell_search(found: Search) -> None:
    """What was found, and what it is worth on later origins than it was searched on."""
    print(f"{found.trials} trials that ended; log loss in force {found.log_losses[0]:.5f}, found "
          f"{min(found.log_losses):.5f} on the origins of the search")  # fmt: skip
    print(", ".join(f"{name} {found.parameters[name]:.4g}" for name in SPACE))
    difference = "{:+.5f} [{:+.5f}, {:+.5f}]".format(*found.judged.difference(FOUND, "in force"))
    print(f"later origins, log loss: found less in force {difference}")


def tell_choice(choice: Choice) -> None:
    """Every cluster of features, why it is chosen or not, and what the choice costs."""
    print("| chosen | shuffled together | rise of the log loss |\n|---|---|---|")
    for cluster in choice.clusters:
        chosen = cluster.features[0] if cluster.kept else ""
        print(f"| {chosen} | {', '.join(cluster.features)} | {cluster.rise} |")
    seconds = choice.judged.values("seconds")
    print(
        f"{len(choice.features)} of {choice.judged.features} features: {', '.join(choice.features)}"
    )
    print(
        "later origins, log loss: chosen less all {:+.5f} [{:+.5f}, {:+.5f}]; ".format(*choice.cost)
        + ", ".join(f"{name} {sum(seconds[name]):.1f} s" for name in (ALL, CHOSEN))
    )


def note_of(choice: Choice) -> Note:
    """The choice as MLflow keeps it: the set, each cluster's reason, and the loss that it costs."""
    seconds = {name: sum(told) for name, told in choice.judged.values("seconds").items()}
    ends = ("difference", "difference_low", "difference_high")
    first = {cluster.features[0]: cluster for cluster in choice.clusters}
    return Note(
        "features chosen",
        {
            "chosen": ", ".join(choice.features),
            "seed": choice.judged.seed,
            "judged_from": choice.judged.folds[0].test[0],
            **{f"reason.{name}": cluster.reason for name, cluster in first.items()},
        },
        {
            "features": len(choice.features),
            "of": choice.judged.features,
            **dict(zip(ends, choice.cost, strict=True)),
            "seconds_all": seconds[ALL],
            "seconds_chosen": seconds[CHOSEN],
            **{f"importance.{name}": cluster.importance for name, cluster in first.items()},
        },
    )


def tracked(places: Home) -> Tracking:
    """Where ``--log`` logs."""
    places.model_store.mkdir(parents=True, exist_ok=True)
    registry = Registry("propensity-candidates", "", "Candidates of the purchase model")
    return Tracking(places.tracking_uri, places.model_store, registry)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    asked.add_argument("--origins", type=int, default=5)
    asked.add_argument("--test-weeks", type=int, default=4)
    asked.add_argument("--log", action="store_true")
    asked.add_argument("--search", type=int, default=0, metavar="TRIALS")
    asked.add_argument("--features", action="store_true")
    given = asked.parse_args()
    settings = load_settings()
    places = settings.places
    try:
        frame = snapshots(places.warehouse)
        folds = rolling_folds(
            frame["as_of_date"].to_list(),
            horizon=settings.horizon_days,
            origins=given.origins,
            test_weeks=given.test_weeks,
        )
    except (duckdb.IOException, duckdb.CatalogException, TrainingError) as error:
        print(f"LEFT OUT: {error}. `make demo` makes an installation with a year of snapshots")
        return
    if given.search:
        tell_search(search(frame, folds, JUDGED_ON, given.search))
        return
    if given.features:
        choice = choose(frame, folds, JUDGED_ON)
        tell_choice(choice)
        if given.log:
            note = note_of(choice)
            print(f"MLflow run {tracked(places).note(note.name, note.params, note.metrics)}")
        return
    comparison = compare(frame, folds)
    selection = select(comparison.values("log_loss"))
    print(
        f"{comparison.rows:,} snapshots, {comparison.features} features, {len(folds)} origins, "
        f"{len(comparison.users):,} test rows, {folds[0].test[0]} to {folds[-1].test[-1]}, "
        f"seed {comparison.seed}"
    )
    print("\n".join(table(comparison, selection)))
    print(f"chosen: {selection.chosen}. {selection.why}")
    if given.log:
        run_id, _ = tracked(places).note_nested(*notes(comparison, selection))
        print(f"MLflow run {run_id}")


if __name__ == "__main__":
    main()
