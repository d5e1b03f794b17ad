"""The probes of services, and free ports."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ttasks import StoreError, TaskExecutionError, ready
from ttasks.model.cancel import CancelToken
from ttasks.model.service import probe_options
from ttasks.ready import BuiltIn, probe_of


class Answers(BaseHTTPRequestHandler):
    """Answers with the status that the path names; "/7" never answers."""

    def do_GET(self) -> None:
        code = int(self.path[1:])
        if code == 301:
            self.send_response(301)
            self.send_header("Location", "/204")
        else:
            self.send_response(code)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def test_a_port_is_ready_when_it_accepts_connections() -> None:
    port = ready.free_port()
    probe = ready.tcp(port)
    assert isinstance(probe, BuiltIn)
    with pytest.raises(ConnectionRefusedError):
        probe()
    assert probe.taken() is None
    with socket.create_server(("127.0.0.1", port)):
        assert probe()
        assert f"port {port} of 127.0.0.1 is taken" in str(probe.taken())


def test_only_a_port_of_this_machine_can_be_taken() -> None:
    probe = ready.tcp(80, "203.0.113.1")
    assert isinstance(probe, BuiltIn)
    assert probe.taken() is None


@pytest.mark.parametrize("code", [200, 204, 301])
def test_http_is_ready_with_a_good_status(server: str, code: int) -> None:
    assert ready.http(f"{server}/{code}")()  # type: ignore[operator]


def test_http_waits_for_the_status_that_is_asked_for(server: str) -> None:
    for status in (404, [200, 404]):
        assert ready.http(f"{server}/404", status)()  # type: ignore[operator]
    for url, status in ((f"{server}/503", None), (f"{server}/200", 204)):
        with pytest.raises(TaskExecutionError, match="answered with status"):
            ready.http(url, status)()  # type: ignore[operator]


def test_http_uses_no_proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert ready.http(f"{server}/200")()  # type: ignore[operator]


def test_a_path_is_ready_when_it_exists(tmp_path: Path) -> None:
    probe = ready.path(tmp_path / "socket")
    assert not probe()  # type: ignore[operator]
    (tmp_path / "socket").touch()
    assert probe()  # type: ignore[operator]


def test_a_command_is_ready_when_it_exits_with_0(tmp_path: Path) -> None:
    probe = ready.command("test -e there", cwd=tmp_path)
    with pytest.raises(TaskExecutionError, match="exited with code 1"):
        probe()  # type: ignore[operator]
    (tmp_path / "there").touch()
    assert probe()  # type: ignore[operator]
    with pytest.raises(TaskExecutionError, match="exited with code 3: no answer"):
        ready.command('echo "$SAY"; exit 3', env={"SAY": "no answer"})()  # type: ignore[operator]


def test_a_command_that_takes_long_is_ended() -> None:
    with pytest.raises(TaskExecutionError, match=r"took more than 0\.1 seconds"):
        ready.command("sleep 60", timeout=0.1)()  # type: ignore[operator]
    probe, token = ready.command("sleep 60"), CancelToken()
    assert isinstance(probe, BuiltIn)
    token.cancel()
    with pytest.raises(TaskExecutionError):
        probe.check(token)


def test_a_line_of_output_is_searched() -> None:
    probe = ready.output(r"port (\d+)$")
    assert isinstance(probe, ready.Output)
    assert probe.matches("begin\nlistening on port 80\nmore\n")
    assert not probe.matches("port 80 is free\n")
    assert ready.output(re.compile("READY", re.IGNORECASE)).matches("Ready.\n")  # type: ignore[attr-defined]


def test_ports_are_free_and_given_once() -> None:
    ports = [ready.free_port() for _ in range(200)]
    assert len(set(ports)) == 200
    for port in ports[:5]:
        socket.create_server(("127.0.0.1", port)).close()


def test_threads_get_different_ports() -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.extend(ready.free_port() for _ in range(50)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == len(found) == 200


def always() -> bool:
    return True


@pytest.mark.parametrize(
    "probe",
    [
        ready.tcp(80, "localhost"),
        ready.http("http://localhost/health", 204),
        ready.http("https://localhost/"),
        ready.output(re.compile("up", re.IGNORECASE)),
        ready.path("/tmp/x"),
        ready.command("pg_isready", env={"PGPORT": "1"}, timeout=2),
    ],
)
def test_a_probe_comes_back_from_its_options(probe: Any) -> None:
    options = probe_options(probe)
    assert probe_of(options) == probe


def test_a_function_is_imported_again_and_a_lambda_is_not() -> None:
    found = probe_of(probe_options(always))
    assert found() is True
    with pytest.raises(TaskExecutionError, match="cannot be imported"):
        probe_of(probe_options(lambda: True))
    with pytest.raises(StoreError, match="cannot be imported"):
        probe_of({"probe": "function", "module": "no_such_module", "name": "f"})()


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: ready.tcp(0), ValueError, "port"),
        (lambda: ready.tcp(65_536), ValueError, "port"),
        (lambda: ready.tcp("80"), TypeError, "port"),  # type: ignore[arg-type]
        (lambda: ready.tcp(80, ""), ValueError, "host"),
        (lambda: ready.http("127.0.0.1:80"), ValueError, "url"),
        (lambda: ready.http("http://x", "200"), TypeError, "status"),  # type: ignore[arg-type]
        (lambda: ready.http("http://x:99999/"), ValueError, "url"),
        (lambda: ready.http("http://[::1"), ValueError, "url"),
        (lambda: ready.http("http://x/a b"), ValueError, "url"),
        (lambda: ready.http("http://x", []), ValueError, "status"),
        (lambda: ready.http("http://x", 600), ValueError, "status"),
        (lambda: ready.http("http://x", 2.0), TypeError, "status"),  # type: ignore[arg-type]
        (lambda: ready.output("("), ValueError, "regular expression"),
        (lambda: ready.output(b"up"), TypeError, "pattern"),  # type: ignore[arg-type]
        (lambda: ready.path(3), TypeError, "file"),  # type: ignore[arg-type]
        (lambda: ready.path("a\0b"), ValueError, "file"),
        (lambda: ready.command(""), ValueError, "script"),
        (lambda: ready.command("a\0b"), ValueError, "script"),
        (lambda: ready.free_port(None), TypeError, "host"),  # type: ignore[arg-type]
        (lambda: ready.free_port(""), ValueError, "host"),
        (lambda: ready.command("true", timeout=0), ValueError, "timeout"),
        (lambda: probe_of({"probe": "other"}), ValueError, "ready"),
    ],
)
def test_bad_arguments_are_refused(
    call: Callable[[], object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        call()
