"""The demo: it holds on a small real folder, it cleans up whatever happens, and it notices when a promise is broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from events.codec import EventCodec
from events.envelope import Envelope
from execution.demo.checks import (
    Check,
    Recorded,
    check_at_once,
    check_cancelled,
    check_drained,
    check_log_is_truth,
    check_not_repeated,
    check_paused,
    check_published,
    check_rescued,
    check_stale_refused,
)
from execution.demo.readings import check_results, check_summary
from execution.domain.commands import Cancel, Finish, Pause, ReachPausePoint, ReportProgress, Rescue, Resume
from execution.domain.history import HistoryItem
from execution.domain.outcome import Cancelled, Succeeded
from execution.domain.state import ExecutionState
from execution.event_emitter import envelope_of
from tests.support import given
from tests.support.kafka import require_broker
from tests.support.logged import logged_event

pytestmark = pytest.mark.xdist_group("cli")

PROGRAM = str(Path(sys.executable).with_name("execution"))
WITHIN = 55.0
OWN_SETTINGS = {"EXECUTION_DATABASE_URL": "nonsense", "EXECUTION_WORKER_KINDS": "x"}
"""The user's; they have no say in the demo."""

HALF = ReportProgress(percentage=50)
DONE = Finish(outcome=Succeeded(result={}))


@pytest.fixture
def folder(cluster_folder: Path) -> Path:
    """A small folder of real files."""
    folder = cluster_folder / "input"
    (folder / "source").mkdir(parents=True)
    sentence = "The keeper climbs the tower every evening and lights the lamp. "
    (folder / "lighthouse.md").write_text("# The lighthouse\n\n" + 20 * sentence + "\nShips see it from far away.\n")
    (folder / "source" / "lamp.py").write_text('"""Lights the lamp."""\n\n\ndef light():\n    return "on"\n')
    (folder / "noise.bin").write_bytes(bytes(range(256)))
    return folder


def start_demo(temporary: Path, *arguments: str) -> subprocess.Popen[str]:
    """The program, with a folder of its own for temporary files, so that leftovers can be seen."""
    return start(temporary, PROGRAM, "demo", *arguments)


def start(temporary: Path, *command: str) -> subprocess.Popen[str]:
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | OWN_SETTINGS | {"TMPDIR": str(temporary)},
    )


def assert_nothing_left(temporary: Path) -> None:
    assert [path.name for path in temporary.iterdir() if path.name.startswith("execution-demo-")] == []
    assert [process.pid for process in psutil.process_iter(["environ"]) if _belongs(process, temporary)] == []


def _belongs(process: psutil.Process, temporary: Path) -> bool:
    environment: dict[str, str] = process.info["environ"] or {}
    return environment.get("TMPDIR") == str(temporary) and process.status() != psutil.STATUS_ZOMBIE


def test_every_promise_holds_on_a_small_folder(folder: Path, cluster_folder: Path) -> None:
    temporary = cluster_folder / "tmp"
    process = start_demo(temporary, str(folder))
    out, err = process.communicate(timeout=WITHIN)
    assert (process.returncode, err) == (0, "")
    for line in (
        "RUNNING → CANCELLING  (half is enough)",
        "RUNNING → PAUSED",
        "no longer at version",
        "── kill -9",
        "outcome_unknown",
        "0 deviations",
        "Every promise held",
        "Ships see it from far away.",
    ):
        assert line in out
    assert (out.count("✓"), out.count("✗")) == (10, 0)
    assert "3 files" in out
    assert_nothing_left(temporary)


@pytest.mark.own_broker
@pytest.mark.timeout(2 * WITHIN + 10)
def test_with_a_broker_of_its_own_the_topic_is_the_log(folder: Path, cluster_folder: Path) -> None:
    """As `make demo KAFKA=1` runs it."""
    require_broker()
    temporary = cluster_folder / "tmp"
    lend = (sys.executable, "-m", "scripts.kafka", "lend", "--")
    process = start(temporary, *lend, PROGRAM, "demo", "--kafka", "--json", str(folder))
    try:
        out, err = process.communicate(timeout=2 * WITHIN)
    finally:
        process.terminate()  # it then ends what it has started
    assert (process.returncode, err) == (0, "")
    report = json.loads(out)
    (published,) = [one for one in report["promises"] if "Kafka" in one["promise"]]
    assert published["held"]
    assert "0 differ" in published["seen"]
    assert (report["held"], len(report["promises"])) == (True, 11)
    assert list(temporary.iterdir()) == []
    assert_nothing_left(temporary)


