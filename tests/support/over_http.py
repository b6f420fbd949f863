"""Driving executions over HTTP in tests."""

from __future__ import annotations

from typing import Any

import httpx

from execution.domain.execution import JsonObject


async def submitted(api: httpx.AsyncClient, **fields: Any) -> JsonObject:
    """A new execution of a kind that does nothing."""
    answer = await api.post("/v1/executions", json={"kind": "noop"} | fields)
    assert answer.status_code == 202, answer.text
    document: JsonObject = answer.json()
    return document


def check_problem(answer: httpx.Response, status: int, code: str) -> JsonObject:
    """The problem that an answer is."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    document: JsonObject = answer.json()
    assert (document["type"], document["code"], document["status"]) == (f"/problems/{code}", code, status)
    assert document["title"]
    assert document["detail"]
    return document
