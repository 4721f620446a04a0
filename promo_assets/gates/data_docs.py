"""Data Docs: the newest result of every table as a static site, kept across processes.

``<folder>/results`` holds one JSON file a table, so the site does not grow with the runs; the
history of findings is in ``audit.findings``.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.data_context import EphemeralDataContext

STORE = "validation_results_store"


class DataDocs:
    """The site under ``folder`` (its ``index.html``) and the results that it is built from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    @property
    def config(self) -> dict[str, Any]:
        """The part of a Great Expectations context's configuration that concerns the site."""
        return {
            "validation_results_store_name": STORE,
            "stores": {
                STORE: {
                    "class_name": "ValidationResultsStore",
                    "store_backend": self._files("results", filepath_suffix=".json"),
                }
            },
            "data_docs_sites": {
                "gates": {
                    "class_name": "SiteBuilder",
                    "show_how_to_buttons": False,
                    "store_backend": self._files("."),
                    "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                    "site_section_builders": {"expectations": "None", "profiling": "None"},
                }
            },
        }

    def keep(
        self,
        context: EphemeralDataContext,
        table: str,
        staged: str,
        results: Sequence[ExpectationValidationResult],
        *,
        of: int,
    ) -> None:
        """Keep ``results`` on the slice ``staged`` in place of those that ``table`` had before.

        ``of`` is how many there should be: a missing result counts as a failure.
        """
        import great_expectations
        from great_expectations.core import ExpectationSuiteValidationResult
        from great_expectations.core.run_identifier import RunIdentifier
        from great_expectations.data_context.types.resource_identifiers import (
            ExpectationSuiteIdentifier,
            ValidationResultIdentifier,
        )

        met = sum(bool(result.success) for result in results)
        run = RunIdentifier(run_name="newest", run_time=datetime.now(UTC))
        suite = ExpectationSuiteIdentifier(table)
        kept = ExpectationSuiteValidationResult(
            success=met == of,
            results=list(results),
            suite_name=table,
            statistics={
                "evaluated_expectations": of,
                "successful_expectations": met,
                "unsuccessful_expectations": of - met,
                "success_percent": 100 * met / of,
            },
            meta={
                "run_id": run,
                "validation_time": run.run_time,
                "batch_spec": {"data_asset_name": staged},
                "great_expectations_version": great_expectations.__version__,
            },
        )
        shutil.rmtree(self._folder.joinpath("results", *table.split(".")), ignore_errors=True)
        context.validation_results_store.store_validation_results(
            kept, ValidationResultIdentifier(suite, run, staged), suite
        )

    def build(self, context: EphemeralDataContext) -> Path:
        """Render the kept results and return the index page."""
        self._folder.mkdir(parents=True, exist_ok=True)
        context.build_data_docs()
        return self._folder / "index.html"

    def _files(self, folder: str, **options: str) -> dict[str, str]:
        return {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(self._folder / folder),
            **options,
        }
