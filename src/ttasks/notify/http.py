"""One POST over HTTP: within a time limit, with the certificate checked, and to one host only."""

from __future__ import annotations

import base64
import io
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from ttasks.model.checks import check_str
from ttasks.notify.errors import NotifyError
from ttasks.report.labels import one_line

LONGEST = 24 * 3600.0
"""Seconds of the longest time limit of a channel."""
LONGEST_WAIT = 3600.0
"""Seconds of a Retry-After that are kept to."""

_ANSWER_BYTES = 2048
# Statuses of 400 to 499 after which another attempt may help.
_TEMPORARY = frozenset({408, 409, 421, 423, 425, 429})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check_url(value: object, *, https: bool = False) -> SplitResult:
    """An http(s) URL; errors never show more of it than scheme and host.

    Args:
        value: given as ``url``.
        https: refuse http, but to this machine itself, as the URL is a secret.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"url must be a str, got {type(value).__name__}")
    check_str("url", value, empty=False)
    if not value.isascii() or any(not letter.isprintable() or letter == " " for letter in value):
        raise ValueError("url has characters that a URL cannot have; percent-encode them")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError("url is no URL: its host or port is wrong") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(
            f"url must be like https://host/path, got one that begins with {value[:8]!r}"
        )
    if parts.username is not None:
        raise ValueError("url must not have a user or password in it; give headers instead")
    if https and parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError(f"url must be https, as it is a secret; got http://{parts.hostname}")
    return parts


def check_context(value: object) -> ssl.SSLContext | None:
    """None, or an SSLContext."""
    if value is not None and not isinstance(value, ssl.SSLContext):
        raise TypeError(f"tls_context must be an ssl.SSLContext, got {type(value).__name__}")
    return value


def post(
    url: SplitResult,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout: float,
    context: ssl.SSLContext | None,
) -> None:
    """Send a body; returns if the answer is a status from 200 to 299.

    Redirects are not followed. The variables ``https_proxy``, ``http_proxy`` and ``no_proxy`` are
    kept to.

    Args:
        url: from `check_url`.
        body: what to send.
        headers: besides those of HTTP itself.
        timeout: seconds for the connection, and again for all that comes after it.
        context: for TLS; None checks certificates by the system's authorities.

    Raises:
        NotifyError: whatever went wrong.
    """
    connection, target, extra = _connection(url, timeout, context)
    opened: socket.socket | None = None
    try:
        connection.connect()
        opened = connection.sock
        connection.sock = _Limited(opened, monotonic() + timeout)
        named = {"User-Agent": "ttasks", "Connection": "close", **extra, **headers}
        connection.request("POST", target, body, named)
        answer = connection.getresponse()
        if not 200 <= answer.status < 300:
            raise _refusal(answer)
    except ssl.SSLCertVerificationError as error:
        reason = f"the certificate of {url.hostname} is not valid: {error.verify_message}"
        raise NotifyError(reason, is_final=True) from error
    except TimeoutError as error:
        raise NotifyError(f"{url.hostname} did not answer within {timeout:g} s") from error
    except HTTPException as error:
        text = one_line(str(error)) or type(error).__name__
        raise NotifyError(f"{url.hostname} gave an answer that is not HTTP: {text}") from error
    except OSError as error:
        reason = one_line(error.strerror or str(error) or type(error).__name__)
        raise NotifyError(f"cannot reach {url.hostname}: {reason}") from error
    finally:
        connection.close()
        if opened is not None:
            opened.close()


def _connection(
    url: SplitResult, timeout: float, context: ssl.SSLContext | None
) -> tuple[HTTPConnection, str, dict[str, str]]:
    """The connection, what to ask it for, and headers for a proxy."""
    host = url.hostname or ""
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if url.scheme == "https" and context is None:
        context = ssl.create_default_context()
    proxy = None if proxy_bypass(host) or host in LOOPBACK else getproxies().get(url.scheme)
    if not proxy:
        if url.scheme == "https":
            return HTTPSConnection(host, url.port, timeout=timeout, context=context), target, {}
        return HTTPConnection(host, url.port, timeout=timeout), target, {}
    try:
        there = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        place = there.hostname, there.port or 80
    except ValueError:
        place = None, 0
    if place[0] is None:
        raise NotifyError(f"the variable {url.scheme}_proxy is no URL of a proxy", is_final=True)
    extra = {}
    if there.username is not None:
        pair = f"{unquote(there.username)}:{unquote(there.password or '')}"
        extra["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    if url.scheme == "https":
        tunnel = HTTPSConnection(place[0], place[1], timeout=timeout, context=context)
        tunnel.set_tunnel(host, url.port or 443, headers=extra)
        return tunnel, target, {}
    return HTTPConnection(place[0], place[1], timeout=timeout), url.geturl(), extra


class _Limited:
    """A socket for `http.client` whose reads and writes all end at one moment."""

    def __init__(self, real: socket.socket, until: float) -> None:
        self._real = real
        self._until = until

    def _limit(self) -> socket.socket:
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError
        self._real.settimeout(left)
        return self._real

    def sendall(self, data: Any) -> None:
        """Send all of it."""
        self._limit().sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """A file to read from."""
        return io.BufferedReader(_Answer(lambda buffer: self._limit().recv_into(buffer)))

    def close(self) -> None:
        """Nothing: the answer may still have to be read; `post` closes the socket."""


class _Answer(io.RawIOBase):
    def __init__(self, read: Any) -> None:
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return int(self._read(buffer))


def _refusal(answer: HTTPResponse) -> NotifyError:
    status = answer.status
    if 300 <= status < 400:
        there = urlsplit(answer.headers.get("Location", "")).hostname or "another address"
        return NotifyError(
            f"HTTP {status}, a redirect to {there}, which is not followed; give that URL",
            is_final=True,
        )
    try:
        said = one_line(answer.read(_ANSWER_BYTES).decode("utf-8", "replace"))
    except (OSError, HTTPException):
        said = ""
    is_final = 400 <= status < 500 and status not in _TEMPORARY
    reason = f"HTTP {status} {one_line(answer.reason)}".rstrip() + (f": {said}" if said else "")
    return NotifyError(reason, _seconds(answer.headers.get("Retry-After")), is_final)


def _seconds(text: str | None) -> float | None:
    """The seconds of a Retry-After: a number or a date; None if it is neither."""
    if text is None:
        return None
    try:
        wait = float(int(text))
    except ValueError:
        try:
            until = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        wait = (until - datetime.now(UTC)).total_seconds()
    return min(max(wait, 0.0), LONGEST_WAIT)
