"""BG/NBD and Gamma-Gamma against published results, direct integration, and simulated customers.

``data/cdnow.csv.gz``: the CDNOW sample (2,357 customers, 39 weeks, times in weeks; value of repeat
orders in dollars) that Fader and Hardie publish at brucehardie.com, as summarised in
``cdnow_customers_summary_with_transactions.csv`` of the Python package lifetimes 0.11.3 (MIT
licence, Cameron Davidson-Pilon); columns renamed.
"""

from __future__ import annotations

import gzip
from dataclasses import astuple, replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln

from promo_assets.propensity.lifetimes import (
    BgNbd,
    GammaGamma,
    HistoryError,
    fit_bg_nbd,
    fit_gamma_gamma,
    order_histories,
)

PUBLISHED = BgNbd(0.2426, 4.4135, 0.7929, 2.4258)
"""Fader, Hardie and Lee 2005, table 2; its log likelihood is -9582.4."""
TRUTHS = (PUBLISHED, BgNbd(0.9, 30.0, 0.6, 4.0), BgNbd(2.0, 25.0, 1.5, 3.0))
VALUES = GammaGamma(6.25, 3.74, 15.44)
"""Fader and Hardie 2013, of the CDNOW sample."""


@pytest.fixture(scope="module")
def cdnow() -> pl.DataFrame:
    path = Path(__file__).parent / "data" / "cdnow.csv.gz"
    return pl.read_csv(gzip.decompress(path.read_bytes()))


