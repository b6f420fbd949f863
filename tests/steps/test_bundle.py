"""A bundle of evidence proves offline what happened: whatever is changed in it is found, and its place is named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from execution.cli.app import main
from execution.cli.exit_codes import ExitCode
from execution.cli.verifying import verify_file
from execution.steps import (
    Bounds,
    BrokenEvidenceError,
    ExecutionResult,
    JobExecutor,
    JobStatus,
    OutputFolder,
    StepOutput,
    StepStatus,
    StoredOutput,
    StoredOutputError,
    evidence_bundle,
    stored_output,
    verify_bundle,
)
from execution.steps.canonical import canonical
from tests.support.step_plans import JOB, Observer, Recording, carry_out, failing, plan_of

MUTATIONS = 1_000
STEPS = 6
FEW = 3
"""Steps of what is verified thousands of times."""


def result_of(*step_types: str, output: dict[str, Any] | None = None) -> ExecutionResult:
    """`work` succeeds with the output, `break` fails."""
    kept = {"lines": ["é", "\u20ac\t", 1.5, -7, None, True], "inner": {"z": 1, "a": [[]]}} if output is None else output
    handlers = {"work": Recording(lambda *_: StepOutput(success=True, output=kept)), "break": failing("no disk")}
    return carry_out(JobExecutor(handlers), plan_of(*step_types, host="a", port=8080), Observer())


@pytest.fixture(scope="module")
def bundle() -> bytes:
    return evidence_bundle(result_of(*["work"] * (STEPS - 1), "break", "work"))


def broken(content: bytes, **options: Any) -> BrokenEvidenceError:
    with pytest.raises(BrokenEvidenceError) as raised:
        verify_bundle(content, **options)
    return raised.value


def edited(bundle: bytes, edit: Any) -> bytes:
    """The bundle after a change of its document, still canonical."""
    document = json.loads(bundle)
    edit(document)
    return canonical(document)


@pytest.fixture(scope="module")
def bundles() -> dict[str, bytes]:
    """One of a job that was completed, one that failed in the middle of its plan, one that was cancelled there."""
    finished = result_of(*["work"] * FEW, output={"line": "\u20ac", "n": 1})
    last = finished.step_results[-1]
    cut_off = replace(last, status=StepStatus.CANCELLED, output=None, error="it was cancelled; how far is not known")
    cancelled = replace(
        finished,
        steps=(*finished.steps, *plan_of(*["work"] * (FEW + 1))[-1:]),
        step_results=(*finished.step_results[:-1], cut_off),
        final_status=JobStatus.CANCELLED,
        final_reason="no longer needed",
    )
    failed = result_of(*["work"] * (FEW - 1), "break", "work", output={"line": "\u20ac", "n": 1})
    found = {one.final_status.value: evidence_bundle(one) for one in (finished, failed, cancelled)}
    assert {status: verify_bundle(content).final_status for status, content in found.items()} == {
        status: status for status in ("COMPLETED", "FAILED", "CANCELLED")
    }
    return found


@pytest.fixture
def verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[bytes], tuple[int, Any]]:
    """What `execution verify --json` ends with and says of a bundle."""
    path = tmp_path / "bundle.json"
    monkeypatch.setattr(sys, "argv", ["execution", "verify", str(path), "--json"])

    def verify(content: bytes) -> tuple[int, Any]:
        path.write_bytes(content)
        with pytest.raises(SystemExit) as raised:
            main()
        assert isinstance(raised.value.code, int)
        return raised.value.code, json.loads(capsys.readouterr().out)

    return verify


class TestMutations:
    """1,000 of each kind at random, of evidence of each end: every one is found, and its place named."""

    def test_one_byte_anywhere(self, bundles: dict[str, bytes], chance: Random) -> None:
        kinds = set()
        for bundle, times in shared_out(bundles):
            spans = spans_of(bundle)
            for _ in range(times):
                offset, flipped = chance.randrange(len(bundle)), bytearray(bundle)
                flipped[offset] ^= chance.randrange(1, 256)
                place = broken(bytes(flipped)).place
                kinds.add(place.split()[0].split("[")[0].split(".")[0])
                if place.startswith("byte "):
                    assert 0 <= int(place.removeprefix("byte ")) <= len(bundle)
                elif place != "the document":
                    part = next(name for name, (start, end) in spans.items() if start <= offset < end)
                    assert place.startswith(part), f"byte {offset} is in {part}, and {place} was blamed"
        assert {"byte", "steps", "plan", "job", "closing"} <= kinds

    @pytest.mark.parametrize("tampering", ["drop", "repeat", "reorder"])
    def test_a_step(self, bundles: dict[str, bytes], chance: Random, tampering: str) -> None:
        for bundle, times in shared_out(bundles):
            parts = Parts(bundle)
            for _ in range(times):
                name = chance.choice(["steps", "steps", "plan"])
                entries = parts.entries(name)
                expected = TAMPERINGS[tampering](entries, chance)
                place = broken(parts.joined(name, entries)).place
                if name == "plan":
                    assert place == "opening"
                else:
                    assert place == (f"steps[{expected}]" if expected < len(entries) else "closing")

    @pytest.mark.parametrize("tampering", ["flip", "drop", "repeat", "reorder"])
    def test_the_command_says_so(
        self, bundles: dict[str, bytes], chance: Random, verify: Callable[[bytes], tuple[int, Any]], tampering: str
    ) -> None:
        for bundle in bundles.values():
            parts = Parts(bundle)
            entries = parts.entries("steps")
            if tampering == "flip":
                code, said = verify(bundle.replace(b"executor", b"executer", 1))
            else:
                TAMPERINGS[tampering](entries, chance)
                code, said = verify(parts.joined("steps", entries))
            assert (code, said["holds"], bool(said["place"])) == (ExitCode.UNEXPECTED, False, True)

    def test_what_was_not_changed_holds(self, bundles: dict[str, bytes]) -> None:
        """As it is put together here: otherwise all of the above would be found for a reason of their own."""
        for bundle in bundles.values():
            parts = Parts(bundle)
            assert (
                parts.joined("steps", parts.entries("steps")) == parts.joined("plan", parts.entries("plan")) == bundle
            )

    def test_a_byte_more_or_less_at_either_end(self, bundle: bytes) -> None:
        for content in (bundle + b"\n", bundle + b" ", b" " + bundle, bundle[:-1], bundle[1:], b"", bundle * 2):
            assert broken(content).place.startswith("byte ")


def shared_out(bundles: dict[str, bytes]) -> list[tuple[bytes, int]]:
    """Each bundle, and how many of the mutations it gets."""
    return [(bundle, MUTATIONS // len(bundles) + 1) for bundle in bundles.values()]


class Parts:
    """A bundle cut into its entries, to be put together otherwise without being encoded anew."""

    def __init__(self, bundle: bytes) -> None:
        self._bundle = bundle
        document = json.loads(bundle)
        self._entries = {name: [canonical(one) for one in document[name]] for name in ("steps", "plan")}

    def entries(self, name: str) -> list[bytes]:
        return list(self._entries[name])

    def joined(self, name: str, entries: list[bytes]) -> bytes:
        before, after = (b",".join(one) for one in (self._entries[name], entries))
        assert self._bundle.count(before) == 1
        return self._bundle.replace(before, after)


def dropped(entries: list[bytes], chance: Random) -> int:
    at = chance.randrange(len(entries))
    del entries[at]
    return at


def repeated(entries: list[bytes], chance: Random) -> int:
    at = chance.randrange(len(entries))
    entries.insert(at, entries[at])
    return at + 1


def reordered(entries: list[bytes], chance: Random) -> int:
    """Two of them change places, or one moves."""
    at, other = chance.sample(range(len(entries)), 2)
    if chance.random() < 0.5:
        entries[at], entries[other] = entries[other], entries[at]
    else:
        entries.insert(other, entries.pop(at))
    return min(at, other)


TAMPERINGS = {"drop": dropped, "repeat": repeated, "reorder": reordered}


def spans_of(bundle: bytes) -> dict[str, tuple[int, int]]:
    """Where each part stands in the bytes; the opening is repeated later, as the first `previous`."""
    document = json.loads(bundle)
    parts = {part: document[part] for part in ("closing", "format", "job", "opening")}
    parts |= {f"{name}[{at}]": one for name in ("plan", "steps") for at, one in enumerate(document[name])}
    spans = {}
    for name, value in parts.items():
        text = canonical(value)
        start = bundle.index(text)
        spans[name] = (start, start + len(text))
    return spans


class TestWhatABundleSays:
    def test_each_step_with_all_that_is_known_of_it(self, bundle: bytes) -> None:
        document = json.loads(bundle)
        assert document["format"] == "execution-evidence/1"
        assert document["job"]["job_id"] == str(JOB)
        assert [one["status"] for one in document["steps"]] == ["COMPLETED"] * (STEPS - 1) + ["FAILED"]
        first = document["steps"][0]
        assert first["handler"] == {"name": "recording", "version": "2.1.0", "idempotent": False}
        assert first["inputs_digest"] == document["plan"][0]["digest"]
        assert first["output"]["inline"]["inner"] == {"a": [[]], "z": 1}
        assert first["health_before"] == first["health_after"] == Observer().health
        assert first["previous"] == document["opening"]
        assert document["steps"][-1]["error"] == "no disk"
        assert len(document["plan"]) == STEPS + 1, "what was not executed was planned all the same"

    def test_a_bundle_that_holds_says_so_in_short(self, bundle: bytes) -> None:
        verified = verify_bundle(bundle)
        assert (verified.job_id, verified.final_status) == (str(JOB), "FAILED")
        assert (verified.steps_planned, verified.steps_executed) == (STEPS + 1, STEPS)
        assert verified.seal == json.loads(bundle)["closing"]["digest"]
        assert verified.unchecked == ()

    def test_a_job_without_steps_or_handlers_or_health(self) -> None:
        assert verify_bundle(evidence_bundle(result_of())).steps_executed == 0
        assert verify_bundle(evidence_bundle(carry_out(JobExecutor(), plan_of("nobody")))).final_status == "FAILED"

    def test_the_seal_finds_a_bundle_that_was_written_anew(self, bundle: bytes) -> None:
        seal = verify_bundle(bundle).seal
        assert verify_bundle(bundle, seal=seal).seal == seal
        forged = evidence_bundle(result_of("work"))
        verify_bundle(forged)
        assert broken(forged, seal=seal).place == "closing.digest"

    def test_a_cancelled_job(self) -> None:
        finished = result_of("work", "work", "work")
        last = replace(finished.step_results[1], status=StepStatus.CANCELLED, output=None, error="cancelled")
        cancelled = replace(
            finished,
            step_results=(finished.step_results[0], last),
            final_status=JobStatus.CANCELLED,
            final_reason="no longer needed",
        )
        assert verify_bundle(evidence_bundle(cancelled)).final_status == "CANCELLED"

    def test_a_step_that_was_cut_off_and_executed_again(self) -> None:
        """Only of a durable plan: the synchronous machine never does it."""
        finished = result_of("work", "work")
        cut_off = replace(finished.step_results[1], status=StepStatus.OUTCOME_UNKNOWN, output=None, error="worker died")
        again = replace(finished.step_results[1], attempt=2)
        twice = replace(finished, step_results=(finished.step_results[0], cut_off, again))
        assert verify_bundle(evidence_bundle(twice)).steps_executed == 3
        uncounted = replace(twice, step_results=(*twice.step_results[:2], finished.step_results[1]))
        assert "EXEC-003" in broken(evidence_bundle(uncounted)).problem


class TestContradictions:
    """Records whose digests fit, and which no machine can have left behind."""

    @staticmethod
    def place_in(result: ExecutionResult) -> str:
        return broken(evidence_bundle(result)).place

    def test_steps_in_another_order_or_twice(self) -> None:
        result = result_of("work", "work", "work")
        one, two, three = result.step_results
        assert self.place_in(replace(result, step_results=(two, one, three))) == "steps[0]"
        assert self.place_in(replace(result, step_results=(one, one, two))) == "steps[1]"
        assert self.place_in(replace(result, step_results=(one, three))) == "steps[1]"
        assert self.place_in(replace(result, step_results=(one, two, three, three))) == "steps[3]"

    def test_a_job_that_went_on_after_a_failure(self) -> None:
        result = result_of("work", "work", "work")
        failed = replace(result.step_results[0], status=StepStatus.FAILED, error="no")
        assert self.place_in(replace(result, step_results=(failed, *result.step_results[1:]))) == "steps[1]"

    def test_a_job_that_is_completed_without_all_steps(self) -> None:
        result = result_of("work", "work")
        assert self.place_in(replace(result, step_results=result.step_results[:1])) == "closing"

    @pytest.mark.parametrize(
        ("edit", "place"),
        [
            (lambda it: it.pop("closing"), "the document"),
            (lambda it: it.update(more=1), "the document"),
            (lambda it: it["job"].pop("job_id"), "job"),
            (lambda it: it["steps"][1].update(signed=True), "steps[1]"),
            (lambda it: it["steps"][2].update(status="RUNNING"), "steps[2].status"),
            (lambda it: it["steps"][2].update(attempt=0), "steps[2].attempt"),
            (lambda it: it["steps"][0]["output"].update(digest="md5:0"), "steps[0].output.digest"),
            (lambda it: it["steps"][0]["output"]["inline"].update(lines=[]), "steps[0].output"),
            (lambda it: it["steps"][0]["output"].update(place="elsewhere"), "steps[0].output"),
            (lambda it: it["steps"][0]["output"].update(size=1), "steps[0].output"),
            (lambda it: it["plan"][3]["parameters"]["inline"].update(host="b"), "plan[3].parameters"),
            (lambda it: it["plan"][3].update(weight=2), "plan[3]"),
            (lambda it: it["job"].update(executed_by="root"), "job"),
            (lambda it: it["job"].update(started_at="2026-01-04T00:00:00"), "job.started_at"),
            (lambda it: it["steps"][4].update(executed_by="root"), "steps[4]"),
            (lambda it: it["closing"].update(final_status="COMPLETED"), "closing"),
            (lambda it: it.update(format="execution-evidence/2"), "format"),
        ],
        ids=range(17),
    )
    def test_a_field_that_was_edited(self, bundle: bytes, edit: Any, place: str) -> None:
        assert broken(edited(bundle, edit)).place == place

    def test_a_part_of_another_job(self, bundle: bytes) -> None:
        other = json.loads(evidence_bundle(result_of(*["work"] * STEPS, output={"other": True})))
        assert broken(edited(bundle, lambda it: it.update(job=other["job"]))).place == "opening"
        assert broken(edited(bundle, lambda it: it.update(steps=other["steps"]))).place == "steps[0]"
        assert broken(edited(bundle, lambda it: it.update(closing=other["closing"]))).place == "closing"

    def test_other_json(self) -> None:
        for content in (b"[]", b"null", b'"text"', b"{}"):
            assert broken(content).place == "the document"


class TestLargeOutputs:
    LARGE: dict[str, Any] = {"text": "ß" * 200_000}  # noqa: RUF012 - read only

    def test_they_are_kept_as_digest_size_and_place(self, tmp_path: Path) -> None:
        store = OutputFolder(tmp_path)
        result = result_of("work", output=self.LARGE)
        content = evidence_bundle(result, Bounds(store=store))
        kept = json.loads(content)["steps"][0]["output"]
        assert len(content) < 5_000
        assert (kept["inline"], kept["size"]) == (None, len(canonical(self.LARGE)))
        assert store.read(kept["place"]) == canonical(self.LARGE)
        assert verify_bundle(content).unchecked == ("steps[0].output",)
        assert verify_bundle(content, store=store).unchecked == ()
        assert evidence_bundle(result, Bounds(store=store)) == content, "kept once, under one name"
        assert [one.name for one in tmp_path.rglob("*.json")] == [Path(kept["place"]).name]

    def test_a_stored_output_that_was_changed_or_lost(self, tmp_path: Path) -> None:
        store = OutputFolder(tmp_path)
        content = evidence_bundle(result_of("work", output=self.LARGE), Bounds(store=store))
        path = tmp_path / json.loads(content)["steps"][0]["output"]["place"]
        path.write_bytes(path.read_bytes().replace("ß".encode(), "ẞ".encode(), 1))
        assert broken(content, store=store).place == "steps[0].output"
        path.unlink()
        assert "missing" in broken(content, store=store).problem

    def test_one_that_is_not_whole_is_stored_anew(self, tmp_path: Path) -> None:
        store = OutputFolder(tmp_path)
        place = store.keep(b"[1,2]")
        (tmp_path / place).write_bytes(b"[1,3]")
        assert store.keep(b"[1,2]") == place
        assert store.read(place) == b"[1,2]"
        assert [one.name for one in tmp_path.rglob("*") if one.is_file()] == [Path(place).name]

    def test_without_a_store_they_are_measured_only(self) -> None:
        content = evidence_bundle(result_of("work", output=self.LARGE))
        kept = json.loads(content)["steps"][0]["output"]
        assert (kept["inline"], kept["place"]) == (None, None)
        assert verify_bundle(content).unchecked == ("steps[0].output",)

    def test_the_bound_is_exact(self) -> None:
        value = {"text": "x" * 100}
        size = len(canonical(value))
        assert stored_output(value, Bounds(inline_limit=size)) is None
        assert stored_output(value, Bounds(inline_limit=size - 1)) is not None

    def test_an_output_that_was_stored_when_the_step_ended(self, tmp_path: Path) -> None:
        """As a durable plan does it, whose log holds no more than this."""
        store = OutputFolder(tmp_path)
        stored = stored_output(self.LARGE, Bounds(store=store))
        assert isinstance(stored, StoredOutput)
        result = result_of("work")
        [one] = result.step_results
        late = replace(result, step_results=(replace(one, output=None, stored_output=stored),))
        assert verify_bundle(evidence_bundle(late), store=store).unchecked == ()

    @pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "sha256/ab/../../x", "sha256/ab/cd.json", ""])
    def test_a_place_cannot_lead_out_of_the_store(self, tmp_path: Path, place: str) -> None:
        with pytest.raises(StoredOutputError, match="not the name of an output"):
            OutputFolder(tmp_path / "store").read(place)

    def test_a_store_that_cannot_be_written_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoredOutputError):
            evidence_bundle(result_of("work", output=self.LARGE), Bounds(store=OutputFolder(tmp_path / "file")))
        assert list(tmp_path.iterdir()) == [tmp_path / "file"]


class TestCommand:
    """The program itself; its own process, without any service."""

    @staticmethod
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "execution.cli", "verify", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    def test_its_exit_code_and_words(self, bundle: bytes, tmp_path: Path) -> None:
        path = tmp_path / "bundle.json"
        path.write_bytes(bundle)
        held = self.run(path)
        assert (held.returncode, held.stderr) == (ExitCode.OK, "")
        assert held.stdout.startswith(f"The evidence holds. Job {JOB} ended FAILED; 6 executed of 7 planned steps.")
        path.write_bytes(bundle.replace(b"no disk", b"no dusk", 1))
        tampered = self.run(path)
        assert tampered.returncode == ExitCode.UNEXPECTED
        assert "closing" in tampered.stdout

    def test_for_scripts_and_with_outputs(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path, outputs = tmp_path / "bundle.json", tmp_path / "outputs"
        content = evidence_bundle(result_of("work", output=TestLargeOutputs.LARGE), Bounds(store=OutputFolder(outputs)))
        path.write_bytes(content)
        seal = verify_bundle(content).seal
        assert verify_file(path, outputs=None, seal=seal, as_json=True) is ExitCode.OK
        said = capsys.readouterr()
        assert json.loads(said.out)["unchecked"] == ["steps[0].output"]
        assert "--outputs" in json.loads(said.err)["hint"]
        assert verify_file(path, outputs=outputs, seal=None, as_json=True) is ExitCode.OK
        assert json.loads(capsys.readouterr().out)["unchecked"] == []
        assert verify_file(path, outputs=outputs, seal="sha256:0", as_json=False) is ExitCode.UNEXPECTED
        assert verify_file(tmp_path / "none.json", outputs=None, seal=None, as_json=False) is ExitCode.INVALID
