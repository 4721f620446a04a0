"""The daily page: complete, before there is a model, without data; self-contained and escaped."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.report.data import DayReport, read_days
from promo_assets.report.page import render, totals, use_cases, write
from promo_assets.settings import Settings

if TYPE_CHECKING:
    from tests.support.shop import Shop

DAY = date(2024, 1, 30)
VOID = {"meta", "br"}
EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """What a browser would make of a page: its tags, its text, what it would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "action")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(html: str) -> Page:
    """The page, after what must hold of every page."""
    page = Page(html)
    assert page.open == []
    assert page.loads == []
    assert "script" not in page.tags
    assert not re.search(r"https?://|@import|url\(", html)
    return page


def report_of(shop: Shop, day: date) -> DayReport:
    with installation.reading(shop.settings) as read:
        (report,) = read_days(read, Window(day, day + timedelta(days=1)))
    return report


def test_a_day_with_all_tables_shows_what_we_do_in_every_segment(thirty_days: Shop) -> None:
    report = report_of(thirty_days, DAY)
    page = checked(render(report))
    strategies = thirty_days.query(
        "select distinct segment from strategy.segment_strategy where as_of_date = '2024-01-30'"
    )
    assert strategies
    for (segment,) in strategies:
        assert segment.replace("_", " ") in page.text
    assert page.tags.count("svg") >= 3
    ((audience, cost),) = thirty_days.query(
        "select sum(audience), sum(expected_cost) from strategy.segment_strategy"
        " where as_of_date = '2024-01-30' and offer_id is not null"
    )
    assert totals(report)["audience"] == audience
    assert totals(report)["cost"] == pytest.approx(float(cost))


def test_clusters_are_drawn_and_told_by_segment_or_why_there_are_none(thirty_days: Shop) -> None:
    report = report_of(thirty_days, DAY)
    told = checked(render(report)).text
    assert "Everybody is one group: too few users." in told
    cluster = report.rows("clusters")[0] | {
        "cluster": 3,
        "name": "often, at a discount",
        "profile": "7 orders in 90 days (all: 4)",
        "reason": None,
        "fitted_on": DAY,
        "stability": 0.91,
        "silhouette": 0.4,
        "silhouette_by_chance": 0.2,
        "definition": '{"orders": [0.75, 1, 1, 1], "discount": [-0.5, 1, 1, 1]}',
    }
    segments = [{"cluster": 3, "segment": "loyal", "users": 1234}]
    topics = {**report.topics, "clusters": [cluster], "cluster_segments": segments}
    html = render(replace(report, topics=topics))
    page = checked(html)
    for words in ("3. often, at a discount", "7 orders in 90 days (all: 4)", "1,234", "0.91"):
        assert words in page.text
    assert "often, at a discount, orders: +0.75" in html
    assert (
        "No groups were published" in checked(render(report_of(thirty_days, date(2024, 1, 2)))).text
    )


def test_a_day_before_the_first_model_says_so(thirty_days: Shop) -> None:
    page = checked(render(report_of(thirty_days, date(2024, 1, 2))))
    assert "No model scored this day" in page.text


def test_a_day_without_any_table_is_a_page_too(tmp_path: Path) -> None:
    with installation.reading(Settings(home=tmp_path)) as read:
        (report,) = read_days(read, Window(DAY, DAY + timedelta(days=1)))
    page = checked(render(report))
    assert "No strategy was published for this day" in page.text
    assert "nothing was published for the day" in page.text


def test_rules_are_shown_with_a_picture_from_the_week_after_they_were_learned(
    open_shop: Shop,
) -> None:
    columns = (
        "week, level, rule_rank, antecedent, antecedent_size, consequent, baskets, confidence,"
        " lift, lift_low, lift_high, tests"
    )
    open_shop.query(
        f"insert into recommendations.basket_rules ({columns}) values"
        " (date '2024-01-15', 'category', 1, 'HOT DOGS', 1, 'BUNS', 900, .5, 4, 3, 5, 70)"
    )
    rules = report_of(open_shop, date(2024, 1, 22)).rows("rules")
    assert [row["consequent"] for row in rules] == ["BUNS"]
    page = checked(render(DayReport(DAY, {"rules": rules})))
    for shown in ("HOT DOGS", "BUNS", "3.00 to 5.00", "70 tested"):
        assert shown in page.text
    assert "svg" in page.tags
    assert report_of(open_shop, date(2024, 1, 21)).rows("rules") == []


def test_a_day_that_waits_says_for_what_and_is_never_green(tmp_path: Path) -> None:
    told = "waits for core.events of 2024-01-09 (42 of 335 rows: unknown event type 'vieww')"
    with installation.reading(Settings(home=tmp_path)) as read:
        waits = {DAY: (told,)}
        (report,) = read_days(read, Window(DAY, DAY + timedelta(days=1)), waits)
    page = checked(render(report))
    assert f"No strategy was published for this day: it {told}." in page.text
    assert f"The day {told}." in page.text
    assert "passed" not in page.text
    assert "Every expectation of the day was met" not in page.text