class Customers:
    """Simulated as the model says, from an age uniform in [20, 60] on for ``ahead`` more."""

    def __init__(self, truth: BgNbd, customers: int, seed: int, ahead: float = 28.0) -> None:
        rng = np.random.default_rng(seed)
        self.age = rng.uniform(20, 60, customers)
        rate = rng.gamma(truth.r, 1 / truth.alpha, customers)
        leaves = rng.beta(truth.a, truth.b, customers)
        self.frequency, self.recency, self.future = (np.zeros(customers) for _ in range(3))
        self.alive = np.ones(customers, bool)
        now, going = np.zeros(customers), np.ones(customers, bool)
        while going.any():
            now = now + rng.exponential(1 / np.maximum(rate, 1e-300))
            past = going & (now <= self.age)
            self.frequency += past
            self.recency = np.where(past, now, self.recency)
            self.future += going & (now > self.age) & (now <= self.age + ahead)
            left = rng.random(customers) < leaves
            self.alive &= ~(past & left)
            going &= ~left & (now <= self.age + ahead)

    @property
    def history(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.frequency, self.recency, self.age


def deciles(by: np.ndarray) -> list[np.ndarray]:
    return np.array_split(np.argsort(by, kind="stable"), 10)


def test_the_fit_reproduces_the_published_parameters_of_cdnow(cdnow: pl.DataFrame) -> None:
    found = fit_bg_nbd(cdnow["frequency"], cdnow["recency"], cdnow["age"])
    np.testing.assert_allclose(found.parameters, PUBLISHED.parameters, rtol=2e-4)
    assert found.log_likelihood == pytest.approx(-9582.4, abs=0.05)
    assert found.customers == 2357


def test_the_likelihood_is_that_of_the_paper(cdnow: pl.DataFrame) -> None:
    """Equation 6, naively."""
    x, last, age = (cdnow[name].to_numpy() for name in ("frequency", "recency", "age"))
    found = fit_bg_nbd(x, last, age)
    r, alpha, a, b = found.parameters
    gamma = np.array([np.prod(r + np.arange(count)) for count in x])
    stayed = np.exp(betaln(a, b + x) - betaln(a, b)) * (alpha + age) ** -(r + x)
    left = np.exp(betaln(a + 1, b + np.maximum(x, 1) - 1) - betaln(a, b))
    likelihood = gamma * alpha**r * (stayed + (x > 0) * left * (alpha + last) ** -(r + x))
    assert np.log(likelihood).sum() == pytest.approx(found.log_likelihood, abs=1e-6)


def test_a_published_customer_of_cdnow() -> None:
    """The first customer in Fader, Hardie and Lee's spreadsheet: 1.226 orders in 39 weeks."""
    history = ([2], [30.43], [38.86])
    assert PUBLISHED.expected_orders(39, *history)[0] == pytest.approx(1.226, abs=5e-4)
    assert PUBLISHED.alive_probability(*history)[0] == pytest.approx(0.7266, abs=5e-4)


def test_order_values_reproduce_the_published_parameters_of_cdnow(cdnow: pl.DataFrame) -> None:
    """Fader and Hardie's note gives p, q, v and the first customers' 24.66, 18.91 and 35.17."""
    found = fit_gamma_gamma(cdnow["frequency"], cdnow["mean_value"])
    assert (found.p, found.q, found.v) == pytest.approx((6.25, 3.74, 15.44), rel=2e-3)
    assert found.customers == 946
    told = found.expected_value(*(cdnow[name][:3] for name in ("frequency", "mean_value")))
    np.testing.assert_allclose(told, [24.66, 18.91, 35.17], atol=0.01)


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("seeds", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_standard_errors_cover_the_truth(truth: BgNbd, seeds: int) -> None:
    """95 % intervals of the logarithms, which are near normal. Where customers rarely leave, a few
    fits of 2,000 run to the bound of a and b, whose ratio alone is told: they have no errors."""
    covered, told = np.zeros(4), 0
    for seed in range(seeds):
        found = fit_bg_nbd(*Customers(truth, 2000, seed).history)
        distance = np.log(found.parameters) - np.log(truth.parameters)
        covered += np.abs(distance) <= 1.96 * np.array(found.errors) / found.parameters
        told += int(np.isfinite(found.errors).all())
    assert told >= 0.9 * seeds
    # Three standard errors of a share of 0.95.
    assert covered.min() / told >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / told)


@pytest.mark.parametrize("truth", TRUTHS)
def test_expected_orders_and_life_are_those_simulated_by_decile(truth: BgNbd) -> None:
    learned = Customers(truth, 10_000, 1)
    people = Customers(truth, 20_000, 2)
    for model in (truth, fit_bg_nbd(*learned.history)):
        slack = 0 if model is truth else 0.04
        for told, happened in (
            (model.expected_orders(28, *people.history), people.future),
            (model.order_probability(28, *people.history), people.future > 0),
            (model.alive_probability(*people.history), people.alive),
        ):
            for rows in deciles(told):
                error = happened[rows].std() / np.sqrt(len(rows))
                away = abs(told[rows].mean() - happened[rows].mean())
                assert away <= 4 * error + slack * told[rows].mean() + 1e-9


def test_half_of_the_living_wait_longer_than_the_median() -> None:
    truth = TRUTHS[1]
    people = Customers(truth, 100, 3)
    wait = truth.median_wait(*people.history)
    for place in range(100):
        history = tuple(column[place : place + 1] for column in people.history)
        told = truth.order_probability(wait[place], *history) / truth.alive_probability(*history)
        assert told[0] == pytest.approx(0.5)


def integrated(model: BgNbd, time: float, x: float, age: float) -> float:
    """Mean orders of one alive, over the leaving probability's beta(a, b + x): a sum in steps of
    its log odds, which is all but exact for smooth functions that vanish at both ends."""
    r, alpha, a, b = model.parameters
    odds = np.arange(-40 / a - 40, 40 / (b + x) + 40, 0.1)
    p = 1 / (1 + np.exp(-odds))
    density = -a * np.logaddexp(0, -odds) - (b + x) * np.logaddexp(0, odds) - betaln(a, b + x)
    orders = -np.expm1(-(r + x) * np.log1p(p * time / (alpha + age))) / p
    return float((np.exp(density) * orders).sum() * 0.1)


shape = st.floats(0.1, 40)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(BgNbd, shape, st.floats(0.01, 300), shape, shape),
    st.floats(0.1, 1e5),
    st.sampled_from([0, 1, 2, 30, 365, 3000]),
    st.floats(0, 3000),
)
def test_expected_orders_are_the_integral(model: BgNbd, time: float, x: int, age: float) -> None:
    last = age if x else 0.0
    history = ([x], [last], [age])
    told = model.expected_orders(time, *history) / model.alive_probability(*history)
    assert told[0] == pytest.approx(integrated(model, time, x, age), rel=1e-4)


