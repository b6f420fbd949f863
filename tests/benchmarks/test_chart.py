"""The chart is well-formed, shows every value, and nothing of it lies outside or over something else."""

from __future__ import annotations

from itertools import combinations
from typing import Any
from xml.etree import ElementTree as ET

from benchmarks.chart import HEIGHT, WIDTH, chart

SVG = "{http://www.w3.org/2000/svg}"
LETTER = 0.58
"""Width of a letter in font sizes, on the wide side."""
CAUSES = [
    "all processors",
    "Python in the process of submitters and worker",
    "Python in the process of submitters",
    "Python in the process of worker 1",
    "one PostgreSQL process",
    "other programs",
    "writing and syncing the WAL",
    "waiting: round trips one after another",
]


def results() -> dict[str, Any]:
    """Every cause there is, and values of the size that is measured."""

    def points(*ats: int) -> list[dict[str, Any]]:
        return [{"at": at, "per_second": 12_345.6 + at, "bottleneck": CAUSES[at % len(CAUSES)]} for at in ats]

    names = ("noop_per_second", "noop_floor_per_second", "progress_per_second", "progress_floor_per_second")
    latencies = ("idle_p50_ms", "idle_floor_p50_ms", "across_p50_ms", "across_floor_p50_ms")
    return {
        "taken_at": "2026-01-02T03:04:05+00:00",
        "machine": {
            "processors": 2,
            "processor": "Some & Sons <3 GHz>",
            "python": "3.11.7",
            "postgresql": "18.4",
        },
        "figures": dict.fromkeys(names, 23_456.7) | dict.fromkeys(latencies, 1.84),
        "growth": {
            "in_flight": points(*(2**power for power in range(10))),
            "workers": points(3, 5, 6),
            "payload_bytes": points(7, 10_241, 204_802),
        },
    }


def texts(svg: ET.Element) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Each text with its box: left, top, right, bottom."""
    found = []
    for text in svg.iter(f"{SVG}text"):
        assert text.text
        size = float(text.attrib["font-size"])
        width = len(text.text) * size * LETTER
        left = float(text.attrib["x"]) - (width / 2 if text.attrib["text-anchor"] == "middle" else 0)
        bottom = float(text.attrib["y"])
        found.append((text.text, (left, bottom - size, left + width, bottom)))
    return found


def test_every_value_is_shown() -> None:
    shown = {text for text, _ in texts(ET.fromstring(chart(results())))}
    assert {"23,457", "1.8", "12,347", "204,802", "512", *CAUSES} <= shown


def test_nothing_lies_outside() -> None:
    svg = ET.fromstring(chart(results()))
    boxes = [box for _, box in texts(svg)]
    for rectangle in svg.iter(f"{SVG}rect"):
        left, top = float(rectangle.get("x", 0)), float(rectangle.get("y", 0))
        boxes.append((left, top, left + float(rectangle.attrib["width"]), top + float(rectangle.attrib["height"])))
    assert all(left >= 0 and top >= 0 and right <= WIDTH and bottom <= HEIGHT for left, top, right, bottom in boxes)


def test_no_text_lies_over_another() -> None:
    for (one, first), (other, second) in combinations(texts(ET.fromstring(chart(results()))), 2):
        apart = first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1]
        assert apart, f"{one!r} lies over {other!r}"
