"""One test for each defect that the engine once had, named by the claim that it broke."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import callkit
from commandkit import wait_until
from support import (
    WAIT,
    FailingStore,
    FakeHandler,
    Gate,
    background,
    bounded,
    executor_with,
    make,
    run,
    statuses,
    wait,
)
from ttasks import (
    DependencyPolicy,
    InMemoryStore,
    RetryPolicy,
    SQLiteStore,
    Task,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskLogFilter,
    TaskStatus,
    TaskTimeoutError,
)
from ttasks.testing import FakeClock

SECRET = "s3cr3t-t0ken"
CUT = "x" * 50 + SECRET
"""A payload whose title is cut in the middle of the secret."""

SKIP = DependencyPolicy.SKIP
ON_FAILURE = DependencyPolicy.ON_FAILURE
FAILED = TaskEventType.FAILED
BOOM = ValueError("boom")


def downstream(task: Task) -> list[str]:
    """Titles of what did not run because of a task."""
    assert task.result is not None
    assert task.result.failure is not None
    return [title for title, _ in task.result.failure.downstream]


# Secrets leak despite `redact`


class Leaky:
    """A run whose titles and payloads hold a secret, and all that leaves the process of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger"
        self.events: list[TaskEvent] = []
        self.records: list[logging.LogRecord] = []

        def handler(context: TaskContext) -> None:
            record = logging.makeLogRecord({"msg": "working"})
            TaskLogFilter().filter(record)
            self.records.append(record)
            if "fails" in context.title:
                raise ValueError(f"refused: {context.payload}")

        with closing(SQLiteStore(self.path)) as store:
            self.executor, _ = executor_with(handler, store=store, redact=[SECRET])
            self.executor.events.subscribe(self.events.append)
            self.graph = TaskGraph(f"graph {SECRET}", key="k")
            self.first = self.graph.add(make(f"fails {SECRET}", SECRET))
            self.second = self.graph.add(Task.bash(CUT), after=self.first)
            self.graph.add(make(f"third {SECRET}"), after=self.first, on_dep_failure=SKIP)
            self.graph.add(Task.bash(CUT), after=self.second)
            self.graph.add(make(f"last {SECRET}"), finally_=True)
            self.run()
            self.journal = store.events.read()
            self.kept = store.graphs[self.graph.id]
            files = [self.path, *folder.glob("ledger-*")]
            self.files = {file.name: file.read_bytes() for file in files}
            self.executor.shutdown()

    def run(self) -> None:
        run(self.graph, self.executor, fail_fast=False)


def leaks(texts: Any) -> list[str]:
    """Those texts that show the secret, or half of it."""
    return [text for text in map(str, texts) if SECRET[:6] in text]


@pytest.fixture
def leaky(tmp_path: Path) -> Leaky:
    return Leaky(tmp_path)


def test_no_event_shows_a_secret_of_another_title(leaky: Leaky) -> None:
    blocked = [event for event in leaky.events if event.type is TaskEventType.BLOCKED]
    assert len(blocked) == 2
    assert leaks(event.error for event in leaky.events) == []
    assert leaks(repr(event.task) for event in leaky.events) == []
    assert leaks(repr(event.run) for event in leaky.events) == []
    assert leaks(event.task.payload for event in leaky.events if event.task) == []
    assert all("***" in (event.error or "") for event in blocked)


def test_no_journal_shows_a_secret(leaky: Leaky) -> None:
    assert len(leaky.journal) >= 7
    assert leaks(repr(entry) for entry in leaky.journal) == []


def test_no_list_of_what_did_not_run_shows_a_secret(leaky: Leaky) -> None:
    assert len(downstream(leaky.first)) == 3
    assert leaks(downstream(leaky.first)) == []


def test_no_byte_of_a_ledger_holds_a_secret(leaky: Leaky) -> None:
    assert "ledger-wal" in leaky.files
    for name, content in leaky.files.items():
        assert SECRET.encode() not in content, name
        assert SECRET[:6].encode() not in content, name


