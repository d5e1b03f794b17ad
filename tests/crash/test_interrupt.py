"""Ctrl-C and SIGTERM in real interpreters: cleanup runs, nothing is left, and the end is honest."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ttasks
from commandkit import marked, token, wait_until

__all__ = ["token"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

WAIT = 30.0
SOON = 5.0
"""Seconds in which an interpreter ends that has nothing to wait for; far less than any sleep."""

PRELUDE = """
import json, os, signal, sys, threading, time
from ttasks import InMemoryStore, RetryPolicy, Task, TaskEventType
from ttasks import TaskExecutor, TaskGraph, TaskTimeoutError, TaskType

CUSTOM = TaskType("custom")
forever = threading.Event()

def say(*words):
    print(*words, flush=True)

def make(title, **options):
    return Task(title, None, CUSTOM, **options)

def statuses():
    return json.dumps({task.title: task.status.value for task in graph})

def restored():
    return (signal.getsignal(signal.SIGINT) is signal.default_int_handler
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)

def handler(context):
    step = globals().get("do_" + context.title)
    if step is not None:
        return step(context)

def obey(context):
    say("ready")
    context.wait_cancelled(60)
    context.raise_if_cancelled()

executor = TaskExecutor()
executor.register(CUSTOM, handler)
graph = TaskGraph("graph")
a = graph.add(make("a"))
b = graph.add(make("b"), after=a)
last = graph.add(make("last"), after=b, finally_=True)

def do_last(context):
    say("last ran")
"""

END = """
try:
    {run}
except KeyboardInterrupt:
    say("interrupted", statuses())
else:
    say("returned", statuses())
