"""Services in graphs and alone: ready, used, stopped when nothing needs them, or dead."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import CUSTOM, WAIT, EventRecorder, background, make, run, statuses, threads
from ttasks import (
    CycleError,
    DependencyPolicy,
    GraphError,
    InvalidTransitionError,
    RetryPolicy,
    ServiceError,
    SQLiteStore,
    Task,
    TaskCancelled,
    TaskContext,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskType,
    ready,
)
from ttasks.engine import service as service_module
from ttasks.model.selection import Selection, select
from ttasks.testing import FakeClock

READY = TaskEventType.READY
STARTED = TaskEventType.STARTED


class Pause:
    """A place at which a function, a probe or a handler stops until the test opens it."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, context: TaskContext | None = None) -> None:
        self._reached.set()
        assert self._opened.wait(WAIT)

    def wait_reached(self) -> None:
        assert self._reached.wait(WAIT)

    def open(self) -> None:
        self._opened.set()


class FakeService:
    """A handler of services that stay until they are stopped, or until `die` is called."""

    def __init__(self) -> None:
        self._wake: dict[str, threading.Event] = {}
        self._deaths: dict[str, list[object]] = {}
        self.running: set[str] = set()

    def _of(self, title: str) -> threading.Event:
        return self._wake.setdefault(title, threading.Event())

    def die(self, title: str, *deaths: object) -> None:
        """Let the next attempts end by themselves, in these ways."""
        self._deaths.setdefault(title, []).extend(deaths)
        self._of(title).set()

    def __call__(self, context: TaskContext) -> object:
        wake = self._of(context.title)
        remove = context.cancel_token.add_callback(wake.set)
        self.running.add(context.title)
        try:
            assert wake.wait(WAIT)
            if context.cancelled:
                raise TaskCancelled
            death = self._deaths[context.title].pop(0)
            if not self._deaths[context.title]:
                wake.clear()
            if isinstance(death, BaseException):
                raise death
            return death
        finally:
            remove()
            self.running.discard(context.title)


class World:
    """An executor with fake services, and a recorder of its events."""

    def __init__(self, **options: Any) -> None:
        self.fake = FakeService()
        self.executor = TaskExecutor(options.pop("store", None), **options)
        self.executor.register(TaskType.SERVICE, self.fake)
        self.recorder = EventRecorder(self.executor)
        self.graph = TaskGraph("with services")

    def service(self, title: str, *, after: Any = (), **options: Any) -> Task[str]:
        keep = {k: options.pop(k) for k in ("finally_", "on_dep_failure") if k in options}
        return self.graph.add(Task.service("stay", title=title, **options), after=after, **keep)

    def task(self, title: str, work: Callable[[], Any] | None = None, **options: Any) -> Task:
        names = ("after", "finally_", "on_dep_failure", "required")
        keep = {name: options.pop(name) for name in names if name in options}
        return self.graph.add(Task.python(work or str, title=title, **options), **keep)

    def run(self, *args: Any, **options: Any) -> dict[str, str]:
        run(self.graph, self.executor, *args, **options)
        self.executor.shutdown()
        assert threads() == []
        return statuses(self.graph)

    def log(self) -> list[str]:
        """What happened, but output and progress."""
        kinds = (TaskEventType.OUTPUT, TaskEventType.PROGRESS)
        events = [event for event in self.recorder.events if event.type not in kinds]
        return [f"{event.task.title} {event.type.value}" for event in events]


# In a graph


@pytest.mark.parametrize("workers", [1, 4])
def test_a_service_is_ready_before_its_users_and_stopped_after_the_last(workers: int) -> None:
    world = World()
    server = world.service("server", ready=lambda: True)
    first = world.task("first", lambda: "server" in world.fake.running, after=server)
    second = world.task("second", lambda: "server" in world.fake.running, after=first)
    assert world.run(workers) == dict.fromkeys(["server", "first", "second"], "succeeded")
    assert (first.value, second.value) == (True, True)
    assert world.log() == [
        *("server started", "server ready"),
        *("first started", "first succeeded", "second started", "second succeeded"),
        "server succeeded",
    ]
    world.recorder.check(world.graph)


