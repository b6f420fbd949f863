"""`execution serve` and the API keys: what it says without any, and what one changes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from execution.cli.exit_codes import ExitCode
from tests.support.nursery import Nursery
from tests.support.shell import WITHIN, Shell, said
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("cli")


@pytest.fixture
def shell(run_folder: Path, nursery: Nursery) -> Iterator[Shell]:
    """A folder with a database of its own, which a worker keeps up."""
    folder = run_folder / f"keys-{uuid4().hex}"
    folder.mkdir()
    shell = Shell(folder=folder, settings={"DATA_DIR": str(folder / "data")}, nursery=nursery)
    with shell.worker("--kinds", "files.inventory"):
        yield shell


async def test_keys_count_from_the_first_to_the_last(shell: Shell) -> None:
    exposed = shell.run("serve", "--host", "0.0.0.0", "--port", "0", "--json")
    assert (exposed.code, exposed.out) == (ExitCode.INVALID, "")
    assert "EXECUTION_HOST (0.0.0.0) lets other machines in" in json.loads(exposed.err.splitlines()[-1])["message"]

    # Nobody reads its log, so what it says of each request would fill the pipe.
    quiet = shell.with_settings(LOG_LEVEL="WARNING")
    with quiet.running("serve", "--port", "0", "--no-worker", "--json") as (process, line):
        said(process, "there is no API key, so only this machine is served")
        async with httpx.AsyncClient(base_url=json.loads(line)["url"], timeout=WITHIN) as client:
            created = await client.post("/v1/executions", json={"kind": "noop"})
            assert created.status_code == 202
            own = created.headers["location"]
            token = shell.run("keys", "create", "ci", "--scope", "read").out.strip()
            key = {"authorization": f"Bearer {token}"}

            async def status(headers: dict[str, str], expected: int) -> bool:
                return (await client.get(own, headers=headers)).status_code == expected

            await eventually(lambda: status({}, 401), within=5, what="a key is needed")
            assert await status(key, 200)
            assert (await client.post("/v1/executions", json={"kind": "noop"}, headers=key)).status_code == 403
            assert shell.run("keys", "revoke", token).code == ExitCode.OK
            await eventually(lambda: status(key, 401), within=5, what="the key is dead")
            assert await status({}, 401), "no key is left, and one is needed nevertheless"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=WITHIN)
        assert process.returncode == ExitCode.OK
    assert token[17:] not in errors
    with shell.running("serve", "--host", "0.0.0.0", "--port", "0", "--no-worker", "--json") as (process, line):
        assert httpx.get(json.loads(line)["url"] + own, timeout=WITHIN).status_code == 401
