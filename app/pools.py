"""Thread pools that can be closed within a time limit."""

from __future__ import annotations

from collections.abc import Callable
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
        self.shutdown(wait=False, cancel_futures=True)
        return not wait(list(self._unfinished), seconds).not_done
