"""Prompts and agents: a handler, its makers, and one file per provider of language models.

    task ─→ PromptHandler ─→ Client (loop thread) ─→ Provider.turn ─→ model
     ↑            ↑                                       │
     └─ result ───┴──── chunks, requests for leave ───────┘

The handler runs on the thread of its task. It asks the client, which lives as long as the handler
is used, for one turn, and serves it: chunks become OUTPUT events, requests for leave are decided.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ttasks.model.checks import check_callable, check_seconds, check_str
from ttasks.model.prompt import agent_options
from ttasks.prompts.handler import Permissions, PromptHandler
from ttasks.prompts.provider import Provider, Secret, Setting

__all__ = [
    "make_copilot_agent_handler",
    "make_copilot_prompt_handler",
    "make_openai_prompt_handler",
]


def make_copilot_prompt_handler(
    model: str = "gpt-5.4-mini",
    timeout: float | None = 60,
    provider: Mapping[str, Any] | None = None,
    *,
    system: str | None = None,
    max_tokens: int | None = None,
    github_token: str | None = None,
) -> PromptHandler:
    """Make a handler of prompts that asks through the GitHub Copilot SDK (extra ``copilot``).

    A prompt is one turn without tools: no file of this machine is read for it. Nothing is
    imported or started before the first turn. That takes seconds; later ones reuse the process.
    An attempt of a task is one request to the model: the task's `RetryPolicy` says what follows.

    Args:
        model: used by tasks that name none.
        timeout: seconds per turn of tasks that have no timeout of their own; None is no limit.
        provider: the SDK's setting for a model server of your own, for example
            ``{"type": "openai", "wire_api": "completions", "base_url": "http://...",
            "api_key": ...}``; instead of the key, ``"api_key_env"`` may name an environment
            variable. None means the models of the GitHub account that is signed in.
        system: the system message.
        max_tokens: most tokens of the answer; only with ``provider``.
        github_token: signs in; None leaves that to the CLI and the environment.

    Returns:
        A handler for ``executor.register(TaskType.PROMPT, ...)``, which is closed with the
        executor.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    defaults = _defaults(model=model, system=system, max_tokens=max_tokens)
    return _copilot_handler(defaults, timeout, provider, github_token, agent=False)


def make_copilot_agent_handler(
    model: str = "gpt-5.5",
    provider: Mapping[str, Any] | None = None,
    *,
    timeout: float | None = None,
    system: str | None = None,
    max_tokens: int | None = None,
    cwd: str | os.PathLike[str] | None = None,
    permissions: Permissions | None = None,
    github_token: str | None = None,
) -> PromptHandler:
    """Make a handler of agents: one turn with the tools of the GitHub Copilot CLI.

    Treat the payloads as code, and what the agent reads as something that may steer it: without
    ``permissions`` it runs commands and changes files as this process may, in ``cwd`` and
    elsewhere. Arguments not named here are those of `make_copilot_prompt_handler`.

    Args:
        model: used by tasks that name none.
        provider, max_tokens, github_token: see there.
        timeout: seconds per turn of tasks that have no timeout of their own; None is no limit.
        system: instructions, added to those that the agent has anyway.
        cwd: folder for tasks that name none; None means that of this process at the time.
        permissions: called with a `PermissionRequest` before each command, file access and so on,
            on the thread of the task; returns whether it may. What it raises fails the task. None
            approves everything but what a policy of the organisation leaves to a person.
    """
    if permissions is not None:
        check_callable("permissions", permissions)
    defaults = _defaults(model=model, system=system, max_tokens=max_tokens, cwd=cwd)
    return _copilot_handler(
        defaults, timeout, provider, github_token, agent=True, permissions=permissions
    )


def make_openai_prompt_handler(
    model: str,
    base_url: str | None = None,
    api_key: str | None = None,
    *,
    timeout: float | None = 60,
    system: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
) -> PromptHandler:
    """Make a handler of prompts for any OpenAI-compatible server (extra ``openai``).

    It speaks chat completions, streaming where the server does. An attempt of a task is one
    request: the task's `RetryPolicy` says what follows.

    Args:
        model: used by tasks that name none.
        base_url: the server, for example ``"http://127.0.0.1:8080/v1"``; None means
            ``OPENAI_BASE_URL``, or else OpenAI itself.
        api_key: None means ``OPENAI_API_KEY``, or else none.
        timeout: seconds per turn of tasks that have no timeout of their own; None is no limit.
        system: the system message.
        temperature: 0 to 2.
        max_tokens: most tokens of the answer.

    Returns:
        A handler for ``executor.register(TaskType.PROMPT, ...)``, which is closed with the
        executor.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    url, key = _secret("base_url", base_url), _secret("api_key", api_key)
    defaults = _defaults(model=model, system=system, temperature=temperature, max_tokens=max_tokens)

    def open_provider() -> Provider:
        from ttasks.prompts.openai import OpenAIProvider

        return OpenAIProvider(base_url=url, api_key=key)

    return PromptHandler("openai", open_provider, defaults, timeout=_seconds(timeout))


def _copilot_handler(
    defaults: dict[str, Any],
    timeout: float | None,
    provider: Mapping[str, Any] | None,
    github_token: str | None,
    *,
    agent: bool,
    permissions: Permissions | None = None,
) -> PromptHandler:
    token = _secret("github_token", github_token)
    if provider is not None:
        if not isinstance(provider, Mapping):
            # Not shown: it may be a key in the wrong place.
            raise TypeError(f"provider must be a mapping or None, got {type(provider).__name__}")
        defaults["provider"] = Setting(provider)

    def open_provider() -> Provider:
        from ttasks.prompts.copilot import CopilotProvider

        return CopilotProvider(agent=agent, github_token=token)

    return PromptHandler(
        "copilot agent" if agent else "copilot",
        open_provider,
        defaults,
        timeout=_seconds(timeout),
        permissions=permissions,
    )


def _defaults(*, model: str, **options: Any) -> dict[str, Any]:
    check_str("model", model, empty=False)
    return agent_options(model=model, **options)


def _seconds(timeout: float | None) -> float | None:
    return check_seconds("timeout", timeout)


def _secret(name: str, value: str | None) -> Secret:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        # Not shown: it may be a key all the same.
        raise TypeError(f"{name} must be a non-empty str or None, got {type(value).__name__}")
    return Secret(value)
