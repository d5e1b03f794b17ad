"""How long a service takes to be ready and to be stopped, beside the same by hand.

The peer starts the server with ``subprocess.Popen``, connects every 5 ms until it answers, sends
TERM and waits. The server tells how long it took until it listened. Ready: at most 50 ms after
that, a process start included in both. Stopping: at most 0.2 s.

    python benchmarks/services.py
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import figures

from ttasks import Task, TaskExecutor, ready

SERVER = """
import socket, sys, time
time.sleep(0.1)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(f"listening {time.time()}", flush=True)
while True:
    server.accept()[0].close()
"""


def by_hand() -> tuple[float, float]:
    """Seconds from listening to known to be ready, and to stop it, with the standard library."""
    port = ready.free_port()
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE, text=True
    )
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.005)
    is_ready = time.time()
    assert server.stdout is not None
    listening = float(server.stdout.readline().split()[1])
    begin = time.perf_counter()
    server.terminate()
    server.communicate()
    return is_ready - listening, time.perf_counter() - begin


def with_ttasks(executor: TaskExecutor, *, by_output: bool) -> tuple[float, float]:
    """The same with a service."""
    port = ready.free_port()
    probe = ready.output("listening") if by_output else ready.tcp(port)
    service = Task.service(
        f"exec {sys.executable} -c '{SERVER}' {port}",
        ready=probe,
    )
    with executor.running(service):
        is_ready = time.time()
        begin = time.perf_counter()
    seconds = time.perf_counter() - begin
    assert service.result is not None
    listening = float(service.result.output.split()[1])
    return is_ready - listening, seconds


def main() -> None:
    """Measure and print."""
    options = figures.parser(__doc__, repeat=15).parse_args()
    if options.quick:
        options.repeat = 3
    table = figures.Table(options)
    with TaskExecutor() as executor:
        found: dict[str, list[tuple[float, float]]] = {}
        for _ in range(options.repeat):
            found.setdefault("by hand", []).append(by_hand())
            found.setdefault("port", []).append(with_ttasks(executor, by_output=False))
            found.setdefault("output", []).append(with_ttasks(executor, by_output=True))
    for name, pairs in found.items():
        budgets = (None, None) if name == "by hand" else (0.05, 0.2)
        for what, values, budget in zip(
            ("listening to ready", "stop"), zip(*pairs, strict=True), budgets, strict=True
        ):
            table.row(f"{what}, {name}", "s", list(values), at_most=budget)
            table.row(f"{what}, {name}, worst", "s", [max(values)], at_most=budget)
    table.close()


if __name__ == "__main__":
    main()
