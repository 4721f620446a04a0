"""Where an installation keeps its state: the files and folders under ``PROMO_HOME``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """``PROMO_HOME``, an absolute path, and what has its place in it."""

    root: Path

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse.duckdb"

    @property
    def spill(self) -> Path:
        """Where DuckDB puts what exceeds its memory."""
        return self.root / "spill"

    @property
    def inventory(self) -> Path:
        """What a files source is known to hold."""
        return self.root / "inventory.sqlite"

    @property
    def simulated(self) -> Path:
        return self.root / "simulated"

    @property
    def tracking(self) -> Path:
        """MLflow's database."""
        return self.root / "mlflow.db"

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.tracking}"

    @property
    def model_store(self) -> Path:
        return self.root / "mlartifacts"

    @property
    def dagster(self) -> Path:
        return self.root / "dagster"

    @property
    def exports(self) -> Path:
        return self.root / "exports"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def data_docs(self) -> Path:
        return self.root / "gx"

    @property
    def receipts(self) -> Path:
        return self.root / "receipts"
