"""Which partitions a step materialises, and metadata for many of them in one go.

Dagster takes every partition of a run for materialised once its step has succeeded. Here a step
says which ones are: `materialise_only`.

`context.add_asset_metadata` lists every partition of the run to check each one that it is given:
a year of days and segments (2,555 partitions) takes two minutes. Here the check is made once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.execution.context.metadata_logging import (
    AssetMetadataHandle,
    OutputMetadataAccumulator,
)


def add_partition_metadata(
    context: dg.AssetExecutionContext, metadata: Mapping[str, Mapping[str, Any]]
) -> None:
    """As ``context.add_asset_metadata(values, partition_key=key)`` for each key of ``metadata``.

    ``metadata`` maps partition keys of the run to their values, for the step's only asset. Raises
    ValueError for a key that the run does not materialise.
    """
    strange = metadata.keys() - set(context.partition_keys)
    if strange:
        raise ValueError(f"partitions {sorted(strange)[:3]} are not materialised by this run")
    step = context.get_step_execution_context()
    told = step._metadata_accumulator.per_output_metadata
    more = {
        AssetMetadataHandle(asset_key=context.asset_key, partition_key=key): dict(values)
        for key, values in metadata.items()
    }
    merged = dict(told)
    merged.update({handle: {**told.get(handle, {}), **more[handle]} for handle in more})
    step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata=merged)


def materialise_only(context: dg.AssetExecutionContext, keys: Sequence[str]) -> None:
    """Let the step's output be materialised for ``keys`` of the run's partitions, at least one, and
    stay what it was for the others: missing, or as an earlier run left it."""
    step = context.get_step_execution_context()
    of_run = step.get_output_context

    def of_step(*told: Any, **named: Any) -> dg.OutputContext:
        output = of_run(*told, **named)
        if output.has_asset_key:  # A check's output has none.
            every = output.asset_partitions_def.empty_subset()
            output._asset_partitions_subset = every.with_partition_keys(keys)
        return output

    step.get_output_context = of_step
