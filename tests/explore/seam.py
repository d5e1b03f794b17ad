"""Puts the primitives of `explore.primitives` in the place of the real ones, for a run.

They go into `ttasks.sync`, and wherever a module of the library has a name of its own for one of
them; into `signal`, `asyncio.new_event_loop` and the futures of the standard library. Locks that
objects of modules have had since their import get a virtual one for each run.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import concurrent.futures._base
import gc
import importlib
import pkgutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import ttasks
from explore import primitives
from explore.threads import VirtualThread

REPLACED: list[tuple[Any, Any]] = [
    (threading.Lock, primitives.Lock),
    (threading.RLock, primitives.RLock),
    (threading.Condition, primitives.Condition),
    (threading.Event, primitives.Event),
    (threading.Thread, VirtualThread),
    (threading.current_thread, primitives.current_thread),
    (threading.main_thread, primitives.main_thread),
    (threading.get_ident, primitives.get_ident),
    (time.sleep, primitives.sleep),
    (time.monotonic, primitives.monotonic),
    (signal.signal, primitives.set_signal),
    (signal.getsignal, primitives.get_signal),
]
THREADING = SimpleNamespace(
    **{
        **vars(threading),
        "Lock": primitives.Lock,
        "RLock": primitives.RLock,
        "Condition": primitives.Condition,
        "Event": primitives.Event,
        "Thread": VirtualThread,
        "current_thread": primitives.current_thread,
        "main_thread": primitives.main_thread,
        "get_ident": primitives.get_ident,
    }
)
TIME = SimpleNamespace(
    **{**vars(time), "sleep": primitives.sleep, "monotonic": primitives.monotonic}
)
REPLACED += [(threading, THREADING), (time, TIME)]

_patches: list[tuple[Any, str, Any, Any]] = []  # where, name, what was there, what comes there
_locks: list[tuple[Any, str, Any, type[primitives.Lock]]] = []  # where, name, lock, virtual class
_LOCKS = {type(threading.Lock()): primitives.Lock, type(threading.RLock()): primitives.RLock}


def _find_patches() -> None:
    """Import the whole library, and note every name that stands for something real."""
    for module in pkgutil.walk_packages(ttasks.__path__, "ttasks."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    new = {id(real): virtual for real, virtual in REPLACED}
    for name, module in list(sys.modules.items()):
        if name == "ttasks" or name.startswith("ttasks."):
            for attribute, value in list(vars(module).items()):
                if id(value) in new:
                    _patches.append((module, attribute, value, new[id(value)]))
                elif isinstance(value, type) and value.__module__ == name:
                    _patch_class(value, new)
                elif type(value) in _LOCKS:
                    _locks.append((module, attribute, value, _LOCKS[type(value)]))
                elif type(value).__module__ == name:
                    _find_locks(value)
    _patches.extend(
        [
            (signal, "signal", signal.signal, primitives.set_signal),
            (signal, "getsignal", signal.getsignal, primitives.get_signal),
            (signal, "set_wakeup_fd", signal.set_wakeup_fd, primitives.set_wakeup_fd),
            (concurrent.futures._base, "threading", threading, THREADING),
            *(
                (module, "new_event_loop", module.new_event_loop, primitives.VirtualLoop.make)
                for module in (asyncio, asyncio.events)
            ),
        ]
    )


def _patch_class(kind: type, new: dict[int, Any]) -> None:
    """``now = staticmethod(monotonic)`` and ``field(default_factory=Lock)`` keep what they got."""
    for name, value in list(vars(kind).items()):
        if isinstance(value, staticmethod) and id(value.__func__) in new:
            _patches.append((kind, name, value, staticmethod(new[id(value.__func__)])))
    if hasattr(kind, "__dataclass_fields__"):
        for cell in getattr(kind.__init__, "__closure__", None) or ():
            with suppress(ValueError):  # it is empty
                old = cell.cell_contents
                if id(old) in new:
                    _patches.append((cell, "cell_contents", old, new[id(old)]))


def _find_locks(holder: Any) -> None:
    """A thread that is switched while it holds a real lock would block the others for good."""
    slots = (name for kind in type(holder).__mro__ for name in getattr(kind, "__slots__", ()))
    for name in {*getattr(holder, "__dict__", ()), *slots}:
        lock = getattr(holder, name, None)
        if type(lock) in _LOCKS:
            _locks.append((holder, name, lock, _LOCKS[type(lock)]))


@contextmanager
def virtual() -> Iterator[None]:
    """Virtual primitives for a ``with`` block; all that they are for has to be made in it.

    The garbage collector waits: what it calls would come at a different point each time.
    """
    if not _patches:
        _find_patches()
    was_enabled = gc.isenabled()
    gc.disable()
    for where, name, _old, new in _patches:
        setattr(where, name, new)
    for where, name, _lock, kind in _locks:
        setattr(where, name, kind())
    try:
        yield
    finally:
        for where, name, old, _new in [*_patches, *_locks]:
            setattr(where, name, old)
        if was_enabled:
            gc.enable()
