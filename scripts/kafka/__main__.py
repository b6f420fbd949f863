"""`python3 -m scripts.kafka`: fetch, run, start and stop a broker. Needs nothing but the standard library."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scripts.kafka.broker import Broker
from scripts.kafka.jars import default_cache, fetch
from scripts.kafka.java import BrokerError

_LOOK_SECONDS = 0.5
_VARIABLE = "EXECUTION_KAFKA_BOOTSTRAP_SERVERS"


def main() -> int:
    """Do what the command line says; 1 when it could not be done, with the reason on standard error."""
    chosen = _parser().parse_args()
    try:
        return _COMMANDS[chosen.command](chosen) or 0
    except BrokerError as error:
        print(error, file=sys.stderr)
        return 0 if chosen.command == "fetch" and chosen.if_possible else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m scripts.kafka", description="A Kafka broker for this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="fetch the broker, unless it is here")
    fetching.add_argument("--if-possible", action="store_true", help="only say so when it cannot be fetched")
    for name, does in (("run", "run a broker until Ctrl-C"), ("start", "start a broker"), ("stop", "stop it")):
        command = commands.add_parser(name, help=does)
        command.add_argument("--folder", type=Path, default=default_cache() / "broker", help="where its data is kept")
        command.add_argument("--port", type=int, default=9092)
    lending = commands.add_parser("lend", help="run a program with a broker of its own, which ends with it")
    lending.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM ...")
    return parser


def _fetch(_: argparse.Namespace) -> None:
    fetch()


def _run(chosen: argparse.Namespace) -> None:
    # Ctrl-C and a supervisor's SIGTERM mean the same.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    broker = Broker(chosen.folder, port=chosen.port)
    if broker.is_running():
        raise BrokerError(f"a broker runs in {broker.folder} already, pid {broker.pid}")
    try:
        broker.start()
        _say_where(broker)
        while broker.is_running():
            time.sleep(_LOOK_SECONDS)
        raise BrokerError(f"the broker has ended by itself; its log is {broker.log}")
    except KeyboardInterrupt:
        print("stopping the broker", file=sys.stderr)
    finally:
        broker.stop()


def _start(chosen: argparse.Namespace) -> None:
    broker = Broker(chosen.folder, port=chosen.port)
    broker.start()
    _say_where(broker)


def _stop(chosen: argparse.Namespace) -> None:
    Broker(chosen.folder, port=chosen.port).stop()


def _lend(chosen: argparse.Namespace) -> int:
    """The program's exit code. It is told by the same variable as `start` prints."""
    program = [one for number, one in enumerate(chosen.program) if (number, one) != (0, "--")]
    if not program:
        raise BrokerError("name the program: python3 -m scripts.kafka lend -- PROGRAM ...")
    with tempfile.TemporaryDirectory(prefix="execution-kafka-") as folder:
        broker = Broker(Path(folder))
        try:
            broker.start()
            with subprocess.Popen(program, env=os.environ | {_VARIABLE: broker.servers}) as running:
                # Ctrl-C reaches the program by itself; both signals are for it to obey, and for us to see it end.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, lambda *_: running.terminate())
                return running.wait()
        finally:
            broker.kill()  # nobody needs what it holds


def _say_where(broker: Broker) -> None:
    print(f"export {_VARIABLE}={broker.servers}", flush=True)
    print(f"# pid {broker.pid}, log {broker.log}", file=sys.stderr)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "fetch": _fetch,
    "run": _run,
    "start": _start,
    "stop": _stop,
    "lend": _lend,
}

if __name__ == "__main__":
    sys.exit(main())
