"""The daily page: a day's data into one self-contained HTML file."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promo_assets.report.charts import histogram, interval, line
from promo_assets.report.data import DayReport, Row

if TYPE_CHECKING:
    from jinja2 import Template


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
        programme=next(reversed(report.rows("programme")), None),
        training=report.training,
        rules=_rules(report.rows("rules")),
        checked=next(iter(report.rows("checked")), None),
    )


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
