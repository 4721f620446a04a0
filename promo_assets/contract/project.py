"""Where the project's own files lie: models, expectations, the sample's offers, the workspace.

Beside the package in a checkout, inside it where a wheel is installed (``hatch_build.py``).
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
PACKED = PACKAGE / "_project"
PROJECT = PACKED if PACKED.exists() else PACKAGE.parent
MODELS = PROJECT / "dbt_like_sql"
EXPECTATIONS = PROJECT / "expectations"
SAMPLE_OFFERS = PROJECT / "offers" / "complete_journey.yaml"
WORKSPACE = PROJECT / "workspace.yaml"