def test_kafka_without_brokers_says_what_to_set(folder: Path, cluster_folder: Path) -> None:
    process = start_demo(cluster_folder / "tmp", "--kafka", str(folder))
    out, err = process.communicate(timeout=WITHIN)
    assert (process.returncode, out) == (2, "")
    assert "EXECUTION_KAFKA_BOOTSTRAP_SERVERS: must be set" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_broken_off_it_leaves_nothing_behind(folder: Path, cluster_folder: Path, number: signal.Signals) -> None:
    temporary = cluster_folder / "tmp"
    process = start_demo(temporary, str(folder))
    assert process.stdout is not None
    for line in process.stdout:
        if "PENDING → RUNNING" in line:
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=WITHIN)
    assert (process.returncode, err) == (130, "")
    assert_nothing_left(temporary)


@pytest.mark.parametrize("name", ["missing", "file"])
def test_without_a_folder_it_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    process = start_demo(tmp_path / "tmp", str(tmp_path / name))
    out, err = process.communicate(timeout=WITHIN)
    assert (process.returncode, out) == (2, "")
    assert "Name an existing folder: execution demo PATH" in err


def recorded(log: given.Log) -> Recorded:
    """The log and its row as the database would have them."""
    execution = log.execution
    items = tuple(
        HistoryItem(
            execution_id=execution.id,
            version=event.version,
            type=event.type,
            occurred_at=event.occurred_at,
            actor=event.actor,
            data=event.data,
        )
        for event in log.events
    )
    return Recorded(row=execution, log=items)


def completed() -> Recorded:
    log = given.running()
    log.do(DONE, given.at(5))
    return recorded(log)


def cancelled_half_way() -> Recorded:
    log = given.running()
    log.do(HALF)
    log.do(Cancel())
    log.do(Finish(outcome=Cancelled()))
    return recorded(log)


def paused_and_resumed() -> Recorded:
    log = given.running()
    for command in (HALF, Pause(), ReachPausePoint(), Resume(), DONE):
        log.do(command)
    return recorded(log)


def rescued() -> Recorded:
    log = given.running(idempotent=True)
    log.do(Rescue(worker_id=given.WORKER))
    log.claim(worker_id=given.OTHER_WORKER, idempotent=True)
    log.do(DONE)
    return recorded(log)


def lost() -> Recorded:
    log = given.running()
    log.do(Rescue(worker_id=given.WORKER))
    return recorded(log)


def with_row(record: Recorded, **changes: Any) -> Recorded:
    return replace(record, row=msgspec.structs.replace(record.row, **changes))


def without_entry(record: Recorded, version: int) -> Recorded:
    return replace(record, log=tuple(item for item in record.log if item.version != version))


def with_entry(record: Recorded, version: int, **data: Any) -> Recorded:
    changed = (replace(item, data=item.data | data) if item.version == version else item for item in record.log)
    return replace(record, log=tuple(changed))


def published_log(record: Recorded) -> list[Envelope]:
    """As the relay says it."""
    codec = EventCodec()
    records = [codec.encode(envelope_of(logged_event(record.row, item.to_event()), "/test")) for item in record.log]
    return [codec.decode(one.value, one.headers) for one in records]


class TestTheTopicIsTheLog:
    def test_also_with_repeats(self) -> None:
        records = [rescued(), lost()]
        one, other = map(published_log, records)
        check = check_published(records, [*one[:3], *one, *other])
        assert check.held, check.seen

    @pytest.mark.parametrize(
        "tamper",
        [
            lambda events: events[:-1],
            lambda events: events[1:],
            lambda events: [events[1], events[0], *events[2:]],
            lambda events: [*events, msgspec.structs.replace(events[-1], sequence=events[-1].sequence + 1)],
            lambda events: [*events[:-1], msgspec.structs.replace(events[-1], time=None)],
            lambda events: [
                *events[:-1],
                msgspec.structs.replace(events[-1], data=events[-1].data | {"state": "COMPLETED"}),
            ],
            lambda events: [],
        ],
    )
    def test_and_nothing_else(self, tamper: Callable[[list[Envelope]], list[Envelope]]) -> None:
        record = lost()
        assert not check_published([record], tamper(published_log(record))).held

    def test_no_executions_prove_nothing(self) -> None:
        assert not check_published([], []).held