def test_one_worker_is_enough_for_any_number_of_services() -> None:
    world = World()
    servers = [world.service(f"server {number}") for number in range(5)]
    world.task("use", lambda: len(world.fake.running), after=servers)
    world.run(1)
    assert world.graph.find("use").value == 5


def test_a_service_after_a_service_is_stopped_first() -> None:
    world = World()
    outer = world.service("outer")
    inner = world.service("inner", after=outer)
    world.task("use", after=inner)
    world.run()
    ends = [line for line in world.log() if line.endswith("succeeded")]
    assert ends == ["use succeeded", "inner succeeded", "outer succeeded"]


def test_a_service_that_nothing_needs_is_skipped() -> None:
    world = World()
    world.service("server")
    world.task("alone")
    assert world.run() == {"server": "skipped", "alone": "succeeded"}
    assert world.graph.ok
    assert world.graph.report().entries[world.graph.find("server").id].why == (
        "'server' did not run: nothing needs it."
    )


def test_a_service_ends_early_if_all_that_needs_it_is_blocked() -> None:
    world = World()
    gate = Pause()
    server = world.service("server", ready=lambda: False)
    failing = world.task("failing", lambda: (gate(), 1 / 0))
    world.task("use", after=[server, failing])
    future = background(lambda: world.run(2))
    gate.wait_reached()
    gate.open()
    found = future.result(WAIT)
    assert (found["failing"], found["use"]) == ("failed", "blocked")
    assert found["server"] in ("succeeded", "skipped")


def test_two_services_that_need_each_other_are_a_cycle() -> None:
    world = World()
    one = world.service("one")
    two = world.service("two", after=one)
    world.graph[one] = [two]
    with pytest.raises(CycleError, match="one -> two -> one"):
        world.graph.run(world.executor)
    assert world.log() == []


# Stops


def test_a_finally_task_finds_the_service_that_it_comes_after() -> None:
    world = World()
    gate = Pause()
    server = world.service("server")
    use = world.task("use", lambda: gate(), after=server)
    world.task("late", after=use)
    clean = world.task(
        "clean", lambda: "server" in world.fake.running, after=[server, use], finally_=True
    )
    future = background(world.run)
    gate.wait_reached()
    world.graph.cancel()
    gate.open()
    assert future.result(WAIT) == {
        "server": "cancelled",
        "use": "cancelled",
        "late": "cancelled",
        "clean": "succeeded",
    }
    assert clean.value is True
    assert world.log()[-1] == "server cancelled"


def test_a_service_that_is_not_ready_is_cancelled_at_once() -> None:
    world = World()
    server = world.service("server", ready=lambda: False)
    world.task("clean", after=server, finally_=True)
    asked = threading.Event()
    world.executor.events.subscribe(lambda _: asked.set(), types=STARTED)
    future = background(world.run)
    assert asked.wait(WAIT)
    world.graph.cancel()
    assert future.result(WAIT) == {"server": "cancelled", "clean": "succeeded"}
    assert "server ready" not in world.log()


def test_a_service_among_the_finally_tasks_runs_after_a_stop() -> None:
    world = World()
    gate = Pause()
    first = world.task("first", lambda: gate())
    server = world.service("server", after=first, finally_=True)
    world.task("clean", lambda: "server" in world.fake.running, after=server, finally_=True)
    future = background(world.run)
    gate.wait_reached()
    world.graph.cancel()
    gate.open()
    found = future.result(WAIT)
    assert (found["server"], found["clean"]) == ("succeeded", "succeeded")


def test_a_graph_that_is_out_of_time_stops_its_services() -> None:
    clock = FakeClock()
    world = World(clock=clock)
    server = world.service("server")
    gate = Pause()
    world.task("use", lambda: gate(), after=server)
    stopping = threading.Event()
    world.executor.events.subscribe(lambda _: stopping.set(), types=TaskEventType.RUN_STOPPING)
    future = background(lambda: world.run(timeout=60))
    gate.wait_reached()
    clock.advance(60)
    assert stopping.wait(WAIT)
    gate.open()
    assert future.result(WAIT) == {"server": "cancelled", "use": "cancelled"}


