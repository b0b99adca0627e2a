"""Opening and closing a service."""

from __future__ import annotations

import threading

import pytest

from app.jobs.queue import Jobs
from app.service.service import Service
from app.service.settings import Settings
from index import Database


def threads() -> set[str]:
    """Return the names of all threads but those that an earlier test client left behind."""
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if not name.startswith("AnyIO")}


def check_all_is_closed(settings: Settings, before: set[str]) -> None:
    assert threads() == before
    # While it is open, no other may open it.
    Database(settings.data_dir / "bitcell.db").close()


def test_a_damaged_file_of_keys_is_named_and_nothing_stays_open(settings: Settings) -> None:
    before = threads()
    settings.data_dir.mkdir()
    path = settings.data_dir / "keys.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(OSError, match=r"cannot read or write .*keys\.db: file is not a database"):
        Service(settings)
    check_all_is_closed(settings, before)
    path.unlink()
    Service(settings).close()
    check_all_is_closed(settings, before)


def test_nothing_stays_open_if_jobs_cannot_be_resumed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threads()

    def fail(jobs: Jobs) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Jobs, "resume", fail)
    with pytest.raises(OSError, match="the disk is full"):
        Service(settings)
    check_all_is_closed(settings, before)
