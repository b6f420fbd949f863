"""The results as one SVG picture: the service beside its floor, and growth coloured by the bottleneck."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import svg

WIDTH = 900
_MARGIN = 24
_COLUMN = (WIDTH - 3 * _MARGIN) // 2
_ABOVE, _BELOW = 50, 22
"""Room of a panel above its bars, for the title and a number, and below them, for a line of labels."""
_GAP = 0.25
"""Part of a bar's width that stays free."""
_ROW = 22
"""Height of a line of the legend."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """Where a panel stands."""

    x: float
    width: float
    y: float = 0
    height: float = 0

    def at(self, y: float, height: float) -> Box:
        """In the same column, there."""
        return replace(self, y=y, height=height)


_LEFT = Box(x=_MARGIN, width=_COLUMN)
_RIGHT = Box(x=_COLUMN + 2 * _MARGIN, width=_COLUMN)
_WHOLE = Box(x=_MARGIN, width=WIDTH - 2 * _MARGIN)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One value."""

    label: str
    value: float
    look: str


@dataclass(frozen=True, kw_only=True)
class Group:
    """Bars that stand together, and what they have in common."""

    bars: Sequence[Bar]
    caption: str = ""


def chart(results: dict[str, Any]) -> str:
    """The whole picture as SVG text."""
    looks = _looks_of_bottlenecks(results["growth"])
    legend_at = 754
    height = legend_at + 20 + _ROW * ((len(looks) + 1) // 2)
    title = "Executions per second and latency of the service beside its floor, and how they grow"
    return svg.document(WIDTH, height, title, _body(results, looks, legend_at))


def _body(results: dict[str, Any], looks: dict[str, str], legend_at: int) -> Iterator[str]:
    figures, growth = results["figures"], results["growth"]
    yield svg.text(_MARGIN, 34, "What the service does, beside what its tables cost", "bold", size=18)
    yield svg.text(_MARGIN, 56, _origin(results), "faint")
    yield svg.text(_MARGIN, 74, "floor: the same rows and events, written by hand without any service code", "faint")
    yield from _panel(_LEFT.at(94, 206), "executions per second (more is better)", _throughput(figures))
    yield from _panel(_RIGHT.at(94, 206), "p50 in ms from submission to end (less is better)", _latency(figures))
    by = "executions per second, by"
    yield from _panel(_WHOLE.at(324, 194), f"{by} executions in flight", _points(growth["in_flight"], looks))
    yield from _panel(_LEFT.at(542, 184), f"{by} worker processes", _points(growth["workers"], looks))
    yield from _panel(_RIGHT.at(542, 184), f"{by} bytes of document", _points(growth["payload_bytes"], looks))
    yield from _legend(_MARGIN, legend_at, looks)


def _origin(results: dict[str, Any]) -> str:
    of = results["machine"]
    versions = f"Python {of['python']}, PostgreSQL {of['postgresql']}"
    return f"{results['taken_at'][:10]}, {of['processors']} processors ({of['processor']}), {versions}"


def _throughput(figures: dict[str, Any]) -> list[Group]:
    return [
        _beside(figures, "no-op", "noop{}_per_second", "noop_ratio"),
        _beside(figures, "3 progress events", "progress{}_per_second", "progress_ratio"),
    ]


def _latency(figures: dict[str, Any]) -> list[Group]:
    return [
        _beside(figures, "one process", "idle{}_p50_ms", "idle_p50_ratio"),
        _beside(figures, "two processes", "across{}_p50_ms", "across_p50_ratio"),
    ]


def _beside(figures: dict[str, Any], caption: str, name: str, ratio: str) -> Group:
    service, floor = figures[name.format("")], figures[name.format("_floor")]
    bars = (Bar(label="service", value=service, look="service"), Bar(label="floor", value=floor, look="floor"))
    return Group(bars=bars, caption=f"{caption}: {figures[ratio]:.2f} \N{MULTIPLICATION SIGN} floor")


def _points(points: Sequence[dict[str, Any]], looks: dict[str, str]) -> list[Group]:
    bars = [
        Bar(label=f"{point['at']:,}", value=point["per_second"], look=looks[point["bottleneck"]]) for point in points
    ]
    return [Group(bars=bars)]


def _looks_of_bottlenecks(growth: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Every bottleneck that occurs, in the order it is met; more than there are looks share the last one."""
    names = dict.fromkeys(point["bottleneck"] for points in growth.values() for point in points)
    return {name: f"cause{min(number, svg.CAUSES - 1)}" for number, name in enumerate(names)}


def _panel(box: Box, title: str, groups: Sequence[Group]) -> Iterator[str]:
    """Groups of bars from zero, side by side, all on one scale."""
    yield svg.text(box.x, box.y + 14, title, "bold")
    has_captions = any(group.caption for group in groups)
    ground = box.y + box.height - _BELOW * (1 + has_captions)
    scale = (ground - box.y - _ABOVE) / max(bar.value for group in groups for bar in group.bars)
    width = box.width / len(groups)
    for number, group in enumerate(groups):
        yield from _group(group, box.x + number * width, width, ground, scale)
    yield svg.rule(box.x, ground, box.width)


def _group(group: Group, x: float, width: float, ground: float, scale: float) -> Iterator[str]:
    """Each bar with its value above and its label below; the caption below those."""
    inset = width / 8 if group.caption else 0
    step = (width - 2 * inset) / len(group.bars)
    for number, bar in enumerate(group.bars):
        left, tall = x + inset + (number + _GAP / 2) * step, max(1.0, bar.value * scale)
        middle = x + inset + (number + 0.5) * step
        yield svg.rectangle(left, ground - tall, step * (1 - _GAP), tall, bar.look)
        yield svg.text(middle, ground - tall - 6, _number(bar.value), anchor="middle")
        yield svg.text(middle, ground + 17, bar.label, "faint", anchor="middle")
    if group.caption:
        yield svg.text(x + width / 2, ground + 17 + _BELOW, group.caption, anchor="middle")


def _legend(x: float, y: float, looks: dict[str, str]) -> Iterator[str]:
    yield svg.text(x, y, "what keeps the throughput from being higher, at each point of growth", "bold")
    for number, (name, look) in enumerate(looks.items()):
        left, top = x + (number % 2) * (_COLUMN + _MARGIN), y + 12 + (number // 2) * _ROW
        yield svg.rectangle(left, top, 20, 13, look)
        yield svg.text(left + 28, top + 11, name)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
