"""Query parameters: a misspelt one is refused, and not silently without effect."""

from __future__ import annotations

from fastapi import Request, params
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params

from execution.api.errors import InvalidFieldsError


def query_parameters(dependant: Dependant) -> frozenset[str]:
    """The names that a route and its dependencies declare."""
    return frozenset(one.alias for one in get_flat_params(dependant) if isinstance(one.field_info, params.Query))


def refuse_unknown(request: Request, known: frozenset[str]) -> None:
    """Refuse a request with other parameters than those.

    Raises:
        InvalidFieldsError: it names each of them, and what there is.
    """
    if not request.scope["query_string"]:
        return
    unknown = sorted(request.query_params.keys() - known)
    if unknown:
        what = f"Not a parameter here; there is {', '.join(sorted(known)) or 'none'}"
        raise InvalidFieldsError([{"in": "query", "pointer": f"#/{name}", "message": what} for name in unknown])
