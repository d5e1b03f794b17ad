"""The mark ttasks_no_leaks: what is left is named with its task; what is not the test's is not."""

from __future__ import annotations

import re

import pytest

from pluginkit import Inner

HEAD = """
        import os, pathlib, pytest, socket, subprocess, threading, time
        from ttasks import Task, TaskExecutor, TaskTimeoutError

        pytestmark = pytest.mark.ttasks_no_leaks
        kept = []
        over = threading.Event()

        @pytest.fixture(scope="session", autouse=True)
        def clean_up():
            yield
            over.set()
            for thing in kept:
                if isinstance(thing, subprocess.Popen):
                    thing.kill()
                    thing.communicate()
                elif isinstance(thing, TaskExecutor):
                    thing.shutdown()
                elif isinstance(thing, threading.Thread):
                    thing.join()
                elif isinstance(thing, int):
                    os.kill(thing, 9)
                else:
                    thing.close()
"""
IMPATIENT = """
        from ttasks.pytest_plugin import leaks

        leaks.PATIENCE_SECONDS = 0.2  # what is left here does not end by itself
"""
LAST = """
        def test_last():  # after which the fixture cleans up
            pass
"""


LEAKS = {
    "process": ("subprocess.Popen(['sleep', '600'])", r"process \d+: sleep 600"),
    "thread": ("started(threading.Thread(target=over.wait, name='mine'))", r"thread: mine"),
    "file": ("open(__file__)", r"descriptor \d+: \S+/test_it\.py"),
    "socket": ("socket.socket()", r"descriptor \d+: socket:\S+"),
    "executor": ("TaskExecutor()", r"executor: not shut down"),
}
"""What makes something that is left, and how it is named."""


def test_what_a_test_or_a_task_leaves_is_named(inner: Inner) -> None:
    makers = "\n        ".join(f"{kind}=lambda: {make}," for kind, (make, _) in LEAKS.items())
    result = inner(
        f"""{HEAD}
        def started(thread):
            thread.start()
            return thread

        MAKERS = dict(
        {makers}
        )

        def make(kind):
            kept.append(MAKERS[kind]())

        @pytest.mark.parametrize("kind", MAKERS)
        def test_by_itself(kind):
            make(kind)

        @pytest.mark.parametrize("kind", MAKERS)
        def test_in_a_task(task_executor, kind):
            task_executor.execute(Task.python(make, (kind,), title="the maker"))
        {LAST}""",
        conftest=IMPATIENT,
    )
    result.assert_outcomes(passed=2 * len(LEAKS) + 1, errors=2 * len(LEAKS))
    text = result.stdout.str()
    for kind, (_, said) in LEAKS.items():
        for test, by in (("by_itself", ""), ("in_a_task", r" \(of task 'the maker'\)")):
            head = re.escape(f"ERROR at teardown of test_{test}[{kind}]")
            pattern = rf"{head} _+\nthe test has left behind:\n  {said}{by}\n"
            assert re.search(pattern, text), text


def test_a_pytest_that_is_itself_a_task_finds_the_same(
    inner: Inner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTASKS_TASK", "outer.0123456789abcdef")
    result = inner(
        f"""{HEAD}
        def test_it():
            kept.append(subprocess.Popen(["sleep", "600"]))
        {LAST}""",
        conftest=IMPATIENT,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.re_match_lines(r".*process \d+: sleep 600$")


def test_a_daemon_of_a_command_is_named(inner: Inner) -> None:
    result = inner(
        f"""{HEAD}
        def test_it(task_executor):
            script = "setsid sleep 600 >/dev/null 2>&1 & echo $!"
            kept.append(int(task_executor.execute(Task.bash(script, title="daemon")).output))
        {LAST}""",
        conftest=IMPATIENT,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.re_match_lines(r".*process \d+: sleep 600 \(of task 'daemon'\)")


def test_the_thread_of_a_handler_that_does_not_end_is_named(inner: Inner) -> None:
    result = inner(
        f"""{HEAD}
        def test_it(task_executor):
            with pytest.raises(TaskTimeoutError):
                task_executor.execute(Task.python(over.wait, title="stubborn", timeout=0.05))
        {LAST}""",
        conftest=IMPATIENT,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.re_match_lines(r".*thread: \S+ \(of task 'stubborn'\)")


def test_tests_that_leave_nothing_pass(inner: Inner) -> None:
    result = inner(
        f"""{HEAD}
        @pytest.fixture
        def own_server():
            process = subprocess.Popen(["sleep", "600"])
            yield
            process.kill()
            process.wait()

        def test_commands(task_executor):
            task_executor.execute(Task.bash("sleep 0.01 & cat /dev/null; wait"))

        def test_own(own_server, tmp_path):
            with TaskExecutor() as executor:
                executor.submit(Task.python(os.getpid, backend="process")).result()

        def test_ends_by_itself():
            threading.Thread(target=time.sleep, args=(0.2,)).start()
        """
    )
    result.assert_outcomes(passed=3)


def test_what_fixtures_for_several_tests_make_may_stay(inner: Inner) -> None:
    result = inner(
        f"""{HEAD}
        from ttasks import TaskGraph
        from ttasks.pytest_plugin import graph_fixture

        def build():
            graph = TaskGraph("data")
            graph.add(Task.service("exec sleep 600", title="up"))
            return graph

        data = graph_fixture(build)

        @pytest.fixture(scope="module")
        def server():
            process = subprocess.Popen(["sleep", "600"])
            yield
            process.kill()
            process.wait()

        def test_one(data, server):
            pass

        def test_two(data, server):
            pass
        """
    )
    result.assert_outcomes(passed=2)


def test_tests_without_the_mark_may_leave_anything(inner: Inner) -> None:
    result = inner(
        f"""{HEAD.replace("pytestmark", "_")}
        def test_it(task_executor):
            kept.append(open(__file__))
        """
    )
    result.assert_outcomes(passed=1)


def test_python_is_as_before_after_a_marked_test(inner: Inner) -> None:
    result = inner(
        """
        import pytest, subprocess, threading
        from ttasks import TaskExecutor

        def methods():
            return [TaskExecutor.__init__, threading.Thread.start, subprocess.Popen.__init__]

        before = methods()

        @pytest.mark.ttasks_no_leaks
        def test_marked():
            assert methods() != before

        @pytest.mark.ttasks_no_leaks
        @pytest.mark.skip
        def test_skipped():
            pass

        def test_not_marked():
            assert methods() == before
        """
    )
    result.assert_outcomes(passed=2, skipped=1)
