"""When the service itself tries again: only by the policy the submitter gave."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

YEAR_SECONDS = 31_536_000


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often, how soon, and after which errors a failed attempt is repeated.

    `max_attempts` counts the first one. Delays are seconds. `jitter` is the share of a delay that chance may add or
    take away. `error_types` are values of `error.type`; empty means every type except those in `NEVER_RETRIED`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    # What the annotations add holds for policies that arrive as JSON, and is said of them; `__post_init__` for all.
    max_attempts: Annotated[int, Field(strict=True, ge=1, le=1000)] = 3
    initial_delay: Annotated[float, Field(strict=True, ge=0, le=YEAR_SECONDS)] = 1.0
    multiplier: Annotated[float, Field(strict=True, ge=1, le=1000)] = 2.0
    max_delay: Annotated[float, Field(strict=True, ge=0, le=YEAR_SECONDS)] = 300.0
    jitter: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.2
    error_types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.max_attempts <= 1000:
            raise ValueError("max_attempts must be between 1 and 1000")
        if not 0 <= self.initial_delay <= self.max_delay <= YEAR_SECONDS:
            raise ValueError("delays must satisfy 0 <= initial_delay <= max_delay <= one year")
        if not 1 <= self.multiplier <= 1000 or not 0 <= self.jitter <= 1:
            raise ValueError("multiplier must be between 1 and 1000, jitter between 0 and 1")

    def allows(self, attempt: int, error_type: str) -> bool:
        """May attempt number `attempt`, which ended with this error, be followed by another one?"""
        if attempt >= self.max_attempts or error_type in NEVER_RETRIED:
            return False
        return not self.error_types or error_type in self.error_types

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds to wait after attempt number `attempt`; `chance` in 0..1 places it within the jitter."""
        # The exponent is capped because a float power overflows long before the delay's own cap is applied.
        plain = min(self.max_delay, self.initial_delay * self.multiplier ** min(attempt - 1, 64))
        return max(0.0, plain * (1 + self.jitter * (2 * chance - 1)))

    def to_json(self) -> dict[str, Any]:
        """The policy as a JSON object."""
        return asdict(self) | {"error_types": list(self.error_types)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """The policy from its JSON object."""
        return cls(**document | {"error_types": tuple(document.get("error_types", ()))})


NEVER_RETRIED = frozenset({"outcome_unknown", "abandoned"})
"""Nobody knows whether these attempts had their effect, so the service does not repeat them on its own."""
