"""Small charts as inline SVG: a line over days, bars over categories, a histogram, shades.

Pure functions from numbers to markup; colours come from the page's CSS classes, but for shades.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 420, 130, 44, 18, 8
WIDE = 860


def line(days: Sequence[str], values: Sequence[float], label: str, mark: str | None = None) -> str:
    """A line over days, from zero; ``mark`` is the day that is pointed out.

    ``days`` and ``values`` have the same length; at least one.
    """
    top = _ceiling(values)
    step = (WIDTH - LEFT - 8) / max(len(values) - 1, 1)
    points = [(LEFT + index * step, _y(value, top)) for index, value in enumerate(values)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [_axis(top), f'<polyline class="line" points="{path}"/>']
    if mark is not None and mark in days:
        x, y = points[list(days).index(mark)]
        parts.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    base = HEIGHT - 4
    parts.append(f'<text x="{LEFT}" y="{base}">{escape(days[0])}</text>')
    parts.append(f'<text x="{WIDTH - 8}" y="{base}" text-anchor="end">{escape(days[-1])}</text>')
    return _svg(label, parts)


def histogram(names: Sequence[str], values: Sequence[float], label: str) -> str:
    """Upright bars, one a bin, named below."""
    top = _ceiling(values)
    width = (WIDTH - LEFT - 8) / max(len(values), 1)
    parts = [_axis(top)]
    for index, (name, value) in enumerate(zip(names, values, strict=True)):
        x, y = LEFT + index * width, _y(value, top)
        parts.append(
            f'<rect class="bar" x="{x + 1:.1f}" y="{y:.1f}" width="{width - 2:.1f}" '
            f'height="{HEIGHT - BOTTOM - y:.1f}"><title>{escape(name)}: {value:,.0f}</title></rect>'
        )
        parts.append(
            f'<text x="{x + width / 2:.1f}" y="{HEIGHT - 4}" text-anchor="middle">'
            f"{escape(name)}</text>"
        )
    return _svg(label, parts)


def interval(low: float, mid: float, high: float, reach: float) -> str:
    """An interval around its middle on the scale ``-reach..reach``, zero marked."""
    width, height = 150, 16

    def x(value: float) -> float:
        return width / 2 + max(-1.0, min(1.0, value / reach if reach else 0.0)) * (width / 2 - 4)

    return (
        f'<svg class="interval" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{low:,.2f} to {high:,.2f}">'
        f'<line class="zero" x1="{width / 2}" y1="0" x2="{width / 2}" y2="{height}"/>'
        f'<line class="range" x1="{x(low):.1f}" y1="8" x2="{x(high):.1f}" y2="8"/>'
        f'<circle class="mark" cx="{x(mid):.1f}" cy="8" r="3.5"/></svg>'
    )


def shades(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    label: str,
    reach: float,
) -> str:
    """A grid, ``rows`` x ``columns``: blue above zero, orange below, full at ``reach``; each cell
    tells its number to who points at it."""
    left, top, height = 250, 18, 20
    width = (WIDE - left - 4) / max(len(columns), 1)
    parts = [
        f'<text x="{left + (place + 0.5) * width:.1f}" y="12" text-anchor="middle">{escape(name)}'
        "</text>"
        for place, name in enumerate(columns)
    ]
    for line_, (row, told) in enumerate(zip(rows, values, strict=True)):
        y = top + line_ * height
        parts.append(f'<text x="{left - 6}" y="{y + 14}" text-anchor="end">{escape(row)}</text>')
        for place, (name, value) in enumerate(zip(columns, told, strict=True)):
            colour = "#1f6feb" if value > 0 else "#d9730d"
            strength = min(abs(value) / reach, 1.0)
            parts.append(
                f'<rect x="{left + place * width + 1:.1f}" y="{y + 1}" width="{width - 2:.1f}" '
                f'height="{height - 2}" fill="{colour}" fill-opacity="{strength:.2f}">'
                f"<title>{escape(row)}, {escape(name)}: {value:+.2f}</title></rect>"
            )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDE} {top + len(rows) * height}" role="img" aria-label='
        f'"{escape(label, quote=True)}">{"".join(parts)}</svg>'
    )


def standalone(svg: str) -> str:
    """A chart as a file of its own."""
    style = "<style>text{font:10px sans-serif;fill:#5b6675}</style>"
    head, _, rest = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{style}{rest}'


def _svg(label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="'
        f'{escape(label, quote=True)}">{"".join(parts)}</svg>'
    )


def _axis(top: float) -> str:
    base = HEIGHT - BOTTOM
    lines = "".join(
        f'<line class="grid" x1="{LEFT}" y1="{_y(top * share, top):.1f}" x2="{WIDTH - 8}" '
        f'y2="{_y(top * share, top):.1f}"/>'
        f'<text x="{LEFT - 4}" y="{_y(top * share, top) + 4:.1f}" text-anchor="end">'
        f"{_short(top * share)}</text>"
        for share in (0.0, 0.5, 1.0)
    )
    return f'<line class="base" x1="{LEFT}" y1="{base}" x2="{WIDTH - 8}" y2="{base}"/>{lines}'


def _y(value: float, top: float) -> float:
    return TOP + (HEIGHT - BOTTOM - TOP) * (1 - max(value, 0.0) / top)


def _ceiling(values: Sequence[float]) -> float:
    """The axis' end: the next 1, 2, 2.5 or 5 times a power of ten."""
    peak = max(values, default=0.0)
    if peak <= 0:
        return 1.0
    power = 10.0 ** (len(str(int(peak))) - 1) if peak >= 1 else 0.1
    while peak < power:
        power /= 10
    return next(
        factor * power for factor in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if factor * power >= peak
    )


def _short(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:.3g}M"
    return f"{value / 1_000:.3g}k" if value >= 1_000 else f"{value:.3g}"
