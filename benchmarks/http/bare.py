"""The floor of the HTTP door: bare FastAPI routes, each doing one hand-written statement, as a process of its own.

They check a small body with pydantic and answer with the row as JSON: no tenants, keys, limits, entity tags, links.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict

from execution.bench.floor import FloorRun, create_batch

URL = "EXECUTION_DATABASE_URL"
CONNECTIONS = 10
ONE = FloorRun(executions=1)
LISTED = "SELECT * FROM executions WHERE tenant_id = $1 ORDER BY id DESC LIMIT 50"


class NewExecution(BaseModel):
    """The body of a submission."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    parameters: dict[str, Any] = {}


def bare_app() -> FastAPI:
    """The three routes over a pool."""
    pools: list[Any] = []

    @asynccontextmanager
    async def with_pool(_: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(os.environ[URL], min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
            pools.append(pool)
            yield

    app = FastAPI(lifespan=with_pool)

    @app.post("/v1/executions")
    async def create(body: NewExecution) -> Response:
        async with pools[0].acquire() as connection:
            (created,) = await create_batch(connection, 1, ONE)
        return _json({"id": created, "kind": body.kind}, 202)

    @app.get("/v1/executions/{execution_id}")
    async def get(execution_id: UUID) -> Response:
        row = await pools[0].fetchrow("SELECT * FROM executions WHERE id = $1", execution_id)
        return _json(dict(row), 200)

    @app.get("/v1/executions")
    async def listed(limit: int = 50) -> Response:
        rows = await pools[0].fetch(LISTED, "default")
        return _json({"items": [dict(row) for row in rows[:limit]]}, 200)

    return app


def _json(content: dict[str, Any], status: int) -> Response:
    return Response(orjson.dumps(content, default=str), status, media_type="application/json")


async def main() -> None:
    """Serve on a port of its own until killed; the port is the first line of the output."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # otherwise answers wait 40 ms for an ACK
    server = uvicorn.Server(uvicorn.Config(bare_app(), log_level="warning", loop="uvloop", http="httptools"))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(main())
