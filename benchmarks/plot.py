"""Small SVG figures of benchmark results, readable on light and on dark pages.

Written by hand: a few rectangles and words need no plotting library, and the files stay small
enough to be kept and compared as text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.measure import Spread

COLOURS = ("#d9822b", "#2f81c4", "#3fa37c", "#a466b8", "#c9534f")
"""Told apart by most people who see colours differently, and on both backgrounds."""
LABELS, WIDTH, BAR, GAP, TOP = 190, 720, 18, 12, 58
"""Pixels: width of the labels' column, of the figure, of a bar; between groups; above them."""
_STYLE = """<style>
text{font:13px system-ui,sans-serif;fill:#24292f}
.title{font-weight:600;font-size:15px}.axis{stroke:#8b949e;stroke-width:1}
.grid{stroke:#8b949e;stroke-opacity:.3}.whisker{stroke:#24292f;stroke-width:1.3}
.small{font-size:11px}.on{fill:#fff}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.whisker{stroke:#e6edf3}.on{fill:#fff}}
</style>"""

Groups = Mapping[str, Mapping[str, Spread]]


def bars(title: str, unit: str, groups: Groups) -> str:
    """Draw horizontal bars with whiskers from the lowest to the highest run.

    Args:
        title: above the figure.
        unit: of the values, below the axis.
        groups: group to series to value; every series has one colour in all groups.

    Returns:
        The SVG document.
    """
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    highest = max(value.high for group in groups.values() for value in group.values())
    ticks = _ticks(highest)
    scale = (WIDTH - LABELS - 70) / max(ticks[-1], highest, 1e-9)
    out, y = _legend(names), TOP
    for label, group in groups.items():
        middle = y + len(group) * BAR / 2 + 4
        out.append(
            f'<text x="{LABELS - 10}" y="{middle:.0f}" text-anchor="end">{escape(label)}</text>'
        )
        for name, value in group.items():
            out += _bar(y, value, scale, COLOURS[names.index(name) % len(COLOURS)])
            y += BAR
        y += GAP
    for tick in ticks:
        x = LABELS + tick * scale
        out.insert(0, f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{y - 4}"/>')
        out.append(
            f'<text class="small" x="{x:.1f}" y="{y + 10}" text-anchor="middle">{tick:g}</text>'
        )
    out.append(f'<line class="axis" x1="{LABELS}" x2="{LABELS}" y1="{TOP - 6}" y2="{y - 4}"/>')
    out.append(f'<text class="small" x="{LABELS}" y="{y + 26}">{escape(unit)}</text>')
    return _document(title, y + 34, out)


def grid(title: str, rows: str, columns: str, cells: Mapping[tuple[str, str], Spread]) -> str:
    """Draw a table of values whose cells are the darker the higher they are.

    Args:
        title: above the figure.
        rows: what the rows are.
        columns: what the columns are.
        cells: (row, column) to value, in the order they are to be shown.

    Returns:
        The SVG document.
    """
    down, across = (list(dict.fromkeys(key[axis] for key in cells)) for axis in (0, 1))
    highest = max(value.median for value in cells.values())
    wide, high = (WIDTH - LABELS - 20) / len(across), 44
    out = [f'<text class="small" x="{LABELS}" y="44">{escape(columns)} →</text>']
    out.append(f'<text class="small" x="10" y="{TOP + 10}">{escape(rows)} ↓</text>')
    for number, name in enumerate(across):
        x = LABELS + (number + 0.5) * wide
        out.append(f'<text x="{x:.1f}" y="{TOP + 10}" text-anchor="middle">{escape(name)}</text>')
    for number, name in enumerate(down):
        y = TOP + 20 + number * high
        out.append(f'<text x="{LABELS - 10}" y="{y + 26}" text-anchor="end">{escape(name)}</text>')
        for place, column in enumerate(across):
            value = cells.get((name, column))
            if value is not None:
                out += _cell(LABELS + place * wide, y, (wide, high), value, highest)
    return _document(title, TOP + 30 + len(down) * high, out)


def save(path: Path, figure: str) -> None:
    """Write a figure, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(figure, encoding="utf-8")


def _bar(y: float, value: Spread, scale: float, colour: str) -> list[str]:
    middle, height = y + BAR / 2, BAR - 4
    low, high = LABELS + value.low * scale, LABELS + value.high * scale
    at, end = f'y="{y + 2:.1f}" height="{height}"', max(high, LABELS + value.median * scale) + 8
    return [
        f'<rect x="{LABELS}" {at} width="{value.median * scale:.1f}" rx="2" fill="{colour}"/>',
        f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text class="small" x="{end:.1f}" y="{middle + 4}">{value.median:.3g}</text>',
    ]


def _cell(
    x: float, y: float, size: tuple[float, float], value: Spread, highest: float
) -> list[str]:
    strength = 0.45 + 0.55 * value.median / max(highest, 1e-9)
    centre = f'x="{x + size[0] / 2:.1f}" text-anchor="middle"'
    inner = f'width="{size[0] - 4:.1f}" height="{size[1] - 4:.1f}"'
    return [
        f'<rect x="{x + 2:.1f}" y="{y + 2:.1f}" {inner} rx="3" fill="#1f5f99"'
        f' fill-opacity="{strength:.2f}"/>',
        f'<text class="on" {centre} y="{y + 20:.1f}">{value.median:.3g}</text>',
        f'<text class="on small" {centre} y="{y + 34:.1f}">'
        f"{value.low:.3g} to {value.high:.3g}</text>",
    ]


def _legend(names: Sequence[str]) -> list[str]:
    out, x = [], LABELS
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        out.append(f'<rect x="{x}" y="34" width="12" height="12" rx="2" fill="{colour}"/>')
        out.append(f'<text class="small" x="{x + 17}" y="44">{escape(name)}</text>')
        x += 34 + round(6.5 * len(name))
    return out


def _ticks(highest: float) -> list[float]:
    """Round values from 0 to just under or at the highest, four to eight of them."""
    step = 10.0 ** math.floor(math.log10(max(highest, 1e-9) / 4))
    step = next(step * times for times in (1, 2, 5, 10) if highest / (step * times) <= 8)
    return [round(number * step, 10) for number in range(int(highest / step) + 1)]


def _document(title: str, height: float, parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">'
    )
    name = f'<text class="title" x="10" y="20">{escape(title)}</text>'
    return "\n".join([head, _STYLE, name, *parts, "</svg>"]) + "\n"
