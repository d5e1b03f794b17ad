"""graph_fixture: a graph of tasks as a fixture."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_ttasks import MEMBERSHIP, plugin_of
from ttasks.engine.executor import TaskExecutor
from ttasks.model.checks import check_callable, wrong_type, wrong_value
from ttasks.model.graph import TaskGraph
from ttasks.pytest_plugin.live import LiveGraph, SetUpFailed

if TYPE_CHECKING:
    from ttasks.pytest_plugin.plugin import Plugin
    from ttasks.pytest_plugin.shared import Membership

Scope = Literal["session", "package", "module", "class", "function"]
_SCOPES = ("session", "package", "module", "class", "function")


def graph_fixture(
    factory: Callable[..., Any],
    *,
    scope: Scope = "session",
    share: Literal["worker", "run"] = "worker",
    executor: Callable[[], TaskExecutor] = TaskExecutor,
) -> Any:
    """Make a fixture of a graph: it is set up before the tests that use it, and ended after them.

    Assign the result to the name of the fixture, in a ``conftest.py`` or in a file of tests. All
    tasks that are not finally have run before the first test, and services are ready; if one that
    is required did not succeed, the tests that use the fixture fail with its error. After the last
    test services are stopped, and the finally tasks run; if one of them fails, or a service has
    died meanwhile, that is an error of the last test.

    A test gets the graph, or the value that the factory returns beside it, such as an address.

    Args:
        factory: returns a new graph, or a tuple of a graph and a value. Its parameters without
            defaults are fixtures.
        scope: as for ``pytest.fixture``.
        share: "worker" means that each process of tests has a graph of its own. "run" means that
            all workers of xdist on this machine use one: the first that needs it runs it, and ends
            it when no other will use it any more. Then the factory must return a value, which has
            to be JSON. A worker that is killed takes its graph with it; the one that replaces it
            runs the graph again.
        executor: called to make the executor of the graph, which is shut down at the end.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Example:
        >>> from ttasks import Task, TaskGraph
        >>> def build(tmp_path_factory):
        ...     folder = tmp_path_factory.mktemp("data")
        ...     graph = TaskGraph("data")
        ...     made = graph.add(Task.bash("echo 1 > numbers", cwd=folder))
        ...     graph.add(Task.bash("rm numbers", cwd=folder), after=made, finally_=True)
        ...     return graph, folder
        >>> data = graph_fixture(build)
    """
    check_callable("factory", factory)
    check_callable("executor", executor)
    if scope not in _SCOPES:
        raise wrong_value("scope", scope, f"one of {', '.join(_SCOPES)}")
    if share not in ("worker", "run"):
        raise wrong_value("share", share, "'worker' or 'run'")
    if share == "run" and scope != "session":
        raise ValueError(f"share='run' needs scope='session', got scope={scope!r}")
    wanted = _fixtures_of(factory)
    names = ["request", *wanted, *([MEMBERSHIP] if share == "run" else [])]

    def run(**found: Any) -> Iterator[Any]:
        __tracebackhide__ = True  # an error of the factory shows its own frames only
        request: pytest.FixtureRequest = found["request"]
        plugin = plugin_of(request.config)
        made = _Factory(factory, {name: found[name] for name in wanted})
        membership: Membership | None = found.get(MEMBERSHIP)
        if membership is None:
            yield from _own(plugin, request, made, executor)
        else:
            yield _shared(plugin, request, made, executor, membership)

    run.__name__, run.__doc__ = getattr(factory, "__name__", "graph"), factory.__doc__
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in dict.fromkeys(names)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return pytest.fixture(scope=scope)(run)


class _Factory:
    """Calls a factory, and checks what it returns."""

    def __init__(self, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        self._function = function
        self._arguments = arguments
        self.name = f"{function.__module__}.{getattr(function, '__qualname__', 'graph')}"

    def __call__(self) -> tuple[TaskGraph, Any]:
        __tracebackhide__ = True
        made = self._function(**self._arguments)
        if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], TaskGraph):
            return made
        if isinstance(made, TaskGraph):
            return made, made
        raise wrong_type(
            f"what {self.name} returns", made, "a TaskGraph, or a TaskGraph and a value"
        )


def _fixtures_of(factory: Callable[..., Any]) -> list[str]:
    """The names of the parameters that have no default."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        parameter.name
        for parameter in inspect.signature(factory).parameters.values()
        if parameter.kind in kinds and parameter.default is inspect.Parameter.empty
    ]


def _own(
    plugin: Plugin,
    request: pytest.FixtureRequest,
    factory: _Factory,
    executor: Callable[[], TaskExecutor],
) -> Iterator[Any]:
    """Run a graph for this process."""
    __tracebackhide__ = True
    logs = request.getfixturevalue("tmp_path_factory").mktemp("ttasks-logs")
    graph, value = factory()
    with _told(request):
        live = plugin.begin(graph, executor, logs, f"{request.fixturename} = {value!r}")
    yield value
    problem = plugin.finish(live, request)
    if problem is not None:
        pytest.fail(f"the graph of fixture {request.fixturename!r}: {problem}", pytrace=False)


def _shared(
    plugin: Plugin,
    request: pytest.FixtureRequest,
    factory: _Factory,
    executor: Callable[[], TaskExecutor],
    membership: Membership,
) -> Any:
    """Run a graph for all workers, or use the one that another worker runs."""
    __tracebackhide__ = True

    def begin(logs: Path) -> tuple[LiveGraph, Any]:
        __tracebackhide__ = True
        graph, value = factory()
        if value is graph:
            raise ValueError(
                f"{factory.name} must return its graph and a value: with share='run' other "
                "processes use the graph too, and get only the value"
            )
        return plugin.begin(graph, executor, logs, f"{request.fixturename} = {value!r}"), value

    with _told(request):
        value, logs = membership.share(f"{request.fixturename}-{factory.name}", begin)
    plugin.logs.watch(logs)
    return value


@contextmanager
def _told(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test with what has gone wrong in a graph, without a traceback of the library."""
    try:
        yield
    except SetUpFailed as error:
        message = f"the graph of fixture {request.fixturename!r} could not be set up: {error}"
        raise pytest.fail.Exception(message, pytrace=False) from None
