"""Metadata for many partitions at once is stored as Dagster's own way stores it one by one."""

import dagster as dg
import pytest

from promo_assets.orchestration.partition_metadata import add_partition_metadata

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-06")
CELLS = dg.MultiPartitionsDefinition(
    {"date": DAYS, "segment": dg.StaticPartitionsDefinition(["loyal", "new"])}
)
Stored = list[tuple[str | None, dict[str, object]]]


def stored(partitions: dg.PartitionsDefinition, first: str, last: str, *, at_once: bool) -> Stored:
    """The materialisations of a range run whose partitions each get two values, one of them in a
    second call, beside one value of the whole run."""

    @dg.asset(partitions_def=partitions, backfill_policy=dg.BackfillPolicy.single_run())
    def table(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        metadata = {key: {"rows": place} for place, key in enumerate(context.partition_keys)}
        newest = context.partition_keys[-1]
        if at_once:
            add_partition_metadata(context, metadata)
            add_partition_metadata(context, {newest: {"lineage": "here"}})
        else:
            for key, values in metadata.items():
                context.add_asset_metadata(values, partition_key=key)
            context.add_asset_metadata({"lineage": "here"}, partition_key=newest)
        return dg.MaterializeResult(metadata={"gate": "open"})

    with dg.DagsterInstance.ephemeral() as instance:
        tags = {
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        }
        assert dg.materialize([table], instance=instance, tags=tags).success
        records = instance.fetch_materializations(dg.AssetKey("table"), limit=100).records
    found = []
    for record in records:
        assert record.asset_materialization is not None
        values = {name: item.value for name, item in record.asset_materialization.metadata.items()}
        found.append((record.partition_key, values))
    return found


@pytest.mark.parametrize(
    ("partitions", "first", "last", "count"),
    [
        (DAYS, "2024-01-02", "2024-01-04", 3),
        (DAYS, "2024-01-02", "2024-01-02", 1),
        (CELLS, "2024-01-01|loyal", "2024-01-03|new", 6),
    ],
)
def test_the_materialisations_are_those_of_the_public_way(
    partitions: dg.PartitionsDefinition, first: str, last: str, count: int
) -> None:
    at_once = stored(partitions, first, last, at_once=True)
    assert at_once == stored(partitions, first, last, at_once=False)
    assert len(at_once) == count
    assert all({"rows", "gate"} <= values.keys() for _, values in at_once)


def test_a_partition_that_is_not_materialised_is_refused() -> None:
    @dg.asset(partitions_def=DAYS)
    def table(context: dg.AssetExecutionContext) -> None:
        add_partition_metadata(context, {"2024-01-05": {"rows": 1}})

    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(ValueError, match=r"2024-01-05.* not materialised by this run"),
    ):
        dg.materialize([table], instance=instance, partition_key="2024-01-02")