def test_no_stored_graph_shows_a_secret(leaky: Leaky) -> None:
    assert leaky.kept.title == "graph ***"
    assert leaks(repr(task) + str(task.error) for task in leaky.kept) == []


def test_no_log_record_of_a_task_shows_a_secret(leaky: Leaky) -> None:
    assert len(leaky.records) == 2
    for record in leaky.records:
        fields = {name: value for name, value in vars(record).items() if name != "threadName"}
        assert leaks(fields.values()) == [], fields


def test_no_name_of_a_thread_shows_a_secret(leaky: Leaky) -> None:
    # They stand in log records, and in what tools show of a process.
    assert leaks(record.threadName for record in leaky.records) == []


@pytest.mark.parametrize("how", ["fail_fast", "handler", "cancel", "strict"])
def test_no_reason_why_a_run_was_stopped_shows_a_secret(tmp_path: Path, how: str) -> None:
    events: list[TaskEvent] = []
    store = FailingStore() if how == "strict" else InMemoryStore()
    if isinstance(store, FailingStore):
        store.broken = lambda task: task.is_failed
    executor, _ = executor_with(
        FakeHandler({f"a {SECRET}": BOOM}),
        store=store,
        redact=[SECRET],
        strict_persistence=how == "strict",
    )
    executor.events.subscribe(events.append)
    graph = TaskGraph(f"graph {SECRET}")
    a = graph.add(make(f"a {SECRET}", SECRET))
    if how == "handler":
        a.type = type(a.type)(SECRET)  # of which there is no handler
    graph.add(make(f"b {SECRET}"), after=a)
    if how == "cancel":
        executor.events.subscribe(lambda event: graph.cancel(), types=TaskEventType.STARTED)
    run(graph, executor, 1, fail_fast=how == "fail_fast")
    assert len(events) >= 2
    assert leaks(event.error for event in events) == []
    assert leaks(task.error for task in graph) == []


# A subscriber that calls back


@pytest.mark.parametrize("kind", [TaskEventType.STARTED, TaskEventType.SUCCEEDED])
@pytest.mark.parametrize("way", ["graph", "submit"])
def test_a_subscriber_may_shut_down_while_a_coroutine_task_ends(
    kind: TaskEventType, way: str
) -> None:
    async def handler(context: TaskContext) -> str:
        await asyncio.sleep(0)
        return "done"

    executor, recorder = executor_with(handler)
    executor.events.subscribe(lambda event: executor.shutdown(), types=kind)
    task = make("t")
    if way == "graph":
        graph = TaskGraph()
        graph.add(task)
        run(graph, executor)
    else:
        assert executor.submit(task).result(WAIT).value == "done"
    bounded(executor.shutdown)
    assert task.is_succeeded
    recorder.check()


# Whatever a handler returns


class Proxy:
    """A value that cannot say its class, as a lazy proxy whose object is not there."""

    @property
    def __class__(self) -> Any:
        raise LookupError("nothing behind it")


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("way", ["graph", "execute"])
def test_a_value_that_cannot_say_its_class_is_a_value(way: str, is_async: bool) -> None:
    value = Proxy()

    async def coroutine(context: TaskContext) -> Any:
        return value

    executor, recorder = executor_with(coroutine if is_async else lambda context: value)
    task = make("t")
    graph = TaskGraph()
    graph.add(task)
    if way == "graph":
        run(graph, executor)
    else:
        bounded(lambda: executor.execute(task))
    assert task.is_succeeded
    assert task.value is value
    recorder.check()


# Exceptions that cannot be changed, and those that are raised again and again


