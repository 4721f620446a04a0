"""What is withheld from whom, to measure what offers earn: the two designs.

`Holdout`: some people get no offer for a declared time, for what the programme earns in all.
`Exploration`: a draw at each decision, for what each offer does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl


@dataclass(frozen=True)
class Holdout:
    """A global holdout in rounds of ``days``, the first from ``start`` on: each round draws anew
    who is held out, and counts what is bought until ``analysis_days`` after its last day. Nobody is
    held out before ``start``."""

    name: str
    share: float
    start: date
    days: int = 91
    analysis_days: int = 28

    @property
    def counted_days(self) -> int:
        """Days from a round's first to the last that counts."""
        return self.days + self.analysis_days

    def on(self, day: date) -> Experiment:
        """Who is held out from what is decided on ``day``."""
        number = (day - self.start).days // self.days
        if number < 0:
            return Experiment(self.name, 0.0)
        return Experiment(f"{self.name}.{number + 1}" if number else self.name, self.share)

    def rounds(self, day: date) -> Iterator[Round]:
        """The rounds that count what is bought on ``day``, the oldest first."""
        for number in range((day - self.start).days // self.days + 1):
            start = self.start + timedelta(days=self.days * number)
            final_on = start + timedelta(days=self.counted_days - 1)
            if day <= final_on:
                ends_on = start + timedelta(days=self.days - 1)
                yield Round(self.on(start), start, ends_on, final_on)


@dataclass(frozen=True)
class Round:
    """One round of a holdout: its first and last day of decisions, which take effect the day after,
    and the last day whose purchases count."""

    experiment: Experiment
    started_on: date
    ends_on: date
    final_on: date

    def status(self, day: date) -> str:
        """``running``, ``closing`` (no decision falls under it any more) or ``final``."""
        if day <= self.ends_on:
            return "running"
        return "closing" if day < self.final_on else "final"


@dataclass(frozen=True)
class Experiment:
    """The holdout under which a day is decided: its name salts the draws, its share is withheld."""

    name: str
    share: float

    def held_out(self, users: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """Whose offers are withheld, in the order of ``users``."""
        from promo_assets.strategy.experiments.holdout import is_held_out

        return is_held_out(users["user_id"], self.name, self.share)

    def ties(self, users: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Draws that settle equal returns, independent of who is held out."""
        from promo_assets.strategy.experiments.holdout import draws

        return draws(users["user_id"], f"{self.name}/tie")


@dataclass(frozen=True)
class Exploration:
    """Offers drawn at random on ``day`` for a ``share`` of those in each segment who are open to
    it: each possible offer, and none, with the same probability. ``name`` salts the draws, anew
    every day. What is ``closed`` (columns of offers) is not drawn: of it there is not enough left.
    """

    name: str
    day: date
    share: float
    closed: tuple[int, ...] = ()

    def possible(self, eligible: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """What may be drawn of what users are ``eligible`` for [n, k]."""
        possible = eligible.copy()
        possible[:, list(self.closed)] = False
        return possible

    def takes_part(
        self, users: pl.DataFrame, is_open: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Who is drawn, in the order of ``users`` (whole segments): of those in a segment for whom
        it ``is_open`` as many as their share, with a drawn rounding (a stratified sample: Cochran
        1977, ch. 5)."""
        import numpy as np

        from promo_assets.strategy.experiments.holdout import draws

        draw = draws(users["user_id"], f"{self.name}/explore/{self.day}")
        takes_part = np.zeros(len(draw), dtype=bool)
        segments = users["segment"].to_numpy()
        for segment in sorted(set(segments[is_open])):
            inside = np.flatnonzero(is_open & (segments == segment))
            (rounding,) = draws([segment], f"{self.name}/round/{self.day}")
            count = int(self.share * len(inside) + rounding)
            takes_part[inside[np.argsort(draw[inside], kind="stable")[:count]]] = True
        return takes_part

    def drawn(
        self, users: pl.DataFrame, possible: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """How many arms each user has, and the one drawn: a column of ``possible`` [n, k] or -1."""
        import numpy as np

        from promo_assets.strategy.experiments.holdout import draws

        arms = possible.sum(axis=1) + 1
        draw = (draws(users["user_id"], f"{self.name}/arm/{self.day}") * arms).astype(np.int64)
        # The draw-th of the possible offers; the last arm is none.
        reached = (possible.cumsum(axis=1) == draw[:, None] + 1) & possible
        return arms, np.where(reached.any(axis=1), reached.argmax(axis=1), -1)
