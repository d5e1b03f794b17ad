"""Functions that tests run as tasks, also in other processes: those import them from here.

Each worker process imports this file, so it imports nothing that takes long, such as pytest.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttasks import (
    PythonTask,
    RetryPolicy,
    Task,
    TaskCancelled,
    TaskContext,
    TaskEvent,
    TaskExecutor,
    current_context,
    task,
)

BACKENDS = ("thread", "asyncio", "process")
WHERE: ContextVar[str] = ContextVar("WHERE", default="nowhere")
Point = namedtuple("Point", "x y")
log = logging.getLogger("callkit")


def here() -> TaskContext:
    context = current_context()
    assert context is not None
    return context


def on(backend: str, func: Callable[..., Any]) -> Callable[..., Any]:
    """The function, as the backend needs it: for "asyncio" as a coroutine function."""
    if backend != "asyncio":
        return func

    @functools.wraps(func)
    async def run(*args: Any, **kwargs: Any) -> Any:
        import asyncio

        await asyncio.sleep(0)
        return func(*args, **kwargs)

    return run


def make(backend: str, func: Callable[..., Any], *args: Any, **settings: Any) -> PythonTask[Any]:
    return Task.python(on(backend, func), args, backend=backend, **settings)


def recorded(executor: TaskExecutor) -> list[TaskEvent]:
    events: list[TaskEvent] = []
    executor.events.subscribe(events.append)
    return events


# What is run


def double(number: int) -> int:
    return 2 * number


def total(*numbers: int, **more: int) -> int:
    return sum(numbers) + sum(more.values())


def echo(value: Any) -> Any:
    return value


def append(items: list[int]) -> list[int]:
    items.append(0)
    return items


@dataclass(frozen=True)
class FrozenError(Exception):
    """An exception that takes no notes and no traceback from Python code."""

    text: str


def raise_frozen() -> None:
    raise FrozenError("cannot be changed")


def pid() -> int:
    return os.getpid()


def report(secret: str = "") -> str:
    context = here()
    context.emit_progress(25, f"a quarter {secret}")
    context.emit_output(f"line {secret}\n")
    context.emit_output("trouble\n", "stderr")
    context.emit_progress(message="nearly")
    return "done"


def describe_context() -> tuple[Any, ...]:
    context = here()
    left = context.remaining()
    return (
        context.id,
        context.title,
        context.description,
        context.type.value,
        context.timeout,
        dict(context.options),
        context.attempt,
        context.status.value,
        left is not None and 0 < left <= 30,
        context.cancelled,
    )


class Unlike(Exception):
    """Cannot be pickled: it is not made from its ``args``."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class BadText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def fail(number: int) -> None:
    local = f"number {number}"
    raise ValueError(f"bad {local}")


def fail_unlike() -> None:
    raise Unlike(1, 2)


def fail_without_text() -> None:
    raise BadText


def fail_with_locals(secret: str) -> None:
    long = "x" * 100_000
    many = list(range(1_000_000))
    bad = BadRepr()
    within = {"deep": [secret]}
    raise ValueError("with locals", long[0], many[0], type(bad), len(within))


def fail_until(attempt: int) -> int:
    now = here().attempt
    if now < attempt:
        raise ConnectionError(f"attempt {now}")
    return now


def cancel_myself() -> None:
    raise TaskCancelled("not needed")


def recurse() -> int:
    return recurse() + 1


def interrupt() -> None:
    raise KeyboardInterrupt


def leave() -> None:
    sys.exit(4)


def too_much() -> int:
    return len(bytearray(1 << 62))


def exit_at_once() -> None:
    os._exit(3)


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def segfault() -> None:
    ctypes.string_at(0)


