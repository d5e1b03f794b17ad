"""FakeHandler: a handler that follows a script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from threading import Lock
from typing import Any

from ttasks.errors import TaskCancelled
from ttasks.model.checks import check_number, wrong_type, wrong_value
from ttasks.model.context import TaskContext


class FakeHandler:
    """A handler that follows a script, and remembers its calls. Thread-safe.

    Args:
        script: title of a task to what its attempts do, one after the other: an exception (class
            or instance) is raised, anything else is returned; the last one is repeated. A list
            holds several, anything else stands for a list of one.
        default: what tasks do that the script does not name.
        delays: title to seconds that each attempt takes by the executor's clock; a cancellation
            ends it early.

    Raises:
        TypeError, ValueError: script or delays are no mappings from str, a list is empty, or a
            delay is not a number of at least 0.
    """

    def __init__(
        self,
        script: Mapping[str, Any] | None = None,
        *,
        default: Any = None,
        delays: Mapping[str, float] | None = None,
    ) -> None:
        self._script = _by_title("script", script)
        self._default = default
        self._delays = _by_title("delays", delays)
        for title, steps in [*self._script.items(), (None, default)]:
            if isinstance(steps, list) and not steps:
                name = "default" if title is None else f"script[{title!r}]"
                raise wrong_value(name, steps, "a list with a step for the first attempt")
        for title, seconds in self._delays.items():
            check_number(f"delays[{title!r}]", seconds, least=0)
        self._lock = Lock()  # owns the calls and their numbers
        self._calls: list[TaskContext] = []
        self._numbers: Counter[str] = Counter()

    @property
    def calls(self) -> list[TaskContext]:
        """The contexts it was called with, in that order."""
        with self._lock:
            return list(self._calls)

    @property
    def titles(self) -> list[str]:
        """Titles of the tasks it was called for, in that order."""
        return [context.title for context in self.calls]

    def __call__(self, context: TaskContext) -> Any:
        with self._lock:
            before = self._numbers[context.id]
            self._numbers[context.id] += 1
            self._calls.append(context)
        delay = self._delays.get(context.title)
        if delay is not None and context.wait_cancelled(delay):
            raise TaskCancelled
        steps = self._script.get(context.title, self._default)
        step = steps[min(before, len(steps) - 1)] if isinstance(steps, list) else steps
        if isinstance(step, BaseException) or (
            isinstance(step, type) and issubclass(step, BaseException)
        ):
            raise step
        return step


def _by_title(name: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(title, str) for title in value):
        raise wrong_type(name, value, "a mapping from the titles of tasks")
    return dict(value)
