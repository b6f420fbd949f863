"""`execution doctor`: looks at everything that can be wrong, in the order in which it matters, and says what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiokafka.errors import KafkaError
from rich.table import Column, Table
from rich.text import Text

from events.kafka_admin import count_brokers
from events.kafka_closing import told
from events.kafka_connection import KafkaConnection
from execution.cli.exit_codes import ExitCode, exit_code_of
from execution.cli.findings import (
    Finding,
    Level,
    check_backlog,
    check_brokers,
    check_clock,
    check_disk,
    check_orphans,
    check_revision,
    check_server,
    check_variables,
    check_workers,
)
from execution.cli.output import answer
from execution.errors import ExecutionServiceError, SettingsError
from execution.handlers import HandlerRegistry
from execution.kafka_access import kafka_connection
from execution.log import configure_logging
from execution.repository.database import Database
from execution.repository.diagnosis import Diagnosis
from execution.repository.schema import EXPECTED_REVISION, read_revision
from execution.settings import Settings
from execution.wiring import database_address

_STYLES = {Level.OK: "green", Level.NOTE: "yellow", Level.PROBLEM: "bold red"}


async def check_up(*, as_json: bool) -> int:
    """Check everything; the exit code is that of the first problem."""
    configure_logging("CRITICAL")
    findings: list[Finding] = []
    # What is found until a step fails stands; the failure itself is the last finding.
    try:
        settings = _examine_settings(findings)
        if settings.kafka_bootstrap_servers is not None:
            findings.append(await _examine_brokers(settings.kafka_bootstrap_servers, kafka_connection(settings)))
        await _examine_database(settings, findings)
    except ExecutionServiceError as error:
        findings += _failures(error)
    is_well = all(finding.level is not Level.PROBLEM for finding in findings)
    document = {"ok": is_well, "checks": [finding.to_json() for finding in findings]}
    answer(document, _table(findings), as_json=as_json)
    return next((one.exit_code for one in findings if one.level is Level.PROBLEM), ExitCode.OK)


def _examine_settings(findings: list[Finding]) -> Settings:
    findings += check_variables(Settings.unknown_environment())
    settings = Settings.load()
    own = ", ".join(sorted(settings.model_fields_set)) or "none"
    findings.append(Finding(check="settings", found=f"set: {own}; the others have their defaults"))
    HandlerRegistry().load(settings.handlers)
    findings.append(Finding(check="handlers", found=", ".join(settings.handlers) or "the built-in ones"))
    return settings


async def _examine_brokers(servers: Sequence[str], connection: KafkaConnection) -> Finding:
    try:
        return check_brokers(servers, await count_brokers(connection))
    except (KafkaError, OSError) as error:
        return check_brokers(servers, None, told(error))


async def _examine_database(settings: Settings, findings: list[Finding]) -> None:
    async with database_address(settings) as url:
        timeout = settings.connect_timeout_seconds
        revision = await read_revision(url, connect_timeout=timeout)
        where = "embedded" if settings.database_url is None else "EXECUTION_DATABASE_URL"
        findings.append(Finding(check="database", found=f"{where}, reachable"))
        schema = check_revision(revision, EXPECTED_REVISION, is_embedded=settings.database_url is None)
        findings.append(schema)
        if revision == EXPECTED_REVISION:
            async with Database(url, pool_size=2, append_lanes=1, connect_timeout=timeout, notify=False) as database:
                await _examine_work(Diagnosis(database), findings)
    if settings.database_url is None:
        findings.append(check_disk(settings.data_dir))


async def _examine_work(diagnosis: Diagnosis, findings: list[Finding]) -> None:
    server = await diagnosis.server()
    workers, backlog = await diagnosis.workers(), await diagnosis.backlog()
    findings += [
        check_server(server),
        check_clock(server),
        check_workers(workers),
        *check_backlog(backlog, workers),
        check_orphans(await diagnosis.orphans(), workers),
    ]


def _failures(error: ExecutionServiceError) -> Iterator[Finding]:
    code = exit_code_of(error)
    if isinstance(error, SettingsError):
        for problem in error.problems:
            yield Finding(check="settings", level=Level.PROBLEM, found=problem, exit_code=code)
    else:
        yield Finding(check="database", level=Level.PROBLEM, found=str(error), exit_code=code)


def _table(findings: list[Finding]) -> Table:
    table = Table("", "check", Column("found", overflow="fold"), Column("what to do", overflow="fold"))
    for one in findings:
        table.add_row(Text(one.level, style=_STYLES[one.level]), one.check, one.found, one.advice)
    return table
