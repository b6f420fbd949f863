"""`execution settings`: every setting there is, from the texts under the fields of `Settings`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from textwrap import fill

from rich.text import Text

from execution.cli.exit_codes import ExitCode
from execution.cli.output import answer
from execution.command_settings import CommandSettings
from execution.kafka_security_settings import KafkaSecuritySettings
from execution.kafka_settings import KafkaSettings
from execution.presentation import printable
from execution.settings import Settings, is_secret, variable_of
from execution.steps_settings import StepsSettings

_PARTS = (Settings, KafkaSecuritySettings, KafkaSettings, CommandSettings, StepsSettings)
"""In the order in which a reader needs them."""
_SECTION_BEGINS = {
    "database_url": "Database",
    "worker_concurrency": "Worker",
    "progress_interval_seconds": "Executions",
    "handlers": "Handlers",
    "host": "HTTP",
    "log_level": "Log",
    "kafka_bootstrap_servers": "Kafka: where, and how to log in",
    "kafka_timeout_seconds": "Kafka: events and the relay",
    "kafka_commands_topic": "Kafka: commands",
    "steps_shell_programs": "Steps: what they may do",
}
_INDENT = "    "
_INTRODUCTION = """\
# Settings

Each is an environment variable; in Python the same in lower case and without `EXECUTION_`, `Settings.load(port=9000)`,
which counts more than the environment. Nothing has to be set. A wrong value is refused at the start, with all others
that are wrong; a misspelt name sets nothing, and `execution doctor` finds it. `execution settings` shows this list with
what is set.

This page is made by `make contract`, from the texts in the code.
"""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One of them; `value` is what the environment says, None where it says nothing."""

    variable: str
    section: str
    meaning: str
    value: str | None


async def list_settings(*, markdown: bool, as_json: bool) -> int:
    """Print them, also where what is set is wrong: whoever looks something up may be about to mend it."""
    settings = list(settings_there_are())
    if markdown:
        print(settings_page(settings), end="")
    else:
        answer({"items": [asdict(setting) for setting in settings]}, _view(settings), as_json=as_json)
    return ExitCode.OK


def settings_there_are() -> Iterator[Setting]:
    """Every field of `Settings`; of a secret only whether it is set."""
    section = ""
    for field in (name for part in _PARTS for name in part.__annotations__ if name in Settings.model_fields):
        section = _SECTION_BEGINS.get(field, section)
        value = os.environ.get(variable_of(field)) or None
        yield Setting(
            variable=variable_of(field),
            section=section,
            meaning=_meaning(field),
            value="(a secret)" if value and is_secret(field) else value,
        )


def settings_page(settings: list[Setting]) -> str:
    """docs/settings.md."""
    lines = [_INTRODUCTION]
    for section, those in _by_section(settings):
        lines += [f"## {section}", "", "| variable | what it means |", "|---|---|"]
        lines += [f"| `{one.variable}` | {one.meaning.replace('|', '&#124;')} |" for one in those]
        lines.append("")
    return "\n".join(lines)


def _view(settings: list[Setting]) -> Text:
    """For a terminal of 80 columns, where a table would be a column of single words."""
    view = Text()
    for section, those in _by_section(settings):
        view.append(f"{section}\n\n", style="bold underline")
        for one in those:
            view.append(one.variable, style="bold")
            view.append(f" = {printable(one.value)}" if one.value else "", style="green")
            view.append(f"\n{fill(one.meaning, 76, initial_indent=_INDENT, subsequent_indent=_INDENT)}\n\n")
    view.rstrip()
    return view


def _by_section(settings: list[Setting]) -> Iterator[tuple[str, list[Setting]]]:
    for section in dict.fromkeys(one.section for one in settings):
        yield section, [one for one in settings if one.section == section]


def _meaning(field: str) -> str:
    """The text under the field, on one line; what it calls other fields are the variables that set them."""
    text = " ".join((Settings.model_fields[field].description or "").split())
    return re.sub(r"`(\w+)`", lambda name: f"`{_outer_name(name[1])}`", text)


def _outer_name(name: str) -> str:
    return variable_of(name) if name in Settings.model_fields else name
