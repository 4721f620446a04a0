"""Gates of recommendations: each expectation finds what it says, alone, and blocks its days."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from promo_assets import installation
from promo_assets.contract.project import EXPECTATIONS
from promo_assets.contract.tables import TableContract, load_contracts
from promo_assets.gates.audit import Auditor, Verdict
from promo_assets.gates.suites import suite_of
from promo_assets.strategy.allocation.decisions import NO_CONSENT, OTHER_ACCOUNT
from tests.support.shop import FIRST

if TYPE_CHECKING:
    from tests.support.shop import Shop

CONTRACTS = {
    contract.table_name: contract
    for contract in load_contracts(EXPECTATIONS).values()
    if contract.schema_name == "recommendations"
}
CHANGED = ("core.consents", "core.identities", "core.items", "core.offers", "strategy.assignments")
"""Published tables that mutations change."""
LAST = "date '2024-01-30'"
OF_SOMEBODY = f"(select min(user_id) from staging.audited where as_of_date = {LAST})"
A_RULE = "update staging.audited set {} where level = 'product'"
"""The one that `Gates` puts there: a shop of twelve items has none."""
WITHOUT_OFFER = (
    "where arm = 'none' and (as_of_date, user_id) in"
    " (select (as_of_date, user_id) from staging.audited)"
)

MUTATIONS: dict[str, list[tuple[str, str]]] = {
    "basket_rules": [
        ("level in set ['product', 'type', 'category']", A_RULE.format("level = 'shop'")),
        ("rules_mean_what_they_say", A_RULE.format("lift = 2")),
        ("rules_mean_what_they_say", A_RULE.format("q_value = 0.06")),
        ("ranks_have_no_gap", A_RULE.format("rule_rank = 2")),
    ],
    "blends": [
        ("weights_are_sane", "update staging.audited set purchases = -1"),
        ("weights_are_sane", "update staging.audited set recall = 1.1"),
    ],
    "item_neighbours": [
        ("neighbours_are_ranked", "update staging.audited set neighbour_id = item_id"),
        (
            "neighbours_are_ranked",
            "update staging.audited set similarity = 1.1 where neighbour_rank = 2",
        ),
    ],
    "item_popularity": [
        ("popularity_is_ranked", "update staging.audited set share = 0 where popularity_rank = 3"),
        (
            "popularity_is_ranked",
            "update staging.audited set popularity_rank = 99 where popularity_rank = 2",
        ),
    ],
    "user_items": [
        (
            "kind in set ['repeat', 'explore', 'complement']",
            "delete from staging.audited where kind = 'explore' and kind_rank > 3;"
            " update staging.audited set kind = 'other' where kind = 'explore'",
        ),
        (
            "lists_are_in_order",
            "update staging.audited set score = 1000 where kind_rank = 2",
        ),
        (
            "lists_are_in_order",
            "update staging.audited set item_id = 'item-0' where kind = 'repeat'",
        ),
        (
            "kinds_are_apart",
            "update staging.audited set times_bought = 0 where kind = 'repeat'",
        ),
        (
            "nobody_without_consent_is_listed",
            f"insert into core.consents values ({OF_SOMEBODY}, 'account', 'marketing', false,"
            f" {LAST})",
        ),
        (
            "nobody_without_consent_is_listed",
            "insert into core.identities (as_of_date, identifier, kind, user_id, status)"
            f" values ({LAST}, {OF_SOMEBODY}, 'account', 'uSomebodyElse', 'merged')",
        ),
        (
            "users_dealt_with_items",
            f"update staging.audited set user_id = 'uNobody' where as_of_date = {LAST}"
            f" and user_id = {OF_SOMEBODY}",
        ),
        (
            "items_can_be_bought",
            "insert into core.items (item_id, in_stock)"
            " select min(item_id), false from staging.audited",
        ),
        ("users_are_covered", f"delete from staging.audited where as_of_date = {LAST}"),
    ],
    "user_offers": [
        ("offers_are_in_order", "update staging.audited set offer_rank = offer_rank + 1"),
        (
            "offers_are_in_order",
            "update staging.audited set expected_value = 10000 where offer_rank = 2",
        ),
        (
            "assigned_offers_are_those_of_assignments",
            "update staging.audited set is_assigned = false",
        ),
        (
            "assigned_offers_are_those_of_assignments",
            "update staging.audited set items_reason = null",
        ),
        (
            "offers_are_in_the_catalogue",
            "update staging.audited set offer_id = 'gone' where not is_assigned"
            " and offer_id = 'letter'",
        ),
        (
            "nobody_without_consent_is_offered",
            f"update strategy.assignments set reason = '{NO_CONSENT}' {WITHOUT_OFFER}",
        ),
        (
            "nobody_without_consent_is_offered",
            f"update strategy.assignments set reason = '{OTHER_ACCOUNT}' {WITHOUT_OFFER}",
        ),
        (
            "nobody_without_consent_is_offered",
            f"delete from strategy.assignments {WITHOUT_OFFER}",
        ),
        *(
            ("the_catalogues_conditions_hold", f"update core.offers set {condition}")
            for condition in (
                "valid_until = date '2024-01-10'",
                "valid_from = date '2024-01-10'",
                "eligible_segments = 'nobody'",
                "eligible_lifecycle = 'gone'",
                "eligible_channels = 'fax'",
                "eligible_categories = 'nothing'",
                "min_orders = 1000",
                "max_orders = -1",
                "pause_days_after_purchase = 1000",
                "keeps_margin = true, liability = 100000",
            )
        ),
        *(
            ("caps_pauses_and_coupons_hold", f"update core.offers set {condition}")
            for condition in (
                "cap_times = 1, cap_days = 60, cap_of = 'any'",
                "max_open_coupons = 1",
                "exclusive_group = 'all'",
            )
        ),
        ("no_offer_is_exhausted", "update core.offers set stock = 1"),
    ],
}


class Gates:
    """One auditor over an installation whose published rows are staged anew for each audit."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.warehouse = installation.warehouse(shop.settings)
        self.auditor = Auditor(self.warehouse, None)
        self.execute(
            "create schema kept",
            *(f"create table kept.{name.replace('.', '_')} as from {name}" for name in CHANGED),
            "insert into recommendations.basket_rules values (date '2024-01-08', 'product', 1, 'a',"
            " 1, 'b', 40, 50, 30, 200, 0, 0.15, 0.75, 0.6, 0.85, 3.0, 2.3, 3.9, 0.1, 3.0, 1e-9,"
            " 1e-8, 10)",
        )

    def execute(self, *statements: str) -> None:
        with self.warehouse.get_connection() as connection:
            for statement in statements:
                connection.execute(statement)

    def audit(self, contract: TableContract, mutation: str = "") -> Verdict:
        """The verdict on what is published of the shop's weeks, or of its days after the first
        week, in which nothing is popular yet, once ``mutation`` went over it."""
        first, last = (0, 28) if contract.window == "week" else (7, 30)
        window = (FIRST + timedelta(days=first), FIRST + timedelta(days=last))
        self.execute(
            f"create or replace table staging.audited as from {contract.table}"
            f" where {contract.window} >= date '{window[0]}'"
        )
        try:
            self.execute(*filter(None, [mutation]))
            return self.auditor.audit(contract, "staging.audited", window)
        finally:
            for name in CHANGED:
                kept = name.replace(".", "_")
                self.execute(f"truncate {name}", f"insert into {name} from kept.{kept}")


