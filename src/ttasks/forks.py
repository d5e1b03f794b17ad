"""Forks: a child process that user code makes with ``os.fork`` must not run the tasks too.

The child has one thread, in user code: a handler, a guard or a subscriber. If that code does not
end the child, the library ends it when the code returns::

    before = FORKS.count
    value = handler(context)
    if FORKS.count != before:
        end_copy("A handler")

A program that forks outside of tasks, and uses the library in the child, is not affected.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, NoReturn


class Forks:
    """How many forks lie between the import of the library and this process.

    Only the hook below changes it, while the new process has no other thread.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def note(self) -> None:
        """Count a fork; called in the new process."""
        self.count += 1


FORKS = Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=FORKS.note)


def end_copy(what: str, error: BaseException | None = None) -> NoReturn:
    """End this process at once, without any clean-up, which belongs to the parent.

    Args:
        what: whose code has forked, for the message on standard error.
        error: what that code raised. The status of a SystemExit is used, and nothing is said then.
    """
    if isinstance(error, SystemExit):
        os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))
    how = "returned" if error is None else f"raised {type(error).__name__}"
    text = (
        f"ttasks: {what} called os.fork() and {how} in the new process {os.getpid()} as well, "
        "which ends here, because it must not run the other tasks too; end it by os._exit()\n"
    )
    try:
        os.write(2, text.encode("utf-8", "replace"))
    finally:
        os._exit(1)


@coroutine
def watched(inner: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Await a coroutine; a copy of this process that it makes ends when it yields or returns."""
    before = FORKS.count
    step: Callable[[Any], Any] = inner.send
    given: Any = None
    while True:
        try:
            awaited = step(given)
        except StopIteration as end:
            if FORKS.count != before:
                end_copy("A coroutine")
            return end.value
        except BaseException as error:
            if FORKS.count != before:
                end_copy("A coroutine", error)
            raise
        if FORKS.count != before:
            end_copy("A coroutine")
        try:
            step, given = inner.send, (yield awaited)
        except GeneratorExit:
            inner.close()
            raise
        except BaseException as error:
            step, given = inner.throw, error
