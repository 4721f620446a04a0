from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from promo_assets.contract.events import EVENT_COLUMNS, EVENT_TYPES
from promo_assets.simulation.folder import Options, SimulationError, replaced
from promo_assets.simulation.simulate import Simulation, simulate
from promo_assets.strategy.offers.catalogue import Kind, load_catalogue

if TYPE_CHECKING:
    from tests.simulation.conftest import Folder, Made


@pytest.mark.parametrize(("assignment", "mess"), [("random", "none"), ("biased", "wild")])
def test_the_size_of_chunks_changes_no_byte(
    made: Made, tmp_path: Path, assignment: str, mess: str
) -> None:
    options = {"assignment": assignment, "mess": mess}
    whole = made(tmp_path / "whole", chunk=10**9, **options).files()
    assert made(tmp_path / "97", chunk=97, **options).files() == whole
    assert made(tmp_path / "100", chunk=100, **options).files() == whole


def test_another_seed_is_another_shop(made: Made, tmp_path: Path) -> None:
    one, two = made(tmp_path / "1"), made(tmp_path / "2", seed=6)
    assert one.manifest.rows != two.manifest.rows


@pytest.mark.slow
@pytest.mark.parametrize(("assignment", "mess"), [("none", "none"), ("random", "wild")])
def test_a_shop_played_day_by_day_is_the_shop_played_at_once(
    made: Made, tmp_path: Path, assignment: str, mess: str
) -> None:
    at_once = made(tmp_path / "at_once", 13, assignment=assignment, mess=mess)
    made(tmp_path / "daily", 4, assignment=assignment, mess=mess)
    for _ in range(9):
        again = Simulation.open(tmp_path / "daily")
        if assignment == "none":
            again.step(None, "", "")
        else:
            again.play(1)
    tallies = ("funnel", "days", "offers", "rows")

    def without_tallies(files: dict[str, bytes]) -> dict[str, bytes]:
        places = tuple(f"truth/{name}/" for name in tallies)
        return {name: told for name, told in files.items() if not name.startswith(places)}

    daily = type(at_once)(tmp_path / "daily", again.manifest)
    assert without_tallies(daily.files()) == without_tallies(at_once.files())
    for name in tallies:
        assert daily.truth(name).equals(at_once.truth(name)), name


def test_people_come_back_after_more_days_than_a_byte_holds(made: Made, tmp_path: Path) -> None:
    """Pauses still begin and end on every 28th day."""
    shop = made(tmp_path / "long", 150, users=60, mess="none")
    visits = shop.truth("days")["online_visits"]
    first, last = visits[:50].mean(), visits[100:].mean()
    assert 0.4 * first < last < 2.5 * first


def test_a_day_that_was_cut_short_is_played_again(made: Made, tmp_path: Path) -> None:
    whole = made(tmp_path / "whole", 6, mess="some").files()
    before = made(tmp_path / "cut", 5, mess="some")
    kept = {name: told for name, told in before.files().items() if name.startswith("s")}
    Simulation.open(before.path).play(1)
    # Killed before the manifest, which is written last: the state of the day before is still there.
    for name, told in kept.items():
        (before.path / name).parent.mkdir(parents=True, exist_ok=True)
        (before.path / name).write_bytes(told)
    for path in (before.path / "events" / "2017-01-06").iterdir():
        path.write_bytes(b"half a file")
    Simulation.open(before.path).play(1)
    tallies = ("truth/funnel", "truth/days", "truth/offers", "truth/rows")
    after = {n: told for n, told in before.files().items() if not n.startswith(tallies)}
    assert after == {n: told for n, told in whole.items() if not n.startswith(tallies)}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_text_formats_hold_the_same_rows(made: Made, tmp_path: Path, kind: str) -> None:
    parquet = made(tmp_path / "parquet", 6).query("select * exclude (filename) from events")
    place = made(tmp_path / kind, 6, format=kind).path / "events"
    read = {
        "csv": lambda path: pl.read_csv(path, infer_schema=False),
        "jsonl": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    }[kind]
    text = pl.concat([read(path) for path in sorted(place.glob("*/*"))], how="vertical_relaxed")
    typed = text.with_columns(
        pl.col("event_time").str.to_datetime(
            "%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC"
        )
    ).with_columns(pl.col(name).cast(kind_) for name, kind_ in parquet.schema.items())
    assert typed.sort("event_id").equals(parquet.sort("event_id"))
    raw = next(iter(sorted(place.glob("*/*")))).read_text()
    assert "2017-01-01T" in raw


