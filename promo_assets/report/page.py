"""The daily page: a day's data into one self-contained HTML file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promo_assets.contract.segments import SEGMENTS
from promo_assets.report.charts import histogram, interval, line
from promo_assets.report.clusters import in_force, picture_of, with_segments
from promo_assets.report.data import DayReport, Row

if TYPE_CHECKING:
    from jinja2 import Template

TOPICS = 5
"""Of what the model looks at, named on the page."""


def render(report: DayReport) -> str:
    """The day's page as HTML. Values are escaped; charts are inline SVG; nothing is loaded."""
    volumes = report.rows("volumes")
    today = volumes[-1] if volumes and volumes[-1]["day"] == report.day else None
    days = [str(row["day"]) for row in volumes]
    mark = str(report.day)
    charts = {
        name: line(days, [float(row[name] or 0) for row in volumes], title, mark)
        for name, title in (
            ("orders", "Orders a day"),
            ("spend", "Spend a day"),
            ("users", "Active users a day"),
        )
        if volumes
    }
    charts["recency"] = _bins(report, "recency", [*(str(7 * w) for w in range(8)), "56+"])
    charts["frequency"] = _bins(report, "frequency", [*(str(n) for n in range(8)), "8+"])
    charts["budget"] = _curve(report)
    if told := in_force(report.rows("clusters")):
        charts["clusters"] = picture_of(told)
    charts["scores"] = _bins(report, "scores", [f"{n / 10:.1f}" for n in range(10)])
    strategies = report.rows("strategies")
    reach = max(
        (
            float(max(abs(row["expected_margin_low"]), abs(row["expected_margin_high"])))
            for row in strategies
            if row["offer_id"] is not None
        ),
        default=1.0,
    )
    return _template().render(
        report=report,
        today=today,
        charts=charts,
        decisions=[_decision(row, reach) for row in strategies],
        totals=totals(report),
        price=next(iter(report.rows("prices")), None),
        use_cases=list(use_cases(report)),
        programme=next(reversed(report.rows("programme")), None),
        training=report.training,
        looks_at=_looks_at(report.training),
        rules=_rules(report.rows("rules")),
        segments=SEGMENTS,
        clusters=with_segments(report.rows("clusters"), report.rows("cluster_segments")),
        checked=next(iter(report.rows("checked")), None),
    )


def _looks_at(training: Row | None) -> str:
    """What the model rests on: its largest topics and their shares, and what the others make up."""
    told = training and training["looks_at"]
    if not told:
        return ""
    shares = [*json.loads(told).items()]
    others = sum(share for _, share in shares[TOPICS:])
    named = [f"{topic} {share:.0%}" for topic, share in shares[:TOPICS]]
    return ", ".join([*named, f"others {others:.0%}"] if others else named)


def _rules(rows: list[Row]) -> list[dict[str, Any]]:
    """Rules with a picture of their lift: doublings, with the interval."""
    lifts = [[math.log2(row[name]) for name in ("lift_low", "lift", "lift_high")] for row in rows]
    reach = max((high for _, _, high in lifts), default=1.0)
    return [
        dict(row) | {"chart": interval(low, mid, high, reach)}
        for row, (low, mid, high) in zip(rows, lifts, strict=True)
    ]


def totals(report: DayReport) -> dict[str, Any]:
    """The day's decision in four numbers. Effects are shared by the users of a segment and offer,
    so the intervals of offers add up (as if they all erred the same way): the careful choice."""
    offered = [row for row in report.rows("strategies") if row["offer_id"] is not None]
    return {
        name: sum(float(row[column]) for row in offered)
        for name, column in (
            ("audience", "audience"),
            ("held_out", "held_out"),
            ("explored", "explored"),
            ("exploration_cost", "exploration_cost"),
            ("cost", "expected_cost"),
            ("margin", "expected_margin"),
            ("low", "expected_margin_low"),
            ("high", "expected_margin_high"),
        )
    }


