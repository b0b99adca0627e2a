"""The progress of a fit, for callers that wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[int, int, str], None]
"""Called with the steps done, the total number of steps, and what is being done."""

_follower: ContextVar[Progress | None] = ContextVar("follower", default=None)


@contextmanager
def followed(progress: Progress) -> Iterator[None]:
    """Call `progress` from each long `fit` inside the block; only the nets' are long.

    An exception that `progress` raises ends the fit.
    """
    token = _follower.set(progress)
    try:
        yield
    finally:
        _follower.reset(token)


@contextmanager
def stage(before: int, total: int, activity: str) -> Iterator[None]:
    """Report the steps inside the block as a stage that starts after `before` of `total` steps."""
    follower = _follower.get()
    if follower is None:
        yield
    else:
        with followed(lambda done, _, __: follower(before + done, total, activity)):
            yield


def report(done: int, total: int) -> None:
    """Report the progress of this stage, if anyone follows it."""
    follower = _follower.get()
    if follower is not None:
        follower(done, total, "")
