"""`docs/extending.md` as it stands: its programs run, its changes apply, its new state works."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import pytest

from execution import Settings, open_service
from execution.builtin.files_inventory import InventoryParameters
from execution.builtin.noop import Pace
from execution.builtin.text_analyze import TextParameters
from execution.cli.exit_codes import ExitCode
from execution.steps.plan import Plan
from tests.support.checker import check_all_ended
from tests.support.documented_edits import edits, programs
from tests.support.shell import Shell

REPOSITORY = Path(__file__).parents[2]
GUIDE = REPOSITORY / "docs" / "extending.md"
PACKAGES = ("execution", "events", "migrations")
PATIENCE = 45.0


async def run(program: Path, *, imports_from: Path, **environment: str) -> str:
    """What a program prints, with packages below a folder before those that are installed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=imports_from,
        env=os.environ | {"PYTHONPATH": str(imports_from)} | environment,
    )
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


class TestNewKindOfTask:
    async def test_the_module_and_the_program_that_submits_one(self, database_url: str, tmp_path: Path) -> None:
        write(tmp_path, "reports.py", programs(GUIDE)["reports.py"])
        submit = write(tmp_path, "submit_report.py", programs(GUIDE)["submit_report.py"])
        output = await run(
            submit, imports_from=tmp_path, EXECUTION_DATABASE_URL=database_url, EXECUTION_HANDLERS="reports"
        )
        assert "COMPLETED page 3 {'title': 'Sales', 'pages': 3}" in output
        assert await check_all_ended(database_url) == {"COMPLETED": 1}

    def test_the_command_line_finds_it_in_the_current_folder_which_hides_nothing(
        self, database_url: str, tmp_path: Path
    ) -> None:
        write(tmp_path, "reports.py", programs(GUIDE)["reports.py"])
        write(tmp_path, "typer.py", "raise AssertionError")
        shell = Shell(folder=tmp_path, settings={"DATABASE_URL": database_url, "HANDLERS": "reports"})
        (command,) = re.findall(r"`execution (submit report.render .*)`", GUIDE.read_text())
        UUID(shell.submit(*command.split()[1:]))
        refused = shell.run("submit", "report.render", "-p", "title=Sales", "-p", "pages=0")
        assert (refused.code, "pages" in refused.err) == (ExitCode.INVALID, True)

    async def test_it_is_refused_where_the_module_is_not_named(self, database_url: str, tmp_path: Path) -> None:
        submit = write(tmp_path, "submit_report.py", programs(GUIDE)["submit_report.py"])
        with pytest.raises(AssertionError, match="UnknownKindError"):
            await run(submit, imports_from=tmp_path, EXECUTION_DATABASE_URL=database_url)


class TestKindsThereAre:
    rows: ClassVar = dict(re.findall(r"^\| `([a-z.]+)` \| (.+?) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE))

    async def test_each_has_a_row(self, database_url: str) -> None:
        settings = Settings.load(database_url=database_url)
        async with open_service(settings, relay=False) as service:
            assert sorted(self.rows) == service.registry.kinds

    @pytest.mark.parametrize(
        ("kind", "parameters"),
        [
            ("noop", Pace.__struct_fields__),
            ("files.inventory", InventoryParameters.model_fields),
            ("text.analyze", TextParameters.model_fields),
            ("steps", Plan.model_fields),
        ],
    )
    def test_its_row_names_its_parameters(self, kind: str, parameters: Iterable[str]) -> None:
        assert sorted(re.findall(r"`(\w+)`", self.rows[kind])) == sorted(parameters)


class TestNewState:
    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        """The packages, with the guide's changes."""
        for package in PACKAGES:
            shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
        for edit in edits(GUIDE):
            edit.apply(tmp_path)
        return tmp_path

    async def test_an_execution_goes_through_it(self, database_url: str, copy: Path) -> None:
        migrate = write(
            copy,
            "migrate_copy.py",
            "import asyncio, os\n"
            "from execution.repository.schema import migrate\n"
            "print(asyncio.run(migrate(os.environ['EXECUTION_DATABASE_URL'])))\n",
        )
        assert "0007" in await run(migrate, imports_from=copy, EXECUTION_DATABASE_URL=database_url)
        name = "through_the_new_state.py"
        program = write(copy, name, programs(GUIDE)[name])
        output = await run(program, imports_from=copy, EXECUTION_DATABASE_URL=database_url)
        assert "CREATED PENDING BLOCKED PENDING BLOCKED CANCELLED\nTrue\n" in output
        assert output.count("execution.blocked") == 2, "the side effect"

    async def test_without_the_migration_the_database_refuses_it(self, database_url: str, copy: Path) -> None:
        (copy / "migrations" / "versions" / "0007_blocked.py").unlink()
        name = "through_the_new_state.py"
        program = write(copy, name, programs(GUIDE)[name])
        with pytest.raises(AssertionError, match="executions_state_known"):
            await run(program, imports_from=copy, EXECUTION_DATABASE_URL=database_url)

    def test_it_is_no_more_than_it_says(self) -> None:
        """One enum member, its rows, its side effect, its constraint."""
        assert {edit.path for edit in edits(GUIDE)} == {
            "execution/domain/state.py",
            "execution/state_manager.py",
            "migrations/versions/0007_blocked.py",
        }
