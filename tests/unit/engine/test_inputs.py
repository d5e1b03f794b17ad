"""Tasks that declare inputs, outputs, variables and tools: skipped while nothing has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import CUSTOM, make
from ttasks import (
    DeclarationError,
    GraphError,
    InMemoryStore,
    RetryPolicy,
    SQLiteStore,
    Task,
    TaskContext,
    TaskExecutor,
    TaskGraph,
    task,
)


@task(reuse=True, inputs=["src/*.c"])
def count_calls() -> int:
    """How often it was called, by a file of the working folder."""
    with open("calls", "a+") as file:
        file.write("x")
        file.seek(0)
        return len(file.read())


class Project:
    """A working folder, a store, and graphs whose tasks do what they are told."""

    def __init__(self, path: Path, store: Any) -> None:
        self.path = path
        self.store = store
        self.ran: list[str] = []

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def handler(self, context: TaskContext) -> Any:
        self.ran.append(context.title)
        return context.payload() if callable(context.payload) else None

    def executor(self) -> TaskExecutor:
        executor = TaskExecutor.empty(self.store)
        executor.register(CUSTOM, self.handler)
        return executor

    def run(self, *tasks: Task, **options: Any) -> TaskGraph:
        """Run tasks, each after the one before; ``ran`` has the titles of those that ran."""
        graph = TaskGraph("build", key="build")
        for number, one in enumerate(tasks):
            graph.add(one, after=tasks[number - 1 : number])
        self.ran = []
        with self.executor() as executor:
            graph.run(executor, **options)
        return graph

    def compile(self, title: str = "compile", **declared: Any) -> Task:
        """A task that joins src/*.c into out/all."""
        settings = {"inputs": "src/*.c", "outputs": "out/all", "reuse": True} | declared

        def join() -> str:
            files = sorted((self.path / "src").glob("*.c"))
            self.write("out/all", "".join(file.read_text() for file in files))
            return "joined"

        return make(title, Doing("join", join), **settings)


class Doing:
    """A payload that calls a function and is known by its name."""

    def __init__(self, name: str, function: Callable[[], Any]) -> None:
        self.name = name
        self.function = function

    def identity(self) -> str:
        return self.name

    def __call__(self) -> Any:
        return self.function()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Doing) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


@pytest.fixture(params=["memory", "ledger"])
def project(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    if request.param == "memory":
        made = Project(folder, InMemoryStore())
    else:
        made = Project(folder, SQLiteStore(tmp_path / "ledger.db"))
    made.write("src/a.c", "a")
    made.write("src/b.c", "b")
    yield made
    if request.param == "ledger":
        made.store.close()


def why(graph: TaskGraph, title: str) -> str:
    assert graph.latest_run is not None
    return graph.latest_run.why(title)


def test_a_task_is_skipped_while_nothing_has_changed(project: Project) -> None:
    first = project.run(project.compile())
    assert project.ran == ["compile"]
    assert why(first, "compile") == "'compile' ran because there was no earlier result to reuse."
    again = project.run(project.compile())
    assert project.ran == []
    (one,) = again
    assert (one.value, one.result.reused) == ("joined", True)
    assert set(one.result.snapshot.inputs) == {"src/a.c", "src/b.c"}
    assert set(one.result.snapshot.outputs) == {"out/all"}


def test_whatever_changes_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    declared: dict[str, Any] = {"env_inputs": "CC", "tools": "cat version"}
    project.write("version", "1")
    project.run(project.compile(**declared))
    project.write("src/a.c", "other")
    (project.path / "src" / "b.c").unlink()
    project.write("src/c.c", "c")
    project.write("version", "2")
    monkeypatch.setenv("CC", "clang")
    graph = project.run(project.compile(**declared))
    assert project.ran == ["compile"]
    assert why(graph, "compile") == (
        "'compile' ran because its inputs changed since it last succeeded: "
        "changed src/a.c, new src/c.c, gone src/b.c, env CC, tool cat version."
    )
    assert project.run(project.compile(**declared)).ok
    assert project.ran == []


@pytest.mark.parametrize("resume", [False, True])
def test_an_output_that_is_gone_or_another_one_is_made_again(
    project: Project, resume: bool
) -> None:
    project.run(project.compile())
    (project.path / "out" / "all").unlink()
    graph = project.run(project.compile(), resume=resume)
    assert project.ran == ["compile"]
    assert why(graph, "compile").endswith(
        "its outputs changed since it last succeeded: gone out/all."
    )
    project.write("out/all", "not what it was")
    graph = project.run(project.compile(), resume=resume)
    assert project.ran == ["compile"]
    assert "changed out/all" in why(graph, "compile")
    project.run(project.compile(), resume=resume)
    assert project.ran == []


def test_a_file_that_becomes_executable_has_changed(project: Project) -> None:
    project.run(project.compile())
    (project.path / "src" / "a.c").chmod(0o755)
    project.run(project.compile())
    assert project.ran == ["compile"]


def test_other_times_and_the_same_content_are_no_change(project: Project) -> None:
    project.run(project.compile())
    os.utime(project.path / "src" / "a.c", (1, 1))
    project.run(project.compile())
    assert project.ran == []


def test_an_earlier_result_is_found_when_the_inputs_are_as_they_were_then(
    project: Project,
) -> None:
    project.run(project.compile(outputs=()))
    project.write("src/a.c", "other")
    project.run(project.compile(outputs=()))
    project.write("src/a.c", "a")
    project.run(project.compile(outputs=()))
    assert project.ran == []


def test_a_result_is_not_recorded_if_an_input_changed_while_the_task_ran(
    project: Project,
) -> None:
    def work() -> None:
        project.write("src/a.c", "changed meanwhile")

    work_once = Doing("w", work)
    declared: dict[str, Any] = {"reuse": True, "inputs": "src/*.c"}
    graph = project.run(make("t", work_once, **declared))
    (one,) = graph
    assert graph.ok
    assert one.result is not None
    assert one.result.snapshot is None
    project.write("src/a.c", "a")
    again = project.run(make("t", work_once, **declared))
    assert project.ran == ["t"]
    assert why(again, "t") == "'t' ran because its inputs changed while it last ran."


def test_what_a_task_makes_is_no_input_of_it(project: Project) -> None:
    project.run(project.compile(inputs=["src/*.c", "*/*"]))
    project.run(project.compile(inputs=["src/*.c", "*/*"]))
    assert project.ran == []


