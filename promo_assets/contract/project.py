"""Where the project's own files lie: models, expectations, the sample's offers."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
"""The checkout: models, expectations and offers live beside the package and are read from here."""
MODELS = PROJECT / "dbt_like_sql"
EXPECTATIONS = PROJECT / "expectations"
SAMPLE_OFFERS = PROJECT / "offers" / "complete_journey.yaml"
WORKSPACE = PROJECT / "workspace.yaml"
