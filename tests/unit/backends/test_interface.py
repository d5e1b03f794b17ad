"""What every backend owes the engine: one end per job, whatever the job does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import psutil
import pytest

import callkit
from commandkit import in_thread, run_host, wait_until
from ttasks import Task, TaskCancelled, TaskContext, current_context
from ttasks.backends.base import Backend
from ttasks.backends.call import call_python
from ttasks.backends.loop import LoopBackend
from ttasks.backends.process import ProcessBackend
from ttasks.backends.thread import ThreadBackend
from ttasks.model.cancel import CancelToken
from ttasks.model.context import CURRENT

pytestmark = pytest.mark.usefixtures("bare_main")


class NoReporter:
    def progress(self, percent: float | None, message: str | None) -> None: ...

    def output(self, stream: str, text: str) -> None: ...

    def sink(self, stream: str) -> Callable[[str], None] | None: ...


class FakeJob:
    """A job of one task; collects its ends."""

    def __init__(
        self, func: Callable[..., Any], *args: Any, handler: Callable[..., Any] = call_python
    ) -> None:
        self.context = TaskContext(Task.python(func, args), (), NoReporter(), CancelToken())
        self.handler = handler
        self.variables = copy_context()
        self.variables.run(CURRENT.set, self.context)
        self.ends: list[tuple[Any, BaseException | None]] = []
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None

    def end(self, value: Any, error: BaseException | None) -> None:
        self.ends.append((value, error))
        self.thread = threading.current_thread()
        self.ended.set()

    def wait(self) -> tuple[Any, BaseException | None]:
        assert self.ended.wait(20)
        assert len(self.ends) == 1
        return self.ends[0]


class Abandoned:
    """Counts threads that were left behind."""

    def __init__(self) -> None:
        self.number = 0
        self.lock = threading.Lock()

    def __call__(self, change: int) -> None:
        with self.lock:
            self.number += change


@pytest.fixture
def abandoned() -> Abandoned:
    return Abandoned()


@pytest.fixture
def loop(abandoned: Abandoned) -> Iterator[LoopBackend]:
    backend = LoopBackend(abandoned)
    backend.hold()
    yield backend
    backend.let_go()


@pytest.fixture(params=["thread", "loop", "process"])
def backend(request: pytest.FixtureRequest, loop: LoopBackend) -> Iterator[Backend]:
    made: dict[str, Callable[[], Backend]] = {
        "thread": lambda: ThreadBackend(loop, kills=False),
        "loop": lambda: loop,
        "process": lambda: ProcessBackend(),
    }
    backend = made[request.param]()
    yield backend
    backend.close()
    backend.close()


async def doubled(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def wait_for_ever(begun: threading.Event) -> None:
    begun.set()
    await asyncio.sleep(600)


def test_values_and_errors_come_back_once(backend: Backend) -> None:
    good, coroutine, bad = (
        FakeJob(callkit.double, 4),
        FakeJob(callkit.adouble, 4),
        FakeJob(callkit.fail, 7),
    )
    for job in (good, coroutine, bad):
        backend.start(job)
    assert good.wait() == (8, None)
    assert coroutine.wait() == (8, None)
    value, error = bad.wait()
    assert value is None
    assert str(error) == "bad number 7"


def test_the_current_context_is_that_of_the_job(loop: LoopBackend) -> None:
    async def look() -> TaskContext | None:
        return current_context()

    for func in (current_context, look):
        job = FakeJob(func)
        ThreadBackend(loop, kills=False).start(job)
        assert job.wait() == (job.context, None)


def test_a_payload_that_is_no_call_is_an_error_of_the_job(backend: Backend) -> None:
    job = FakeJob(callkit.pid)
    job.context = TaskContext(Task.bash("true"), (), NoReporter(), CancelToken())
    backend.start(job)
    _, error = job.wait()
    assert "no function to call" in str(error)


def test_a_plain_job_ends_on_the_thread_that_starts_it(loop: LoopBackend) -> None:
    job = FakeJob(callkit.pid)
    ThreadBackend(loop, kills=True).start(job)
    job.wait()
    assert job.thread is threading.current_thread()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, LookupError])
def test_whatever_a_coroutine_raises_is_its_own(
    loop: LoopBackend, error: type[BaseException]
) -> None:
    async def fail() -> None:
        raise error("mine")

    begun = threading.Event()
    other = FakeJob(wait_for_ever, begun)
    loop.start(other)
    assert begun.wait(20)
    job = FakeJob(fail)
    loop.start(job)
    value, raised = job.wait()
    assert (value, type(raised)) == (None, error)
    assert not other.ends
    other.context.cancel_token.cancel()
    assert isinstance(other.wait()[1], TaskCancelled)


def test_a_cancelled_token_cancels_the_coroutine_before_and_after_its_start(
    loop: LoopBackend,
) -> None:
    begun = threading.Event()
    running, cancelled = FakeJob(wait_for_ever, begun), FakeJob(wait_for_ever, begun)
    cancelled.context.cancel_token.cancel()
    loop.start(running)
    loop.start(cancelled)
    assert isinstance(cancelled.wait()[1], TaskCancelled)
    assert begun.wait(20)
    running.context.cancel_token.cancel("timeout")
    assert isinstance(running.wait()[1], TaskCancelled)


def test_the_loop_ends_with_its_last_job_if_nobody_holds_it(abandoned: Abandoned) -> None:
    loop = LoopBackend(abandoned)
    job = FakeJob(doubled, 1)
    loop.start(job)
    assert job.wait() == (2, None)
    assert job.thread is not None
    job.thread.join(20)
    assert not job.thread.is_alive()
    again = FakeJob(doubled, 2)
    loop.start(again)
    assert again.wait() == (4, None)
    assert again.thread is not job.thread
    assert abandoned.number == 0


def test_closing_leaves_jobs_that_are_to_go_on(loop: LoopBackend) -> None:
    begun = threading.Event()
    job = FakeJob(wait_for_ever, begun)
    loop.start(job)
    assert begun.wait(20)
    loop.hold()
    loop.let_go()
    assert not job.ends
    job.context.cancel_token.cancel()
    job.wait()


def test_a_thread_of_a_coroutine_that_ended_is_counted(
    loop: LoopBackend, abandoned: Abandoned
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        go_on.wait(20)

    async def give_to_thread() -> None:
        await asyncio.to_thread(block)

    job = FakeJob(give_to_thread)
    loop.start(job)
    assert begun.wait(20)
    assert abandoned.number == 0
    job.context.cancel_token.cancel("timeout")
    assert isinstance(job.wait()[1], TaskCancelled)
    assert abandoned.number == 1
    go_on.set()
    wait_until(lambda: abandoned.number == 0)


def test_coroutines_get_values_and_errors_from_threads(loop: LoopBackend) -> None:
    async def ask() -> Any:
        answers = await asyncio.gather(
            *[asyncio.to_thread(callkit.double, number) for number in range(100)],
            asyncio.to_thread(callkit.fail, 3),
            return_exceptions=True,
        )
        return sum(answers[:-1]), str(answers[-1])

    job = FakeJob(ask)
    loop.start(job)
    assert job.wait() == ((9900, "bad number 3"), None)


def test_no_thread_of_a_coroutine_delays_the_exit_of_the_interpreter() -> None:
    done = run_host(
        """
        import asyncio, time
        from ttasks import Task, TaskExecutor, TaskTimeoutError
        async def main():
            await asyncio.to_thread(time.sleep, 600)
        executor = TaskExecutor()
        try:
            executor.execute(Task.python(main, timeout=0.1))
        except TaskTimeoutError:
            print(executor.abandoned)
        """
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_an_interrupt_while_a_worker_starts_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    join = threading.Thread.join

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        monkeypatch.setattr(threading.Thread, "join", join)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    backend = ProcessBackend()
    job = FakeJob(callkit.pid)
    backend.start(job)
    assert isinstance(job.wait()[1], KeyboardInterrupt)
    again = FakeJob(callkit.double, 3)
    backend.start(again)
    assert again.wait() == (6, None)
    backend.close()


def test_all_who_close_wait_for_the_end_of_the_workers() -> None:
    backend = ProcessBackend()
    job = FakeJob(callkit.pid)
    backend.start(job)
    pid, _ = job.wait()
    closers = [in_thread(backend.close) for _ in range(3)]
    backend.close()
    assert not psutil.pid_exists(pid)
    for thread, _ in closers:
        thread.join(20)
