"""Client: a provider together with the event loop that it lives on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from ttasks import sync
from ttasks.errors import ProviderError, TaskTimeoutError, TTasksError
from ttasks.model.context import CURRENT
from ttasks.model.prompt import PermissionRequest, PromptReply

if TYPE_CHECKING:
    from collections.abc import Callable

    from ttasks.model.cancel import CancelToken
    from ttasks.model.context import TaskContext
    from ttasks.prompts.provider import OpenProvider, Provider, TurnRequest

END_PATIENCE = 5.0
"""Seconds that a turn has to end after it was cancelled, before its provider is killed."""

KILL_PATIENCE = 1.0
"""Seconds that a turn has to end after its provider was killed."""

CLOSE_PATIENCE = 15.0
"""Seconds that a provider has to close, before it is killed."""

EXIT_PATIENCE = 1.0
"""Seconds that what was killed has to clean up."""

_HELPERS = 1  # for what the SDKs do in threads, briefly: writing to pipes, waiting for processes


class Client:
    """A provider on an event loop of its own, in a thread of its own; shared by turns.

    Thread-safe. The thread is a daemon, so that it never keeps the interpreter from exiting.
    """

    def __init__(self, open_provider: OpenProvider) -> None:
        self.provider: Provider = open_provider()
        # In an empty context, because it keeps that: the task's would keep the handler alive.
        self.loop = Context().run(asyncio.new_event_loop)
        self._helpers = ThreadPoolExecutor(_HELPERS, "ttasks-prompt-io")
        self.loop.set_default_executor(self._helpers)
        self._thread = sync.Thread(target=self._serve, name="ttasks-prompt", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the provider and end the thread; blocks until that is done, or is hopeless."""
        if sync.current_thread() is self._thread:
            self.kill()
            return
        closed = asyncio.run_coroutine_threadsafe(self.provider.close(), self.loop)
        try:
            closed.result(CLOSE_PATIENCE)
        except Exception:
            self.provider.kill()
        self._stop()
        self._thread.join(END_PATIENCE)

    def kill(self) -> None:
        """End everything at once, and wait a moment for it; for the exit of the interpreter."""
        self.provider.kill()
        self._stop()
        if sync.current_thread() is not self._thread:
            self._thread.join(EXIT_PATIENCE)

    def _stop(self) -> None:
        with suppress(RuntimeError):  # closed already
            self.loop.call_soon_threadsafe(self.loop.stop)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            if tasks:
                gathered = asyncio.gather(*tasks, return_exceptions=True)
                self.loop.run_until_complete(gathered)
            with suppress(Exception):  # what was killed still has pipes to close
                closing = asyncio.wait_for(self.provider.close(), EXIT_PATIENCE)
                self.loop.run_until_complete(closing)
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            # Not by the loop: it would start a thread for it, which an exit does not allow.
            self._helpers.shutdown()
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()


_DONE = object()
_SIGNAL = object()


class Turn:
    """One turn, as the thread of its task sees it; a `ttasks.prompts.provider.Channel`.

    ``_task`` belongs to the loop's thread; everything for the task's thread goes through the inbox.
    """

    def __init__(self, client: Client, request: TurnRequest) -> None:
        self._client = client
        self._request = request
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._task: asyncio.Task[PromptReply] | None = None
        self._asked: set[asyncio.Future[bool | None]] = set()
        self._cancelled = False
        self._ended = False

    # On the loop's thread

    def emit(self, text: str) -> None:
        """See `Channel`."""
        if text:
            self._inbox.put(text)

    async def ask(self, request: PermissionRequest) -> bool | None:
        """See `Channel`."""
        answer: asyncio.Future[bool | None] = self._client.loop.create_future()
        self._asked.add(answer)
        self._inbox.put((request, answer))
        try:
            return await answer
        finally:
            self._asked.discard(answer)

    def _begin(self, turn: Coroutine[Any, Any, PromptReply]) -> None:
        self._task = self._client.loop.create_task(turn)
        self._task.add_done_callback(self._finish)
        if self._cancelled:
            self._task.cancel()

    def _finish(self, _task: asyncio.Task[PromptReply]) -> None:
        for answer in self._asked:
            _answer(answer, None)
        self._inbox.put(_DONE)

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # On the task's thread

    def run(
        self,
        context: TaskContext,
        seconds: float | None,
        limit: float | None,
        decide: Callable[[PermissionRequest], bool],
    ) -> PromptReply:
        """Let the turn run, and serve it.

        Args:
            context: of the task.
            seconds: how long it may take; None is no limit.
            limit: the time limit to name when they are over.
            decide: whether the agent may do what it asks leave for.

        Raises:
            TaskTimeoutError: the time is over, and the turn has been stopped.
            TaskCancelled: the task was cancelled, and the turn has been stopped.
            ProviderError: there is no answer.
        """
        deadline = None if seconds is None else monotonic() + seconds
        token = context.cancel_token
        remove = token.add_callback(lambda: self._inbox.put(_SIGNAL))
        turn = self._client.provider.turn(self._request, self)
        self._client.loop.call_soon_threadsafe(self._begin, turn, context=_lasting_context())
        try:
            return self._serve(context, deadline, limit, decide)
        except BaseException:
            self._end(token)
            raise
        finally:
            remove()

    def _serve(
        self,
        context: TaskContext,
        deadline: float | None,
        limit: float | None,
        decide: Callable[[PermissionRequest], bool],
    ) -> PromptReply:
        while True:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            try:
                item = self._inbox.get(timeout=left)
            except Empty:
                raise TaskTimeoutError(limit or 0.0) from None
            if type(item) is str:
                context.emit_output(item)
            elif item is _DONE:
                self._ended = True
                return self._outcome()
            elif item is _SIGNAL:
                context.raise_if_cancelled()
            else:
                request, answer = item
                self._client.loop.call_soon_threadsafe(_answer, answer, decide(request))

    def _outcome(self) -> PromptReply:
        assert self._task is not None
        if self._task.cancelled():
            raise ProviderError(self._client.provider.name, "the turn was ended from outside")
        error = self._task.exception()
        if error is None:
            return self._task.result()
        # The frames below hold keys in their variables, which a report of the failure could show.
        if isinstance(error, TTasksError):
            error.__context__ = None
            raise error.with_traceback(None) from None
        name = type(error).__name__
        raise ProviderError(self._client.provider.name, f"failed unexpectedly ({name})")

    def _end(self, token: CancelToken) -> None:
        """Cancel the turn and wait for its end, so that nothing of it is left behind."""
        if self._ended:
            return
        self._cancelled = True
        with suppress(RuntimeError):  # the loop is closed
            self._client.loop.call_soon_threadsafe(self._cancel_task)
        if not self._wait_ended(END_PATIENCE, token):
            self._client.provider.kill()
            self._wait_ended(KILL_PATIENCE, None)

    def _wait_ended(self, seconds: float, token: CancelToken | None) -> bool:
        give_up = monotonic() + seconds
        while token is None or not token.killed:
            left = give_up - monotonic()
            if left <= 0:
                return False
            with suppress(Empty):
                if self._inbox.get(timeout=left) is _DONE:
                    return True
        return False


def _lasting_context() -> Context:
    """The caller's context without its task: connections that outlive the turn keep it."""
    context = copy_context()
    context.run(CURRENT.set, None)
    return context


def _answer(future: asyncio.Future[bool | None], decision: bool | None) -> None:
    if not future.done():
        future.set_result(decision)
