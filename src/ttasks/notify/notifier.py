"""Notifier: watches the runs of an executor, and tells people what the rules say."""

from __future__ import annotations

import atexit
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from warnings import warn
from weakref import WeakSet

from ttasks import sync
from ttasks.engine.executor import TaskExecutor, clock_of, redactor_of
from ttasks.errors import StoreError, text_of
from ttasks.model.checks import check_number, wrong_type
from ttasks.model.clock import Bell
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.facts import RunFacts
from ttasks.model.policy import RetryPolicy
from ttasks.model.run import source_of
from ttasks.notify.addresses import ChannelLike, check_channels
from ttasks.notify.courier import USUAL_RETRY, Courier, Letter, log
from ttasks.notify.delivery import new_id
from ttasks.notify.errors import NotifyError
from ttasks.notify.message import Message, Reason, message_of
from ttasks.notify.rules import (
    DEFAULT_RULES,
    EARLIER_RUNS,
    EndedRun,
    Rule,
    check_rules,
)
from ttasks.report.history import earlier_heads
from ttasks.report.labels import count
from ttasks.report.run_report import RunReport

if TYPE_CHECKING:
    from ttasks.model.run import Run

CLOSE_SECONDS = 10.0
LOOK_SECONDS = 60.0
"""How often to look in the outbox for messages that nobody sends."""
MOST_WAITING = 100
"""Messages of a channel that wait in memory; further ones stay in the outbox, or are lost.

Also how many that were given up stay in the outbox at most; of more, the oldest are removed."""
OLDEST_SECONDS = 24 * 3600
"""Messages of an outbox that are older are no longer sent."""
_ERRORS = 100
_KEYS = 1000  # whose earlier runs are remembered without a store


class _Told(NamedTuple):
    """A run that has ended, and its rows of the outbox by the names of the channels."""

    run: Run
    message_id: str
    created_at: datetime
    rows: dict[str, Any]


