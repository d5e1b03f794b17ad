"""The interface of a provider of language models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ttasks.model.prompt import PermissionRequest, PromptReply


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What is asked for in one turn.

    Attributes:
        text: the prompt.
        options: the handler's options, overridden by those of the task; see `prompt_options`.
    """

    text: str
    options: Mapping[str, Any]


class Channel(Protocol):
    """Where a turn reports to while it goes on; for the thread of the event loop."""

    def emit(self, text: str) -> None:
        """Pass on the next chunk of the answer."""

    async def ask(self, request: PermissionRequest) -> bool | None:
        """Wait for the decision whether the agent may do something; None if the turn has ended."""


class Provider(Protocol):
    """A way to a language model; opened when the first turn begins and then reused.

    `turn` and `close` are coroutines of one event loop; several turns may be under way at once.
    Errors are a `ttasks.errors.ProviderError` each, without a secret in any text.
    """

    name: str

    async def turn(self, request: TurnRequest, channel: Channel) -> PromptReply:
        """Ask the model, emit its answer in chunks, and return the whole.

        When it is cancelled, or raises, nothing of the turn goes on.
        """

    async def close(self) -> None:
        """End every process, thread and connection; no turn is under way.

        May be called again, and after ``kill``: then what is left is to be closed.
        """

    def kill(self) -> None:
        """End every process at once, from any thread, without waiting for the event loop."""


OpenProvider = Callable[[], Provider]
"""Opens a provider; raises MissingExtraError if what it needs is not installed."""
