"""The agent directory: whom an `agent.task` may name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from execution.errors import AgentNotFoundError
from execution.repository.database import Database
from execution.repository.reading import translating
from execution.repository.tables import agents


@dataclass(frozen=True, kw_only=True)
class Agent:
    """An agent: which model it uses, and the instructions it gives to it."""

    id: str
    model: str
    instructions: str = ""
    tenant_id: str = "default"

    def to_json(self) -> dict[str, Any]:
        """What the model service is told of it."""
        return {"id": self.id, "model": self.model, "instructions": self.instructions}


class AgentDirectory:
    """Registers and finds agents."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def register(self, agent: Agent) -> None:
        """Add an agent, or change the one of that id."""
        values = {"model": agent.model, "instructions": agent.instructions}
        statement = insert(agents).values(tenant_id=agent.tenant_id, id=agent.id, **values)
        upsert = statement.on_conflict_do_update(index_elements=["tenant_id", "id"], set_=values)
        with translating("Registering an agent"):
            async with self._db.engine.begin() as connection:
                await connection.execute(upsert)

    async def get(self, tenant_id: str, agent_id: str | None) -> Agent:
        """The agent of that id.

        Raises:
            AgentNotFoundError: no id, or nobody of that id.
        """
        query = select(agents).where(agents.c.tenant_id == tenant_id, agents.c.id == agent_id)
        with translating("Finding an agent"):
            async with self._db.engine.connect() as connection:
                row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            raise AgentNotFoundError(agent_id)
        return Agent(id=row["id"], model=row["model"], instructions=row["instructions"], tenant_id=row["tenant_id"])
