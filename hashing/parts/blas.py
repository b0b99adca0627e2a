"""Matrix products that round the same on any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any


class _OneBlasThread:
    """A limit of one BLAS thread, which is a setting of the whole process.

    If several fits run at a time, the last one to end lifts the limit.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._limits: Any = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Let BLAS and LAPACK use one thread inside the block.

        A product rounds differently on one thread than on two. An iterative method amplifies the
        difference until the bytes of its encoders differ, although the codes hardly do.
        """
        # The limit applies only to libraries that are loaded, and scipy brings its own BLAS.
        import scipy.linalg  # noqa: F401
        from threadpoolctl import threadpool_limits

        with self._lock:
            if self._users == 0:
                self._limits = threadpool_limits(1, user_api="blas")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._limits.restore_original_limits()


one_blas_thread = _OneBlasThread()
