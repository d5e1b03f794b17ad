"""Probes that tell when a service is ready, and free ports.

    service = Task.service("redis-server --port 7000", ready=tcp(7000))

A probe is called again and again, on a thread of its own, until it returns something true. What it
raises means "not yet". Each call here takes a bounded time. Any callable without arguments is a
probe, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ttasks import sync
from ttasks.errors import TaskExecutionError
from ttasks.model.cancel import CancelToken
from ttasks.model.checks import check_int, check_seconds, check_str, wrong_type, wrong_value
from ttasks.model.command import check_text, command_options
from ttasks.model.imported import Imported
from ttasks.model.service import Probe

__all__ = ["command", "free_port", "http", "output", "path", "tcp"]

CONNECT_SECONDS = 1.0
"""How long one attempt to connect may take."""

HTTP_SECONDS = 2.0
"""How long a server may take for one step of an answer."""

_LAST_PORT = 65_535
_LAST_STATUS = 599

_URL_CHARACTERS = re.compile(r"[!-~]+")  # others have to be quoted


def tcp(port: int, host: str = "127.0.0.1") -> Probe:
    """Return a probe that is true once a connection to a port is accepted.

    If that is so before the service has started, the port is taken, and the service fails.

    Args:
        port: 1 to 65535.
        host: name or address.
    """
    return Tcp(_check_port(port), check_str("host", host, empty=False))


def http(url: str, status: int | Iterable[int] | None = None) -> Probe:
    """Return a probe that is true once a GET request is answered with a status.

    Redirects are followed, and proxies are not used. If the port on this machine accepts
    connections before the service has started, it is taken, and the service fails.

    Args:
        url: begins with "http://" or "https://".
        status: the status code, or several; None means 200 to 399.
    """
    from urllib.parse import urlsplit

    check_str("url", url)
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port, or of an IPv6 address
        is_url = False
    if not is_url or not _URL_CHARACTERS.fullmatch(url):
        raise wrong_value("url", url, "an address such as 'http://127.0.0.1:8000/health'")
    return Http(url, None if status is None else _check_codes(status))


def output(pattern: str | re.Pattern[str]) -> Probe:
    """Return a probe that is true once the service prints a line that matches.

    Each line of stdout and stderr is searched when it is complete, before secrets are replaced. Of
    a Python service what it emits, or prints with ``capture_print=True``, is searched.

    Args:
        pattern: a regular expression, as for ``re.search``.
    """
    if isinstance(pattern, str):
        try:
            pattern = re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"pattern must be a regular expression, got {pattern!r}: {error}"
            ) from None
    if not isinstance(pattern, re.Pattern) or not isinstance(pattern.pattern, str):
        raise wrong_type("pattern", pattern, "a str or a compiled pattern of text")
    return Output(pattern)


def path(file: str | os.PathLike[str]) -> Probe:
    """Return a probe that is true once a file, folder or socket exists.

    One that an earlier run has left counts as well: remove it before the service starts.

    Args:
        file: its path; a relative one is relative to the current folder of this process.
    """
    if not isinstance(file, (str, os.PathLike)):
        raise wrong_type("file", file, "a str or PathLike")
    return Path(check_text("file", check_str("file", os.fsdecode(file), empty=False)))


def command(
    script: str,
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str | None] | None = None,
    timeout: float = 5.0,
) -> Probe:
    """Return a probe that is true once ``bash -c script`` exits with 0.

    Args:
        script: for example "pg_isready --quiet".
        cwd, env: as for `ttasks.Task.bash`.
        timeout: seconds for each try, above 0; then the command is ended.
    """
    check_text("script", check_str("script", script, empty=False))
    seconds = check_seconds("timeout", timeout)
    if seconds is None:
        raise wrong_type("timeout", timeout, "a number of seconds")
    return Command(script, command_options(cwd=cwd, env=env), seconds)


class BuiltIn(Probe):
    """A probe of this module."""

    __slots__ = ()

    def __call__(self) -> object:
        """Return something true if it is ready."""
        return self.check(CancelToken())

    def check(self, token: CancelToken) -> object:
        """The same; a probe that takes long ends when the token is cancelled."""
        raise NotImplementedError

    def taken(self) -> str | None:
        """What is wrong if the service has not started yet; None if nothing is."""
        return None


@dataclass(frozen=True, slots=True)
class Tcp(BuiltIn):
    """See `tcp`."""

    port: int
    host: str

    def check(self, token: CancelToken) -> object:
        """Connect."""
        return _connects(self.host, self.port)

    def taken(self) -> str | None:
        """The port is, if somebody accepts connections."""
        return _taken(self.host, self.port)

    def to_options(self) -> dict[str, Any]:
        """See `Probe`."""
        return {"probe": "tcp", "port": self.port, "host": self.host}


@dataclass(frozen=True, slots=True)
class Http(BuiltIn):
    """See `http`."""

    url: str
    status: tuple[int, ...] | None

    def check(self, token: CancelToken) -> object:
        """Ask."""
        from urllib.error import HTTPError
        from urllib.request import ProxyHandler, build_opener

        try:
            with build_opener(ProxyHandler({})).open(self.url, timeout=HTTP_SECONDS) as answer:
                code = answer.status
        except HTTPError as error:
            with error:
                code = error.code
        if code in (range(200, 400) if self.status is None else self.status):
            return True
        raise TaskExecutionError(f"{self.url} answered with status {code}")

    def taken(self) -> str | None:
        """The port is, if somebody accepts connections."""
        from urllib.parse import urlsplit

        parts = urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return _taken(parts.hostname or "", port)

    def to_options(self) -> dict[str, Any]:
        """See `Probe`."""
        status = None if self.status is None else list(self.status)
        return {"probe": "http", "url": self.url, "status": status}


@dataclass(frozen=True, slots=True)
class Output(BuiltIn):
    """See `output`. It is fed with text, and not called."""

    pattern: re.Pattern[str]

    def check(self, token: CancelToken) -> object:
        """Nothing to do: see `matches`."""
        return False

    def matches(self, text: str) -> bool:
        """True if one of these lines matches."""
        return any(self.pattern.search(line) for line in text.splitlines())

    def to_options(self) -> dict[str, Any]:
        """See `Probe`."""
        return {"probe": "output", "pattern": self.pattern.pattern, "flags": self.pattern.flags}


@dataclass(frozen=True, slots=True)
class Path(BuiltIn):
    """See `path`."""

    file: str

    def check(self, token: CancelToken) -> object:
        """Look."""
        return os.path.exists(self.file)

    def to_options(self) -> dict[str, Any]:
        """See `Probe`."""
        return {"probe": "path", "file": self.file}


@dataclass(frozen=True, slots=True)
class Command(BuiltIn):
    """See `command`."""

    script: str
    options: Mapping[str, Any] = field(hash=False)
    timeout: float

    def check(self, token: CancelToken) -> object:
        """Run it."""
        from ttasks.commands.command import run
        from ttasks.commands.shell import find_bash

        done = run(
            [find_bash(self.options), "-c", "--", self.script],
            cwd=self.options.get("cwd"),
            env=self.options.get("env"),
            timeout=self.timeout,
            grace=0,
            cancel=token,
        )
        if done.returncode == 0 and done.ended_by is None:
            return True
        if done.ended_by == "timeout":
            raise TaskExecutionError(f"{self.script} took more than {self.timeout:g} seconds")
        last = (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
        said = f": {last}" if last else ""
        raise TaskExecutionError(f"{self.script} exited with code {done.returncode}{said}")

    def to_options(self) -> dict[str, Any]:
        """See `Probe`."""
        return {
            "probe": "command",
            "script": self.script,
            "options": dict(self.options),
            "timeout": self.timeout,
        }


def probe_of(ready: Any) -> Any:
    """The probe that a service has, or that its options describe; None if it is ready at once."""
    if not isinstance(ready, Mapping):
        return ready
    options = dict(ready)
    kind = options.pop("probe", None)
    if kind not in _MADE_FROM:
        raise wrong_value("ready", ready, "the options of a probe of ttasks.ready")
    return _MADE_FROM[kind](**options)


def _function(module: str | None, name: str, file: str | None = None) -> Callable[..., Any]:
    if module is None or "<" in name:
        raise TaskExecutionError(
            f"The probe {name} of the service cannot be imported, and a ledger keeps only its "
            "name: define it with def at the top level of a module, or make the task anew"
        )
    return Imported(module, name, file)


_MADE_FROM: dict[object, Callable[..., Any]] = {
    "tcp": tcp,
    "http": http,
    "output": lambda pattern, flags=0: output(re.compile(pattern, flags)),
    "path": path,
    "command": lambda script, options, timeout: command(script, timeout=timeout, **options),
    "function": _function,
}


def _check_port(port: object) -> int:
    number = check_int("port", port, least=1)
    if number > _LAST_PORT:
        raise wrong_value("port", port, f"a port from 1 to {_LAST_PORT}")
    return number


def _check_codes(status: object) -> tuple[int, ...]:
    given: tuple[object, ...] = (status,)
    if isinstance(status, Iterable) and not isinstance(status, (str, bytes)):
        given = tuple(status)
    codes = tuple([check_int("status", code, least=100) for code in given])
    if not codes or max(codes) > _LAST_STATUS:
        raise wrong_value("status", status, f"a status code from 100 to {_LAST_STATUS}, or several")
    return codes


def _connects(host: str, port: int) -> bool:
    """True if a connection is accepted; raises OSError otherwise."""
    import socket

    with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
        # A connection from a port to itself needs no server.
        return bool(connection.getsockname() != connection.getpeername())


def _taken(host: str, port: int) -> str | None:
    if host not in ("localhost", "::1") and not host.startswith("127."):
        return None
    try:
        is_taken = _connects(host, port)
    except OSError:
        return None
    if not is_taken:
        return None
    return f"port {port} of {host} is taken: something accepted a connection before it was started"


class _Given:
    """The ports that this process has given away. Thread-safe."""

    def __init__(self) -> None:
        self._lock = sync.Lock()  # protects the set
        self._ports: set[int] = set()

    def new(self, port: int) -> bool:
        """Note a port; False if it was given before."""
        with self._lock:
            if port in self._ports:
                return False
            self._ports.add(port)
            return True


_GIVEN = _Given()
_TRIES = 1_000


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is free now and that this process has not given before.

    Another process may take it before the service does; the system chooses it at random among
    thousands, which makes that unlikely. Thread-safe.

    Args:
        host: the address of this machine on which it must be free.

    Raises:
        OSError: there is none.
    """
    import socket
    from contextlib import ExitStack

    check_str("host", host, empty=False)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as held:  # so that the system does not offer a port again
        for _ in range(_TRIES):
            taken = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
            taken.bind((host, 0))
            port: int = taken.getsockname()[1]
            if _GIVEN.new(port):
                return port
    raise OSError(f"no free port was found on {host} that was not given before")
