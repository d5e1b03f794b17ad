"""The fixtures for one test: they work together, and nothing of theirs outlives the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from pluginkit import Inner


def test_an_executor_records_events_and_saves_in_the_store(inner: Inner) -> None:
    result = inner(
        """
        from ttasks import Task

        def test_it(task_executor, task_events, task_store, task_graph):
            task = task_graph.add(Task.bash("echo hello"))
            task_graph.run(task_executor)
            assert task_graph.title == "test_it"
            assert [kind.value for kind in task_events.types(task)] == [
                "started", "output", "succeeded"
            ]
            assert task_store.tasks[task.id].result.output == "hello\\n"

        def test_they_are_new(task_executor, task_events, task_store, task_graph):
            assert not task_events.events and not len(task_store.tasks) and not len(task_graph)
        """
    )
    result.assert_outcomes(passed=2)


def test_the_store_can_be_replaced(inner: Inner) -> None:
    result = inner(
        """
        import pytest
        from ttasks import SQLiteStore, Task

        @pytest.fixture
        def task_store(tmp_path):
            with SQLiteStore(tmp_path / "ledger") as store:
                yield store

        def test_it(task_executor, task_store):
            task = Task.bash("true")
            task_executor.execute(task)
            assert task_store.tasks[task.id].is_succeeded
        """
    )
    result.assert_outcomes(passed=1)


def test_what_a_test_leaves_running_is_ended(inner: Inner, pytester: pytest.Pytester) -> None:
    result = inner(
        """
        import os, pytest
        from ttasks import Task, TaskEventType

        def test_leaves(task_executor, task_events):
            task = Task.bash("echo $$ > pid; echo up; sleep 600")
            task_executor.submit(task)
            task_events.wait_for(task, TaskEventType.OUTPUT)

        def test_next():
            with pytest.raises(ProcessLookupError):
                os.kill(int(open("pid").read()), 0)
        """
    )
    result.assert_outcomes(passed=2)


def test_the_plugin_is_found_by_itself_and_explains_itself(
    inner: Inner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    result = inner("def test_it(): pass", "--fixtures", "-p", "no:randomly")
    for name in ("task_executor", "task_store", "task_events", "task_graph"):
        result.stdout.fnmatch_lines(f"{name} -- *")
    result = inner("def test_it(): pass", "--markers")
    result.stdout.fnmatch_lines("@pytest.mark.ttasks_no_leaks: *")


def test_nothing_is_imported_or_written_until_something_is_used(
    inner: Inner, temporary: Path
) -> None:
    result = inner(
        """
        import sys

        def test_it():
            names = [name for name in sys.modules if name.split(".")[0] in ("ttasks", "psutil")]
            assert not names
        """
    )
    result.assert_outcomes(passed=1)
    assert not list(temporary.glob("ttasks*"))


def test_the_folder_for_temporary_files_is_left_empty(inner: Inner, temporary: Path) -> None:
    result = inner(
        """
        from ttasks import Task

        def test_it(task_executor):
            task_executor.execute(Task.bash("true"))
        """
    )
    result.assert_outcomes(passed=1)
    (folder,) = temporary.glob("ttasks*")
    assert not list(folder.iterdir())


def test_a_folder_of_somebody_else_is_refused(inner: Inner, temporary: Path) -> None:
    tests = "def test_it(task_executor): pass"
    inner(tests).assert_outcomes(passed=1)
    (folder,) = temporary.glob("ttasks*")
    folder.chmod(0o777)
    result = inner(tests)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines("E *PermissionError: * is not a folder of this user alone*")


def test_keeping_services_needs_one_process(inner: Inner) -> None:
    result = inner("def test_it(): pass", "-p", "xdist", "-n", "2", "--ttasks-keep=failed")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*--ttasks-keep=failed is incompatible with*; use -n0")