@pytest.mark.parametrize("way", ["graph", "execute", "submit"])
def test_a_frozen_exception_of_a_subscriber_breaks_nothing(way: str) -> None:
    executor, _ = executor_with(FakeHandler())

    def subscriber(event: TaskEvent) -> None:
        raise callkit.FrozenError("no")

    kinds = [TaskEventType.STARTED, TaskEventType.SUCCEEDED]
    executor.events.subscribe(subscriber, types=kinds)
    heard: list[TaskEventType] = []
    executor.events.subscribe(lambda event: heard.append(event.type), types=kinds)
    graph = TaskGraph()
    task = graph.add(make("t"))
    if way == "graph":
        assert run(graph, executor).ok
    elif way == "execute":
        bounded(lambda: executor.execute(task))
    else:
        assert executor.submit(task).result(WAIT).status is TaskStatus.SUCCEEDED
    assert heard == [TaskEventType.STARTED, TaskEventType.SUCCEEDED]
    assert [type(error) for error in executor.events.errors] == [callkit.FrozenError] * 2


@pytest.mark.usefixtures("bare_main")
def test_a_frozen_exception_in_a_worker_process_fails_its_task_alone() -> None:
    def far(func: Callable[..., Any]) -> Task:
        return Task.python(func, backend="process")

    graph = TaskGraph()
    first = graph.add(far(callkit.pid))
    broken = graph.add(far(callkit.raise_frozen), after=first)
    last = graph.add(far(callkit.pid), after=broken, finally_=True)
    with TaskExecutor() as executor:
        run(graph, executor, 1)
    assert broken.result is not None
    assert broken.result.failure is not None
    # It cannot be unpickled, as that would change it; so another one stands for it.
    assert "raise_frozen raised callkit.FrozenError: cannot be changed" in (broken.error or "")
    assert first.value == last.value


def test_an_exception_that_is_raised_again_and_again_gets_one_note() -> None:
    executor, _ = executor_with(FakeHandler())
    error = ValueError("the same")

    def subscriber(event: TaskEvent) -> None:
        raise error

    executor.events.subscribe(subscriber)
    for _ in range(5):
        executor.execute(make("t"))
    assert len(executor.events.errors) == 10
    assert len(error.__notes__) == 1


# Ctrl-C


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="needs the main thread"
)
@pytest.mark.parametrize("moment", [TaskStatus.RUNNING, TaskStatus.SUCCEEDED])
def test_ctrl_c_while_execute_saves_leaves_store_events_and_task_of_one_mind(
    moment: TaskStatus,
) -> None:
    store = FailingStore()
    executor, recorder = executor_with(FakeHandler(), store=store)
    task = make("t")
    pressed: list[TaskStatus] = []

    def press(saved: Task) -> None:
        if saved.status is moment and not pressed:
            pressed.append(saved.status)
            signal.raise_signal(signal.SIGINT)

    store.saving = press
    with pytest.raises(KeyboardInterrupt):
        executor.execute(task)
    assert pressed == [moment]
    assert task.is_terminal
    assert store.saved[-1] == ("t", task.status)
    assert [event.status for event in recorder.events][-1] is task.status
    recorder.check()


def sleeps(thread: threading.Thread, looks: int = 20) -> bool:
    """True if a thread waits in the kernel, and not just for the interpreter lock."""
    for _ in range(looks):
        stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_bytes()
        if stat.rpartition(b") ")[2][:1] != b"S":
            return False
        time.sleep(0.001)  # so that it can have the lock
    return True


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ctrl_c_is_noticed_although_it_interrupts_no_wait(tmp_path: Path) -> None:
    # A signal that comes just before a wait ends it no more than one that another thread takes.
    executor = TaskExecutor()
    running = threading.Event()
    executor.events.subscribe(lambda event: running.set(), types=TaskEventType.OUTPUT)
    main = threading.main_thread()

    def press() -> None:
        wait(running)
        wait_until(lambda: sleeps(main), "the main thread to wait")
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    task = Task.bash("echo running; sleep 5; touch over", cwd=tmp_path)
    pressing = background(press)
    with executor, pytest.raises(KeyboardInterrupt):
        executor.execute(task)
    pressing.result(WAIT)
    assert task.is_cancelled
    assert not (tmp_path / "over").exists()


