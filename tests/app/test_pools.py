"""Pools that end in time."""

from __future__ import annotations

from threading import Event

from app.pools import Pool


def test_closing_waits_for_running_work() -> None:
    pool = Pool(2, "test")
    future = pool.submit(sum, [1, 2])
    assert pool.close(30)
    assert future.result() == 3


def test_closing_gives_up_on_work_that_does_not_end() -> None:
    pool, started, release = Pool(1, "test"), Event(), Event()

    def block() -> None:
        started.set()
        release.wait(60)

    running, queued = pool.submit(block), pool.submit(block)
    assert started.wait(30)
    assert not pool.close(0.01)
    assert queued.cancelled()
    assert not running.done()
    release.set()
