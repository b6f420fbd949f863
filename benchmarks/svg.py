"""What the chart is drawn with: text and shapes of SVG, in colours for light and for dark pages."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

SIZE = 13
"""Of a letter, in pixels."""
CAUSES = 8
"""Looks that can be told apart."""

_LIGHT = {
    "back": "#ffffff",
    "ink": "#1f2328",
    "faint": "#57606a",
    "service": "#0072b2",
    "cause0": "#009e73",
    "cause1": "#d55e00",
    "cause2": "#cc79a7",
    "cause3": "#e69f00",
    "cause4": "#56b4e9",
    "cause5": "#8c6d31",
    "cause6": "#0072b2",
    "cause7": "#6e7781",
}
_DARK = {"back": "#0d1117", "ink": "#e6edf3", "faint": "#9198a1", "service": "#3d9bd6", "cause6": "#3d9bd6"}
"""Those that differ there."""
_MARKS = (
    "",
    '<path d="M-2 2 L2 -2 M0 8 L8 0 M6 10 L10 6"/>',
    '<circle cx="4" cy="4" r="1.6"/>',
    '<path d="M-2 6 L2 10 M0 0 L8 8 M6 -2 L10 2"/>',
    '<path d="M0 4 L8 4"/>',
    '<path d="M4 0 L4 8"/>',
    '<path d="M0 4 L8 4 M4 0 L4 8"/>',
    '<circle cx="2" cy="2" r="1"/><circle cx="6" cy="6" r="1"/>',
)
"""One for each look, so that a print without colours tells them apart, too."""


def document(width: int, height: int, title: str, body: Iterator[str]) -> str:
    """A whole picture; `title` is for those who hear it."""
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="system-ui, sans-serif">'
    background = f'<rect width="{width}" height="{height}" class="back"/>'
    return "\n".join([opening, f"<title>{escape(title)}</title>", *_style(), background, *body, "</svg>", ""])


def text(x: float, y: float, content: str, look: str = "ink", *, anchor: str = "start", size: int = SIZE) -> str:
    """One line of text, `y` its base line."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f'<text {place} class="{look}">{escape(content)}</text>'


def rectangle(x: float, y: float, width: float, height: float, look: str) -> str:
    """A bar, or the sample of one."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    fill = f' fill="url(#{look})"' if look.startswith("cause") else ""
    return f'<rect {place} class="bar {look}"{fill}/>'


def rule(x: float, y: float, width: float) -> str:
    """The line that bars stand on."""
    return f'<path d="M{x:.1f} {y:.1f} h{width:.1f}" class="line"/>'


def _style() -> Iterator[str]:
    yield "<style>"
    yield f"svg {{ {_variables(_LIGHT)} }}"
    yield f"@media (prefers-color-scheme: dark) {{ svg {{ {_variables(_DARK)} }} }}"
    yield "text { fill: var(--ink) } .bold { font-weight: bold } text.faint { fill: var(--faint) }"
    yield ".back { fill: var(--back) } .line, .bar { stroke: var(--faint) } .service { fill: var(--service) }"
    yield ".floor { fill: var(--back); stroke-width: 1.5 }"
    yield ".mark { stroke: var(--back); stroke-width: 1.6; fill: none } circle { fill: var(--back); stroke: none }"
    yield "</style>"
    yield "<defs>"
    for number, mark in enumerate(_MARKS):
        square = f'<rect width="8" height="8" style="fill: var(--cause{number})"/><g class="mark">{mark}</g>'
        yield f'<pattern id="cause{number}" width="8" height="8" patternUnits="userSpaceOnUse">{square}</pattern>'
    yield "</defs>"


def _variables(colours: dict[str, str]) -> str:
    return "; ".join(f"--{name}: {colour}" for name, colour in colours.items())
