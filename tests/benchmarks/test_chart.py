"""The chart is well-formed, shows every value, and nothing of it lies outside or over something else."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree as ET

from benchmarks.chart import HEIGHT, WIDTH, chart
from tests.benchmarks.sample import CAUSES, results

SVG = "{http://www.w3.org/2000/svg}"
LETTER = 0.58
"""Width of a letter in font sizes, on the wide side."""


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