def test_days_read_together_are_those_read_alone(thirty_days: Shop) -> None:
    with installation.reading(thirty_days.settings) as read:
        together = list(read_days(read, Window(date(2024, 1, 5), date(2024, 1, 8))))
    for report in together:
        assert render(report) == render(report_of(thirty_days, report.day))


def test_a_drift_is_told_beside_the_model_where_its_gate_warns(open_shop: Shop) -> None:
    day = open_shop.day(29)
    columns = "as_of_date, feature, psi, judged, drifted"
    open_shop.query(
        f"insert into propensity.drift ({columns}) values (date '{day}', 'score', .31, true, true),"
        f" (date '{day}', 'views_7d', 2, true, true), (date '{day}', 'views_1d', 3, false, true)"
    )
    report = report_of(open_shop, day)
    topics = {
        "drift": report.rows("drift"),
        "scores": [{"model_version": 1, "bin": 3, "users": 2}],
        "trainings": [defaultdict(float, model_version=1)],
    }
    quiet = DayReport(day, topics)
    finding = {"severity": "warning", "table_name": "propensity.drift", "expectation": "one"}
    warned = DayReport(day, topics | {"findings": [finding | {"row_count": 1}]})
    told = "PSI of the score 0.31; 1 of 1 features have drifted, most of all views_7d."
    assert told in checked(render(warned)).text
    assert told not in checked(render(quiet)).text


@pytest.mark.parametrize(
    ("looks_at", "told"),
    [
        ('{"orders": 0.62, "rhythm": 0.38}', "in its scores: orders 62%, rhythm 38%."),
        (
            '{"orders": 0.4, "a": 0.2, "b": 0.15, "c": 0.1, "d": 0.08, "e": 0.05, "f": 0.02}',
            "orders 40%, a 20%, b 15%, c 10%, d 8%, others 7%.",
        ),
    ],
)
def test_what_the_model_looks_at_stands_beside_it(looks_at: str, told: str) -> None:
    training = defaultdict(float, model_version=1, looks_at=looks_at)
    scores = [{"model_version": 1, "bin": 3, "users": 2}]
    page = checked(render(DayReport(DAY, {"scores": scores, "trainings": [training]})))
    assert told in page.text


@pytest.mark.parametrize("looks_at", [None, "{}"])
def test_a_model_of_which_nothing_is_known_is_shown_without(looks_at: str | None) -> None:
    training = defaultdict(float, model_version=1, looks_at=looks_at)
    scores = [{"model_version": 1, "bin": 3, "users": 2}]
    page = checked(render(DayReport(DAY, {"scores": scores, "trainings": [training]})))
    assert "AUC" in page.text
    assert "looks at" not in page.text


def test_values_are_text_never_markup(thirty_days: Shop) -> None:
    report = report_of(thirty_days, DAY)
    strategy = {**report.rows("strategies")[0], "reason": EVIL, "offer_id": EVIL, "segment": EVIL}
    finding = {
        "severity": "warning",
        "table_name": EVIL,
        "expectation": EVIL,
        "row_count": None,
    }
    topics = {**report.topics, "strategies": [strategy], "findings": [finding]}
    page = checked(render(DayReport(DAY, topics)))
    assert page.text.count(EVIL) >= 3


def test_the_file_is_replaced_whole_or_not_at_all(
    thirty_days: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = report_of(thirty_days, DAY)
    path = write(report, tmp_path)
    assert path == tmp_path / "2024-01-30.html"
    before = path.read_text(encoding="utf-8")
    assert before == render(report)

    def full_disk(draft: Path, *_: object, **__: object) -> None:
        with draft.open("w") as file:
            file.write("half a page")
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space"):
        write(report, tmp_path)
    assert path.read_text(encoding="utf-8") == before


def depth(
    offer: str, value: int, low: float, high: float, is_randomised: bool = True
) -> dict[str, object]:
    return {
        "offer": offer, "kind": "percent_off", "value": value, "sent": 100, "cost": value / 10,
        "is_randomised": is_randomised,
        "lift_low": low, "lift": (low + high) / 2, "lift_high": high,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("shallow", "deep", "told"),
    [
        ((0.0, 0.1), (0.2, 0.3), "the deeper one brings more"),
        ((0.2, 0.3), (0.0, 0.1), "the shallower one brings more"),
        ((0.0, 0.2), (0.1, 0.3), "no difference can be seen"),
        ((0.0, 0.2, False), (0.1, 0.3), "not known yet"),
    ],
)
def test_a_deeper_discount_is_only_better_where_intervals_say_so(
    shallow: tuple[float, ...], deep: tuple[float, ...], told: str
) -> None:
    depths = [depth("10 %", 10, *shallow), depth("20 %", 20, *deep)]
    said = dict(use_cases(DayReport(DAY, {"depths": depths})))
    assert said["10 % or 20 %?"].startswith(told)


def test_thresholds_stand_beside_usual_baskets() -> None:
    topics = {
        "thresholds": [{"offer": "10 from 50", "min_spend": 50, "below": 0.63}],
        "baskets": [{"segment": "at_risk", "median": 38.0, "upper": 61.5}],
    }
    told = dict(use_cases(DayReport(DAY, topics)))["10 from 50"]
    assert "63% of buyers have a smaller usual basket" in told
    assert "at risk 38.00 to 61.50" in told
