"""The command line, driven as its users do: the installed program, on a real embedded database that processes share."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import typer.main

from execution.cli.app import app
from execution.cli.exit_codes import MEANINGS, ExitCode
from execution.cli.parameters import UnreadableOptionError, read_parameters, read_retry_policy
from execution.embedded import EmbeddedPostgres
from execution.key_token import KeyToken
from execution.log import withhold
from execution.repository.schema import EXPECTED_REVISION
from execution.settings import Settings
from tests.support.database import own_database
from tests.support.nursery import Nursery
from tests.support.shell import WITHIN, Shell, said
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("cli")

GUIDE = Path(__file__).parents[2] / "docs" / "cli.md"
NOBODY = "01890000-0000-7000-8000-000000000000"
DEFAULT_DRAIN_SECONDS = Settings.model_fields["drain_timeout_seconds"].default

EXECUTION_KEYS = {
    *("id", "kind", "state", "version", "agent_id", "task_id", "parameters", "progress", "result", "error"),
    *("priority", "attempt", "run_at", "created_at", "started_at", "updated_at", "completed_at"),
}
KEY_KEYS = {
    *("id", "tenant_id", "name", "prefix", "scopes"),
    *("created_at", "expires_at", "revoked_at", "last_used_at"),
}


@pytest.fixture(scope="module")
def shell(run_folder: Path, nursery: Nursery) -> Iterator[Shell]:
    """A folder with a database that a worker for the built-in kinds keeps up."""
    folder = run_folder / f"cli-{uuid4().hex}"
    folder.mkdir()
    (folder / "letter.txt").write_text("The ship leaves at dawn. The harbour is quiet.\n")
    shell = Shell(folder=folder, settings={"DATA_DIR": str(folder / "data")}, nursery=nursery)
    with shell.worker():
        yield shell


@pytest.fixture
def unattended(shell: Shell) -> Shell:
    """A shell that knows `demo.letter`, a kind that no worker runs: what is submitted stays where commands put it."""
    return shell.with_settings(HANDLERS="execution.demo.handlers")


@pytest.fixture
async def bare_database(server: EmbeddedPostgres) -> AsyncIterator[str]:
    """The URL of a database without any table."""
    async with own_database(server.url, template="template1") as url:
        yield url


class TestGuide:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # Typer's group is not typed as one

    def test_it_names_every_command_and_no_other(self) -> None:
        named = re.findall(r"^### `execution (\S+)`$", GUIDE.read_text(), re.MULTILINE)
        assert sorted(named) == sorted(self.commands)

    def test_help_has_each_command_under_the_same_heading(self) -> None:
        sections = re.split(r"^## ", GUIDE.read_text(), flags=re.MULTILINE)[1:]
        documented = {
            name: section.splitlines()[0]
            for section in sections
            for name in re.findall(r"^### `execution (\S+)`$", section, re.MULTILINE)
        }
        assert {name: command.rich_help_panel for name, command in self.commands.items()} == documented

    def test_its_examples_use_existing_options(self) -> None:
        examples = re.findall(r"^execution (\S+)(.*)$", GUIDE.read_text(), re.MULTILINE)
        assert {name for name, _ in examples} == set(self.commands)
        for name, rest in examples:
            command = self.commands[name]
            if hasattr(command, "commands"):
                command = command.commands[rest.split()[0]]
            known = {option for parameter in command.params for option in parameter.opts}
            used = set(re.findall(r"(?<=\s)(--?[a-z][a-z-]*)", rest))
            assert used <= known, f"{name}: {used - known}"

    def test_it_explains_the_exit_codes_as_the_program_does(self) -> None:
        documented = re.findall(r"^\| (\d) \| (.+) \|$", GUIDE.read_text(), re.MULTILINE)
        assert {int(code): meaning for code, meaning in documented} == MEANINGS

    def test_help_shows_commands_and_exit_codes(self, tmp_path: Path) -> None:
        ended = Shell(folder=tmp_path, settings={}).run("--help")
        assert ended.code == ExitCode.OK
        assert all(re.search(rf"│ {name}\b", ended.out) for name in self.commands)
        assert all(f"{code:d}  {meaning[:30]}" in ended.out for code, meaning in MEANINGS.items())
        assert list(tmp_path.iterdir()) == []


class TestSubmitting:
    def test_waiting_gives_the_ended_execution(self, shell: Shell) -> None:
        ended = shell.run("submit", "text.analyze", "-p", "path=letter.txt", "--wait", "--json")
        assert (ended.code, ended.err) == (ExitCode.OK, "")
        assert set(ended.document) == EXECUTION_KEYS
        assert ended.document["state"] == "COMPLETED"
        assert ended.document["result"]["sentences"] == 2
        assert ended.document["progress"] == {"percentage": 100.0, "message": "9 words", "context": {}}

    def test_a_failed_execution_gives_its_own_exit_code(self, shell: Shell) -> None:
        ended = shell.run("submit", "text.analyze", "-p", "path=missing.txt", "--wait")
        assert ended.code == ExitCode.EXECUTION_FAILED
        assert re.search(r"^error .*missing.txt", ended.out, re.MULTILINE)

    def test_without_a_worker_it_waits_and_says_so(self, unattended: Shell) -> None:
        ended = unattended.run("submit", "demo.letter", "-p", "box=b", "--wait", "--timeout", "0.2")
        assert ended.code == ExitCode.TIMEOUT
        assert "hint: no live worker runs 'demo.letter'; start one with: execution worker" in ended.err
        assert "has not ended after 0.2 s" in ended.err

    def test_everything_about_it_is_recorded(self, unattended: Shell) -> None:
        own = str(uuid4())
        (unattended.folder / "parameters.json").write_text('{"box": "from file", "seconds": 1}')
        options = ["-p", "@parameters.json", "-p", "seconds=2", "--priority", "7", "--agent-id", "summarizer"]
        options += ["--run-at", "2099-01-01T00:00:00Z", "--retry", "attempts=2,initial_delay=0.5,error_types=A|B"]
        options += ["--start-to-close", "60", "--schedule-to-start", "3600", "--task-id", "T-17", "--id", own]
        assert unattended.submit("demo.letter", *options) == own
        document = unattended.run("get", own, "--at-version", "1", "--json").document
        assert [document[key] for key in ("version", "state", "priority")] == [1, "CREATED", 7]
        assert document["parameters"] == {"box": "from file", "seconds": 2}
        assert document["run_at"].startswith("2099-01-01T00:00:00")
        submission = unattended.run("history", own, "--json").document["items"][0]["data"]["submission"]
        assert (submission["agent_id"], submission["task_id"]) == ("summarizer", "T-17")
        assert (submission["start_to_close"], submission["schedule_to_start"]) == (60, 3600)
        assert submission["retry_policy"]["max_attempts"] == 2
        assert submission["retry_policy"]["error_types"] == ["A", "B"]
        again = unattended.run("submit", "demo.letter", "-p", "box=b", "--id", own, "--json")
        assert again.code == ExitCode.REFUSED
        assert json.loads(again.err)["code"] == "duplicate_execution"


class TestParameters:
    def test_a_value_is_json_if_it_reads_as_json(self) -> None:
        options = ["a=1", "b=[true, null]", "c=plain text", "d=", "e=NaN", 'f="1"', "g=x=y"]
        expected = {"a": 1, "b": [True, None], "c": "plain text", "d": "", "e": "NaN", "f": "1", "g": "x=y"}
        assert read_parameters(options) == expected

    def test_later_ones_win(self) -> None:
        assert read_parameters(["a=2", "b=3", "b=4"], '{"a": 1, "c": 5}') == {"a": 2, "b": 4, "c": 5}

    @pytest.mark.parametrize("option", ["novalue", "=1", "@nowhere.json", "@."])
    def test_what_says_nothing_usable_is_refused(self, option: str) -> None:
        with pytest.raises(UnreadableOptionError, match=re.escape(option)):
            read_parameters([option])

    @pytest.mark.parametrize("text", ["[1]", "{", '{"a": NaN}', "[" * 100_000])
    def test_json_parameters_are_one_object(self, text: str) -> None:
        with pytest.raises(UnreadableOptionError, match="--json-parameters"):
            read_parameters([], text)

    @pytest.mark.parametrize("option", ["", "3", "times=3", "attempts"])
    def test_a_retry_policy_names_its_parts(self, option: str) -> None:
        with pytest.raises(UnreadableOptionError, match="attempts, initial_delay"):
            read_retry_policy(option)


class TestWatching:
    def test_another_process_sees_the_whole_log_and_resumes_it(self, shell: Shell) -> None:
        identity = shell.submit("noop", "-p", "seconds=0.5", "-p", "progress_reports=2")
        watched = shell.run("watch", identity, "--json")
        versions = [item["version"] for item in watched.documents]
        assert watched.code == ExitCode.OK
        assert versions == list(range(1, len(versions) + 1))
        assert watched.documents[-1]["type"] == "agent.execution.completed"
        rest = shell.run("watch", identity, "--json", "--after", "3")
        assert rest.documents == watched.documents[3:]

    def test_a_terminal_gets_a_live_progress_bar(self, shell: Shell) -> None:
        shown = _on_terminal(shell, "submit", "noop", "-p", "seconds=0.5", "-p", "progress_reports=5", "--wait")
        assert re.search(r"━.*\b[1-9]0%", shown)
        assert "RUNNING → COMPLETED" in shown

    def test_it_gives_up_in_time_and_the_execution_goes_on(self, shell: Shell) -> None:
        identity = shell.submit("noop", "-p", "seconds=60")
        watched = shell.run("watch", identity, "--timeout", "0.2", "--json")
        assert watched.code == ExitCode.TIMEOUT
        assert json.loads(watched.err)["code"] == "wait_timeout"
        assert shell.run("cancel", identity).code == ExitCode.OK
        ended = shell.run("watch", identity)
        assert ended.code == ExitCode.EXECUTION_FAILED
        assert "RUNNING → CANCELLING" in ended.out


class TestCommanding:
    def test_every_command_moves_it_as_the_state_machine_says(self, unattended: Shell) -> None:
        identity = unattended.submit("demo.letter", "-p", "box=b", "--no-start")
        for command, state in [
            ("start", "PENDING"),
            ("pause", "PAUSED"),
            ("resume", "PENDING"),
            ("cancel", "CANCELLED"),
            ("retry", "PENDING"),
        ]:
            ended = unattended.run(command, identity, "--reason", f"to {command}", "--json")
            assert (ended.code, ended.document["state"]) == (ExitCode.OK, state), ended.err
        refused = unattended.run("delete", identity)
        assert refused.code == ExitCode.REFUSED
        assert "only an ended execution can be deleted" in refused.err
        assert unattended.run("cancel", identity, "--if-version", "1").code == ExitCode.REFUSED
        assert unattended.run("cancel", identity).out.split()[1] == "CANCELLED"
        reasons = [
            item["data"].get("reason") for item in unattended.run("history", identity, "--json").document["items"]
        ]
        assert {"to start", "to pause", "to resume", "to cancel", "to retry"} <= set(reasons)
        assert unattended.run("delete", identity, "--json").document == {"id": identity, "deleted": True}
        assert unattended.run("get", identity).code == ExitCode.NOT_FOUND


class TestReading:
    def test_what_has_reported_nothing_is_not_said_to_be_at_nought_percent(self, shell: Shell) -> None:
        silent = shell.submit("noop", "--wait", "--task-id", "silent").split()[1]
        listed = shell.run("list", "--task-id", "silent").out.splitlines()[1]
        assert re.match(rf"{silent} COMPLETED +\d\d-\d\d ", listed)
        assert "progress" not in shell.run("get", silent).out

    def test_lists_are_filtered_and_paged_both_ways(self, unattended: Shell) -> None:
        task = uuid4().hex
        newest_first = [unattended.submit("demo.letter", "-p", "box=b", "--task-id", task) for _ in range(2)][::-1]
        page = unattended.run("list", "--task-id", task, "--page", "2", "--page-size", "1", "--json").document
        assert (page["total"], page["page"], page["page_size"]) == (2, 2, 1)
        assert [item["id"] for item in page["items"]] == newest_first[1:]
        assert set(page["items"][0]) == EXECUTION_KEYS - {"parameters", "result"}
        first = unattended.run("list", "--task-id", task, "--limit", "1", "--state", "pending", "--json").document
        assert [item["id"] for item in first["items"]] == newest_first[:1]
        rest = unattended.run("list", "--task-id", task, "--limit", "2", "--before", first["next_before"], "--json")
        assert [item["id"] for item in rest.document["items"]] == newest_first[1:]
        assert rest.document["next_before"] is None

    def test_a_reader_that_leaves_early_breaks_nothing(self, shell: Shell) -> None:
        read, write = os.pipe()
        os.close(read)
        process = shell.start("list", output=write)
        os.close(write)
        _, err = process.communicate(timeout=WITHIN)
        assert (process.returncode, err) == (ExitCode.UNEXPECTED, "")


class TestKeys:
    def test_from_its_creation_to_its_end(self, shell: Shell) -> None:
        created = shell.run("keys", "create", "ci", "--scope", "write", "--scope", "read", "--expires", "90")
        token = created.out.strip()
        assert created.code == ExitCode.OK
        assert KeyToken.parse(token).prefix in created.err
        assert "the only time it is shown; ci may read, write for tenant default, until 20" in created.err
        listed = next(key for key in listed_keys(shell) if token.startswith(key["prefix"]))
        assert (listed["name"], listed["scopes"], listed["revoked_at"]) == ("ci", ["read", "write"], None)
        assert set(listed) == KEY_KEYS
        shown = shell.run("keys", "list")
        assert re.search(rf"^ *{listed['prefix']} +ci +default +read write +20", shown.out, re.MULTILINE)
        assert token not in shown.out + json.dumps(listed)
        revoked = shell.run("keys", "revoke", listed["prefix"], "--json")
        assert (revoked.code, revoked.document["id"]) == (ExitCode.OK, listed["id"])
        assert revoked.document["revoked_at"] is not None
        assert shell.run("keys", "revoke", listed["id"], "--json").document == revoked.document
        assert listed_keys(shell)[-1]["revoked_at"] == revoked.document["revoked_at"]

    def test_tenants_have_their_own(self, shell: Shell) -> None:
        created = shell.run("keys", "create", "dashboard", "--scope", "admin", "--tenant", "acme", "--json").document
        assert set(created) == KEY_KEYS | {"token"}
        assert (created["tenant_id"], created["expires_at"]) == ("acme", None)
        assert [key["id"] for key in listed_keys(shell, "--tenant", "acme")] == [created["id"]]
        assert listed_keys(shell, "--tenant", "nobody") == []
        revoked = shell.run("keys", "revoke", created["token"])
        assert re.match(rf"{created['prefix']}  revoked 20.* within 5 s\n", revoked.out)

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (["create", "ci"], ExitCode.INVALID, "--scope"),
            (["create", "ci", "--scope", "root"], ExitCode.INVALID, "'root' is not one of"),
            (["create", "no spaces", "--scope", "read"], ExitCode.INVALID, "key's name"),
            (["create", "ci", "--scope", "read", "--expires", "0"], ExitCode.INVALID, "--expires"),
            (["revoke", "exk_000000000000"], ExitCode.NOT_FOUND, "There is no API key 'exk_000000000000'"),
            (["revoke", NOBODY], ExitCode.NOT_FOUND, NOBODY),
        ],
    )
    def test_what_is_refused(self, shell: Shell, arguments: list[str], code: ExitCode, said: str) -> None:
        ended = shell.run("keys", *arguments)
        assert (ended.code, ended.out) == (code, "")
        assert said in ended.err


def listed_keys(shell: Shell, *options: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = shell.run("keys", "list", *options, "--json").document["items"]
    return items


REFUSALS = [
    (["submit", "nope"], ExitCode.INVALID, "unknown_kind"),
    (["submit", "text.analyze"], ExitCode.INVALID, "invalid_document"),
    (["submit", "noop", "-p", "novalue"], ExitCode.INVALID, "unreadable_option"),
    (["submit", "noop", "--retry", "attempts=0"], ExitCode.INVALID, "invalid_document"),
    (["list", "--state", "SLEEPING"], ExitCode.INVALID, "invalid_filter"),
    (["list", "--page", "2", "--before", NOBODY], ExitCode.INVALID, "conflicting_options"),
    (["get", "not-an-id"], ExitCode.INVALID, "usage"),
    (["watch", NOBODY], ExitCode.NOT_FOUND, "execution_not_found"),
    (["worker", "--kinds", "nope"], ExitCode.INVALID, "unknown_kind"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "name"), REFUSALS, ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else None
)
def test_a_refusal_is_one_object_with_its_exit_code(
    shell: Shell, arguments: list[str], code: ExitCode, name: str
) -> None:
    ended = shell.run(*arguments, "--json")
    error = json.loads(ended.err)
    assert (ended.code, error["code"], ended.out) == (code, name, "")
    assert error["message"]


def test_people_get_a_readable_line_and_no_traceback(shell: Shell) -> None:
    ended = shell.run("get", NOBODY)
    assert ended.err == f"error: Execution {NOBODY} does not exist. Check the id, or list executions to find it.\n"


class TestDatabase:
    def test_an_unreachable_one_is_said_without_its_password(self, tmp_path: Path, nursery: Nursery) -> None:
        settings = {"DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/x"}
        away = Shell(folder=tmp_path, settings=settings, nursery=nursery)
        for command in ("list", "doctor"):
            ended = away.run(command)
            assert ended.code == ExitCode.DATABASE, command
            assert "Check EXECUTION_DATABASE_URL" in ended.out + ended.err
            assert "secret" not in ended.out + ended.err

    def test_a_folder_that_cannot_be_one_is_said_with_what_to_do(self, tmp_path: Path, nursery: Nursery) -> None:
        (tmp_path / "file").touch()
        ended = Shell(folder=tmp_path, settings={"DATA_DIR": "file"}, nursery=nursery).run("list")
        assert ended.code == ExitCode.DATABASE
        assert "Not a directory" in ended.err
        assert ended.err.endswith(". Name a folder that can be used in EXECUTION_DATA_DIR.\n")

    async def test_a_schema_is_missing_then_made_then_too_new(
        self, bare_database: str, tmp_path: Path, nursery: Nursery
    ) -> None:
        shell = Shell(folder=tmp_path, settings={"DATABASE_URL": bare_database}, nursery=nursery)
        missing = shell.run("list")
        assert (missing.code, "execution migrate" in missing.err) == (ExitCode.DATABASE, True)
        migrated = shell.run("migrate", "--json").document
        assert migrated == {"from": None, "to": EXPECTED_REVISION, "changed": True}
        assert shell.run("migrate").out == f"The schema is at revision {EXPECTED_REVISION} already.\n"
        connection = await asyncpg.connect(bare_database)
        try:
            await connection.execute("UPDATE alembic_version SET version_num = '9999'")
        finally:
            await connection.close()
        newer = shell.run("list")
        assert (newer.code, "newer release" in newer.err) == (ExitCode.DATABASE, True)
        checks = {one["check"]: one for one in shell.run("doctor", "--json").document["checks"]}
        assert (checks["schema"]["status"], checks["schema"]["found"][:4]) == ("problem", "9999")


class TestDoctor:
    def test_it_is_content_with_what_works(self, shell: Shell) -> None:
        ended = shell.run("doctor", "--json")
        checks = {one["check"]: one for one in ended.document["checks"]}
        assert set(checks) >= {"variables", "settings", "handlers", "database", "schema", "server", "clock", "workers"}
        assert checks["workers"]["status"] == "ok"
        assert "text.analyze" in checks["workers"]["found"]
        assert checks["orphans"]["found"] == "none"

    def test_it_says_what_a_misspelt_variable_should_be(self, shell: Shell) -> None:
        ended = shell.with_settings(WORKER_CONCURENCY="3", PORT="many").run("doctor", "--json")
        problems = [one for one in ended.document["checks"] if one["status"] == "problem"]
        assert (ended.code, ended.document["ok"]) == (ExitCode.INVALID, False)
        assert problems[0]["advice"] == "Did you mean EXECUTION_WORKER_CONCURRENCY?"
        assert "EXECUTION_PORT" in problems[1]["found"]

    def test_brokers_that_answer(self, kafka: str, shell: Shell) -> None:
        ended = shell.with_settings(KAFKA_BOOTSTRAP_SERVERS=kafka).run("doctor", "--json")
        (found,) = [one for one in ended.document["checks"] if one["check"] == "brokers"]
        assert (found["status"], found["found"]) == ("ok", f"{kafka}: 1 in the cluster, reachable")

    def test_brokers_that_do_not_answer_are_a_problem_and_the_rest_is_looked_at(self, shell: Shell) -> None:
        settings = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "KAFKA_TIMEOUT_SECONDS": "3"}
        ended = shell.with_settings(**settings).run("doctor", "--json")
        checks = {one["check"]: one for one in ended.document["checks"]}
        assert (ended.code, checks["brokers"]["status"]) == (ExitCode.UNEXPECTED, "problem")
        assert "EXECUTION_KAFKA_BOOTSTRAP_SERVERS" in checks["brokers"]["advice"]
        assert checks["schema"]["status"] == "ok"
        assert ended.err == ""

    def test_work_that_nobody_does_is_a_problem(self, unattended: Shell) -> None:
        identity = unattended.submit("demo.letter", "-p", "box=b")
        ended = unattended.run("doctor")
        assert ended.code == ExitCode.UNEXPECTED
        assert "of demo.letter wait" in ended.out
        assert "Start one with: execution worker" in ended.out
        assert unattended.run("cancel", identity).code == ExitCode.OK


class TestWorker:
    async def test_it_says_when_it_is_ready_drains_and_the_last_process_stops_the_server(
        self, cluster_folder: Path
    ) -> None:
        shell = Shell(folder=cluster_folder, settings={"DATA_DIR": str(cluster_folder / "data")})
        handlers = "execution.demo.handlers"
        process = shell.start(
            "worker", "--json", "--handlers", handlers, "--kinds", "demo.letter", "--concurrency", "3"
        )
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        del ready["worker_id"]
        assert ready == {"event": "ready", "pid": process.pid, "kinds": ["demo.letter"], "concurrency": 3}
        box = cluster_folder / "box"
        identity = shell.submit("demo.letter", "-p", f"box={box}", "-p", "seconds=0.5")
        await eventually(box.exists, within=WITHIN, what="the letter is in the box")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WITHIN)
        assert process.returncode == ExitCode.OK
        assert EmbeddedPostgres(cluster_folder / "data").pid is None
        assert shell.run("get", identity, "--json").document["state"] == "COMPLETED"

    async def test_a_second_signal_ends_it_at_once_and_leaves_a_record(self, shell: Shell) -> None:
        with shell.with_settings(HANDLERS="execution.demo.handlers").worker("--kinds", "demo.letter") as process:
            box = shell.folder / "box"
            parameters = ["-p", f"box={box}", "-p", "seconds=600"]
            identity = shell.with_settings(HANDLERS="execution.demo.handlers").submit("demo.letter", *parameters)
            await eventually(box.exists, within=WITHIN, what="the letter is in the box")
            process.send_signal(signal.SIGTERM)
            said(process, "worker.draining")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=DEFAULT_DRAIN_SECONDS / 2) == 128 + signal.SIGTERM
        ended = shell.run("get", identity, "--json").document
        assert (ended["state"], ended["error"]["type"]) == ("FAILED", "outcome_unknown")

    def test_its_log_keeps_secrets(self) -> None:
        line = withhold(None, "info", {"action": "x", "parameters": {"a": 1}, "url": "postgresql://me:secret@host/db"})
        assert line == {"action": "x", "parameters": "(withheld)", "url": "postgresql://me:***@host/db"}
        key = KeyToken.new()
        line = withhold(None, "info", {"token": "x", "error": f"Bearer {key.text} is no good"})
        assert line == {"token": "(withheld)", "error": f"Bearer {key.prefix}_*** is no good"}


def _on_terminal(shell: Shell, *arguments: str) -> str:
    """What a person at a terminal sees."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "wb") as terminal:
        process = shell.start(*arguments, output=terminal, errors=terminal)
    shown = bytearray()
    try:
        while piece := os.read(ours, 65_536):
            shown += piece
    except OSError:
        pass  # how Linux says that the other side has closed the terminal
    finally:
        os.close(ours)
        process.communicate(timeout=WITHIN)
    return shown.decode()
