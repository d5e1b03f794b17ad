"""Prints: what the program itself prints while a console is open."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from ttasks import sync
from ttasks.console.writer import Printed
from ttasks.model.context import TaskContext, current_context


class Prints:
    """In place of ``sys.stdout`` or ``sys.stderr``, gives whole lines to a console.

    So they neither disturb a footer nor split a line of a task. Lines that a task prints in this
    process are attributed to it, without secrets. Thread-safe; the lines of threads are not mixed.
    In a forked child, and after its removal, it writes to the file that it stands for.

    Attributes:
        original: the file that it stands for.
        is_open: False once it is removed; set under its lock.
    """

    def __init__(self, name: str, take: Callable[[Printed], None]) -> None:
        self._name = name
        self._take = take
        self._pid = os.getpid()
        # Protects the beginnings of lines with the tasks that printed them, by thread, and is_open,
        # so that nothing but these is taken once that is False.
        self._lock = sync.Lock()
        self._begun: dict[int, tuple[str, TaskContext | None]] = {}
        self.is_open = True
        self.original: TextIO | Prints = getattr(sys, name)

    def install(self) -> None:
        """Begin to stand for the file, also for handlers of the root logger that write to it."""
        setattr(sys, self._name, self)
        self._redirect(self.original, self)

    def remove(self) -> None:
        """Give the file back, unless somebody has put another there; pass on what is left."""
        file = self.original
        while isinstance(file, Prints) and not file.is_open:  # of a console that has closed before
            file = file.original
        if getattr(sys, self._name) is self:
            setattr(sys, self._name, file)
        self._redirect(self, file)
        with self._lock:
            self.is_open = False
            begun, self._begun = self._begun, {}
        for text, context in begun.values():
            self._take(_printed([text], context))

    @staticmethod
    def _redirect(before: object, after: Any) -> None:
        logging = sys.modules.get("logging")
        if logging is not None:
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                    handler.setStream(after)

    def write(self, text: str) -> int:
        """Print text: its lines are passed on as soon as they are whole."""
        if os.getpid() != self._pid:
            return self.original.write(text)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        thread, context = sync.get_ident(), current_context()
        lines: list[str] = []
        with self._lock:
            is_open = self.is_open
            if is_open:
                begun, owner = self._begun.pop(thread, ("", context))
                is_mine = owner is context
                *lines, rest = ((begun if is_mine else "") + text).split("\n")
                if rest:
                    self._begun[thread] = rest, context
        if not is_open:
            return self.original.write(text)
        if not is_mine:  # a task that has ended, or that this one runs inside of
            self._pass_on([begun], owner)
        self._pass_on(lines, context)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Print several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Pass on the beginning of a line as if it were whole: a question, for example."""
        if os.getpid() != self._pid:
            self.original.flush()
            return
        with self._lock:
            is_open = self.is_open
            begun, context = self._begun.pop(sync.get_ident(), ("", None))
        if not is_open:
            self.original.flush()
        elif begun:
            self._pass_on([begun], context)

    def _pass_on(self, lines: list[str], context: TaskContext | None) -> None:
        if not lines:
            return
        printed = _printed(lines, context)
        with self._lock:
            if self.is_open:
                self._take(printed)
                return
        self.original.write("".join(f"{line}\n" for line in printed.lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


def _printed(lines: list[str], context: TaskContext | None) -> Printed:
    """Lines of a task, without its secrets; or of the program, as they are."""
    if context is None:
        return Printed(tuple(lines))
    if context.redactor is not None:
        lines = context.redactor.text("\n".join(lines)).split("\n")
    return Printed(tuple(lines), context.id)