def use_cases(report: DayReport) -> Iterator[tuple[str, str]]:
    """What merchandisers ask offers for, and where each stands: a name and what is known."""
    yield "New users", _audience(report, ("new",))
    yield "Retention", _audience(report, ("at_risk", "dormant"))
    depths = report.rows("depths")
    for shallow, deep in pairwise(depths):
        if shallow["kind"] == deep["kind"] and shallow["value"] < deep["value"]:
            yield f"{shallow['offer']} or {deep['offer']}?", _deeper(shallow, deep)
    baskets = [row for row in report.rows("baskets") if row["median"] is not None]
    usual = ", ".join(
        f"{row['segment'].replace('_', ' ')} {row['median']:,.2f} to {row['upper']:,.2f}"
        for row in baskets
    )
    for row in report.rows("thresholds"):
        yield (
            row["offer"],
            f"asks for {row['min_spend']:,.2f}; {row['below']:.0%} of buyers have a smaller usual "
            "basket. A threshold stretches baskets that lie a little below it: between the median "
            f"and the upper quartile, which are {usual}",
        )


def _audience(report: DayReport, segments: Sequence[str]) -> str:
    """What goes to these segments, and what of it is expected."""
    rows = [row for row in report.rows("strategies") if row["segment"] in segments]
    offered = [row for row in rows if row["offer_id"] is not None]
    if not rows:
        return "nobody is in this segment"
    if not any(row["audience"] or row["explored"] for row in offered):
        why = next(row["reason"] for row in rows if row["offer_id"] is None)
        return f"no offer: {why.partition(': ')[2] or why}"
    total = {
        name: sum(float(row[name]) for row in offered)
        for name in ("audience", "explored", "expected_margin", "expected_cost", "exploration_cost")
    }
    told = [
        f"{total['explored']:,.0f} get one at random to learn, {total['exploration_cost']:,.2f}"
    ]
    if total["audience"]:
        told.insert(
            0,
            f"{total['audience']:,.0f} get an offer to earn: margin "
            f"{total['expected_margin']:,.2f} for {total['expected_cost']:,.2f}",
        )
    return "; ".join(told)


def _deeper(shallow: Row, deep: Row) -> str:
    """Whether the deeper discount brings more than the shallower one."""
    told = "; ".join(
        f"{row['offer']} {row['lift']:+.1%} ({row['lift_low']:+.1%} to {row['lift_high']:+.1%})"
        f" at {float(row['cost'] or 0):,.2f} a user"
        for row in (shallow, deep)
    )
    if not shallow["is_randomised"] or not deep["is_randomised"]:
        return f"not known yet: no randomised trial of both has closed; hints: {told}"
    if deep["lift_low"] > shallow["lift_high"]:
        return f"the deeper one brings more: {told}"
    if deep["lift_high"] < shallow["lift_low"]:
        return f"the shallower one brings more, for less: {told}"
    return f"no difference can be seen: {told}"


def _curve(report: DayReport) -> str:
    price = next(iter(report.rows("prices")), None)
    if price is None:
        return ""
    budgets, earned = zip(*json.loads(price["curve"]), strict=True)
    if not any(earned):
        return ""
    names = [f"{budget:,.0f}" for budget in budgets]
    return line(names, [max(money, 0.0) for money in earned], "Net margin by budget", names[4])


def write(report: DayReport, folder: Path) -> Path:
    """Write the page as ``<day>.html``; a reader never sees half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.day}.html"
    draft = path.with_suffix(".html.part")
    draft.write_text(render(report), encoding="utf-8")
    draft.replace(path)
    return path


def _decision(row: Row, reach: float) -> dict[str, Any]:
    """A strategy's row with its interval drawn, and a reason that leaves out what columns say."""
    if row["offer_id"] is None:
        return {**row, "why": row["reason"].partition(": ")[2] or row["reason"], "interval": ""}
    low, mid, high = (float(row[f"expected_margin{end}"]) for end in ("_low", "", "_high"))
    why = row["measured"] or row["reason"]
    return {**row, "why": why, "interval": interval(low, mid, high, reach)}


def _bins(report: DayReport, topic: str, names: list[str]) -> str:
    counts = dict.fromkeys(range(len(names)), 0)
    for row in report.rows(topic):
        counts[row["bin"]] += row["users"]
    if not any(counts.values()):
        return ""
    return histogram(names, list(counts.values()), f"Users by {topic}")


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("promo_assets.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["money"] = lambda value: f"{float(value):,.2f}"
    environment.filters["count"] = lambda value: f"{int(value):,}"
    environment.filters["percent"] = lambda value: f"{100 * float(value):.1f} %"
    return environment.get_template("daily.html.j2")
