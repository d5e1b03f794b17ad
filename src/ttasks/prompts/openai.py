"""Any server that speaks OpenAI's chat completions, as a provider of prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ttasks.errors import (
    MissingExtraError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderResponseError,
)
from ttasks.model.prompt import PromptReply
from ttasks.prompts.provider import (
    EMPTY,
    Secret,
    clean,
    malformed,
    no_connection,
    password_of,
    reason_of,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from ttasks.prompts.provider import Channel, TurnRequest

NAME = "OpenAI-compatible server"
NO_KEY = "none"
"""What is sent as key to a server that was given without one; such servers ignore it."""


class OpenAIProvider:
    """One HTTP client of the official SDK; its connections are reused between turns.

    Args:
        base_url: the server, up to and without ``/chat/completions``; None means what the
            environment says (``OPENAI_BASE_URL``), or else OpenAI.
        api_key: None means what the environment says (``OPENAI_API_KEY``), or else none.

    Raises:
        MissingExtraError: the SDK is not installed.
    """

    name = NAME

    def __init__(self, *, base_url: Secret, api_key: Secret) -> None:
        try:
            import openai  # noqa: F401
        except ImportError as error:
            if error.name is not None and error.name.partition(".")[0] != "openai":
                raise  # it is there, and something else is missing
            raise MissingExtraError("openai", "A prompt to an OpenAI-compatible server") from None
        self._base_url = base_url
        self._api_key = api_key
        self._client: AsyncOpenAI | None = None

    async def turn(self, request: TurnRequest, channel: Channel) -> PromptReply:
        """See `ttasks.prompts.provider.Provider`."""
        try:
            return await self._ask(self._opened(), request, channel)
        except ProviderError as error:
            # Made anew, so that no traceback leads into frames that hold a key.
            reason = clean(error.reason, self._secrets())
            raise type(error)(error.provider, reason, error.status) from None
        except Exception as error:
            found = self._reason_of(error)
            raise type(found)(
                self.name, clean(found.reason, self._secrets()), found.status
            ) from None

    async def close(self) -> None:
        """See `ttasks.prompts.provider.Provider`."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def kill(self) -> None:
        """See `ttasks.prompts.provider.Provider`; there are no processes."""

    def _opened(self) -> AsyncOpenAI:
        if self._client is None:
            from openai import AsyncOpenAI, OpenAIError

            url, key = self._base_url.get(), self._api_key.get()
            # A task is tried again as its RetryPolicy says, and its time is limited by the turn.
            options: dict[str, Any] = {"base_url": url, "max_retries": 0, "timeout": None}
            try:
                self._client = AsyncOpenAI(api_key=key, **options)
            except OpenAIError as error:
                if url is None:
                    raise ProviderAuthenticationError(self.name, str(error)) from None
                self._client = AsyncOpenAI(api_key=NO_KEY, **options)
        return self._client

    def _secrets(self) -> list[str]:
        keys = [self._api_key.get(), getattr(self._client, "api_key", None)]
        found = [key for key in keys if isinstance(key, str) and key and key != NO_KEY]
        base_url = self._base_url.get() or str(getattr(self._client, "base_url", ""))
        return found + password_of(base_url)

    async def _ask(
        self, client: AsyncOpenAI, request: TurnRequest, channel: Channel
    ) -> PromptReply:
        stream = await client.chat.completions.create(
            **_arguments(request, own_server="openai.com" not in client.base_url.host),
            stream=True,
            stream_options={"include_usage": True},
        )
        async with stream:
            answer = _Answer(channel)
            if "event-stream" in stream.response.headers.get("content-type", ""):
                async for chunk in stream:
                    answer.add(chunk.to_dict())
                if not answer.message.get("finish_reason"):
                    raise ProviderConnectionError(
                        self.name, "the connection ended in the middle of the answer"
                    )
            else:  # a server that cannot stream sends all at once
                answer.add(json.loads(await stream.response.aread()))
        return answer.reply()

    def _reason_of(self, error: Exception) -> ProviderError:
        import openai

        if isinstance(error, openai.APIStatusError):
            return reason_of(self.name, error.status_code, _text_of(error))
        if isinstance(error, openai.APIConnectionError):
            return no_connection(self.name, _why_no_connection(error))
        if isinstance(error, openai.APIError):  # in the middle of the stream
            return ProviderConnectionError(self.name, f"the model's server failed: {error.message}")
        if isinstance(error, (ValueError, TypeError, AttributeError, KeyError)):
            return malformed(self.name, str(error))
        return ProviderError(self.name, str(error) or type(error).__name__)


