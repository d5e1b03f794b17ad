"""Worker processes: how they die, what cannot be pickled, log records, and what is left."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import callkit
from commandkit import in_thread, wait_until
from ttasks import (
    RetryPolicy,
    Task,
    TaskCancelled,
    TaskExecutionError,
    TaskExecutor,
    TaskGraph,
    TaskLogFilter,
    TaskTimeoutError,
)
from ttasks.trees import end_orphans

pytestmark = pytest.mark.usefixtures("bare_main")
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the kernel")
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork")


@pytest.fixture
def executor() -> Iterator[TaskExecutor]:
    with TaskExecutor() as executor:
        yield executor


def far(func: Callable[..., Any], *args: Any, **settings: Any) -> Task:
    return Task.python(func, args, backend="process", **settings)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_workers_are_used_again_until_the_executor_shuts_down() -> None:
    with TaskExecutor() as executor:
        graph = TaskGraph()
        tasks = [graph.add(far(callkit.pid)) for _ in range(12)]
        graph.run(executor, max_workers=2)
        pids = {task.value for task in tasks}
        assert len(pids) <= 2
        assert os.getpid() not in pids
        assert executor.execute(far(callkit.pid)).value in pids
        assert executor.submit(far(callkit.pid)).result(20).value in pids
    assert all(map(is_gone, pids))


@posix_only
@pytest.mark.parametrize(
    ("func", "says"),
    [
        (callkit.exit_at_once, "ran exit_at_once died: it exited with code 3"),
        (callkit.kill_myself, r"killed by SIGKILL \(.*memory runs out"),
        (callkit.segfault, "killed by SIGSEGV"),
        (callkit.fork_and_die, "exited with code 5"),
    ],
)
def test_a_worker_that_dies_fails_its_task_alone(
    executor: TaskExecutor, func: Callable[..., Any], says: str
) -> None:
    graph = TaskGraph()
    dying = graph.add(far(func))
    others = [graph.add(far(callkit.double, number)) for number in range(4)]
    graph.run(executor, max_workers=2)
    assert isinstance(graph.errors[dying.id], TaskExecutionError)
    with pytest.raises(TaskExecutionError, match=says):
        raise graph.errors[dying.id]
    assert [task.result.value for task in others if task.result] == [0, 2, 4, 6]


@posix_only
def test_a_worker_that_died_is_replaced_for_the_next_attempt(
    executor: TaskExecutor, tmp_path: Path
) -> None:
    mark = tmp_path / "ready"
    task = far(callkit.hang, str(mark), retry=RetryPolicy(2))

    def kill_first() -> None:
        wait_until(mark.exists)
        os.kill(int(mark.read_text()), signal.SIGKILL)
        mark.unlink()
        wait_until(mark.exists)
        executor.cancel(task)

    killer, _ = in_thread(kill_first)
    with pytest.raises(TaskCancelled):
        executor.execute(task)
    killer.join()
    assert task.result is not None
    assert task.result.attempts == 2


@posix_only
def test_a_timeout_ends_the_process_and_all_that_it_started(
    executor: TaskExecutor, tmp_path: Path
) -> None:
    mark = tmp_path / "ready"
    graph = TaskGraph()
    warm = graph.add(far(callkit.pid))  # so that the time is not spent on the worker's start
    task = graph.add(far(callkit.hang, str(mark), True, timeout=2), after=[warm])
    graph.run(executor)
    assert isinstance(graph.errors[task.id], TaskTimeoutError)
    assert task.result is not None
    assert 2 <= task.result.duration < 2 + 5
    pids = [int(pid) for pid in mark.read_text().split()]
    assert len(pids) == 3
    assert all(map(is_gone, pids))


@posix_only
def test_a_cancellation_ends_the_process_and_all_that_it_started(
    executor: TaskExecutor, tmp_path: Path
) -> None:
    mark = tmp_path / "ready"
    task = far(callkit.hang, str(mark), True)
    future = executor.submit(task)
    wait_until(mark.exists)
    pids = [int(pid) for pid in mark.read_text().split()]
    executor.cancel(task)
    with pytest.raises(TaskCancelled):
        future.result(10)
    assert all(map(is_gone, pids))
    assert executor.execute(far(callkit.pid)).value not in pids


def test_a_cancellation_while_the_worker_starts_is_followed(executor: TaskExecutor) -> None:
    task = far(callkit.double, 1)
    executor.events.subscribe(lambda event: task.cancel() if task.is_running else None)
    with pytest.raises(TaskCancelled):
        executor.execute(task)


def test_what_a_thread_reports_after_the_end_is_of_no_other_task(executor: TaskExecutor) -> None:
    graph = TaskGraph()
    first = graph.add(far(callkit.start_stray_thread))
    second = graph.add(far(callkit.report), after=[first])
    third = graph.add(far(callkit.pid), after=[second])
    graph.run(executor)
    assert second.result is not None
    assert second.result.output == "line \n"
    assert third.result is not None
    assert third.result.value == first.result.value  # it is the same worker


# What cannot be pickled


class Odd:
    def __reduce__(self) -> Any:
        raise RuntimeError("not today")


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        (lambda: (threading.Lock(),), {}, "args[0] cannot be pickled (a lock)"),
        (lambda: (1, [{"conn": threading.Lock()}]), {}, "args[1][0]['conn'] cannot"),
        (lambda: (callkit.Holder(callkit.Slotted(lambda: 1)),), {}, "args[0].conn.socket cannot"),
        (lambda: ({"a": callkit.Holder([Odd()])},), {}, "args[0]['a'].conn[0] cannot"),
        (lambda: ({threading.Lock(): 1},), {}, "args[0] (key "),
        (lambda: (), {"k": (threading.Lock(),)}, "kwargs['k'][0] cannot"),
        (lambda: (callkit.Holder(1).__init__,), {"k": (lambda: 1)}, "kwargs['k'] cannot"),
    ],
)
def test_what_cannot_be_pickled_is_named_by_its_path(
    executor: TaskExecutor, args: Callable[[], tuple[Any, ...]], kwargs: Any, path: str
) -> None:
    task = Task.python(callkit.total, args(), kwargs, backend="process")
    with pytest.raises(TaskExecutionError) as caught:
        executor.execute(task)
    assert path in str(caught.value)
    assert "total cannot be sent to another process" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_socket_in_an_argument_is_named_by_its_path(executor: TaskExecutor) -> None:
    with socket.socket() as conn:
        task = far(callkit.echo, [{"conn": callkit.Slotted(conn)}])
        with pytest.raises(TaskExecutionError, match=r"args\[0\]\[0\]\['conn'\].socket cannot"):
            executor.execute(task)


def test_a_value_that_cannot_be_pickled_is_named_by_its_path(executor: TaskExecutor) -> None:
    with pytest.raises(TaskExecutionError, match=r"holding_a_lock.*value\['held'\]\[0\] cannot"):
        executor.execute(far(callkit.holding_a_lock))


def test_an_exception_that_cannot_be_pickled_comes_back_as_text(executor: TaskExecutor) -> None:
    task = far(callkit.fail_unlike)
    with pytest.raises(TaskExecutionError, match=r"fail_unlike raised callkit.Unlike: 1 and 2 \("):
        executor.execute(task)
    assert task.result is not None
    assert task.result.failure is not None
    assert "raise Unlike(1, 2)" in task.result.failure.traceback


def test_a_keyboard_interrupt_in_a_worker_is_no_ctrl_c(executor: TaskExecutor) -> None:
    with pytest.raises(TaskExecutionError, match="interrupt raised builtins.KeyboardInterrupt"):
        executor.execute(far(callkit.interrupt))


def test_sys_exit_in_a_worker_is_a_failure(executor: TaskExecutor) -> None:
    task = far(callkit.leave)
    with pytest.raises(SystemExit):
        executor.execute(task)
    assert task.is_failed


def test_the_environment_of_the_time_of_the_run_is_seen(
    executor: TaskExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLKIT_COLOUR", "green")
    assert executor.execute(far(callkit.environment, "CALLKIT_COLOUR")).value == "green"


def test_upstream_tasks_are_not_there_and_the_error_says_what_to_do(executor: TaskExecutor) -> None:
    with pytest.raises(RuntimeError, match="as arguments"):
        executor.execute(far(callkit.ask_for_upstream))


def test_large_arguments_and_values_pass(executor: TaskExecutor) -> None:
    data = os.urandom(5_000_000)
    assert executor.execute(far(callkit.echo, data)).value == data


# Logging


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[logging.LogRecord] = []
        self.addFilter(TaskLogFilter())

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record)


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Records:
    handler = Records()
    monkeypatch.setattr(callkit.log, "handlers", [handler])
    return handler


def test_log_records_of_a_worker_arrive_with_their_task(
    executor: TaskExecutor, records: Records
) -> None:
    task = far(callkit.log_something, title="chatty")
    executor.execute(task)
    executor.execute(far(callkit.log_a_failure))
    first, second = records.seen
    assert (first.getMessage(), first.levelname, first.name) == (
        "hello there",
        "WARNING",
        "callkit",
    )
    assert (first.task_id, first.task_title, first.task_attempt) == (task.id, "chatty", 1)
    assert first.processName != second.processName or first.process != os.getpid()
    assert second.exc_text is not None
    assert "ValueError: bad number 1" in second.exc_text


def test_levels_of_loggers_hold_in_workers(
    executor: TaskExecutor, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = TaskGraph()
    graph.add(far(callkit.log_something, logging.INFO))
    graph.run(executor)
    assert records.seen == []
    monkeypatch.setattr(callkit.log, "level", logging.INFO)
    callkit.log.manager._clear_cache()  # type: ignore[attr-defined]
    try:
        executor.execute(far(callkit.log_something, logging.INFO))
    finally:
        callkit.log.manager._clear_cache()  # type: ignore[attr-defined]
    assert [record.levelname for record in records.seen] == ["INFO"]


# Programs of their own


def run_script(path: Path, text: str, **options: Any) -> subprocess.CompletedProcess[str]:
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_functions_of_a_guarded_script_run_in_processes(tmp_path: Path) -> None:
    done = run_script(
        tmp_path / "guarded.py",
        """
        from ttasks import Task, TaskExecutor

        def double(number):
            return 2 * number

        if __name__ == "__main__":
            with TaskExecutor() as executor:
                print(executor.execute(Task.python(double, (4,), backend="process")).value)
        """,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("8\n", "", 0)


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    done = run_script(
        tmp_path / "unguarded.py",
        """
        from ttasks import Task, TaskExecutor

        def double(number):
            return 2 * number

        with TaskExecutor() as executor:
            executor.execute(Task.python(double, (4,), backend="process"))
        """,
    )
    assert done.returncode == 1
    assert "must not run it" in done.stderr
    assert "died before it could begin: it exited with code 1" in done.stderr
    assert "if __name__ ==" in done.stderr


def test_a_function_of_no_file_is_told_so() -> None:
    code = """
