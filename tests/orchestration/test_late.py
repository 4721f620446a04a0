"""Late data: what arrives for a day that is over changes that day and what follows, and no more."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.orchestration.late import sensor
from promo_assets.orchestration.runs import BATCH_TAG, Phase, open_instance, run_phase
from promo_assets.sources.deliveries import Late, look
from tests.support.shop import DELIVERED, Shop, failures, made_once, unlike

LAST = 11
LATE = 7


@pytest.fixture(scope="module")
def half_delivered(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Twelve days, of which day 7 has only its first half so far; only to be copied."""

    def make(shop: Shop) -> None:
        shop.deliver_all(LAST + 1)
        events = shop.events(LATE)
        shop.deliver(LATE, events[: len(events) // 2])
        assert failures(shop.run(0, LAST)) == []

    return made_once("half_delivered", make, tmp_path_factory)


@pytest.fixture
def twelve_days(half_delivered: Shop, tmp_path: Path) -> Shop:
    return half_delivered.copy(tmp_path / "twelve")


def looked(shop: Shop) -> Late | None:
    settings = shop.settings
    delivery = installation.delivery(settings)
    return look(installation.warehouse(settings), delivery, settings.late_days)


def arrive(shop: Shop) -> None:
    """The other half of day 7, in a file of its own that is named after a later day."""
    events = shop.events(LATE)
    whole = shop.file(shop.day(LATE)).read_text().splitlines()
    shop.deliver(LATE, events)
    lines = shop.file(shop.day(LATE)).read_text().splitlines()
    shop.file(shop.day(LATE)).write_text("\n".join(whole) + "\n")
    late = shop.file(shop.day(LAST)).with_name(f"late-{shop.day(LAST)}.csv")
    late.write_text("\n".join([lines[0], *lines[len(whole) :]]) + "\n")


def test_nothing_is_late_when_nothing_changed(twelve_days: Shop) -> None:
    assert looked(twelve_days) is None
    twelve_days.deliver(LATE - 1)  # Written again with the same content: only its time differs.
    assert looked(twelve_days) is None


@pytest.mark.slow
def test_a_late_file_is_found_and_the_rebuild_equals_an_arrival_in_time(
    twelve_days: Shop, tmp_path: Path
) -> None:
    shop = twelve_days
    in_time = type(shop)(tmp_path / "in_time").deliver_all(LAST + 1)
    assert failures(in_time.run(0, LAST)) == []
    arrive(shop)
    late = looked(shop)
    assert late is not None
    assert late.days == (shop.day(LATE),)
    assert late.window == Window(shop.day(LATE), shop.day(LAST + 1))

    assert follow(shop) == f"{shop.day(LATE)} and what follows is rebuilt"
    assert follow(shop) == "every published day is as it is delivered"
    provenance = ("raw.events", "core.rejected_events")
    assert unlike(shop.tables(but=provenance), in_time.tables(but=provenance)) == {}


@pytest.mark.slow
def test_a_day_that_a_gate_held_back_is_not_asked_for_again_until_it_changes(
    twelve_days: Shop,
) -> None:
    shop = twelve_days
    before = shop.tables(but=DELIVERED)
    lines = shop.file(shop.day(LATE)).read_text()
    shop.file(shop.day(LATE)).write_text(lines.replace("event_type", "kind", 1))
    assert looked(shop) is not None
    shop.run(LATE, LATE, groups=["events"])
    assert unlike(shop.tables(but=DELIVERED), before) == {}
    assert looked(shop) is None
    shop.deliver(LATE)
    assert looked(shop) is not None


def test_a_delivery_that_was_taken_in_by_a_killed_run_is_still_late(twelve_days: Shop) -> None:
    shop = twelve_days
    arrive(shop)
    taken = looked(shop)
    assert taken is not None
    shop.query(
        "insert into audit.deliveries by name select day, 'another' as fingerprint,"
        " 'killed' as run_id, now()::timestamp as delivered_at"
        f" from audit.deliveries where day = date '{shop.day(LATE)}'"
    )
    assert looked(shop) == taken


@pytest.mark.slow
def test_a_rebuild_that_fails_is_not_tried_again_for_the_same_delivery(twelve_days: Shop) -> None:
    shop = twelve_days
    arrive(shop)
    offers = shop.settings.catalogue
    good = offers.read_text()
    offers.write_text("offers: []")
    assert "dimensions (run " in follow(shop)
    offers.write_text(good)
    shop.query(
        "update audit.deliveries set fingerprint = 'another'"
        f" where day = date '{shop.day(LATE)}' returning day"
    )
    assert "its rebuild failed before" in follow(shop)
    shop.deliver(LATE - 1, shop.events(LATE - 1)[:-1])
    assert follow(shop) == f"{shop.day(LATE - 1)} and what follows is rebuilt"


def follow(shop: Shop) -> str:
    """Let the sensor tick and run what it asks for, until a rebuild is over; its last word."""
    definition = sensor(partial(looked, shop), installation.partitions(shop.settings))
    said = ""
    with open_instance(shop.settings.places) as instance:
        stored = instance.daemon_cursor_storage
        cursor = stored.get_cursor_values({"late"}).get("late")
        for _ in range(20):
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            (asked,) = list(definition(context))
            cursor = context.cursor or "{}"
            stored.set_cursor_values({"late": cursor})
            if isinstance(asked, dg.RunRequest):
                run_as_asked(shop, instance, asked)
            else:
                said = asked.skip_message
                if "batch" not in json.loads(cursor):
                    return said
    raise AssertionError(f"the sensor never came to rest: {said}")


def run_as_asked(shop: Shop, instance: dg.DagsterInstance, asked: dg.RunRequest) -> None:
    """Run a request with its tags, as the daemon would."""
    keys = [asked.tags.get(f"dagster/asset_partition_range_{end}", "") for end in ("start", "end")]
    phase = Phase(str(asked.job_name), "as asked", *keys)
    run_phase(phase, shop.definitions, instance, batch=asked.tags[BATCH_TAG])
