"""What a scheduler runs, and when: overlap, missed slots, grace, jitter, pauses and errors."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from schedulekit import START, at, bench, numbers, work
from support import WAIT, bounded
from ttasks import (
    InMemoryStore,
    ScheduleError,
    SQLiteStore,
    Task,
    TaskExecutor,
    TaskGraph,
    current_context,
    task,
)
from ttasks.model.clock import SystemClock
from ttasks.schedule import Scheduler
from ttasks.testing import FakeClock

# When


def test_slots_of_an_interval_are_multiples_of_it_and_do_not_drift() -> None:
    with bench() as it:
        schedule = it.scheduler.every(60).do(work())
        assert it.ran(59.9) == []
        assert it.ran(0.2) == [60]
        for number in range(2, 200):  # each tick is late by another time
            assert it.ran(60 + number % 3 * 0.1 - (number - 1) % 3 * 0.1) == [60 * number]
        assert numbers(schedule) == (199, 0, 0)


def test_an_interval_may_begin_at_any_moment() -> None:
    with bench() as it:
        schedule = it.scheduler.every(100, start=at(30)).do(work())
        assert schedule.next(2) == [at(30), at(130)]
        assert it.ran(29) == []
        assert it.ran(1) == [30]
        assert it.ran(100) == [130]
        assert it.scheduler.every(100, start=at(-50), name="b").do(work()).next() == [at(150)]


def test_a_moment_is_run_once() -> None:
    with bench() as it:
        schedule = it.scheduler.at(at(10)).do(work())
        assert it.ran(9) == []
        assert schedule.next(5) == [at(10)]
        assert it.ran(1) == [10]
        assert it.ran(1000) == []
        assert schedule.next(5) == []


def test_a_moment_in_the_past_is_not_run_without_a_ledger(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with bench() as it:
        schedule = it.scheduler.at(at(-10)).do(work())
        assert it.ran(1) == []
        assert numbers(schedule) == (0, 0, 1)
        assert "is in the past" in caplog.text


def test_a_year_of_a_daily_schedule_passes_in_seconds() -> None:
    pytest.importorskip("cronsim")
    with bench() as it:
        it.scheduler.cron("30 2 * * *", tz="Europe/Berlin").do(work())
        slots = [slot for _ in range(365 * 4) for slot in it.ran(6 * 3600)]
        assert len(slots) == 365
        local = {(START + timedelta(seconds=slot)).hour for slot in slots}
        assert local == {0, 1}  # in UTC, in summer and in winter


def test_the_thread_runs_what_is_due_and_ends_when_nothing_is_left() -> None:
    with bench() as it:
        ran = threading.Event()
        it.handler = lambda context: ran.set()
        it.scheduler.at(at(3600)).do(work())
        it.scheduler.start()
        with pytest.raises(RuntimeError, match="runs already"):
            it.scheduler.start()
        assert it.clock.advance_to_next() == 3600
        assert ran.wait(WAIT)
        assert it.scheduler.wait(WAIT)


def test_schedules_may_be_added_to_a_scheduler_that_runs() -> None:
    with bench() as it:
        ran = threading.Event()
        it.handler = lambda context: ran.set()
        it.scheduler.start()
        assert it.scheduler.wait(WAIT)  # nothing is left to do
        it.scheduler.at(at(5)).do(work())
        assert it.clock.advance_to_next() == 5
        assert ran.wait(WAIT)
        assert it.scheduler.wait(WAIT)
        it.scheduler.every(10, name="more").do(work())
        assert not it.scheduler.wait(0.01)


def test_a_scheduler_that_runs_may_take_its_turn_before_a_schedule_has_something_to_do() -> None:
    with bench() as it:
        it.scheduler.start()
        late = it.scheduler.every(10)
        early = it.scheduler.at(at(1)).do(work())  # the turn of this one comes in between
        ran = threading.Event()
        it.handler = lambda context: ran.set()
        it.clock.advance(1)
        assert ran.wait(WAIT)
        late.do(work("late"))
        it.scheduler.stop()
        assert early.started == 1


def test_slots_end_with_the_year_9999() -> None:
    with bench() as it:
        last = datetime(9999, 12, 31, 23, 59, 58, tzinfo=UTC)
        schedule = it.scheduler.every(1, start=last).do(work())
        assert schedule.next(5) == [last, last + timedelta(seconds=1)]


def test_the_jitter_of_a_slot_is_always_the_same() -> None:
    def delays() -> list[float]:
        found = []
        with bench() as it:
            it.scheduler.every(100, jitter=50, name="j").do(work())
            for second in range(1, 1000):
                found += [second - slot for slot in it.ran(1)]
        return found

    first = delays()
    assert first == delays()
    assert all(0 <= delay <= 51 for delay in first)
    assert len(set(first)) > 5


# Overlap


def test_a_slot_is_skipped_while_an_earlier_one_runs() -> None:
    with bench() as it:
        gate = it.gate()
        schedule = it.scheduler.every(10).do(work())
        (first,) = it.tick(10)
        gate.wait_reached()
        assert it.ran(10) == []
        gate.open()
        assert first.result(WAIT).ok
        assert it.ran(1) == []
        assert it.ran(9) == [30]
        assert numbers(schedule) == (2, 1, 0)


def test_a_slot_waits_in_the_queue_for_an_earlier_one() -> None:
    with bench() as it:
        gate = it.gate()
        schedule = it.scheduler.every(10, overlap="queue").do(work())
        (first,) = it.tick(10)
        gate.wait_reached()
        assert it.ran(10) == it.ran(10) == []
        gate.open()
        assert first.result(WAIT).ok
        assert it.ran_at_last() == [20, 30]
        assert numbers(schedule) == (3, 0, 0)


def test_a_slot_stops_an_earlier_one() -> None:
    with bench() as it:
        gate = it.gate()
        schedule = it.scheduler.every(10, overlap="cancel").do(work())
        (first,) = it.tick(10)
        gate.wait_reached()
        assert it.tick(10) == []
        assert first.result(WAIT).outcome == "cancelled"
        assert it.ran() == [20]
        assert numbers(schedule) == (2, 0, 0)


def test_slots_run_beside_each_other_if_they_may() -> None:
    with bench() as it:
        both = threading.Barrier(2)
        it.handler = lambda context: both.wait(WAIT)
        it.scheduler.every(10, overlap="allow").do(work())
        futures = it.tick(10) + it.tick(10)
        assert [future.result(WAIT).ok for future in futures] == [True, True]


def test_the_thread_begins_what_waits_as_soon_as_the_earlier_one_has_ended() -> None:
    with bench() as it:
        gate = it.gate()
        it.scheduler.every(10, overlap="queue", start=at(10)).do(work())
        it.scheduler.start()
        it.clock.advance_to_next()
        gate.wait_reached()
        it.clock.advance_to_next()
        again = threading.Event()
        it.handler = lambda context: again.set()
        gate.open()
        assert again.wait(WAIT)


def test_no_more_runs_than_allowed_go_on_at_once() -> None:
    with bench(max_runs=2) as it:
        lock, now, most, together = threading.Lock(), [0], [0], threading.Barrier(2)

        def handle(context: Any) -> None:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            together.wait(WAIT)  # so there are two, and no third one
            with lock:
                now[0] -= 1

        it.handler = handle
        for number in range(20):
            it.scheduler.every(10, name=f"n{number}").do(work())
        assert len(it.ran(10)) == 20
        assert most[0] == 2


# Missed


def test_of_missed_slots_the_latest_is_run() -> None:
    with bench() as it:
        schedule = it.scheduler.every(10).do(work())
        assert it.ran(45) == [40]
        assert numbers(schedule) == (1, 0, 3)


def test_all_missed_slots_are_run_one_after_the_other() -> None:
    with bench() as it:
        it.scheduler.every(10, missed="all").do(work())
        assert it.ran_at_last(35) == [10, 20, 30]


def test_missed_slots_are_left_out() -> None:
    with bench() as it:
        schedule = it.scheduler.every(3600, missed="skip").do(work())
        assert it.ran(3600 + 61) == []
        assert it.ran(3600 - 1) == [7200]
        assert numbers(schedule) == (1, 0, 1)


def test_grace_bounds_how_late_a_slot_may_be() -> None:
    with bench() as it:
        schedule = it.scheduler.every(10, missed="all", grace=15, overlap="allow").do(work())
        assert it.ran(44) == [30, 40]
        assert numbers(schedule) == (2, 0, 1)  # two that are passed over at once


@pytest.mark.parametrize("options", [{}, {"missed": "skip"}, {"missed": "all", "grace": 0}])
def test_years_of_missed_slots_are_passed_over_at_once(options: dict[str, Any]) -> None:
    with bench() as it:
        it.scheduler.every(0.01, **options).do(work())
        it.clock.set_wall(datetime(2096, 1, 1, tzinfo=UTC))
        (future,) = bounded(it.tick)
        assert future.slot == datetime(2096, 1, 1, tzinfo=UTC)


# Clocks that are set


def test_a_clock_that_is_set_forwards_makes_slots_missed() -> None:
    with bench() as it:
        it.scheduler.every(60).do(work())
        assert it.ran(60) == [60]
        it.clock.set_wall(at(3605))
        assert it.ran() == [3600]


def test_a_clock_that_is_set_back_runs_no_slot_twice() -> None:
    with bench() as it:
        it.scheduler.every(60).do(work())
        assert it.ran(3600) == [3600]
        it.clock.set_wall(at(1800))
        assert it.ran() == it.ran(1800) == []
        assert it.ran(60) == [3660]


def test_a_clock_that_is_set_back_by_hours_starts_anew(caplog: pytest.LogCaptureFixture) -> None:
    with bench() as it:
        it.scheduler.every(60).do(work())
        it.clock.set_wall(at(5 * 365 * 86400))
        assert len(it.ran(60)) == 1
        it.clock.set_wall(at(0))
        assert it.ran() == []
        assert it.ran(60) == [60]
        assert "was set back" in caplog.text


def test_the_thread_notices_that_the_clock_was_set() -> None:
    with bench() as it:
        ran = threading.Event()
        it.handler = lambda context: ran.set()
        it.scheduler.at(at(86_400)).do(work())
        it.scheduler.start()
        it.clock.wait_for_waits()
        it.clock.set_wall(at(86_400))
        assert ran.wait(WAIT)


# Pauses and what is next


def test_slots_during_a_pause_are_left_out() -> None:
    with bench() as it:
        schedule = it.scheduler.every(10).do(work())
        schedule.pause()
        assert schedule.is_paused
        assert it.scheduler.next() == []
        assert it.ran(25) == []
        schedule.resume()
        assert schedule.next() == [at(30)]
        assert it.ran() == []
        assert it.ran(5) == [30]
        assert numbers(schedule) == (1, 0, 0)


def test_what_is_next_comes_in_order() -> None:
    with bench() as it:
        slow = it.scheduler.every(25, name="slow").do(work())
        fast = it.scheduler.every(10, name="fast").do(work())
        assert it.scheduler.next(4) == [
            (at(10), fast),
            (at(20), fast),
            (at(25), slow),
            (at(30), fast),
        ]
        assert it.scheduler.schedules == (slow, fast)


# What is run


def test_a_factory_is_called_anew_for_each_slot() -> None:
    with bench() as it:
        made = []

        def build(name: str, *, size: int) -> TaskGraph:
            graph = TaskGraph(name)
            graph.add(work(f"{name} {size}"))
            made.append(graph)
            return graph

        schedule = it.scheduler.every(10).do(build, "g", size=3)
        assert schedule.name is not None
        assert schedule.name.endswith("build")
        assert it.ran(10) + it.ran(10) == [10, 20]
        assert len({graph.id for graph in made}) == 2


def test_a_task_is_copied() -> None:
    with bench() as it:
        ids = []
        it.handler = lambda context: ids.append((context.id, context.title, context.timeout))
        given = work("given", timeout=5)
        schedule = it.scheduler.every(10).do(given)
        assert schedule.name == "given"
        it.ran(10)
        it.ran(10)
        assert given.is_pending
        assert len({name for name, *_ in ids} - {given.id}) == 2
        assert {(title, timeout) for _, title, timeout in ids} == {("given", 5.0)}


def test_calls_of_a_task_function_are_the_work() -> None:
    calls = []

    @task
    def note(text: str) -> None:
        calls.append((text, current_context() is not None))

    with bench() as it:
        assert it.scheduler.every(10).do(note, "x").name == "note"
        it.ran(10)
        assert calls == [("x", True)]


def test_a_run_knows_its_schedule_and_slot() -> None:
    store = InMemoryStore()
    with bench(store) as it:
        it.scheduler.every(10, name="often").do(work())
        (future,) = it.tick(10)
        run = future.result(WAIT)
        head = run.head()
        assert (head.schedule, head.slot) == ("often", at(10))
        assert (future.schedule, future.slot) == ("often", at(10))
        assert "schedule often, slot 2026-01-01 00:00:10 UTC" in run.report().to_text()
        assert store.runs.latest() == run


def test_a_run_inside_of_a_scheduled_one_is_of_no_schedule() -> None:
    store = InMemoryStore()
    with bench(store) as it:

        def handle(context: Any) -> None:
            if context.title == "work":
                TaskGraph.of([work("inner")], "inside").run(it.executor)

        it.handler = handle
        it.scheduler.every(10).do(work())
        it.ran(10)
        heads = {run.title: run.head() for run in store.runs.list(nested=True)}
        assert heads["inside"].schedule is None
        assert heads["work"].schedule == "work"


# Ends


def test_stop_waits_for_what_runs_and_begins_no_more() -> None:
    with bench() as it:
        gate = it.gate()
        it.scheduler.every(10, overlap="queue").do(work())
        (first,) = it.tick(10)
        it.tick(10)
        gate.wait_reached()
        gate.open()
        bounded(it.scheduler.stop)
        assert first.done()
        it.scheduler.stop()


def test_stop_cancels_what_runs_and_its_finally_tasks_run() -> None:
    with bench() as it:
        gate, ran = it.gate(), []

        def build() -> TaskGraph:
            graph = TaskGraph("g")
            first = graph.add(work("first"))
            graph.add(Task.python(ran.append, ["last"]), after=first, finally_=True)
            return graph

        it.scheduler.every(10).do(build)
        (future,) = it.tick(10)
        gate.wait_reached()
        bounded(lambda: it.scheduler.stop(cancel=True))
        assert future.result(0).outcome == "cancelled"
        assert ran == ["last"]


def test_a_future_can_be_awaited_and_cancelled_before_it_begins() -> None:
    with bench(max_runs=1) as it:
        gate = it.gate()
        it.scheduler.every(10, name="a").do(work())
        it.scheduler.every(10, name="b", overlap="allow").do(work())
        first, second = it.tick(10)
        gate.wait_reached()
        assert second.cancel()
        gate.open()

        async def main() -> Any:
            return await first

        assert asyncio.run(main()).ok
        assert it.ran(10) == [20, 20]


def test_arun_runs_coroutines_on_the_callers_loop_until_nothing_is_left() -> None:
    with bench() as it:
        loops = []

        async def note() -> None:
            loops.append(asyncio.get_running_loop())

        it.scheduler.at(at(10), name="n").do(lambda: Task.python(note))

        async def main() -> Any:
            running = asyncio.create_task(it.scheduler.arun())
            await asyncio.to_thread(it.clock.advance_to_next)
            await asyncio.wait_for(running, WAIT)
            return asyncio.get_running_loop()

        loop = asyncio.run(main())
        assert loops == [loop]


def test_a_cancelled_arun_stops_its_runs() -> None:
    with bench() as it:
        gate = it.gate()
        it.scheduler.every(10).do(work())

        async def main() -> None:
            running = asyncio.create_task(it.scheduler.arun())
            await asyncio.to_thread(it.clock.advance_to_next)
            await asyncio.to_thread(gate.wait_reached)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

        asyncio.run(asyncio.wait_for(main(), WAIT))


# Errors


def boom() -> Task:
    raise LookupError("no data today")


def test_a_factory_that_raises_is_logged_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with bench() as it:
        it.scheduler.every(10).do(boom)
        it.scheduler.every(10).do(work())
        bad, good = it.tick(10)
        assert good.result(WAIT).ok
        with pytest.raises(ScheduleError, match="'boom', slot 2026-01-01 00:00:10 UTC.*no data"):
            bad.result(WAIT)
        it.scheduler.stop()
        (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], LookupError)
        assert len(it.tick(10)) == 2


@pytest.mark.parametrize("made", [None, 3, [Task.bash("true")], Task])
def test_a_factory_that_returns_something_else_is_an_error(made: Any) -> None:
    with bench(on_error="continue") as it:
        it.scheduler.every(10, name="n").do(lambda: made)
        (future,) = it.tick(10)
        with pytest.raises(ScheduleError, match="has to return a Task or a TaskGraph"):
            future.result(WAIT)


def test_a_factory_that_returns_the_same_again_is_an_error() -> None:
    graph, one = TaskGraph.of([work()], "same"), work("one")
    with bench(on_error="continue") as it:
        it.scheduler.every(10, name="g").do(lambda: graph)
        it.scheduler.every(10, name="t").do(lambda: one)
        for future in it.tick(10):
            assert future.result(WAIT).ok
        for future in it.tick(10):
            with pytest.raises(ScheduleError, match="make a new one for each slot"):
                future.result(WAIT)


def test_a_callback_that_ends_its_thread_does_not_stop_the_others() -> None:
    def leave(future: object) -> None:
        raise SystemExit(1)

    with bench() as it:
        it.scheduler.every(10).do(work())
        gate = it.gate()
        (first,) = it.tick(10)
        gate.wait_reached()
        first.add_done_callback(leave)
        gate.open()
        assert first.result(WAIT).ok
        bounded(it.scheduler.stop)
        assert it.ran(10) == [20]


def test_a_ledger_that_cannot_be_read_is_not_asked_all_the_time(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "ledger.sqlite")
    with bench(store) as it:
        waits: list[float] = []
        asked = threading.Event()

        def wait(lock: Any, moment: float | None) -> bool:
            assert moment is not None
            waits.append(moment - it.clock.wall())
            asked.set()
            return bool(lock.acquire(timeout=WAIT))

        it.scheduler.every(10).do(work())
        it.ran()  # reads how far the schedule is
        it.clock.wait_until_wall = wait  # type: ignore[method-assign]
        store.close()
        it.scheduler.every(20, name="unread").do(work())
        it.clock.advance(10)
        it.scheduler.start()
        assert asked.wait(WAIT)
        it.scheduler.stop()
        assert waits[0] == 1.0


def test_a_failed_run_stops_a_scheduler_that_is_to_raise() -> None:
    with bench(on_error="raise") as it:

        def handle(context: Any) -> None:
            raise ValueError("bad")

        it.handler = handle
        it.scheduler.every(10).do(work())
        it.scheduler.start()
        it.clock.advance_to_next()
        with pytest.raises(ScheduleError, match="its run failed"):
            it.scheduler.wait(WAIT)
        with pytest.raises(ScheduleError):
            it.scheduler.tick()
        with pytest.raises(ScheduleError):
            it.scheduler.stop()
        it.handler = lambda context: None
        it.scheduler.start()  # forgets it
        it.scheduler.stop()


def test_an_executor_that_is_shut_down_ends_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    executor = TaskExecutor(clock=clock)
    scheduler = Scheduler(executor)
    scheduler.every(10).do(work())
    scheduler.start()
    clock.wait_for_waits()
    executor.shutdown()
    clock.advance_to_next()
    with pytest.raises(RuntimeError, match="shut down"):
        scheduler.wait(WAIT)
    assert "The scheduler stopped" in caplog.text
    with pytest.raises(RuntimeError, match="shut down"):
        scheduler.start()


def test_errors_survive_pickling() -> None:
    error = ScheduleError("n", at(1), "why")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.schedule, copy.slot, copy.reason) == (str(error), "n", at(1), "why")


def named(region: str) -> Task:
    raise AssertionError(region)


EAST = datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))
WEST = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda s: s.every(0), ValueError, "seconds must be a finite number >= 0.001 .*, got 0"),
        (lambda s: s.every(1e305), ValueError, "seconds must be a finite number .* <= 1e.09"),
        (lambda s: s.every(5, jitter=1e305), ValueError, "jitter"),
        (lambda s: s.every(5, grace=1e305), ValueError, "grace"),
        (lambda s: s.at(EAST), ValueError, "moment must be in the years 1 to 9999 in UTC"),
        (lambda s: s.every(5, start=WEST), ValueError, "start must be in the years 1 to 9999"),
        (lambda s: s.every(5).do(named), TypeError, "named cannot be called: .*'region'"),
        (lambda s: s.every(5).do(named, "a", "b"), TypeError, "too many positional arguments"),
        (lambda s: s.every(5).do(named, city="a"), TypeError, "'region'"),
        (lambda s: s.every(float("nan")), ValueError, "seconds"),
        (lambda s: s.every("5"), TypeError, "seconds must be a number"),
        (lambda s: s.every(5, start=datetime(2026, 1, 1)), ValueError, "aware"),  # noqa: DTZ001
        (lambda s: s.at(datetime(2026, 1, 1)), ValueError, "aware"),  # noqa: DTZ001
        (lambda s: s.at(None), TypeError, "aware datetime"),
        (lambda s: s.every(5, overlap="both"), ValueError, "'skip' or 'queue'"),
        (lambda s: s.every(5, missed=None), TypeError, "missed"),
        (lambda s: s.every(5, grace=-1), ValueError, "grace"),
        (lambda s: s.every(5, jitter=-1), ValueError, "jitter"),
        (lambda s: s.every(5, name=""), ValueError, "name"),
        (lambda s: s.every(5).do(None), TypeError, "factory must be a Task, or a function"),
        (lambda s: s.every(5).do(TaskGraph("g")), TypeError, "give the function that makes it"),
        (lambda s: s.every(5).do(work(), 1), TypeError, "takes no arguments"),
        (lambda s: s.every(5).do(lambda: work()), ValueError, "write name="),
        (lambda s: s.every(5).do(work()).do(work()), RuntimeError, "already"),
        (lambda s: s.every(5).next(), RuntimeError, "nothing to do"),
        (lambda s: (s.every(5), s.tick()), RuntimeError, "every 5 s.*nothing to do"),
        (lambda s: (s.every(5), s.start()), RuntimeError, "nothing to do"),
        (lambda s: (s.every(5).do(work()), s.every(6).do(work())), ValueError, "schedule 'work'"),
        (lambda s: s.next(0), ValueError, "number"),
        (lambda s: s.wait(0), ValueError, "timeout"),
    ],
)
def test_bad_input_is_refused(call: Any, error: type[Exception], text: str) -> None:
    with bench() as it, pytest.raises(error, match=text):
        call(it.scheduler)


def test_coroutine_functions_are_refused() -> None:
    async def build() -> None: ...

    with bench() as it, pytest.raises(TypeError, match="coroutine function"):
        it.scheduler.every(5).do(build)


def test_a_scheduler_checks_its_arguments() -> None:
    class Old:
        now = staticmethod(lambda: 0.0)
        wait_until = SystemClock.wait_until

    with TaskExecutor() as executor, TaskExecutor(clock=Old()) as old:  # type: ignore[arg-type]
        for arguments, options in (
            ((None,), {}),
            ((executor, InMemoryStore()), {}),
            ((executor,), {"on_error": "stop"}),
            ((executor,), {"max_runs": 0}),
            ((old,), {}),
        ):
            with pytest.raises((TypeError, ValueError)):
                Scheduler(*arguments, **options)


# Many


def test_a_thousand_schedules_run_each_of_their_slots_once() -> None:
    with bench(SQLiteStore(":memory:")) as it:
        for number in range(1000):
            it.scheduler.every(10, name=f"n{number}").do(work())
        assert it.ran(10) == [10] * 1000
        assert it.ran(9) == []
        store = it.executor.store
        assert isinstance(store, SQLiteStore)
        assert {slot.outcome for slot in store.slots.list()} == {"ok"}
        assert len(store.slots.list()) == 1000


def test_the_system_clock_knows_the_wall() -> None:
    lock = threading.Lock()
    lock.acquire()
    clock = SystemClock()
    assert abs(clock.wall() - datetime.now(UTC).timestamp()) < 5
    assert clock.wait_until_wall(lock, clock.wall() + 0.01) is False
    lock.release()
    assert clock.wait_until_wall(lock, clock.wall() + 60) is True
    lock.release()
    assert clock.wait_until_wall(lock, None) is True
