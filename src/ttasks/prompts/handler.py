"""PromptHandler: the handler of prompt and agent tasks, for any provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import finalize

from ttasks import sync
from ttasks.errors import TaskTimeoutError
from ttasks.model.prompt import PermissionRequest, PromptReply
from ttasks.prompts.provider import OpenProvider, TurnRequest

if TYPE_CHECKING:
    from ttasks.model.context import TaskContext
    from ttasks.prompts.client import Client

Permissions = Callable[[PermissionRequest], bool]


class PromptHandler:
    """Runs prompt or agent tasks, one turn each, through one client that they share.

    The client is opened by the first turn and kept for the next ones until `close`; then, and when
    the handler is garbage or the interpreter exits, it is ended with all it has started. A turn
    that begins after `close` opens a client for as long as turns are under way.

    Thread-safe.

    Attributes:
        ends_itself: True: it keeps to timeouts and cancellation by itself.
    """

    ends_itself = True

    def __init__(
        self,
        name: str,
        open_provider: OpenProvider,
        defaults: Mapping[str, Any],
        *,
        timeout: float | None = None,
        permissions: Permissions | None = None,
    ) -> None:
        self._name = name
        self._defaults = dict(defaults)
        self._timeout = timeout
        self._permissions = permissions
        self._shared = _SharedClient(open_provider)
        finalize(self, self._shared.kill)

    def __call__(self, context: TaskContext) -> PromptReply:
        """Send the task's payload to the model.

        Raises:
            ProviderError: there is no answer; the subclass says why.
            TaskTimeoutError: the task's timeout is over, or the handler's if it has none. The first
                import of the provider's SDK does not count.
            TaskCancelled: the task was cancelled.
            MissingExtraError: the provider's SDK is not installed.
        """
        # Imported here: what is behind it is for those who do send prompts.
        from ttasks.prompts.client import Turn

        context.raise_if_cancelled()
        limit = context.timeout if context.timeout is not None else self._timeout
        # Before the client is opened: the one import of the SDK does not count towards a timeout.
        seconds = self._timeout if context.timeout is None else context.remaining()
        with self._shared.use() as client:
            if seconds is not None and seconds <= 0:
                raise TaskTimeoutError(limit or 0.0)
            request = TurnRequest(context.payload, {**self._defaults, **context.options})
            return Turn(client, request).run(context, seconds, limit, self._decide)

    def close(self) -> None:
        """End the client once no turn is under way, at once if none is; idempotent."""
        self._shared.close()

    def _decide(self, request: PermissionRequest) -> bool:
        if self._permissions is None:
            return True
        decision = self._permissions(request)
        if not isinstance(decision, bool):
            raise TypeError(
                f"permissions must return True or False, got {type(decision).__name__} "
                f"for {request.kind!r}"
            )
        return decision

    def __repr__(self) -> str:
        return f"<PromptHandler {self._name} model={self._defaults.get('model')!r}>"


class _SharedClient:
    """The client of a handler. There is only ever one."""

    def __init__(self, open_provider: OpenProvider) -> None:
        self._open_provider = open_provider
        self._lock = sync.Lock()  # protects the three below; held while a client is opened
        self._client: Client | None = None
        self._users = 0
        self._closed = False

    @contextmanager
    def use(self) -> Iterator[Client]:
        """The client, open for the length of a ``with`` block."""
        from ttasks.prompts.client import Client

        with self._lock:
            if self._client is None:
                self._client = Client(self._open_provider)
            client = self._client
            self._users += 1
        try:
            yield client
        finally:
            with self._lock:
                self._users -= 1
                idle = self._take_idle()
            if idle is not None:
                idle.close()

    def close(self) -> None:
        """Let the client end when its last user has gone; blocks for that if there is none."""
        with self._lock:
            self._closed = True
            idle = self._take_idle()
        if idle is not None:
            idle.close()

    def kill(self) -> None:
        """End the client at once; for garbage and for the exit of the interpreter."""
        client, self._client = self._client, None
        if client is not None:
            client.kill()

    def _take_idle(self) -> Client | None:
        if self._users or not self._closed:
            return None
        client, self._client = self._client, None
        return client