# The order of events


def test_a_task_that_has_just_failed_starts_again_after_its_failure_was_announced() -> None:
    store, gate = FailingStore(), Gate()
    executor, recorder = executor_with(FakeHandler({"t": BOOM}), store=store, max_workers=1)
    task = make("t")
    store.saving = lambda saved: gate(saved) if saved.is_failed else None
    first = background(lambda: executor.execute(task))
    gate.wait_reached()
    second = executor.submit(task)
    # Another task on the only thread shows that the second execution has had its turn.
    assert executor.submit(make("other")).result(WAIT).status is TaskStatus.SUCCEEDED
    kinds = recorder.of(task)
    gate.open()
    for future in [first, second]:
        with pytest.raises(ValueError, match="boom"):
            future.result(WAIT)
    assert kinds == [TaskEventType.STARTED]
    recorder.check()


# Stopping


def test_a_graph_that_is_cancelled_while_its_run_reads_the_ledger_is_cancelled(
    tmp_path: Path,
) -> None:
    with SQLiteStore(tmp_path / "ledger") as store:
        executor, recorder = executor_with(FakeHandler({"b": [BOOM]}), store=store)
        graphs = []
        for _ in range(2):
            graph = TaskGraph("graph", key="k")
            a = graph.add(make("a"))
            graph.add(make("b"), after=a)
            graphs.append(graph)
        run(graphs[0], executor)
        keyed = store.graphs.keyed

        def cancelled_meanwhile(*args: Any) -> Any:
            graphs[1].cancel()
            return keyed(*args)

        store.graphs.keyed = cancelled_meanwhile  # type: ignore[method-assign]
        recorder.events.clear()
        run(graphs[1], executor, resume=True)
        assert statuses(graphs[1])["b"] == "cancelled"
        b = list(graphs[1])[1]
        assert recorder.of(b) == [TaskEventType.CANCELLED]
        assert store.tasks[b.id].is_cancelled


def test_a_command_that_was_running_when_a_run_stopped_says_why() -> None:
    graph = TaskGraph()
    running = graph.add(Task.bash("sleep 60"))
    with TaskExecutor() as executor:
        executor.events.subscribe(
            lambda event: graph.cancel() if event.task is running else None,
            types=TaskEventType.STARTED,
        )
        graph.run(executor)
    assert running.error == "The graph run was cancelled"


@pytest.mark.parametrize("how", ["cancel", "fail_fast", "timeout"])
def test_what_was_running_when_a_run_stopped_says_why_like_what_was_waiting(how: str) -> None:
    clock, reached, gate = FakeClock(), threading.Event(), Gate()

    def obey(context: TaskContext) -> None:
        reached.set()
        assert context.wait_cancelled(3600.0)
        context.raise_if_cancelled()

    def fail(context: TaskContext) -> None:
        gate(context)
        raise BOOM

    handler = FakeHandler({"running": obey, "bad": fail})
    executor, recorder = executor_with(handler, clock=clock)
    graph = TaskGraph()
    bad = graph.add(make("bad"))
    running = graph.add(make("running"))
    waiting = graph.add(make("waiting"), after=running)
    options: dict[str, Any] = {"fail_fast": how == "fail_fast"}
    if how == "timeout":
        options["timeout"] = 30.0
    future = background(lambda: graph.run(executor, **options))
    wait(reached)
    gate.wait_reached()
    if how == "timeout":
        clock.advance(30.0)
    elif how == "cancel":
        graph.cancel()
    else:
        gate.open()
    wait_until(lambda: running.is_cancelled, "the cancellation")
    gate.open()
    future.result(WAIT)
    expected = {
        "cancel": "The graph run was cancelled",
        "fail_fast": "The graph run was stopped: 'bad' failed (fail_fast)",
        "timeout": "Graph timed out after 30 seconds",
    }[how]
    assert waiting.error == expected
    assert running.error == expected
    assert running.result is not None
    assert running.result.error == expected
    told = [event.error for event in recorder.events if event.type is TaskEventType.CANCELLED]
    assert set(told) == {expected}
    assert bad.is_failed or bad.is_cancelled
    recorder.check()


