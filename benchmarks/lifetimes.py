"""Orders foreseen by BG/NBD and Gamma-Gamma beside what happened, on a finished installation.

    PROMO_HOME=... python benchmarks/lifetimes.py [--dates 8] [--ahead 28] [--customers 1000000]

On each as-of date, the last that have so many days after them and ``ahead`` days apart, both models
are fitted to all orders until then (days with an order and money spent, since the first one known)
and asked about everybody who had ordered: the orders of the next days in all and by decile of
expectation, beside as many as in the days before; the value of those orders; and who buys within 7
days, beside the platform's own scores of the same users. Figures are means over dates, with
standard errors over dates, which share customers: they tell how dates differ, not how shops do.
Last, the time of a fit of made-up customers. The warehouse is opened to read only.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb
import numpy as np
import polars as pl

from promo_assets.learning import evaluation
from promo_assets.propensity.lifetimes import (
    BgNbd,
    fit_bg_nbd,
    fit_gamma_gamma,
    order_histories,
)
from promo_assets.settings import load_settings

SOON = 7
"""Days of the platform's scores."""
TRUTH = BgNbd(1.1, 60.0, 0.6, 8.0)
"""Of the made-up customers; days."""
PARTS = ("expected", "actual", "before")
ORDERS = """
select user_id, event_date, cast(spend as double) as value
from features.user_daily where orders > 0 and spend > 0
order by user_id, event_date
"""
SCORES = "select user_id, propensity from propensity.scores where as_of_date = $as_of"


@dataclass(frozen=True)
class Table:
    """Figures of each date, by name."""

    rows: list[dict[str, float]]

    def print(self, title: str) -> None:
        print(f"\n{title:44} {'mean':>10} {'se':>9}   by date")
        for name in self.rows[0]:
            values = np.array([row[name] for row in self.rows])
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
            each = " ".join(f"{value:.4g}" for value in values)
            print(f"{name:44} {values.mean():10.4f} {error:9.4f}   {each}")


def people_of(orders: pl.DataFrame, as_of: date, ahead: int) -> pl.DataFrame:
    """Everybody who had ordered by ``as_of``: history, days with orders ahead and before, value of
    those ahead, and whether they buy soon."""
    day = pl.col("event_date")

    def days(after: int, until: int) -> pl.Expr:
        return (day > as_of + timedelta(after)) & (day <= as_of + timedelta(until))

    counts = orders.group_by("user_id").agg(
        ahead=days(0, ahead).sum(),
        before=days(-ahead, 0).sum(),
        value_ahead=pl.col("value").filter(days(0, ahead)).sum(),
        soon=days(0, SOON).any(),
    )
    return order_histories(orders, as_of).join(counts, on="user_id").sort("user_id")


def orders_of(people: pl.DataFrame, ahead: int) -> tuple[dict[str, float], list[dict[str, float]]]:
    """The figures of orders and their value, and those of each decile."""
    history = [people[name] for name in ("frequency", "recency", "age")]
    model = fit_bg_nbd(*history)
    values = fit_gamma_gamma(people["orders"], people["mean_value"])
    told = model.expected_orders(ahead, *history)
    value = values.expected_value(people["orders"], people["mean_value"])
    actual, before = (people[name].to_numpy().astype(float) for name in ("ahead", "before"))
    spent, past = people["value_ahead"].to_numpy(), people["mean_value"].to_numpy()
    deciles = [
        {
            "expected": told[rows].mean(),
            "actual": actual[rows].mean(),
            "before": before[rows].mean(),
        }
        for rows in np.array_split(np.argsort(told, kind="stable"), 10)
    ]
    bought = actual > 0
    each = spent[bought] / actual[bought]
    found = {
        **dict(zip(("r", "alpha", "a", "b"), model.parameters, strict=True)),
        **dict(zip(("p", "q", "v"), (values.p, values.q, values.v), strict=True)),
        "customers": float(people.height),
        "orders, actual": actual.sum(),
        "orders, BG/NBD / actual": told.sum() / actual.sum(),
        "orders, days before / actual": before.sum() / actual.sum(),
        "mean absolute error, BG/NBD": np.abs(told - actual).mean(),
        "mean absolute error, days before": np.abs(before - actual).mean(),
        "mean squared error, BG/NBD": ((told - actual) ** 2).mean(),
        "mean squared error, days before": ((before - actual) ** 2).mean(),
        "correlation, BG/NBD": np.corrcoef(told, actual)[0, 1],
        "correlation, days before": np.corrcoef(before, actual)[0, 1],
        "deciles, mean distance, BG/NBD": np.mean(
            [abs(part["expected"] - part["actual"]) for part in deciles]
        ),
        "mean alive probability": model.alive_probability(*history).mean(),
        "correlation of orders and mean value": np.corrcoef(people["orders"], past)[0, 1],
        "money, BG/NBD x Gamma-Gamma / actual": (told * value).sum() / spent.sum(),
        "order value, Gamma-Gamma, absolute error": np.abs(value[bought] - each).mean(),
        "order value, past mean, absolute error": np.abs(past[bought] - each).mean(),
    }
    return found, deciles


