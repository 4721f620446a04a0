"""Orders still to come of customers who may leave unseen: BG/NBD and Gamma-Gamma.

BG/NBD (Fader, Hardie and Lee 2005, "Counting your customers the easy way", Marketing Science 24):
a customer orders at a rate of their own, gamma(r, alpha) among customers, and after each order
leaves for ever with a probability of their own, beta(a, b). Gamma-Gamma (Fader and Hardie 2013,
"The Gamma-Gamma model of monetary value"): the value of an order is gamma(p, nu), nu being
gamma(q, v) among customers, whatever the rate.

A history, shape (n,) each: ``frequency``, orders after the first; ``recency``, time from the first
order to the last; ``age``, time from the first order to the as-of day. Any unit of time, the same
for all: alpha and what is returned are in it. Orders of one day count once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

Vector = npt.NDArray[np.float64]
Loss = Callable[[Vector], tuple[float, Vector]]
"""Log parameters in; mean negative log likelihood and its gradient out."""

BOUND = 12.0
"""Of log parameters, with times and values in units of their mean: beyond it nothing changes."""
STEP = 1e-4
"""Of log parameters, for the differences of the gradient that give the Hessian."""
NUDGE = 1e-6
"""From a = 1, a + b = 1 and whole r - a: the closed form of the expected orders is 0 / 0 at the
first two, its hypergeometric function not a number at some of the last."""


class HistoryError(ValueError):
    """Histories that can't be, or tell nothing; the message says which, where, and what should."""


@dataclass(frozen=True)
class BgNbd:
    """The four parameters with what the fit tells of them. ``errors``: standard errors of r, alpha,
    a and b, NaN where the likelihood has no curvature to tell them by (a parameter at its bound).
    ``log_likelihood``: of all ``customers``, without penalty."""

    r: float
    alpha: float
    a: float
    b: float
    errors: tuple[float, float, float, float] = (np.nan,) * 4
    log_likelihood: float = np.nan
    customers: int = 0

    @property
    def parameters(self) -> tuple[float, float, float, float]:
        return self.r, self.alpha, self.a, self.b

    def alive_probability(
        self, frequency: npt.ArrayLike, recency: npt.ArrayLike, age: npt.ArrayLike
    ) -> Vector:
        """Probability of not having left by the as-of day, shape (n,).

        It is 1 without a second order, as the model lets customers leave only after an order that
        is not their first. Raises `HistoryError`.
        """
        from scipy.special import expit

        x, last, age = _history(frequency, recency, age)
        return np.where(x > 0, expit(-_log_odds_gone(self.parameters, x, last, age)), 1.0)

    def expected_orders(
        self, time: float, frequency: npt.ArrayLike, recency: npt.ArrayLike, age: npt.ArrayLike
    ) -> Vector:
        """Mean number of orders in (age, age + time] given the history, shape (n,).

        The paper's equation 10 after Euler's transformation, whose hypergeometric function has
        frequency in its third parameter only: neither overflow nor cancellation at many orders.
        Raises `HistoryError`.
        """
        alive = self.alive_probability(frequency, recency, age)
        x, _, age = _history(frequency, recency, age)
        return alive * _expected_alive(self.parameters, _time(time), x, age)

    def order_probability(
        self, time: float, frequency: npt.ArrayLike, recency: npt.ArrayLike, age: npt.ArrayLike
    ) -> Vector:
        """Probability of an order in (age, age + time] given the history, shape (n,).

        Of those alive the wait for the next order is Lomax: a gamma mixture of exponentials.
        Raises `HistoryError`.
        """
        alive = self.alive_probability(frequency, recency, age)
        x, _, age = _history(frequency, recency, age)
        return -alive * np.expm1(-(self.r + x) * np.log1p(_time(time) / (self.alpha + age)))

    def median_wait(
        self, frequency: npt.ArrayLike, recency: npt.ArrayLike, age: npt.ArrayLike
    ) -> Vector:
        """Median time from the as-of day to the next order of one who is alive, shape (n,): the
        expected date of the next order is the as-of day and this.

        The median, as the mean is infinite at r + frequency <= 1: at every customer of one order
        where r < 1. Given alive, as those who left have no next order; read it beside
        `alive_probability`. Raises `HistoryError`.
        """
        x, _, age = _history(frequency, recency, age)
        with np.errstate(over="ignore"):
            return (self.alpha + age) * np.expm1(np.log(2) / (self.r + x))


