"""Query parameters: a misspelt one is refused, and not silently without effect."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request
from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel

from execution.request_errors import InvalidFieldsError


def query_parameters(dependant: Dependant) -> frozenset[str]:
    """The names that a route and its dependencies declare."""
    own = {name for field in dependant.query_params for name in _names(field)}
    return frozenset(own).union(*(query_parameters(one) for one in dependant.dependencies))


def _names(field: ModelField) -> Iterator[str]:
    """The parameter, or those of the model that a route takes its query as."""
    annotation = field.field_info.annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from (one.alias or name for name, one in annotation.model_fields.items())
    else:
        yield field.alias


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
