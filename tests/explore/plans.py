"""Plans: small worlds of tasks, graphs, threads and trouble.

A plan is plain data, so that a failing seed can be read. Whoever adds a kind of work (services,
tasks made at run time) adds a kind of `Step` or `Action`, teaches it to `explore.world`, lets a
family draw it (`explore.families`), and says in `explore.checks` what must hold for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ttasks import DependencyPolicy


@dataclass(frozen=True)
class Action:
    """One call of the public API.

    Verbs: "run" (a graph), "execute", "submit", their forms for coroutines "arun" and "aexecute"
    (which are cancelled after ``patience`` seconds), "cancel" (the executor, a task), "cancel task"
    (the task itself), "cancel graph", "cancel futures", "save" (a task, by the store alone),
    "shutdown", "look" (statistics and views), "sleep". The option ``executor`` says which one, if
    not the first; ``then`` is what somebody does who hears that a submitted task is done.
    """

    verb: str
    target: int = 0
    options: tuple[tuple[str, object], ...] = ()

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options)
        return f"{self.verb}({self.target}{options})"


@dataclass(frozen=True)
class Step:
    """What one attempt does: reports, takes its time, and ends.

    Kinds: "ok", "fail", "cancelled" (raises TaskCancelled), "odd" (returns an object that cannot
    say its class), "frozen" (raises an exception that cannot be changed), "exit" (raises
    SystemExit), "nested" (runs a graph of its own).
    """

    kind: str = "ok"
    seconds: float = 0.0
    stubborn: bool = False
    """Does not end before its time when it is cancelled."""
    reports: int = 0
    action: Action | None = None
    """What the handler does before that."""


@dataclass(frozen=True)
class TaskPlan:
    steps: tuple[Step, ...] = (Step(),)
    is_async: bool = False
    timeout: float | None = None
    attempts: int = 1
    backoff: float = 0.0
    priority: float = 0.0
    group: str | None = None
    asks: int | None = None
    """How often its probe is called until it says that it is ready; -1 for never, 0 for a service
    without a probe; None for what is no service. The kind "stay" of its steps waits until it is
    stopped."""


@dataclass(frozen=True)
class Node:
    task: int
    after: tuple[int, ...] = ()
    finally_: bool = False
    required: bool = True
    policy: DependencyPolicy = DependencyPolicy.BLOCK


@dataclass(frozen=True)
class GraphPlan:
    nodes: tuple[Node, ...]
    key: str | None = None


@dataclass(frozen=True)
class Subscriber:
    """Does something at an event, a certain number of times. Kinds of actions are as above, and
    "raise", "raise frozen"."""

    kind: str | None
    action: Action
    times: int = 1
    title: int | None = None


@dataclass(frozen=True)
class Plan:
    tasks: tuple[TaskPlan, ...]
    graphs: tuple[GraphPlan, ...] = ()
    actors: tuple[tuple[Action, ...], ...] = ()
    """What each thread does; the first is the main thread."""
    subscribers: tuple[Subscriber, ...] = ()
    executors: int = 1
    """They have one store."""
    limits: tuple[tuple[str, int], ...] = ()
    breaks: bool = False
    """Groups have circuit breakers, which open at the second failure."""
    store: str | None = "shelf"
    """"shelf" (`explore.world.Shelf`), "ledger" (SQLite in memory) or None."""
    broken_saves: frozenset[int] = frozenset()
    strict: bool = False
    earlier_run: bool = False
    """Graph 0 has run before, in another process as it were: its key is in the store."""
    slow_reads: float = 0.0
    """Seconds that it takes to find the earlier run."""
    interrupts: tuple[int, ...] = ()
    interrupt_line: int | None = None
    guards: bool = False
    log_last: bool = False
    """The log hears of events after the other subscribers, not before them."""
    tags: frozenset[str] = field(default_factory=frozenset)