def test_a_folder_stands_for_all_files_below_it(project: Project) -> None:
    project.write("src/deep/er/d.c", "d")
    project.write("src/.git/config", "hidden")
    project.write("src/deep/.hidden", "hidden")
    graph = project.run(project.compile(inputs="src"))
    (one,) = graph
    assert one.result is not None
    assert set(one.result.snapshot.inputs) == {"src/a.c", "src/b.c", "src/deep/er/d.c"}
    project.write("src/deep/er/new.c", "d")
    project.run(project.compile(inputs="src"))
    assert project.ran == ["compile"]


# What is not there


def refused(project: Project, *tasks: Task, match: str) -> None:
    with pytest.raises(DeclarationError, match=match):
        project.run(*tasks)
    assert project.ran == []
    assert all(one.is_pending for one in tasks)
    assert len(project.store.graphs) == 0


@pytest.mark.parametrize(
    ("declared", "match"),
    [
        ({"inputs": "src/*.h"}, r"'compile': its input 'src/\*\.h' matches no file in '.*project'"),
        ({"inputs": ["src/*.c", "none.txt"]}, "its input 'none.txt' matches no file"),
        ({"tools": "no-such-tool --version"}, "its tool .* cannot be started"),
        ({"tools": "cat none.txt"}, "its tool 'cat none.txt' failed with exit code 1: .*none.txt"),
    ],
    ids=["pattern", "name", "no tool", "tool that fails"],
)
def test_what_is_not_there_is_told_before_the_run(
    project: Project, declared: dict[str, Any], match: str
) -> None:
    refused(project, make("before"), project.compile(**declared), match=match)


