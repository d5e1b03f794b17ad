"""The GitHub Copilot SDK as a provider: prompts without tools, agents with the tools of its CLI."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ttasks.errors import (
    MissingExtraError,
    ProviderAuthenticationError,
    ProviderError,
    ProviderStartError,
)
from ttasks.model.prompt import PermissionRequest, PromptReply
from ttasks.prompts.copilot_turn import NAME, CopilotTurn
from ttasks.prompts.provider import Secret, Setting, clean, secrets_of

if TYPE_CHECKING:
    from copilot import CopilotClient, CopilotSession

    from ttasks.prompts.provider import Channel, TurnRequest

PULSE_SECONDS = 1.0
"""How often a turn looks whether the CLI is still there: nothing else tells of its end."""

_LOST = ("exited", "not connected", "shutting_down")
_LOST_PATIENCE = 20
"""How often to look, during one pulse, whether a process has ended that its pipe says has."""

PLAIN_SYSTEM = "Answer the user's message. You have no tools and cannot ask back."
"""System message of prompts that have none, in place of the long one of the CLI's agent."""

_SIGN_IN = (
    "not signed in to GitHub Copilot: sign in with the Copilot CLI, set COPILOT_GITHUB_TOKEN, or "
    "give the handler a provider"
)


class CopilotProvider:
    """One CLI process, with a session for each turn, deleted at its end.

    Args:
        agent: whether turns have the CLI's tools.
        github_token: signs in; None leaves that to the CLI and the environment.

    Raises:
        MissingExtraError: the SDK is not installed.
    """

    name = NAME

    def __init__(self, *, agent: bool, github_token: Secret) -> None:
        try:
            import copilot  # noqa: F401
        except ImportError as error:
            if error.name is not None and error.name.partition(".")[0] != "copilot":
                raise  # it is there, and something else is missing
            raise MissingExtraError("copilot", "A prompt or agent of GitHub Copilot") from None
        self._agent = agent
        self._github_token = github_token
        self._starting: asyncio.Task[CopilotClient] | None = None
        self._process: Any = None  # of the CLI, to be killed from any thread
        self._killed = False

    async def turn(self, request: TurnRequest, channel: Channel) -> PromptReply:
        """See `ttasks.prompts.provider.Provider`."""
        setting, secrets = self._setting(request.options)
        process = None
        try:
            turn = CopilotTurn(channel, agent=self._agent, own_model=setting is not None)
            client, session = await self._opened(request, setting, turn)
            process = process_of(client)
            try:
                return await self._converse(client, session, request.text, turn)
            finally:
                await self._end_session(client, session, ended=turn.ended)
        except ProviderError as error:
            # Made anew, so that no traceback leads into frames that hold a key.
            reason = clean(error.reason, secrets)
            raise type(error)(error.provider, reason, error.status) from None
        except Exception as error:
            if await _is_ending(process, error):
                await self._discard(process)
                raise ProviderStartError(self.name, "the Copilot CLI ended unexpectedly") from None
            raise ProviderError(self.name, clean(_describe(error), secrets)) from None

    def _setting(self, options: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
        """The SDK's provider setting for these options, and what must not be shown of it."""
        given = options.get("provider")
        setting = None
        if given is not None:
            setting = (given if isinstance(given, Setting) else Setting(given)).resolve(self.name)
        token = self._github_token.get()
        secrets = [*secrets_of(setting or {}), *([token] if token else [])]
        if "temperature" in options:
            raise ProviderError(self.name, "has no temperature; leave that option out")
        if "max_tokens" in options:
            if setting is None:
                raise ProviderError(
                    self.name, "takes max_tokens only for models of your own (provider)"
                )
            setting["max_output_tokens"] = options["max_tokens"]
        return setting, secrets

    # The client

    async def _started(self) -> CopilotClient:
        """The running client; a turn that is cancelled does not take the start from the others."""
        if self._starting is not None and self._starting.done() and has_ended(self._process):
            await self._discard(self._process)
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        starting = self._starting
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if self._starting is starting:
                self._starting = None
            raise ProviderStartError(self.name, _why_not_started(error)) from None

    async def _start(self) -> CopilotClient:
        token = self._github_token.get()
        client = await asyncio.to_thread(
            make_client, working_directory=os.getcwd(), github_token=token, log_level="error"
        )
        starting = asyncio.get_running_loop().create_task(client.start())
        await asyncio.sleep(
            0
        )  # by then it has started the process, of which a failure tells no more
        process = process_of(client)
        try:
            await starting
        except BaseException:
            with suppress(Exception):
                await client.force_stop()
            close_pipes(process)
            raise
        self._process, self._killed = process or process_of(client), False
        return client

    async def _discard(self, process: Any) -> None:
        """Forget the client of a process that has ended, unless another turn has done so."""
        if process is not self._process:
            return
        starting, self._starting = self._starting, None
        self._process = None
        if starting is not None and starting.done():
            with suppress(Exception, asyncio.CancelledError):
                await starting.result().force_stop()
        close_pipes(process)

    async def close(self) -> None:
        """See `ttasks.prompts.provider.Provider`."""
        starting = self._starting
        if starting is None:
            return
        if not self._killed:  # else it cannot answer
            try:
                client = await starting
                await client.stop()
            except Exception:
                self.kill()
        await self._discard(self._process)

    def kill(self) -> None:
        """See `ttasks.prompts.provider.Provider`."""
        self._killed = True
        kill_tree(self._process)

    # One turn

    async def _opened(
        self, request: TurnRequest, setting: dict[str, Any] | None, turn: CopilotTurn
    ) -> tuple[CopilotClient, CopilotSession]:
        """A session of a CLI that is there: one that has ended since the last turn is replaced."""
        client = await self._started()
        process = process_of(client)
        try:
            return client, await self._session(client, request, setting, turn)
        except Exception as error:
            if not await _is_ending(process, error):
                raise
        await self._discard(process)
        client = await self._started()
        return client, await self._session(client, request, setting, turn)

    async def _session(
        self,
        client: CopilotClient,
        request: TurnRequest,
        setting: dict[str, Any] | None,
        turn: CopilotTurn,
    ) -> CopilotSession:
        create = client.create_session(
            model=request.options["model"],
            session_id=str(uuid4()),
            provider=setting,  # type: ignore[arg-type]
            streaming=True,
            on_permission_request=self._permission_handler(turn),
            on_event=turn.on_event,
            **self._kind_of_session(request.options),
        )
        creating = asyncio.get_running_loop().create_task(create)
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            # It may exist by now, and then has to be ended too.
            with suppress(Exception):
                await self._end_session(client, await creating, ended=True)
            raise

    def _kind_of_session(self, options: Mapping[str, Any]) -> dict[str, Any]:
        if self._agent:
            kind: dict[str, Any] = {"working_directory": options.get("cwd") or os.getcwd()}
            if "system" in options:
                kind["system_message"] = {"mode": "append", "content": options["system"]}
            return kind
        return {
            "available_tools": [],
            "system_message": {"mode": "replace", "content": options.get("system", PLAIN_SYSTEM)},
            "skip_custom_instructions": True,
            "enable_config_discovery": False,
            "enable_skills": False,
            "enable_session_store": False,
            "infinite_sessions": {"enabled": False},
        }

    def _permission_handler(self, turn: CopilotTurn) -> Any:
        from copilot import PermissionNoResult
        from copilot.rpc import (
            PermissionDecisionApproveOnce,
            PermissionDecisionReject,
            PermissionDecisionUserNotAvailable,
        )

        async def decide(request: Any, _invocation: Any) -> Any:
            if not self._agent:
                return PermissionDecisionReject(feedback="A prompt has no tools.")
            if getattr(request, "managed_approval_required", False) is True:
                # The organisation wants a person to decide, and there is none.
                return PermissionDecisionUserNotAvailable()
            decision = await turn.channel.ask(_permission_request(request))
            if decision is None:
                return PermissionNoResult()
            if decision:
                return PermissionDecisionApproveOnce()
            return PermissionDecisionReject(feedback="Not permitted.")

        return decide

    async def _converse(
        self, client: CopilotClient, session: CopilotSession, text: str, turn: CopilotTurn
    ) -> PromptReply:
        await session.send(text)
        while not turn.done.done():
            await asyncio.wait([turn.done], timeout=PULSE_SECONDS)
            if not turn.done.done():
                await client.ping()  # raises if the CLI is gone
        try:
            return turn.done.result()
        except ProviderError as error:
            if turn.own_model or error.status is not None:
                raise
            status = await client.get_auth_status()
            if status.isAuthenticated:
                raise
        raise ProviderAuthenticationError(self.name, _SIGN_IN)

    async def _end_session(
        self, client: CopilotClient, session: CopilotSession, *, ended: bool
    ) -> None:
        """Stop what a session still does, and forget it; none of this may hide the outcome."""
        if not ended:
            with suppress(Exception):
                await session.abort()
        with suppress(Exception):
            await session.disconnect()
        with suppress(Exception):
            await client.delete_session(session.session_id)


async def _is_ending(process: Any, error: Exception) -> bool:
    """Whether the CLI has ended, or is just about to, and thus is the reason of an error."""
    if any(word in str(error).lower() for word in _LOST):
        for _ in range(_LOST_PATIENCE):
            if has_ended(process):
                break
            await asyncio.sleep(PULSE_SECONDS / _LOST_PATIENCE)
    return has_ended(process)


def _permission_request(request: Any) -> PermissionRequest:
    names = ("full_command_text", "file_name", "path", "url", "tool_name", "fact")
    found = (getattr(request, name, None) for name in names)
    subject = next((text for text in found if text), "")
    kind = getattr(request, "kind", "unknown")
    return PermissionRequest(kind, subject, getattr(request, "intention", None) or "", request)


def _why_not_started(error: Exception) -> str:
    text = _describe(error)
    if "not found at" in text:
        return (
            f"{text}; set COPILOT_CLI_PATH to the CLI of the npm package '@github/copilot', or run "
            "'python -m copilot download-runtime'"
        )
    if "protocol version" in text:
        return f"the Copilot CLI is of another version than the SDK: {text}"
    return f"the Copilot CLI did not start: {text}"


def _describe(error: BaseException) -> str:
    return str(error) or type(error).__name__


# The process of the CLI, as far as the SDK leaves it to its users

_OWN_SESSION = "import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])"


def make_client(**options: Any) -> CopilotClient:
    """A client whose CLI does not hear the Ctrl-C of this program's terminal.

    The CLI would shut down at once, and cleanup that asks a model could not. It therefore becomes
    the leader of a session of its own, by way of a Python that turns into it. May take long: the
    SDK downloads the CLI if there is none.
    """
    from copilot import CopilotClient, RuntimeConnection

    if _is_left_to_the_sdk():
        return CopilotClient(**options)
    connection = RuntimeConnection.for_stdio()
    client = CopilotClient(connection=connection, **options)
    cli = connection.path  # it has been found by now
    if cli is not None and shutil.which(cli) is not None:
        program = ["node", cli] if cli.endswith(".js") else [shutil.which(cli) or cli]
        connection.args = ("-I", "-S", "-c", _OWN_SESSION, *program, *connection.args)
        connection.path = sys.executable
    return client


def _is_left_to_the_sdk() -> bool:
    return bool(
        os.name != "posix"
        or not sys.executable
        or getattr(sys, "frozen", False)  # then it is no Python
        or os.environ.get("COPILOT_SDK_DEFAULT_CONNECTION")
    )


def process_of(client: CopilotClient) -> Any:
    """The ``Popen`` of a client, or None."""
    # The SDK has no public name for it. Without it, kill and the closing of pipes do nothing.
    return getattr(client, "_cli_process", None)


def has_ended(process: Any) -> bool:
    """Whether there was a process, and there is none any more."""
    return process is not None and process.poll() is not None


def close_pipes(process: Any) -> None:
    """Close what the SDK leaves open of a process that has ended."""
    for name in ("stdin", "stdout", "stderr"):
        pipe = getattr(process, name, None)
        if pipe is not None:
            with suppress(OSError, ValueError):
                pipe.close()


def kill_tree(process: Any) -> None:
    """Kill the CLI and what its agents have started."""
    import psutil

    if process is None or has_ended(process):
        return
    with suppress(psutil.Error):
        leader = psutil.Process(process.pid)
        for member in [*leader.children(recursive=True), leader]:
            with suppress(psutil.Error):
                member.kill()
