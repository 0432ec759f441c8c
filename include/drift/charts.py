"""Charts of a drift report as inline SVG: nothing fetched, no script, colours from the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from include.drift.records import Bars

WIDTH, HEIGHT = 440, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 6, 6, 8, 24
MOST_CATEGORIES = 8


def histogram(bars: Bars, title: str, unit: str = "") -> str:
    """Reference and current values over the same bins, each as a share of its own rows.

    The reference is a filled shape in the background, the current rows are bars before it.
    """
    ours, theirs = _shares(bars.reference), _shares(bars.current)
    if bars.labels:
        return _categories(bars.labels, ours, theirs, title)
    peak = max([*ours, *theirs, 1e-9])
    wide = (WIDTH - _LEFT - _RIGHT) / len(ours)
    floor = HEIGHT - _BOTTOM
    rise = (floor - _TOP) / peak
    back = "".join(
        f'<rect class="ref" x="{_LEFT + i * wide:.1f}" y="{floor - share * rise:.1f}" '
        f'width="{wide:.1f}" height="{share * rise:.1f}"/>'
        for i, share in enumerate(ours)
        if share
    )
    front = "".join(
        f'<rect class="cur" x="{_LEFT + i * wide + wide * 0.25:.1f}" '
        f'y="{floor - share * rise:.1f}" width="{wide * 0.5:.1f}" height="{share * rise:.1f}"/>'
        for i, share in enumerate(theirs)
        if share
    )
    ticks = _ticks(bars.edges, unit, floor)
    return _svg(WIDTH, HEIGHT, title, back + front + _line(floor) + ticks)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [count / total for count in counts]


def _ticks(edges: Sequence[float], unit: str, floor: float) -> str:
    low, high = edges[0], edges[-1]
    spots = [(low, "start", _LEFT), ((low + high) / 2, "middle", WIDTH / 2)]
    spots.append((high, "end", WIDTH - _RIGHT))
    suffix = f" {escape(unit)}" if unit else ""
    return "".join(
        f'<text x="{x:.0f}" y="{floor + 18:.0f}" text-anchor="{anchor}">{_short(value)}'
        f"{suffix if anchor == 'end' else ''}</text>"
        for value, anchor, x in spots
    )


def _categories(
    labels: Sequence[str], ours: Sequence[float], theirs: Sequence[float], title: str
) -> str:
    shown = list(zip(labels, ours, theirs, strict=False))[:MOST_CATEGORIES]
    height = 26 * len(shown) + 6
    left, full = 130, WIDTH - 130 - 50
    rows = []
    for number, (label, was, now) in enumerate(shown):
        y = 4 + 26 * number
        name = label if len(label) <= 15 else label[:14] + "…"
        rows.append(
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="ref" x="{left}" y="{y}" width="{was * full:.1f}" height="20"/>'
            f'<rect class="cur" x="{left}" y="{y + 5}" width="{now * full:.1f}" height="10"/>'
            f'<text x="{left + max(was, now) * full + 6:.1f}" y="{y + 15}">{now:.0%}</text>'
        )
    return _svg(WIDTH, height, title, "".join(rows))


def history(sizes: Sequence[float | None], threshold: float, title: str) -> str:
    """How large a difference was, run by run, with the threshold as a dashed line.

    Args:
        sizes: oldest first, None where nothing could be said.
        threshold: what alarms.
        title: what a screen reader says.
    """
    width, height, pad = 150, 36, 4
    known = [min(size, 10 * threshold) for size in sizes if size is not None]
    top = max([*known, threshold * 1.25])
    step = (width - 2 * pad) / max(1, len(sizes) - 1)

    def y(size: float) -> float:
        return height - pad - min(size, 10 * threshold) / top * (height - 2 * pad)

    points = [
        (pad + i * step if len(sizes) > 1 else width / 2, y(size), size)
        for i, size in enumerate(sizes)
        if size is not None
    ]
    path = " ".join(f"{x:.1f},{where:.1f}" for x, where, _ in points)
    dots = "".join(
        f'<circle class="{"over" if size > threshold else "under"}" cx="{x:.1f}" '
        f'cy="{where:.1f}" r="{3 if i == len(points) - 1 else 1.8}"/>'
        for i, (x, where, size) in enumerate(points)
    )
    limit = (
        f'<line class="limit" x1="{pad}" x2="{width - pad}" y1="{y(threshold):.1f}" '
        f'y2="{y(threshold):.1f}"/>'
    )
    return _svg(width, height, title, f'{limit}<polyline points="{path}"/>{dots}', "spark")


def _line(y: float) -> str:
    return f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _svg(width: int, height: int, title: str, body: str, kind: str = "hist") -> str:
    said = escape(title)
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{said}">'
        f"<title>{said}</title>{body}</svg>"
    )