def test_a_tool_that_hangs_is_ended(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ttasks.commands.probe.PATIENCE_SECONDS", 0.05)
    refused(project, project.compile(tools="sleep 600"), match="has not ended after 0.05 seconds")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_told(project: Project) -> None:
    project.write("src/a.c", "a").chmod(0)
    refused(project, project.compile(), match=r"'src/a.c' cannot be read")


def test_a_tool_is_asked_once_in_a_run(project: Project) -> None:
    project.write("count", "#!/bin/sh\necho x >> counted\n").chmod(0o755)
    tasks = [make(f"t{n}", f"p{n}", reuse=True, tools="./count") for n in range(3)]
    project.run(*tasks)
    assert (project.path / "counted").read_text() == "x\n"


def test_an_output_that_is_not_made_fails_the_task(project: Project) -> None:
    graph = project.run(make("t", "p", reuse=True, outputs=["none", "src/a.c"]))
    (one,) = graph
    assert one.is_failed
    assert "'t': it succeeded, but has not made its output 'none' in" in str(one.error)
    assert isinstance(graph.errors[one.id], DeclarationError)


def test_a_task_without_its_output_is_tried_again(project: Project) -> None:
    tries: list[int] = []

    def work() -> None:
        tries.append(1)
        if len(tries) == 2:
            project.write("made", "x")

    declared: dict[str, Any] = {"reuse": True, "outputs": "made", "retry": RetryPolicy(3)}
    assert project.run(make("t", Doing("w", work), **declared)).ok
    assert len(tries) == 2


# Files that other tasks make


def chain(project: Project) -> list[Task]:
    """Generate gen.h from gen.in, compile it, and test without declaring anything."""

    def generate() -> None:
        project.write("gen.h", (project.path / "gen.in").read_text())

    def build() -> None:
        project.write("gen.o", (project.path / "gen.h").read_text())

    return [
        make("generate", Doing("g", generate), reuse=True, inputs="gen.in", outputs="gen.h"),
        make("build", Doing("b", build), reuse=True, inputs="gen.*h", outputs="gen.o"),
        make("test", "test"),
    ]


def test_an_input_that_an_upstream_makes_need_not_be_there_before(project: Project) -> None:
    project.write("gen.in", "1")
    assert project.run(*chain(project)).ok
    assert project.ran == ["generate", "build", "test"]
    project.run(*chain(project))
    assert project.ran == ["test"]
    project.run(*chain(project), resume=True)
    assert project.ran == []
    project.write("gen.in", "2")
    graph = project.run(*chain(project), resume=True)
    assert project.ran == ["generate", "build", "test"]
    assert (project.path / "gen.o").read_text() == "2"
    assert why(graph, "build") == "'build' ran because the result of 'generate' was not reused."


def test_what_comes_after_is_skipped_if_an_upstream_only_made_its_file_again(
    project: Project,
) -> None:
    project.write("gen.in", "1")
    project.run(*chain(project))
    (project.path / "gen.h").unlink()
    project.run(*chain(project))
    assert project.ran == ["generate", "test"]


def test_an_upstream_that_always_runs_does_not_make_the_next_one_run(project: Project) -> None:
    def configure() -> Task:
        return make("configure", Doing("c", lambda: project.write("conf.h", "x")))

    def build() -> Task:
        return make("build", "b", reuse=True, inputs="conf.h")

    project.write("conf.h", "x")
    project.run(configure(), build())
    project.run(configure(), build())
    assert project.ran == ["configure"]


def test_an_input_that_is_missing_after_all_fails_the_task(project: Project) -> None:
    graph = project.run(
        make("first", "f"),
        make(
            "maker",
            Doing("m", lambda: project.write("made/other", "x")),
            reuse=True,
            outputs="made/*",
        ),
        make("user", "u", reuse=True, inputs="made/this"),
    )
    first, maker, user = graph
    assert (first.is_succeeded, maker.is_succeeded, user.is_failed) == (True, True, True)
    assert "its input 'made/this' matches no file" in str(user.error)
    assert project.ran == ["first", "maker"]


def test_an_input_of_a_task_that_comes_later_is_an_error(project: Project) -> None:
    refused(
        project,
        make("user", "u", reuse=True, inputs="made"),
        make("maker", "m", reuse=True, outputs="made"),
        match="matches no file.*must come before this one",
    )


# Modes


def test_off_runs_everything_and_records_it(project: Project) -> None:
    project.run(project.compile())
    project.run(project.compile(), cache="off")
    assert project.ran == ["compile"]
    project.run(project.compile())
    assert project.ran == []


def test_verify_reveals_an_input_that_is_not_declared(project: Project) -> None:
    def work() -> None:
        project.write("made", (project.path / "src" / "a.c").read_text())

    def build() -> Task:
        return make("t", Doing("w", work), reuse=True, inputs="src/b.c", outputs="made")

    project.run(build())
    assert project.run(build(), cache="verify").ok
    assert project.ran == ["t"]
    project.write("src/a.c", "not declared")
    graph = project.run(build(), cache="verify")
    (one,) = graph
    assert one.is_failed
    assert "from the same inputs (changed made): it depends on something" in str(one.error)
    # What failed is not recorded, and the file is not what the record has.
    project.run(build())
    assert project.ran == ["t"]


@pytest.mark.parametrize(("values", "ok"), [([1, 1], True), ([1, 2], False)])
def test_verify_compares_values_of_tasks_without_outputs(
    project: Project, values: list[int], ok: bool
) -> None:
    left = list(values)
    for _ in values:
        graph = project.run(make("t", Doing("w", lambda: left.pop(0)), reuse=True), cache="verify")
    assert graph.ok is ok


def test_verify_compares_the_output_of_commands(project: Project) -> None:
    for text, ok in (("1", True), ("1", True), ("2", False)):
        project.write("undeclared", text)
        graph = TaskGraph("g", key="g")
        graph.add(Task.bash("cat undeclared", reuse=True, inputs="src/a.c"))
        with TaskExecutor(project.store) as executor:
            assert graph.run(executor, cache="verify").ok is ok


@pytest.mark.parametrize("cache", ["yes", ""])
def test_an_unknown_mode_is_refused(project: Project, cache: str) -> None:
    with pytest.raises(ValueError, match="cache must be one of 'on', 'off', 'verify'"):
        project.run(make("t"), cache=cache)
    with pytest.raises(ValueError, match="cannot go with resume=True"):
        project.run(make("t"), cache="verify", resume=True)


# One task, and other forms


def test_a_task_without_a_graph_is_skipped_as_well(project: Project) -> None:
    with project.executor() as executor:
        executor.execute(project.compile())
        assert executor.execute(project.compile()).reused
        assert executor.submit(project.compile()).result(10).reused
        project.write("src/a.c", "other")
        assert not executor.execute(project.compile()).reused
        with pytest.raises(DeclarationError):
            executor.execute(project.compile(inputs="none"))
        with pytest.raises(DeclarationError):
            executor.submit(project.compile(inputs="none"))
    assert project.ran == ["compile", "compile"]


@pytest.mark.parametrize("workers", [1, 3])
def test_of_equal_tasks_that_are_ready_together_one_runs(project: Project, workers: int) -> None:
    graph = TaskGraph("g")
    for title in ("one", "two", "three"):
        graph.add(project.compile(title))
    with project.executor() as executor:
        graph.run(executor, workers)
    assert len(project.ran) == 1
    assert sorted(one.result.reused for one in graph) == [False, True, True]


def test_a_command_has_its_own_folder_and_environment(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODE", raising=False)

    def build(mode: str) -> TaskGraph:
        graph = TaskGraph("g", key="g")
        graph.add(
            Task.bash(
                "cat a.c > copy; echo $MODE",
                title="copy",
                cwd=project.path / "src",
                env={"MODE": mode},
                reuse=True,
                inputs="a.c",
                outputs=["copy"],
                env_inputs=["MODE"],
            )
        )
        with TaskExecutor(project.store) as executor:
            return graph.run(executor)

    build("fast")
    (one,) = build("fast")
    assert one.result.reused
    (one,) = graph = build("slow")
    assert not one.result.reused
    assert "env MODE" in why(graph, "copy")


def test_functions_declare_as_commands_do(project: Project) -> None:
    for _ in range(2):
        graph = TaskGraph("g")
        one = graph.add(count_calls.task())
        with TaskExecutor(project.store) as executor:
            graph.run(executor)
        assert one.value == 1


def test_without_a_store_nothing_is_looked_at(project: Project) -> None:
    one = project.compile(inputs="none", outputs="none", tools="none")
    with TaskExecutor.empty() as executor:
        executor.register(CUSTOM, project.handler)
        assert executor.execute(one).ok


def test_a_graph_out_of_a_ledger_declares_what_it_did(project: Project) -> None:
    if isinstance(project.store, InMemoryStore):
        pytest.skip("it keeps the graph itself")
    tools, env = ("cat src/a.c",), ("CC",)
    saved = project.run(project.compile(inputs=["src/*.c"], env_inputs=env, tools=tools))
    (one,) = project.store.graphs[saved.id]
    assert (one.inputs, one.outputs, one.env_inputs, one.tools) == (
        ("src/*.c",),
        ("out/all",),
        env,
        tools,
    )
    assert one.result.snapshot == next(iter(saved)).result.snapshot


def test_values_of_variables_are_not_stored(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("API_TOKEN", "hunter2-hunter2")
    project.run(make("t", "p", reuse=True, env_inputs="API_TOKEN"))
    (one,) = [project.store.tasks[key] for key in project.store.tasks]
    assert "hunter2" not in repr(one.result.snapshot)
    assert all(b"hunter2" not in file.read_bytes() for file in tmp_path.glob("ledger*"))


# Bad input


@pytest.mark.parametrize(
    ("declared", "kind", "match"),
    [
        ({"inputs": 3}, TypeError, "inputs must be a str, or an iterable of them, got int: 3"),
        ({"inputs": [3]}, TypeError, "an item of inputs must be a str, got int: 3"),
        ({"outputs": b"x"}, TypeError, "outputs must be"),
        ({"inputs": {"a": 1}}, TypeError, "inputs must be"),
        ({"inputs": ""}, ValueError, "an item of inputs must be a non-empty str"),
        ({"inputs": "a\0"}, ValueError, "without a NUL character"),
        ({"env_inputs": "A=1"}, ValueError, "must be the name of a variable, got 'A=1'"),
        ({"tools": "'"}, ValueError, "must be a command such as 'gcc --version'"),
        ({"tools": [" "]}, ValueError, "an item of tools must be a non-empty str"),
        ({"reuse": False, "inputs": "a"}, ValueError, r"inputs=\('a',\) says when .* reuse=True"),
        ({"reuse": False, "tools": "a"}, ValueError, "needs reuse=True"),
    ],
)
def test_wrong_declarations_are_refused(
    declared: dict[str, Any], kind: type[Exception], match: str
) -> None:
    with pytest.raises(kind, match=match):
        Task.bash("true", **({"reuse": True} | declared))


def test_declarations_are_attributes_like_others() -> None:
    one = Task.bash("true", reuse=True, inputs=Path("a"), outputs=None)
    assert (one.inputs, one.outputs, one.tools) == (("a",), (), ())
    one.inputs = ["b", "b", Path("c")]
    assert one.inputs == ("b", "c")
    with pytest.raises(TypeError, match="tools must be"):
        one.tools = 4
    with pytest.raises(TypeError, match="did you mean 'inputs'"):
        task(file_dep="a")  # type: ignore[call-overload]


def test_an_error_survives_pickling() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(DeclarationError("t", "is wrong")))
    assert (str(error), error.title, error.problem) == ("Task 't': is wrong", "t", "is wrong")
    assert isinstance(error, ValueError)
    assert not isinstance(error, GraphError)
