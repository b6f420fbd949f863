"""Wake-ups: what makes an idle service react at once. Correctness never depends on one.

Inside the process a signal sets the events of its subscribers. Between processes one coalesced NOTIFY carries the
topics, outside every business transaction: a NOTIFY inside one serialises all commits. It goes over the connection that
listens: PostgreSQL need not wake a second one of this process to tell it what it has said.
A process that has heard of no other one sends none: each says hello when it begins to listen, and is answered. What
follows the log for somebody who waits says that, too, and is then told of it at once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from enum import StrEnum
from uuid import UUID, uuid4

import structlog

from execution.ids import parsed_id
from execution.repository.connections import Connector, is_connection_lost
from execution.repository.listening_connection import ListeningConnection

log = structlog.get_logger(__name__)

CHANNEL = "execution_wakeups"
COALESCE_SECONDS = 0.01
"""At most one NOTIFY in this time while many signals are gathered in it."""
FEW_SIGNALS = 16
"""So many signals in that time are each notified of at once: whoever submits one at a time waits for every wake-up, and
a pause after each made an execution across two processes take 12 ms instead of 3."""
CALM_SECONDS = 0.005
"""What only watchers wait for is notified of this much later, or along with what somebody's work waits for: a NOTIFY
wakes every process, and the one after each claim cost the execution that was claimed more than it gave to anybody. Not
where a relay follows the log: on its way to a consumer these were 2 of 5 milliseconds."""
RECONNECT_SECONDS = 1.0

_HELLO, _HERE, _FOLLOWS, _ONLY = "hello", "here", "follows", "only:"


class Topic(StrEnum):
    """What there is to look at."""

    WORK = "work"
    """An execution waits for a worker."""
    CONTROL = "control"
    """Somebody asked a running execution to stop, pause or go on."""
    LOG = "log"
    """Events were appended."""
    ENDED = "ended"
    """An execution has ended."""
    DEADLINE = "deadline"
    """A state with a time limit was entered."""

    # Like the text it is; an enum's own hash is a Python function.
    __hash__ = str.__hash__


_TOPICS = {topic.value: topic for topic in Topic}
_CALM = frozenset({Topic.LOG})


class Wakeups:
    """Signals by topic, in this process and between processes."""

    def __init__(self, connector: Connector, *, enabled: bool) -> None:
        self.connection = ListeningConnection(connector)
        """What it listens over, and others may ask over."""
        self._enabled = enabled
        self._sender = f"{os.getpid()}-{uuid4().hex[:8]}"
        self._listeners: dict[Topic, list[Callable[[], None]]] = {topic: [] for topic in Topic}
        self._listeners_to_others: dict[Topic, list[Callable[[], None]]] = {topic: [] for topic in Topic}
        self._tellers: dict[Callable[[], None], Callable[[UUID], None]] = {}
        self._signalled: set[Topic] = set()
        self._signalled_again: set[Topic] = set()
        self._outgoing: set[str] = set()
        self._waiting = 0
        self._only: UUID | None = None
        """How often it was signalled that there is work since others were told so, and which execution the last one was
        about."""
        self.has_peers = False
        """Has it heard of another process? Once it has, it believes in others for good: an idle NOTIFY does no harm."""
        self.is_followed = False
        """Has it heard of one that follows the log? For good, too: then it does not wait with what is in the log."""
        self._follows = False
        self._gathered = 0
        self._pending = asyncio.Event()
        self._calm: asyncio.TimerHandle | None = None
        self._calm_until = 0.0
        """The timer of what waits calmly, and when that is said at the latest, on the loop's clock."""
        self._task: asyncio.Task[None] | None = None

    def subscribe(
        self, topic: Topic, wake: Callable[[], None], *, from_others_only: bool = False
    ) -> Callable[[], None]:
        """Call `wake` at each signal of the topic; returns what ends the subscription.

        `from_others_only` leaves out this process's own signals, for those who learn of its changes in more detail.
        """
        listeners = (self._listeners_to_others if from_others_only else self._listeners)[topic]
        listeners.append(wake)
        return lambda: listeners.remove(wake)

    def subscribe_to_work(self, wake: Callable[[], None], tell: Callable[[UUID], None]) -> Callable[[], None]:
        """Subscribe to work. Where another process says which execution is all there is, `tell` is called with that."""
        self._tellers[wake] = tell
        end = self.subscribe(Topic.WORK, wake)

        def unsubscribe() -> None:
            end()
            del self._tellers[wake]

        return unsubscribe

    def follow(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Subscribe to the log, and have other processes notify of it as soon as they do of work."""
        self._follows = True
        if self._enabled:
            self._say([_FOLLOWS])
        return self.subscribe(Topic.LOG, wake)

    def signal(self, topic: Topic, about: UUID | None = None, *, times: int = 1) -> None:
        """Wake this process's subscribers now, and other processes' soon. `about`: which execution can be claimed;
        `times`: how often it happened.

        A batch of appends ends in one round of the event loop for all its callers: of the hundreds of signals in it,
        the first one wakes, and the round's end once for all others, because somebody may have looked in between.
        """
        self._gathered += times
        if topic is Topic.WORK:
            self._waiting += 1
            self._only = about
        if topic in self._signalled:
            self._signalled_again.add(topic)
            return
        if not self._signalled:
            asyncio.get_running_loop().call_soon(self._end_round)
        self._signalled.add(topic)
        self._wake(topic)
        if self.has_peers and topic not in _CALM:
            self._pending.set()  # the task that notifies comes right after the round's end, and not a round later

    @property
    def is_about_to_notify(self) -> bool:
        """Do other processes wait for what was just signalled, and not for one of a crowd?"""
        return self.has_peers and self._gathered <= FEW_SIGNALS

    async def start(self) -> None:
        """Begin to listen and to notify."""
        if self._enabled:
            self._task = asyncio.create_task(self._kept_up(), name="wakeups")

    async def stop(self) -> None:
        """Stop both; a second stop does nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._calm is not None:
            self._calm.cancel()
            self._calm = None

    def _end_round(self) -> None:
        topics, self._signalled = self._signalled, set()
        if self._signalled_again:
            again, self._signalled_again = self._signalled_again, set()
            for topic in again:
                self._wake(topic)
        if self._enabled and self.has_peers:
            self._say(topics, calmly=topics <= _CALM and not self.is_followed)

    def _say(self, words: Iterable[str], *, calmly: bool = False) -> None:
        if not calmly:
            self._pending.set()
        elif not self._outgoing:
            loop = asyncio.get_running_loop()
            self._calm_until = loop.time() + CALM_SECONDS
            if self._calm is None:
                self._calm = loop.call_later(CALM_SECONDS, self._calm_ends)
        self._outgoing.update(words)

    def _calm_ends(self) -> None:
        """Say what has waited long enough. What the timer began with may have gone along with other words since: then
        what waits now has its own time, or it would be said in the middle of what it should have waited for."""
        loop = asyncio.get_running_loop()
        self._calm = None
        if self._outgoing and self._calm_until > loop.time():
            self._calm = loop.call_at(self._calm_until, self._calm_ends)
        elif self._outgoing:
            self._pending.set()

    def _wake(self, topic: Topic) -> None:
        for wake in self._listeners[topic]:
            wake()

    def _wake_from_others(self, topic: Topic, only: UUID | None = None) -> None:
        for wake in self._listeners[topic]:
            if only is not None and (tell := self._tellers.get(wake)) is not None:
                tell(only)
            else:
                wake()
        for wake in self._listeners_to_others[topic]:
            wake()

    async def _kept_up(self) -> None:
        """Run over a connection, and over a new one when it is lost; meanwhile the polls carry on alone."""
        while True:
            try:
                await self.connection.open(CHANNEL, self._received, self._pending.set)
                self._catch_up()
                await self._notify()
            except Exception as error:  # noqa: BLE001 - whatever ends it, it must begin again; the polls go on meanwhile
                level = log.info if is_connection_lost(error) else log.error
                level("wakeups.reconnecting", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(RECONNECT_SECONDS)
            finally:
                await self.connection.close()

    def _catch_up(self) -> None:
        for topic in Topic:  # whatever was signalled while nobody listened
            self._wake_from_others(topic)
        self._say([_HELLO, *self._own_news()])

    async def _notify(self) -> None:
        clock = asyncio.get_running_loop().time
        window_ends = clock() + COALESCE_SECONDS
        while True:
            await self._pending.wait()
            self._pending.clear()
            if not self.connection.is_open:
                raise ConnectionError("the listening connection was closed")
            words, self._outgoing = self._outgoing, set()
            if not words:
                continue  # they went along with others
            await self.connection.notify(CHANNEL, self._payload(words))
            many = self._gathered > FEW_SIGNALS
            if many or clock() >= window_ends:
                self._gathered, window_ends = 0, clock() + COALESCE_SECONDS
            if many:
                await asyncio.sleep(COALESCE_SECONDS)

    def _payload(self, words: set[str]) -> str:
        if Topic.WORK in words:
            if self._waiting == 1 and self._only is not None:
                words.add(f"{_ONLY}{self._only}")
            self._waiting = 0
        return f"{self._sender} {' '.join(sorted(words))}"

    def _received(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        sender, *words = str(payload).split()
        if sender == self._sender:
            return
        self.has_peers = True
        only: UUID | None = None
        for word in words:  # in order, in which the work comes after what it is about
            if (topic := _TOPICS.get(word)) is not None:
                self._wake_from_others(topic, only if topic is Topic.WORK else None)
            elif word.startswith(_ONLY):
                only = _id(word.removeprefix(_ONLY))
            elif word == _HELLO:
                self._say([_HERE, *self._own_news()])
            elif word == _FOLLOWS:
                self.is_followed = True

    def _own_news(self) -> list[str]:
        return [_FOLLOWS] if self._follows else []


def _id(text: str) -> UUID | None:
    try:
        return parsed_id(text)
    except ValueError:
        return None  # whoever may connect to the database can say anything
