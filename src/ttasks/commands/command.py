"""Run one command to its end, and leave nothing of it behind.

The only place that starts processes for commands; knows neither tasks nor executors. Everything
happens on the calling thread. A command that has ended by itself may leave background processes
that do *not* hold its pipes: they are daemons that it started on purpose, and stay (those of a
service do not). Everything else is ended.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ttasks.commands.capture import Stream, TextFilter
from ttasks.commands.running import running_commands
from ttasks.model.cancel import CancelToken
from ttasks.model.command import STOP_SIGNAL

if sys.platform == "win32":
    from ttasks.commands.windows import Run
else:
    from ttasks.commands.posix import Run


class StartError(OSError):
    """A command could not be started; errno, strerror and filename say why."""


@dataclass(slots=True)
class Outcome:
    """How a command ended and what it printed.

    Attributes:
        returncode: exit code, negative signal number, or None if it could not be learnt.
        stdout, stderr: text, decoded as UTF-8 with replacement.
        ended_by: None if it ended by itself, "timeout" or "cancelled".
        truncated: whether a stream went over ``output_limit``.
        spill: stream name to path of the file with its whole output.
        survivors: how many background processes held the pipes after the exit and were ended.
    """

    returncode: int | None
    stdout: str = ""
    stderr: str = ""
    ended_by: str | None = None
    truncated: bool = False
    spill: dict[str, str] = field(default_factory=dict)
    survivors: int = 0


def run(
    argv: Sequence[str],
    *,
    cwd: str | None = None,
    env: Mapping[str, str | None] | None = None,
    stdin: bytes | None = None,
    timeout: float | None = None,
    grace: float = 2.0,
    output_limit: int | None = None,
    cancel: CancelToken | None = None,
    on_output: Callable[[str, str], None] | None = None,
    text_filter: Callable[[], TextFilter] | None = None,
    pass_fds: Sequence[int] = (),
    mark: str = "",
    stop_signal: int = STOP_SIGNAL,
    is_service: bool = False,
) -> Outcome:
    """Run a command, wait for its end, and leave nothing of it behind.

    Blocks the calling thread, which need not be the main one, and uses no other. Returns within
    ``timeout + grace + 1`` seconds, whatever the command does.

    Args:
        argv: program (a path; a bare name is looked for on PATH) and its arguments.
        cwd: directory to run in; None is the current one.
        env: changes to the current environment; a None removes the name.
        stdin: what the command reads; None is nothing.
        timeout: seconds until the tree is ended; None is no limit.
        grace: seconds between TERM and KILL; 0 is KILL at once.
        output_limit: bytes kept per stream (see ``LimitedCapture``); None keeps all.
        cancel: ends the tree when it is cancelled; its ``killed`` skips the grace.
        on_output: called on this thread with stream name ("stdout", "stderr") and whole lines, at
            most 64 KiB. If it raises, the tree is ended and the exception goes on.
        text_filter: makes the filter that each stream's text goes through before anything else.
        pass_fds: descriptors that the command inherits.
        mark: begins the marker that the command and its descendants carry in their environment, by
            which `ttasks.trees` finds them after this process was killed.
        stop_signal: what asks the tree to end, in place of TERM.
        is_service: end the background processes too that do not hold the pipes, however the command
            has ended.

    Raises:
        StartError: the command could not be started; nothing is left of the attempt.
        BaseException: what ``on_output`` raised, or KeyboardInterrupt; the tree was ended before.
    """
    streams = [
        Stream(
            name,
            limit=output_limit,
            on_output=on_output,
            text_filter=None if text_filter is None else text_filter(),
        )
        for name in ("stdout", "stderr")
    ]
    random = os.urandom(8).hex()
    marker = f"{mark}.{random}" if mark else random
    if cancel is None:
        cancel = CancelToken()
    running = running_commands(os.getpid())
    command = Run(streams, timeout, grace, cancel, marker, stop_signal, is_service)
    try:
        running.add(command, cancel)
        ended_by = command.run(argv, cwd, env, stdin, pass_fds)
        stdout, stderr = [stream.finish() for stream in streams]
    except BaseException as error:
        for stream in streams:
            stream.capture.discard()
        if isinstance(error, OSError) and not command.started:
            raise StartError(error.errno, error.strerror, error.filename) from error
        raise
    finally:
        running.remove(command)
    return Outcome(
        command.returncode,
        stdout,
        stderr,
        ended_by=ended_by,
        truncated=any(stream.capture.truncated for stream in streams),
        spill={s.name: s.capture.spill for s in streams if s.capture.spill is not None},
        survivors=command.survivors,
    )
