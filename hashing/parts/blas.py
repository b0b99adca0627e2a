"""Matrix products that round the same, whatever the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any


class _OneBlasThread:
    """The limit is the process's: of several fits at a time the last one out lifts it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._limits: Any = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Let BLAS and LAPACK use one thread inside.

        A product rounds differently on one thread and on two. A method that iterates amplifies
        that until its encoders differ in bytes, though hardly in codes.
        """
        # A library that is not loaded is not limited, and scipy brings a BLAS of its own.
        import scipy.linalg  # noqa: F401
        from threadpoolctl import threadpool_limits

        with self._lock:
            if self._inside == 0:
                self._limits = threadpool_limits(1, user_api="blas")
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._limits.restore_original_limits()


one_blas_thread = _OneBlasThread()
