"""House rules that hold for every file: who imports whom, no dead modules, no foreign names, a docstring each."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("execution", "events", "migrations")
FOR_OTHER_SERVICES = {"events.command_client", "events.consumer"}
"""Modules that programs outside this repository import."""

# Put together from pieces, so that this file does not hold what it forbids.
_REGISTRIES = ["pypi" + ".org", "python" + "hosted.org", "registry.npm" + "js.org", "maven" + ".org"]
_FOLDERS = ["/" + "work/", "/" + "root/", "/" + "home/", "/" + "Users/"]
_FOREIGN = re.compile("|".join(map(re.escape, _REGISTRIES + _FOLDERS)))
_WALL_CLOCKS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}
_TEXTS = {".py", ".sql", ".md", ".toml", ".txt", ".yml", ".yaml", ".cfg", ".ini", ".html", ".sh", ".mako", ""}
_SYSTEM_FOLDERS = {".git", ".venv", ".execution", "__pycache__", "node_modules", "build", "dist"}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the packages, by its dotted name."""
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_by(path: Path) -> set[str]:
    """The names a file imports, at its top or inside functions, or gives to be loaded (as handlers are)."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("execution."):
            names.add(node.value)
    return names | {parent for name in names for parent in _parents(name)}


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def entry_points() -> set[str]:
    """What is started by its name: console scripts, `python -m`, packages, and what Alembic runs."""
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    started = {target.partition(":")[0] for target in scripts.values()}
    return started | {name for name, path in modules() if path.name == "__main__.py"} | set(PACKAGES)


def repository_files() -> list[Path]:
    """The files that are, or will be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [REPOSITORY / line for line in listed.stdout.splitlines()]
    return [one for one in REPOSITORY.rglob("*") if not _SYSTEM_FOLDERS & set(one.relative_to(REPOSITORY).parts)]


def test_import_contracts_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run(
        [program, "--no-logo", "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", ran.stdout)


def test_no_module_is_dead() -> None:
    """Each is imported by another one of the packages or by other services, or is started by its name."""
    used = entry_points() | FOR_OTHER_SERVICES
    for _, path in modules():
        used |= imported_by(path)
    run_by_alembic = {name for name, _ in modules() if name.startswith("migrations.")}
    dead = {name for name, _ in modules()} - used - run_by_alembic
    assert not dead, f"nobody imports {', '.join(sorted(dead))}"


@pytest.mark.parametrize("name", [name for name, path in modules() if path.stat().st_size])
def test_a_module_says_what_it_is_for(name: str) -> None:
    path = dict(modules())[name]
    assert ast.get_docstring(tree_of(path)), f"{path.relative_to(REPOSITORY)} has no docstring"


def wall_clock_readings(tree: ast.Module) -> Iterator[str]:
    """Calls such as `datetime.now()` and `time.time()`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in _WALL_CLOCKS:
            yield called


def test_nobody_but_the_clock_reads_the_machines_time() -> None:
    """It may be wrong. What only measures, shows or spares something may look at it."""
    allowed = {
        *("execution.clock", "execution.bench.floor", "execution.cli.findings", "execution.demo.show"),
        "events.command_client",  # of its sender's machine
        "events.deadlines",
    }
    found = {name for name, path in modules() if any(wall_clock_readings(tree_of(path)))}
    assert found == allowed


def test_no_file_names_a_registry_or_a_folder_of_somebodys_machine() -> None:
    found = []
    for path in repository_files():
        if path.suffix in _TEXTS and path.is_file():
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if _FOREIGN.search(line):
                    found.append(f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


def test_the_rule_above_sees_what_it_is_to_see() -> None:
    assert _FOREIGN.search("pip install --index-url https://" + _REGISTRIES[0] + "/simple")
    assert _FOREIGN.search("cd " + _FOLDERS[0] + "main")
    assert not _FOREIGN.search("a framework / a homework")
    assert len(repository_files()) > 100