def test_events_are_what_the_contract_says(shop: Folder) -> None:
    first = pl.read_parquet_schema(next(shop.path.glob("events/*/*.parquet")))
    assert list(first) == [column.name for column in EVENT_COLUMNS if column.name != "event_date"]
    assert first["event_time"] == pl.Datetime("us", "UTC")
    assert first["unit_price"] == first["discount"] == pl.Decimal(18, 2)
    counts = dict(shop.query("select event_type, count(*) from events group by all").rows())
    assert set(counts) == {kind.name for kind in EVENT_TYPES}
    needs_line = [kind.name for kind in EVENT_TYPES if kind.needs_order_line]
    needs_offer = [kind.name for kind in EVENT_TYPES if kind.needs_offer]
    broken = shop.query(f"""
        select * from events
        where event_id is null or event_time is null or channel is null
            or (user_id is null and device_id is null)
            or cast(event_time as date) <> cast(parse_filename(parse_dirpath(filename)) as date)
            or (event_type in {tuple(needs_line)}) <> (unit_price is not null)
            or (event_type in {tuple(needs_line)} and not coalesce(
                quantity >= 1 and unit_price > 0 and discount >= 0
                and discount <= quantity * unit_price and order_id is not null
                and item_id is not null, false))
            or (event_type in {tuple(needs_offer)} and offer_id is null)
            or assignment_probability not between 0.01 and 1
            or (event_type = 'offer_redeemed' and not coalesce(
                discount > 0 and order_id is not null and user_id is not null, false))
            or (event_type = 'search' and search_query is null)
    """)
    assert broken.height == 0, broken
    assert shop.one("select count(*) = count(distinct event_id) from events") == (True,)


def test_a_session_belongs_to_one_device_and_logs_in_once(shop: Folder) -> None:
    sessions = shop.query("""
        select
            count(distinct device_id) as devices,
            count(distinct user_id) as users,
            min(event_time) filter (user_id is not null) as known,
            max(event_time) filter (user_id is null) as unknown,
            any_value(channel) as channel,
            count(distinct order_id) as orders
        from events where session_id is not null group by session_id
    """)
    assert sessions["users"].max() == 1
    assert (sessions["devices"] == (sessions["channel"] != "store").cast(pl.Int64)).all()
    assert sessions["orders"].max() == 1
    both = sessions.drop_nulls(["known", "unknown"])
    assert both.height > 100
    assert (both["unknown"] < both["known"]).all()


def test_an_order_begins_with_views_and_carts_and_returns_follow_it(shop: Folder) -> None:
    missing = shop.query("""
        select lines.* from events as lines
        where lines.event_type = 'purchase' and lines.channel <> 'store'
            and not exists (
                select 1 from events as carts
                where carts.event_type = 'add_to_cart' and carts.session_id = lines.session_id
                    and carts.item_id = lines.item_id and carts.event_time < lines.event_time
                    and (carts.user_id is null or carts.user_id = lines.user_id))
    """)
    assert missing.height == 0
    returns = shop.query("""
        select bought.event_time as bought, back.event_time as back,
            bought.quantity = back.quantity and bought.discount = back.discount as same
        from events as back
        left join events as bought
            on bought.event_type = 'purchase' and bought.order_id = back.order_id
            and bought.item_id = back.item_id and bought.quantity = back.quantity
        where back.event_type = 'return'
    """)
    assert returns.height > 50
    assert returns["bought"].null_count() == 0
    days = (returns["back"].dt.date() - returns["bought"].dt.date()).dt.total_days()
    assert days.is_between(3, 14).all()


def test_a_redemption_is_on_the_lines_of_its_order(shop: Folder) -> None:
    offers = shop.query("""
        select redeemed.offer_id, redeemed.discount as cost, sum(lines.discount) as on_lines,
            sum(lines.quantity * lines.unit_price) as gross
        from events as redeemed
        inner join events as lines
            on lines.order_id = redeemed.order_id and lines.event_type = 'purchase'
        where redeemed.event_type = 'offer_redeemed'
        group by redeemed.event_id, redeemed.offer_id, redeemed.discount
    """)
    credited = pl.col("offer_id").is_in(["free_shipping", "points_300"])
    assert set(offers["offer_id"]) >= {"percent_15", "five_off", "free_shipping", "points_300"}
    assert offers.filter(~credited & (pl.col("on_lines") < pl.col("cost"))).height == 0
    assert offers.filter((pl.col("offer_id") == "five_off") & (pl.col("cost") != 5)).height == 0
    assert (
        offers.filter((pl.col("offer_id") == "full_80_less_12") & (pl.col("gross") < 80)).height
        == 0
    )


