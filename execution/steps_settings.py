"""The settings that say what steps may do. By default they may do nothing outside."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, FilePath, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from execution.setting_types import Folders, Names, Seconds
from execution.steps_setting_types import Credentials, HeaderNames, Networks, Origins, Programs, VariableNames


class StepsSettings(BaseSettings):
    """A part of `Settings`."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    steps_shell_programs: Programs = ()
    """Programs that steps `shell.command` may run: absolute paths, separated as in PATH. Default none. Whoever writes
    plans gives them any arguments: a shell, an interpreter or `env` on this list allows everything."""

    steps_shell_folders: Folders = ()
    """Folders below which steps may run a program, separated as in PATH. Default none: each run has an empty folder of
    its own, which is removed afterwards."""

    steps_shell_variables: VariableNames = ("LANG", "LC_ALL", "TZ")
    """Environment variables that programs get: those that the step sets, otherwise this process's. Default `LANG`,
    `LC_ALL`, `TZ`. `PATH` is the system's default, `HOME` the folder of the run, and nothing else is there."""

    steps_shell_seconds: Seconds = 60.0
    """Longest run of a program; a step may ask for less. Default 60 s: longer work is an execution of its own kind."""

    steps_shell_output_bytes: Annotated[int, Field(ge=1_024, le=1_048_576)] = 65_536
    """What is kept of each of a program's two streams, half from its beginning and half from its end. Default 64 KiB:
    with both, a step's output stays below what is kept inline."""

    steps_http_origins: Origins = ()
    """Origins that steps `http.request` may send to, such as `https://api.example.com` or `http://10.0.0.7:8080`,
    separated by commas. Default none."""

    steps_http_private_networks: Networks = ()
    """Networks that are not public and may be reached all the same, such as `10.1.0.0/16`, separated by commas. Default
    none: a host that leads to an address inside is refused, whatever its name."""

    steps_http_headers: HeaderNames = ("accept", "content-type", "idempotency-key", "if-match", "if-none-match")
    """Headers that steps may send; their values stand in plans and evidence. Default `accept`, `content-type`,
    `idempotency-key`, `if-match`, `if-none-match`: none that holds a secret."""

    steps_http_credentials: Credentials = Field(default_factory=dict)
    """Headers that are added to every request to an origin, and stand nowhere else: a JSON object such as
    `{"https://api.example.com": {"Authorization": "Bearer ..."}}`. Default none."""

    steps_http_seconds: Seconds = 30.0
    """Longest time from looking a host up to the last byte of its answer; a step may ask for less. Default 30 s."""

    steps_http_body_bytes: Annotated[int, Field(ge=1_024, le=67_108_864)] = 131_072
    """Largest body of an answer; a larger one fails the step. Default 128 KiB: it stays below what is kept inline."""

    steps_http_ca_file: FilePath | None = None
    """Certificates (PEM) of the authorities that may vouch for the hosts. Unset: those that the public web trusts."""

    steps_files_roots: Folders = ()
    """Folders below which steps `files.write_atomic` may write, separated as in PATH; symbolic links are resolved.
    Default none."""

    steps_files_bytes: Annotated[int, Field(ge=1, le=67_108_864)] = 1_048_576
    """Largest file that a step may write. Default 1 MiB: its content has to fit into a plan anyway."""

    steps_low_risk_actions: Names = ()
    """Actions of scoped jobs that need no scope, separated by commas. Default none: what nobody has judged is of high
    risk."""

    steps_health_interval_seconds: Seconds = 2.0
    """How often the health that steps observe is sampled. Default 2 s: one small query each."""

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        strangers = sorted(set(self.steps_http_credentials) - set(self.steps_http_origins))
        if strangers:
            raise ValueError(
                f"EXECUTION_STEPS_HTTP_CREDENTIALS names {strangers[0]}, which is not one of "
                "EXECUTION_STEPS_HTTP_ORIGINS"
            )
        return self
