"""Thread pools that can be closed within a time limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any


class Pool(ThreadPoolExecutor):
    """A thread pool that knows its unfinished work."""

    def __init__(self, workers: int, name: str) -> None:
        super().__init__(workers, name)
        self._unfinished: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call; see `ThreadPoolExecutor.submit`."""
        future = super().submit(fn, *args, **kwargs)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future

    def close(self, seconds: float) -> bool:
        """Cancel queued calls, wait up to `seconds` for running ones; return whether all ended."""
        return close_all([self], seconds)


def close_all(pools: Iterable[Pool], seconds: float) -> bool:
    """Cancel the queued calls of all pools, then wait up to `seconds` for the running ones.

    Return whether all have ended.
    """
    unfinished: list[Future[Any]] = []
    for pool in pools:
        pool.shutdown(wait=False, cancel_futures=True)
        unfinished += pool._unfinished
    return not wait(unfinished, seconds).not_done