from ttasks import Task, TaskExecutor, TaskExecutionError

def double(number):
    return 2 * number

with TaskExecutor() as executor:
    try:
        executor.execute(Task.python(double, (4,), backend="process"))
    except TaskExecutionError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "double could not be loaded in the worker process" in done.stdout
    assert "script file" in done.stdout
    assert done.stderr == ""


def start_host(tmp_path: Path, body: str, **options: Any) -> subprocess.Popen[str]:
    """Run a program; ``far`` makes tasks from functions of callkit, and ``executor`` is there."""
    script = tmp_path / "host.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {os.path.dirname(callkit.__file__)!r})
            import callkit
            from ttasks import Task, TaskExecutor, TaskGraph

            def far(func, *args):
                return Task.python(func, args, backend="process")

            if __name__ == "__main__":
                executor = TaskExecutor()
            """
        )
        + textwrap.indent(textwrap.dedent(body), "    "),
        encoding="utf-8",
    )
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run_host(tmp_path: Path, body: str) -> tuple[str, str]:
    with start_host(tmp_path, body) as host:
        return host.communicate(timeout=60)


def killed_host(tmp_path: Path, call: str) -> tuple[str, list[int]]:
    """Kill a program while a call runs in its worker; the task's id, and the pids of the call."""
    mark = tmp_path / "ready"
    body = f"task = far({call})\nprint(task.id, flush=True)\nexecutor.execute(task)\n"
    with start_host(tmp_path, body.replace("MARK", repr(str(mark)))) as host:
        assert host.stdout is not None
        task_id = host.stdout.readline().strip()
        wait_until(lambda: mark.exists() and mark.read_text())
        host.kill()
    return task_id, [int(pid) for pid in mark.read_text().split()]


