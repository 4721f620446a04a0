"""Effects: campaigns measured one by one, pooled for every segment and offer."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from promo_assets.strategy.effects.campaigns import (
    CAMPAIGN_SCHEMA,
    EFFECT_SCHEMA,
    LIFT_SD_FLOOR,
    PRIOR_LIFT_SD,
    campaign_effects,
    pool_effects,
)
from promo_assets.strategy.offers.catalogue import Catalogue
from promo_assets.strategy.offers.frame import MONEY

SEGMENTS = ("new", "loyal", "dormant")
CLOSED = date(2017, 4, 1)
CATALOGUE = Catalogue.model_validate(
    {
        "offers": [
            {
                "id": "a", "name": "A", "kind": "amount_off", "value": 2,
                "expected_redemption_rate": 0.2, "expected_cost_per_redemption": 3,
                "prior_lift": 0.04,
            },
            {"id": "b", "name": "B", "kind": "amount_off", "value": 5},
        ]
    }
)  # fmt: skip


def trials(
    seed: int = 0,
    sent: int = 60,
    others: int = 200,
    lift: float = 0.1,
    control: str = "comparison",
    probabilities: tuple[float | None, float | None] = (None, None),
    campaign: str = "1",
    segments: tuple[str, ...] = ("new", "loyal"),
) -> pl.DataFrame:
    """A campaign of offer ``a``: heavier spenders likelier to be sent it, a known lift."""
    rng = np.random.default_rng(seed)
    users = sent + others
    treated = np.arange(users) < sent
    habit = rng.gamma(4.0, 25.0, users) * np.where(treated, 1.3, 1.0)
    after = habit * rng.gamma(4.0, 0.25, users) * np.where(treated, 1 + lift, 1.0)
    redeemed = treated & (rng.random(users) < 0.25)
    return pl.DataFrame(
        {
            "closed_date": CLOSED,
            "sent_date": CLOSED - timedelta(days=27),
            "campaign_id": campaign,
            "offer_id": ["a"] * users,
            "user_id": [f"u{number}" for number in range(users)],
            "segment": rng.choice(segments, users),
            "arm": np.where(treated, "sent", control),
            "assignment_probability": [probabilities[0 if one else 1] for one in treated],
            "spend_before": pl.Series(habit).round(2).cast(MONEY),
            "spend_before_90d": pl.Series(habit * 3).round(2).cast(MONEY),
            "orders_before": (habit / 30).astype(int),
            "recency_days": pl.Series(rng.integers(0, 60, users)).replace(7, None),
            "offers_before": rng.integers(0, 3, users),
            "spend_after": pl.Series(after).round(2).cast(MONEY),
            "orders_after": (after / 30).astype(int),
            "redemptions": redeemed.astype(int) * 2,
            "redemption_cost": pl.Series(redeemed * 2.5).cast(MONEY),
        },
        schema_overrides={"assignment_probability": pl.Float64},
    )  # fmt: skip


def measured(**columns: object) -> pl.DataFrame:
    """One row as `campaign_effects` gives it."""
    row = {
        "closed_date": CLOSED, "campaign_id": "1", "offer_id": "a", "segment": "new", "sent": 100,
        "comparison": 500, "redeemers": 10, "redemptions": 12, "redemption_cost": Decimal("30.00"),
        "spend_effect": 5.0, "spend_effect_se": 1.0, "baseline_spend": 100.0, "lift": 0.05,
        "lift_se": 0.01, "overlap": 1.0, "evidence": "observational",
    }  # fmt: skip
    return pl.DataFrame([row | columns], schema=CAMPAIGN_SCHEMA)


def pooled(*rows: pl.DataFrame, as_of: date = CLOSED) -> dict[tuple[str, str], dict]:
    frame = pl.concat(rows) if rows else pl.DataFrame(schema=CAMPAIGN_SCHEMA)
    result = pool_effects(frame, CATALOGUE, as_of, SEGMENTS)
    assert result.schema == pl.Schema(EFFECT_SCHEMA)
    return {(row["segment"], row["offer_id"]): row for row in result.iter_rows(named=True)}


def test_a_campaign_has_one_row_a_segment_with_its_counts() -> None:
    frame = trials()
    found = campaign_effects(frame)
    sent = frame.filter(arm="sent")
    assert found["segment"].to_list() == ["loyal", "new"]
    assert found["sent"].sum() == 60
    assert found["comparison"].sum() == 200
    assert found["redeemers"].sum() == (sent["redemptions"] > 0).sum()
    assert found["redemptions"].sum() == sent["redemptions"].sum()
    assert found["redemption_cost"].sum() == sent["redemption_cost"].sum()
    assert found["evidence"].to_list() == ["observational"] * 2
    assert found["overlap"].is_between(0.5, 1).all()


def test_the_order_of_trials_does_not_matter() -> None:
    frame = pl.concat([trials(), trials(1, campaign="2")])
    assert_frame_equal(
        campaign_effects(frame), campaign_effects(frame.sample(fraction=1, shuffle=True, seed=3))
    )


def test_logged_probabilities_make_the_evidence_randomised_and_the_estimate_hajeks() -> None:
    frame = trials(control="withheld", probabilities=(0.25, 0.75), segments=("new",))
    spend = pl.col("spend_after").cast(pl.Float64)
    sent, withheld = (
        frame.filter(arm=arm).select(spend).to_series().mean() for arm in ("sent", "withheld")
    )
    (row,) = campaign_effects(frame).iter_rows(named=True)
    assert row["evidence"] == "randomised"
    assert row["spend_effect"] == pytest.approx(sent - withheld)
    assert row["lift"] == pytest.approx(sent / withheld - 1)


def test_comparison_users_do_not_enter_a_randomised_effect() -> None:
    frame = trials(control="withheld", probabilities=(0.25, 0.75))
    bystanders = trials(9, sent=0, others=50).with_columns(user_id="x" + pl.col("user_id"))
    assert_frame_equal(campaign_effects(pl.concat([frame, bystanders])), campaign_effects(frame))


def test_withheld_users_without_probabilities_are_no_randomised_evidence() -> None:
    found = campaign_effects(trials(control="withheld", probabilities=(0.25, None)))
    assert set(found["evidence"]) == {"observational"}


def test_offers_that_compete_in_a_campaign_share_its_undecided_controls() -> None:
    frame = trials(control="withheld", probabilities=(0.25, 0.75), segments=("new",)).with_columns(
        offer_id=pl.when(arm="withheld").then(None)
        .when(pl.col("user_id").str.ends_with("1")).then(pl.lit("b")).otherwise("offer_id")
    )  # fmt: skip
    found = campaign_effects(frame)
    assert found["offer_id"].to_list() == ["a", "b"]
    assert found["comparison"].to_list() == [200, 200]
    assert found["sent"].sum() == 60


def test_a_small_arm_has_counts_but_no_effect() -> None:
    found = campaign_effects(trials(sent=3, segments=("new",)))
    assert found["sent"].to_list() == [3]
    assert found["lift"].to_list() == [None]


def test_no_trials_give_an_empty_table() -> None:
    assert campaign_effects(trials().clear()).is_empty()


@pytest.mark.slow
def test_pooling_small_campaigns_recovers_a_known_lift_and_covers_it() -> None:
    true, runs, found, covered = 0.1, 60, [], 0
    for run in range(runs):
        frame = pl.concat(
            [trials(100 * run + part, sent=40, campaign=str(part), lift=true) for part in range(6)]
        )
        effects = pool_effects(campaign_effects(frame), CATALOGUE, CLOSED, ("new", "loyal"))
        row = effects.row(0, named=True)
        found.append(row["lift"])
        covered += row["lift_low"] <= true <= row["lift_high"]
    # Three standard errors of the mean of 60 runs (0.05 each), and the pull of the prior at 0.04.
    assert abs(np.mean(found) - true) < 0.02 + 0.005
    # 95 % of 60, less three binomial standard errors.
    assert covered >= 52


def test_a_campaign_after_which_nobody_bought_has_next_to_no_weight() -> None:
    with_it = pooled(measured(lift=0.05), measured(lift=-1.0, lift_se=0.3, campaign_id="2"))
    assert with_it["new", "a"]["lift"] == pytest.approx(
        pooled(measured())["new", "a"]["lift"], abs=0.02
    )


def test_without_trials_every_cell_is_the_catalogues_prior() -> None:
    cells = pooled()
    assert list(cells) == [(segment, offer) for segment in SEGMENTS for offer in ("a", "b")]
    for segment in SEGMENTS:
        assumed, unknown = cells[segment, "a"], cells[segment, "b"]
        assert (assumed["evidence"], unknown["evidence"]) == ("prior", "prior")
        assert (assumed["lift"], unknown["lift"]) == (0.04, 0.0)
        assert assumed["lift_se"] == pytest.approx(1.04 * np.hypot(PRIOR_LIFT_SD, LIFT_SD_FLOOR))
        assert assumed["redemption_rate"] == pytest.approx(0.2)
        assert assumed["cost_per_redemption"] == 3.0
        assert unknown["cost_per_redemption"] == 5.0
        assert "assumes a lift of +4.0%" in assumed["reason"]
        assert "no lift assumed" in unknown["reason"]


def test_an_effect_is_not_known_before_its_trial_closed() -> None:
    assert pooled(measured(), as_of=CLOSED - timedelta(days=1)) == pooled()
    assert pooled(measured())["new", "a"]["evidence"] == "observational"


def test_a_segment_without_a_trial_borrows_from_the_others_with_more_doubt() -> None:
    cells = pooled(measured(lift=0.3), measured(lift=0.32, campaign_id="2", segment="loyal"))
    borrowed, own = cells["dormant", "a"], cells["new", "a"]
    assert borrowed["evidence"] == "prior"
    assert "borrowed" in borrowed["reason"]
    assert borrowed["lift"] == pytest.approx(0.31, abs=0.02)
    assert borrowed["lift_se"] > own["lift_se"]
    assert own["reason"].startswith("measured in 1 campaign: ")


def test_much_evidence_keeps_a_segments_own_rate_cost_and_lift() -> None:
    rows = [
        measured(
            segment=segment, campaign_id=str(campaign), lift=lift, lift_se=1e-4, sent=10**6,
            redeemers=redeemers, redemption_cost=Decimal(redeemers * cost),
        )
        for segment, lift, redeemers, cost in (("new", 0.3, 10**5, 2), ("loyal", -0.1, 10**3, 4))
        for campaign in range(400)
    ]  # fmt: skip
    cells = pooled(*rows)
    for segment, lift, rate, cost in (("new", 0.3, 0.1, 2), ("loyal", -0.1, 0.001, 4)):
        found = cells[segment, "a"]
        assert found["lift"] == pytest.approx(lift, abs=0.002)
        assert found["redemption_rate"] == pytest.approx(rate, rel=0.01)
        assert found["cost_per_redemption"] == pytest.approx(cost, rel=0.01)


def test_randomised_evidence_replaces_observational_evidence_of_the_segment() -> None:
    biased = [measured(lift=0.5, campaign_id=str(number)) for number in range(5)]
    trial = measured(lift=0.02, campaign_id="t", evidence="randomised")
    row = pooled(*biased, trial)["new", "a"]
    assert row["evidence"] == "randomised"
    assert row["lift"] == pytest.approx(0.02, abs=0.01)
    assert row["campaigns"] == 6


def test_campaigns_that_disagree_leave_more_doubt_than_campaigns_that_agree() -> None:
    agree = pooled(*(measured(lift=0.05, campaign_id=str(part)) for part in range(4)))
    disagree = pooled(
        *(measured(lift=0.05 + 0.2 * (-1) ** part, campaign_id=str(part)) for part in range(4))
    )
    assert disagree["new", "a"]["lift_se"] > 2 * agree["new", "a"]["lift_se"]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*SEGMENTS, "unheard_of"]), st.sampled_from(["a", "b", "gone"]),
            st.none() | st.floats(-1.5, 3), st.floats(1e-6, 5), st.integers(1, 500),
            st.integers(0, 500),
        ),
        max_size=8,
    ),
    st.randoms(),
)  # fmt: skip
def test_every_cell_has_a_sound_effect_whatever_was_measured(rows, random) -> None:
    frames = [
        measured(
            segment=segment, offer_id=offer, lift=lift, lift_se=None if lift is None else error,
            sent=sent, redeemers=min(redeemed, sent), campaign_id=str(number),
        )
        for number, (segment, offer, lift, error, sent, redeemed) in enumerate(rows)
    ]  # fmt: skip
    cells = pooled(*frames)
    assert len(cells) == len(SEGMENTS) * 2
    for row in cells.values():
        assert row["lift_low"] < row["lift"] < row["lift_high"]
        assert (
            0
            <= row["redemption_rate_low"]
            <= row["redemption_rate"]
            <= row["redemption_rate_high"]
            <= 1
        )
        assert row["cost_per_redemption"] >= 0
    random.shuffle(frames)
    for key, row in pooled(*frames).items():
        assert row["lift"] == pytest.approx(cells[key]["lift"])
        assert row["reason"] == cells[key]["reason"]