say("restored", restored())
signal.signal(signal.SIGINT, signal.SIG_IGN)  # what comes from here on meets an ending interpreter
executor.shutdown()
say("threads", [t.name for t in threading.enumerate() if t.name.startswith("ttasks")])
"""

STOPPED = {"a": "cancelled", "b": "cancelled", "last": "succeeded"}


class Host:
    """An interpreter that runs a script, and what it says."""

    def __init__(self, *code: str) -> None:
        script = "\n".join(textwrap.dedent(part) for part in (PRELUDE, *code))
        source = Path(ttasks.__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.errors = ""
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._err)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _err(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    def wait_for(self, text: str) -> str:
        """The rest of the next line that begins like this."""
        while True:
            try:
                line = self._lines.get(timeout=WAIT)
            except queue.Empty:
                pytest.fail(f"waited too long for {text!r} after {self.said}")
            if line is None:
                self.process.wait(WAIT)
                self._readers[1].join(WAIT)
                pytest.fail(f"ended without {text!r}: said {self.said}, {self.errors}")
            self.said.append(line)
            if line.startswith(text):
                return line[len(text) :].strip()

    def statuses(self, how: str = "interrupted") -> dict[str, str]:
        return json.loads(self.wait_for(how))

    def send(self, number: signal.Signals = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def wait_until_taken(self, number: signal.Signals) -> None:
        """Wait until a signal that was sent to it is no longer pending; Linux only."""
        status = Path(f"/proc/{self.process.pid}/status")
        wait_until(
            lambda: (
                not any(
                    int(line.split()[1], 16) >> (number - 1) & 1
                    for line in status.read_text().splitlines()
                    if line.startswith(("ShdPnd:", "SigPnd:"))
                )
            )
        )

    def say(self, text: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def end(self, within: float = SOON) -> int:
        """The exit code; fails if it does not end in time."""
        code = self.process.wait(within)
        for reader in self._readers:
            reader.join(WAIT)
        while (line := self._lines.get(timeout=WAIT)) is not None:
            self.said.append(line)
        return code

    def end_well(self) -> None:
        """Ends with 0, with handlers restored and no thread left, and without complaints."""
        assert self.end() == 0, self.errors
        assert self.errors == ""
        assert "restored True" in self.said
        assert "threads []" in self.said

    def close(self) -> None:
        self.process.kill()
        self.process.wait(WAIT)
        for reader in self._readers:
            reader.join(WAIT)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def host(token: str) -> Iterator[Any]:
    """Starts interpreters; at the end none of them, nor what they started, may be left."""
    hosts: list[Host] = []

    def start(*code: str, run: str = "graph.run(executor)") -> Host:
        hosts.append(Host(*code, END.format(run=run)))
        return hosts[-1]

    yield start
    for one in hosts:
        if one.process.poll() is not None:
            assert marked(token) == []
        one.close()


def test_the_first_ctrl_c_stops_the_run_runs_finally_tasks_and_raises(host: Any) -> None:
    run = host("do_a = obey")
    run.wait_for("ready")
    run.send()
    run.wait_for("last ran")
    assert run.statuses() == STOPPED
    run.end_well()


def test_ctrl_c_that_nobody_catches_ends_the_interpreter_by_its_signal(host: Any) -> None:
    run = host("do_a = obey", "graph.run(executor)")
    run.wait_for("ready")
    run.send()
    run.wait_for("last ran")
    assert run.end() == -signal.SIGINT
    assert "KeyboardInterrupt" in run.errors


def test_ctrl_c_ends_commands_with_their_trees_and_runs_a_finally_command(
    host: Any, tmp_path: Path
) -> None:
    ready, done = tmp_path / "ready", tmp_path / "done"
    run = host(
        f"""
        graph = TaskGraph()
        a = graph.add(Task.bash("sleep 60 & setsid sleep 60 & echo > {ready}; wait", title="a"))
        b = graph.add(make("b"), after=a)
        last = graph.add(Task.bash("echo done > {done}", title="last"), after=b, finally_=True)
        say("go")
        """
    )
    run.wait_for("go")
    wait_until(ready.exists)
    run.send()
    assert run.statuses() == STOPPED
    run.end_well()
    assert done.read_text() == "done\n"


@pytest.mark.parametrize("last", ["obey", "stuck", "bash"])
def test_the_second_ctrl_c_kills_everything_at_once(host: Any, last: str, token: str) -> None:
    run = host(
        """
        do_a = obey
        do_last = obey
        def stuck(context):
            say("ready")
            forever.wait(60)
        """,
        {
            "obey": "",
            "stuck": "do_last = stuck",
            "bash": """
            bash = Task.bash("trap '' TERM INT; echo ready; sleep 60", title="last", grace=60)
            graph.remove(last)
            graph.add(bash, after=b, finally_=True)
            executor.events.subscribe(
                lambda event: say(event.output_chunk), types=TaskEventType.OUTPUT)
            """,
        }[last],
    )
    run.wait_for("ready")
    run.send()
    run.wait_for("ready")
    begin = time.monotonic()
    run.send()
    assert run.statuses() == {**STOPPED, "last": "cancelled"}
    assert time.monotonic() - begin < SOON
    assert run.end() == 0
    assert run.errors == ""
    assert "restored True" in run.said


def test_sigterm_is_like_ctrl_c_if_that_is_asked_for(host: Any) -> None:
    run = host("do_a = obey", run="graph.run(executor, handle_sigterm=True)")
    run.wait_for("ready")
    run.send(signal.SIGTERM)
    assert run.statuses() == STOPPED
    run.end_well()


def test_sigterm_and_then_ctrl_c_is_the_second_time(host: Any) -> None:
    run = host("do_a = do_last = obey", run="graph.run(executor, handle_sigterm=True)")
    run.wait_for("ready")
    run.send(signal.SIGTERM)
    run.wait_for("ready")
    run.send(signal.SIGINT)
    assert run.statuses() == {**STOPPED, "last": "cancelled"}
    assert run.end() == 0
    assert "restored True" in run.said


def test_sigterm_ends_the_interpreter_if_nothing_is_asked_for(host: Any) -> None:
    run = host("do_a = obey")
    run.wait_for("ready")
    run.send(signal.SIGTERM)
    assert run.end() == -signal.SIGTERM


def test_a_closed_terminal_is_like_ctrl_c_if_that_is_asked_for(host: Any) -> None:
    run = host("do_a = obey", run="graph.run(executor, handle_sigterm=True)")
    run.wait_for("ready")
    run.send(signal.SIGHUP)
    assert run.statuses() == STOPPED
    run.end_well()


@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGTERM])
def test_a_hangup_is_never_the_second_time(host: Any, first: signal.Signals) -> None:
    run = host(
        """
        do_a = obey
        def do_last(context):
            say("last began")
            sys.stdin.readline()
            say("last ran", context.cancelled)
        """,
        run="graph.run(executor, handle_sigterm=True)",
    )
    run.wait_for("ready")
    run.send(first)
    run.wait_for("last began")
    run.send(signal.SIGHUP)
    run.wait_until_taken(signal.SIGHUP)
    run.say("go on")
    assert run.wait_for("last ran") == "False"
    assert run.statuses() == STOPPED
    run.end_well()


def test_a_hangup_that_is_ignored_stays_ignored(host: Any) -> None:
    run = host(
        """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        def do_a(context):
            say("ready")
            sys.stdin.readline()
        """,
        run="graph.run(executor, handle_sigterm=True)",
    )
    run.wait_for("ready")
    run.send(signal.SIGHUP)
    run.say("go on")
    assert set(run.statuses("returned").values()) == {"succeeded"}
    run.end_well()


def test_a_hangup_ends_the_interpreter_if_nothing_is_asked_for(host: Any) -> None:
    run = host("do_a = obey")
    run.wait_for("ready")
    run.send(signal.SIGHUP)
    assert run.end() == -signal.SIGHUP


BLOCKING_STORE = """
class SlowStore(InMemoryStore):
    def __init__(self, kind, when):
        super().__init__()
        collection = getattr(self, kind)
        save = collection.save
        def slowly(item):
            if when(item):
                say("ready")
                time.sleep(0.3)
            save(item)
        collection.save = slowly