@posix_only
def test_workers_and_what_they_started_end_with_a_killed_parent(tmp_path: Path) -> None:
    _, (pid,) = killed_host(tmp_path, "callkit.hang, MARK")
    wait_until(lambda: is_gone(pid), "the worker to end")


@linux_only
def test_a_worker_that_holds_the_interpreter_lock_ends_with_a_killed_parent(tmp_path: Path) -> None:
    _, (pid,) = killed_host(tmp_path, "callkit.hold_the_lock, MARK")
    try:
        wait_until(lambda: is_gone(pid), "the worker to end")
    finally:
        if not is_gone(pid):
            os.kill(pid, signal.SIGKILL)


@linux_only
def test_what_has_left_the_session_of_a_worker_is_found_by_the_id_of_its_task(
    tmp_path: Path,
) -> None:
    task_id, (worker, child, runaway) = killed_host(tmp_path, "callkit.hang, MARK, True")
    wait_until(lambda: is_gone(worker) and is_gone(child), "the group of the worker to end")
    try:
        assert not is_gone(runaway)
        assert end_orphans([str(uuid.uuid4())]) == 0
        assert end_orphans([task_id]) == 1
    finally:
        if not is_gone(runaway):
            os.kill(runaway, signal.SIGKILL)


@pytest.mark.parametrize(
    "end", ["executor.shutdown()", "", "del executor; import gc; gc.collect()"]
)
def test_a_worker_ends_as_any_program_does(tmp_path: Path, end: str) -> None:
    path = tmp_path / "written"
    body = f"executor.execute(far(callkit.write_at_exit, {str(path)!r}))\n{end}\n"
    assert run_host(tmp_path, body) == ("", "")
    assert path.read_text() == "buffered, at exit"


