"""What tests of the engine share: scripted handlers with gates, a recorder that checks order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from ttasks import (
    InMemoryStore,
    Task,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskType,
)

WAIT = 10.0
"""Seconds after which a test that waits for something fails."""

CUSTOM = TaskType("custom")
T = TypeVar("T")


def make(title: str, payload: Any = None, **options: Any) -> Task:
    """A task of the type that `FakeHandler` is registered for."""
    return Task(title, payload, CUSTOM, **options)


def background(function: Callable[[], T]) -> Future[T]:
    """Run a function in a thread of its own, which cannot keep the tests from ending."""
    future: Future[T] = Future()

    def target() -> None:
        try:
            value = function()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(value)

    threading.Thread(target=target, name="test", daemon=True).start()
    return future


def bounded(function: Callable[[], T]) -> T:
    """What a function returns or raises; a failure if it does not end."""
    return background(function).result(WAIT)


def run(graph: TaskGraph, executor: TaskExecutor, *args: Any, **options: Any) -> TaskGraph:
    """``graph.run``, bounded."""
    return bounded(lambda: graph.run(executor, *args, **options))


def wait(event: threading.Event) -> None:
    assert event.wait(WAIT), "it did not happen"


class Gate:
    """A place at which a handler stops until the test opens it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, context: TaskContext) -> Any:
        self.reached.set()
        wait(self.opened)
        return context.title

    def wait_reached(self) -> None:
        wait(self.reached)

    def open(self) -> None:
        self.opened.set()


class Obedient(Gate):
    """A handler that runs until it is cancelled, and then ends as cancelled."""

    def __call__(self, context: TaskContext) -> Any:
        self.reached.set()
        assert context.wait_cancelled(WAIT), "it was not cancelled"
        context.raise_if_cancelled()


class FakeHandler:
    """Does what the script says for the title of the task.

    An exception is raised, a function is called with the context, of a list there is one item for
    each attempt, and anything else is returned. It counts how many calls run at once.
    """

    def __init__(self, script: Mapping[str, Any] | None = None) -> None:
        self.script = dict(script or {})
        self.calls: list[str] = []
        self.most = 0
        self.most_by_group: dict[str, int] = {}
        self._lock = threading.Lock()
        self._now: dict[str, int] = {"": 0}

    def __call__(self, context: TaskContext) -> Any:
        payload = context.payload
        groups = payload if isinstance(payload, tuple) else (str(payload),)
        with self._lock:
            self.calls.append(context.title)
            self._now[""] += 1
            self.most = max(self.most, self._now[""])
            for group in groups:
                self._now[group] = self._now.get(group, 0) + 1
                self.most_by_group[group] = max(self.most_by_group.get(group, 0), self._now[group])
        try:
            return perform(self.script.get(context.title), context)
        finally:
            with self._lock:
                self._now[""] -= 1
                for group in groups:
                    self._now[group] -= 1


def perform(step: Any, context: TaskContext) -> Any:
    if isinstance(step, list):
        step = step[context.attempt - 1]
    if isinstance(step, BaseException):
        raise step
    if callable(step):
        return step(context)
    return step


