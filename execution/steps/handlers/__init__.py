"""The handlers that do something outside: what the settings `EXECUTION_STEPS_*` allow, which at first is nothing."""

from execution.steps.handlers.production import awaited_handlers, capability_handlers, production_handlers

__all__ = ["awaited_handlers", "capability_handlers", "production_handlers"]
