"""The chart is well-formed, shows every value, and nothing of it lies outside or over something else."""

from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree as ET

from benchmarks import svg as drawn
from benchmarks.chart import chart
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
    assert "no-op: 0.62 \N{MULTIPLICATION SIGN} floor" in shown, "the ratio that was measured, in pairs"


def test_nothing_lies_outside() -> None:
    svg = ET.fromstring(chart(results()))
    width, height = float(svg.attrib["width"]), float(svg.attrib["height"])
    boxes = [box for _, box in texts(svg)]
    for rectangle in svg.iter(f"{SVG}rect"):
        left, top = float(rectangle.get("x", 0)), float(rectangle.get("y", 0))
        boxes.append((left, top, left + float(rectangle.attrib["width"]), top + float(rectangle.attrib["height"])))
    assert all(left >= 0 and top >= 0 and right <= width and bottom <= height for left, top, right, bottom in boxes)


def test_no_text_lies_over_another() -> None:
    for (one, first), (other, second) in combinations(texts(ET.fromstring(chart(results()))), 2):
        apart = first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1]
        assert apart, f"{one!r} lies over {other!r}"


def test_what_is_told_apart_by_colour_is_told_apart_by_a_pattern_too() -> None:
    svg = ET.fromstring(chart(results()))
    patterns = {found.attrib["id"]: found for found in svg.iter(f"{SVG}pattern")}
    fills = [bar.attrib["fill"] for bar in svg.iter(f"{SVG}rect") if "fill" in bar.attrib]
    used = {fill.removeprefix("url(#").removesuffix(")") for fill in fills}
    assert len(used) == len(CAUSES) == drawn.CAUSES
    assert used <= patterns.keys()
    marks = {ET.tostring(patterns[look][1], encoding="unicode") for look in used}
    assert len(marks) == len(used)


def test_every_colour_that_is_named_is_defined_and_those_of_letters_are_readable_on_light_and_dark_pages() -> None:
    style = ET.fromstring(chart(results())).findtext(f"{SVG}style") or ""
    light, dark = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", line)) for line in style.splitlines()[1:3])
    assert set(re.findall(r"var\(--(\w+)\)", chart(results()))) <= light.keys()
    assert dark.keys() <= light.keys()
    for page in (light, light | dark):
        assert min(contrast(page[letters], page["back"]) for letters in ("ink", "faint")) >= 4.5


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
