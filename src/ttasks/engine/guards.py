"""Guards: who may refuse a task before its handler is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import CoroutineType
from typing import Any

from ttasks.errors import TaskRejectedError, text_of, type_name
from ttasks.forks import FORKS, end_copy
from ttasks.model.checks import check_callable, wrong_type
from ttasks.model.context import TaskContext

Guard = Callable[[TaskContext], Any]


def check_guards(guards: object) -> tuple[Guard, ...]:
    """The guards as a tuple; raises TypeError for what cannot be called."""
    if not isinstance(guards, Iterable) or isinstance(guards, (str, bytes)):
        raise wrong_type("guards", guards, "an iterable of callables")
    found = tuple(guards)
    for position, guard in enumerate(found):
        check_callable(f"guards[{position}]", guard)
    return found


def ask_guards(guards: tuple[Guard, ...], context: TaskContext) -> None:
    """Ask each guard in turn; return if none refuses.

    Raises:
        TaskRejectedError: a guard raised it, or raised something else, which the message names.
        TaskCancelled: the task was cancelled meanwhile, by a guard or by somebody else.
    """
    for guard in guards:
        forks = FORKS.count
        try:
            answer = guard(context)
            if FORKS.count != forks:
                end_copy("A guard")
            if type(answer) is CoroutineType:
                answer.close()
                raise TypeError("a guard must be a plain function; it gave a coroutine")
        except BaseException as error:
            if FORKS.count != forks:
                end_copy("A guard", error)
            if issubclass(type(error), (TaskRejectedError, KeyboardInterrupt)):
                raise
            context.raise_if_cancelled()
            name = getattr(guard, "__qualname__", None) or type(guard).__qualname__
            raise TaskRejectedError(
                f"Guard {name} rejected the task, because it raised "
                f"{type_name(error)}: {text_of(error)}"
            ) from error
        context.raise_if_cancelled()
