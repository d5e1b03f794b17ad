"""Telling people: a webhook whose receiver checks the signature, and answers 503 at first.

The receiver is a small server in this program, so nothing leaves the machine.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from ttasks import RetryPolicy, Task, TaskExecutor, TaskGraph
from ttasks.notify import Message, Notifier, Webhook

KEY = b"only we two know these bytes"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Receiver(BaseHTTPRequestHandler):
    """What the other side does; there are packages for that, named at standardwebhooks.com."""

    requests = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode()
        digest = hmac.digest(KEY, signed + body, hashlib.sha256)
        expected = "v1," + base64.b64encode(digest).decode()
        assert hmac.compare_digest(expected, self.headers["webhook-signature"])
        Receiver.requests += 1
        is_first = Receiver.requests == 1
        data = json.loads(body)["data"]
        print(f"received {data['subject']!r}, answering {503 if is_first else 200}")
        self.send_response(503 if is_first else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing of its own."""


def show(message: Message) -> None:
    """A function is a channel, too."""
    print(message.text)


def build_graph(code: int) -> TaskGraph:
    graph = TaskGraph("nightly", key="nightly")
    dump = graph.add(Task.bash(f"echo dumping; exit {code}", title="dump"))
    graph.add(Task.bash("true", title="upload"), after=dump)
    graph.add(Task.bash("true", title="clean up"), after=dump, finally_=True)
    return graph


def main() -> None:
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hook = Webhook(f"http://127.0.0.1:{server.server_address[1]}/hook", SECRET)

    retry = RetryPolicy(10, 0.05)  # do not wait long in an example
    with TaskExecutor() as executor, Notifier(executor, [hook, show], retry=retry) as notifier:
        for code in (0, 3, 0):
            build_graph(code).run(executor)
            notifier.flush()
        errors = notifier.errors

    server.shutdown()
    thread.join()
    server.server_close()
    assert Receiver.requests == 3  # failed (twice), mended
    print(f"not sent at once: {errors}")


if __name__ == "__main__":
    main()
