"""Services as fixtures: up for the tests, in the reports of failing ones, and gone afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from pluginkit import Inner, gone, kill, start, wait_for_file

WEB = """
    import sys, urllib.request
    from pathlib import Path
    from ttasks import Task, TaskGraph, ready
    from ttasks.pytest_plugin import graph_fixture

    HERE = Path(__file__).parent

    def build():
        graph = TaskGraph("servers")
        port = ready.free_port()
        url = f"http://127.0.0.1:{port}"
        serve = f"echo $$ > {HERE}/pid; exec {sys.executable} -u -m http.server {port} -b 127.0.0.1"
        web = graph.add(Task.service(serve, ready=ready.tcp(port), title="web"))
        graph.add(
            Task.bash(f"kill -0 $(cat {HERE}/pid) && echo web was up > {HERE}/last", title="last"),
            after=web, finally_=True,
        )
        return graph, url

    url = graph_fixture(build)
"""
GET = """
        import time, urllib.request, urllib.error
        import pytest

        @pytest.fixture
        def get(url, tmp_path_factory):
            def get(path):
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(url + path)
                refused.value.close()
                end = time.monotonic() + 20
                while f"GET {path} " not in logged():  # it has been read
                    assert time.monotonic() < end
                    time.sleep(0.01)

            def logged():
                folders = tmp_path_factory.getbasetemp().glob("ttasks-logs*/*")
                return "".join(log.read_text() for folder in folders for log in folder.iterdir())

            return get
"""


def pid_of(pytester: pytest.Pytester) -> int:
    return int((pytester.path / "pid").read_text())


def test_a_service_is_up_for_the_tests_and_for_finally_tasks_and_then_gone(
    inner: Inner, pytester: pytest.Pytester
) -> None:
    result = inner(
        f"""{GET}
        def test_one(get):
            get("/one")

        def test_two(get):
            get("/two")
        """,
        conftest=WEB,
    )
    result.assert_outcomes(passed=2)
    assert (pytester.path / "last").read_text() == "web was up\n"
    assert gone(pid_of(pytester))


def test_a_failing_test_has_a_section_with_the_lines_of_its_own_requests(inner: Inner) -> None:
    result = inner(
        f"""{GET}
        def test_one(get):
            get("/one")
            assert False

        def test_passes(get):
            get("/passes")

        def test_two(get):
            get("/two")
            assert False
        """,
        conftest=WEB,
    )
    result.assert_outcomes(failed=2, passed=1)
    first, second = result.stdout.str().split("_ test_two _")
    for text, path, others in ((first, "/one", "/two"), (second, "/two", "/one")):
        assert "- ttasks: web -" in text
        assert f"GET {path} " in text
        assert f"GET {others} " not in text
        assert "GET /passes " not in text


def test_a_service_that_is_never_ready_shows_what_it_printed(inner: Inner) -> None:
    result = inner(
        """
        from ttasks import Task, TaskGraph, ready
        from ttasks.pytest_plugin import graph_fixture

        def build():
            graph = TaskGraph("servers")
            graph.add(
                Task.service(
                    "echo no licence; exec sleep 600",
                    title="db", ready=ready.path("never"), ready_timeout=0.3,
                )
            )
            return graph

        db = graph_fixture(build)

        def test_it(db):
            pass
        """
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "the graph of fixture 'db' could not be set up: *",
            "*ttasks: db -*",
            "no licence",
        ]
    )


def test_a_service_of_one_test_has_a_section_too(inner: Inner) -> None:
    result = inner(
        """
        import pytest
        from ttasks import Task, ready

        @pytest.mark.parametrize("number", [1, 2])
        def test_it(task_executor, number):
            said = f"echo up {number}; exec sleep 600"
            db = Task.service(said, title="db", ready=ready.output("up"))
            with task_executor.running(db):
                task_executor.execute(Task.bash("echo a command"))
                assert number == 3
        """
    )
    result.assert_outcomes(failed=2)
    first, second = result.stdout.str().split("_ test_it[2] _")
    for text, number in ((first, 1), (second, 2)):
        _, _, section = text.partition("- ttasks: db -")
        assert section.splitlines()[1] == f"up {number}"
        assert "a command" not in section
        assert text.count("- ttasks: ") == 1


def test_a_service_that_dies_meanwhile_is_an_error_at_the_end(inner: Inner) -> None:
    result = inner(
        """
        import os, signal, time

        def test_it(web):
            os.kill(int(open("pid").read()), signal.SIGKILL)
            while not web.is_terminal:
                time.sleep(0.01)
        """,
        conftest=WEB.replace("graph, url", "graph, web").replace("url = graph_", "web = graph_"),
    )
    assert result.parseoutcomes()["errors"] == 1
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_it*", "*web*"])


def test_pytest_x_stops_it(inner: Inner, pytester: pytest.Pytester) -> None:
    result = inner("def test_one(url): assert False\ndef test_two(url): pass", "-x", conftest=WEB)
    result.assert_outcomes(failed=1)
    assert gone(pid_of(pytester))
    assert (pytester.path / "last").exists()


# Signals

WAITS = """
    import pathlib, time

    def test_it(url):
        pathlib.Path("reached").touch()
        time.sleep(60)
