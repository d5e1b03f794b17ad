"""One turn of a Copilot session, as its events tell it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ttasks.errors import (
    ProviderAuthenticationError,
    ProviderError,
    ProviderResponseError,
    UnknownModelError,
)
from ttasks.model.prompt import PromptReply
from ttasks.prompts.provider import EMPTY, reason_of

if TYPE_CHECKING:
    from ttasks.prompts.provider import Channel

NAME = "GitHub Copilot"

_COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")


class CopilotTurn:
    """Takes the events of one session until its turn is over; for the loop's thread.

    A prompt is over with the first failed call of the model: whether to try again is decided by
    the task's `RetryPolicy`. An agent may have done much by then, so that the CLI's own retries are
    left to it, unless the failure is one that another try does not change.

    Attributes:
        done: the reply, or the error.
        ended: whether the session has nothing more to do.
        own_model: whether the model is one of the user's own setting, needing no account.
    """

    def __init__(self, channel: Channel, *, agent: bool, own_model: bool) -> None:
        from copilot.session_events import (
            AssistantMessageData,
            AssistantMessageDeltaData,
            AssistantUsageData,
            ModelCallFailureData,
            SessionErrorData,
            SessionIdleData,
        )

        self._handlers: dict[type, Any] = {
            AssistantMessageDeltaData: self._on_delta,
            AssistantMessageData: self._on_message,
            AssistantUsageData: self._on_usage,
            ModelCallFailureData: self._on_call_failure,
            SessionErrorData: self._on_error,
            SessionIdleData: self._on_idle,
        }
        self.channel = channel
        self.done: asyncio.Future[PromptReply] = asyncio.get_running_loop().create_future()
        self.ended = False
        self.own_model = own_model
        self._agent = agent
        self._text: list[str] = []
        self._streamed = False  # whether the message being written has come in chunks
        self._usage: dict[str, int] = {}
        self._message: Any = None
        self._failure: ProviderError | None = None

    def on_event(self, event: Any) -> None:
        """Take the next event of the session."""
        handle = self._handlers.get(type(event.data))
        if handle is not None and not self.ended:
            handle(event)

    def _on_delta(self, event: Any) -> None:
        chunk = event.data.delta_content
        if event.agent_id or not chunk:  # what sub-agents say is not the answer
            return
        self._write(chunk)
        self._streamed = True

    def _on_message(self, event: Any) -> None:
        if event.agent_id:
            return
        content = event.data.content or ""
        if content and not self._streamed:  # the server does not stream
            self._write(content)
        self._streamed = False
        self._message = event
        self._failure = None

    def _write(self, chunk: str) -> None:
        if not self._streamed and self._text and not self._text[-1].endswith("\n"):
            chunk = f"\n{chunk}"  # between two messages of an agent
        self._text.append(chunk)
        self.channel.emit(chunk)

    def _on_usage(self, event: Any) -> None:
        for name in _COUNTS:
            number = getattr(event.data, name, None)
            if isinstance(number, (int, float)):
                self._usage[name] = self._usage.get(name, 0) + int(number)

    def _on_call_failure(self, event: Any) -> None:
        data = event.data
        self._failure = reason_of(NAME, data.status_code, data.error_message or "")
        lasting = isinstance(self._failure, (ProviderAuthenticationError, UnknownModelError))
        if lasting or not self._agent:
            self._fail(self._failure)

    def _on_error(self, event: Any) -> None:
        data = event.data
        if self._failure is not None:
            self._fail(self._failure)
        elif self._message is not None and not "".join(self._text).strip():
            self._fail(ProviderResponseError(NAME, EMPTY))
        else:
            self._fail(reason_of(NAME, data.status_code, data.message or ""))

    def _on_idle(self, event: Any) -> None:
        self.ended = True
        if self.done.done():
            return
        if event.data.aborted:
            self._fail(ProviderError(NAME, "the turn was aborted"))
        elif self._message is None or not "".join(self._text).strip():
            self._fail(ProviderResponseError(NAME, EMPTY))
        else:
            self.done.set_result(self._reply(self._message))

    def _reply(self, message: Any) -> PromptReply:
        usage = dict(self._usage)
        if usage:
            counted = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
            usage["total_tokens"] = counted
        answer = message.data.content or ""
        return PromptReply("".join(self._text), usage or None, message.to_dict()["data"], answer)

    def _fail(self, error: ProviderError) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # a turn that is cancelled never asks for it
