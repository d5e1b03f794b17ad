"""FakePromptHandler: answers to prompts from a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from ttasks.model.context import TaskContext
from ttasks.model.prompt import PromptReply

PromptAnswer = str | PromptReply | BaseException | Sequence[str] | Callable[[TaskContext], Any]


@dataclass(frozen=True, slots=True)
class FakePromptCall:
    """One turn that a `FakePromptHandler` was asked for.

    Attributes:
        title: of the task.
        text: the prompt.
        options: of the task.
        attempt: number of the attempt, from 1.
    """

    title: str
    text: str
    options: Mapping[str, Any]
    attempt: int


class FakePromptHandler:
    """A handler of prompts and agents that answers from a script. Thread-safe.

    Args:
        answers: one for each turn, in order: a str; a sequence of str, which are its chunks; a
            `PromptReply`; an exception, which is raised; or a callable that takes the context and
            returns or raises any of these. With none every turn is answered with its own prompt.
        usage: token counts of answers that have none of their own; None means that a word is a
            token.

    Attributes:
        calls: what was asked for, in order.
        closed: whether an executor has closed it.

    Example:
        >>> from ttasks import Task, TaskExecutor, TaskType
        >>> fake = FakePromptHandler(["Up", "grade it."])
        >>> with TaskExecutor() as executor:
        ...     executor.register(TaskType.PROMPT, fake)
        ...     executor.execute(Task.prompt("What now?")).output
        'Upgrade it.'
        >>> fake.calls[0].text
        'What now?'
    """

    def __init__(self, *answers: PromptAnswer, usage: Mapping[str, int] | None = None) -> None:
        self._answers = answers
        self._usage = usage
        self._lock = Lock()  # owns the calls
        self.calls: list[FakePromptCall] = []
        self.closed = False

    def __call__(self, context: TaskContext) -> PromptReply:
        """Give the next answer of the script.

        Raises:
            AssertionError: the script is over.
        """
        call = FakePromptCall(context.title, context.payload, context.options, context.attempt)
        with self._lock:
            number = len(self.calls)
            self.calls.append(call)
        if not self._answers:
            return self._reply(context, context.payload)
        if number >= len(self._answers):
            raise AssertionError(
                f"FakePromptHandler was given {len(self._answers)} answers, and is asked for more: "
                f"{context.payload!r}"
            )
        return self._reply(context, self._answers[number])

    def close(self) -> None:
        """Note that it was closed; it still answers."""
        self.closed = True

    def _reply(self, context: TaskContext, answer: Any) -> PromptReply:
        if callable(answer):
            answer = answer(context)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, PromptReply):
            if answer.text:
                context.emit_output(answer.text)
            return answer
        chunks = [answer] if isinstance(answer, str) else list(answer)
        for chunk in chunks:
            context.raise_if_cancelled()
            context.emit_output(chunk)
        text = "".join(chunks)
        return PromptReply(text, self._counts(context, text), {"content": text})

    def _counts(self, context: TaskContext, text: str) -> Mapping[str, int]:
        if self._usage is not None:
            return self._usage
        asked, said = len(context.payload.split()), len(text.split())
        return {"input_tokens": asked, "output_tokens": said, "total_tokens": asked + said}
