"""The results as one SVG picture: the service beside its floor, and growth coloured by the bottleneck."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

WIDTH, HEIGHT = 1000, 800
_MARGIN = 24
_COLUMN = (WIDTH - 3 * _MARGIN) // 2
_ABOVE, _BELOW = 46, 22
"""Room of a panel above its bars, for the title and a number, and below them, for the labels."""
_GAP = 0.25
"""Part of a bar's width that stays free."""
_INK, _FAINT = "#24292f", "#8c959f"
_SERVICE, _FLOOR = "#0072b2", "#b3b9c0"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#555555")
"""Told apart by people who do not see all colours."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """Where a panel stands."""

    x: int
    width: int
    y: int = 0
    height: int = 0

    def at(self, y: int, height: int) -> Box:
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
    colour: str


def chart(results: dict[str, Any]) -> str:
    """The whole picture as SVG text."""
    figures, growth = results["figures"], results["growth"]
    colours = _colours_by_bottleneck(growth)
    parts = [
        *_text(_MARGIN, 34, "What the service does, beside what the tables cost", size=18, weight="bold"),
        *_text(_MARGIN, 54, _origin(results), colour=_FAINT),
        *_panel(_LEFT.at(70, 170), "executions per second, beside the hand-written floor", _throughput(figures)),
        *_panel(_RIGHT.at(70, 170), "milliseconds from submit to completed, p50", _latency(figures)),
        *_panel(_WHOLE.at(260, 200), "per second by executions in flight", _bars(growth["in_flight"], colours)),
        *_panel(_LEFT.at(480, 190), "per second by worker processes", _bars(growth["workers"], colours)),
        *_panel(_RIGHT.at(480, 190), "per second by bytes of document", _bars(growth["payload_bytes"], colours)),
        *_legend(_MARGIN, 704, colours),
    ]
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    style = 'font-family="system-ui, sans-serif" font-size="12"'
    background = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', background, *parts, "</svg>", ""])


def _origin(results: dict[str, Any]) -> str:
    of = results["machine"]
    versions = f"Python {of['python']}, PostgreSQL {of['postgresql']}"
    return f"{results['taken_at'][:10]}, {of['processors']} processors ({of['processor']}), {versions}"


def _throughput(figures: dict[str, Any]) -> list[Bar]:
    return [
        *_beside("no-op", figures["noop_per_second"], figures["noop_floor_per_second"]),
        *_beside("3 progress events", figures["progress_per_second"], figures["progress_floor_per_second"]),
    ]


def _latency(figures: dict[str, Any]) -> list[Bar]:
    return [
        *_beside("one process", figures["idle_p50_ms"], figures["idle_floor_p50_ms"]),
        *_beside("two processes", figures["across_p50_ms"], figures["across_floor_p50_ms"]),
    ]


def _beside(label: str, service: float, floor: float) -> list[Bar]:
    return [Bar(label=label, value=service, colour=_SERVICE), Bar(label="floor", value=floor, colour=_FLOOR)]


def _bars(points: Sequence[dict[str, Any]], colours: dict[str, str]) -> list[Bar]:
    return [
        Bar(label=f"{point['at']:,}", value=point["per_second"], colour=colours[point["bottleneck"]])
        for point in points
    ]


def _colours_by_bottleneck(growth: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Every bottleneck that occurs, in the order it is met; more than there are colours share the last one."""
    names = dict.fromkeys(point["bottleneck"] for points in growth.values() for point in points)
    return {name: _COLOURS[min(number, len(_COLOURS) - 1)] for number, name in enumerate(names)}


def _panel(box: Box, title: str, bars: Sequence[Bar]) -> Iterator[str]:
    """Bars from zero, each with its value above and its label below."""
    yield from _text(box.x, box.y + 14, title, weight="bold")
    ground = box.y + box.height - _BELOW
    scale = (box.height - _ABOVE - _BELOW) / max(bar.value for bar in bars)
    step = box.width / len(bars)
    for number, bar in enumerate(bars):
        left, tall = box.x + (number + _GAP / 2) * step, max(1.0, bar.value * scale)
        middle = box.x + (number + 0.5) * step
        place = f'x="{left:.1f}" y="{ground - tall:.1f}" width="{step * (1 - _GAP):.1f}" height="{tall:.1f}"'
        yield f'<rect {place} rx="2" fill="{bar.colour}"/>'
        yield from _text(middle, ground - tall - 5, _number(bar.value), anchor="middle")
        yield from _text(middle, ground + 16, bar.label, anchor="middle", colour=_FAINT)
    yield f'<line x1="{box.x}" y1="{ground}" x2="{box.x + box.width}" y2="{ground}" stroke="{_FAINT}"/>'


def _legend(x: int, y: int, colours: dict[str, str]) -> Iterator[str]:
    yield from _text(x, y, "bottleneck at each point of growth", weight="bold")
    for number, (name, colour) in enumerate(colours.items()):
        left, top = x + (number % 2) * (_COLUMN + _MARGIN), y + 12 + (number // 2) * 22
        yield f'<rect x="{left}" y="{top}" width="12" height="12" rx="2" fill="{colour}"/>'
        yield from _text(left + 18, top + 10, name)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = _INK, size: int = 12, weight: str = "normal"
) -> Iterator[str]:
    style = f'text-anchor="{anchor}" fill="{colour}" font-size="{size}" font-weight="{weight}"'
    yield f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