"""


def test_ctrl_c_during_start_up_runs_finally_tasks_only(host: Any) -> None:
    run = host(
        BLOCKING_STORE,
        """
        executor = TaskExecutor(SlowStore("graphs", lambda graph: True))
        executor.register(CUSTOM, handler)
        """,
    )
    run.wait_for("ready")
    run.send()
    assert run.statuses() == STOPPED
    assert run.said.count("last ran") == 1
    run.end_well()


@pytest.mark.parametrize("invalid", [False, True])
def test_ctrl_c_during_validation(host: Any, invalid: bool) -> None:
    run = host(
        """
        nodes = graph.nodes
        def slowly():
            say("ready")
            time.sleep(0.3)
            return nodes()
        graph.nodes = slowly
        """,
        "graph.add(a, after=b)" if invalid else "",
    )
    run.wait_for("ready")
    run.send()
    assert run.statuses() == (dict.fromkeys(STOPPED, "pending") if invalid else STOPPED)
    run.end_well()


@pytest.mark.parametrize("kind", ["STARTED", "SUCCEEDED"])
def test_ctrl_c_while_a_subscriber_runs_in_a_worker(host: Any, kind: str) -> None:
    run = host(
        f"""
        def slowly(event):
            if event.task is a:
                say("ready")
                time.sleep(0.3)
        executor.events.subscribe(slowly, types=TaskEventType.{kind})
        """
    )
    run.wait_for("ready")
    run.send()
    found = run.statuses()
    assert found == {**STOPPED, "a": "cancelled" if kind == "STARTED" else "succeeded"}
    run.end_well()


def test_ctrl_c_while_a_subscriber_runs_in_the_main_thread(host: Any) -> None:
    run = host(
        """
        def do_a(context):
            context.wait_cancelled(60)
            context.raise_if_cancelled()
        def slowly(event):
            if threading.current_thread() is threading.main_thread():
                say("ready")
                time.sleep(0.3)
                say("delivered")
        executor.events.subscribe(slowly, types=TaskEventType.CANCELLED)
        """,
        run="graph.run(executor, timeout=0.05)",
    )
    run.wait_for("ready")
    run.send()
    run.wait_for("delivered")
    assert run.statuses() == STOPPED
    run.end_well()


def test_ctrl_c_inside_a_write_of_the_store(host: Any) -> None:
    run = host(
        BLOCKING_STORE,
        """
        executor = TaskExecutor(SlowStore("tasks", lambda task: task is a and task.is_succeeded))
        executor.register(CUSTOM, handler)
        """,
    )
    run.wait_for("ready")
    run.send()
    assert run.statuses() == {**STOPPED, "a": "succeeded"}
    run.end_well()


def test_ctrl_c_between_the_last_task_and_the_return(host: Any) -> None:
    run = host(
        """
        from ttasks.engine.dispatch import Dispatch
        join = Dispatch.join
        def slowly(self):
            join(self)
            say("ready")
            time.sleep(0.3)
        Dispatch.join = slowly
        """
    )
    run.wait_for("ready")
    run.send()
    assert set(run.statuses().values()) == {"succeeded"}
    run.end_well()


def test_a_handler_of_the_programs_own_is_respected_and_may_cancel(host: Any) -> None:
    run = host(
        """
        do_a = obey
        def own(number, frame):
            say("own")
            graph.cancel()
        signal.signal(signal.SIGINT, own)
        """
    )
    run.wait_for("ready")
    run.send()
    run.wait_for("own")
    assert run.statuses("returned") == STOPPED
    assert run.end() == 0
    assert "restored False" in run.said  # it is in place still


def test_a_handler_of_the_programs_own_that_sets_another_one_keeps_it(host: Any) -> None:
    run = host(
        """
        do_a = obey
        def own(number, frame):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            sys.exit(7)
        signal.signal(signal.SIGTERM, own)
        import atexit
        atexit.register(lambda: say("kept", signal.getsignal(signal.SIGTERM) is signal.SIG_IGN))
        """
    )
    run.wait_for("ready")
    run.send(signal.SIGTERM)
    run.wait_for("last ran")
    assert run.wait_for("kept") == "True"
    assert run.end() == 7


@pytest.mark.parametrize("raised", ["sys.exit(7)", "signal.default_int_handler(number, frame)"])
def test_a_handler_of_the_programs_own_may_raise(host: Any, raised: str) -> None:
    run = host(
        f"""
        do_a = obey
        def own(number, frame):
            {raised}
        signal.signal(signal.SIGTERM, own)
        """
    )
    run.wait_for("ready")
    run.send(signal.SIGTERM)
    run.wait_for("last ran")
    if "exit" in raised:
        assert run.end() == 7
    else:
        assert run.statuses() == STOPPED
        assert run.end() == 0


def test_an_ignored_signal_stays_ignored(host: Any) -> None:
    run = host(
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        def do_a(context):
            say("ready")
            sys.stdin.readline() if False else time.sleep(0.2)
        """
    )
    run.wait_for("ready")
    run.send()
    assert set(run.statuses("returned").values()) == {"succeeded"}
    assert run.end() == 0


