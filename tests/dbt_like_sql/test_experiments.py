"""Trials: who is whose control, what each cost, once; and whether arms are as large as drawn."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from promo_assets.warehouse.publish import ensure_table
from tests.dbt_like_sql.conftest import CONTRACTS, FIRST

if TYPE_CHECKING:
    from tests.dbt_like_sql.conftest import Event, Shop

SENT = 10
"""The day of the campaigns."""
TABLES = ("strategy.user_margins", "strategy.offer_trials", "strategy.experiment_checks")
OFFERS = """
insert into core.offers by name
select * from (values
    ('five', 'Five off', 'amount_off', 5.00, 14, 14, 0.1, null),
    ('bogo', 'Second at half price', 'bogo', 50.00, 7, 7, 0.0, null),
    ('ship', 'Free shipping', 'free_shipping', null, 20, 28, 0.0, null),
    ('points', 'Points', 'points', 300.00, 14, 14, 0.0, 3.00)
) as o(offer_id, name, kind, value, valid_days, horizon_days, send_cost,
    expected_cost_per_redemption)
"""


@pytest.fixture
def trials(shop: Shop) -> Shop:
    for table in ("core.offers", "core.consents", *TABLES):
        ensure_table(shop.connection, CONTRACTS[table])
    shop.connection.execute("alter table core.offers alter priority drop not null")
    shop.connection.execute(OFFERS)
    shop.connection.execute("update core.items set unit_cost = 6 where item_id = 'i0'")
    return shop


def day(offset: int) -> date:
    return FIRST + timedelta(days=offset)


def run(shop: Shop, events: list[Event], last: int = 60) -> list[dict[str, Any]]:
    """Everything in one range; the rows of the trials."""
    shop.deliver(events)
    shop.run(FIRST, day(last), [*shop.chain, *TABLES])
    return shop.frame("strategy.offer_trials").to_dicts()


def arms(shop: Shop, **users: tuple[str, str | None]) -> list[Event]:
    """Draws of campaign c1: user -> (sent or withheld, offer)."""
    chance = 1 / (1 + len({offer for _, offer in users.values()}))
    return [
        shop.event(f"offer_{arm}", user, SENT, offer_id=offer, assignment_probability=chance)
        for user, (arm, offer) in users.items()
    ]


def bought(shop: Shop, user: str, offset: int, **columns: Any) -> Event:
    return shop.event("purchase", user, SENT + offset, **columns)


def redeemed(shop: Shop, user: str, offset: int, offer: str, **columns: Any) -> Event:
    order = f"order/{user}/{day(SENT + offset)}"
    told = {"offer_id": offer, "discount": None, "order_id": order, "campaign_id": None}
    return shop.event("offer_redeemed", user, SENT + offset, **told | columns)


def test_who_was_withheld_from_all_offers_is_a_control_of_each(trials: Shop) -> None:
    rows = run(
        trials,
        arms(trials, a=("sent", "five"), b=("sent", "ship"), c=("withheld", None)),
    )
    found = {(row["offer_id"], row["user_id"], row["arm"]) for row in rows}
    assert found == {
        ("five", "a", "sent"), ("five", "c", "withheld"),
        ("ship", "b", "sent"), ("ship", "c", "withheld"),
    }  # fmt: skip


def test_a_trial_closes_on_the_last_day_of_its_offers_horizon(trials: Shop) -> None:
    events = arms(trials, a=("sent", "five"), b=("sent", "bogo"), c=("withheld", None))
    events += [bought(trials, user, offset) for user in "abc" for offset in (6, 7, 13, 14)]
    rows = run(trials, events)
    closed = {(row["offer_id"], (row["closed_date"] - day(SENT)).days) for row in rows}
    assert closed == {("five", 13), ("bogo", 6)}
    orders = {(row["offer_id"], row["user_id"]): row["orders_after"] for row in rows}
    assert orders == {("five", "a"): 3, ("five", "c"): 3, ("bogo", "b"): 1, ("bogo", "c"): 1}


def test_people_whom_nobody_knew_before_the_send_stay_in(trials: Shop) -> None:
    known = [trials.event("view", "old", 1)]
    events = arms(trials, old=("sent", "five"), new=("sent", "five"), ctl=("withheld", None))
    rows = run(trials, known + events)
    assert {row["user_id"]: row["segment"] for row in rows} == {
        "old": "new", "new": "new", "ctl": "new",
    }  # fmt: skip
    assert {row["user_id"]: row["active_days_life"] for row in rows} == {
        "old": 1, "new": 0, "ctl": 0,
    }  # fmt: skip


def test_a_redemption_without_campaign_is_that_of_the_users_send_while_it_is_valid(
    trials: Shop,
) -> None:
    events = arms(trials, a=("sent", "five"), b=("sent", "bogo"), c=("withheld", None))
    events += [
        redeemed(trials, "a", 13, "five", discount=Decimal(5)),  # The last valid day.
        redeemed(trials, "b", 7, "bogo", discount=Decimal(3)),  # Too late.
        redeemed(trials, "c", 3, "five", discount=Decimal(5)),  # Not theirs.
        redeemed(trials, "a", 3, "ship", discount=Decimal(5)),  # Another offer.
    ]
    rows = run(trials, events)
    assert {
        (row["offer_id"], row["user_id"]): (row["redemptions"], row["redemption_cost"])
        for row in rows
    } == {
        ("five", "a"): (1, Decimal(5)),
        ("five", "c"): (0, Decimal(0)),
        ("bogo", "b"): (0, Decimal(0)),
        ("bogo", "c"): (0, Decimal(0)),
    }


def test_two_open_sends_of_an_offer_share_no_redemption(trials: Shop) -> None:
    again = trials.event(
        "offer_sent", "a", SENT + 3, offer_id="five", campaign_id="c2", assignment_probability=0.5
    )
    other = trials.event(
        "offer_withheld", "b", SENT + 3, offer_id="five", campaign_id="c2",
        assignment_probability=0.5,
    )  # fmt: skip
    events = [*arms(trials, a=("sent", "five"), c=("withheld", "five")), again, other]
    events += [
        redeemed(trials, "a", 2, "five", discount=Decimal(5)),
        redeemed(trials, "a", 4, "five", discount=Decimal(4)),
        redeemed(trials, "a", 5, "five", discount=Decimal(3), campaign_id="c1"),
    ]
    rows = run(trials, events)
    costs = {row["campaign_id"]: row["redemption_cost"] for row in rows if row["arm"] == "sent"}
    assert costs == {"c1": Decimal(8), "c2": Decimal(4)}


@pytest.mark.parametrize(
    ("offer", "lines", "cost"),
    [
        ("five", [{"quantity": 1}], Decimal(5)),
        ("five", [{"quantity": 1, "unit_price": Decimal(3)}], Decimal(3)),
        ("bogo", [{"quantity": 2}], Decimal(5)),
        ("bogo", [{"quantity": 1}], None),
        ("ship", [{"quantity": 1}], None),
        ("points", [{"quantity": 1}], Decimal(3)),
    ],
)
def test_a_cost_that_is_not_told_comes_from_the_terms_or_is_unknown_but_never_nothing(
    trials: Shop, offer: str, lines: list[dict[str, Any]], cost: Decimal | None
) -> None:
    events = arms(trials, a=("sent", offer), c=("withheld", None))
    events += [bought(trials, "a", 3, **line) for line in lines]
    events.append(redeemed(trials, "a", 3, offer))
    rows = run(trials, events)
    (sent,) = [row for row in rows if row["arm"] == "sent"]
    assert (sent["redemptions"], sent["redemption_cost"]) == (1, cost)


@pytest.mark.parametrize(
    ("offer", "on_lines", "beside"),
    [
        ("five", Decimal(5), Decimal(0)),  # The line carries it: spend is net of it already.
        ("five", Decimal(0), Decimal(5)),  # The line doesn't: it would be nobody's cost.
        ("five", Decimal(2), Decimal(3)),
        ("ship", Decimal(5), Decimal(5)),  # A markdown on the lines is not the shipping.
    ],
)
def test_a_redemption_costs_once(
    trials: Shop, offer: str, on_lines: Decimal, beside: Decimal
) -> None:
    events = arms(trials, a=("sent", offer), c=("withheld", None))
    events += [
        bought(trials, "a", 3, quantity=2, discount=on_lines),
        redeemed(trials, "a", 3, offer, discount=Decimal(5)),
    ]
    (sent,) = [row for row in run(trials, events) if row["arm"] == "sent"]
    assert sent["spend_after"] == Decimal(20) - on_lines
    assert sent["goods_cost_after"] == Decimal(12)
    assert sent["offer_costs_after"] == beside
    assert sent["redemption_cost"] == Decimal(5)


def test_returns_take_their_goods_back(trials: Shop) -> None:
    events = arms(trials, a=("sent", "five"), c=("withheld", None))
    events += [
        bought(trials, "a", 1, quantity=3),
        bought(trials, "a", 2, item_id="i1", quantity=1),
        trials.event("return", "a", SENT + 4, quantity=2),
    ]
    (sent,) = [row for row in run(trials, events) if row["arm"] == "sent"]
    assert sent["spend_after"] == Decimal(20)
    assert sent["goods_cost_after"] == Decimal(6)
    assert sent["uncosted_after"] == Decimal(10)
    assert sent["orders_after"] == 2


def test_who_is_compared_could_have_been_sent_it(trials: Shop) -> None:
    """Nothing was withheld: active users to whom nothing went that day, who have not refused."""
    people = ["sent", "other", "peer", "refuser", "sleeper"]
    events = [trials.event("view", user, 1) for user in people if user != "sleeper"]
    events += [trials.event("offer_sent", "sleeper", 1, campaign_id="c0")]
    events += [
        trials.event("offer_sent", "sent", SENT, offer_id="five", campaign_id="c1"),
        trials.event("offer_sent", "other", SENT, offer_id="ship", campaign_id="c2"),
    ]
    trials.connection.execute(
        "insert into core.consents values ('refuser', 'account', 'marketing', false, ?)",
        [datetime(2024, 1, 3)],
    )
    rows = run(trials, events)
    found = {
        (row["campaign_id"], row["user_id"], row["arm"])
        for row in rows
        if row["campaign_id"] != "c0"
    }
    assert found == {
        ("c1", "sent", "sent"), ("c1", "peer", "comparison"),
        ("c2", "other", "sent"), ("c2", "peer", "comparison"),
    }  # fmt: skip


def draws(shop: Shop, number: int, share: float, chance: float, on: int = SENT) -> list[Event]:
    """``number`` users, of whom ``share`` were sent the offer where ``chance`` was drawn."""
    return [
        shop.event(
            "offer_sent" if user < share * number else "offer_withheld",
            f"u{on}-{user}",
            on,
            offer_id="five",
            assignment_probability=chance if user < share * number else 1 - chance,
        )
        for user in range(number)
    ]


def checks(shop: Shop, experiment: str = "c1") -> list[dict[str, Any]]:
    return shop.frame("strategy.experiment_checks", f"experiment = '{experiment}'").to_dicts()


def test_the_statistic_is_pearsons_and_a_mismatch_is_red(trials: Shop) -> None:
    run(trials, [*draws(trials, 400, 0.5, 0.5), *draws(trials, 400, 0.7, 0.5, SENT + 7)])
    first, second = checks(trials)
    assert first["chi_square"] == pytest.approx(0)
    # 480 sent and 320 withheld of 800, where 400 of each were drawn.
    assert second["chi_square"] == pytest.approx(2 * 80**2 / 400)
    red = trials.offending(
        "strategy.experiment_checks", "arms_are_as_large_as_drawn", FIRST, day(60)
    )
    assert {row[:3] for row in red} == {(day(SENT + 7), name, "five") for name in ("all", "c1")}


def test_a_day_is_red_by_chance_as_seldom_as_it_says(trials: Shop) -> None:
    """A thousand honest days of eight tests each: about one is red."""
    rng = np.random.default_rng(7)
    statistics = pl.DataFrame(
        {
            "drawn_on": [
                date(2000, 1, 1) + timedelta(days=d) for d in range(4000) for _ in "ab" * 4
            ],
            "experiment": ["k"] * 32_000,
            "offer_id": ["five"] * 32_000,
            "sent": [1] * 32_000,
            "withheld": [1] * 32_000,
            "chi_square": rng.chisquare(1, 32_000),
        }
    )
    trials.connection.register("batch", statistics.to_arrow())
    contract = CONTRACTS["strategy.experiment_checks"]
    (gate,) = [e for e in contract.expectations if e.name == "arms_are_as_large_as_drawn"]
    red = trials.connection.execute(gate.query.replace("{batch}", "batch")).fetchall()
    assert 0 < len({row[0] for row in red}) < 4 + 3 * 2


def test_a_missing_probability_is_no_mismatch_and_no_proof(trials: Shop) -> None:
    events = draws(trials, 100, 0.7, 0.5)
    events[0]["assignment_probability"] = None
    run(trials, events)
    assert [row["chi_square"] for row in checks(trials)] == [None]


def test_who_is_in_both_arms_or_saw_what_was_withheld_is_told(trials: Shop) -> None:
    events = arms(trials, a=("sent", "five"), b=("withheld", "five"))
    events += [
        trials.event("offer_withheld", "a", SENT, offer_id="five", assignment_probability=0.5),
        trials.event("offer_viewed", "b", SENT + 2, offer_id="five"),
        *draws(trials, 10, 0.5, 0.5, SENT + 5),
    ]
    run(trials, events)
    first, second = checks(trials)
    assert (first["in_both_arms"], first["exposed"]) == (1, 0)
    assert (second["in_both_arms"], second["exposed"]) == (1, 1)


def test_who_knew_the_offer_before_or_is_in_another_experiment_is_told(trials: Shop) -> None:
    on = SENT + 30
    events = draws(trials, 10, 0.5, 0.5, on)
    events += [
        trials.event("offer_viewed", f"u{on}-1", on - 2, offer_id="five"),
        trials.event(
            "offer_withheld", f"u{on}-2", on - 20, campaign_id="k", assignment_probability=0.5
        ),
        trials.event(
            "offer_withheld", f"u{on}-3", on - 30, campaign_id="k", assignment_probability=0.5
        ),
    ]
    run(trials, events)
    (told,) = checks(trials)
    assert (told["exposed_before"], told["overlapping"]) == (1, 1)
    (red,) = trials.offending(
        "strategy.experiment_checks", "nobody_knew_the_offer_before_the_draw", FIRST, day(60)
    )
    assert red[:3] == (day(on), "c1", "five")


@pytest.mark.slow
def test_days_one_by_one_give_the_rows_of_a_range(trials: Shop) -> None:
    rng = random.Random(3)
    events = trials.shoppers(days=70, users=12)
    for number, on in enumerate(range(SENT, 60, 7)):
        for user in range(12):
            events.append(
                trials.event(
                    rng.choice(["offer_sent", "offer_withheld"]), f"u{user}", on,
                    offer_id=rng.choice(["five", "bogo", "ship"]), campaign_id=f"k{number}",
                    assignment_probability=0.5,
                )
            )  # fmt: skip
    run(trials, events, 70)
    whole = {table: trials.rows(table) for table in TABLES}
    assert all(whole.values())
    for table in TABLES:
        trials.connection.execute(f"delete from {table}")
        for offset in range(70):
            trials.run(day(offset), day(offset + 1), [table])
    assert {table: trials.rows(table) for table in TABLES} == whole
