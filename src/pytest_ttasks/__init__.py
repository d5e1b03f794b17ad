"""The hooks and fixtures that ttasks adds to pytest; pytest finds them by itself.

This package is apart from `ttasks` so that pytest can load it without importing that: nothing of
`ttasks` is imported until a fixture, option or marker is used, or an earlier pytest was killed.
The work is done by `ttasks.pytest_plugin`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ttasks.folders import has_traces

if TYPE_CHECKING:
    from ttasks import InMemoryStore, TaskExecutor, TaskGraph
    from ttasks.pytest_plugin.plugin import Plugin
    from ttasks.pytest_plugin.shared import Membership
    from ttasks.testing import EventRecorder

PLUGIN: pytest.StashKey[Plugin] = pytest.StashKey()
"""What the plugin knows in this process; there once something of it is used."""

NO_LEAKS = "ttasks_no_leaks"
"""The mark of tests that must leave nothing behind."""

MEMBERSHIP = "_ttasks_membership"
"""The fixture behind all graph fixtures with ``share="run"``."""


def plugin_of(config: pytest.Config) -> Plugin:
    """Return what the plugin knows; imports ttasks."""
    if PLUGIN not in config.stash:
        from ttasks.pytest_plugin.plugin import Plugin

        config.stash[PLUGIN] = Plugin(config)
    return config.stash[PLUGIN]


def _in_use(config: pytest.Config) -> Plugin | None:
    return config.stash.get(PLUGIN, None)


# Options and markers


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--ttasks-keep``."""
    group = parser.getgroup("ttasks")
    group.addoption(
        "--ttasks-keep",
        choices=("never", "failed"),
        default="never",
        help="keep the services of graph fixtures up after the tests: 'failed' if a test has "
        "failed, until Ctrl-C; 'never' is the default",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker; refuse options that exclude each other."""
    config.addinivalue_line(
        "markers",
        f"{NO_LEAKS}: fail the test if it leaves processes, threads, descriptors or executors "
        "behind",
    )
    if config.option.ttasks_keep != "never" and getattr(config.option, "numprocesses", None):
        raise pytest.UsageError(
            f"--ttasks-keep={config.option.ttasks_keep} is incompatible with distributing tests; "
            "use -n0"
        )


# The session


def pytest_sessionstart(session: pytest.Session) -> None:
    """End what a killed pytest has left."""
    if not hasattr(session.config, "workerinput") and has_traces(session.config):
        plugin_of(session.config).sweep()


@pytest.hookimpl(tryfirst=True)  # no worker runs a test until xdist has been told of all ends
def pytest_collection_finish(session: pytest.Session) -> None:
    """In a worker of xdist: tell the others whether it will use what they share."""
    if hasattr(session.config, "workerinput") and any(
        MEMBERSHIP in getattr(item, "fixturenames", ()) for item in session.items
    ):
        plugin_of(session.config).join()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """In the controller of xdist: end what a worker has left that was killed."""
    if error is not None and has_traces(node.config):
        plugin_of(node.config).sweep()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what is left, after a wait if it is to be kept."""
    plugin = _in_use(config)
    if plugin is not None:
        plugin.close()


# Each test


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note where the logs of services stand before a test."""
    plugin = _in_use(item.config)
    if plugin is not None:
        plugin.logs.begin_test()
    yield
    plugin = _in_use(item.config)
    if plugin is not None:
        plugin.leaks.end()  # if another plugin has kept `pytest_runtest_teardown` from it


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note what there is before a test that must not leave anything."""
    if item.get_closest_marker(NO_LEAKS) is not None:
        plugin_of(item.config).leaks.begin()


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Iterator[None]:
    """Do not blame a test for what a fixture for several tests makes."""
    plugin = _in_use(request.config)
    if plugin is None or fixturedef.scope == "function":
        yield
    else:
        with plugin.leaks.exempting():
            yield


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Fail a test that has left something, now that its fixtures are gone."""
    plugin = _in_use(item.config)
    left = [] if plugin is None else plugin.leaks.end()
    if left:
        pytest.fail("the test has left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show what services have printed during a test that failed."""
    outcome: Any = yield
    plugin = _in_use(item.config)
    if plugin is not None and call.excinfo is not None:
        report = outcome.get_result()
        if report.failed:
            plugin.logs.add_to(report)


# Fixtures


@pytest.fixture
def task_store() -> InMemoryStore:
    """Return the store of ``task_executor``: an empty one in memory. Override it to use another."""
    from ttasks import InMemoryStore

    return InMemoryStore()


@pytest.fixture
def task_executor(
    request: pytest.FixtureRequest, task_store: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TaskExecutor]:
    """Return an executor; after the test, whatever it still runs is cancelled and waited for."""
    plugin = plugin_of(request.config)
    with plugin.executor(task_store, lambda: tmp_path_factory.mktemp("ttasks-logs")) as executor:
        yield executor


@pytest.fixture
def task_events(task_executor: TaskExecutor) -> EventRecorder:
    """Return a recorder of all events of ``task_executor``."""
    from ttasks.testing import EventRecorder

    recorder = EventRecorder()
    task_executor.events.subscribe(recorder)
    return recorder


@pytest.fixture
def task_graph(request: pytest.FixtureRequest) -> TaskGraph:
    """Return an empty graph with the name of the test as its title, to be run by the test."""
    from ttasks import TaskGraph

    return TaskGraph(request.node.name)


@pytest.fixture(scope="session")
def _ttasks_membership(request: pytest.FixtureRequest) -> Iterator[Membership | None]:
    """What this process shares with the other workers of xdist; left after all graphs that do."""
    membership = plugin_of(request.config).join()
    yield membership
    problems = [] if membership is None else membership.leave()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
