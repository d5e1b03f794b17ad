"""What helps to test code that uses this library: a fake clock, fake handlers, a recorder.

And what tests a store of your own: `check_store`.

They are real implementations that work in memory, not mocks; the library's own tests use them.

Example:
    >>> from ttasks import RetryPolicy, Task, TaskExecutor, TaskType
    >>> handler = FakeHandler({"fetch": [OSError("down"), "page"]})
    >>> executor = TaskExecutor.empty()
    >>> executor.register(TaskType("fake"), handler)
    >>> task = Task("fetch", None, TaskType("fake"), retry=RetryPolicy(2))
    >>> executor.execute(task).value
    'page'
    >>> handler.titles
    ['fetch', 'fetch']
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Condition, Lock
from time import monotonic
from typing import Any

from ttasks.errors import TaskCancelled
from ttasks.fake_context import FakeContext, make_context
from ttasks.model.checks import check_moment, check_number, wrong_type, wrong_value
from ttasks.model.clock import SIGNAL_SECONDS
from ttasks.model.context import TaskContext
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.prompt import PromptReply
from ttasks.model.task import Task
from ttasks.store_checks import check_store

__all__ = [
    "EventRecorder",
    "FakeClock",
    "FakeContext",
    "FakeHandler",
    "FakePromptCall",
    "FakePromptHandler",
    "check_store",
    "make_context",
]

POLL_SECONDS = 0.001
PATIENCE_SECONDS = 10.0
"""Real seconds after which a wait for something that does not happen fails."""


class FakeClock:
    """A clock that stands still until it is told to move. Thread-safe.

    Give it to an executor (``TaskExecutor(clock=FakeClock())``): backoff, timeouts of plain and
    ``async def`` handlers, graph timeouts, durations, breakers and ``context.wait_cancelled`` then
    go by it. Commands keep to their timeouts, and coroutines sleep, in real time.

    Time may jump over what has not begun to wait yet. So wait for what one step brings about
    (`EventRecorder.wait_for`, ``advance_to_next``) before you take the next one.

    Schedules go by its wall clock, which moves along, and which `set_wall` sets.

    Args:
        wall: the time on the wall at first, aware; None means 2026-01-01 00:00 UTC.

    Example:
        >>> from ttasks import RetryPolicy, Task, TaskExecutor, TaskType
        >>> clock, fake = FakeClock(), TaskType("fake")
        >>> with TaskExecutor(clock=clock) as executor:
        ...     executor.register(fake, FakeHandler(default=[OSError("down"), "page"]))
        ...     future = executor.submit(Task("get", None, fake, retry=RetryPolicy(2, 3600)))
        ...     moment = clock.advance_to_next()
        ...     print(future.result().value, "after", moment)
        page after 3600.0
    """

    def __init__(self, wall: datetime | None = None) -> None:
        self._changed = Condition()  # owns the times and the ends of the waits
        self._now = 0.0
        self._waits: list[float] = []  # when each wait is over
        self._wall_waits: list[float] = []  # the same, by the wall clock
        start = check_moment("wall", wall) or datetime(2026, 1, 1, tzinfo=UTC)
        self._offset = start.timestamp()  # of the wall clock
        self._settings = 0  # how often that was set

    def now(self) -> float:
        """Seconds that the clock has been moved so far."""
        return self._now

    def wall(self) -> float:
        """Seconds since 1970 on the wall, exact to the microsecond."""
        return round(self._offset + self._now, 6)

    def set_wall(self, moment: datetime) -> None:
        """Set the clock on the wall, as an administrator does; ``now`` stays as it is.

        Args:
            moment: aware.
        """
        if check_moment("moment", moment) is None:
            raise wrong_type("moment", moment, "an aware datetime")
        with self._changed:
            self._offset = moment.timestamp() - self._now
            self._settings += 1
            self._changed.notify_all()

    def advance(self, seconds: float) -> None:
        """Move the clock; waits whose time has come end.

        Args:
            seconds: at least 0.
        """
        check_number("seconds", seconds, least=0)
        with self._changed:
            self._now += seconds
            self._changed.notify_all()

    def advance_to_next(self) -> float:
        """Wait until something waits for this clock, move to the end of the first such wait.

        Returns:
            The time then.

        Raises:
            TimeoutError: nothing waited for ten real seconds.
        """
        with self._changed:
            self._wait_for_waits(1)
            self._now = min(self._ahead())
            self._changed.notify_all()
            return self._now

    def wait_for_waits(self, number: int = 1) -> None:
        """Wait, in real time, until so many waits with an end ahead are under way.

        Raises:
            TimeoutError: that took longer than ten real seconds.
        """
        with self._changed:
            self._wait_for_waits(number)

    def _wait_for_waits(self, number: int) -> None:
        if not self._changed.wait_for(lambda: len(self._ahead()) >= number, PATIENCE_SECONDS):
            raise TimeoutError(f"fewer than {number} wait for the fake clock")

    def _ahead(self) -> list[float]:
        """Ends of the waits that are not over; some of the others have yet to notice it."""
        wall = self.wall()
        by_wall = [end - self._offset for end in self._wall_waits if end > wall]
        return [end for end in self._waits if end > self._now] + by_wall

    @property
    def waiting(self) -> int:
        """How many waits with an end ahead are under way."""
        with self._changed:
            return len(self._ahead())

    def wait_until(self, lock: Lock, moment: float | None) -> bool:
        """See `ttasks.model.clock.Clock`."""
        if moment is None:
            while not lock.acquire(timeout=SIGNAL_SECONDS):
                pass  # in slices, as the system's clock does
            return True
        return self._wait(lock, moment, self._waits, self.now)

    def wait_until_wall(self, lock: Lock, moment: float | None) -> bool:
        """See `ttasks.model.clock.Clock`."""
        if moment is None:
            return self.wait_until(lock, None)
        return self._wait(lock, round(moment, 6), self._wall_waits, self.wall)

    def _wait(
        self, lock: Lock, moment: float, waits: list[float], clock: Callable[[], float]
    ) -> bool:
        with self._changed:
            waits.append(moment)
            settings = self._settings
            self._changed.notify_all()
        try:
            # The lock is released by somebody who knows nothing of this clock, so look at both.
            while not lock.acquire(timeout=POLL_SECONDS):
                is_set = waits is self._wall_waits and settings != self._settings
                if is_set or clock() >= moment:
                    return lock.acquire(False)
            return True
        finally:
            with self._changed:
                waits.remove(moment)


class FakeHandler:
    """A handler that follows a script, and remembers its calls. Thread-safe.

    Args:
        script: title of a task to what its attempts do, one after the other: an exception (class
            or instance) is raised, anything else is returned; the last one is repeated. A list
            holds several, anything else stands for a list of one.
        default: what tasks do that the script does not name.
        delays: title to seconds that each attempt takes by the executor's clock; a cancellation
            ends it early.

    Raises:
        TypeError, ValueError: script or delays are no mappings from str, a list is empty, or a
            delay is not a number of at least 0.
    """

    def __init__(
        self,
        script: Mapping[str, Any] | None = None,
        *,
        default: Any = None,
        delays: Mapping[str, float] | None = None,
    ) -> None:
        self._script = _by_title("script", script)
        self._default = default
        self._delays = _by_title("delays", delays)
        for title, steps in [*self._script.items(), (None, default)]:
            if isinstance(steps, list) and not steps:
                name = "default" if title is None else f"script[{title!r}]"
                raise wrong_value(name, steps, "a list with a step for the first attempt")
        for title, seconds in self._delays.items():
            check_number(f"delays[{title!r}]", seconds, least=0)
        self._lock = Lock()  # owns the calls and their numbers
        self._calls: list[TaskContext] = []
        self._numbers: Counter[str] = Counter()

    @property
    def calls(self) -> list[TaskContext]:
        """The contexts it was called with, in that order."""
        with self._lock:
            return list(self._calls)

    @property
    def titles(self) -> list[str]:
        """Titles of the tasks it was called for, in that order."""
        return [context.title for context in self.calls]

    def __call__(self, context: TaskContext) -> Any:
        with self._lock:
            before = self._numbers[context.id]
            self._numbers[context.id] += 1
            self._calls.append(context)
        delay = self._delays.get(context.title)
        if delay is not None and context.wait_cancelled(delay):
            raise TaskCancelled
        steps = self._script.get(context.title, self._default)
        step = steps[min(before, len(steps) - 1)] if isinstance(steps, list) else steps
        if isinstance(step, BaseException) or (
            isinstance(step, type) and issubclass(step, BaseException)
        ):
            raise step
        return step


def _by_title(name: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(title, str) for title in value):
        raise wrong_type(name, value, "a mapping from the titles of tasks")
    return dict(value)


class EventRecorder:
    """A subscriber that keeps every event. Thread-safe.

    Example:
        >>> from ttasks import Task, TaskExecutor
        >>> recorder = EventRecorder()
        >>> executor = TaskExecutor()
        >>> unsubscribe = executor.events.subscribe(recorder)
        >>> task = Task.bash("true")
        >>> _ = executor.execute(task)
        >>> [kind.value for kind in recorder.types(task)]
        ['started', 'succeeded']
    """

    def __init__(self) -> None:
        self._changed = Condition()  # owns the events
        self._events: list[TaskEvent] = []

    def __call__(self, event: TaskEvent) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    @property
    def events(self) -> list[TaskEvent]:
        """All events, in the order of their arrival."""
        with self._changed:
            return list(self._events)

    def of(self, task: Task) -> list[TaskEvent]:
        """The events of one task."""
        return [event for event in self.events if event.task_id == task.id]

    def types(self, task: Task) -> list[TaskEventType]:
        """The kinds of the events of one task."""
        return [event.type for event in self.of(task)]

    def wait_for(
        self,
        task: Task,
        kind: TaskEventType,
        *,
        attempt: int | None = None,
        timeout: float = PATIENCE_SECONDS,
    ) -> TaskEvent:
        """Wait for an event of a task, also one that has come already.

        Args:
            task: the task.
            kind: the kind of the event.
            attempt: number of the attempt; None means any.
            timeout: real seconds.

        Raises:
            TimeoutError: it did not come within ``timeout`` real seconds.
        """
        end = monotonic() + timeout
        with self._changed:
            while True:
                for event in self._events:
                    if attempt is not None and event.attempt != attempt:
                        continue
                    if event.task_id == task.id and event.type is kind:
                        return event
                if not self._changed.wait(max(0.0, end - monotonic())):
                    raise TimeoutError(f"no {kind.value} of task {task.title!r} came")

    def check_order(self, tasks: Iterable[Task] | None = None) -> None:
        """Check the order that is promised for the events of each task.

        Args:
            tasks: which tasks; None means all that events came of.

        Raises:
            AssertionError: with the sequence that breaks the promise.
        """
        ids = dict.fromkeys(event.task_id for event in self.events)
        if tasks is not None:
            ids = dict.fromkeys(task.id for task in tasks)
        for task_id in ids:
            kinds = [event.type for event in self.events if event.task_id == task_id]
            problem = _order_problem(kinds)
            if problem:
                shown = ", ".join(kind.value for kind in kinds)
                raise AssertionError(f"events of task {task_id}: {problem}: {shown}")


_REPORTS = (TaskEventType.PROGRESS, TaskEventType.OUTPUT, TaskEventType.READY)
_ENDS = (TaskEventType.SUCCEEDED, TaskEventType.FAILED, TaskEventType.CANCELLED)
_SINKS = (TaskEventType.SUCCEEDED, TaskEventType.CANCELLED)
_LIFECYCLE = (
    TaskEventType.STARTED,
    *_REPORTS,
    *_ENDS,
    TaskEventType.BLOCKED,
    TaskEventType.SKIPPED,
)


def _order_problem(kinds: list[TaskEventType]) -> str:
    """What breaks the promise in a sequence, "" if nothing does."""
    running = False
    last: TaskEventType | None = None
    for kind in kinds:
        if kind not in _LIFECYCLE:
            continue
        if last is not None and last in _SINKS:
            return f"{kind.value} after {last.value}"
        last = kind
        if kind is TaskEventType.STARTED:
            if running:
                return "started twice"
            running = True
        elif kind in _REPORTS:
            if not running:
                return f"{kind.value} outside of an attempt"
        elif kind in _ENDS:
            if not running and kind is TaskEventType.SUCCEEDED:
                return "succeeded without a start"
            running = False
        elif running:
            return f"{kind.value} while running"
    return "not ended" if running else ""


PromptAnswer = str | PromptReply | BaseException | Sequence[str] | Callable[[TaskContext], Any]


@dataclass(frozen=True, slots=True)
class FakePromptCall:
    """One turn that a `FakePromptHandler` was asked for.

    Attributes:
        title: of the task.
        text: the prompt.
        options: of the task.
        attempt: number of the attempt, from 1.
    """

    title: str
    text: str
    options: Mapping[str, Any]
    attempt: int


class FakePromptHandler:
    """A handler of prompts and agents that answers from a script. Thread-safe.

    Args:
        answers: one for each turn, in order: a str; a sequence of str, which are its chunks; a
            `PromptReply`; an exception, which is raised; or a callable that takes the context and
            returns or raises any of these. With none every turn is answered with its own prompt.
        usage: token counts of answers that have none of their own; None means that a word is a
            token.

    Attributes:
        calls: what was asked for, in order.
        closed: whether an executor has closed it.

    Example:
        >>> from ttasks import Task, TaskExecutor, TaskType
        >>> fake = FakePromptHandler(["Up", "grade it."])
        >>> with TaskExecutor() as executor:
        ...     executor.register(TaskType.PROMPT, fake)
        ...     executor.execute(Task.prompt("What now?")).output
        'Upgrade it.'
        >>> fake.calls[0].text
        'What now?'
    """

    def __init__(self, *answers: PromptAnswer, usage: Mapping[str, int] | None = None) -> None:
        self._answers = answers
        self._usage = usage
        self._lock = Lock()  # owns the calls
        self.calls: list[FakePromptCall] = []
        self.closed = False

    def __call__(self, context: TaskContext) -> PromptReply:
        """Give the next answer of the script.

        Raises:
            AssertionError: the script is over.
        """
        call = FakePromptCall(context.title, context.payload, context.options, context.attempt)
        with self._lock:
            number = len(self.calls)
            self.calls.append(call)
        if not self._answers:
            return self._reply(context, context.payload)
        if number >= len(self._answers):
            raise AssertionError(
                f"FakePromptHandler was given {len(self._answers)} answers, and is asked for more: "
                f"{context.payload!r}"
            )
        return self._reply(context, self._answers[number])

    def close(self) -> None:
        """Note that it was closed; it still answers."""
        self.closed = True

    def _reply(self, context: TaskContext, answer: Any) -> PromptReply:
        if callable(answer):
            answer = answer(context)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, PromptReply):
            if answer.text:
                context.emit_output(answer.text)
            return answer
        chunks = [answer] if isinstance(answer, str) else list(answer)
        for chunk in chunks:
            context.raise_if_cancelled()
            context.emit_output(chunk)
        text = "".join(chunks)
        return PromptReply(text, self._counts(context, text), {"content": text})

    def _counts(self, context: TaskContext, text: str) -> Mapping[str, int]:
        if self._usage is not None:
            return self._usage
        asked, said = len(context.payload.split()), len(text.split())
        return {"input_tokens": asked, "output_tokens": said, "total_tokens": asked + said}