class TestTheLogIsTheTruth:
    def test_of_what_the_service_records(self) -> None:
        records = [cancelled_half_way(), paused_and_resumed(), rescued(), lost()]
        check, problems = check_log_is_truth(records)
        assert (check.held, problems) == (True, [])

    @pytest.mark.parametrize(
        "tamper",
        [
            lambda one: without_entry(one, 4),
            lambda one: without_entry(one, one.row.version),
            lambda one: with_entry(one, 4, percentage=51.0),
            lambda one: with_entry(one, one.row.version, result={"other": True}),
            lambda one: with_row(one, state=ExecutionState.FAILED),
            lambda one: with_row(one, version=one.row.version + 1),
            lambda one: with_row(one, parameters={"other": True}),
            lambda one: replace(one, log=()),
        ],
    )
    def test_and_of_nothing_else(self, tamper: Callable[[Recorded], Recorded]) -> None:
        check, problems = check_log_is_truth([tamper(paused_and_resumed()), rescued()])
        assert not check.held
        assert problems

    def test_no_executions_prove_nothing(self) -> None:
        assert not check_log_is_truth([])[0].held


BEFORE = given.running().execution
COMPLETE = completed()
INVENTORY = {"total": {"files": 1}, "languages": [{"files": 1}], "largest": []}

KEPT_AND_BROKEN: dict[str, tuple[Check, Check]] = {
    "at once": (check_at_once([COMPLETE, COMPLETE]), check_at_once([COMPLETE])),
    "at once, all": (check_at_once([COMPLETE] * 2), check_at_once([COMPLETE, COMPLETE, lost()])),
    "cancelled": (check_cancelled(cancelled_half_way()), check_cancelled(COMPLETE)),
    "paused": (check_paused(paused_and_resumed()), check_paused(COMPLETE)),
    "stale": (check_stale_refused("refused", BEFORE, BEFORE), check_stale_refused(None, BEFORE, BEFORE)),
    "stale, unchanged": (
        check_stale_refused("refused", BEFORE, BEFORE),
        check_stale_refused("refused", BEFORE, msgspec.structs.replace(BEFORE, version=99)),
    ),
    "rescued": (check_rescued(rescued(), -9), check_rescued(COMPLETE, -9)),
    "rescued after kill": (check_rescued(rescued(), -9), check_rescued(rescued(), 0)),
    "not repeated": (check_not_repeated(one := lost(), [str(one.row.id)]), check_not_repeated(rescued(), ["x"])),
    "one letter": (
        check_not_repeated(one, [str(one.row.id)]),
        check_not_repeated(one, [str(one.row.id), str(one.row.id)]),
    ),
    "drained": (check_drained([0, 0]), check_drained([0, -9])),
    "summary": (
        check_summary("One. Two.\nThree.", {"output": {"sentences": ["Two. Three."]}}),
        check_summary("One.", {"output": {"sentences": ["Two."]}}),
    ),
    "results": (
        check_results(Path(), INVENTORY, [], unchanged_since=0),
        check_results(Path(), INVENTORY | {"total": {"files": 2}}, [], unchanged_since=0),
    ),
}


@pytest.mark.parametrize("name", KEPT_AND_BROKEN)
def test_each_check_tells_a_kept_promise_from_a_broken_one(name: str) -> None:
    kept, broken = KEPT_AND_BROKEN[name]
    assert (kept.held, broken.held) == (True, False)


def test_results_are_compared_with_the_files(tmp_path: Path) -> None:
    text = tmp_path / "a.md"
    text.write_text("four")
    soon = time.time() + 60
    assert check_results(tmp_path, INVENTORY, [(text, {"bytes": 4})], unchanged_since=soon).held
    assert not check_results(tmp_path, INVENTORY, [(text, {"bytes": 5})], unchanged_since=soon).held
    digested = INVENTORY | {"largest": [{"path": "a.md", "bytes": 4, "sha256": "0" * 64}]}
    assert not check_results(tmp_path, digested, [], unchanged_since=soon).held
