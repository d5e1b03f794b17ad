"""A model server on 127.0.0.1 that speaks chat completions and answers as a test tells it."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOKENS = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


@dataclass
class Call:
    """One request that the server got."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def key(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    def texts(self, role: str) -> list[str]:
        return [m["content"] for m in self.body["messages"] if m["role"] == role]


Reply = Callable[["_Exchange", Call], None]


@dataclass
class ChatServer:
    """Answers with ``replies`` one after the other, and with the last one ever after.

    Attributes:
        calls: what was asked.
        asked: set as soon as a request is there.
        hung_up: set when a client has gone away while it waited for an answer.
        go: what `says(..., gate=True)` waits for after its first chunk.
    """

    replies: Sequence[Reply]
    calls: list[Call] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    hung_up: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def setting(self, **more: Any) -> dict[str, Any]:
        """The Copilot SDK's provider setting for this server."""
        return {"type": "openai", "wire_api": "completions", "base_url": self.url, **more}


class _Exchange(BaseHTTPRequestHandler):
    """One request and its answer; connections are not kept, so that no thread is."""

    chat: ChatServer

    def log_message(self, *_args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.path, headers, body)
        number = len(self.chat.calls)
        self.chat.calls.append(call)
        self.chat.asked.set()
        try:
            self.chat.replies[min(number, len(self.chat.replies) - 1)](self, call)
        except ConnectionError:
            self.chat.hung_up.set()

    def send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, status: int, value: Any) -> None:
        self.send(status, "application/json", json.dumps(value).encode())

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()

    def send_event(self, data: Any) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        self.wfile.write(f"data: {text}\n\n".encode())
        self.wfile.flush()


class _Server(ThreadingHTTPServer):
    """Ends what is under way when it is closed."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    def end(self, thread: threading.Thread) -> None:
        self.shutdown()
        thread.join()
        for request in list(self.open):
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:  # the other side was faster
                pass
        self.server_close()  # waits for the threads


@contextmanager
def chat_server(*replies: Reply) -> Iterator[ChatServer]:
    """A server that answers like this, for a ``with`` block."""
    chat = ChatServer(replies or (says("Hello ", "world"),))
    server = _Server()
    server.RequestHandlerClass = type("Exchange", (_Exchange,), {"chat": chat})  # type: ignore[assignment]
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="chat-server")
    thread.start()
    try:
        yield chat
    finally:
        chat.go.set()
        server.end(thread)


def closed_port_url() -> str:
    """A URL at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    return f"http://127.0.0.1:{port}/v1"


# --- replies ------------------------------------------------------------------------------------


def says(*chunks: str, stream: bool = True, gate: bool = False, usage: bool = True) -> Reply:
    """Answer with this text, in these chunks if the client and ``stream`` want that."""

    def reply(exchange: _Exchange, call: Call) -> None:
        if not (stream and call.body.get("stream")):
            message = {"role": "assistant", "content": "".join(chunks)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {**_head(call), "object": "chat.completion", "choices": [choice]}
            exchange.send_json(200, {**whole, "usage": TOKENS})
            return
        exchange.begin_stream()
        for position, chunk in enumerate(chunks):
            if gate and position == 1:
                exchange.chat.go.wait(30)
            exchange.send_event(_chunk(call, {"role": "assistant", "content": chunk}))
        exchange.send_event(_chunk(call, {}, "stop"))
        if usage:
            exchange.send_event({**_head(call), "choices": [], "usage": TOKENS})
        exchange.send_event("[DONE]")

    return reply


def calls_tool(name: str, arguments: dict[str, Any], text: str = "Let me see.") -> Reply:
    """Answer by calling a tool of the client."""

    def reply(exchange: _Exchange, call: Call) -> None:
        function = {"name": name, "arguments": json.dumps(arguments)}
        tool = {"index": 0, "id": "call_1", "type": "function", "function": function}
        exchange.begin_stream()
        exchange.send_event(
            _chunk(call, {"role": "assistant", "content": text, "tool_calls": [tool]})
        )
        exchange.send_event(_chunk(call, {}, "tool_calls"))
        exchange.send_event({**_head(call), "choices": [], "usage": TOKENS})
        exchange.send_event("[DONE]")

    return reply


def fails(status: int, message: str = "no", code: str = "some_code") -> Reply:
    """Answer with an error as OpenAI words them."""

    def reply(exchange: _Exchange, _call: Call) -> None:
        error = {"message": message, "type": code, "code": code}
        exchange.send_json(status, {"error": error})

    return reply


def babbles(body: bytes = b"<html>hello</html>", kind: str = "application/json") -> Reply:
    """Answer with something that is no answer."""
    return lambda exchange, _call: exchange.send(200, kind, body)


def breaks_off(*chunks: str) -> Reply:
    """Begin an answer, and close the connection."""

    def reply(exchange: _Exchange, call: Call) -> None:
        exchange.begin_stream()
        for chunk in chunks:
            exchange.send_event(_chunk(call, {"role": "assistant", "content": chunk}))

    return reply


def never(*chunks: str) -> Reply:
    """Begin an answer with these chunks, if any, and wait until the client goes away."""

    def reply(exchange: _Exchange, call: Call) -> None:
        if chunks:
            exchange.begin_stream()
        for chunk in chunks:
            exchange.send_event(_chunk(call, {"role": "assistant", "content": chunk}))
        try:
            exchange.connection.recv(1)
        except OSError:
            pass
        exchange.chat.hung_up.set()

    return reply


def _head(call: Call) -> dict[str, Any]:
    model = call.body["model"]
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model}


def _chunk(call: Call, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {**_head(call), "choices": [choice]}


# --- the Copilot CLI ----------------------------------------------------------------------------


def use_copilot_cli(patch: pytest.MonkeyPatch, home: Path) -> str:
    """Let the SDK start the real Copilot CLI, which keeps to ``home``; returns the CLI's path.

    Skips the test unless CI asks for it: the CLI is large, and whoever runs the tests has a say.
    """
    path = os.environ.get("COPILOT_CLI_PATH")
    if not path:
        pytest.skip(
            "NOT TESTED AGAINST THE REAL COPILOT CLI, which .ci/run does; to do it here, set "
            "COPILOT_CLI_PATH to what .ci/copilot-cli prints"
        )
    patch.setenv("COPILOT_HOME", str(home))
    patch.setenv("COPILOT_CACHE_HOME", str(ROOT / ".cache" / "copilot"))
    return path
