"""`capture_print`: what Python tasks print becomes their output, and nobody else's does."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import callkit
from support import EventRecorder, bounded
from ttasks import PythonTask, Task, TaskEventType, TaskExecutor, TaskGraph, task
from ttasks.model.call import Call


def executed(made: Task) -> Any:
    with TaskExecutor() as executor:
        return bounded(lambda: executor.execute(made))


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was printed to the streams of the process, stdout before stderr."""

    def printed() -> str:
        out, err = capsys.readouterr()
        return out + err

    return printed


def test_prints_of_a_task_are_not_its_output_unless_it_asks(terminal: Callable[[], str]) -> None:
    result = executed(Task.python(callkit.say, ("hello",)))
    assert (result.output, result.error) == ("said hello", None)
    assert terminal() == "hello\nhello to stderr\n"


@pytest.mark.usefixtures("bare_main")
@pytest.mark.parametrize("backend", callkit.BACKENDS)
def test_prints_are_output_on_every_backend(backend: str, terminal: Callable[[], str]) -> None:
    func = callkit.asay if backend == "asyncio" else callkit.say
    before = sys.stdout, sys.stderr
    result = executed(Task.python(func, ("hello",), backend=backend, capture_print=True))
    assert (result.output, result.error) == ("hello\n", "hello to stderr\n")
    assert result.value == "said hello"
    assert terminal() == ""
    assert (sys.stdout, sys.stderr) == before


def test_each_task_gets_its_own_lines_whole_and_all_others_print_as_ever(
    terminal: Callable[[], str],
) -> None:
    start = threading.Barrier(5)

    def shout(name: str) -> None:
        start.wait(10)
        for number in range(200):
            print(name, number, "of", name)

    graph = TaskGraph()
    tasks = [
        graph.add(Task.python(shout, (name,), capture_print=name != "loud"))
        for name in ("a", "b", "c", "d", "loud")
    ]
    with TaskExecutor() as executor:
        bounded(lambda: graph.run(executor, max_workers=5)).raise_for_failure()
    loud = terminal()
    for made in tasks:
        name = made.payload.args[0]
        expected = "".join(f"{name} {number} of {name}\n" for number in range(200))
        assert (loud if name == "loud" else made.result.output) == expected


def test_output_comes_line_by_line_and_at_a_flush() -> None:
    def steps() -> None:
        print("one", "word", end="")
        print(" more\ntwo", end="")
        print("", end="", flush=True)
        print("\r50 %", end="\r")
        sys.stdout.writelines(["three\n", "rest"])

    with TaskExecutor() as executor:
        chunks: list[str | None] = []
        executor.events.subscribe(
            lambda event: chunks.append(event.output_chunk), types=TaskEventType.OUTPUT
        )
        result = bounded(lambda: executor.execute(Task.python(steps, capture_print=True)))
    assert chunks == ["one word more\n", "two", "\r", "50 %\r", "three\n", "rest"]
    assert result.output == "".join(filter(None, chunks))


def test_a_line_without_an_end_is_not_collected_for_ever() -> None:
    def steps() -> None:
        for _ in range(10):
            print("x" * 30_000, end="")

    with TaskExecutor() as executor:
        recorder = EventRecorder(executor)
        made = Task.python(steps, capture_print=True)
        bounded(lambda: executor.execute(made))
    assert len(made.result.output) == 300_000
    assert recorder.of(made).count(TaskEventType.OUTPUT) > 3


def test_what_subscribers_print_is_their_own(terminal: Callable[[], str]) -> None:
    def work() -> None:
        print("from the task")
        callkit.here().emit_progress(50)

    with TaskExecutor() as executor:
        executor.events.subscribe(lambda event: print("saw", event.type.value))
        result = bounded(lambda: executor.execute(Task.python(work, capture_print=True)))
    assert result.output == "from the task\n"
    assert terminal().split("\n")[:-1] == [
        f"saw {what}" for what in ("started", "output", "progress", "succeeded")
    ]


def test_threads_in_a_copy_of_the_context_count_and_others_do_not(
    terminal: Callable[[], str],
) -> None:
    async def work() -> None:
        await asyncio.to_thread(print, "inside")
        await asyncio.gather(asyncio.create_task(later()))
        other = threading.Thread(target=print, args=("outside",))
        other.start()
        other.join()

    async def later() -> None:
        print("awaited")

    result = executed(Task.python(work, capture_print=True))
    assert result.output == "inside\nawaited\n"
    assert terminal() == "outside\n"


def test_a_redirection_of_the_users_wins() -> None:
    def work() -> str:
        with contextlib.redirect_stdout(io.StringIO()) as own:
            print("mine")
        print("captured")
        return own.getvalue()

    result = executed(Task.python(work, capture_print=True))
    assert (result.value, result.output) == ("mine\n", "captured\n")


def test_a_stream_that_is_replaced_meanwhile_stays_replaced(
    monkeypatch: pytest.MonkeyPatch, terminal: Callable[[], str]
) -> None:
    mine, before = io.StringIO(), sys.stderr
    monkeypatch.setattr(sys, "stdout", sys.stdout)

    def work() -> None:
        sys.stdout = mine

    executed(Task.python(work, capture_print=True))
    assert (sys.stdout, sys.stderr) == (mine, before)


def test_the_stream_can_be_used_as_before(terminal: Callable[[], str]) -> None:
    def work() -> list[Any]:
        stream = sys.stdout
        with pytest.raises(TypeError, match="must be str"):
            stream.write(b"bytes")  # type: ignore[arg-type]
        return [stream.isatty(), stream.closed, stream.encoding.lower(), "router" in repr(stream)]

    assert executed(Task.python(work, capture_print=True)).value == [False, False, "utf-8", True]


def test_what_is_printed_before_a_failure_is_kept_and_secrets_are_hidden() -> None:
    def work() -> None:
        print("the hunter2 is printed", end="")
        raise ValueError("oops")

    made = Task.python(work, capture_print=True)
    with TaskExecutor(redact=["hunter2"]) as executor, pytest.raises(ValueError):
        executor.execute(made)
    assert made.result.output == "the *** is printed"


def test_the_decorator_the_class_form_and_the_ledger_know_it(tmp_path: Any) -> None:
    from ttasks import SQLiteStore

    class Loud(PythonTask[None]):
        capture_print = True

        def run(self) -> None:
            print("loud")

    assert executed(Loud()).output == "loud\n"
    assert executed(task(capture_print=True)(callkit.say).task("x")).output == "x\n"
    with SQLiteStore(tmp_path / "ledger") as store:
        made = Task.python(callkit.say, ("x",), capture_print=True)
        store.tasks.save(made)
        assert executed(store.tasks[made.id]).output == "x\n"


def test_it_is_a_bool() -> None:
    for make in (
        lambda: Task.python(callkit.say, ("x",), capture_print=1),  # type: ignore[call-overload]
        lambda: task(capture_print="yes"),  # type: ignore[call-overload]
        lambda: Call(callkit.say, ("x",), capture_print=None),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="capture_print must be a bool"):
            make()  # type: ignore[no-untyped-call]