class FailingStore(InMemoryStore):
    """A store whose writes fail as long as ``broken`` says so; ``saving`` is called before each.

    Both are asked about single tasks, not about those that are saved with a graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.broken: Callable[[Task], bool] = lambda task: False
        self.graphs_broken = False
        self.saved: list[tuple[str, TaskStatus]] = []
        self.saving: Callable[[Task], object] = lambda task: None
        save_task, save_graph = self.tasks.save, self.graphs.save
        in_graph = threading.local()

        def save(task: Task) -> None:
            if not getattr(in_graph, "now", False):
                self.saving(task)
                if self.broken(task):
                    raise OSError(f"disk full while saving {task.title}")
            self.saved.append((task.title, task.status))
            save_task(task)

        def save_a_graph(graph: TaskGraph) -> None:
            if self.graphs_broken:
                raise OSError("disk full")
            in_graph.now = True
            save_graph(graph)
            in_graph.now = False

        self.tasks.save = save  # type: ignore[method-assign]
        self.graphs.save = save_a_graph  # type: ignore[method-assign]


TERMINAL = frozenset(
    {
        TaskEventType.SUCCEEDED,
        TaskEventType.FAILED,
        TaskEventType.CANCELLED,
        TaskEventType.BLOCKED,
        TaskEventType.SKIPPED,
    }
)
RUN_ENDS = frozenset({TaskEventType.SUCCEEDED, TaskEventType.FAILED, TaskEventType.CANCELLED})
REPORTS = frozenset(
    {
        TaskEventType.PROGRESS,
        TaskEventType.OUTPUT,
        TaskEventType.READY,
        TaskEventType.CIRCUIT_OPENED,
        TaskEventType.CIRCUIT_CLOSED,
    }
)


class EventRecorder:
    """Keeps all events of tasks, and checks the order that is promised for each task."""

    def __init__(self, executor: TaskExecutor) -> None:
        self.events: list[TaskEvent] = []
        self.executor = executor
        executor.events.subscribe(self._keep)

    def _keep(self, event: TaskEvent) -> None:
        if event.task is not None:  # else it is of a run
            self.events.append(event)

    def of(self, task: Task) -> list[TaskEventType]:
        """Kinds of the events of a task, in order."""
        return [event.type for event in self.events if event.task_id == task.id]

    def titles(self, kind: TaskEventType) -> list[str]:
        """Titles of the tasks with an event of this kind, in order."""
        return [event.task.title for event in self.events if event.type is kind]

    def check(self, graph: TaskGraph | None = None) -> None:
        """Check what has been recorded; everything must have ended by now."""
        assert self.executor.events.errors == []
        by_task: dict[str, list[TaskEvent]] = {}
        for event in self.events:
            by_task.setdefault(event.task_id, []).append(event)
        for events in by_task.values():
            check_order([e for e in events if e.type is not TaskEventType.PERSISTENCE_FAILED])
        if graph is not None:
            self._check_dependencies(graph)

    def _check_dependencies(self, graph: TaskGraph) -> None:
        last_end: dict[str, int] = {}
        first_start: dict[str, int] = {}
        ready: dict[str, int] = {}
        for at, event in enumerate(self.events):
            if event.type is TaskEventType.READY:
                ready[event.task_id] = at
            elif event.type in TERMINAL:
                last_end[event.task_id] = ready.get(event.task_id, at)
            elif event.type is TaskEventType.STARTED:
                first_start.setdefault(event.task_id, at)
        for task, after in graph.items():
            for upstream in after:
                if task.id in first_start and upstream.id in last_end:
                    assert last_end[upstream.id] < first_start[task.id], (
                        f"{task.title} started before {upstream.title} had ended"
                    )


def check_order(events: Iterable[TaskEvent]) -> None:
    """Check the events of one task: attempts from STARTED to one end, and nothing in between."""
    running = False
    attempt = 0
    status: TaskStatus | None = None
    retry_promised = False
    for event in events:
        where = f"{event.task.title}: {event.type.value} of attempt {event.attempt}"
        if status is not None:
            assert event.previous_status is status, f"{where}: from {event.previous_status}"
        if event.type is TaskEventType.STARTED:
            assert not running, f"{where}: started twice"
            expected = attempt + 1 if retry_promised else 1
            assert event.attempt == expected, f"{where}: expected attempt {expected}"
            running, attempt, retry_promised = True, event.attempt, False
        elif event.type is TaskEventType.REUSED:
            assert not running, f"{where}: while it was running"
            assert attempt == 0, f"{where}: after it had run"
        elif event.type in REPORTS:
            assert running, f"{where}: outside of an attempt"
            assert event.attempt == attempt, where
            assert event.status is event.previous_status, where
        elif running:
            assert event.type in RUN_ENDS, f"{where}: while it was running"
            assert event.attempt == attempt, where
            running, retry_promised = False, event.retry_in is not None
        else:
            assert event.type in TERMINAL, where
            assert event.type is not TaskEventType.SUCCEEDED, f"{where}: never started"
            assert not retry_promised or event.type is TaskEventType.CANCELLED, where
            assert event.attempt == 0, where
            retry_promised = False
        status = event.status
    assert not running, "an attempt did not end"
    assert not retry_promised, "a retry was announced and did not come"


def executor_with(
    handler: Callable[[TaskContext], Any], **options: Any
) -> tuple[TaskExecutor, EventRecorder]:
    """An executor with one handler, and what records its events."""
    executor = TaskExecutor.empty(**options)
    executor.register(CUSTOM, handler)
    return executor, EventRecorder(executor)


def chain(graph: TaskGraph, *titles: str, **options: Any) -> list[Task]:
    """Add tasks, each after the one before."""
    tasks: list[Task] = []
    for title in titles:
        tasks.append(graph.add(make(title), after=tasks[-1:], **options))
    return tasks


def statuses(graph: TaskGraph) -> dict[str, str]:
    """Status by title."""
    return {task.title: task.status.value for task in graph}


def threads() -> list[str]:
    """Names of the threads of the library that are alive now."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ttasks")]
