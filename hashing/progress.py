"""How far a fit is, for whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[int, int, str], None]
"""Called with the steps done, the steps in all, and what is done now."""

_follower: ContextVar[Progress | None] = ContextVar("follower", default=None)


@contextmanager
def followed(progress: Progress) -> Iterator[None]:
    """Have `progress` called by each `fit` within that takes long: those of the nets.

    What it raises ends the fit.
    """
    token = _follower.set(progress)
    try:
        yield
    finally:
        _follower.reset(token)


@contextmanager
def stage(before: int, of: int, now: str) -> Iterator[None]:
    """What is reported within comes after `before` steps of all `of`."""
    follower = _follower.get()
    if follower is None:
        yield
    else:
        with followed(lambda done, _, __: follower(before + done, of, now)):
            yield


def report(done: int, of: int) -> None:
    """Tell whoever follows, if anyone does, how far this stage is."""
    follower = _follower.get()
    if follower is not None:
        follower(done, of, "")
