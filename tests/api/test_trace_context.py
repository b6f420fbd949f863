"""The trace that a submission belongs to goes on with the execution."""

from __future__ import annotations

from uuid import UUID

import httpx

from execution.service import ExecutionService

OF_HEADER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OF_BODY = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
INVALID = (
    "",
    "garbage",
    OF_HEADER.upper(),
    OF_HEADER + "-x",
    "ff" + OF_HEADER[2:],
    OF_HEADER.replace("b7ad6b7169203331", "0" * 16),
)


async def kept(api: httpx.AsyncClient, service: ExecutionService, traceparent: str, **fields: str) -> str | None:
    """The trace context of an execution submitted with that header."""
    answer = await api.post("/v1/executions", json={"kind": "noop", **fields}, headers={"traceparent": traceparent})
    assert answer.status_code == 202
    return (await service.get_execution(UUID(answer.json()["id"]))).trace_context


async def test_the_header_is_kept(api: httpx.AsyncClient, service: ExecutionService) -> None:
    assert await kept(api, service, OF_HEADER) == OF_HEADER


async def test_what_the_body_says_counts_more(api: httpx.AsyncClient, service: ExecutionService) -> None:
    assert await kept(api, service, OF_HEADER, trace_context=OF_BODY) == OF_BODY


async def test_an_invalid_one_is_ignored(api: httpx.AsyncClient, service: ExecutionService) -> None:
    assert [await kept(api, service, one) for one in INVALID] == [None] * len(INVALID)