class Notifier:
    """Tells people about runs of graphs, by rules. Thread-safe.

    Once a run has ended and its last event is being delivered, a row for each channel is written
    to the outbox of the ledger, if the executor has one. All else happens on threads of the
    notifier: what the rules say, one message per run, and sending it, again and again where that
    fails. So a channel delays neither a run nor another channel. Failed attempts are logged as
    warnings of the logger ``ttasks``.

    A message that was in the outbox when its process died, or that could not be sent until
    `close`, is sent by the next Notifier with a channel of the same name on that ledger: at least
    once, with the same id.

    Nested runs belong to their outer run. Tasks that are executed or submitted alone are not told
    of.

    Args:
        executor: whose runs to watch.
        channels: each a `Channel`, a function that is called with each `Message`, or a URL (see
            `channel_of`).
        rules: called in turn with each `EndedRun`; any that returns a `Reason` has a message sent.
        retry: how often to send a message, and the waits in between; a longer Retry-After holds.

    Raises:
        TypeError, ValueError: an argument is wrong, or two channels have the same name.
        MissingExtraError: a channel needs an extra that is not installed.

    Example:
        >>> from ttasks import Task, TaskExecutor, TaskGraph
        >>> from ttasks.notify import Notifier
        >>> def tell(message):
        ...     print(message.subject)
        >>> graph = TaskGraph("nightly")
        >>> broken = graph.add(Task.bash("exit 3", title="dump"))
        >>> with TaskExecutor() as executor, Notifier(executor, [tell]):
        ...     ended = graph.run(executor)
        nightly: 'dump' failed
    """

    def __init__(
        self,
        executor: TaskExecutor,
        channels: Iterable[ChannelLike],
        rules: Iterable[Rule] = DEFAULT_RULES,
        *,
        retry: RetryPolicy = USUAL_RETRY,
    ) -> None:
        if not isinstance(executor, TaskExecutor):
            raise wrong_type("executor", executor, "a TaskExecutor")
        found = check_channels(channels)
        self._rules = check_rules(rules)
        if not isinstance(retry, RetryPolicy):
            raise wrong_type("retry", retry, "a RetryPolicy")
        self._clock = clock_of(executor)
        self._redactor = redactor_of(executor)
        self._attach = any(channel.attaches for channel in found)
        self._couriers = {
            channel.name: Courier(channel, self._clock, retry, self, self._redactor)
            for channel in found
        }
        self._runs: Any = getattr(executor.store, "runs", None)
        self._outbox: Any = getattr(executor.store, "outbox", None)
        self._past: dict[str, deque[RunFacts]] = {}  # of the desk's thread, without a store
        # Rows of what was given up, None without one; of the thread of each courier.
        self._left: dict[str, deque[Any]] = {name: deque() for name in self._couriers}
        self._pid = os.getpid()
        # Protects what follows, and says when nothing is under way.
        self._changed = sync.Condition()
        self._under_way = 0  # runs and letters that are not finished
        self._errors: deque[NotifyError] = deque(maxlen=_ERRORS)
        self._is_closed = False
        self._ended: deque[_Told] = deque()  # appended to and popped in one operation each
        self._bell = Bell(self._clock)
        self._until: float | None = None
        self._thread = sync.Thread(target=self._work, name="ttasks-notify", daemon=True)
        self._thread.start()
        self._unsubscribe = executor.events.subscribe(self._take, types=TaskEventType.RUN_ENDED)
        _watch(self)

    # On the thread of the run

    def _take(self, event: TaskEvent) -> None:
        """Note that a run has ended."""
        run = event.run
        if run is None or source_of(run).parent is not None:
            return
        message_id, now, rows = new_id(), datetime.now(UTC), {}
        if self._outbox is not None:
            try:
                micros = time_ns() // 1000
                added = self._outbox.add(run.id, message_id, self._couriers, micros)
                rows = {row.channel: row for row in added}
            except Exception as error:
                log.warning("the outbox cannot be written, messages may be lost: %s", error)
        for courier in self._couriers.values():
            with suppress(RuntimeError):  # `Courier.add` tries again
                courier.begin()
        with self._changed:
            self._under_way += 1
        self._ended.append(_Told(run, message_id, now, rows))
        self._bell.ring()

    # On the thread of the notifier

    def _work(self) -> None:
        look_at = self._clock.now()
        while True:
            while self._ended:
                told = self._ended.popleft()
                try:
                    self._decide(told)
                except Exception as error:
                    log.warning("run %s cannot be told of: %s", told.run.id, error, exc_info=error)
                    self._write("release", *told.rows.values())  # to be tried again later
                finally:
                    self._finish()
            if self._until is not None:
                if self._ended:
                    continue
                for courier in self._couriers.values():
                    courier.stop(self._until)
                return
            if self._outbox is None:
                self._bell.wait_until(None)
                continue
            if self._clock.now() >= look_at:
                self._look()
                look_at = self._clock.now() + LOOK_SECONDS
            elif not self._ended:
                self._bell.wait_until(look_at)

    def _decide(self, told: _Told) -> None:
        """Ask the rules about a run, and hand its message to the couriers."""
        facts = told.run.facts()
        reasons = []
        ended = EndedRun(facts, lambda: self._earlier(facts))
        for rule in self._rules:
            try:
                reason = rule(ended)
                if reason is not None and not isinstance(reason, Reason):
                    raise wrong_type("what it returns", reason, "a Reason or None")
            except BaseException as error:  # also SystemExit: there are more runs to tell of
                log.warning("rule %r raised %s", rule, text_of(error), exc_info=error)
                continue
            if reason is not None:
                reasons.append(reason)
        if self._runs is None:
            self._remember(facts)
        if not reasons:
            self._write("remove", *told.rows.values())
            return
        report = RunReport(facts)
        message = message_of(report, reasons, told.message_id, told.created_at, attach=self._attach)
        text = message.to_json() if told.rows else None
        rows = {name: row._replace(content=text) for name, row in told.rows.items()}
        self._write("save", *rows.values())
        # What was taken over has rows of some channels only; without an outbox there are none.
        for name in told.rows or self._couriers:
            self._hand_over(name, Letter(message, rows.get(name), due=self._clock.now()))

    def _earlier(self, facts: RunFacts) -> Iterator[RunFacts]:
        if self._runs is None:
            return iter(self._past.get(facts.graph_key or facts.graph_id, ()))
        return earlier_heads(self._runs, facts, EARLIER_RUNS)

    def _remember(self, facts: RunFacts) -> None:
        """Keep the head of a run for the rules, as there is no store that does."""
        name = facts.graph_key or facts.graph_id
        kept = self._past.pop(name, None) or deque(maxlen=EARLIER_RUNS)
        kept.appendleft(replace(facts, tasks={}))
        self._past[name] = kept  # as the latest of the keys
        if len(self._past) > _KEYS:
            del self._past[next(iter(self._past))]

    def _hand_over(self, name: str, letter: Letter) -> None:
        courier = self._couriers[name]
        with self._changed:
            self._under_way += 1
        if len(courier) < MOST_WAITING:
            courier.add(letter)
            return
        lost = "it is lost" if letter.row is None else "it stays in the outbox"
        log.warning("%s: %s messages wait already, so %s", name, MOST_WAITING, lost)
        if letter.row is not None:
            self._write("release", letter.row)
        self._finish()

    def _look(self) -> None:
        """Take over messages that nobody sends."""
        free = {name for name, courier in self._couriers.items() if len(courier) < MOST_WAITING}
        now = time_ns() // 1000
        try:
            claimed = self._outbox.claim(free, now, MOST_WAITING)
        except Exception as error:
            log.warning("the outbox cannot be read: %s", error)
            return
        for problem in claimed.problems:
            log.warning("%s; it is not sent", problem)
        for row in claimed.rows:
            try:
                self._take_over(row, now)
            except StoreError as error:
                log.warning("message %s cannot be sent now: %s", row.id, error)
                self._write("release", row)
            except Exception as error:  # too old, or not written by this library
                log.warning("message %s cannot be sent: %s", row.id, error)
                self._write("remove", row)

    def _take_over(self, row: Any, now: int) -> None:
        if now - row.created_at > OLDEST_SECONDS * 1_000_000:
            raise ValueError("it is more than a day old")
        if row.content is None:  # its process ended before it knew what to say
            if row.run not in self._runs:
                raise ValueError("its run is no longer in the ledger")
            run = self._runs[row.run]
            created = datetime.fromtimestamp(row.created_at / 1e6, UTC)
            with self._changed:
                self._under_way += 1
            self._ended.append(_Told(run, row.id, created, {row.channel: row}))
            return
        wait = max(0.0, (row.due_at - now) / 1e6)
        letter = Letter(Message.from_json(row.content), row, due=self._clock.now() + wait)
        self._hand_over(row.channel, letter)

    # On the threads of the couriers; see `ttasks.notify.courier.Desk`

    def sent(self, courier: Courier, letter: Letter) -> None:
        """See `ttasks.notify.courier.Desk`."""
        if letter.row is not None:
            self._write("remove", letter.row)
        self._finish()

    def delayed(self, courier: Courier, letter: Letter, error: NotifyError, wait: float) -> None:
        """See `ttasks.notify.courier.Desk`."""
        self._note(error)
        log.warning(
            "%s: message %s was not sent, next attempt in %.3g s: %s",
            courier.channel.name,
            letter.message.id,
            wait,
            error,
        )
        if letter.row is not None:
            due_at = time_ns() // 1000 + int(wait * 1e6)
            letter.row = letter.row._replace(due_at=due_at, attempts=letter.attempts)
            self._write("save", letter.row)

    def kept(self, courier: Courier, letter: Letter, error: NotifyError | None) -> None:
        """See `ttasks.notify.courier.Desk`."""
        if error is not None:
            self._note(error)
            log.warning(
                "%s: message %s was not sent%s: %s",
                courier.channel.name,
                letter.message.id,
                "" if letter.row is None else ", it stays in the outbox for another process",
                error,
            )
        name = courier.channel.name
        if letter.row is None:
            if error is None:  # `close` warns of it
                self._left[name].append(None)
        else:
            self._left[name].append(letter.row._replace(content=None))
            if len(self._left[name]) > MOST_WAITING:
                self._write("remove", self._left[name].popleft())
        self._finish()

    def _note(self, error: NotifyError) -> None:
        with self._changed:
            self._errors.append(error)

    def _write(self, what: str, *rows: Any) -> None:
        """Change rows of the outbox; an error of the ledger is logged, and sending goes on."""
        if rows:
            try:
                getattr(self._outbox, what)(*rows)
            except Exception as error:
                log.warning("the outbox cannot be written: %s", error)

    def _finish(self) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    # For users

    @property
    def errors(self) -> list[NotifyError]:
        """Why messages were not sent at once: the last 100 errors, oldest first."""
        with self._changed:
            return list(self._errors)

    @property
    def waiting(self) -> int:
        """How many runs are still to be looked at, and messages still to be sent."""
        with self._changed:
            return self._under_way

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all messages about runs that have ended were sent or given up.

        Args:
            timeout: seconds, above 0; None waits for as long as it takes.

        Returns:
            False if the time was up.
        """
        if timeout is not None:
            check_number("timeout", timeout, above=0, most=sync.TIMEOUT_MAX)
        with self._changed:
            return self._changed.wait_for(lambda: not self._under_way, timeout)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Watch no more runs, and send what can be sent in time. Idempotent.

        What is left stays in the outbox, for the next Notifier with that channel; without a ledger
        it is lost. A channel that hangs keeps its thread, which does not keep the interpreter from
        ending.

        Args:
            timeout: seconds, at least 0.

        Warns:
            RuntimeWarning: messages are lost.
        """
        check_number("timeout", timeout, least=0, most=sync.TIMEOUT_MAX)
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
        _open.discard(self)
        self._unsubscribe()
        end = monotonic() + timeout
        self._until = self._clock.now() + timeout
        self._bell.ring()
        if self._thread is not sync.current_thread():  # as in a rule
            self._thread.join(timeout)
        for courier in self._couriers.values():
            courier.stop(self._until)
        for courier in self._couriers.values():
            courier.join(end - monotonic())
        self._leave()

    def _leave(self) -> None:
        """Let go of what was not sent, and warn of what is lost."""
        left = [(name, row) for name, rows in self._left.items() for row in list(rows)]
        for name, courier in self._couriers.items():  # in the hands of a thread that hangs
            left += [(name, letter.row) for letter in courier.letters()]
        for told in list(self._ended):  # as a rule hangs
            left += [(name, told.rows.get(name)) for name in self._couriers]
        self._write("release", *[row for _, row in left if row is not None])
        lost = [name for name, row in left if row is None]
        if lost:
            names = ", ".join(sorted(set(lost)))
            warn(
                f"{count(len(lost), 'message')} could not be sent in time and will not be: {names}",
                RuntimeWarning,
                stacklevel=4,
            )

    def close_at_exit(self) -> None:
        """`close`, at the end of the interpreter; not in a process that was forked since."""
        if os.getpid() == self._pid:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Notifier {', '.join(self._couriers)}>"


_open: WeakSet[Notifier] = WeakSet()
"""Those that were not closed yet."""


def _watch(notifier: Notifier) -> None:
    """Have it closed at the end of the interpreter, so that what was queued is sent."""
    if not _open:
        atexit.unregister(_close_all)
        atexit.register(_close_all)
    _open.add(notifier)


def _close_all() -> None:
    for notifier in list(_open):
        notifier.close_at_exit()
