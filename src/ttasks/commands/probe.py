"""Probe: run a short command, such as ``gcc --version``, and return what it prints."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress

PATIENCE_SECONDS = 30.0


def probe(command: str, folder: str, env: Mapping[str, str]) -> bytes:
    """Run a command without a shell, and return its output and its messages.

    What it leaves running is ended with it if it is late.

    Raises:
        ValueError: it cannot be started, fails, or takes more than 30 s; the text says which.
    """
    # A file, not a pipe: what the command may have left running could hold that open.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                shlex.split(command),
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ValueError(f"cannot be started ({error.strerror})") from None
        try:
            code = process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise ValueError(f"has not ended after {PATIENCE_SECONDS:g} seconds") from None
        finally:
            if process.poll() is None:
                _kill(process)
        output.seek(0)
        printed = output.read()
    if code:
        last = printed.decode(errors="replace").strip().rpartition("\n")[2][:200]
        raise ValueError(f"failed with exit code {code}{last and f': {last}'}")
    return printed


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
