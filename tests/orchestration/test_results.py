"""What a partition's check tells: its own rows, not those of the range."""

from __future__ import annotations

from datetime import date

from promo_assets.gates.verdict import Finding
from promo_assets.orchestration.results import _told

ONE, OTHER = date(2024, 1, 9), date(2024, 1, 10)
FINDING = Finding(
    "few_rows_are_rejected",
    "critical",
    False,
    32,
    (ONE, OTHER),
    ({"day": "2024-01-10", "event_type": "vieww"}, {"day": "2024-01-09", "event_type": "pv"}),
    "32 rows",
    "select ...",
    {ONE: 1, OTHER: 31},
)


def test_a_partition_tells_its_own_rows_and_one_of_them() -> None:
    assert (
        _told([FINDING], [ONE]) == "few_rows_are_rejected (critical): 1 row, such as event_type=pv"
    )
    assert _told([FINDING], [OTHER]).endswith("31 rows, such as event_type=vieww")


def test_a_range_tells_all_of_them() -> None:
    assert _told([FINDING]) == "few_rows_are_rejected (critical): 32 rows"
