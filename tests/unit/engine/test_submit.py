"""Submission: the pool, cancelling futures, and every way of shutting down."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_all
from typing import Any

import pytest

from support import (
    WAIT,
    FakeHandler,
    Gate,
    Obedient,
    background,
    bounded,
    executor_with,
    make,
    run,
    statuses,
    threads,
    wait,
)
from ttasks import (
    InvalidTransitionError,
    RetryPolicy,
    Task,
    TaskCancelled,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskResult,
    TaskStatus,
)

SUCCEEDED, CANCELLED, FAILED = (
    TaskEventType.SUCCEEDED,
    TaskEventType.CANCELLED,
    TaskEventType.FAILED,
)


def test_no_thread_is_started_before_the_first_submission_nor_kept_after_the_last() -> None:
    executor, recorder = executor_with(FakeHandler())
    assert threads() == []
    assert executor.submit(make("t")).result(WAIT).status is TaskStatus.SUCCEEDED
    bounded(executor.shutdown)
    assert executor.is_shutdown
    recorder.check()


def test_submissions_run_in_order_on_at_most_max_workers_threads() -> None:
    handler = FakeHandler()
    executor, recorder = executor_with(handler, max_workers=2)
    futures = [executor.submit(make(str(number))) for number in range(200)]
    wait_all(futures, WAIT)
    assert handler.most <= 2
    started = recorder.titles(TaskEventType.STARTED)
    assert sorted(started, key=int) == [str(number) for number in range(200)]
    with executor_with(handler, max_workers=1)[0] as single:
        tasks = [make(str(number)) for number in range(50)]
        wait_all([single.submit(task) for task in tasks], WAIT)
    assert handler.calls[-50:] == [str(number) for number in range(50)]
    bounded(executor.shutdown)
    recorder.check()


def test_as_many_run_at_once_as_there_are_workers() -> None:
    barrier = threading.Barrier(3)
    executor, recorder = executor_with(lambda context: barrier.wait(WAIT), max_workers=3)
    with executor:
        futures = [executor.submit(make(str(number))) for number in range(6)]
        assert len({future.result(WAIT).value for future in futures}) == 3
    recorder.check()


def test_the_future_raises_what_execute_raises() -> None:
    error = ValueError("boom")
    executor, recorder = executor_with(FakeHandler({"bad": error}))
    with executor:
        task = make("bad")
        assert executor.submit(task).exception(WAIT) is error
        assert task.is_failed
        done = make("done")
        executor.submit(done).result(WAIT)
        with pytest.raises(InvalidTransitionError):
            executor.submit(done).result(WAIT)
        with pytest.raises(SystemExit):
            executor_with(FakeHandler({"t": SystemExit(1)}))[0].submit(make("t")).result(WAIT)
    recorder.check()


def test_the_upstream_mapping_is_copied() -> None:
    gate = Gate()
    seen: list[list[str]] = []

    def handler(context: TaskContext) -> None:
        gate(context) if context.title == "first" else seen.append(
            [task.title for task in context.upstream.values()]
        )

    executor, _ = executor_with(handler, max_workers=1)
    with executor:
        executor.submit(make("first"))
        up = make("up")
        upstream = {up.id: up}
        future = executor.submit(make("second"), upstream)
        upstream.clear()
        gate.open()
        future.result(WAIT)
    assert seen == [["up"]]


def test_cancelling_a_queued_future_cancels_its_task() -> None:
    gate = Gate()
    executor, recorder = executor_with(gate, max_workers=1)
    with executor:
        first, second = make("first"), make("second")
        running, queued = executor.submit(first), executor.submit(second)
        gate.wait_reached()
        assert queued.cancel()
        assert second.is_cancelled
        assert recorder.of(second) == [CANCELLED]
        with pytest.raises(CancelledError):
            queued.result(WAIT)
        assert not running.cancel()
        gate.open()
        assert running.result(WAIT).status is TaskStatus.SUCCEEDED
    recorder.check()


def test_cancelling_a_queued_task_never_runs_it() -> None:
    gate = Gate()
    executor, recorder = executor_with(gate, max_workers=1)
    with executor:
        executor.submit(make("first"))
        second = make("second")
        queued = executor.submit(second)
        gate.wait_reached()
        assert executor.cancel(second)
        gate.open()
        with pytest.raises(TaskCancelled):
            queued.result(WAIT)
    assert recorder.of(second) == [CANCELLED]
    recorder.check()


def test_racing_cancels_of_futures_have_one_outcome() -> None:
    executor, recorder = executor_with(FakeHandler(), max_workers=2)
    outcomes = set()
    with executor:
        for _ in range(200):
            task = make("t")
            future = executor.submit(task)
            cancelled = future.cancel()
            try:
                future.result(WAIT)
            except CancelledError:
                pass
            assert cancelled == task.is_cancelled
            assert cancelled or task.is_succeeded
            outcomes.add(cancelled)
            assert len(recorder.of(task)) == (1 if cancelled else 2)
    recorder.check()


def test_a_full_group_does_not_hold_back_other_submissions() -> None:
    gate = Gate()
    handler = FakeHandler({"a": gate})
    executor, recorder = executor_with(handler, max_workers=4, limits={"db": 1})
    with executor:
        first = executor.submit(make("a", payload="db", group="db"))
        gate.wait_reached()
        held = [executor.submit(make(f"b{n}", payload="db", group="db")) for n in range(5)]
        others = [executor.submit(make(f"c{n}")) for n in range(5)]
        wait_all(others, WAIT)
        assert all(future.done() for future in others)
        assert not any(future.done() for future in held)
        gate.open()
        first.result(WAIT)
        for future in held:
            future.result(WAIT)
    assert handler.most_by_group["db"] == 1
    recorder.check()


def test_a_graph_run_by_a_submitted_task_of_a_full_group_shares_its_place() -> None:
    def handler(context: TaskContext) -> None:
        if context.title == "outer":
            graph = TaskGraph()
            graph.add(make("inner", group="db"))
            graph.add(make("other", group="db"))
            graph.run(executor)
            assert graph.ok

    executor, recorder = executor_with(handler, limits={"db": 1})
    with executor:
        executor.submit(make("outer", group="db")).result(WAIT)
    recorder.check()


# Shutdown


def test_shutdown_lets_queued_and_running_work_finish_and_refuses_more() -> None:
    gate = Gate()
    executor, recorder = executor_with(gate, max_workers=1)
    tasks = [make(str(number)) for number in range(5)]
    futures = [executor.submit(task) for task in tasks]
    gate.wait_reached()
    ending = background(executor.shutdown)
    while not executor.is_shutdown:
        pass
    for call in (executor.submit, executor.execute):
        refused = make("late")
        with pytest.raises(RuntimeError, match="shut down"):
            call(refused)
        assert refused.is_pending
    late = TaskGraph()
    late.add(make("late"))
    with pytest.raises(RuntimeError, match="shut down"):
        late.run(executor)
    assert statuses(late) == {"late": "pending"}
    assert not ending.done()
    gate.open()
    ending.result(WAIT)
    assert [future.result(0).status for future in futures] == [TaskStatus.SUCCEEDED] * 5
    bounded(executor.shutdown)
    bounded(executor.close)
    assert threads() == []
    recorder.check()


def test_shutdown_without_waiting_returns_at_once() -> None:
    gate = Gate()
    executor, recorder = executor_with(gate)
    future = executor.submit(make("t"))
    gate.wait_reached()
    bounded(lambda: executor.shutdown(wait=False))
    assert not future.done()
    gate.open()
    future.result(WAIT)
    bounded(executor.shutdown)
    recorder.check()


def test_shutdown_with_cancel_ends_queued_running_and_waiting_work() -> None:
    obedient = Obedient()
    failed = threading.Event()
    handler = FakeHandler({"running": obedient, "retried": ValueError("boom")})
    executor, recorder = executor_with(handler, max_workers=2)
    executor.events.subscribe(lambda event: failed.set(), types=FAILED)
    running, retried, queued = make("running"), make("retried"), make("queued")
    graph = TaskGraph()
    step = graph.add(make("running"))
    after = graph.add(make("after"), after=step)
    last = graph.add(make("last"), after=after, finally_=True)
    futures = [
        executor.submit(running),
        executor.submit(retried, retry_policy=RetryPolicy(2, backoff=60)),
    ]
    obedient.wait_reached()
    wait(failed)
    # What waits for its next attempt holds no worker: another one takes its place.
    other = make("running")
    futures += [executor.submit(other), executor.submit(queued)]
    while not other.is_running:
        pass
    graph_run = background(lambda: graph.run(executor))
    while not step.is_running:
        pass
    bounded(lambda: executor.shutdown(cancel=True))
    assert [task.status for task in (running, retried, queued)] == [TaskStatus.CANCELLED] * 3
    assert all(future.done() for future in futures)
    graph_run.result(WAIT)
    assert statuses(graph) == {"running": "cancelled", "after": "cancelled", "last": "succeeded"}
    assert last.is_succeeded
    recorder.check()


def test_shutdown_with_cancel_spares_a_finally_task_that_is_running() -> None:
    gate = Gate()
    inner = make("inner")

    def handler(context: TaskContext) -> Any:
        if context.title == "last":
            gate(context)
            return executor.execute(inner).status  # work inside it is spared as well
        return None

    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    graph.add(make("last"), after=graph.add(make("a")), finally_=True)
    future = background(lambda: graph.run(executor))
    gate.wait_reached()
    executor.shutdown(wait=False, cancel=True)
    gate.open()
    future.result(WAIT)
    assert statuses(graph) == {"a": "succeeded", "last": "succeeded"}
    assert inner.is_succeeded
    recorder.check()


def test_no_racing_submission_survives_a_shutdown_with_cancel() -> None:
    for round_ in range(40):
        executor, recorder = executor_with(
            lambda context: context.wait_cancelled(WAIT), max_workers=2
        )
        barrier = threading.Barrier(3)

        def submit(
            executor: TaskExecutor = executor, barrier: threading.Barrier = barrier
        ) -> list[tuple[Task, Future[TaskResult]]]:
            barrier.wait(WAIT)
            found = []
            for _ in range(5):
                task = make("t")
                try:
                    found.append((task, executor.submit(task)))
                except RuntimeError:
                    assert task.is_pending
            return found

        def execute(
            executor: TaskExecutor = executor, barrier: threading.Barrier = barrier
        ) -> list[Any]:
            barrier.wait(WAIT)
            task = make("t")
            try:
                executor.execute(task)
            except TaskCancelled:
                assert task.is_cancelled
            except RuntimeError:
                assert task.is_pending
            return []

        futures = [background(submit), background(execute)]
        barrier.wait(WAIT)
        for _ in range(round_ * 20):
            pass
        bounded(lambda executor=executor: executor.shutdown(cancel=True))
        for future in futures:
            for task, submitted in future.result(WAIT):
                assert submitted.done()
                assert task.is_cancelled
        recorder.check()


def test_racing_shutdowns_all_return() -> None:
    for _ in range(30):
        executor, recorder = executor_with(FakeHandler(), max_workers=2)
        futures = [executor.submit(make(str(number))) for number in range(10)]
        barrier = threading.Barrier(4)

        def end(
            cancel: bool,
            executor: TaskExecutor = executor,
            barrier: threading.Barrier = barrier,
        ) -> None:
            barrier.wait(WAIT)
            executor.shutdown(cancel=cancel)

        endings = [background(lambda n=n: end(n == 0)) for n in range(4)]
        for ending in endings:
            ending.result(WAIT)
        assert all(future.done() for future in futures)
        recorder.check()


def test_shutdown_from_a_handler_does_not_wait_for_itself() -> None:
    handler = FakeHandler({"t": lambda context: executor.shutdown()})
    executor, recorder = executor_with(handler)
    assert bounded(lambda: executor.execute(make("t"))).status is TaskStatus.SUCCEEDED
    assert executor.is_shutdown
    recorder.check()
    executor, recorder = executor_with(handler)
    assert executor.submit(make("t")).result(WAIT).status is TaskStatus.SUCCEEDED
    bounded(executor.shutdown)
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    graph.add(make("next"), after=graph.add(make("t")))
    assert run(graph, executor).ok
    recorder.check()


@pytest.mark.parametrize("kind", [TaskEventType.STARTED, SUCCEEDED])
@pytest.mark.parametrize("way", ["execute", "submit", "run"])
def test_shutdown_from_a_subscriber_does_not_wait_for_itself(kind: TaskEventType, way: str) -> None:
    executor, recorder = executor_with(FakeHandler())
    executor.events.subscribe(lambda event: executor.shutdown(), types=kind)
    if way == "execute":
        bounded(lambda: executor.execute(make("t")))
    elif way == "submit":
        executor.submit(make("t")).result(WAIT)
    else:
        graph = TaskGraph()
        graph.add(make("b"), after=graph.add(make("a")))
        assert run(graph, executor).ok
    bounded(executor.shutdown)
    recorder.check()


def test_shutdown_from_callbacks_of_futures_does_not_wait_for_each_other() -> None:
    barrier = threading.Barrier(2)
    executor, recorder = executor_with(FakeHandler(), max_workers=2)
    done = [threading.Event(), threading.Event()]
    gate = Gate()
    executor.register(make("t").type, gate)

    def end(event: threading.Event) -> None:
        barrier.wait(WAIT)
        executor.shutdown()
        event.set()

    for event in done:
        executor.submit(make("t")).add_done_callback(lambda _, event=event: end(event))
    gate.open()
    for event in done:
        wait(event)
    bounded(executor.shutdown)
    recorder.check()


def test_shutdown_with_cancel_from_a_handler_cancels_it_too() -> None:
    def handler(context: TaskContext) -> None:
        executor.shutdown(cancel=True)
        context.raise_if_cancelled()

    executor, recorder = executor_with(handler)
    task = make("t")
    with pytest.raises(TaskCancelled):
        bounded(lambda: executor.execute(task))
    assert task.is_cancelled
    recorder.check()


def test_a_handler_may_go_on_with_nested_work_after_shutdown() -> None:
    inner = make("inner")

    def handler(context: TaskContext) -> None:
        if context.title == "outer":
            executor.shutdown()
            executor.execute(inner)
            graph = TaskGraph()
            graph.add(make("in graph"))
            assert graph.run(executor).ok
            with pytest.raises(RuntimeError):
                executor.submit(make("late"))

    executor, recorder = executor_with(handler)
    bounded(lambda: executor.execute(make("outer")))
    assert inner.is_succeeded
    recorder.check()


def test_the_context_manager_waits_and_cancels_at_an_interrupt() -> None:
    handler = FakeHandler()
    with executor_with(handler)[0] as executor:
        future = executor.submit(make("t"))
    assert future.done()
    assert executor.is_shutdown
    obedient = Obedient()
    executor, recorder = executor_with(obedient)
    with pytest.raises(KeyboardInterrupt), executor:
        future = executor.submit(make("t"))
        obedient.wait_reached()
        raise KeyboardInterrupt
    assert isinstance(future.exception(0), TaskCancelled)
    recorder.check()


def test_shutdown_waits_for_a_graph_run_of_another_thread() -> None:
    gate = Gate()
    executor, recorder = executor_with(gate)
    graph = TaskGraph()
    graph.add(make("a"))
    future = background(lambda: graph.run(executor))
    gate.wait_reached()
    ending = background(executor.shutdown)
    assert not ending.done()
    gate.open()
    ending.result(WAIT)
    assert future.result(WAIT).ok
    assert graph.ok
    recorder.check()


def test_work_is_done_by_the_threads_there_are_when_no_more_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    allowed = threading.Semaphore(1)

    def scarce(thread: threading.Thread) -> None:
        if thread.name.startswith("ttasks") and not allowed.acquire(blocking=False):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    gate = Gate()
    executor, recorder = executor_with(gate, max_workers=4)
    futures = [executor.submit(make(str(number))) for number in range(5)]
    gate.open()
    for future in futures:
        assert future.result(WAIT).status is TaskStatus.SUCCEEDED
    bounded(executor.shutdown)
    recorder.check()
    executor = executor_with(gate)[0]
    with pytest.raises(RuntimeError, match="new thread"):
        executor.submit(make("none")).result(WAIT)
    bounded(executor.shutdown)


def test_a_subscriber_may_submit() -> None:
    executor, recorder = executor_with(FakeHandler(), max_workers=1)
    follow_up = make("follow-up")
    futures: list[Future[TaskResult]] = []
    added = threading.Event()

    def submit(event: TaskEvent) -> None:
        if event.task is not follow_up:
            futures.append(executor.submit(follow_up))
            added.set()

    executor.events.subscribe(submit, types=SUCCEEDED)
    executor.submit(make("t")).result(WAIT)
    wait(added)
    futures[0].result(WAIT)
    bounded(executor.shutdown)
    recorder.check()


def test_what_a_handler_submits_first_shares_its_fate_with_nobody() -> None:
    gate = Gate()
    inner: list[Future[TaskResult]] = []

    def handler(context: TaskContext) -> None:
        if context.title == "outer":
            inner.append(executor.submit(make("inner")))
            context.cancel_token.cancel()
            context.raise_if_cancelled()
        else:
            gate(context)

    executor, recorder = executor_with(handler)
    with executor:
        with pytest.raises(TaskCancelled):
            executor.execute(make("outer"))
        other = executor.submit(make("other"))
        gate.open()
        assert inner[0].result(WAIT).status is TaskStatus.SUCCEEDED
        assert other.result(WAIT).status is TaskStatus.SUCCEEDED
    recorder.check()