@pytest.mark.parametrize("title", ["graph", "graph with a secret"])
def test_a_run_that_timed_out_is_not_ok_when_it_comes_out_of_the_ledger(
    tmp_path: Path, title: str
) -> None:
    with SQLiteStore(tmp_path / "ledger") as store:
        clock, gate = FakeClock(), Gate()
        executor, _ = executor_with(gate, store=store, clock=clock, redact=["secret"])
        graph = TaskGraph(title)
        graph.add(make("a"), required=False)
        future = background(lambda: graph.run(executor, timeout=30.0))
        gate.wait_reached()
        clock.advance_to_next()
        wait_until(lambda: graph.run_error is not None or clock.waiting, "the timeout")
        gate.open()
        future.result(WAIT)
        assert isinstance(graph.run_error, TaskTimeoutError)
        assert not graph.ok
        assert not store.graphs[graph.id].ok


# Retries


def submitted(executor: TaskExecutor, graph: TaskGraph, task: Task) -> Any:
    return executor.submit(task)


def executed(executor: TaskExecutor, graph: TaskGraph, task: Task) -> Any:
    return background(lambda: executor.execute(task))


def in_a_graph(executor: TaskExecutor, graph: TaskGraph, task: Task) -> Any:
    return background(lambda: graph.run(executor))


WAYS = pytest.mark.parametrize("way", [submitted, executed, in_a_graph])


@WAYS
def test_a_task_that_waits_for_its_next_attempt_is_told_apart(way: Callable[..., Any]) -> None:
    clock = FakeClock()
    executor, recorder = executor_with(FakeHandler({"t": [BOOM, "done"]}), clock=clock)
    graph = TaskGraph()
    task = graph.add(make("t", retry=RetryPolicy(2, backoff=3600.0)))
    during: list[bool] = []
    executor.events.subscribe(
        lambda event: during.append(getattr(task, "is_retrying", False)), types=FAILED
    )
    future = way(executor, graph, task)
    clock.wait_for_waits()
    assert task.status is TaskStatus.PENDING
    assert [task.is_failed, task.is_terminal, task.is_running] == [False] * 3
    assert task.is_pending
    assert graph.failed == graph.required_failed == []
    assert graph.statistics().counts[TaskStatus.FAILED] == 0
    assert not graph.ok
    assert (task.error, task.result.status if task.result else None) == ("boom", TaskStatus.FAILED)
    assert task.is_retrying
    clock.advance_to_next()
    future.result(WAIT)
    assert task.is_succeeded
    assert not task.is_retrying
    assert during == [True]
    recorder.check()


@pytest.mark.parametrize("end", ["success", "failure", "cancellation"])
def test_what_has_ended_is_not_retrying(end: str) -> None:
    clock = FakeClock()
    steps = [BOOM, "done" if end == "success" else BOOM]
    executor, recorder = executor_with(FakeHandler({"t": steps}), clock=clock)
    task = make("t", retry=RetryPolicy(2, backoff=3600.0))
    assert not task.is_retrying
    future = executor.submit(task)
    clock.wait_for_waits()
    if end == "cancellation":
        assert executor.cancel(task)
    else:
        clock.advance_to_next()
    wait_until(future.done, "the end")
    assert task.is_terminal
    assert not task.is_retrying
    recorder.check()


@WAYS
def test_a_task_that_waits_for_its_next_attempt_holds_no_place_and_no_thread(
    way: Callable[..., Any],
) -> None:
    clock = FakeClock()
    handler = FakeHandler({"first": [BOOM, "done"]})
    executor, recorder = executor_with(handler, clock=clock, max_workers=1, limits={"db": 1})
    graph = TaskGraph()
    first = graph.add(make("first", group="db", retry=RetryPolicy(2, backoff=3600.0)))
    future = way(executor, graph, first)
    clock.wait_for_waits()
    second = make("second", group="db")
    assert executor.submit(second).result(WAIT).status is TaskStatus.SUCCEEDED
    assert handler.calls == ["first", "second"]
    clock.advance_to_next()
    future.result(WAIT)
    assert handler.calls == ["first", "second", "first"]
    recorder.check()