"""


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "xdist"])
def test_ctrl_c_stops_it(
    pytester: pytest.Pytester, command: list[str], options: tuple[str, ...]
) -> None:
    process = start(pytester, [*command, *options], WAITS, WEB)
    wait_for_file(pytester.path / "reached", process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of the group
    process.communicate(timeout=30)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert gone(pid_of(pytester))
    assert (pytester.path / "last").exists()


def test_ctrl_c_while_it_is_set_up_ends_it(pytester: pytest.Pytester, command: list[str]) -> None:
    never = WEB.replace("ready=ready.tcp(port)", "ready=ready.path('never'), ready_timeout=60")
    process = start(pytester, command, WAITS, never)
    wait_for_file(pytester.path / "pid", process)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert gone(pid_of(pytester))


def test_the_next_pytest_ends_what_a_killed_one_has_left(
    inner: Inner, pytester: pytest.Pytester, command: list[str], temporary: Path
) -> None:
    process = start(pytester, command, WAITS, WEB)
    wait_for_file(pytester.path / "reached", process)
    kill(process)
    left = psutil.Process(pid_of(pytester))
    assert left.is_running()
    # It uses nothing of ttasks.
    inner("def test_nothing(): pass").assert_outcomes(passed=1)
    assert gone(left.pid)
    assert not list(temporary.glob("ttasks*/*"))


def test_the_next_pytest_ends_a_server_that_has_overwritten_its_environment(
    inner: Inner, pytester: pytest.Pytester, command: list[str]
) -> None:
    # As Redis does, to show a title in `ps`.
    bare = WEB.replace("exec {sys.executable}", "exec env -i {sys.executable}")
    process = start(pytester, command, WAITS, bare)
    wait_for_file(pytester.path / "reached", process)
    kill(process)
    left = pid_of(pytester)
    assert not gone(left)
    inner("def test_nothing(): pass").assert_outcomes(passed=1)
    assert gone(left)


def test_the_next_pytest_ends_commands_of_a_killed_test(
    inner: Inner, pytester: pytest.Pytester, command: list[str]
) -> None:
    tests = """
        from ttasks import Task

        def test_it(task_executor):
            task_executor.execute(Task.bash("echo $$ > pid; touch reached; exec sleep 600"))
    """
    process = start(pytester, command, tests)
    wait_for_file(pytester.path / "reached", process)
    kill(process)
    assert not gone(pid_of(pytester))
    inner("def test_nothing(): pass").assert_outcomes(passed=1)
    assert gone(pid_of(pytester))


def test_a_pytest_leaves_alone_what_another_one_is_running(
    inner: Inner, pytester: pytest.Pytester, command: list[str]
) -> None:
    process = start(pytester, command, WAITS, WEB)
    wait_for_file(pytester.path / "reached", process)
    try:
        inner("def test_nothing(): pass").assert_outcomes(passed=1)
        assert not gone(pid_of(pytester))
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
    assert gone(pid_of(pytester))


def test_a_killed_worker_takes_its_services_with_it(
    inner: Inner, pytester: pytest.Pytester, temporary: Path
) -> None:
    result = inner(
        f"""{GET}
        import os, signal, pathlib
        KILLED = pathlib.Path(__file__).with_name("killed")

        @pytest.mark.parametrize("number", range(4))
        def test_it(get, number):
            if not KILLED.exists():
                KILLED.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            get(f"/{{number}}")
        """,
        *("-p", "xdist", "-n", "1"),
        conftest=WEB.replace("{HERE}/pid;", "{HERE}/pid; echo $$ >> {HERE}/pids;"),
    )
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"]) == (3, 1)
    pids = [int(line) for line in (pytester.path / "pids").read_text().split()]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)
    assert not list(temporary.glob("ttasks*/*"))


# --ttasks-keep


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_services_are_kept_until_a_signal_if_a_test_has_failed(
    pytester: pytest.Pytester, command: list[str], number: int
) -> None:
    with_folder = WEB.replace("def build():", "def build(folder):").replace(
        "    HERE =",
        """
    import pytest

    @pytest.fixture(scope="session")
    def folder():
        path = HERE / "folder"
        path.mkdir()
        yield path
        path.rmdir()

    HERE =""",
    )
    process = start(
        pytester,
        [*command, "--ttasks-keep=failed"],
        "def test_it(url): assert 'this'==1",
        with_folder,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.match(r"Press Ctrl-C to end it, or: kill (\d+)", line):
            break
    text = "".join(lines)
    assert found is not None, text
    assert int(found[1]) == process.pid
    assert "test_it.py::test_it" in text
    assert "AssertionError" in text
    assert (pytester.path / "folder").is_dir()  # what the servers use is there, too
    url = re.search(r"^url = '(http://\S+)'$", text, re.MULTILINE)
    assert url is not None, text
    assert re.search(r"^  web: .*http\.server", text, re.MULTILINE)
    subprocess.run(["curl", "--fail", "--silent", url[1]], check=True, stdout=subprocess.DEVNULL)
    os.kill(process.pid, number)
    assert "= 1 failed" in process.communicate(timeout=30)[0]
    assert process.returncode == pytest.ExitCode.TESTS_FAILED
    assert gone(pid_of(pytester))
    assert (pytester.path / "last").exists()
    assert not (pytester.path / "folder").exists()


def test_a_graph_for_one_test_is_kept_until_all_tests_have_run(
    pytester: pytest.Pytester, command: list[str]
) -> None:
    own = WEB.replace("graph_fixture(build)", 'graph_fixture(build, scope="function")')
    tests = "def test_one(url): assert False\ndef test_two(url): open('two', 'w')"
    process = start(pytester, [*command, "--ttasks-keep=failed"], tests, own)
    servers = 0
    for line in process.stdout:
        servers += line.startswith("  web: ")
        if line.startswith("Press Ctrl-C"):
            break
    assert (pytester.path / "two").exists()
    assert not gone(pid_of(pytester))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == pytest.ExitCode.TESTS_FAILED
    assert servers == 2
    assert gone(pid_of(pytester))


def test_nothing_is_kept_if_all_tests_pass(inner: Inner, pytester: pytest.Pytester) -> None:
    inner("def test_it(url): pass", "--ttasks-keep=failed", conftest=WEB).assert_outcomes(passed=1)
    assert gone(pid_of(pytester))
