"""Servers that messages are sent to: HTTP with answers by a script, and SMTP."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from support import WAIT
from ttasks.notify import Message, Reason

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

Answer = int | bytes | tuple[int, dict[str, str]] | tuple[int, dict[str, str], str] | None
"""A status, with headers and a body; raw bytes in place of HTTP; None never answers."""

DRIP = b"drip"
"""An answer whose bytes all come in time, but that never ends."""


@dataclass(frozen=True)
class Post:
    """A request that a server has received."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Web:
    """An HTTP server on 127.0.0.1; each answer is given once, the last one again and again."""

    port: int
    scheme: str = "http"
    answers: list[Answer] = field(default_factory=lambda: [200])
    posts: list[Post] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    _came: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook/T0KEN-in-path"

    def take(self, post: Post) -> Answer:
        with self._came:
            self.posts.append(post)
            self._came.notify_all()
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def wait_for(self, number: int) -> list[Post]:
        """The requests, once there are so many."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.posts) >= number, WAIT), self.posts
            return list(self.posts)


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = web.take(
                Post(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            )
            if answer == DRIP:
                with contextlib.suppress(OSError):
                    while not web.released.wait(0.02):
                        self.wfile.write(b"H")
                self.close_connection = True
            elif answer is None:
                web.released.wait(WAIT)
                self.close_connection = True
            elif isinstance(answer, bytes):
                self.wfile.write(answer)
                self.close_connection = True
            else:
                status, extra, text = _parts(answer)
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _parts(answer: Any) -> tuple[int, dict[str, str], str]:
    status, *more = answer if isinstance(answer, tuple) else (answer,)
    return status, more[0] if more else {}, more[1] if len(more) > 1 else ""


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that gave up


@contextlib.contextmanager
def serve(certificate: trustme.LeafCert | None = None) -> Iterator[Web]:
    """Serve HTTP, or HTTPS with a certificate."""
    web = Web(0)
    server = _Server(("127.0.0.1", 0), _handler(web))
    web.port = server.server_address[1]
    if certificate is not None:
        web.scheme = "https"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.released.set()
        server.shutdown()
        server.server_close()
        thread.join(WAIT)


# Mail


@dataclass
class PostOffice:
    """An SMTP server on 127.0.0.1.

    Attributes:
        refuse: answer to RCPT, by address.
        answer: to the end of the data.
    """

    port: int = 0
    refuse: dict[str, str] = field(default_factory=dict)
    answer: str = "250 OK"
    mails: list[EmailMessage] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    was_tls: list[bool] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.answer.startswith("250"):
            mail = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
            self.was_tls.append(session.ssl is not None)
            self.recipients.append(list(envelope.rcpt_tos))
        return self.answer

    def authenticate(
        self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any
    ) -> AuthResult:
        login = data.login.decode(), data.password.decode()
        self.logins.append(login)
        return AuthResult(success=login == ("robot", "hunter2-password"), handled=False)


class _Controller(Controller):
    def __init__(self, office: PostOffice, context: ssl.SSLContext | None, mode: str) -> None:
        self._office, self._context, self._mode = office, context, mode
        super().__init__(office, "127.0.0.1", 0, ssl_context=context if mode == "tls" else None)

    @property
    def bound(self) -> int:
        return int(self.server.sockets[0].getsockname()[1])

    def _trigger_server(self) -> None:
        # `start` waits for a first connection, and would make it to the port 0 that it was given.
        self.port = self.bound
        super()._trigger_server()

    def factory(self) -> SMTP:
        with_password = self._mode != "plain"
        with warnings.catch_warnings():
            # It does not see that all of the connection is inside of TLS.
            warnings.simplefilter("ignore", UserWarning)
            return self._smtp(with_password)

    def _smtp(self, with_password: bool) -> SMTP:
        return SMTP(
            self._office,
            hostname="mail.test",
            tls_context=self._context if self._mode == "starttls" else None,
            require_starttls=self._mode == "starttls",
            authenticator=self._office.authenticate if with_password else None,
            auth_required=with_password,
            auth_require_tls=self._mode == "starttls",
            enable_SMTPUTF8=True,
        )


@contextlib.contextmanager
def post_office(mode: str, certificate: trustme.LeafCert | None = None) -> Iterator[PostOffice]:
    """Serve SMTP: "plain", "starttls" or "tls"; the last two ask for a password."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
    office = PostOffice()
    controller = _Controller(office, context, mode)
    controller.start()
    office.port = controller.bound
    try:
        yield office
    finally:
        controller.stop()


@dataclass(frozen=True)
class Authority:
    """Makes certificates, and a context that trusts them."""

    authority: trustme.CA = field(
        default_factory=lambda: trustme.CA(key_type=trustme.KeyType.ECDSA)
    )

    def certificate(self, name: str = "127.0.0.1") -> trustme.LeafCert:
        return self.authority.issue_cert(name, key_type=trustme.KeyType.ECDSA)

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


# Messages


def message(
    *,
    title: str = "nightly",
    outcome: str = "failed",
    failures: int = 1,
    error: str = "exit code 3",
    output: str = "no space left",
    report: str | None = None,
) -> Message:
    """A message with so many failures."""
    run = {
        "id": "run-1",
        "number": 7,
        "title": title,
        "key": "nightly",
        "outcome": outcome,
        "error": None,
        "host": "build-1",
        "started_at": "2026-05-04T03:02:01+00:00",
        "duration": 65.0,
        "counts": {"failed": failures},
        "summary": f"{failures} failed",
    }
    told = [
        {
            "title": f"task {at}",
            "status": "failed",
            "error": error,
            "output": output,
            "did_not_run": ["after it"],
        }
        for at in range(failures)
    ]
    return Message(
        "msg_0123456789",
        datetime(2026, 5, 4, 3, 3, tzinfo=UTC),
        f"{title}: it failed",
        (Reason("failed" if outcome == "failed" else "mended", "it failed"),),
        {"run": run, "failures": told, "more_failures": 0},
        report,
    )


class Collector:
    """A channel function that keeps the messages, and raises what it is told to."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.messages: list[Message] = []
        self.calls = 0
        self._came = threading.Condition()

    def __call__(self, message: Message) -> None:
        with self._came:
            self.calls += 1
            self._came.notify_all()
            if self.errors:
                raise self.errors.pop(0)
            self.messages.append(message)

    def wait_for(self, calls: int) -> None:
        with self._came:
            assert self._came.wait_for(lambda: self.calls >= calls, WAIT)

    @property
    def kinds(self) -> list[str]:
        return [item.kind for item in self.messages]


def named(function: Callable[[Message], None], name: str) -> Callable[[Message], None]:
    """The function under a name of its own."""

    def call(message: Message) -> None:
        function(message)

    call.__qualname__ = name
    return call