# What stays in memory


@pytest.mark.parametrize("is_async", [False, True])
def test_attempts_that_have_ended_do_not_stay_in_memory_until_their_time_would_be_up(
    is_async: bool,
) -> None:
    class OddError(Exception):
        """Nobody but its attempt keeps it, because that is tried again."""

    left: list[weakref.ref[OddError]] = []
    alive: list[int] = []

    def work(context: TaskContext) -> None:
        if context.title == "last":
            gc.collect()
            alive.append(sum(ref() is not None for ref in left))
        elif context.attempt == 1:
            error = OddError()
            left.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

    async def coroutine(context: TaskContext) -> None:
        work(context)

    executor, recorder = executor_with(coroutine if is_async else work)
    graph = TaskGraph()
    retry = RetryPolicy(2)
    tasks = [graph.add(make(str(at), timeout=3600.0, retry=retry)) for at in range(20)]
    graph.add(make("last"), after=tasks)
    assert run(graph, executor, 2).ok
    assert len(left) == 20
    # A worker that has ended an attempt may still hold on to it.
    assert alive[0] <= 2
    recorder.check()


# Tasks that two graphs share


def test_a_task_that_another_graph_runs_is_waited_for() -> None:
    gates = {"shared": Gate(), "before": Gate()}
    executor, recorder = executor_with(FakeHandler(gates))
    shared = make("shared")
    first, second = TaskGraph("first"), TaskGraph("second")
    first.add(shared)
    before = second.add(make("before"))
    second.add(shared, after=before)
    after = second.add(make("after"), after=shared)
    runs = [background(lambda: second.run(executor))]
    gates["before"].wait_reached()
    runs.append(background(lambda: first.run(executor)))
    gates["shared"].wait_reached()
    gates["before"].open()
    wait_until(lambda: second.statistics().waiting or after.is_terminal, "the second graph")
    gates["shared"].open()
    for future in runs:
        future.result(WAIT)
    assert statuses(second) == dict.fromkeys(("before", "shared", "after"), "succeeded")
    assert recorder.of(shared) == [TaskEventType.STARTED, TaskEventType.SUCCEEDED]
    recorder.check()


# What did not run, and why


def test_each_cause_names_all_that_did_not_run_because_of_it_and_each_of_those_says_why() -> None:
    executor, recorder = executor_with(FakeHandler({"first": BOOM, "second": BOOM}))
    graph = TaskGraph()
    first, second, fine = (graph.add(make(title)) for title in ("first", "second", "fine"))
    both = graph.add(make("both"), after=[first, second])
    skipped = graph.add(make("skipped"), after=second, on_dep_failure=SKIP)
    below = graph.add(make("below"), after=[skipped, fine])
    far = graph.add(make("far"), after=[both, below], on_dep_failure=DependencyPolicy.BLOCK)
    fallback = graph.add(make("fallback"), after=fine, on_dep_failure=ON_FAILURE)
    run(graph, executor)
    assert sorted(downstream(first)) == ["both", "far"]
    assert sorted(downstream(second)) == ["below", "both", "far", "skipped"]
    assert skipped.error == "skipped: 'second' failed"
    assert below.error == "skipped: 'skipped' was skipped"
    assert fallback.is_skipped
    assert fallback.error
    assert (both.error or "").startswith("blocked by ")
    assert far.is_blocked
    for event in recorder.events:
        if event.type in (TaskEventType.SKIPPED, TaskEventType.BLOCKED):
            assert event.error == next(t.error for t in graph if t.id == event.task_id)
    recorder.check(graph)