@pytest.fixture(scope="module")
def gates(thirty_days: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gates]:
    gates = Gates(thirty_days.copy(tmp_path_factory.mktemp("gates") / "shop"))
    yield gates
    gates.auditor.close()


@pytest.mark.parametrize("table", CONTRACTS)
def test_what_is_published_passes(gates: Gates, table: str) -> None:
    verdict = gates.audit(CONTRACTS[table])
    assert verdict.rows
    assert verdict.failed == ()


@pytest.mark.parametrize(
    ("table", "title", "mutation"),
    [(table, *found) for table, mutations in MUTATIONS.items() for found in mutations],
)
def test_each_expectation_finds_what_it_says_and_no_other_does(
    gates: Gates, table: str, title: str, mutation: str
) -> None:
    verdict = gates.audit(CONTRACTS[table], mutation)
    (found,) = verdict.failed
    assert found.expectation == title
    assert found.days
    warns = title == "users_are_covered"
    assert verdict.blocked_days == frozenset(() if warns else found.days)
    assert verdict.warned_days == frozenset(found.days if warns else ())


def test_a_refusal_blocks_its_day_and_no_other(gates: Gates) -> None:
    refused = dict(MUTATIONS["user_items"])["nobody_without_consent_is_listed"]
    assert gates.audit(CONTRACTS["user_items"], refused).blocked_days == {date(2024, 1, 30)}


@pytest.mark.parametrize("table", CONTRACTS)
def test_every_expectation_has_a_mutation(table: str) -> None:
    own = suite_of(CONTRACTS[table])[-len(CONTRACTS[table].expectations) :]
    assert {rule.title for rule in own} == {title for title, _ in MUTATIONS[table]}