def hang(mark: str, with_children: bool = False) -> None:
    """Never end; once it hangs, the file tells the pids of all that does."""
    pids = [os.getpid()]
    if with_children:
        code = "import time; time.sleep(600)"
        for new_session in (False, True):
            child = subprocess.Popen([sys.executable, "-c", code], start_new_session=new_session)
            pids.append(child.pid)
    ready = Path(mark)
    part = ready.with_suffix(".part")
    part.write_text(" ".join(map(str, pids)), encoding="ascii")
    part.rename(ready)
    time.sleep(600)


def fork_and_die() -> None:
    """Die, but leave a child that has inherited every descriptor."""
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    os._exit(5)


def start_stray_thread() -> int:
    """Go on reporting after the end."""
    context = here()

    def stray() -> None:
        for _ in range(1000):
            context.emit_output("stray\n")
            time.sleep(0.001)

    threading.Thread(target=stray, daemon=True).start()
    return os.getpid()


def holding_a_lock() -> dict[str, Any]:
    return {"fine": 1, "held": [threading.Lock()]}


def log_something(level: int = logging.WARNING) -> None:
    log.log(level, "hello %s", "there", extra={"odd": threading.Lock()})


def log_a_failure() -> None:
    try:
        fail(1)
    except ValueError:
        log.exception("it failed")


def where() -> str:
    return WHERE.get()


async def adouble(number: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    return 2 * number


def environment(name: str) -> str | None:
    return os.environ.get(name)


def ask_for_upstream() -> Any:
    return here().upstream


# Decorated


@task
def triple(number: int) -> int:
    return 3 * number


@task(backend="process", timeout=30)
def far_triple(number: int) -> int:
    return 3 * number


@task
async def atriple(number: int) -> int:
    return 3 * number


class Shop:
    def __init__(self, rate: int) -> None:
        self.rate = rate

    @task
    def price(self, pieces: int) -> int:
        return self.rate * pieces


class Scale(PythonTask[int]):
    """The class form."""

    timeout = 30
    group = "scales"

    def run(self, number: int, *, by: int = 2) -> int:
        assert self.timeout == 30
        return number * by


class FarScale(Scale):
    backend = "process"
    title = "far away"


class AsyncScale(PythonTask[int]):
    async def run(self, number: int) -> int:
        return 2 * number


class Holder:
    def __init__(self, conn: Any) -> None:
        self.conn = conn


class Slotted:
    __slots__ = ("gone", "socket")

    def __init__(self, socket: Any) -> None:
        self.socket = socket


def hold_the_lock(mark: str) -> None:
    """Never end, and let no other thread of this interpreter run."""
    Path(mark).write_text(str(os.getpid()), encoding="ascii")
    re.match(r"(a+)+$", "a" * 80 + "b")


def write_at_exit(path: str) -> None:
    """Write to a file, part of it in an exit handler, which also flushes it."""
    with ExitStack() as stack:
        file = stack.enter_context(open(path, "w", encoding="ascii"))
        file.write("buffered, ")
        stack.callback(file.write, "at exit")
        atexit.register(stack.pop_all().close)


def parse_number(text: str, base: int = 10) -> int:
    return int(text, base)


def fail_with(*args: Any) -> None:
    raise ValueError(len(args))


def chained() -> None:
    try:
        fail_with("the cause")
    except ValueError as error:
        raise KeyError("the cause") from error


def count_calls(log: str) -> str:
    with open(log, "a", encoding="utf-8") as file:
        file.write("called\n")
    return "value"


def fails_without(flag: str, value: str) -> str:
    if not Path(flag).exists():
        raise FileNotFoundError(flag)
    return value


def echo_all(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs


def title_of(task: Task) -> str:
    return task.title


def say(text: str) -> str:
    print(text)
    print(text, "to stderr", file=sys.stderr)
    return f"said {text}"


async def asay(text: str) -> str:
    return say(text)


class TriedScale(PythonTask[int]):
    """The class form with a policy that does not pickle."""

    backend = "process"
    retry = RetryPolicy(2, retry_if=lambda result: result.value == 4)

    def run(self, number: int) -> int:
        return 2 * number
