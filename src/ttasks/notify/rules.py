"""Rules: which runs people are told of, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from inspect import iscoroutinefunction
from itertools import islice, takewhile
from statistics import median

from ttasks.model.checks import check_int, check_number, wrong_type
from ttasks.model.facts import RunFacts
from ttasks.notify.message import Reason
from ttasks.report.labels import count, joined, one_line, seconds

EARLIER_RUNS = 1000
"""How many earlier runs a rule is shown at most."""

_BAD = frozenset({"failed", "timeout"})


class EndedRun:
    """A run that has ended, and those before it.

    Attributes:
        facts: of the run.
    """

    def __init__(self, facts: RunFacts, earlier: Callable[[], Iterable[RunFacts]]) -> None:
        self.facts = facts
        self._earlier = earlier
        self._row: tuple[int, bool] | None = None

    @property
    def failed(self) -> bool:
        """True if it failed or ran out of time. Cancelled and interrupted runs did not fail."""
        return self.facts.outcome in _BAD

    def earlier(self) -> Iterator[RunFacts]:
        """Earlier runs of the same graph, the latest first, up to 1,000.

        They are facts without tasks, as from `Run.head`. Without a key, only runs of the very same
        `TaskGraph` count as runs of the same graph.
        """
        return islice(iter(self._earlier()), EARLIER_RUNS)

    def failures_before(self) -> int:
        """How many runs in a row failed just before it, up to 1,000.

        Those that neither failed nor succeeded are passed over.
        """
        return self._row_of_failures()[0]

    def row_is_longer(self) -> bool:
        """True if the row of failures began before the earlier runs that are known."""
        return self._row_of_failures()[1]

    def _row_of_failures(self) -> tuple[int, bool]:
        if self._row is None:
            row = list(takewhile(lambda run: run.outcome != "ok", self.earlier()))
            self._row = sum(run.outcome in _BAD for run in row), len(row) >= EARLIER_RUNS
        return self._row


Rule = Callable[[EndedRun], Reason | None]
"""Called with a run that has ended; returns why people are to be told of it, or None."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A run failed or ran out of time, and the one before did not."""

    def __call__(self, run: EndedRun) -> Reason | None:
        """See `Rule`."""
        if not run.failed or run.failures_before():
            return None
        return Reason("failed", _what_failed(run.facts))


@dataclass(frozen=True, slots=True)
class StillFailing:
    """A run failed again, and how often in a row.

    Args:
        every: tell only of every so many of them: with 10, of the 2nd, the 12th, and so on.
    """

    every: int = 1

    def __post_init__(self) -> None:
        check_int("every", self.every, least=1)

    def __call__(self, run: EndedRun) -> Reason | None:
        """See `Rule`."""
        if not run.failed:
            return None
        before, is_longer = run.failures_before(), run.row_is_longer()
        # Where the count stops, the number of the run goes on.
        if not before or (run.facts.number if is_longer else before - 1) % self.every:
            return None
        times = f"more than {before:,}" if is_longer else f"{before + 1:,}"
        what = _what_failed(run.facts)
        return Reason("still_failing", f"still failing, {times} times in a row: {what}")


@dataclass(frozen=True, slots=True)
class Mended:
    """A run succeeded after others that failed."""

    def __call__(self, run: EndedRun) -> Reason | None:
        """See `Rule`."""
        if not run.facts.ok:
            return None
        before = run.failures_before()
        return Reason("mended", f"succeeded after {count(before, 'failure')}") if before else None


@dataclass(frozen=True, slots=True)
class Slower:
    """A run succeeded, but took longer than the median of those before it.

    Args:
        ratio: how many times the median, above 1.
        least_seconds: and by how many seconds at least.
        least_runs: how many earlier runs that succeeded it takes; of the latest 20.
    """

    ratio: float = 1.5
    _: KW_ONLY
    least_seconds: float = 1.0
    least_runs: int = 3

    def __post_init__(self) -> None:
        check_number("ratio", self.ratio, above=1)
        check_number("least_seconds", self.least_seconds, least=0)
        check_int("least_runs", self.least_runs, least=1)

    def __call__(self, run: EndedRun) -> Reason | None:
        """See `Rule`."""
        took = run.facts.elapsed
        if not run.facts.ok:
            return None
        good = (item.elapsed for item in run.earlier() if item.ok)
        times = list(islice(good, 20))
        if len(times) < self.least_runs:
            return None
        usual = median(times)
        if took < self.ratio * usual or took < usual + self.least_seconds:
            return None
        return Reason("slower", f"took {seconds(took)}, usually {seconds(usual)}")


@dataclass(frozen=True, slots=True)
class CleanupFailed:
    """A finally task failed, whatever became of the run, or did not come to run."""

    def __call__(self, run: EndedRun) -> Reason | None:
        """See `Rule`."""
        bad = [task for task in run.facts.tasks.values() if task.is_finally and task.status.is_bad]
        if not bad:
            return None
        names = joined([repr(one_line(task.title, 60)) for task in bad], 3)
        return Reason("cleanup_failed", f"cleanup failed: {names}")


@dataclass(frozen=True, slots=True)
class Always:
    """Any run has ended."""

    def __call__(self, run: EndedRun) -> Reason | None:
        """See `Rule`."""
        return Reason("ended", f"ended: {run.facts.outcome}")


DEFAULT_RULES: tuple[Rule, ...] = (Failed(), StillFailing(), Mended(), Slower(), CleanupFailed())


def check_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules.

    Raises:
        TypeError: one is no function, or a coroutine function; or they are no iterable.
        ValueError: there is none.
    """
    if isinstance(rules, (str, bytes)) or not isinstance(rules, Iterable):
        raise wrong_type("rules", rules, "an iterable of rules such as Failed()")
    found = tuple(rules)
    for at, rule in enumerate(found):
        if isinstance(rule, type):
            raise TypeError(f"rules[{at}] is the class {rule.__name__}; write {rule.__name__}()")
        if not callable(rule):
            raise wrong_type(f"rules[{at}]", rule, "a rule such as Failed(), or a function")
        if iscoroutinefunction(rule):
            raise TypeError(f"rules[{at}] is a coroutine function; a rule is a plain function")
    if not found:
        raise ValueError("there is no rule; give at least one, or leave rules= away")
    return found


def _what_failed(facts: RunFacts) -> str:
    if facts.outcome == "timeout":
        return "ran out of time"
    failed = [task for task in facts.tasks.values() if task.required and task.status.is_bad]
    names = [repr(one_line(task.title, 60)) for task in failed if task.status.value == "failed"]
    if names:
        return f"{joined(names, 2)} failed"
    return one_line(facts.error or "failed")
