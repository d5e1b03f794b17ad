"""What the engine adds to the attempt of a service: whether it is ready, and what its end means.

attempt ── start ──→ Aside ──→ backend ── handler ──────────────→ attempt.end
   └── Readiness ── probe, again and again ──→ attempt.ready ──→ the plan unlocks dependents
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from ttasks import sync
from ttasks.engine.aside import Count, SideThread, Working
from ttasks.errors import (
    GraphError,
    ServiceError,
    TaskCancelled,
    TaskExecutionError,
    TaskTimeoutError,
    describe,
)
from ttasks.model.cancel import CancelToken
from ttasks.model.policy import DependencyPolicy
from ttasks.model.status import SUCCEEDED, TaskStatus
from ttasks.model.task import is_service
from ttasks.model.task_type import TaskType
from ttasks.model.topology import Topology

if TYPE_CHECKING:
    from ttasks.model.clock import Clock
    from ttasks.model.graph import Node
    from ttasks.model.service import Service
    from ttasks.model.task import Task

STOP_PATIENCE = 2.0
"""Seconds that a stopped service has to end before it is left behind, if nothing can kill it."""

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.02
"""Seconds between two probes: the first pause, and the last unless a probe takes longer."""

_JOIN_SECONDS = 0.5
"""How long the end of a run waits for a probe that has not returned."""

_LONGEST_LINE = 64 * 1024


class Readiness:
    """Whether the service of an attempt is ready, and what the end of the attempt means.

    Args:
        service: what it says of itself.
        token: of the attempt.
        clock: by which the probe waits.
        working, abandoned: of the thread of the probe; see `SideThread`.

    Attributes:
        is_ready: READY is being announced, or has been.
        side: the thread of the probe; None if it has none.
    """

    def __init__(
        self, service: Service, token: CancelToken, clock: Clock, working: Working, abandoned: Count
    ) -> None:
        self._service = service
        self._token = token
        self._clock = clock
        self._working = working
        self._abandoned = abandoned
        # Protects `is_ready` with `_is_denied`, the places, and what was seen of the output.
        self._lock = sync.Lock()
        self._probe: Any = None
        self._stop = CancelToken()  # of the probe
        self._has_begun = False
        self._has_places = True
        self._is_denied = False
        self._tell: Callable[[], None] | None = None
        self._line = ""
        self._seen = False  # the line that it was to print
        self._is_asking = False  # the probe has been called, and has not returned
        self._trouble: str | None = None  # what the probe raised last
        self.is_ready = False
        self.side: SideThread | None = None

    # From the start to READY

    def check(self) -> None:
        """Check what can be checked before the service starts; raises what is wrong."""
        from ttasks.ready import BuiltIn, probe_of

        self._probe = probe_of(self._service.ready)
        if isinstance(self._probe, BuiltIn):
            problem = self._probe.taken()
            if problem is not None:
                raise ServiceError(f"The service was not started: {problem}", "not_ready")
        self._has_begun = True

    @property
    def watches(self) -> bool:
        """True if the output says when it is ready."""
        return hasattr(self._probe, "matches")

    def begin(self, tell: Callable[[], None]) -> None:
        """The service has started: call ``tell`` once, on some thread, when it is ready."""
        with self._lock:
            self._tell = tell
            is_seen = self._seen
        if self._probe is None or is_seen:
            tell()
        elif not self.watches:
            side = SideThread(
                self._ask, "ttasks-ready", self._working, self._abandoned, _JOIN_SECONDS
            )
            try:
                side.start()
            except RuntimeError as error:  # no thread can be started
                self._trouble = describe(error)
                self._token.cancel("not_ready")
            else:
                self.side = side

    def saw(self, text: str) -> None:
        """The service has printed something."""
        if self.is_ready or not self.watches:
            return
        with self._lock:
            text = self._line + text
            self._line = text[text.rfind("\n") + 1 :][-_LONGEST_LINE:]
        if self._probe.matches(text):
            with self._lock:
                is_first, self._seen = not self._seen, True
                tell = self._tell
            if is_first and tell is not None:
                tell()

    def _ask(self) -> None:
        """Call the probe until it is ready, or `stop`."""
        pause, now = _FIRST_PAUSE, self._clock.now
        while not self._stop.cancelled:
            asked = now()
            self._is_asking = True
            found = self._is_true()
            self._is_asking = False
            if found:
                if not self._stop.cancelled and self._tell is not None:
                    self._tell()
                return
            took = now() - asked
            if self._stop.wait(max(pause, 2 * took), self._clock):
                return
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _is_true(self) -> bool:
        probe = self._probe
        check = getattr(probe, "check", None)
        try:
            found = probe() if check is None else check(self._stop)
            if iscoroutine(found):
                found.close()
                raise TypeError("the probe returned a coroutine; it must be a plain function")
            if found:
                return True
            self._trouble = None
        except BaseException as error:  # whatever it is, the service is not ready
            if not self._stop.cancelled:
                self._trouble = f"{type(error).__name__}: {describe(error)}"
        return False

    def become_ready(self) -> bool:
        """Set ``is_ready``; False if `deny` came before."""
        with self._lock:
            self.is_ready = not self._is_denied
            return self.is_ready

    def deny(self) -> bool:
        """Let it not become ready any more; False if it is ready already."""
        with self._lock:
            self._is_denied = not self.is_ready
            return self._is_denied

    def stop(self) -> None:
        """Ask no more."""
        self._stop.cancel(kill=True)

    def give_places(self) -> bool:
        """True once: whoever asks first gives back the places in groups."""
        with self._lock:
            has, self._has_places = self._has_places, False
            return has

    @property
    def has_places(self) -> bool:
        """True until the places in groups are given back."""
        return self._has_places

    # The end

    @property
    def may_be_retried(self) -> bool:
        """True unless it was ready, or was asked to stop."""
        return not self.is_ready and self._token.reason != "stopped"

    def verdict(
        self, task: Task, value: Any, raised: BaseException | None
    ) -> tuple[Any, BaseException | None]:
        """What came of the attempt, from what came out of its handler."""
        reason = self._token.reason
        was_ended = raised is None or issubclass(type(raised), TaskCancelled)
        completed = getattr(raised, "completed", None) if was_ended else None
        if reason == "stopped":
            return (
                (value if completed is None else completed, None) if was_ended else (value, raised)
            )
        if reason == "not_ready":
            late = ServiceError(self._why_not_ready(task, completed), "not_ready", completed)
            if not was_ended:
                late.__cause__ = raised
            return value, late
        if self._token.cancelled or not self._has_begun or _is_no_death(task, raised):
            return value, raised
        return value, self._death(value, raised)

    def _why_not_ready(self, task: Task, completed: Any) -> str:
        text = f"Service was not ready within {self._service.ready_timeout:g} seconds"
        if self.watches:
            text += f": it printed no line that matches {self._probe.pattern.pattern!r}"
        elif self._trouble is not None:
            text += f": {self._trouble}"
        elif self._is_asking:
            text += ": the probe has not returned"
        tail = _last_line(completed)
        return f"{text}; its last line was: {tail}" if tail else text

    def _death(self, value: Any, raised: BaseException | None) -> ServiceError:
        text = "Service died" if self.is_ready else "Service died before it was ready"
        completed = value if hasattr(value, "returncode") else getattr(raised, "completed", None)
        if raised is not None:
            name = "" if completed is not None else f"{type(raised).__name__}: "
            text += f": {name}{describe(raised)}"
        elif completed is not None:
            text += ": it exited with code 0 (a service has to stay in the foreground)"
        else:
            text += ": its function returned"
        error = ServiceError(text, "died", completed)
        if raised is not None:
            error.__cause__ = raised.__cause__
            error.__traceback__ = raised.__traceback__
        return error


def _is_no_death(task: Task, raised: BaseException | None) -> bool:
    """True for an error that did not come from the service itself."""
    if raised is None:
        return False
    kind = type(raised)
    if issubclass(kind, (TaskTimeoutError, TaskCancelled)):
        return True
    if task.type is TaskType.PYTHON:
        return hasattr(raised, "task_id")  # `TaskArgumentError`
    return issubclass(kind, TaskExecutionError) and getattr(raised, "completed", None) is None


def _last_line(completed: Any) -> str:
    for text in (getattr(completed, "stderr", None), getattr(completed, "stdout", None)):
        last = (text or "").rstrip().rpartition("\n")[2].strip()
        if last:
            return last[:500]
    return ""


# Services in a graph


def services_in(nodes: Sequence[Node]) -> frozenset[int]:
    """The numbers of the nodes that are services."""
    return frozenset([at for at, node in enumerate(nodes) if is_service(node.task)])


def check_services(nodes: Sequence[Node], topology: Topology, services: frozenset[int]) -> None:
    """Check that the services of a graph can do their work.

    Raises:
        GraphError: one is to be reused, or has ended although something after it is to run.
    """
    for at in sorted(services):
        task = nodes[at].task
        if task.reuse:
            raise GraphError(
                f"Service {task.title!r} has reuse=True, but no earlier result stands for a service"
            )
        if not task.is_succeeded:
            continue
        for after in _reached(at, topology.dependents, set(range(len(nodes)))):
            user = nodes[after].task
            if not user.status.is_sink:
                raise GraphError(
                    f"Service {task.title!r} has ended, and cannot start again for {user.title!r}; "
                    "build the graph anew, with a key, and run it with resume=True"
                )


def for_plan(
    nodes: Sequence[Node],
    topology: Topology,
    services: frozenset[int],
    finished: dict[int, TaskStatus],
) -> Topology:
    """The edges for a plan: what had ended before does not stand between a service and others.

    A node that comes after a service only through such nodes becomes its dependent: it waits until
    the service is ready, like those. A fallback does not: it stands in for its own upstreams.
    """
    if not finished or not services:
        return topology
    dependencies, dependents = topology.dependencies, topology.dependents
    through = {at for at, outcome in finished.items() if outcome is SUCCEEDED}
    added: dict[int, list[int]] = {}
    for service in sorted(services - finished.keys()):
        for node in sorted(_reached(service, topology.dependents, through) - finished.keys()):
            is_fallback = nodes[node].policy is DependencyPolicy.ON_FAILURE
            if service not in dependencies[node] and not is_fallback:
                added.setdefault(service, []).append(node)
    if not added:
        return topology
    dependencies, dependents = list(dependencies), list(dependents)
    for service, users in added.items():
        dependents[service] = sorted([*dependents[service], *users])
        for node in users:
            dependencies[node] = (*dependencies[node], service)
    return Topology(dependencies, dependents)


def _reached(start: int, dependents: Sequence[Sequence[int]], through: set[int]) -> set[int]:
    """The nodes that come after one, directly or through certain others."""
    found: set[int] = set()
    left = [start]
    while left:
        for node in dependents[left.pop()]:
            if node not in found:
                found.add(node)
                if node in through:
                    left.append(node)
    return found