# Dead


def test_one_that_dies_before_it_is_ready_is_failed_and_blocks() -> None:
    world = World()
    server = world.service("server", ready=lambda: False)
    world.task("use", after=server)
    world.fake.die("server", ValueError("no disk"))
    assert world.run() == {"server": "failed", "use": "blocked"}
    assert server.error == "Service died before it was ready: ValueError: no disk"
    assert server.result is not None
    assert server.result.termination_reason == "died"


def test_one_that_ends_well_before_it_is_ready_has_died() -> None:
    world = World()
    server = world.service("server", ready=lambda: False)
    world.task("use", after=server)
    world.fake.die("server", None)
    world.run()
    assert server.error == "Service died before it was ready: its function returned"


def test_one_that_dies_before_it_is_ready_is_tried_again() -> None:
    world = World()
    server = world.service("server", ready=lambda: len(world.fake.running) and tries(), retry=3)
    world.task("use", after=server)

    def tries() -> bool:
        return world.recorder.of(server).count(TaskEventType.FAILED) == 2

    world.fake.die("server", OSError("once"), OSError("twice"))
    assert world.run() == {"server": "succeeded", "use": "succeeded"}
    assert server.result is not None
    assert server.result.attempts == 3


def test_one_that_dies_after_it_was_ready_is_not_tried_again_and_blocks_what_has_not_started() -> (
    None
):
    world = World()
    server = world.service("server", retry=5)
    gate, other = Pause(), Pause()
    running = world.task("running", lambda: gate(), after=server)
    blocker = world.task("blocker", lambda: other())
    direct = world.task("direct", after=[server, blocker])
    step = world.task("after running", after=running)
    world.task("skipped", after=running, on_dep_failure=DependencyPolicy.SKIP)
    world.task("anyway", after=running, on_dep_failure=DependencyPolicy.RUN_ANYWAY)
    world.task("clean", after=[step, direct], finally_=True)
    future = background(lambda: world.run(3))
    gate.wait_reached()
    other.wait_reached()
    blocked = threading.Event()
    world.executor.events.subscribe(lambda _: blocked.set(), types=TaskEventType.BLOCKED)
    world.fake.die("server", OSError("gone"))
    assert blocked.wait(WAIT)
    gate.open()
    other.open()
    assert future.result(WAIT) == {
        "server": "failed",
        "running": "succeeded",
        "blocker": "succeeded",
        "direct": "blocked",
        "after running": "blocked",
        "skipped": "skipped",
        "anyway": "succeeded",
        "clean": "succeeded",
    }
    assert direct.blocked_by == step.blocked_by == server.id
    assert server.result is not None
    assert server.result.failure is not None
    assert server.result.attempts == 1
    titles = {title for title, _ in server.result.failure.downstream}
    assert titles == {"direct", "after running"}


def test_fail_fast_stops_the_graph_of_a_dead_service() -> None:
    world = World()
    server = world.service("server")
    gate = Pause()
    world.task("use", lambda: gate(), after=server)
    stopping = threading.Event()
    world.executor.events.subscribe(lambda _: stopping.set(), types=TaskEventType.RUN_STOPPING)
    future = background(lambda: world.run(fail_fast=True))
    gate.wait_reached()
    world.fake.die("server", OSError("gone"))
    assert stopping.wait(WAIT)
    gate.open()
    assert future.result(WAIT) == {"server": "failed", "use": "cancelled"}


# Not ready


