"""EventRecorder: a subscriber that keeps all events, and checks their order."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Condition
from time import monotonic

from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.task import Task
from ttasks.testing.clock import PATIENCE_SECONDS


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
