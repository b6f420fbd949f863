"""`shell.command`: only what is allowed runs, it ends in time with all it has started, and says no more than fits."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from execution.files_roots import PathNotAllowedError
from execution.settings import Settings
from execution.steps.handlers import process_group, program_run
from execution.steps.handlers.program_run import End, ProgramCall, ProgramRun, run_program
from execution.steps.handlers.refusals import (
    InvalidStepError,
    ProgramNotAllowedError,
    ProgramNotStartedError,
    StepNotAllowedError,
    VariableNotAllowedError,
)
from execution.steps.handlers.shell_command import ShellCommandHandler
from execution.steps.model import StepOutput
from tests.support.step_calls import executed
from tests.support.waiting import eventually

PATIENCE = 15.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "TERM_SECONDS", 0.5)
    monkeypatch.setattr(program_run, "DRAIN_SECONDS", 0.2)


def shell(**changes: Any) -> ShellCommandHandler:
    return ShellCommandHandler(Settings(**{"steps_shell_programs": sys.executable} | changes))


async def python(code: str, *arguments: str, handler: ShellCommandHandler | None = None, **others: Any) -> StepOutput:
    call = ["-I", "-S", "-c", code, *arguments]
    return await executed(handler or shell(), sys.executable, arguments=call, **others)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def stopped_when_up(code: str, folder: Path) -> ProgramRun:
    """A run that is stopped as soon as the program has made the file `up` in its folder."""
    call = ProgramCall(
        program=sys.executable,
        arguments=[sys.executable, "-I", "-S", "-c", code],
        environment={},
        folder=str(folder),
        seconds=PATIENCE,
        output_limit=1_024,
    )
    stop = threading.Event()
    running = asyncio.create_task(asyncio.to_thread(run_program, call, stop))
    try:
        await eventually((folder / "up").exists, within=PATIENCE, what="the program is up")
    finally:
        stop.set()
    return await running


async def pid_in(file: Path) -> int:
    """The process id that the program under test writes."""
    text = await eventually(lambda: file.exists() and file.read_text(), within=PATIENCE, what="it says its id")
    return int(str(text))


class TestWhatRuns:
    async def test_an_allowed_program_with_its_arguments_as_they_are(self) -> None:
        arguments = ["$(id)", "; rm -rf x", "a b", "*", "ü"]
        output = await python("import sys; print(sys.argv[1:])", *arguments)
        assert output.success
        assert output.output["stdout"] == f"{arguments!r}\n"
        assert output.output["exit_code"] == 0
        assert set(output.output) == {"exit_code", "stdout", "stderr", "truncated", "seconds"}
        assert output.output["seconds"] > 0

    async def test_by_its_last_part(self) -> None:
        name = Path(sys.executable).name
        assert (await executed(shell(), name, arguments=["-c", ""])).success

    async def test_nothing_by_default(self) -> None:
        with pytest.raises(ProgramNotAllowedError, match="EXECUTION_STEPS_SHELL_PROGRAMS"):
            await executed(ShellCommandHandler(Settings()), sys.executable)

    @pytest.mark.parametrize("program", ["/bin/sh", "sh", "../python", f"{sys.executable}/../python", "/", ".", " "])
    async def test_nothing_else(self, program: str) -> None:
        with pytest.raises(StepNotAllowedError):
            await executed(shell(), program)

    async def test_a_name_that_two_programs_have_is_nobodys(self, tmp_path: Path) -> None:
        for folder in ("one", "two"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "tool").symlink_to("/bin/true")
        both = f"{tmp_path / 'one' / 'tool'}{os.pathsep}{tmp_path / 'two' / 'tool'}"
        handler = shell(steps_shell_programs=both)
        assert (await executed(handler, str(tmp_path / "two" / "tool"))).success
        with pytest.raises(ProgramNotAllowedError):
            await executed(handler, "tool")

    async def test_another_name_of_the_same_file_is_another_program(self, tmp_path: Path) -> None:
        """As with BusyBox, where the name decides what it does."""
        for name in ("allowed", "other"):
            (tmp_path / name).symlink_to("/bin/true")
        handler = shell(steps_shell_programs=str(tmp_path / "allowed"))
        assert (await executed(handler, "allowed")).success
        for other in (str(tmp_path / "other"), "other", os.path.realpath("/bin/true")):
            with pytest.raises(ProgramNotAllowedError):
                await executed(handler, other)

    async def test_a_link_that_is_turned_elsewhere_changes_nothing(self, tmp_path: Path) -> None:
        link = tmp_path / "tool"
        link.symlink_to("/bin/true")
        handler = shell(steps_shell_programs=str(link))
        link.unlink()
        link.symlink_to("/bin/false")
        assert (await executed(handler, "tool")).success

    async def test_what_the_system_cannot_start(self, tmp_path: Path) -> None:
        broken = tmp_path / "broken"
        broken.write_bytes(b"\x7fELF and nothing more")
        broken.chmod(0o755)
        with pytest.raises(ProgramNotStartedError, match="broken was not started"):
            await executed(shell(steps_shell_programs=str(broken)), "broken")

    @pytest.mark.parametrize(
        "parameters",
        [{"arguments": "ls -l"}, {"arguments": ["a\x00b"]}, {"shell": True}, {"variables": {"TZ": 1}}, {"folder": ""}],
    )
    async def test_parameters_that_do_not_fit(self, parameters: dict[str, Any]) -> None:
        with pytest.raises(InvalidStepError):
            await executed(shell(), sys.executable, **parameters)

    async def test_a_step_without_a_program(self) -> None:
        with pytest.raises(InvalidStepError, match="target must be a program"):
            await executed(shell(), "")


class TestWhatItFinds:
    async def test_only_the_allowed_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXECUTION_DATABASE_URL", "postgresql://u:secret@h/d")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("TZ", "UTC")
        code = "import os; print(sorted(set(os.environ) - {'LC_CTYPE'}), os.environ['TZ'], os.environ['LANG'])"
        output = await python(code, variables={"LANG": "C"})
        assert output.output["stdout"] == f"{['EXECUTION_STEP_RUN', 'HOME', 'LANG', 'PATH', 'TZ']} UTC C\n"

    @pytest.mark.parametrize("name", ["LD_PRELOAD", "PATH", "PYTHONPATH", "EXECUTION_DATABASE_URL", "lang"])
    async def test_a_step_sets_no_others(self, name: str) -> None:
        with pytest.raises(VariableNotAllowedError, match="EXECUTION_STEPS_SHELL_VARIABLES"):
            await python("", variables={name: "x"})

    async def test_an_empty_folder_of_its_own_which_is_gone_afterwards(self) -> None:
        output = await python("import os; print(os.getcwd()); print(os.listdir()); open('left', 'w')")
        folder, content = output.output["stdout"].splitlines()
        assert content == "[]"
        assert not Path(folder).exists()

    async def test_its_input(self) -> None:
        output = await python("import sys; print(len(sys.stdin.read()))", standard_input="x" * 200_000)
        assert output.output["stdout"] == "200000\n"
        assert (await python("import sys; print(len(sys.stdin.read()))")).output["stdout"] == "0\n"

    async def test_none_of_our_files(self, tmp_path: Path) -> None:
        with (tmp_path / "ours").open("w") as ours:
            os.set_inheritable(ours.fileno(), True)
            code = "import os, sys; print([fd for fd in range(3, 100) if os.path.exists(f'/proc/self/fd/{fd}')])"
            output = await python(code)
        assert str(ours.name) not in output.output["stdout"]
        assert len(eval(output.output["stdout"])) <= 1, "only what listing them takes"


class TestFolder:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "root"
        (root / "sub").mkdir(parents=True)
        (tmp_path / "outside").mkdir()
        (root / "link").symlink_to(tmp_path / "outside")
        return root

    @pytest.mark.parametrize("folder", ["sub", ".", "sub/../sub"])
    async def test_below_an_allowed_one(self, root: Path, folder: str) -> None:
        output = await python(
            "import os; print(os.getcwd(), os.environ['HOME'])",
            handler=shell(steps_shell_folders=str(root)),
            folder=folder,
        )
        where = os.path.realpath(root / folder)
        assert output.output["stdout"] == f"{where} {where}\n"

    @pytest.mark.parametrize("folder", ["..", "/", "link", "sub/../../outside", "/proc/self/cwd"])
    async def test_nowhere_else(self, root: Path, folder: str) -> None:
        with pytest.raises(PathNotAllowedError, match="EXECUTION_STEPS_SHELL_FOLDERS"):
            await python("", handler=shell(steps_shell_folders=str(root)), folder=folder)

    async def test_none_is_allowed_by_default(self, tmp_path: Path) -> None:
        with pytest.raises(PathNotAllowedError, match="EXECUTION_STEPS_SHELL_FOLDERS"):
            await python("", folder=str(tmp_path))


class TestHowItEnds:
    async def test_another_exit_code_fails_the_step_and_keeps_what_it_said(self) -> None:
        output = await python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
        assert not output.success
        assert output.error == "the program ended with exit code 3"
        assert (output.output["exit_code"], output.output["stdout"], output.output["stderr"]) == (3, "out\n", "err\n")

    async def test_a_signal(self) -> None:
        output = await python("import os; os.kill(os.getpid(), 11)")
        assert (output.success, output.error) == (False, "the program was ended by signal 11")
        assert output.output["exit_code"] == -11

    async def test_a_flood_is_taken_without_being_kept(self) -> None:
        handler = shell(steps_shell_output_bytes=1_024)
        code = "import sys\nfor n in range(600): sys.stdout.write('x' * 100_000)\nprint('end')"
        before = psutil.Process().memory_info().rss
        output = await python(code, handler=handler)
        grown = psutil.Process().memory_info().rss - before
        assert output.success
        assert output.output["truncated"]
        assert output.output["stdout"].endswith("xend\n")
        assert "59,998,980 bytes left out" in output.output["stdout"]
        assert len(output.output["stdout"]) < 1_100
        assert grown < 20_000_000

    async def test_a_flood_without_end_ends_in_time(self) -> None:
        output = await python("while True: print('x' * 10_000)", timeout_seconds=0.4)
        assert output.error == "the program was killed after its time limit of 0.4 s"
        assert output.output["truncated"]

    async def test_the_service_has_the_last_word_on_time(self) -> None:
        began = time.monotonic()
        output = await python(
            "import time; time.sleep(60)", handler=shell(steps_shell_seconds=0.3), timeout_seconds=1_000.0
        )
        assert output.error == "the program was killed after its time limit of 0.3 s"
        assert output.output["exit_code"] == -15
        assert time.monotonic() - began < 10

    async def test_who_ignores_sigterm_is_killed(self, tmp_path: Path) -> None:
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); open('up', 'w'); time.sleep(60)"
        run = await stopped_when_up(code, tmp_path)
        assert (run.end, run.exit_code) == (End.STOPPED, -9)

    async def test_who_ends_orderly_at_sigterm_is_let(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process_group, "TERM_SECONDS", PATIENCE)
        code = (
            "import signal, sys, time\n"
            "def end(*_): time.sleep(0.3); print('orderly', flush=True); sys.exit(7)\n"
            "signal.signal(15, end)\nopen('up', 'w')\ntime.sleep(60)"
        )
        run = await stopped_when_up(code, tmp_path)
        assert (run.end, run.exit_code, run.stdout.text()) == (End.STOPPED, 7, "orderly\n")

    @pytest.mark.parametrize("leaves_the_group", [False, True])
    async def test_grandchildren_end_too(self, tmp_path: Path, leaves_the_group: bool) -> None:
        deaf = (
            "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(60)"
        )
        code = (
            "import os, subprocess, sys, time\n"
            f"child = subprocess.Popen([sys.executable, '-I', '-S', '-c', {deaf!r}], stdout=subprocess.PIPE,"
            f" start_new_session={leaves_the_group})\n"
            "print(child.stdout.readline().decode(), flush=True)\n"
            "open('up', 'w')\ntime.sleep(60)"
        )
        run = await stopped_when_up(code, tmp_path)
        assert run.end is End.STOPPED
        grandchild = int(run.stdout.text())
        await eventually(lambda: not alive(grandchild), within=PATIENCE, what="the grandchild has ended")

    async def test_what_it_leaves_behind_ends_with_it(self, tmp_path: Path) -> None:
        """And does not keep the step waiting, though it holds the pipes open."""
        code = (
            "import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(60)'])\n"
            "print(child.pid)"
        )
        output = await python(code)
        assert output.success
        assert output.output["seconds"] < 10
        left_behind = int(output.output["stdout"])
        await eventually(lambda: not alive(left_behind), within=PATIENCE, what="it has ended")

    async def test_a_daemon_that_holds_the_pipes_keeps_nobody_waiting(self, tmp_path: Path) -> None:
        code = (
            "import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(60)'],"
            " start_new_session=True)\n"
            "print(child.pid)"
        )
        output = await python(code)
        daemon = psutil.Process(int(output.output["stdout"]))
        daemon.kill()
        assert output.success
        assert output.output["seconds"] < 10

    async def test_cancelled_it_is_killed(self, tmp_path: Path) -> None:
        file = tmp_path / "pid"
        code = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
        running = asyncio.create_task(python(code))
        pid = await pid_in(file)
        running.cancel()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not alive(pid)

    async def test_nothing_is_left_open(self) -> None:
        process = psutil.Process()
        await python("")
        before, children = process.num_fds(), len(process.children())
        for _ in range(3):
            await python("import time; time.sleep(60)", timeout_seconds=0.05)
        assert process.num_fds() <= before
        assert len(process.children()) <= children