@dataclass(frozen=True)
class GammaGamma:
    """The three parameters; ``errors``, ``log_likelihood`` and ``customers`` as in `BgNbd`."""

    p: float
    q: float
    v: float
    errors: tuple[float, float, float] = (np.nan,) * 3
    log_likelihood: float = np.nan
    customers: int = 0

    @property
    def mean_value(self) -> float:
        """Of an order of a customer of whom nothing is known; infinite at q <= 1."""
        return self.p * self.v / (self.q - 1) if self.q > 1 else np.inf

    def expected_value(self, orders: npt.ArrayLike, mean_value: npt.ArrayLike) -> Vector:
        """Mean value of an order to come given the mean of ``orders`` past ones, shape (n,).

        A weighted mean of ``mean_value`` and that of all customers, which those of 0 orders get,
        whatever their ``mean_value``. Raises `HistoryError`.
        """
        x, mean = _values(orders, mean_value)
        known = np.where(x > 0, x, 1.0)
        total = np.where(x > 0, known * mean, 0.0)
        shape = self.p * known + self.q - 1
        with np.errstate(divide="ignore"):
            told = np.where(shape > 0, self.p * (self.v + total) / shape, np.inf)
        return np.where(x > 0, told, self.mean_value)


def order_histories(orders: pl.DataFrame, as_of: date) -> pl.DataFrame:
    """From ``user_id``, ``event_date`` and ``value``, a row a day with orders, to a row a user
    with an order by ``as_of``: ``user_id``, ``frequency``, ``recency`` and ``age`` in days,
    ``orders`` (days with orders, the first included) and their ``mean_value``; by user."""
    first, last = pl.col("event_date").min(), pl.col("event_date").max()
    return (
        orders.filter(pl.col("event_date") <= as_of)
        .group_by("user_id", "event_date")
        .agg(pl.col("value").cast(pl.Float64).sum())
        .sort("user_id", "event_date")
        .group_by("user_id", maintain_order=True)
        .agg(
            frequency=pl.len().cast(pl.Int64) - 1,
            recency=(last - first).dt.total_days(),
            age=(pl.lit(as_of) - first).dt.total_days(),
            orders=pl.len().cast(pl.Int64),
            mean_value=pl.col("value").mean(),
        )
    )


def fit_bg_nbd(
    frequency: npt.ArrayLike,
    recency: npt.ArrayLike,
    age: npt.ArrayLike,
    *,
    penalty: float = 0.0,
) -> BgNbd:
    """The parameters of the highest likelihood, by L-BFGS-B on their logarithms from a fixed start.

    ``penalty`` times the sum of squared log parameters, alpha in units of the mean age, is added
    to the mean negative log likelihood: it keeps parameters of a few customers off the bounds, and
    is the same in any unit of time. Equal histories are counted once, so days fit faster than
    seconds. Raises `HistoryError` on bad histories, and where nobody ordered again.
    """
    x, last, age = _history(frequency, recency, age)
    if not x.any():
        raise HistoryError(
            f"none of {len(x)} customers ordered again: expected a frequency above 0 somewhere, "
            "else nothing tells how often customers order or when they leave"
        )
    scale = float(age.mean())
    loss = _bg_nbd_loss(*_counted(x, last / scale, age / scale))
    best, errors = _fit(loss, 4, penalty, len(x))
    r, alpha, a, b = (float(value) for value in np.exp(best))
    units = np.array([1, scale, 1, 1])
    # A density of x order times: in another unit it changes by its power.
    likelihood = -loss(best)[0] * len(x) - float(x.sum()) * np.log(scale)
    told = (np.exp(best) * units * errors).tolist()
    return BgNbd(r, alpha * scale, a, b, tuple(told), float(likelihood), len(x))


def fit_gamma_gamma(
    orders: npt.ArrayLike, mean_value: npt.ArrayLike, *, penalty: float = 0.0
) -> GammaGamma:
    """The parameters of the highest likelihood of mean order values, each of so many ``orders``.

    ``penalty`` as in `fit_bg_nbd`, v in units of the mean value. Customers of 0 orders tell
    nothing and are left out. The model takes values as independent of how often one orders: look
    at their correlation first. Raises `HistoryError` on bad values, and below two customers.
    """
    x, mean = _values(orders, mean_value)
    x, mean = x[x > 0], mean[x > 0]
    if len(x) < 2:
        raise HistoryError(f"{len(x)} customers with orders: expected 2 at least")
    scale = float(mean.mean())
    loss = _gamma_gamma_loss(*_counted(x, mean / scale))
    best, errors = _fit(loss, 3, penalty, len(x))
    p, q, v = (float(value) for value in np.exp(best))
    told = (np.exp(best) * np.array([1, 1, scale]) * errors).tolist()
    likelihood = -(loss(best)[0] + np.log(scale)) * len(x)
    return GammaGamma(p, q, v * scale, tuple(told), float(likelihood), len(x))


