"""graph_fixture: set up before the tests, ended after them, and clear about what went wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pluginkit import Inner
from ttasks import TaskGraph
from ttasks.pytest_plugin import graph_fixture

GRAPH = """
    from ttasks import Task, TaskGraph
    from ttasks.pytest_plugin import graph_fixture

    def build(tmp_path_factory):
        graph = TaskGraph("data")
        made = graph.add(Task.bash("echo set up >> log", title="make"))
        graph.add(Task.bash("echo cleaned up >> log", title="clean"), finally_=True)
        graph.add(Task.bash("echo after make >> log", title="last"), after=made, finally_=True)
        return graph, "the value"

    data = graph_fixture(build)
"""


def log_of(pytester: pytest.Pytester) -> list[str]:
    return (pytester.path / "log").read_text().splitlines()


def test_it_is_set_up_once_and_finally_tasks_run_after_the_last_test(
    inner: Inner, pytester: pytest.Pytester
) -> None:
    result = inner(
        """
        from pathlib import Path

        def test_one(data):
            assert data == "the value"
            assert Path("log").read_text() == "set up\\n"

        def test_two(data):
            assert Path("log").read_text() == "set up\\n"
        """,
        conftest=GRAPH,
    )
    result.assert_outcomes(passed=2)
    first, *last = log_of(pytester)
    assert first == "set up"
    assert sorted(last) == ["after make", "cleaned up"]


def test_without_a_value_a_test_gets_the_graph_whose_results_it_can_read(inner: Inner) -> None:
    result = inner(
        """
        from ttasks import Task, TaskExecutor, TaskGraph
        from ttasks.pytest_plugin import graph_fixture

        def build():
            graph = TaskGraph("numbers")
            first = graph.add(Task.python(lambda: 20, title="first"))
            graph.add(Task.python(lambda n: n + 1, (first,), title="second"))
            return graph

        numbers = graph_fixture(build, scope="module", executor=lambda: TaskExecutor(max_workers=1))

        def test_it(numbers):
            assert numbers.find("second").value == 21
            assert numbers.find("the tests").is_running
        """
    )
    result.assert_outcomes(passed=1)


def test_each_scope_ends_when_it_should(inner: Inner) -> None:
    result = inner(
        """
        import pytest
        from pathlib import Path
        from ttasks import Task, TaskGraph
        from ttasks.pytest_plugin import graph_fixture

        def build(tmp_path):
            graph = TaskGraph("one")
            graph.add(Task.bash("mkdir up", cwd=tmp_path, title="up"))
            graph.add(Task.bash("rmdir up", cwd=tmp_path, title="down"), finally_=True)
            return graph, tmp_path / "up"

        folder = graph_fixture(build, scope="function")
        seen = []

        @pytest.mark.parametrize("number", [1, 2])
        def test_it(folder, number):
            assert folder.is_dir() and folder not in seen
            assert not any(other.exists() for other in seen)
            seen.append(folder)
        """
    )
    result.assert_outcomes(passed=2)


def test_a_failed_set_up_fails_each_test_with_its_error_and_cleans_up(
    inner: Inner, pytester: pytest.Pytester
) -> None:
    result = inner(
        "def test_one(data): pass\ndef test_two(data): pass\ndef test_other(): pass",
        conftest=GRAPH.replace("echo set up >> log", "echo no database >&2; exit 3"),
    )
    result.assert_outcomes(errors=2, passed=1)
    result.stdout.fnmatch_lines(
        [
            "the graph of fixture 'data' could not be set up: *",
            "*make*exit code 3: no database*",
            "*- ttasks: make -*",
            "no database",
        ]
    )
    text = result.stdout.str()
    assert "live.py" not in text  # no traceback of the library
    assert "During handling" not in text
    assert "cleaned up" in log_of(pytester)


def test_an_optional_task_may_fail(inner: Inner) -> None:
    result = inner(
        """
        from ttasks import Task, TaskGraph
        from ttasks.pytest_plugin import graph_fixture

        def build():
            graph = TaskGraph("data")
            graph.add(Task.bash("exit 3", title="warm up"), required=False)
            return graph

        data = graph_fixture(build)

        def test_it(data):
            assert data.find("warm up").is_failed
        """
    )
    result.assert_outcomes(passed=1)


def test_a_finally_task_that_fails_is_an_error_of_the_last_test(inner: Inner) -> None:
    result = inner(
        "def test_one(data): pass\ndef test_two(data): pass",
        conftest=GRAPH.replace("echo cleaned up >> log", "exit 4"),
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_two*", "the graph of fixture 'data': *", "*clean*exit code 4*"]
    )


def test_a_failing_test_shows_what_was_printed_during_it_and_nothing_older(inner: Inner) -> None:
    result = inner(
        """
        def test_one(data):
            assert False

        def test_two(data):
            assert False
        """,
        conftest=GRAPH.replace("echo set up >> log", "echo first line; echo second line"),
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*- ttasks: make -*", "first line", "second line"])
    assert result.stdout.str().count("second line") == 1


def test_pytest_x_cleans_up(inner: Inner, pytester: pytest.Pytester) -> None:
    result = inner(
        "def test_one(data): assert False\ndef test_two(data): pass", "-x", conftest=GRAPH
    )
    result.assert_outcomes(failed=1)
    assert sorted(log_of(pytester)) == ["after make", "cleaned up", "set up"]


def test_fixtures_may_use_it_and_it_may_use_fixtures(inner: Inner) -> None:
    result = inner(
        """
        import pytest
        from ttasks import Task, TaskGraph
        from ttasks.pytest_plugin import graph_fixture

        @pytest.fixture(scope="session")
        def word():
            return "hello"

        def build(word, *, suffix="!"):
            \"\"\"Say a word.\"\"\"
            graph = TaskGraph("say")
            said = graph.add(Task.bash(f"echo -n {word}{suffix}", title="say"))
            return graph

        said = graph_fixture(build)

        @pytest.fixture
        def text(said):
            return said.find("say").value

        def test_it(text):
            assert text == "hello!"
        """
    )
    result.assert_outcomes(passed=1)


def test_an_invalid_graph_starts_nothing_and_says_why(inner: Inner) -> None:
    result = inner(
        """
        from ttasks import Task, TaskGraph
        from ttasks.pytest_plugin import graph_fixture

        def build():
            graph = TaskGraph("wrong")
            graph.add(Task.bash("touch started"), after="nobody")
            return graph

        wrong = graph_fixture(build)
        no_graph = graph_fixture(lambda: 3)

        def raising():
            raise OSError("no server today")

        broken = graph_fixture(raising)

        def test_graph(wrong): pass
        def test_value(no_graph): pass
        def test_broken(broken): pass
        """
    )
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(
        [
            "E *UnknownDependencyError: *'nobody'*",
            "E *TypeError: what * must be a TaskGraph*",
            "E *OSError: no server today",
        ]
    )
    _, _, broken = result.stdout.str().partition("ERROR at setup of test_broken")
    assert "fixtures.py" not in broken  # the frames of the factory only


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"factory": TaskGraph()}, TypeError, "factory must be a callable"),
        ({"executor": 3}, TypeError, "executor must be a callable"),
        ({"scope": "test"}, ValueError, "scope must be one of session, "),
        ({"share": "all"}, ValueError, "share must be 'worker' or 'run'"),
        ({"share": "run", "scope": "module"}, ValueError, "share='run' needs scope='session'"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        graph_fixture(**{"factory": TaskGraph, **options})
