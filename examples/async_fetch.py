"""Hundreds of requests at once on one event loop, from a small server on this machine.

``async def`` functions need no thread each, however many are under way. Each has a timeout of its
own, and a group limits how many may be under way at once.
"""

from __future__ import annotations

import asyncio
import time

from ttasks import TaskExecutor, TaskGraph, TaskTimeoutError, task

PAGES = 200
PAUSE = 0.2

closed = asyncio.Event()  # the client has given up on the page that never comes


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A page that takes its time; "/never" never comes."""
    request = (await reader.readline()).decode()
    while (await reader.readline()).strip():
        pass
    path = request.split()[1]
    if path == "/never":
        await reader.read()  # until the other side gives up
        closed.set()
    else:
        await asyncio.sleep(PAUSE)
        body = f"this is {path}".encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
    writer.close()


@task(timeout=30, group="server")
async def fetch(port: int, path: str) -> str:
    """The text of a page."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await writer.drain()
        answer = (await reader.read()).decode()
        return answer.partition("\r\n\r\n")[2]
    finally:
        writer.close()


@task
def longest(pages: list[str]) -> int:
    return max(map(len, pages))


async def main() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    graph = TaskGraph("fetch")
    pages = [graph.add(fetch.task(port, f"/page/{n}")) for n in range(PAGES)]
    result = graph.add(longest.task([page.as_argument for page in pages]))
    late = fetch.having(timeout=PAUSE, title="never").task(port, "/never")
    graph.add(late, required=False)

    begin = time.perf_counter()
    with TaskExecutor(limits={"server": 100}) as executor:
        await graph.arun(executor, max_workers=4)
    took = time.perf_counter() - begin
    await closed.wait()
    server.close()
    await server.wait_closed()

    graph.raise_for_failure()
    print(
        f"{PAGES} pages of {PAUSE} s each in {took:.1f} s; the longest has {result.value} letters"
    )
    print(f"{late.title}: {late.status.value}, {late.error}; the connection is closed")
    assert result.value == len("this is /page/100")
    assert isinstance(graph.errors[late.id], TaskTimeoutError)
    assert took < PAGES * PAUSE / 4


asyncio.run(main())