def _bg_nbd_loss(x: Vector, last: Vector, age: Vector, count: Vector) -> Loss:
    """Of unique histories with how many customers have each. Functions of frequency alone, the
    dear ones, are computed once a frequency."""
    from scipy.special import digamma, gammaln

    orders, place = np.unique(x, return_inverse=True)
    again, weight = x > 0, count / count.sum()

    def loss(logs: Vector) -> tuple[float, Vector]:
        r, alpha, a, b = np.exp(logs)
        known = (
            gammaln(r + orders) - gammaln(r) + r * logs[1]
            + gammaln(b + orders) - gammaln(b) + gammaln(a + b) - gammaln(a + b + orders)
        )  # fmt: skip
        to_age, to_last = np.log(alpha + age), np.log(alpha + last)
        stayed = -(r + x) * to_age
        before = b + x - 1
        left = np.full_like(x, -np.inf)
        left[again] = (logs[2] - np.log(before[again])) - ((r + x) * to_last)[again]
        total = np.logaddexp(stayed, left)
        gone = np.exp(left - total)
        slopes = (
            (digamma(r + orders) - digamma(r) + logs[1])[place]
            - (1 - gone) * to_age - gone * to_last,
            r / alpha - (r + x) * ((1 - gone) / (alpha + age) + gone / (alpha + last)),
            (digamma(a + b) - digamma(a + b + orders))[place] + gone / a,
            (digamma(b + orders) - digamma(b) + digamma(a + b) - digamma(a + b + orders))[place]
            - np.divide(gone, before, out=np.zeros_like(x), where=again),
        )  # fmt: skip
        gradient = np.array([weight @ slope for slope in slopes]) * np.exp(logs)
        return -float(weight @ (known[place] + total)), -gradient

    return loss


def _gamma_gamma_loss(x: Vector, mean: Vector, count: Vector) -> Loss:
    """Of unique pairs of orders and mean value, as `_bg_nbd_loss`."""
    from scipy.special import digamma, gammaln

    orders, place = np.unique(x, return_inverse=True)
    weight, total, log_total = count / count.sum(), x * mean, np.log(x * mean)
    log_mean = np.log(mean)

    def loss(logs: Vector) -> tuple[float, Vector]:
        p, q, v = np.exp(logs)
        known = gammaln(p * orders + q) - gammaln(p * orders) - gammaln(q) + q * logs[2]
        log_sum = np.log(v + total)
        value = known[place] + p * x * log_total - log_mean - (p * x + q) * log_sum
        both = digamma(p * orders + q)
        slopes = (
            x * ((both - digamma(p * orders))[place] + log_total - log_sum),
            (both - digamma(q) + logs[2])[place] - log_sum,
            q / v - (p * x + q) / (v + total),
        )
        gradient = np.array([weight @ slope for slope in slopes]) * np.exp(logs)
        return -float(weight @ value), -gradient

    return loss


def _fit(loss: Loss, size: int, penalty: float, customers: int) -> tuple[Vector, Vector]:
    """Log parameters of the least penalised loss, and their standard errors."""
    from scipy.optimize import minimize

    if not penalty >= 0:
        raise ValueError(f"penalty {penalty}: expected a number of at least 0")

    def penalised(logs: Vector) -> tuple[float, Vector]:
        value, gradient = loss(logs)
        return value + penalty * float(logs @ logs), gradient + 2 * penalty * logs

    found = minimize(
        penalised,
        np.zeros(size),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-BOUND, BOUND)] * size,
        options={"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-8},
    )
    return found.x, _errors(penalised, found.x, customers)