def test_one_that_is_not_ready_in_time_is_failed() -> None:
    clock = FakeClock()
    world = World(clock=clock)
    asked = threading.Event()

    def probe() -> bool:
        asked.set()
        raise OSError("no route")

    server = world.service("server", ready=probe, ready_timeout=3600)
    world.task("use", after=server)
    future = background(world.run)
    assert asked.wait(WAIT)
    clock.wait_for_waits(2)  # the pause of the probe, and the supervisor
    clock.advance(3600)
    assert future.result(WAIT) == {"server": "failed", "use": "blocked"}
    assert server.error == "Service was not ready within 3600 seconds: OSError: no route"
    assert server.result is not None
    assert server.result.termination_reason == "not_ready"


def test_a_probe_that_hangs_does_not_hang_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "_JOIN_SECONDS", 0.01)
    world = World()
    gate = Pause()
    server = world.service("server", ready=lambda: gate(), ready_timeout=0.05)
    world.task("use", after=server)
    run(world.graph, world.executor)
    assert world.executor.abandoned == 1
    assert server.error == "Service was not ready within 0.05 seconds: the probe has not returned"
    gate.open()
    for _ in range(2000):
        if world.executor.abandoned == 0:
            break
        time.sleep(0.001)
    assert world.executor.abandoned == 0
    world.executor.shutdown()


def test_a_service_that_will_not_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ttasks.engine.dispatch.STOP_PATIENCE", 0.01)
    gate = Pause()
    executor = TaskExecutor()
    executor.register(TaskType.SERVICE, gate)
    graph = TaskGraph()
    server = graph.add(Task.service("stay", title="server"))
    graph.add(make("use"), after=server)
    executor.register(CUSTOM, lambda context: gate.wait_reached())
    run(graph, executor)
    assert server.error == "The service was asked to stop, and would not end"
    assert executor.abandoned == 1
    gate.open()
    executor.shutdown()


def test_the_time_that_a_service_may_run_is_its_timeout_and_not_that_of_the_executor() -> None:
    clock = FakeClock()
    world = World(clock=clock, timeout=1)
    gate = Pause()
    limited = world.service("limited", timeout=100)
    world.service("free")
    world.task("use", lambda: gate(), after=list(world.graph), timeout=10_000)
    future = background(lambda: world.run(4))
    gate.wait_reached()
    failed = threading.Event()
    world.executor.events.subscribe(lambda _: failed.set(), types=TaskEventType.FAILED)
    clock.advance(100)
    assert failed.wait(WAIT)
    gate.open()
    assert future.result(WAIT) == {"limited": "failed", "free": "succeeded", "use": "succeeded"}
    assert limited.error == "Task timed out after 100 seconds"


# Places, retries, mistakes


def test_a_place_in_a_group_is_given_back_when_the_service_is_ready() -> None:
    world = World(limits={"db": 1})
    one = world.service("one", group="db")
    two = world.service("two", group="db")
    world.task("use", after=[one, two], group="db")
    assert set(world.run().values()) == {"succeeded"}


def test_a_place_is_held_until_the_service_is_ready() -> None:
    world = World(limits={"db": 1})
    gate = Pause()
    server = world.service("server", group="db", ready=lambda: (gate(), True)[1])
    world.task("use", after=server)
    world.task("other", group="db", priority=-1)
    future = background(lambda: world.run(2))
    gate.wait_reached()
    gate.open()
    future.result(WAIT)
    log = world.log()
    assert log.index("server ready") < log.index("other started")


def test_a_service_in_a_backoff_that_nothing_needs_any_more_ends_at_once() -> None:
    clock = FakeClock()
    world = World(clock=clock)
    gate = Pause()
    server = world.service("server", ready=lambda: False, retry=RetryPolicy(2, 3600))
    failing = world.task("failing", lambda: (gate(), 1 / 0))
    world.task("use", after=[server, failing])
    failed = threading.Event()
    world.executor.events.subscribe(lambda _: failed.set(), types=TaskEventType.FAILED)
    world.fake.die("server", OSError("once"))
    future = background(lambda: world.run(2))
    assert failed.wait(WAIT)
    gate.wait_reached()
    gate.open()
    found = future.result(WAIT)  # the clock never moves
    assert found == {"server": "succeeded", "failing": "failed", "use": "blocked"}


