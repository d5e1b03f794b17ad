"""Selection: which tasks a part of a graph has, and what must be there for it."""

from __future__ import annotations

from random import Random

import pytest

from ttasks import GraphError, Task, TaskGraph
from ttasks.model.selection import Selection, needed, part_of, select


def graph_of(edges: dict[str, str], finally_: str = "", keys: dict[str, str] | None = None):
    """A graph of one-letter titles, each with the letters of its dependencies."""
    graph = TaskGraph("letters")
    for title, after in edges.items():
        task = Task.bash("true", title=title, key=(keys or {}).get(title))
        graph.add(task, after=list(after), finally_=title in finally_)
    return graph


def titles(tasks: list[Task]) -> str:
    return "".join(task.title for task in tasks)


# a → b → c, d alone, e after b; f cleans up after c, g after everything's start
LETTERS = {"a": "", "b": "a", "c": "b", "d": "", "e": "b", "f": "c"}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), "abcdef"),
        (Selection(only=["d"]), "d"),
        (Selection(only=["b"]), "bf"),
        (Selection(only=["c", "d"]), "cdf"),
        (Selection(only=["[ad]"]), "adf"),
        (Selection(skip=["d", "e"]), "abcf"),
        (Selection(skip=["f"]), "abcdef"),
        (Selection(from_=["b"]), "bcef"),
        (Selection(from_=["d"]), "d"),
        (Selection(until=["b"]), "abf"),
        (Selection(until=["d"]), "d"),
        (Selection(from_=["b"], until=["c"]), "bcf"),
        (Selection(only=["d"], from_=["b"]), ""),
        (Selection(only=["f"]), "f"),
        (Selection(only=["x*"]), ""),
        (Selection(skip=["x*"]), "abcdef"),
        (Selection(skip=["[a-e]"]), ""),
    ],
)
def test_every_part_of_a_selection_narrows_it(selection: Selection, expected: str) -> None:
    graph = graph_of(LETTERS, finally_="f")
    assert titles(select(graph, selection)) == expected


def test_what_runs_again_takes_along_what_comes_after_it() -> None:
    graph = graph_of(LETTERS, finally_="f")
    ids = {graph.find("b").id, graph.find("d").id}
    assert titles(select(graph, Selection(again=ids))) == "bcdef"
    assert titles(select(graph, Selection(again=ids, skip=["e"]))) == "bcdf"
    assert select(graph, Selection(again=())) == []


def test_names_are_keys_or_titles_and_patterns_fit_both() -> None:
    graph = graph_of({"a": "", "b": "", "c": ""}, keys={"a": "lint", "b": "lint-docs"})
    assert titles(select(graph, Selection(only=["lint"]))) == "a"
    assert titles(select(graph, Selection(only=["lint*"]))) == "ab"
    assert titles(select(graph, Selection(only=["?"]))) == "abc"


def test_a_title_with_brackets_is_found_as_it_is() -> None:
    graph = TaskGraph()
    graph.add(Task.bash("true", title="test[3.11]"))
    graph.add(Task.bash("true", title="test3"))
    assert [task.title for task in select(graph, Selection(only=["test[3.11]"]))] == ["test[3.11]"]


def test_an_unknown_name_tells_the_near_ones() -> None:
    graph = TaskGraph("build")
    graph.add(Task.bash("true", title="compile"))
    with pytest.raises(GraphError, match=r"graph 'build' has no task 'compil'; .*'compile'"):
        select(graph, Selection(only=["compil"]))
    with pytest.raises(GraphError, match="no task 'x'"):
        select(graph, Selection(skip=["x"]))


def test_a_finally_task_after_nothing_always_comes_along() -> None:
    graph = graph_of({"a": "", "b": "", "z": ""}, finally_="z")
    assert titles(select(graph, Selection(only=["a"]))) == "az"


def test_needed_are_the_direct_dependencies_that_are_left_out() -> None:
    graph = graph_of(LETTERS, finally_="f")
    chosen = select(graph, Selection(only=["c", "e"]))
    assert titles(needed(graph, chosen)) == "b"
    assert needed(graph, select(graph, Selection(until=["c"]))) == []
    # a finally task cleans up whatever there is
    assert needed(graph, select(graph, Selection(only=["d"]))) == []


def test_a_part_keeps_tasks_flags_and_edges_of_what_is_in_it() -> None:
    graph = TaskGraph("whole", key="k")
    a = graph.add(Task.bash("true", title="a"))
    b = graph.add(Task.bash("true", title="b"), after=a)
    c = graph.add(Task.bash("true", title="c"), after=[a, b], required=False)
    part = part_of(graph, [c], [b])
    part.validate()
    assert list(part) == [b, c]
    assert part[c] == (b,)
    assert part[b] == ()
    assert part.is_optional(c)
    assert (part.title, part.key) == ("whole", "k")
    assert part.id != graph.id
    assert graph[c] == (a, b)


def test_a_finally_task_waits_for_what_runs_before_the_tasks_that_are_left_out() -> None:
    graph = graph_of({"a": "", "b": "a", "c": "b", "x": "", "z": "cx"}, finally_="z")
    chosen = select(graph, Selection(only=["a"]))
    part = part_of(graph, chosen, [])
    assert titles(list(part)) == "az"
    assert titles(list(part[graph.find("z")])) == "a"


@pytest.mark.parametrize("seed", range(40))
def test_random_parts_run_nothing_before_what_it_needs(seed: int) -> None:
    random = Random(seed)
    graph = TaskGraph()
    tasks: list[Task] = []
    for number in range(random.randint(1, 14)):
        after = random.sample(tasks, random.randint(0, min(3, len(tasks))))
        finals = [task for task in after if graph.is_finally(task)]
        is_final = bool(finals) or random.random() < 0.2
        tasks.append(
            graph.add(Task.bash("true", title=str(number)), after=after, finally_=is_final)
        )
    names = [task.title for task in random.sample(tasks, random.randint(1, len(tasks)))]
    kind = random.choice(["only", "skip", "from_", "until"])
    chosen = select(graph, Selection(**{kind: names}))
    ids = {task.id for task in chosen}
    missing = needed(graph, chosen)
    part = part_of(graph, chosen, missing)
    part.validate()
    for task in tasks:
        is_wanted = {
            "only": task.title in names,
            "skip": task.title not in names,
            "from_": task.title in names
            or any(end.title in names for end in tasks if task in graph.dependents(end, True)),
            "until": task.title in names
            or any(end.title in names for end in graph.dependents(task, True)),
        }[kind]
        if chosen and is_wanted and not graph.is_finally(task):
            assert task.id in ids
        if graph.is_finally(task) and any(
            task in graph.dependents(end, True) for end in chosen if not graph.is_finally(end)
        ):
            assert task.id in ids
        if task.id in ids and not graph.is_finally(task):
            assert is_wanted
            # all that it waited for in the whole is there
            assert set(part[task]) == set(graph[task])
