"""`execution serve`, driven as its users do: one process that answers HTTP and runs executions."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from execution.cli.exit_codes import ExitCode
from tests.support.nursery import Nursery
from tests.support.shell import WITHIN, Shell
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("cli")


@pytest.fixture(scope="module")
def shell(run_folder: Path, nursery: Nursery) -> Iterator[Shell]:
    """A folder with a database of its own, which a client keeps up between the tests."""
    folder = run_folder / f"serve-{uuid4().hex}"
    folder.mkdir()
    shell = Shell(folder=folder, settings={"DATA_DIR": str(folder / "data")}, nursery=nursery)
    with shell.worker("--kinds", "files.inventory"):
        yield shell


@contextmanager
def serving(shell: Shell, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with shell.running("serve", "--port", "0", "--json", *options) as (process, line):
        yield process, json.loads(line)["url"]


@pytest.fixture
def served(shell: Shell) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the address it serves."""
    with serving(shell) as served:
        yield served


def test_one_process_answers_and_works(served: tuple[subprocess.Popen[str], str]) -> None:
    process, url = served
    with httpx.Client(base_url=url, timeout=WITHIN) as client:
        created = client.post("/v1/executions", json={"kind": "noop"}, headers={"prefer": "wait=20"})
        assert (created.status_code, created.json()["state"]) == (200, "COMPLETED")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=WITHIN) == ExitCode.OK


async def test_a_stop_lets_go_whoever_waits_for_an_end(shell: Shell) -> None:
    """The request would wait for a minute, and the execution would run for one."""
    with serving(shell, "--drain-timeout", "0.5") as (process, url):
        async with httpx.AsyncClient(base_url=url, timeout=WITHIN) as client:
            body = {"kind": "noop", "parameters": {"seconds": 60}, "task_id": "held"}
            waiting = asyncio.create_task(client.post("/v1/executions", json=body, headers={"prefer": "wait=60"}))
            await eventually(partial(is_running, client, "held"), within=WITHIN, what="it runs")
            process.send_signal(signal.SIGTERM)
            answer = await waiting
        assert (answer.status_code, answer.json()["state"]) == (202, "RUNNING")
        assert process.wait(timeout=WITHIN) == ExitCode.OK
    # It was given back, to be run again: the worker of the next test would wait for it.
    assert shell.run("cancel", answer.json()["id"]).code == ExitCode.OK


async def is_running(client: httpx.AsyncClient, task_id: str) -> bool:
    found = await client.get("/v1/executions", params={"state": "RUNNING", "task_id": task_id})
    return bool(found.json()["items"])


def test_an_address_in_use(shell: Shell, served: tuple[subprocess.Popen[str], str]) -> None:
    _, url = served
    ended = shell.run("serve", "--port", url.rpartition(":")[2], "--json")
    assert (ended.code, json.loads(ended.err)["code"]) == (ExitCode.INVALID, "settings")
    assert "cannot listen on 127.0.0.1 port" in ended.err


def test_without_a_worker_nothing_is_run(shell: Shell) -> None:
    with serving(shell, "--no-worker", "--no-relay") as (process, url):
        with httpx.Client(base_url=url, timeout=WITHIN) as client:
            created = client.post("/v1/executions", json={"kind": "noop"}, headers={"prefer": "wait=1"})
        assert (created.status_code, created.json()["state"]) == (202, "PENDING")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=WITHIN) == ExitCode.OK