def test_a_run_in_another_thread_installs_nothing(host: Any) -> None:
    run = host(
        """
        do_a = obey
        ended = threading.Event()
        def work():
            graph.run(executor)
            ended.set()
        def main():
            # (CPython 3.11 takes a thread for ended whose join was interrupted.)
            thread = threading.Thread(target=work)
            thread.start()
            try:
                ended.wait()
            finally:
                say("handlers untouched", restored())
                graph.cancel()
                ended.wait()
        """,
        run="main()",
    )
    run.wait_for("ready")
    run.send()
    assert run.wait_for("handlers untouched") == "True"
    assert run.statuses() == STOPPED
    run.end_well()


def test_ctrl_c_while_execute_runs_in_the_main_thread(host: Any) -> None:
    run = host("do_a = obey", run="executor.execute(a)")
    run.wait_for("ready")
    run.send()
    assert run.statuses()["a"] == "cancelled"
    run.end_well()


def test_ctrl_c_while_a_graph_runs_inside_execute_in_the_main_thread(host: Any) -> None:
    run = host(
        """
        do_a = obey
        def do_outer(context):
            graph.run(executor)
        outer = make("outer")
        """,
        run="executor.execute(outer)",
    )
    run.wait_for("ready")
    run.send()
    assert run.statuses() == STOPPED
    run.end_well()


def test_ctrl_c_while_a_subscriber_in_the_main_thread_runs_another_graph(host: Any) -> None:
    run = host(
        """
        inner = TaskGraph("inner")
        inner.add(make("inner_a"))
        do_inner_a = obey
        def do_a(context):
            context.wait_cancelled(60)
            context.raise_if_cancelled()
        def nested(event):
            if event.task is b:
                inner.run(executor)
        executor.events.subscribe(nested, types=TaskEventType.CANCELLED)
        """,
        run="graph.run(executor, timeout=0.05)",
    )
    run.wait_for("ready")
    run.send()
    assert run.statuses() == STOPPED
    run.end_well()


def test_ctrl_c_during_the_backoff_of_execute(host: Any) -> None:
    run = host(
        """
        def do_a(context):
            raise ValueError("boom")
        executor.events.subscribe(lambda event: say("ready"), types=TaskEventType.FAILED)
        """,
        run="executor.execute(a, retry_policy=RetryPolicy(2, backoff=60))",
    )
    run.wait_for("ready")
    time.sleep(0.05)
    run.send()
    assert run.statuses()["a"] == "cancelled"
    run.end_well()


def test_ctrl_c_under_asyncio(host: Any) -> None:
    run = host("import asyncio", "do_a = obey", run="asyncio.run(graph.arun(executor))")
    run.wait_for("ready")
    run.send()
    run.wait_for("last ran")
    assert run.statuses() == STOPPED
    assert run.end() == 0