def _errors(loss: Loss, logs: Vector, customers: int) -> Vector:
    """Standard errors of log parameters: the inverse Hessian of the whole negative log likelihood,
    by central differences of its gradient; NaN where it is not positive definite."""
    steps = STEP * np.eye(len(logs))
    rows = [(loss(logs + step)[1] - loss(logs - step)[1]) / (2 * STEP) for step in steps]
    hessian = customers * (np.array(rows) + np.array(rows).T) / 2
    inside = np.abs(logs).max() < BOUND - 1e-3
    if not inside or np.linalg.eigvalsh(hessian).min() <= 0:
        return np.full(len(logs), np.nan)
    return np.sqrt(np.diag(np.linalg.inv(hessian)))


def _log_odds_gone(
    parameters: tuple[float, float, float, float], x: Vector, last: Vector, age: Vector
) -> Vector:
    """Of having left after the last order, of those with a second one."""
    r, alpha, a, b = parameters
    before = np.where(x > 0, b + x - 1, 1.0)
    return np.log(a) - np.log(before) + (r + x) * np.log1p((age - last) / (alpha + last))


def _expected_alive(
    parameters: tuple[float, float, float, float], time: float, x: Vector, age: Vector
) -> Vector:
    """Mean orders in ``time`` of those who are alive."""
    from scipy.special import hyp2f1

    r, alpha, a, b = parameters
    if abs(a - 1) < NUDGE:
        a = 1 + NUDGE
    if abs(a + b - 1) < NUDGE:
        b += 2 * NUDGE
    if abs(r - a - round(r - a)) < NUDGE:
        r += 2 * NUDGE
    third = a + b + x - 1
    z = time / (alpha + age + time)
    kept = (1 - z) ** (a - 1) * hyp2f1(a + b - 1 - r, a - 1, third, z)
    return third / (a - 1) * (1 - kept)


def _counted(*columns: Vector) -> list[Vector]:
    """The unique rows of columns of equal length, sorted, and last how often each is there."""
    frame = pl.DataFrame({str(place): column for place, column in enumerate(columns)})
    unique = frame.group_by(frame.columns).len("count").sort(frame.columns)
    return [column.to_numpy().astype(np.float64) for column in unique.iter_columns()]


def _history(
    frequency: npt.ArrayLike, recency: npt.ArrayLike, age: npt.ArrayLike
) -> tuple[Vector, Vector, Vector]:
    x, last, whole = _columns(frequency=frequency, recency=recency, age=age)
    _counts("frequency", x)
    _require(last >= 0, _named("recency", last), "0 or more")
    _require(
        last <= whole, lambda i: f"recency {last[i]} above age {whole[i]}", "0 <= recency <= age"
    )
    _require(
        (x > 0) | (last == 0),
        lambda i: f"recency {last[i]} at frequency 0",
        "0, as the first order is the last (recency is from the first order to the last)",
    )
    return x, last, whole


def _values(orders: npt.ArrayLike, mean_value: npt.ArrayLike) -> tuple[Vector, Vector]:
    count = np.asarray(orders, np.float64)
    value = np.asarray(mean_value, np.float64)
    if count.shape == value.shape:  # The value of no order is nothing, whatever it is told as.
        value = np.where(count == 0, 1.0, value)
    x, mean = _columns(orders=count, mean_value=value)
    _counts("orders", x)
    _require(mean > 0, _named("mean_value", mean), "above 0 where there are orders")
    return x, mean


def _counts(name: str, x: Vector) -> None:
    _require((x >= 0) & (x == np.floor(x)), _named(name, x), "0 or a whole number above")


def _columns(**columns: npt.ArrayLike) -> tuple[Vector, ...]:
    """As float64 vectors of one length, each value finite."""
    arrays = {name: np.asarray(column, np.float64) for name, column in columns.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise HistoryError(f"shapes {shapes}: expected vectors of one length")
    for name, array in arrays.items():
        _require(np.isfinite(array), _named(name, array), "a finite number")
    return tuple(arrays.values())


def _named(name: str, column: Vector) -> Callable[[int], str]:
    return lambda row: f"{name} {column[row]}"


def _require(good: npt.NDArray[np.bool_], told: Callable[[int], str], expected: str) -> None:
    if good.all():
        return
    bad = np.flatnonzero(~good)
    rows = "row" if len(bad) == 1 else "rows"
    raise HistoryError(
        f"{told(int(bad[0]))} at row {bad[0]} ({len(bad)} such {rows}): expected {expected}"
    )


def _time(time: float) -> float:
    if not 0 <= time < np.inf:
        raise HistoryError(f"time {time}: expected a finite number of at least 0")
    return float(time)
