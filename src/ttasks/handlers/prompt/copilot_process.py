"""The process of the Copilot CLI, as far as the SDK leaves it to its users."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from copilot import CopilotClient

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
