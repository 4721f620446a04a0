"""What every shopper shares: weekdays, seasons, holidays and the sale."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.float64]

WEEK = np.array(
    [
        [0.98, 0.94, 0.92, 0.93, 0.97, 1.11, 1.15],
        [1.12, 1.08, 1.07, 1.08, 1.05, 0.80, 0.80],
        [0.82, 0.80, 0.80, 0.85, 1.03, 1.35, 1.35],
    ]
)
"""Visits by weekday, Monday first, of three kinds of people; the first is Complete Journey's week
(baskets by weekday of the shop), the others shop on working days and at weekends."""

HOLIDAYS = {
    (1, 1): 0.70,
    (2, 13): 1.25,
    (2, 14): 1.30,
    (5, 1): 1.15,
    (10, 31): 1.15,
    (12, 20): 1.35,
    (12, 21): 1.35,
    (12, 22): 1.30,
    (12, 23): 1.20,
    (12, 24): 0.80,
    (12, 25): 0.45,
    (12, 26): 1.25,
}
"""Visits on holidays and before them, relative to a usual day."""

SEASON = (1.02, 0.95, 0.96, 0.98, 1.00, 0.98, 0.95, 0.95, 1.00, 1.01, 1.08, 1.12)
"""Visits by month."""

SALE_FIRST_DAY = 24
SALE_DAYS = 3
SALE_EVERY_DAYS = 182
SALE_VISITS = 1.6
SALE_CONVERSION = 1.35


@dataclass(frozen=True)
class Calendar:
    """Days are numbered from the first simulated one, 0."""

    start: date

    def date(self, day: int) -> date:
        return self.start + timedelta(days=day)

    def is_sale(self, day: int) -> bool:
        """The sale: three days from the 25th day on, and again every half year."""
        return day >= 0 and 0 <= (day - SALE_FIRST_DAY) % SALE_EVERY_DAYS < SALE_DAYS

    def visits(self, day: int) -> Table:
        """Relative number of visits that day, by kind of week."""
        on = self.date(day)
        usual = SEASON[on.month - 1] * HOLIDAYS.get((on.month, on.day), 1.0)
        return WEEK[:, on.weekday()] * usual * (SALE_VISITS if self.is_sale(day) else 1.0)

    def conversion(self, day: int) -> float:
        """Relative share of visits that end in an order."""
        return SALE_CONVERSION if self.is_sale(day) else 1.0

    def demand(self, first: int, days: int) -> tuple[Table, Table]:
        """Relative number of orders in the ``j`` days from ``first`` on: [kind of week, j] for
        j = 0 .. ``days``, all of them and those of sale days."""
        daily = np.stack([self.visits(d) * self.conversion(d) for d in range(first, first + days)])
        sale = np.array([self.is_sale(day) for day in range(first, first + days)])
        zero = np.zeros((1, len(WEEK)))
        everything = np.concatenate([zero, daily.cumsum(axis=0)])
        on_sale = np.concatenate([zero, (daily * sale[:, None]).cumsum(axis=0)])
        return everything.T, on_sale.T
