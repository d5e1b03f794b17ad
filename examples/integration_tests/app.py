"""A web application that keeps notes in PostgreSQL: GET /notes, and POST /notes with a text.

    DATABASE=postgresql://user@host:port/name python app.py 8000

The client `psql` stands in for a driver, so that nothing has to be installed for Python.
"""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def query(sql: str, **values: str) -> str:
    """Run SQL and return its rows, one on each line; ``:'name'`` in it stands for a value."""
    command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]
    command += [f"--set={name}={value}" for name, value in values.items()]
    command += ["--set=ON_ERROR_STOP=1", "--file=-", os.environ["DATABASE"]]
    return subprocess.run(command, input=sql, capture_output=True, text=True, check=True).stdout


class Notes(BaseHTTPRequestHandler):
    """Answers requests."""

    def do_GET(self) -> None:
        """List the notes."""
        if self.path != "/notes":
            self.send_error(404)
            return
        rows = query("SELECT json_build_object('id', id, 'text', text) FROM notes ORDER BY id;")
        self.reply(200, [json.loads(row) for row in rows.splitlines()])

    def do_POST(self) -> None:
        """Add a note."""
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if not text.strip():
            self.reply(400, {"error": "a note needs a text"})
            return
        print(f"adding {text!r}")
        number = query("INSERT INTO notes (text) VALUES (:'text') RETURNING id;", text=text)
        self.reply(201, {"id": int(number)})

    def reply(self, status: int, value: object) -> None:
        """Send a value as JSON."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Notes).serve_forever()
