"""What the README says works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(((?!https?:)[^)\s]+)\)")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_library_example_runs(tmp_path: Path) -> None:
    """It is run in an empty folder, as somebody would who has only installed the package."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    script = tmp_path / "example.py"
    script.write_text(example, encoding="utf-8")

    ran = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )

    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [str(number) for number in range(1, len(lines))]
    assert lines[-1] == "{'greetings': ['Hello, Ada!', 'Hello, Grace!']}"


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_every_link_leads_somewhere(page: Path) -> None:
    for file, _, heading in (link.partition("#") for link in LINK.findall(page.read_text(encoding="utf-8"))):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not heading or heading in anchors(target), f"{target.name}#{heading}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_page_is_linked_and_says_nothing_under_one_heading_twice(page: Path) -> None:
    assert f"docs/{page.name}" in README
    assert len(set(anchors(page))) == len(anchors(page))


def anchors(page: Path) -> list[str]:
    """What its headings are called in links."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def test_the_commands_it_names_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    named = set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))

    assert named == {"demo", "test"}
    assert named <= targets
