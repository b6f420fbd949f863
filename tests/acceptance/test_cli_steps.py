"""`execution steps`, `evidence` and `verify`, as their users run them, on the example of the guide."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from execution.cli.exit_codes import ExitCode
from execution.cli.parameters import UnreadableOptionError
from execution.cli.plan_file import read_plan
from execution.steps import verify_bundle
from tests.support.nursery import Nursery
from tests.support.shell import Shell

pytestmark = pytest.mark.xdist_group("cli")

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "plan.yaml"
FAILING = """
- {id: first, step_type: noop}
- {id: second, step_type: shell.command, target: launch, parameters: {arguments: []}}
- {id: third, step_type: noop}
"""


@pytest.fixture(scope="module")
def shell(run_folder: Path, nursery: Nursery) -> Iterator[Shell]:
    """A folder with a database, and a worker for it."""
    folder = run_folder / f"cli-steps-{uuid4().hex}"
    folder.mkdir()
    shell = Shell(folder=folder, settings={"DATA_DIR": str(folder / "data")}, nursery=nursery)
    with shell.worker():
        yield shell


def test_the_example_from_its_plan_to_its_proof(shell: Shell) -> None:
    ended = shell.run("steps", "run", str(EXAMPLE), "--json")
    assert (ended.code, ended.err) == (ExitCode.OK, "")
    job = ended.document
    assert job["state"] == "COMPLETED"
    assert [(step["id"], step["status"]) for step in job["steps"]] == [
        ("announce", "COMPLETED"),
        ("switch-on", "COMPLETED"),
        ("switch-off", "COMPLETED"),
    ]
    evidence = shell.run("evidence", job["id"])
    assert (evidence.code, evidence.err) == (ExitCode.OK, "")
    bundle = shell.folder / "bundle.json"
    bundle.write_bytes(evidence.out.encode())
    verified = shell.run("verify", str(bundle), "--json")
    assert verified.code == ExitCode.OK
    assert verified.document["seal"] == json.loads(evidence.out)["closing"]["digest"]


def test_a_failed_plan_has_its_exit_code_its_table_and_its_evidence(shell: Shell) -> None:
    plan = shell.folder / "failing.yaml"
    plan.write_text(FAILING)
    ended = shell.run("steps", "run", str(plan))
    assert ended.code == ExitCode.EXECUTION_FAILED
    rows = {line.split()[1]: line for line in ended.out.splitlines() if line.strip()[:1] in {"0", "1", "2"}}
    assert "COMPLETED" in rows["first"]
    assert "FAILED" in rows["second"]
    assert "PENDING" in rows["third"]
    (job_id,) = [line.split()[0] for line in ended.out.splitlines() if "FAILED  " in line and "-" in line.split()[0]]
    written = shell.run("evidence", job_id, "-o", "failed.json")
    assert written.code == ExitCode.OK, written.err
    verified = verify_bundle((shell.folder / "failed.json").read_bytes())
    assert (verified.final_status, verified.steps_executed, verified.steps_planned) == ("FAILED", 2, 3)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "it is not YAML"),
        ("steps:\n - id: a\n  step_type: b\n", "line 3, column 3: expected <block end>"),
        ("only words", "write a list of steps"),
        ("1: 2", "write a list of steps"),
        ("- \udc80", "it is not YAML"),
        ("x" * 1_100_000, "more than"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, content: str, told: str) -> None:
    plan = tmp_path / "bad.yaml"
    plan.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UnreadableOptionError, match=told):
        read_plan(plan)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableOptionError, match="no such file"):
        read_plan(tmp_path / "nowhere.yaml")
