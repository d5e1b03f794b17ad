"""TARGET: what it may be, how it is loaded, and what is said of one that is no good."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from ttasks.cli.exits import CommandError
from ttasks.cli.parameters import bind, convert_all, described, parameters_of

ONE = (
    "from ttasks import Task, TaskGraph\n{name} = TaskGraph('one')\n{name}.add(Task.bash('true'))\n"
)
FACTORY = """
from ttasks import Task, TaskGraph
def {name}({parameters}):
    graph = TaskGraph("made")
    graph.add(Task.bash("true", title=repr({shown})))
    return graph
"""


def only_title(done: Any) -> str:
    assert done.code == 0, done.err
    (task,) = done.json["tasks"]
    title: str = task["title"]
    return title


@pytest.mark.parametrize(
    ("file", "target", "key"),
    [
        ("one.py", "one.py", "one.py:anything"),
        ("one.py", "one.py:anything", "one.py:anything"),
        ("one.py", "./one.py", "one.py:anything"),
        ("sub/one.py", "sub/one.py", "sub/one.py:anything"),
        ("one.py", "one:anything", "one:anything"),
        ("package/one.py", "package.one:anything", "package.one:anything"),
        ("package/one.py", "package.one", "package.one:anything"),
        ("json.py", "json.py", "json.py:anything"),
        ("with-dash.py", "with-dash.py", "with-dash.py:anything"),
    ],
)
def test_a_target_is_a_file_or_a_module(
    cli: Any, folder: Any, file: str, target: str, key: str
) -> None:
    folder.write(file, ONE.format(name="anything"))
    done = cli("list", target, "--json")
    assert done.code == 0, done.err
    assert done.json["key"] == key


def test_an_absolute_path_is_the_same_graph(cli: Any, folder: Any) -> None:
    folder.write("one.py", ONE.format(name="graph"))
    assert cli("list", str(folder.path / "one.py"), "--json").json["key"] == "one.py:graph"


def test_imports_from_its_folder_work_and_arguments_are_its_own(cli: Any, folder: Any) -> None:
    folder.write("deep/helper.py", "NAME = 'from the helper'")
    folder.write(
        "deep/one.py",
        """
        import sys
        from ttasks import Task, TaskGraph
        from helper import NAME
        graph = TaskGraph()
        graph.add(Task.bash("true", title=f"{NAME} {len(sys.argv)} {__name__}"))
        if __name__ == "__main__":
            raise SystemExit("this must not run")
        """,
    )
    assert only_title(cli("list", "deep/one.py", "--json")) == "from the helper 1 one"


def test_functions_of_a_file_run_in_worker_processes(folder: Any) -> None:
    folder.write(
        "work.py",
        """
        import os
        from ttasks import Task, TaskGraph
        def pid(): return os.getpid()
        graph = TaskGraph()
        graph.add(Task.python(pid, backend="process"))
        """,
    )
    done = folder.real("run", "work.py", "--console", "quiet")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("program", "target", "message"),
    [
        ("", "no.py", "there is no file 'no.py'"),
        ("", "prog.pyy", "there is no module 'prog.pyy'"),
        ("", "prgo.py", "there is no file 'prgo.py'; did you mean 'prog.py'?"),
        ("", "nothing.here:x", "there is no module 'nothing.here'"),
        ("", "prog.py:", "is no target; write file.py, file.py:attribute"),
        ("", "prog.py", "has no graph: no TaskGraph at its top level, and no function build_graph"),
        ("graph = 1", "prog.py:graph", "prog.py:graph is an int; a target has to be a TaskGraph"),
        ("grpah = 1", "prog.py:graph", "prog.py has no 'graph'; did you mean 'grpah'?"),
        ("from ttasks import Task\nt = Task.bash('x')", "prog.py:t", "prog.py:t is a Task"),
        (
            "from ttasks import TaskGraph\na = TaskGraph()\nb = TaskGraph()\nc = b",
            "prog.py",
            "prog.py has 2 graphs; say which one is meant: prog.py:a or prog.py:b",
        ),
        ("def build_graph(): pass", "prog.py", "prog.py:build_graph returned None; it has to"),
        (
            "async def build_graph(): pass",
            "prog.py",
            "returned a coroutine (the function is async)",
        ),
        ("def build_graph(): return [1]", "prog.py", "returned a list; it has to return"),
        (
            "from ttasks import Task, TaskGraph\ngraph = TaskGraph()\n"
            "graph.add(Task.bash('true', title='a'), after='b')",
            "prog.py",
            "depends on 'b'",
        ),
    ],
)
def test_what_is_no_graph_is_refused(
    cli: Any, folder: Any, program: str, target: str, message: str
) -> None:
    folder.write("prog.py", program)
    for command in ("run", "list"):
        done = cli(command, target)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
        assert "Traceback" not in done.err


def test_an_empty_graph_selects_nothing(cli: Any, folder: Any) -> None:
    folder.write("prog.py", "from ttasks import TaskGraph\ngraph = TaskGraph()")
    assert cli("run", "prog.py").code == 5


@pytest.mark.parametrize(
    ("program", "last"),
    [
        ("def f():\n    return 1 / 0\nf()", "ZeroDivisionError: division by zero"),
        ("def build_graph():\n    return 1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_a_program_that_raises_shows_its_own_traceback_only(
    cli: Any, folder: Any, program: str, last: str
) -> None:
    folder.write("prog.py", program)
    for target in ("prog.py", "prog:build_graph"):
        done = cli("run", target)
        assert (done.code, done.out) == (1, "")
        assert last in done.err.splitlines()[-1]
        assert "prog.py" in done.err
        assert "ttasks/cli" not in done.err
        assert "importlib" not in done.err


def test_a_program_that_ends_itself_is_told(cli: Any, folder: Any) -> None:
    folder.write("prog.py", "import sys\nsys.exit(0)")
    done = cli("run", "prog.py")
    assert done.code == 1
    assert "the program ended itself (SystemExit: 0)" in done.err


# Parameters


class Level(Enum):
    LOW = 1
    HIGH = 2


@pytest.mark.parametrize(
    ("kind", "texts", "expected"),
    [
        (str, ["a=b"], "a=b"),
        (int, ["-3"], -3),
        (float, ["1e3"], 1000.0),
        (bool, ["Yes"], True),
        (bool, ["0"], False),
        (Path, ["a/b"], Path("a/b")),
        (Level, ["HIGH"], Level.HIGH),
        (Level, ["1"], Level.LOW),
        (Literal["a", 2], ["2"], 2),
        (int | None, ["none"], None),
        (int | None, ["4"], 4),
        (str | None, ["x"], "x"),
        (str | None, ["None"], None),
        (int | str, ["x"], "x"),
        (int | str, ["7"], 7),
        (list[int], ["1", "2"], [1, 2]),
        (list[int], [""], []),
        (list[str] | None, ["a"], ["a"]),
        (tuple[int, ...], ["1"], (1,)),
        (set[Level], ["LOW", "LOW"], {Level.LOW}),
        (list, ["a"], ["a"]),
        (Annotated[int, "about"], ["5"], 5),
        (Any, ["x"], "x"),
    ],
)
def test_texts_become_what_the_annotation_says(
    kind: Any, texts: list[str], expected: object
) -> None:
    found = convert_all(texts, kind)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "texts", "message"),
    [
        (int, ["x"], "expected int, got 'x'"),
        (bool, ["2"], "expected true|false, got '2'"),
        (Level, ["high"], "expected LOW|HIGH, got 'high'"),
        (Literal["a", "b"], ["c"], "expected a|b, got 'c'"),
        (int | None, ["x"], "expected int|none, got 'x'"),
        (int, ["1", "2"], "it was given 2 times, and takes one int"),
        (list[int], ["1", "x"], "expected int, got 'x'"),
        (dict[str, int], ["{}"], "cannot be written on a command line"),
    ],
)
def test_texts_that_do_not_fit_are_refused(kind: Any, texts: list[str], message: str) -> None:
    def function(value: Any) -> None: ...

    function.__annotations__["value"] = kind
    with pytest.raises(CommandError) as caught:
        bind("f", parameters_of(function), [f"value={text}" for text in texts])
    assert message in str(caught.value)
    assert "parameter 'value' of f" in str(caught.value)


def test_annotations_may_be_texts_and_defaults_tell_the_type(cli: Any, folder: Any) -> None:
    program = "from __future__ import annotations\nfrom pathlib import Path\n" + FACTORY.format(
        name="build_graph",
        parameters="level: int, *, folder: Path = Path('x'), fast=False, **more: float",
        shown="(level, folder.name, fast, more)",
    )
    folder.write("prog.py", program)
    words = ["level=3", "fast=yes", "folder=a/b", "extra=1"]
    done = cli("list", "prog.py", "--json", "--", *words)
    assert only_title(done) == "(3, 'b', True, {'extra': 1.0})"
    assert done.json["key"] == f"prog.py:build_graph {' '.join(sorted(words))}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "prog.py:make needs level; add: -- level=…"),
        (["level"], "'level' is no parameter; write name=value"),
        (["levle=1"], "has no parameter 'levle'; did you mean 'level'?"),
        (["zzz=1"], "has no parameter 'zzz'; it takes level"),
        (["level=x"], "parameter 'level' of prog.py:make: expected int, got 'x'"),
    ],
)
def test_wrong_parameters_are_refused(
    cli: Any, folder: Any, words: list[str], message: str
) -> None:
    folder.write("prog.py", FACTORY.format(name="make", parameters="level: int", shown="level"))
    done = cli("run", "prog.py:make", "--", *words)
    assert done.code == 2
    assert message in done.err


def test_the_help_of_a_target_lists_its_parameters(cli: Any, folder: Any) -> None:
    folder.write(
        "prog.py",
        FACTORY.format(
            name="build_graph",
            parameters="level: int, names: list[str] = [], fast: bool = False, **more: str",
            shown="level",
        ),
    )
    text = cli("run", "prog.py", "--help").out
    assert "--fail-fast" in text
    assert text.endswith(
        "parameters of prog.py:build_graph:\n"
        "  level=int  (required)\n"
        "  names=str (once for each)  (default: [])\n"
        "  fast=true|false  (default: false)\n"
        "  NAME=str\n"
    )
    assert cli("run", "--help").out.startswith("usage: ttasks run [options] TARGET")
    assert described(Literal[1, "b"]) == "1|b"


def test_nothing_of_the_caller_changes(cli: Any, folder: Any) -> None:
    folder.build(code=0)
    before = (list(sys.path), list(sys.argv))
    cli("list", "build.py")
    assert (list(sys.path), list(sys.argv)) == before
