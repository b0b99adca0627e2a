"""A process that cannot open any more files."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_more_files(spare: int = 0) -> Iterator[None]:
    """Let the process open only `spare` more files in the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The system gives out the lowest number that is free, so all below the last one are in use.
    descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(spare + 1)]
    for descriptor in descriptors:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