def test_an_exit_in_the_middle_of_a_call_is_quiet_and_leaves_no_worker(tmp_path: Path) -> None:
    mark = tmp_path / "ready"
    body = f"""
    import contextlib, pathlib, threading, time
    def run():
        with contextlib.suppress(Exception):
            executor.execute(far(callkit.hang, {str(mark)!r}))
    threading.Thread(target=run, daemon=True).start()
    while not pathlib.Path({str(mark)!r}).exists():
        time.sleep(0.01)
    """
    assert run_host(tmp_path, body) == ("", "")
    pid = int(mark.read_text())
    wait_until(lambda: is_gone(pid), "the worker to end")


@posix_only
def test_the_exit_of_a_forked_copy_ends_no_worker_of_the_original(tmp_path: Path) -> None:
    body = """
    import os
    before = executor.execute(far(callkit.pid)).value
    if os.fork() == 0:
        sys.exit()
    os.wait()
    print(executor.execute(far(callkit.pid)).value == before)
    executor.shutdown()
    """
    # On stderr multiprocessing complains that the copy cannot wait for its processes.
    assert run_host(tmp_path, body)[0] == "True\n"


@posix_only
def test_not_even_the_first_worker_starts_with_the_ears_open_for_ctrl_c(tmp_path: Path) -> None:
    # The first start of all also starts the resource tracker, which unblocks SIGINT.
    body = """
    import signal
    from multiprocessing import util
    spawn = util.spawnv_passfds
    def noted(path, args, fds):
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        if not any("resource_tracker" in str(arg) for arg in args):
            print(signal.SIGINT in blocked)
        return spawn(path, args, fds)
    util.spawnv_passfds = noted
    executor.execute(far(callkit.pid))
    executor.shutdown()
    """
    assert run_host(tmp_path, body) == ("True\n", "")


def test_a_timeout_of_years_is_one(executor: TaskExecutor) -> None:
    assert executor.execute(far(callkit.double, 2, timeout=1e9)).value == 4


@posix_only
def test_a_signal_that_does_not_end_the_wait_is_noticed_all_the_same(
    executor: TaskExecutor, tmp_path: Path
) -> None:
    mark = tmp_path / "ready"

    def interrupt() -> None:
        wait_until(mark.exists)
        os.kill(os.getpid(), signal.SIGINT)

    thread, _ = in_thread(interrupt)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        with pytest.raises(KeyboardInterrupt):
            executor.execute(far(callkit.hang, str(mark)))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    thread.join()
    assert is_gone(int(mark.read_text()))


@posix_only
def test_ctrl_c_ends_workers_without_their_tracebacks(tmp_path: Path) -> None:
    mark = tmp_path / "ready"
    script = tmp_path / "interrupted.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {os.path.dirname(callkit.__file__)!r})
            import callkit
            from ttasks import Task, TaskExecutor, TaskGraph

            if __name__ == "__main__":
                graph = TaskGraph()
                graph.add(Task.python(callkit.hang, ({str(mark)!r},), backend="process"))
                try:
                    graph.run(TaskExecutor())
                except KeyboardInterrupt:
                    print("interrupted", [task.status.value for task in graph])
            """
        ),
        encoding="utf-8",
    )
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        wait_until(mark.exists)
        os.killpg(parent.pid, signal.SIGINT)
        out, err = parent.communicate(timeout=30)
    assert (out, err) == ("interrupted ['cancelled']\n", "")
    assert is_gone(int(mark.read_text()))
