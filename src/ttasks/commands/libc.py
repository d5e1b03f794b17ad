"""posix_spawn of the C library, called without holding the interpreter's lock.

``os.posix_spawn`` and ``subprocess`` hold that lock from fork to exec, so that no other thread of
the host runs in the meantime, and other workers cannot start their commands. They also lack
``chdir`` and ``closefrom``. Where the C library has all that is needed (glibc 2.34 and later), it
is called directly; everywhere else ``load`` returns None, and ``launch`` takes another way.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

# Values and sizes of glibc; the sizes have room to spare.
_SETSIGDEF = 0x04
_SETSIGMASK = 0x08
_SETSID = 0x80
_ATTRIBUTES_BYTES = 512
_ACTIONS_BYTES = 256
_SIGNAL_SET_BYTES = 128

RESET_SIGNALS = [
    getattr(signal, name) for name in ("SIGCHLD", "SIGPIPE", "SIGXFSZ") if hasattr(signal, name)
]
"""What a command has at its default: Python ignores two of them, some hosts the third."""


class Libc:
    """The functions that are needed, and the attributes that all commands have in common."""

    def __init__(self, ctypes: Any, library: Any) -> None:
        self._ctypes = ctypes
        self._library = library
        pointer, integer, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        for name, arguments in {
            "posix_spawn": [pointer, text, pointer, pointer, pointer, pointer],
            "posix_spawn_file_actions_init": [pointer],
            "posix_spawn_file_actions_destroy": [pointer],
            "posix_spawn_file_actions_adddup2": [pointer, integer, integer],
            "posix_spawn_file_actions_addclosefrom_np": [pointer, integer],
            "posix_spawn_file_actions_addchdir_np": [pointer, text],
            "posix_spawnattr_init": [pointer],
            "posix_spawnattr_setflags": [pointer, ctypes.c_short],
            "posix_spawnattr_setsigdefault": [pointer, pointer],
            "posix_spawnattr_setsigmask": [pointer, pointer],
            "sigemptyset": [pointer],
            "sigaddset": [pointer, integer],
        }.items():
            function = getattr(library, name)
            function.argtypes = arguments
            function.restype = integer
        self._attributes = self._make_attributes()

    def _make_attributes(self) -> Any:
        library, buffer = self._library, self._ctypes.create_string_buffer
        attributes = buffer(_ATTRIBUTES_BYTES)
        _check(library.posix_spawnattr_init(attributes))
        flags = _SETSID | _SETSIGDEF | _SETSIGMASK
        _check(library.posix_spawnattr_setflags(attributes, flags))
        signals = buffer(_SIGNAL_SET_BYTES)
        library.sigemptyset(signals)
        _check(library.posix_spawnattr_setsigmask(attributes, signals))
        for number in RESET_SIGNALS:
            library.sigaddset(signals, number)
        _check(library.posix_spawnattr_setsigdefault(attributes, signals))
        return attributes

    def spawn(
        self,
        argv: Sequence[bytes],
        cwd: bytes | None,
        env: Mapping[bytes, bytes],
        stdio: Sequence[int],
        pid: Any,
    ) -> None:
        """Start ``argv`` in a session of its own, with ``stdio`` as descriptors 0, 1, …, no other.

        Args:
            stdio: descriptors, each at least ``len(stdio)``.
            pid: a ``c_int`` that gets the process id, also if an exception comes right after.

        Raises:
            OSError: it could not be started.
        """
        library, strings = self._library, self._ctypes.c_char_p
        arguments = (strings * (len(argv) + 1))(*argv)
        variables = (strings * (len(env) + 1))(
            *[name + b"=" + value for name, value in env.items()]
        )
        actions = self._ctypes.create_string_buffer(_ACTIONS_BYTES)
        _check(library.posix_spawn_file_actions_init(actions))
        try:
            for number, fd in enumerate(stdio):
                _check(library.posix_spawn_file_actions_adddup2(actions, fd, number))
            _check(library.posix_spawn_file_actions_addclosefrom_np(actions, len(stdio)))
            if cwd is not None:
                _check(library.posix_spawn_file_actions_addchdir_np(actions, cwd))
            _check(
                library.posix_spawn(
                    self._ctypes.byref(pid),
                    argv[0],
                    actions,
                    self._attributes,
                    arguments,
                    variables,
                )
            )
        finally:
            library.posix_spawn_file_actions_destroy(actions)

    def new_pid(self) -> Any:
        """A place for a process id."""
        return self._ctypes.c_int(0)


def _check(error: int) -> None:
    if error:
        raise OSError(error, os.strerror(error))


@lru_cache(maxsize=1)
def load() -> Libc | None:
    """What the C library offers, None if it lacks something."""
    if sys.platform != "linux":
        return None
    try:
        # Takes milliseconds, which only those pay who run commands.
        import ctypes

        if not hasattr(library := ctypes.CDLL(None), "gnu_get_libc_version"):
            return None
        return Libc(ctypes, library)
    except (ImportError, AttributeError, OSError):
        return None