@pytest.mark.parametrize(("r", "a", "b"), [(1, 1, 1), (0.3, 0.5, 0.5), (1, 3, 2), (2, 0.2, 0.8)])
@pytest.mark.parametrize("x", [0, 1, 365])
def test_expected_orders_where_the_closed_form_has_none(
    r: float, a: float, b: float, x: int
) -> None:
    model = BgNbd(r, 5.0, a, b)
    history = ([x], [90.0 if x else 0.0], [90.0])
    told = model.expected_orders(3650, *history) / model.alive_probability(*history)
    assert told[0] == pytest.approx(integrated(model, 3650, x, 90), rel=1e-4)


def test_what_happens_in_no_time_and_in_long_silence() -> None:
    history = ([0, 3, 500], [0.0, 50.0, 700.0], [90.0, 50.0, 730.0])
    for told in (PUBLISHED.expected_orders(0, *history), PUBLISHED.order_probability(0, *history)):
        np.testing.assert_array_equal(told, 0)
    assert PUBLISHED.alive_probability([0], [0], [1e6])[0] == 1
    assert PUBLISHED.alive_probability([5000], [10.0], [1e6])[0] == 0
    assert PUBLISHED.expected_orders(28, [5000], [10.0], [1e6])[0] == 0
    assert np.isfinite(PUBLISHED.median_wait(*history)).all()


def test_another_unit_of_time_changes_alpha_only() -> None:
    x, last, age = Customers(PUBLISHED, 2000, 5).history
    for penalty in (0.0, 0.01):
        weeks = fit_bg_nbd(x, last, age, penalty=penalty)
        days = fit_bg_nbd(x, last * 7, age * 7, penalty=penalty)
        expected = np.array(weeks.parameters) * [1, 7, 1, 1]
        np.testing.assert_allclose(days.parameters, expected, rtol=1e-4)
        np.testing.assert_allclose(days.errors, np.array(weeks.errors) * [1, 7, 1, 1], rtol=1e-3)


def test_rows_in_any_order_and_twice_give_the_same_parameters() -> None:
    x, last, age = (np.floor(column) for column in Customers(PUBLISHED, 2000, 6).history)
    last = np.where(x > 0, last, 0)
    once = fit_bg_nbd(x, last, age)
    turned = fit_bg_nbd(x[::-1], last[::-1], age[::-1])
    assert astuple(turned) == astuple(once)
    twice = fit_bg_nbd(*(np.tile(column, 2) for column in (x, last, age)))
    assert twice.log_likelihood == pytest.approx(2 * once.log_likelihood)
    np.testing.assert_allclose(np.array(twice.errors) * np.sqrt(2), once.errors, rtol=1e-3)


def test_a_penalty_holds_what_few_customers_leave_open() -> None:
    """Three who never fell silent: without a penalty nothing bounds b."""
    history = ([4, 5, 3], [88.0, 89.0, 90.0], [90.0, 90.0, 90.0])
    free, held = fit_bg_nbd(*history), fit_bg_nbd(*history, penalty=0.1)
    assert np.isnan(free.errors).all()
    assert np.isfinite(held.errors).all()
    assert max(held.parameters) < max(free.parameters)
    with pytest.raises(ValueError, match=r"penalty -1: expected"):
        fit_bg_nbd(*history, penalty=-1)


@pytest.mark.parametrize(
    ("history", "told"),
    [
        (
            ([1, 1], [2.0, 12.0], [9.0, 10.0]),
            r"recency 12.0 above age 10.0 at row 1 \(1 such row\)",
        ),
        (([1, -1], [2.0, 1.0], [9.0, 9.0]), r"frequency -1.0 at row 1 .*: expected 0 or a whole"),
        (([1, 1.5], [2.0, 1.0], [9.0, 9.0]), r"frequency 1.5 at row 1"),
        (([1, 1], [-2.0, -1.0], [9.0, 9.0]), r"recency -2.0 at row 0 \(2 such rows\)"),
        (([1, 1], [2.0, 1.0], [9.0, np.nan]), r"age nan at row 1 .*: expected a finite number"),
        (([0, 1], [2.0, 1.0], [9.0, 9.0]), r"recency 2.0 at frequency 0 at row 0"),
        (([1, 1], [2.0], [9.0, 9.0]), r"expected vectors of one length"),
    ],
)
def test_bad_histories_are_told(history: tuple[list[float], ...], told: str) -> None:
    for ask in (fit_bg_nbd, PUBLISHED.alive_probability, PUBLISHED.median_wait):
        with pytest.raises(HistoryError, match=told):
            ask(*history)
    with pytest.raises(HistoryError, match=told):
        PUBLISHED.expected_orders(28, *history)


