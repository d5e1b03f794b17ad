"""EventBus: delivers events to subscribers, and survives their exceptions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from ttasks import sync
from ttasks.forks import FORKS, end_copy
from ttasks.model.checks import check_callable, wrong_type
from ttasks.model.event import RUN_EVENTS, TaskEvent, TaskEventType
from ttasks.model.graph import TaskGraph
from ttasks.model.run import source_of, subject_id

Callback = Callable[[TaskEvent], object]
Place = tuple[type[BaseException], int, int]
"""A class of exception, and where it was raised."""

ERRORS_KEPT = 1000


class _Subscribed:
    """A ``with`` block; no generator, as in `ttasks.backends.prints`."""

    def __init__(self, subscribe: Callable[[], Callable[[], None]]) -> None:
        self._subscribe = subscribe

    def __enter__(self) -> None:
        self._unsubscribe = self._subscribe()

    def __exit__(self, *_error: object) -> None:
        self._unsubscribe()


class EventBus:
    """Delivers each event to its subscribers, one after the other, on the publishing thread.

    Thread-safe. A subscriber that is removed while an event is being delivered may still receive
    that one. An exception in a subscriber affects nobody else: it is kept in ``errors``, and logged
    as a warning of the logger ``ttasks``, once for each callback, class of exception and line.

    Attributes:
        subscriptions: by type of event; for use by the library.

    Example:
        >>> bus = EventBus()
        >>> unsubscribe = bus.subscribe(print, types=[TaskEventType.FAILED])
        >>> unsubscribe()
    """

    def __init__(self) -> None:
        # Owns the table of subscribers and the errors. The table is replaced and never changed, so
        # that publishing needs no lock, and none is held while a subscriber runs.
        self._lock = sync.Lock()
        self.subscriptions: dict[TaskEventType, tuple[Subscription, ...]] = dict.fromkeys(
            TaskEventType, ()
        )
        self._errors: deque[BaseException] = deque(maxlen=ERRORS_KEPT)

    def subscribe(
        self,
        callback: Callback,
        *,
        types: Iterable[TaskEventType] | TaskEventType | None = None,
        graph: TaskGraph | str | None = None,
    ) -> Callable[[], None]:
        """Call ``callback`` with every event from now on.

        Args:
            callback: called on the thread that caused the event, which waits for it. What it
                raises is kept in ``errors`` and logged.
            types: only these kinds of events. None means all events of tasks; those of runs, whose
                ``task`` is None, must be named. ``types=TaskEventType`` means all.
            graph: only events of runs of this graph, or of the one with this id, and of graphs that
                run inside of it; None means all.

        Returns:
            A function that ends the subscription; calling it again does nothing.

        Raises:
            TypeError: an argument has the wrong type.
        """
        check_callable("callback", callback)
        wanted = _check_types(types)
        subscription = Subscription(callback if graph is None else _OfGraph(callback, graph))
        with self._lock:
            self.subscriptions = {
                kind: (*present, subscription) if kind in wanted else present
                for kind, present in self.subscriptions.items()
            }

        def unsubscribe() -> None:
            with self._lock:
                self.subscriptions = {
                    kind: tuple(item for item in present if item is not subscription)
                    for kind, present in self.subscriptions.items()
                }

        return unsubscribe

    def subscribed(
        self,
        callback: Callback,
        *,
        types: Iterable[TaskEventType] | TaskEventType | None = None,
        graph: TaskGraph | str | None = None,
    ) -> AbstractContextManager[None]:
        """Subscribe for the length of a ``with`` block; arguments as for `subscribe`."""
        return _Subscribed(lambda: self.subscribe(callback, types=types, graph=graph))

    def emit(self, event: TaskEvent) -> None:
        """Deliver an event that you made, like the events of the library.

        For tests of subscribers and for tools. No store or journal sees it.

        Raises:
            TypeError: it is no TaskEvent.
        """
        if not isinstance(event, TaskEvent):
            raise wrong_type("event", event, "a TaskEvent")
        self.publish(event)

    def wants(self, kind: TaskEventType) -> bool:
        """True if somebody subscribed to this kind of event."""
        return bool(self.subscriptions[kind])

    def publish(self, event: TaskEvent) -> None:
        """Deliver an event; returns when every subscriber has. Never raises an Exception."""
        self.deliver(event, self.subscriptions[event.type])

    def deliver(self, event: TaskEvent, subscriptions: Iterable[Subscription]) -> None:
        """Deliver an event to these subscriptions; see `publish`."""
        forks = FORKS.count
        for subscription in subscriptions:
            try:
                subscription.callback(event)
                if FORKS.count != forks:
                    end_copy("A subscriber")
            except BaseException as error:
                if FORKS.count != forks:
                    end_copy("A subscriber", error)
                if (
                    isinstance(error, KeyboardInterrupt)
                    and sync.current_thread() is sync.main_thread()
                ):
                    raise  # not from the subscriber: somebody pressed Ctrl-C
                _note(error, subscription.callback, event)
                place = _place(error)
                with self._lock:
                    self._errors.append(error)
                    is_new = place not in subscription.logged
                    subscription.logged.add(place)
                if is_new:
                    _log(error, subscription.callback, event)

    @property
    def errors(self) -> list[BaseException]:
        """The last 1,000 exceptions that subscribers raised, oldest first."""
        with self._lock:
            return list(self._errors)


class Subscription:
    """One call of ``subscribe``; the same callback may be subscribed twice.

    Attributes:
        callback: what was subscribed.
        logged: the errors of the callback that have been logged; the lock of the bus owns it.
    """

    __slots__ = ("callback", "logged")

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self.logged: set[Place] = set()


class _OfGraph:
    """Calls a callback with the events of one graph."""

    def __init__(self, callback: Callback, graph: TaskGraph | str) -> None:
        self._callback = callback
        self._graph_id = subject_id(graph)

    def __call__(self, event: TaskEvent) -> None:
        if event.run is not None and self._graph_id in source_of(event.run).graph_ids:
            self._callback(event)

    def __repr__(self) -> str:
        return repr(self._callback)


_OF_TASKS = frozenset(TaskEventType) - RUN_EVENTS


def _check_types(types: object) -> frozenset[TaskEventType]:
    if types is None:
        return _OF_TASKS
    if isinstance(types, TaskEventType):
        return frozenset((types,))
    if not isinstance(types, Iterable) or isinstance(types, (str, bytes)):
        raise wrong_type("types", types, "an iterable of TaskEventType or None")
    found = list(types)
    for kind in found:
        if not isinstance(kind, TaskEventType):
            raise wrong_type("types", kind, "made of TaskEventType")
    return frozenset(found)


_NOTE = "raised by subscriber"


def _note(error: BaseException, callback: Callback, event: TaskEvent) -> None:
    """Add a note to an exception that says where it came from, once and if its class allows it."""
    try:
        if not any(str(note).startswith(_NOTE) for note in getattr(error, "__notes__", ())):
            error.add_note(f"{_NOTE} {callback!r} at {event.type.value} of {_subject(event)}")
    except BaseException:  # the exception may be frozen, a __repr__ may be broken
        pass


def _subject(event: TaskEvent) -> str:
    """What an event is of: a task, or a run as a whole."""
    if event.run is not None and not event.task_id:
        return f"run {event.run.id}"
    return f"task {event.task_id}"


def _place(error: BaseException) -> Place:
    """What distinguishes bugs: class and line, since messages name tasks."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error), 0, 0
    return type(error), id(trace.tb_frame.f_code), trace.tb_lineno


def _log(error: BaseException, callback: Callback, event: TaskEvent) -> None:
    """Log a bug in a subscriber, whatever its reprs and the handlers of the logger do."""
    import logging  # only where something is wrong

    try:
        logging.getLogger("ttasks").warning(
            "subscriber %r raised %s at the event %r of %s",
            callback,
            type(error).__name__,
            event.type.value,
            _subject(event),
            exc_info=error,
        )
    except BaseException:
        pass
