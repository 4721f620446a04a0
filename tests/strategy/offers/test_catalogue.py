"""The offer catalogue: what it accepts, and what it says about mistakes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from promo_assets.contract.project import PROJECT
from promo_assets.strategy.offers.catalogue import CatalogueError, Kind, load_catalogue
from promo_assets.strategy.offers.frame import catalogue_frame

GOOD = "offers:\n  - {id: five, name: Five off, kind: amount_off, value: 5}\n"


@pytest.fixture
def write(tmp_path: Path):
    def to_file(text: str) -> Path:
        path = tmp_path / "offers.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def one(fields: str) -> str:
    return f"offers:\n  - id: five\n    name: Five\n{fields}"


def test_the_catalogue_of_the_demo_loads_with_its_three_campaign_types() -> None:
    catalogue = load_catalogue(PROJECT / "offers" / "complete_journey.yaml")
    assert catalogue.ids == ("type_a", "type_b", "type_c")
    assert [offer.send_cost for offer in catalogue.offers] == [Decimal("0.30")] * 3


def test_the_frame_keeps_money_as_decimals_and_one_row_an_offer() -> None:
    frame = catalogue_frame(load_catalogue(PROJECT / "offers" / "complete_journey.yaml"))
    assert frame.height == 3
    assert frame.schema["value"] == pl.Decimal(18, 2)
    assert frame["value"].to_list() == [Decimal("1.20"), Decimal("1.36"), Decimal("1.12")]
    assert frame["cap_days"].to_list() == [28, 28, 28]
    assert frame["channels"].to_list() == ["mail"] * 3
    assert frame["eligible_segments"].to_list() == [None] * 3


@pytest.mark.parametrize(
    ("fields", "line", "message"),
    [
        ("    kind: percent_off\n    value: 101\n", 5, "value: 101 found, expected a percentage"),
        ("    kind: percent_off\n", 2, "value: percent_off needs a value above 0"),
        ("    kind: amount_off\n    value: -1\n", 5, "value: -1 found"),
        ("    kind: amount_off\n    value: .nan\n", 5, "value: nan found"),
        ("    kind: amount_off\n    value: 1.005\n", 5, "found, expected at most two decimal"),
        ("    kind: amount_off\n    value: '=5'\n", 5, "value: '=5' found, expected a number"),
        (
            "    kind: amount_off\n    value: 5\n    valid_days: 0\n",
            6,
            "valid_days: 0 found, expected greater than or equal to 1",
        ),
        (
            "    kind: amount_off\n    value: 5\n    channels: mail\n",
            6,
            "channels: 'mail' found, expected a list",
        ),
        ("    kind: free_shipping\n    value: 1\n", 5, "value: 1 found, but free_shipping has no"),
        ("    kind: points\n    value: 1.5\n", 5, "whole number of points"),
        (
            "    kind: threshold_amount_off\n    value: 5\n    min_spend: 5\n",
            6,
            "min_spend: 5 found, expected more than the value 5",
        ),
        (
            "    kind: amount_off\n    value: 5\n    max_discount: 4\n",
            6,
            "max_discount: amount_off takes none",
        ),
        (
            "    kind: amount_off\n    value: 5\n    max_dicount: 4\n",
            6,
            "max_dicount: unknown key; did you mean 'max_discount'?",
        ),
        ("    kind: percent_of\n    value: 5\n", 4, "did you mean 'percent_off'?"),
        (
            "    kind: amount_off\n    value: 5\n    eligible:\n      segmens: [new]\n",
            7,
            "eligible.segmens: unknown key; did you mean 'segments'?",
        ),
        (
            "    kind: amount_off\n    value: 5\n    eligible: {min_orders: 3, max_orders: 2}\n",
            6,
            "eligible.min_orders: 3 is above max_orders 2",
        ),
        (
            "    kind: amount_off\n    value: 5\n    frequency_cap: {times: 1, days: 30}\n",
            6,
            "frequency_cap.days: 30 found; expected one of 1, 7, 28, 90",
        ),
        (
            "    kind: amount_off\n    value: 5\n    valid_from: 2017-02-01\n"
            "    valid_until: 2017-01-01\n",
            7,
            "valid_until: 2017-01-01 is before valid_from 2017-02-01",
        ),
        (
            "    kind: amount_off\n    value: 5\n    prior_lift: 0.1\n",
            2,
            "expected_redemption_rate: missing",
        ),
        (
            "    kind: amount_off\n    value: 5\n    value: 6\n",
            6,
            "value: repeated, first on line 5",
        ),
        ("    kind: amount_off\n    value: 5\n    id: '=1'\n", 6, "id: repeated"),
    ],
)
def test_a_mistake_is_told_with_file_line_offer_field_and_remedy(
    write, fields: str, line: int, message: str
) -> None:
    path = write(one(fields))
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(path)
    assert f"{path}:{line}: " in str(caught.value)
    assert message in str(caught.value)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(write) -> None:
    path = write(one("    kind: amount_off\n    valu: 5\n") + "  - {id: x, kind: bogo}\n")
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(path)
    lines = str(caught.value).splitlines()
    assert "offer 'five': valu: unknown key; did you mean 'value'?" in lines[0]
    assert "offer 'x': name: missing" in lines[1]


def test_two_offers_of_one_id_are_refused(write) -> None:
    path = write(GOOD + GOOD.removeprefix("offers:\n"))
    with pytest.raises(CatalogueError, match=r"yaml:3: offer 'five': id: repeated, first on"):
        load_catalogue(path)


def test_an_unknown_segment_is_refused_where_segments_are_known(write) -> None:
    path = write(one("    kind: amount_off\n    value: 5\n    eligible: {segments: [loyall]}\n"))
    assert load_catalogue(path).offers[0].eligible.segments == ("loyall",)
    with pytest.raises(CatalogueError, match="did you mean 'loyal'"):
        load_catalogue(path, segments=("new", "loyal"))


@pytest.mark.parametrize(
    "text", ["", "[]", "offers:\n", "offers: []\n", "offers: {}\n", "offer: []\n", "a: [", "\x00"]
)
def test_a_file_that_is_no_catalogue_is_refused(write, text: str) -> None:
    with pytest.raises(CatalogueError, match=r"offers\.yaml:"):
        load_catalogue(write(text))


def test_a_missing_file_is_told_with_the_setting_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="PROMO_OFFERS"):
        load_catalogue(tmp_path / "none.yaml")


@pytest.mark.parametrize("kind", Kind.__args__)
def test_every_kind_has_a_smallest_valid_form(write, kind: str) -> None:
    value = "" if kind in ("free_shipping", "informational") else "    value: 10\n"
    floor = "    min_spend: 50\n" if kind == "threshold_amount_off" else ""
    assert load_catalogue(write(one(f"    kind: {kind}\n{value}{floor}"))).offers[0].kind == kind
