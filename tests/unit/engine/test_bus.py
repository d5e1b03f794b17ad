"""EventBus: who hears what, in which order, and that no subscriber can break another."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Barrier, Thread, get_ident
from typing import Any

import pytest

from ttasks import EventBus, Task, TaskEvent, TaskEventType, TaskStatus, TaskType
from ttasks.model.event import RUN_EVENTS

TASK = Task("title", None, TaskType("work"))
STARTED, OUTPUT, FAILED = TaskEventType.STARTED, TaskEventType.OUTPUT, TaskEventType.FAILED


def event(kind: TaskEventType = STARTED, attempt: int = 0) -> TaskEvent:
    now = datetime.now(UTC)
    status = TaskStatus.RUNNING
    return TaskEvent(kind, TASK.id, TASK, now, status, status, attempt=attempt)


def raising(error: BaseException) -> Callable[[TaskEvent], None]:
    def subscriber(event: TaskEvent) -> None:
        raise error

    return subscriber


def in_thread(work: Callable[[], object]) -> None:
    thread = Thread(target=work)
    thread.start()
    thread.join()


# Who hears what


def test_every_subscriber_hears_every_event_in_the_order_of_subscription() -> None:
    bus = EventBus()
    heard: list[tuple[str, TaskEvent]] = []
    for name in "abc":
        bus.subscribe(lambda event, name=name: heard.append((name, event)))  # type: ignore[misc]
    first, second = event(), event(FAILED)
    bus.publish(first)
    bus.publish(second)
    assert heard == [(name, told) for told in (first, second) for name in "abc"]


def test_an_event_is_delivered_on_the_thread_that_publishes_it() -> None:
    bus = EventBus()
    threads: list[int] = []
    bus.subscribe(lambda event: threads.append(get_ident()))
    bus.publish(event())
    in_thread(lambda: (bus.publish(event()), threads.append(get_ident())))
    assert threads[0] == get_ident()
    assert threads[1] == threads[2] != get_ident()


@pytest.mark.parametrize(
    ("types", "wanted"),
    [
        (None, set(TaskEventType) - RUN_EVENTS),
        (FAILED, {FAILED}),
        ([FAILED, STARTED], {FAILED, STARTED}),
        ((FAILED, FAILED), {FAILED}),
        ({OUTPUT}, {OUTPUT}),
        (iter([OUTPUT]), {OUTPUT}),
        ([], set()),
        (TaskEventType, set(TaskEventType)),
    ],
)
def test_a_subscriber_hears_the_types_it_asked_for(types: Any, wanted: set[TaskEventType]) -> None:
    bus = EventBus()
    heard: list[TaskEventType] = []
    bus.subscribe(lambda event: heard.append(event.type), types=types)
    for kind in TaskEventType:
        assert bus.wants(kind) is (kind in wanted)
        bus.publish(event(kind))
    assert heard == [kind for kind in TaskEventType if kind in wanted]


def test_nobody_wants_what_nobody_subscribed_to() -> None:
    bus = EventBus()
    assert not any(bus.wants(kind) for kind in TaskEventType)
    bus.publish(event())
    assert bus.errors == []


# Ending a subscription


def test_unsubscribing_is_idempotent_and_ends_only_its_own_subscription() -> None:
    bus = EventBus()
    heard: list[TaskEvent] = []
    first = bus.subscribe(heard.append)
    second = bus.subscribe(heard.append)
    bus.publish(event())
    assert len(heard) == 2, "one callback may be subscribed twice"
    first()
    first()
    bus.publish(event())
    assert len(heard) == 3
    second()
    bus.publish(event())
    assert len(heard) == 3
    assert not bus.wants(STARTED)


def test_subscribed_lasts_as_long_as_its_block() -> None:
    bus = EventBus()
    heard: list[TaskEvent] = []
    with bus.subscribed(heard.append, types=[STARTED]):
        assert bus.wants(STARTED)
        assert not bus.wants(FAILED)
        bus.publish(event())
    assert not bus.wants(STARTED)
    bus.publish(event())
    assert len(heard) == 1


def test_subscribed_ends_with_its_block_also_if_that_raises() -> None:
    bus = EventBus()
    with pytest.raises(ZeroDivisionError), bus.subscribed(print):
        raise ZeroDivisionError
    assert not bus.wants(STARTED)


def test_a_subscriber_may_subscribe_and_unsubscribe() -> None:
    bus = EventBus()
    heard: list[str] = []

    def once(event: TaskEvent) -> None:
        heard.append("once")
        end()
        bus.subscribe(lambda event: heard.append("later"))

    end = bus.subscribe(once)
    bus.publish(event())
    assert heard == ["once"], "a new subscriber hears from the next event on"
    bus.publish(event())
    assert heard == ["once", "later"]


def test_a_subscriber_may_publish() -> None:
    bus = EventBus()
    heard: list[TaskEventType] = []

    def answer(told: TaskEvent) -> None:
        heard.append(told.type)
        if told.type is STARTED:
            bus.publish(event(FAILED))

    bus.subscribe(answer)
    bus.publish(event())
    assert heard == [STARTED, FAILED]


def test_no_lock_is_held_while_a_subscriber_runs() -> None:
    bus = EventBus()
    heard: list[int] = []

    def subscriber(told: TaskEvent) -> None:
        if told.attempt == 0:
            in_thread(lambda: bus.subscribe(lambda event: None)())
            in_thread(lambda: bus.publish(event(attempt=1)))
            in_thread(lambda: bus.errors)
        heard.append(told.attempt)

    bus.subscribe(subscriber)
    bus.publish(event())
    assert heard == [1, 0]


# Subscribers that raise


@pytest.mark.parametrize("error", [ValueError("oops"), SystemExit(3), GeneratorExit()])
def test_a_subscriber_that_raises_breaks_neither_the_work_nor_another(
    error: BaseException,
) -> None:
    bus = EventBus()
    heard: list[TaskEvent] = []
    bus.subscribe(heard.append)
    bus.subscribe(raising(error))
    bus.subscribe(heard.append)
    bus.publish(event())
    bus.publish(event())
    assert len(heard) == 4
    assert bus.errors == [error, error]


def test_a_kept_error_tells_where_it_came_from() -> None:
    bus = EventBus()
    bus.subscribe(raising(ValueError("oops")))
    bus.publish(event(FAILED))
    (error,) = bus.errors
    (note,) = error.__notes__
    assert "raising" in note
    assert "failed" in note
    assert TASK.id in note


def test_the_last_1000_errors_are_kept_oldest_first() -> None:
    bus = EventBus()

    def subscriber(event: TaskEvent) -> None:
        raise ValueError(event.attempt)

    bus.subscribe(subscriber)
    for attempt in range(1005):
        bus.publish(event(attempt=attempt))
    assert [error.args[0] for error in bus.errors] == list(range(5, 1005))


def test_the_list_of_errors_is_the_callers_own() -> None:
    bus = EventBus()
    bus.subscribe(raising(ValueError()))
    bus.publish(event())
    bus.errors.clear()
    assert len(bus.errors) == 1


def test_ctrl_c_in_a_subscriber_on_the_main_thread_gets_through() -> None:
    bus = EventBus()
    bus.subscribe(raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        bus.publish(event())
    assert bus.errors == []


def test_a_keyboard_interrupt_on_another_thread_is_an_error_like_others() -> None:
    bus = EventBus()
    interrupt = KeyboardInterrupt()
    bus.subscribe(raising(interrupt))
    in_thread(lambda: bus.publish(event()))
    assert bus.errors == [interrupt]


# Threads


def test_threads_that_subscribe_at_once_lose_no_subscription() -> None:
    threads_count, rounds = 4, 50
    bus = EventBus()
    heard: list[int] = []
    barrier = Barrier(threads_count, timeout=30)

    def come_and_go(me: int) -> None:
        for _ in range(rounds):
            barrier.wait()
            kept = bus.subscribe(lambda event: heard.append(me))
            gone = bus.subscribe(lambda event: heard.append(-1))
            gone()
            gone()
            assert kept is not gone

    threads = [Thread(target=come_and_go, args=(me,)) for me in range(threads_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bus.publish(event())
    assert sorted(heard) == sorted(list(range(threads_count)) * rounds)


def test_threads_that_publish_at_once_lose_no_event_and_no_error() -> None:
    threads_count, rounds = 4, 100
    bus = EventBus()
    heard: list[int] = []

    def subscriber(event: TaskEvent) -> None:
        heard.append(event.attempt)
        raise ValueError(event.attempt)

    bus.subscribe(subscriber)
    barrier = Barrier(threads_count, timeout=30)

    def publish(me: int) -> None:
        barrier.wait()
        for number in range(rounds):
            bus.publish(event(attempt=me * rounds + number))

    threads = [Thread(target=publish, args=(me,)) for me in range(threads_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = list(range(threads_count * rounds))
    assert sorted(heard) == everything
    assert sorted(error.args[0] for error in bus.errors) == everything
    for me in range(threads_count):
        mine = [attempt for attempt in heard if attempt // rounds == me]
        assert mine == sorted(mine), "in the order of their thread"


# Bad input


@pytest.mark.parametrize("how", ["subscribe", "subscribed"])
@pytest.mark.parametrize(
    ("arguments", "name", "shown"),
    [
        ({"callback": None}, "callback", "None"),
        ({"callback": 5}, "callback", "5"),
        ({"callback": "print"}, "callback", "'print'"),
        ({"callback": [print]}, "callback", "print"),
        ({"types": 5}, "types", "5"),
        ({"types": "failed"}, "types", "'failed'"),
        ({"types": b"failed"}, "types", "b'failed'"),
        ({"types": ["failed"]}, "types", "'failed'"),
        ({"types": [FAILED, None]}, "types", "None"),
        ({"types": [TaskStatus.FAILED]}, "types", "TaskStatus.FAILED"),
        ({"types": TaskStatus.FAILED}, "types", "TaskStatus.FAILED"),
    ],
)
def test_bad_arguments_are_named_with_their_value_and_change_nothing(
    how: str, arguments: dict[str, Any], name: str, shown: str
) -> None:
    bus = EventBus()
    with pytest.raises(TypeError) as caught:
        subscription = getattr(bus, how)(**{"callback": print, **arguments})
        if how == "subscribed":
            subscription.__enter__()
    assert name in str(caught.value)
    assert shown in str(caught.value)
    assert not any(bus.wants(kind) for kind in TaskEventType)


# Events of one's own


def test_an_event_of_ones_own_is_delivered_like_any_other() -> None:
    bus = EventBus()
    heard: list[TaskEvent] = []
    bus.subscribe(heard.append, types=FAILED)
    mine = event(FAILED)
    bus.emit(event())
    bus.emit(mine)
    assert heard == [mine]


def test_only_events_can_be_emitted() -> None:
    with pytest.raises(TypeError, match="event must be a TaskEvent, got str: 'failed'"):
        EventBus().emit("failed")  # type: ignore[arg-type]


# Bugs in subscribers are logged


def test_a_bug_in_a_subscriber_is_logged_once_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = EventBus()

    def subscriber(event: TaskEvent) -> None:
        if event.attempt < 3:
            raise ValueError(f"attempt {event.attempt}")
        raise ValueError("elsewhere")

    bus.subscribe(subscriber)
    for attempt in (1, 2, 3, 3):
        bus.publish(event(attempt=attempt))
    assert len(bus.errors) == 4
    first, second = caplog.records
    assert (first.name, first.levelname) == ("ttasks", "WARNING")
    assert "subscriber" in first.getMessage()
    assert "ValueError at the event 'started' of task " + TASK.id in first.getMessage()
    assert first.exc_info is not None
    assert str(first.exc_info[1]) == "attempt 1"
    assert second.exc_info is not None
    assert str(second.exc_info[1]) == "elsewhere"


def test_the_same_bug_of_another_subscriber_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus()
    bus.subscribe(raising(ValueError()))
    bus.subscribe(raising(ValueError()))
    bus.publish(event())
    assert len(caplog.records) == 2


def test_a_log_handler_that_raises_breaks_nothing() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise SystemExit(3)

    bus, broken = EventBus(), Broken()
    bus.subscribe(raising(ValueError("oops")))
    logging.getLogger("ttasks").addHandler(broken)
    try:
        bus.publish(event())
    finally:
        logging.getLogger("ttasks").removeHandler(broken)
    assert [str(error) for error in bus.errors] == ["oops"]