def soon_of(people: pl.DataFrame, scores: pl.DataFrame) -> dict[str, float] | None:
    """Who buys within 7 days by both, among those who have a score; None where nobody has."""
    both = people.join(scores, on="user_id").sort("user_id")
    if both.is_empty():
        return None
    model = fit_bg_nbd(*(people[name] for name in ("frequency", "recency", "age")))
    p = model.order_probability(SOON, *(both[name] for name in ("frequency", "recency", "age")))
    y, score = both["soon"].to_numpy().astype(float), both["propensity"].to_numpy()
    return {
        "users": float(len(y)),
        "share who buys": y.mean(),
        **{
            f"{what}, {who}": measure(y, told)
            for what, measure in (
                ("mean", lambda _, told: float(told.mean())),
                ("AUC", evaluation.auc),
                ("log loss", evaluation.log_loss),
                ("calibration error", evaluation.calibration_error),
            )
            for who, told in (("BG/NBD", p), ("scores", score))
        },
        "AUC, BG/NBD less scores": evaluation.auc(y, p) - evaluation.auc(y, score),
        "log loss, BG/NBD less scores": evaluation.log_loss(y, p) - evaluation.log_loss(y, score),
    }


def made_up(customers: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Histories in whole days of customers of `TRUTH`, known for up to two years."""
    rng = np.random.default_rng(seed)
    age = rng.integers(0, 730, customers).astype(float)
    rate = rng.gamma(TRUTH.r, 1 / TRUTH.alpha, customers)
    leaves = rng.beta(TRUTH.a, TRUTH.b, customers)
    frequency, recency = np.zeros(customers), np.zeros(customers)
    going = np.arange(customers)
    now = np.zeros(customers)
    while len(going):
        now[going] += np.ceil(rng.exponential(1 / rate[going]))  # An order a day at most.
        going = going[now[going] <= age[going]]
        frequency[going] += 1
        recency[going] = now[going]
        going = going[rng.random(len(going)) >= leaves[going]]
    return frequency, recency, age


def time_a_fit(customers: int) -> None:
    """Seconds of a fit and of everybody's expectation."""
    history = made_up(customers, 1)
    began = time.perf_counter()
    model = fit_bg_nbd(*history)
    fitted = time.perf_counter()
    model.expected_orders(28, *history)
    told = time.perf_counter()
    unique = len(np.unique(np.column_stack(history), axis=0))
    parameters = ", ".join(
        f"{value:.4g} ({error:.2g})"
        for value, error in zip(model.parameters, model.errors, strict=True)
    )
    print(
        f"\n{customers:,} made-up customers, {unique:,} unique histories: "
        f"fit {fitted - began:.1f} s, expected orders of all {told - fitted:.1f} s; "
        f"r, alpha, a, b (se) {parameters}"
    )


def compare(read: duckdb.DuckDBPyConnection, dates: int, ahead: int) -> None:
    """Print what both models and the scores foresaw on the last dates, beside what happened."""
    orders = read.execute(ORDERS).pl()
    last = orders["event_date"].max()
    if not isinstance(last, date):
        print("LEFT OUT: the warehouse has no orders")
        return
    days = [last - timedelta(ahead * back) for back in range(dates, 0, -1)]
    found, deciles, soon = [], [], []
    for as_of in days:
        people = people_of(orders, as_of, ahead)
        figures, parts = orders_of(people, ahead)
        found.append(figures)
        deciles.append(parts)
        if told := soon_of(people, read.execute(SCORES, {"as_of": as_of}).pl()):
            soon.append(told)
    print(f"as of {', '.join(map(str, days))}")
    Table(found).print(f"the next {ahead} days")
    print("\ndecile of expectation   expected   actual (se over dates)   days before")
    for place in range(10):
        columns = {name: np.array([parts[place][name] for parts in deciles]) for name in PARTS}
        error = columns["actual"].std(ddof=1) / np.sqrt(dates) if dates > 1 else np.nan
        print(
            f"{place + 1:22} {columns['expected'].mean():10.3f} {columns['actual'].mean():8.3f} "
            f"({error:.3f}) {columns['before'].mean():19.3f}"
        )
    if soon:
        Table(soon).print(f"who buys within {SOON} days ({len(soon)} dates)")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dates", type=int, default=8)
    parser.add_argument("--ahead", type=int, default=28)
    parser.add_argument("--customers", type=int, default=1_000_000)
    asked = parser.parse_args()
    path = load_settings().places.warehouse
    if path.exists():
        with duckdb.connect(str(path), read_only=True) as read:
            compare(read, asked.dates, asked.ahead)
    else:
        print(f"LEFT OUT: {path} does not exist; make demo, or set PROMO_HOME to an installation")
    time_a_fit(asked.customers)


if __name__ == "__main__":
    main()