def test_histories_that_tell_nothing_are_told() -> None:
    with pytest.raises(HistoryError, match=r"none of 2 customers ordered again"):
        fit_bg_nbd([0, 0], [0.0, 0.0], [3.0, 4.0])
    with pytest.raises(HistoryError, match=r"none of 0 customers"):
        fit_bg_nbd([], [], [])
    with pytest.raises(HistoryError, match=r"time -1: expected"):
        PUBLISHED.expected_orders(-1, [0], [0.0], [1.0])
    with pytest.raises(HistoryError, match=r"1 customers with orders: expected 2"):
        fit_gamma_gamma([3, 0], [9.0, 0.0])
    for value in (0.0, -3.0):
        with pytest.raises(HistoryError, match=r"mean_value .* at row 1 .*: expected above 0"):
            fit_gamma_gamma([3, 1], [9.0, value])
    with pytest.raises(HistoryError, match=r"mean_value nan at row 0"):
        VALUES.expected_value([1], [np.nan])


def valued(customers: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orders, their mean value and the true mean of customers whose values the model makes."""
    rng = np.random.default_rng(seed)
    orders = rng.integers(0, 12, customers)
    rate = rng.gamma(VALUES.q, 1 / VALUES.v, customers)
    total = rng.gamma(VALUES.p * np.maximum(orders, 1)) / rate
    return orders, np.where(orders > 0, total / np.maximum(orders, 1), 0), VALUES.p / rate


def test_standard_errors_of_order_values_cover_the_truth() -> None:
    covered = np.zeros(3)
    for seed in range(20):
        found = fit_gamma_gamma(*valued(1000, seed)[:2])
        parameters = np.array([found.p, found.q, found.v])
        distance = np.log(parameters) - np.log([VALUES.p, VALUES.q, VALUES.v])
        covered += np.abs(distance) <= 1.96 * np.array(found.errors) / parameters
    assert covered.min() >= 16


def test_expected_values_are_those_simulated_by_decile() -> None:
    orders, mean, true = valued(20_000, 1)
    told = fit_gamma_gamma(orders, mean).expected_value(orders, mean)
    for rows in deciles(told):
        error = true[rows].std() / np.sqrt(len(rows))
        assert abs(told[rows].mean() - true[rows].mean()) <= 4 * error + 0.01 * told[rows].mean()


@settings(deadline=None)
@given(st.integers(1, 10**6), st.floats(0.01, 1e6))
def test_an_expected_value_lies_between_the_customers_and_everyones(x: int, mean: float) -> None:
    low, high = sorted((mean, VALUES.mean_value))
    assert low * (1 - 1e-9) <= VALUES.expected_value([x], [mean])[0] <= high * (1 + 1e-9)


def test_nobodys_value_is_told_where_the_mean_is_infinite() -> None:
    heavy = replace(VALUES, q=0.9)
    assert heavy.expected_value([0, 1], [0.0, 20.0])[0] == np.inf
    assert np.isfinite(heavy.expected_value([0, 1], [0.0, 20.0])[1])


def test_another_currency_changes_v_only() -> None:
    orders, mean, _ = valued(2000, 4)
    euros, cents = fit_gamma_gamma(orders, mean), fit_gamma_gamma(orders, mean * 100)
    assert (cents.p, cents.q, cents.v) == pytest.approx((euros.p, euros.q, euros.v * 100), rel=1e-4)


def test_histories_from_days_with_orders() -> None:
    orders = pl.DataFrame(
        {
            "user_id": ["b", "a", "a", "a", "a", "c"],
            "event_date": [date(2024, 1, day) for day in (5, 2, 2, 9, 30, 31)],
            "value": [7.0, 1.0, 2.0, 5.0, 90.0, 1.0],
        }
    )
    assert order_histories(orders, date(2024, 1, 12)).rows() == [
        ("a", 1, 7, 10, 2, 4.0),
        ("b", 0, 0, 7, 1, 7.0),
    ]
