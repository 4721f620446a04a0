"""What is withheld from whom, to measure what offers earn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl


@dataclass(frozen=True)
class Experiment:
    """The holdout under which offers are sent: its name salts the draws, its share is withheld.

    Keep the name for as long as the same users should stay held out.
    """

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
    """Offers drawn at random on ``day`` for a ``share`` of those who are open to it: each possible
    offer, and none, with the same probability. ``name`` salts the draws, anew every day."""

    name: str
    day: date
    share: float

    def takes_part(self, users: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """Who is drawn, in the order of ``users``."""
        from promo_assets.strategy.experiments.holdout import draws

        return draws(users["user_id"], f"{self.name}/explore/{self.day}") < self.share

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
