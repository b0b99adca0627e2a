"""The callbacks with which a caller follows long work, and may end it by raising."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

Checkpoint = Callable[[], None]
"""Called between the steps of long work, in any thread."""

Count = Callable[[int], None]
"""Called with the bytes of parts of an answer, about as they are in JSON, before it is made."""

# Seconds between the calls of `checkpoint` while a thread waits for a lock.
_WAIT_SECONDS = 0.05


@contextmanager
def holding(lock: Lock, checkpoint: Checkpoint) -> Iterator[None]:
    """Hold a lock during the block. While waiting for it, call `checkpoint` again and again."""
    while not lock.acquire(timeout=_WAIT_SECONDS):
        checkpoint()
    try:
        checkpoint()
        yield
    finally:
        lock.release()