def test_new_people_come_and_nobody_logs_in_before_signing_up(shop: Folder) -> None:
    early = shop.query(f"""
        select events.* from events
        inner join read_parquet('{shop.path}/users.parquet') as users using (user_id)
        where events.event_time < users.signup_time
    """)
    assert early.height == 0
    users, persons = shop.table("users"), shop.truth("persons")
    assert persons.height == shop.manifest.people == 3_000 + int(3_000 * 0.002 * 30)
    assert users.filter(pl.col("signup_time").dt.date() >= shop.manifest.options.start).height > 100
    known = set(users["user_id"])
    assert set(shop.query("select distinct user_id from events")["user_id"]) - {None} <= known


def test_references_name_what_exists(shop: Folder) -> None:
    items = shop.table("items")
    assert items["item_id"].n_unique() == items.height
    assert items["category"].str.count_matches("/").unique().to_list() == [2]
    assert (items["unit_cost"] < items["list_price"]).all()
    sold = shop.query(
        "select distinct item_id, unit_price from events where event_type = 'purchase'"
    ).join(items, on="item_id", how="left")
    assert (sold["unit_price"] == sold["list_price"]).all()
    devices = set(shop.truth("devices")["device_id"])
    accounts = set(shop.truth("accounts")["user_id"])
    for name in ("identities", "consents"):
        table = shop.table(name)
        assert set(table["device_id"]) - {None} <= devices
        assert set(table["user_id"]) - {None} <= accounts
    consents = shop.table("consents")
    assert (consents["user_id"].is_null() != consents["device_id"].is_null()).all()
    withdrawn = consents.filter(pl.col("purpose") == "marketing").group_by("user_id").len()
    assert (withdrawn["len"] > 1).any()


def test_the_catalogue_has_every_kind_and_loads(shop: Folder) -> None:
    catalogue = load_catalogue(shop.path / "offers.yaml")
    assert {offer.kind for offer in catalogue.offers} == set(Kind.__args__)  # type: ignore[attr-defined]
    sent = dict(
        shop.query(
            "select offer_id, count(*) filter (event_type = 'offer_redeemed')"
            " / count(*) filter (event_type = 'offer_sent') as rate"
            " from events where offer_id is not null group by all"
        ).rows()
    )
    for offer in catalogue.offers:
        assert offer.expected_redemption_rate == pytest.approx(sent[offer.id], abs=0.06)
        assert offer.send_cost > 0


def test_items_run_out_and_come_in(shop: Folder) -> None:
    from promo_assets.simulation.assortment import Assortment

    assortment = Assortment(shop.manifest.options.seed)
    sold = shop.query("select cast(event_time as date) as day, item_id from events")
    numbers = pl.DataFrame({"item_id": assortment.ids, "number": range(assortment.size)})
    start = shop.manifest.options.start
    out = 0
    for day in (0, 14, 30):
        there = assortment.available(day)
        out += int((~there).sum())
        seen = sold.filter(pl.col("day") == start + timedelta(days=day)).join(numbers, on="item_id")
        assert there[seen["number"].unique().to_numpy()].all()
    assert out > 100
    assert (assortment.launch > 0).sum() > 100


def test_a_folder_that_is_no_simulation_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    (place / "thesis.txt").write_text("important")
    with pytest.raises(SimulationError, match="is not a simulation"):
        simulate(Options(users=10), 1, place)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (place / "thesis.txt").read_text() == "important"
    with pytest.raises(SimulationError, match="run `promo simulate` first"):
        Simulation.open(place)


def test_an_old_simulation_is_replaced_only_by_a_whole_one(made: Made, tmp_path: Path) -> None:
    place = tmp_path / "shop"
    place.mkdir()  # Empty: nothing to lose.
    old = made(place, 2).files()
    with pytest.raises(KeyboardInterrupt), replaced(place):
        raise KeyboardInterrupt
    assert made(place, 2).files() == old
    assert made(place, 3).manifest.days == 3
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_a_simulation_of_another_version_is_told(made: Made, tmp_path: Path) -> None:
    place = made(tmp_path / "shop", 1).path
    manifest = place / "simulation.json"
    manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 0'))
    with pytest.raises(SimulationError, match="found version 0, expected 2"):
        Simulation.open(place)
    manifest.write_text("{")
    with pytest.raises(SimulationError, match="can't be read"):
        Simulation.open(place)