@pytest.mark.parametrize(
    "way",
    [
        "executor.execute(make('stuck', timeout=0.05))",
        "executor.submit(make('stuck', timeout=0.05)).result()",
        "stuck = TaskGraph(); stuck.add(make('stuck', timeout=0.05)); stuck.run(executor)",
        "stuck = TaskGraph(); stuck.add(make('stuck')); stuck.run(executor, timeout=0.05)",
        "executor.execute(make('blocks_loop', timeout=0.5))",
    ],
)
def test_a_handler_that_was_left_behind_does_not_keep_the_interpreter(host: Any, way: str) -> None:
    run = host(
        f"""
        from ttasks.engine import run as run_module
        run_module.CANCEL_PATIENCE = 0.1
        def do_stuck(context):
            forever.wait(60)
        async def do_blocks_loop(context):
            forever.wait(60)
        begin = time.monotonic()
        try:
            {way}
        except TaskTimeoutError:
            pass
        say("abandoned", executor.abandoned)
        executor.shutdown()
        sys.exit(0)
        """
    )
    assert int(run.wait_for("abandoned")) >= 1
    assert run.end() == 0
    assert run.errors == ""


MOMENTS = """
def pause(context):
    context.wait_cancelled(0.004)
    context.raise_if_cancelled()
do_a = do_b = do_c = pause
graph.add(Task.bash("sleep 0.01", title="bash 1"))
graph.add(Task.bash("sleep 0.01 & wait", title="bash 2"), after=a)
graph.add(make("c", retry=RetryPolicy(2)), after=b)
say("go")
"""


def interrupt_at(host: Any, seconds: float) -> None:
    run = host(MOMENTS)
    run.wait_for("go")
    time.sleep(seconds)
    run.send()
    # Whatever the moment: interrupted before, during or after the run.
    code = run.end()
    told = [line for line in run.said if line.startswith(("interrupted", "returned"))]
    if not told or code != 0:  # outside of the try
        assert code == -signal.SIGINT
        return
    found = json.loads(told[0].split(maxsplit=1)[1])
    if set(found.values()) != {"pending"}:
        assert found["last"] == "succeeded"
        assert run.said.count("last ran") == 1
        assert set(found.values()) <= {"succeeded", "cancelled"}
        assert run.errors == ""  # an import that is interrupted may complain
    assert "restored True" in run.said
    assert "threads []" in run.said


@pytest.mark.parametrize("moment", range(6))
def test_ctrl_c_at_some_moments_always_runs_the_finally_task(host: Any, moment: int) -> None:
    interrupt_at(host, moment * 0.004)


# arun


# On a busy machine asyncio complains of slow callbacks, in its debug mode.
ARUN = """
    import asyncio, logging
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    asyncio.run(graph.arun(executor, handle_sigterm=True))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_arun_takes_signals_for_ctrl_c_if_that_is_asked_for(
    host: Any, number: signal.Signals
) -> None:
    run = host("do_a = obey", run=ARUN)
    run.wait_for("ready")
    run.send(number)
    assert run.statuses() == STOPPED
    run.end_well()


def test_sigterm_and_then_ctrl_c_is_the_second_time_for_arun(host: Any) -> None:
    run = host("do_a = do_last = obey", run=ARUN)
    run.wait_for("ready")
    run.send(signal.SIGTERM)
    run.wait_for("ready")
    run.send(signal.SIGTERM)
    assert run.statuses() == {**STOPPED, "last": "cancelled"}
    assert run.end() == 0


def test_sigterm_ends_the_interpreter_if_arun_was_asked_for_nothing(host: Any) -> None:
    run = host("do_a = obey", run="import asyncio; asyncio.run(graph.arun(executor))")
    run.wait_for("ready")
    run.send(signal.SIGTERM)
    assert run.end() == -signal.SIGTERM


def test_runs_that_end_in_another_order_than_they_began_leave_no_signal_handler(host: Any) -> None:
    code = """
    async def main():
        first, second = TaskGraph("first"), TaskGraph("second")
        ended = threading.Event()
        first.add(Task.python(lambda: None))
        second.add(Task.python(ended.wait))
        begin = asyncio.create_task(first.arun(executor, handle_sigterm=True))
        await asyncio.sleep(0)  # it has its handlers now
        later = asyncio.create_task(second.arun(executor, handle_sigterm=True))
        await begin
        ended.set()
        await later
    """
    run = host("import asyncio", code, run="asyncio.run(main())")
    assert run.statuses("returned")
    run.end_well()
