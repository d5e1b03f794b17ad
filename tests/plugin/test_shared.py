"""share="run": one graph for all workers of xdist, whoever ends first or is killed."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from pluginkit import Inner

CONFTEST = """
    import os
    from pathlib import Path
    from ttasks import Task, TaskGraph
    from ttasks.pytest_plugin import graph_fixture

    LOG = Path(__file__).with_name("log")

    def build():
        graph = TaskGraph("data")
        graph.add(Task.bash(f"echo up >> {LOG}; echo line of the set-up", title="up"))
        graph.add(Task.bash(f"echo down >> {LOG}", title="down"), finally_=True)
        return graph, {"pid": os.getpid(), "numbers": (1, 2)}

    data = graph_fixture(build, share="run")
"""
TWO = ("-p", "xdist", "-n", "2", "--dist=load")


def log_of(pytester: pytest.Pytester) -> list[str]:
    return (pytester.path / "log").read_text().split()


def test_one_worker_runs_it_for_both_and_all_get_the_same_value(
    inner: Inner, pytester: pytest.Pytester, temporary: Path
) -> None:
    result = inner(
        """
        import os, pathlib, time, pytest
        FOLDER = pathlib.Path(__file__).parent

        @pytest.mark.parametrize("number", range(2))
        def test_it(data, number):
            # Both workers are in here at once, each in a test of its own.
            (FOLDER / f"{number}.{os.getpid()}.{data['pid']}").touch()
            end = time.monotonic() + 20
            while len(list(FOLDER.glob("?.*.*"))) < 2:
                assert time.monotonic() < end
                time.sleep(0.01)
            assert data["numbers"] == [1, 2]
            assert "down" not in (FOLDER / "log").read_text()
        """,
        *TWO,
        conftest=CONFTEST,
    )
    result.assert_outcomes(passed=2)
    names = [path.name.split(".") for path in pytester.path.glob("?.*.*")]
    assert len({worker for _, worker, _ in names}) == 2
    assert len({owner for *_, owner in names}) == 1
    assert log_of(pytester) == ["up", "down"]
    assert not list(temporary.glob("ttasks*/*"))


def test_the_owner_waits_for_a_worker_that_comes_late(
    inner: Inner, pytester: pytest.Pytester
) -> None:
    result = inner(
        """
        import pathlib, time
        FOLDER = pathlib.Path(__file__).parent

        def test_early(data):
            (FOLDER / "used").touch()

        def test_late(request):
            end = time.monotonic() + 20
            while not (FOLDER / "used").exists():
                assert time.monotonic() < end
                time.sleep(0.01)
            time.sleep(0.3)  # the other worker has nothing more to do, and might end the graph
            assert request.getfixturevalue("data")

        def test_uses_it(data):
            pass
        """,
        *TWO,
        conftest=CONFTEST,
    )
    result.assert_outcomes(passed=3)
    assert log_of(pytester) == ["up", "down"]


def test_two_graphs_with_owners_that_wait_for_each_other_end(
    inner: Inner, pytester: pytest.Pytester
) -> None:
    result = inner(
        """
        import os, pathlib, time, pytest
        from ttasks import Task, TaskGraph
        from ttasks.pytest_plugin import graph_fixture

        FOLDER = pathlib.Path(__file__).parent

        def build_one():
            return TaskGraph("one"), os.getpid()

        def build_two():
            return TaskGraph("two"), os.getpid()

        one = graph_fixture(build_one, share="run")
        two = graph_fixture(build_two, share="run")

        @pytest.mark.parametrize(("first", "second"), [("one", "two"), ("two", "one")])
        def test_it(one_or_two, request, first, second):
            owner = request.getfixturevalue(first)
            (FOLDER / f"{first}.{owner}").touch()
            end = time.monotonic() + 20
            while len(list(FOLDER.glob("???.*"))) < 2:
                assert time.monotonic() < end
                time.sleep(0.01)
            request.getfixturevalue(second)

        @pytest.fixture
        def one_or_two():
            pass

        def test_uses_them(one, two):
            pass
        """,
        *TWO,
    )
    result.assert_outcomes(passed=3)


def test_a_set_up_that_fails_is_tried_once_and_told_to_all(
    inner: Inner, pytester: pytest.Pytester
) -> None:
    result = inner(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it(data, number):
            pass
        """,
        *TWO,
        conftest=CONFTEST.replace("echo line of the set-up", "exit 3"),
    )
    result.assert_outcomes(errors=4)
    result.stdout.fnmatch_lines("the graph of fixture 'data' could not be set up: *")
    assert log_of(pytester) == ["up", "down"]


def test_a_cleanup_that_fails_is_an_error(inner: Inner) -> None:
    result = inner(
        "def test_it(data): pass",
        *TWO,
        conftest=CONFTEST.replace("echo down", "exit 4; echo down"),
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_it*", "*down*exit code 4*"])


def test_a_value_must_be_given_and_be_json(inner: Inner) -> None:
    value = 'return graph, {"pid": os.getpid(), "numbers": (1, 2)}'
    conftest = f"""{CONFTEST.replace(value, "return graph")}
    def with_object():
        return build(), object()

    of_object = graph_fixture(with_object, share="run")
    """
    tests = "def test_none(data): pass\ndef test_object(of_object): pass"
    result = inner(tests, *TWO, conftest=conftest)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines_random(
        [
            "*must return its graph and a value: with share='run'*",
            "*must be JSON, since other processes get it too*object*",
        ]
    )


def test_without_xdist_it_belongs_to_the_one_process(
    inner: Inner, pytester: pytest.Pytester
) -> None:
    result = inner("def test_it(data): assert data['numbers'] == (1, 2)", conftest=CONFTEST)
    result.assert_outcomes(passed=1)
    assert log_of(pytester) == ["up", "down"]


def test_a_killed_owner_is_replaced_and_its_graph_runs_again(
    inner: Inner, pytester: pytest.Pytester, temporary: Path
) -> None:
    pytester.makepyfile(
        test_other=textwrap.dedent(
            """
            from test_it import touch, wait_for

            def test_user(request):
                wait_for("owned")
                request.getfixturevalue("data")
                touch("used")
                wait_for("replaced")
            """
        )
    )
    result = inner(
        """
        import os, signal, pathlib, time
        FOLDER = pathlib.Path(__file__).parent

        def touch(name):
            (FOLDER / name).touch()

        def wait_for(name):
            end = time.monotonic() + 20
            while not (FOLDER / name).exists():
                assert time.monotonic() < end
                time.sleep(0.01)

        def test_owner(data):
            assert data["pid"] == os.getpid()
            if not (FOLDER / "owned").exists():  # xdist runs the test again
                touch("owned")
                wait_for("used")
                os.kill(os.getpid(), signal.SIGKILL)

        def test_after(data):
            assert data["pid"] == os.getpid()
            touch("replaced")
        """,
        *("-p", "xdist", "-n", "2", "--dist=loadfile"),
        conftest=CONFTEST,
    )
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"]) == (3, 1)
    result.stdout.fnmatch_lines("*worker 'gw*' crashed while running*test_owner*")
    assert log_of(pytester) == ["up", "up", "down"]
    assert not list(temporary.glob("ttasks*/*"))
