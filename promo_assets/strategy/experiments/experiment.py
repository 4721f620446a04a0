"""What is withheld from whom, to measure what offers earn."""

from __future__ import annotations

from dataclasses import dataclass
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
