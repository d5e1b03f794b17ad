"""Recorder: writes every transition to the store, then tells the subscribers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from ttasks.engine.backlog import Backlog
from ttasks.engine.bus import EventBus
from ttasks.errors import StoreError, describe
from ttasks.model.event import TaskEventType, make_event
from ttasks.model.redact import redacted_graph, redacted_task
from ttasks.model.status import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from ttasks.model.event import TaskEvent
    from ttasks.model.graph import TaskGraph
    from ttasks.model.notes import Notes
    from ttasks.model.redact import Redactor
    from ttasks.model.run import Run
    from ttasks.model.store import Store
    from ttasks.model.task import Task


class Recorder:
    """The one place where events reach the store and the bus, in that order. Thread-safe.

    A store that has ``record`` and a journal, ``events``, gets task and event in one write.

    The error of a failed write is kept by id and announced as PERSISTENCE_FAILED, and the work
    goes on; the next transition of any task writes what is missing. A strict recorder also raises
    the error from ``transition`` and ``save_graph``, and announces nothing that was not saved: the
    event follows when it is, before the next event of its task.

    Attributes:
        strict: see above.
        keeps_notes: the store also keeps what a run has noted of its tasks.
    """

    def __init__(
        self,
        store: Store | None,
        bus: EventBus,
        *,
        strict: bool = False,
        redactor: Redactor | None = None,
    ) -> None:
        self._store = store
        self._save_task = None if store is None else store.tasks.save
        self._record = getattr(store, "record", None)
        self.keeps_notes = self._record is not None and hasattr(
            getattr(store, "runs", None), "begin"
        )
        self._journal = getattr(store, "events", None)
        self._bus = bus
        self.strict = strict
        self.redactor = redactor
        # Items are assigned and the dicts copied, each an atomic operation; so they need no lock.
        self.task_errors: dict[str, Exception] = {}
        self.graph_errors: dict[str, Exception] = {}
        self._backlog = Backlog(bus.publish)

    def transition(
        self,
        kind: TaskEventType,
        task: Task,
        previous: TaskStatus,
        status: TaskStatus,
        timestamp: datetime,
        error: str | None = None,
        attempt: int = 0,
        retry_in: float | None = None,
        run: Run | None = None,
        notes: Notes | None = None,
    ) -> None:
        """Save the task, then publish the event.

        Args:
            kind, task, previous, status, timestamp, error, attempt, retry_in, run: of the event.
            notes: what ``run`` has noted of the task, if the recorder keeps that.

        Raises:
            StoreError: the write failed and the recorder is strict; the event was not published.
        """
        if self.redactor is not None:
            task = redacted_task(task, self.redactor)
        subscriptions = self._bus.subscriptions[kind]
        event = None
        if subscriptions or self._record is not None:
            event = make_event(
                kind, task.id, task, timestamp, previous, status, error, attempt, retry_in, run=run
            )
        if self._save_task is not None:
            try:
                if self._backlog.calls:
                    self._backlog.catch_up(task.id)
                if notes is not None:
                    self._record(task, event, notes=notes)  # type: ignore[misc]
                elif self._record is not None:
                    self._record(task, event)
                else:
                    self._save_task(task)
            except BaseException as raised:
                self._missed(task, event, notes, _kept(raised))
        if subscriptions and event is not None:
            if self._backlog.late and self._backlog.follow(event):
                return
            self._bus.deliver(event, subscriptions)

    def _missed(
        self, task: Task, event: TaskEvent | None, notes: Notes | None, error: Exception
    ) -> None:
        """Deal with a transition that could not be saved.

        Raises:
            StoreError: the recorder is strict.
        """
        assert self._save_task is not None
        late = event if self.strict else None
        if self._record is None:
            self._backlog.add(task.id, partial(self._save_task, task), late)
        else:
            noted = {} if notes is None else {"notes": notes}
            self._backlog.add(task.id, partial(self._record, task, event, **noted), late)
        self._note(task, error)
        if self.strict:
            raise StoreError(f"Task {task.title!r} could not be saved: {error}") from error

    def save_later(self, key: str, save: Callable[[], object]) -> None:
        """Have a write that failed made again with what else is missing; see `Backlog.add`."""
        self._backlog.add(key, save)

    def catch_up(self) -> None:
        """Save what is missing, if that is possible now."""
        if self._backlog.calls:
            self._backlog.catch_up(at_once=True)

    def unsaved(self) -> str | None:
        """What is missing in the store, as a sentence; None if nothing is."""
        missing = set(self._backlog.calls)
        if not missing:
            return None
        tasks = len(missing & self.task_errors.keys())
        parts = [f"{tasks} {'task' if tasks == 1 else 'tasks'}"] if tasks else []
        if rest := len(missing) - tasks:
            parts.append(f"{rest} {'graph or run' if rest == 1 else 'graphs or runs'}")
        last = [*self.graph_errors.values(), *self.task_errors.values()][-1]
        return f"{' and '.join(parts)} could not be saved in {self._store!r}: {last}"

    def write(self, task: Task, event: TaskEvent) -> None:
        """Save a task with an event for the journal, without announcing it.

        Raises:
            StoreError: the write failed.
        """
        try:
            if self._record is not None:
                self._record(task, event)
            elif self._save_task is not None:
                self._save_task(task)
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(f"Task {task.title!r} could not be saved: {error}") from error

    def wants(self, kind: TaskEventType) -> bool:
        """True if somebody subscribed to this kind of event, or a journal keeps it."""
        return self._bus.wants(kind) or (self._journal is not None and self._journal.wants(kind))

    def report(self, event: TaskEvent) -> None:
        """Publish an event that is no transition, after the journal if that keeps such events.

        Nothing is published of a task whose start was not.
        """
        if self.strict and event.task_id in self._backlog.calls:
            return
        if self._journal is not None and self._journal.wants(event.type):
            try:
                self._journal.append(event)
            except BaseException as error:
                self._note(event.task, _kept(error))
        self._publish(event)

    def report_all(self, events: Sequence[TaskEvent]) -> None:
        """``report`` for several events of one kind; the journal gets them in one write."""
        if events and self._journal is not None and self._journal.wants(events[0].type):
            try:
                self._journal.append(*events)
            except BaseException as error:
                self._note(events[0].task, _kept(error))
        for event in events:
            self._publish(event)

    def _publish(self, event: TaskEvent) -> None:
        """Publish an event, after those of its task that are late."""
        if not self._backlog.late or not self._backlog.follow(event):
            self._bus.publish(event)

    def shown(self, task: Task) -> Task:
        """The task as subscribers and stores see it."""
        return task if self.redactor is None else redacted_task(task, self.redactor)

    def _note(self, task: Task, error: Exception) -> None:
        """Keep and announce that a task could not be saved."""
        self.task_errors[task.id] = error
        self._announce_failure(task, error)

    def _announce_failure(self, task: Task, error: Exception) -> None:
        if self._bus.wants(TaskEventType.PERSISTENCE_FAILED):
            status = task.status
            self._bus.publish(
                make_event(
                    TaskEventType.PERSISTENCE_FAILED,
                    task.id,
                    task,
                    datetime.now(UTC),
                    status,
                    status,
                    describe(error),
                )
            )

    def resave(self, task: Task) -> None:
        """Save a task that has changed without a transition; keep the error of a failed write."""
        task = self.shown(task)
        if self._save_task is not None:
            try:
                if task.id in self._backlog.calls:
                    self._backlog.catch_up(task.id)
                self._save_task(task)
            except BaseException as error:
                self._backlog.add(task.id, partial(self._save_task, task))
                self._note(task, _kept(error))

    def save_graph(self, graph: TaskGraph) -> None:
        """Save a graph with its tasks.

        Raises:
            StoreError: the write failed and the recorder is strict.
        """
        if self._store is None:
            return
        try:
            if self.redactor is not None:
                graph = redacted_graph(graph, self.redactor)
            self._store.graphs.save(graph)
        except BaseException as raised:
            error = self.graph_errors[graph.id] = _kept(raised)
            for task in graph:
                self._announce_failure(task, error)
                break
            if self.strict:
                raise StoreError(f"Graph {graph.title!r} could not be saved: {error}") from error
            self._backlog.add(graph.id, partial(self._store.graphs.save, graph))

    def save_outcome(self, graph: TaskGraph) -> None:
        """Save what ended the run of a graph, if the store can; a failure is kept."""
        save = None if self._store is None else getattr(self._store.graphs, "save_outcome", None)
        if save is None:
            return
        try:
            save(graph)
        except BaseException as error:
            self.graph_errors[graph.id] = _kept(error)
            self._backlog.add(graph.id, partial(save, graph))


def _kept(raised: BaseException) -> Exception:
    """What a store raised, as an Exception: a SystemExit of a store must not end a worker."""
    if isinstance(raised, Exception):
        return raised
    error = StoreError(f"The store raised {type(raised).__name__}: {raised}")
    error.__cause__ = raised
    return error
