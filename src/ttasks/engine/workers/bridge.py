"""The way from an event loop to work on threads, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def wait_submitted(future: Future[T], cancel: Callable[[], object]) -> T:
    """Await a future of another thread; if cancelled, cancel the work and wait for its end."""
    waiter = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(waiter)
    except asyncio.CancelledError:
        if waiter.cancelled():
            raise
        await _finish(waiter, cancel)
        raise


async def run_off_loop(work: Callable[[], None], cancel: Callable[[], object]) -> None:
    """Run ``work`` on a thread of its own; if cancelled, call ``cancel`` and wait for its end."""
    future: Future[None] = Future()

    def target() -> None:
        try:
            work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(None)

    Thread(target=copy_context().run, args=(target,), name="ttasks-arun", daemon=True).start()
    await wait_submitted(future, cancel)


async def _finish(waiter: asyncio.Future[T], cancel: Callable[[], object]) -> None:
    """Wait for the end of work that is being cancelled, also if cancelled again meanwhile."""
    cancel()
    while not waiter.done():
        try:
            await asyncio.wait([waiter])
        except asyncio.CancelledError:
            cancel()
    if not waiter.cancelled():
        waiter.exception()  # it has been seen