class _Answer:
    """The answer as it arrives: chunks, or one complete message."""

    def __init__(self, channel: Channel) -> None:
        self.message: dict[str, Any] = {}
        self._channel = channel
        self._text: list[str] = []
        self._usage: Mapping[str, Any] | None = None

    def add(self, part: Any) -> None:
        """Take a chunk, or the whole."""
        if not isinstance(part, Mapping):
            raise malformed(NAME, f"expected an object, got {type(part).__name__}")
        if part.get("usage"):
            self._usage = part["usage"]
        choices = part.get("choices")
        if choices is None and not part.get("usage"):
            raise malformed(NAME, f"it has no choices: {json.dumps(part)[:200]}")
        for name in ("id", "model"):
            if part.get(name):
                self.message[name] = part[name]
        for choice in choices or ():
            self._add_choice(choice)

    def _add_choice(self, choice: Any) -> None:
        said = choice.get("delta") or choice.get("message") or {}
        text = said.get("content") or said.get("refusal")
        if text:
            self._text.append(text)
            self._channel.emit(text)
        if choice.get("finish_reason"):
            self.message["finish_reason"] = choice["finish_reason"]

    def reply(self) -> PromptReply:
        """The whole."""
        text = "".join(self._text)
        if not text.strip():
            because = self.message.get("finish_reason", "stop")
            raise ProviderResponseError(
                NAME, EMPTY if because == "stop" else f"{EMPTY} (finish_reason {because!r})"
            )
        return PromptReply(
            text, _counts(self._usage), {"role": "assistant", "content": text, **self.message}
        )


def _arguments(request: TurnRequest, *, own_server: bool) -> dict[str, Any]:
    options = request.options
    if "provider" in options:
        raise ProviderError(NAME, "has no option 'provider'; that is one of the Copilot handlers")
    messages = [{"role": "user", "content": request.text}]
    if "system" in options:
        messages.insert(0, {"role": "system", "content": options["system"]})
    arguments: dict[str, Any] = {"model": options["model"], "messages": messages}
    if "temperature" in options:
        arguments["temperature"] = options["temperature"]
    if "max_tokens" in options:
        # OpenAI's newer models refuse the old name, many other servers do not know the new one.
        arguments["max_tokens" if own_server else "max_completion_tokens"] = options["max_tokens"]
    return arguments


def _counts(usage: Mapping[str, Any] | None) -> dict[str, int] | None:
    if not usage:
        return None
    counts = {
        "input_tokens": usage.get("prompt_tokens"),
        "output_tokens": usage.get("completion_tokens"),
        "total_tokens": usage.get("total_tokens"),
        "cache_read_tokens": (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        "reasoning_tokens": (usage.get("completion_tokens_details") or {}).get("reasoning_tokens"),
    }
    return {name: number for name, number in counts.items() if isinstance(number, int)}


def _text_of(error: Any) -> str:
    """What the server said, without what the SDK adds to it."""
    body = error.body
    if isinstance(body, Mapping):
        inner = body.get("error")
        for place in (body, inner if isinstance(inner, Mapping) else {}):
            if isinstance(place.get("message"), str):
                return str(place["message"])
    with suppress(Exception):
        return str(error.response.text)
    return ""


def _why_no_connection(error: BaseException) -> str:
    """What the operating system said: the SDK's own message says nothing."""
    root: BaseException = error
    while (inner := root.__cause__ or root.__context__) is not None:
        root = inner
    while isinstance(root, BaseExceptionGroup):  # one for each address of the host
        root = root.exceptions[0]
    refused = isinstance(root, ConnectionRefusedError)
    return f"{'refused' if refused else error} ({root})"
