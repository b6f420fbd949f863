"""Values that arrive as JSON or in a query, read as strictly as their schema says."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator, Field

ONE = "/{execution_id:uuid}"
"""The place of one execution. What is no id is nowhere, and so does not hide what else is served there."""
VERSION_LIMIT = 2_147_483_647


_UNESCAPED_PLUS = re.compile(r"(?<=T)(?P<time>[0-9:.]+) (?=[0-9]{2}:?[0-9]{2}$)")


def _iso_8601(value: object) -> object:
    """Refuse what pydantic would take for seconds since 1970; a plus that a query turned into a blank is one again."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or "-" not in value.strip()[1:]:
        raise ValueError("a time is written as in ISO 8601, with time zone")
    return _UNESCAPED_PLUS.sub(r"\g<time>+", value)


Moment = Annotated[AwareDatetime, BeforeValidator(_iso_8601, json_schema_input_type=datetime)]
"""A time with time zone."""
Version = Annotated[int, Field(ge=1, le=VERSION_LIMIT)]