def test_reuse_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="reuse must be False for a service"):
        Task.service("stay", reuse=True)
    world = World()
    world.service("server").reuse = True
    with pytest.raises(GraphError, match="'server' has reuse=True"):
        world.graph.run(world.executor)
    assert world.log() == []


def test_a_service_that_has_ended_cannot_be_used_again() -> None:
    world = World()
    server = world.service("server")
    use = world.task("use", lambda: 1 / 0, after=server)
    assert run(world.graph, world.executor) is world.graph
    with pytest.raises(GraphError, match=r"'server' has ended, and cannot start again for 'use'"):
        world.graph.run(world.executor)
    assert use.is_failed


def test_a_service_belongs_to_one_run_at_a_time() -> None:
    world = World()
    server = world.service("server")
    gate, second = Pause(), Pause()
    world.task("use", lambda: gate(), after=server)
    other = TaskGraph("other")
    first = other.add(Task.python(lambda: second(), title="first"))
    other.add(server, after=first)
    user = other.add(Task.python(str, title="user"), after=server)
    later = background(lambda: other.run(world.executor))
    second.wait_reached()
    future = background(lambda: world.graph.run(world.executor))
    gate.wait_reached()
    second.open()
    later.result(WAIT)
    assert user.is_blocked
    assert "is running in another run" in str(other.errors[server.id])
    gate.open()
    assert future.result(WAIT).ok
    world.executor.shutdown()


