"""The README's transcript of an execution's life over HTTP is what a shell shows that runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.shell import WITHIN, Shell

pytestmark = pytest.mark.xdist_group("cli")

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:8080"
END = "--- that was command {} ---"


def transcript() -> list[tuple[str, list[str]]]:
    """The commands, and what each one shows."""
    (text,) = re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert ADDRESS in text
    steps: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line)
    return steps


@pytest.fixture(scope="module")
def address(run_folder: Path) -> Iterator[str]:
    """Where a service of the test's own answers."""
    folder = run_folder / f"transcript-{uuid4().hex}"
    folder.mkdir()
    shell = Shell(folder=folder, settings={"DATA_DIR": str(folder / "data")})
    with shell.running("serve", "--port", "0", "--json") as (_, line):
        yield json.loads(line)["url"]


def run(commands: list[str], address: str) -> list[list[str]]:
    """What a shell shows for each of the commands, run in a row."""
    lines = [line for number, one in enumerate(commands) for line in (one, f"echo; echo '{END.format(number)}'")]
    script = "\n".join(["set -o pipefail", *lines]).replace(ADDRESS, address)
    ran = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=True,
        env=os.environ | {"no_proxy": "*"},
    )
    assert ran.stderr == ""
    shown, rest = [], ran.stdout
    for number in range(len(commands)):
        own, _, rest = rest.partition(END.format(number))
        shown.append([line.rstrip() for line in own.splitlines() if line.strip()])
    return shown


def looks_like(documented: str, line: str) -> bool:
    """Is the line what is documented, with something in the place of each ellipsis?"""
    pattern = ".*".join(map(re.escape, documented.split("…")))
    return re.fullmatch(pattern + (".*" if documented.endswith("…") else ""), line) is not None


def missing(documented: list[str], lines: list[str]) -> list[str]:
    """What is documented and was not shown, in this order; other lines may stand between."""
    rest = iter(lines)
    return [one for one in documented if not any(looks_like(one, line) for line in rest)]


def test_it_shows_what_the_readme_says(address: str) -> None:
    steps = transcript()
    shown = run([command for command, _ in steps], address)
    for (command, documented), lines in zip(steps, shown, strict=True):
        assert missing(documented, lines) == [], f"{command}\n" + "\n".join(lines)
    assert len(steps) > 10


def test_the_comparison_sees_a_difference() -> None:
    assert missing(['{"a":1,…'], ['{"a":1,"b":2}']) == []
    assert missing(['{"a":2,…'], ['{"a":1,"b":2}'])
    assert missing(["b", "a"], ["a", "b"])
    assert missing(["a"], [])
