"""What Schemathesis is told beyond OpenAPI; it loads this by itself (`schemathesis.toml`)."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies

KIND = "kind"
ENTITY_TAGS = "entity-tags"
_CONDITIONS = {"If-Match", "If-None-Match"}

schemathesis.openapi.format(
    KIND, strategies.sampled_from(["noop", "noop", "noop", "text.analyze", "files.inventory", "nobody.runs.this"])
)
schemathesis.openapi.format(
    ENTITY_TAGS,
    strategies.sampled_from(["*", '"1"', '"2"', '"3"', 'W/"2"', '"1", "2"', '"x", "4"']),
)


@schemathesis.hook
def before_load_schema(_context: object, raw_schema: dict[str, Any]) -> None:
    """Formats for what it would hardly hit upon: kinds that are run, so that there are executions to go on with.

    It makes up no header whose pattern has quotes, as entity tags have: it sends a 0 instead.
    """
    raw_schema["components"]["schemas"]["Submission"]["properties"]["kind"]["format"] = KIND
    for item in raw_schema["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in _CONDITIONS:
                    parameter["schema"]["format"] = ENTITY_TAGS