@pytest.mark.parametrize("how", ["execute", "submit", "attempt", "aexecute"])
def test_a_service_is_not_executed_by_itself(how: str) -> None:
    with TaskExecutor() as executor:
        service = Task.service("sleep 60", title="server")
        with pytest.raises(ValueError, match="with executor.running"):
            found = getattr(executor, how)(service)
            if how == "aexecute":
                asyncio.run(found)
        assert service.is_pending


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"ready": 8000}, TypeError, r"ttasks.ready.tcp\(8000\)"),
        ({"ready": "up"}, TypeError, "ttasks.ready.output"),
        ({"ready": lambda port: True}, TypeError, "called without arguments"),
        ({"ready_timeout": 0}, ValueError, "ready_timeout"),
        ({"ready_timeout": None}, TypeError, "ready_timeout"),
        ({"stop_signal": 0}, ValueError, "stop_signal"),
        ({"stop_signal": 65}, ValueError, "from 1 to 64"),
        ({"stop_signal": "SIGINT"}, TypeError, "stop_signal"),
    ],
)
def test_bad_arguments_are_refused(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Task.service("stay", **options)


# Resume


def build(log: Path, *, fails: bool) -> TaskGraph:
    graph = TaskGraph("resumed", key="resumed")
    server = graph.add(
        Task.service(f"echo server >> {log}; echo up; sleep 60", title="server", ready=UP)
    )
    first = graph.add(Task.bash(f"echo first >> {log}", title="first"), after=server)
    graph.add(
        Task.bash(f"echo last >> {log}; {'false' if fails else 'true'}", title="last", key="last"),
        after=first,
    )
    return graph


UP = ready.output("^up$")


def test_a_resume_starts_a_service_for_what_is_left_and_only_then(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with SQLiteStore(tmp_path / "ledger.db") as store, TaskExecutor(store) as executor:
        assert not run(build(log, fails=True), executor, resume=True).ok
        again = run(build(log, fails=False), executor, resume=True)
        assert statuses(again) == dict.fromkeys(["server", "first", "last"], "succeeded")
        assert again.find("first").result.reused
        assert log.read_text().split() == ["server", "first", "last", "server", "last"]
        third = run(build(log, fails=False), executor, resume=True)
        assert statuses(third) == {"server": "skipped", "first": "succeeded", "last": "succeeded"}
        assert third.ok
        assert log.read_text().split() == ["server", "first", "last", "server", "last"]


def test_what_is_left_of_a_resume_waits_until_the_service_is_ready(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with SQLiteStore(tmp_path / "ledger.db") as store, TaskExecutor(store) as executor:
        run(build(log, fails=True), executor)
        graph = build(log, fails=False)
        events = EventRecorder(executor)
        run(graph, executor, resume=True)
        titles = [(e.task.title, e.type) for e in events.events]
        assert titles.index(("server", READY)) < titles.index(("last", STARTED))


def test_a_ledger_knows_when_a_service_was_ready(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger.db") as store, TaskExecutor(store) as executor:
        graph = TaskGraph("kept", key="kept")
        server = graph.add(Task.service("echo up; sleep 60", title="server", ready=UP))
        user = graph.add(Task.bash("true", title="use"), after=server)
        run(graph, executor)
        kinds = [entry.type.value for entry in store.events.read() if entry.task_id == server.id]
        assert kinds == ["started", "ready", "succeeded"]
        live = graph.report().entries
    with SQLiteStore(tmp_path / "ledger.db") as other:
        past = other.runs.latest(key="kept").report().entries
        assert past[server.id].up == live[server.id].up is not None
        assert past[server.id].is_service
        assert past[user.id].why == live[user.id].why == "'use' ran after 'server' was ready."
        loaded = other.graphs[graph.id].find("server")
        assert loaded.options["ready"]["pattern"] == "^up$"


def test_a_part_of_a_graph_brings_its_services_along() -> None:
    graph = TaskGraph()
    server = graph.add(Task.service("stay", title="server"))
    first = graph.add(Task.bash("true", title="first"), after=server)
    graph.add(Task.bash("true", title="last"), after=first)
    graph.add(Task.service("stay", title="other"))
    chosen = [task.title for task in select(graph, Selection(only=["last"], skip=["server"]))]
    assert chosen == ["server", "last"]


# Alone


def test_a_service_runs_while_a_block_does() -> None:
    world = World()
    service = Task.service("stay", title="server", ready=lambda: True)
    with world.executor.running(service) as it:
        assert it is service
        assert world.fake.running == {"server"}
    assert service.is_succeeded
    assert world.log() == ["server started", "server ready", "server succeeded"]
    world.executor.shutdown()
    assert threads() == []


def test_a_block_whose_service_does_not_start_is_not_entered() -> None:
    world = World()
    service = Task.service("stay", title="server", ready=lambda: False)
    world.fake.die("server", OSError("no disk"))
    with pytest.raises(ServiceError, match="no disk"), world.executor.running(service):
        pytest.fail("it is not ready")
    world.executor.shutdown()


def test_a_service_that_died_in_its_block_raises_at_the_end() -> None:
    world = World()
    service = Task.service("stay", title="server")
    failed = threading.Event()
    world.executor.events.subscribe(lambda _: failed.set(), types=TaskEventType.FAILED)
    with pytest.raises(ServiceError, match="gone") as caught, world.executor.running(service):
        world.fake.die("server", OSError("gone"))
        assert failed.wait(WAIT)
    assert caught.value.reason == "died"
    world.executor.shutdown()


def test_the_exception_of_a_block_goes_on_and_the_service_ends() -> None:
    world = World()
    service = Task.service("stay", title="server")
    with pytest.raises(KeyError), world.executor.running(service):
        raise KeyError("mine")
    assert service.is_succeeded
    assert world.fake.running == set()
    world.executor.shutdown()


def test_blocks_may_be_nested_and_overlap() -> None:
    world = World()
    one, two = Task.service("stay", title="one"), Task.service("stay", title="two")
    with world.executor.running(one):
        with world.executor.running(two):
            assert world.fake.running == {"one", "two"}
        assert world.fake.running == {"one"}
    world.executor.shutdown()


def test_a_shutdown_ends_the_services_of_open_blocks() -> None:
    world = World()
    service = Task.service("stay", title="server")
    with world.executor.running(service):
        world.executor.shutdown()
        assert service.is_succeeded


def test_a_service_that_is_cancelled_in_its_block_raises() -> None:
    world = World()
    service = Task.service("stay", title="server")
    with pytest.raises(TaskCancelled), world.executor.running(service):
        world.executor.cancel(service)
    assert service.is_cancelled
    world.executor.shutdown()


def test_only_a_service_can_be_running_and_only_once() -> None:
    with TaskExecutor() as executor:
        with pytest.raises(ValueError, match="is no service"):
            executor.running(Task.bash("true"))
        service = Task.service("sleep 60")
        with executor.running(service):
            pass
        with pytest.raises(InvalidTransitionError), executor.running(service):
            pass


def test_a_service_that_runs_in_a_block_is_not_disturbed_by_another_block() -> None:
    service = Task.service("sleep 60", title="server")
    with TaskExecutor() as executor:
        block = executor.running(service)
        with block:
            with pytest.raises(RuntimeError, match="entered before"), block:
                pass
            with pytest.raises(GraphError, match="another run"), executor.running(service):
                pass
            assert service.is_running
    assert service.is_succeeded


def test_a_probe_that_returns_a_coroutine_is_never_ready() -> None:
    async def check() -> bool:
        return True

    service = Task.service("sleep 60", ready=lambda: check(), ready_timeout=0.2)
    graph, _ = commands(service)
    assert statuses(graph)[service.title] == "failed"
    assert service.error is not None
    assert "returned a coroutine" in service.error


class _Asynchronous:
    async def __call__(self) -> bool:
        return True


def _yields() -> Iterator[bool]:
    yield True


@pytest.mark.parametrize("probe", [_Asynchronous(), _yields, {}, {"probe": "tcp", "port": 1}])
def test_what_cannot_be_a_probe_is_refused(probe: Any) -> None:
    with pytest.raises(TypeError, match="ready must"):
        Task.service("sleep 60", ready=probe)


# Commands


def lives(pid: int) -> bool:
    """True unless a process is gone, or waits for nothing but being reaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def commands(*services: Task, use: str = "true", **options: Any) -> tuple[TaskGraph, float]:
    """Run a graph of services that one command comes after; returns it and its seconds."""
    graph = TaskGraph("commands")
    for service in services:
        graph.add(service)
    graph.add(Task.bash(use, title="use"), after=services)
    began = time.monotonic()
    with TaskExecutor(**options) as executor:
        run(graph, executor)
    assert threads() == []
    return graph, time.monotonic() - began


def test_a_command_that_ignores_the_signal_is_killed_after_its_grace() -> None:
    script = "trap '' TERM; echo up; while true; do sleep 0.1; done"
    service = Task.service(script, ready=UP, grace=0.2)
    graph, seconds = commands(service)
    assert graph.ok
    assert service.result is not None
    assert service.result.returncode == -signal.SIGKILL
    assert seconds < 3


def test_the_stop_signal_is_sent() -> None:
    script = "trap 'echo bye; exit 7' INT; echo up; while true; do sleep 0.02; done"
    service = Task.service(script, ready=UP, stop_signal=signal.SIGINT)
    commands(service)
    assert service.is_succeeded
    assert service.result is not None
    assert service.result.output.split() == ["up", "bye"]
    assert service.result.returncode == 7


def test_one_that_goes_to_the_background_has_died_and_leaves_nothing(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"setsid bash -c 'echo $$ > {pid}; exec sleep 60' >/dev/null 2>&1 & sleep 0.2"
    service = Task.service(script, ready=lambda: False)
    graph, _ = commands(service)
    assert statuses(graph) == {service.title: "failed", "use": "blocked"}
    assert service.error == (
        "Service died before it was ready: it exited with code 0 (a service has to stay in the "
        "foreground)"
    )
    assert not lives(int(pid.read_text()))


def test_a_failure_names_the_exit_code_and_keeps_the_output() -> None:
    service = Task.service("echo begin; echo 'no space' >&2; exit 3", ready=UP)
    commands(service)
    assert service.error == (
        "Service died before it was ready: Command failed with exit code 3: no space"
    )
    assert service.result is not None
    assert (service.result.output, service.result.returncode) == ("begin\n", 3)


def test_one_that_is_not_ready_in_time_tells_its_last_line() -> None:
    service = Task.service("echo begin; sleep 60", ready=UP, ready_timeout=0.2)
    commands(service)
    assert service.error == (
        "Service was not ready within 0.2 seconds: it printed no line that matches '^up$'; its "
        "last line was: begin"
    )
    assert service.result is not None
    assert service.result.output == "begin\n"


def test_a_pattern_sees_secrets_that_nobody_else_does() -> None:
    service = Task.service("echo token=hunter22; sleep 60", ready=ready.output("hunter22"))
    seen: list[str] = []
    graph = TaskGraph()
    graph.add(service)
    graph.add(Task.bash("true"), after=service)
    with TaskExecutor(redact=["hunter22"]) as executor:
        executor.events.subscribe(lambda e: seen.append(e.output_chunk or ""))
        run(graph, executor)
    assert graph.ok
    assert service.result is not None
    assert "".join(seen) == service.result.output == "token=***\n"


def test_a_port_that_is_taken_is_told_before_the_service_starts(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = Task.service(f"touch {tmp_path}/ran; sleep 60", ready=ready.tcp(port))
        commands(service)
    assert service.error == (
        f"The service was not started: port {port} of 127.0.0.1 is taken: something accepted a "
        "connection before it was started"
    )
    assert not (tmp_path / "ran").exists()


# Python services


async def stay() -> None:
    print("up")
    await asyncio.sleep(3600)


def sleep_long() -> None:
    time.sleep(3600)


def come_and_go() -> str:
    return "gone"


def python_graph(service: Task, executor: TaskExecutor) -> TaskGraph:
    graph = TaskGraph()
    graph.add(service)
    graph.add(Task.python(str, title="use"), after=service)
    return run(graph, executor)


def test_a_coroutine_runs_until_it_is_cancelled() -> None:
    begun, ended = threading.Event(), []

    async def serve() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("cleaned up")

    service = Task.python(serve, service=True, ready=begun.is_set)
    with TaskExecutor() as executor:
        assert python_graph(service, executor).ok
    assert ended == ["cleaned up"]
    assert threads() == []


def test_the_prints_of_a_coroutine_tell_that_it_is_ready() -> None:
    service = Task.python(stay, service=True, ready=ready.output("up"), capture_print=True)
    with TaskExecutor() as executor:
        assert python_graph(service, executor).ok
    assert service.result is not None
    assert service.result.output == "up\n"


def test_a_plain_function_runs_in_a_process_that_is_ended() -> None:
    service = Task.python(sleep_long, service=True)
    assert service.payload.backend == "process"
    with TaskExecutor() as executor:
        assert python_graph(service, executor).ok


def test_a_function_that_returns_has_died() -> None:
    service = Task.python(come_and_go, service=True, ready=lambda: False)
    with TaskExecutor() as executor:
        python_graph(service, executor)
    assert service.error == "Service died before it was ready: its function returned"


def test_a_service_on_a_thread_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing can end sleep_long there"):
        Task.python(sleep_long, service=True, backend="thread")
    with pytest.raises(ValueError, match="top level of a module"):
        Task.python(lambda: None, service=True)
    with pytest.raises(ValueError, match="add service=True"):
        Task.python(sleep_long, ready=lambda: True)


def test_a_python_service_comes_out_of_a_ledger(tmp_path: Path) -> None:
    graph = TaskGraph()
    service = graph.add(Task.python(sleep_long, service=True, ready=ready.path(tmp_path)))
    graph.add(Task.python(come_and_go), after=service)
    with SQLiteStore(tmp_path / "ledger.db") as store:
        store.graphs.save(graph)
    with SQLiteStore(tmp_path / "ledger.db") as store, TaskExecutor(store) as executor:
        loaded = run(store.graphs[graph.id], executor)
    assert set(statuses(loaded).values()) == {"succeeded"}
    kept = next(iter(loaded)).payload.service
    assert kept.ready == {"probe": "path", "file": str(tmp_path)}
