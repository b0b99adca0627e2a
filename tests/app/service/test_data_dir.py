"""The data directory: private files, and no leftovers of killed processes."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from app.service.data_dir import lock_data_dir
from app.service.service import Service
from app.service.settings import Settings
from index import Database, InUse
from tests.app.cli.test_main import bitcell
from tests.app.conftest import settings_in

EARLIER = Path(__file__).parents[2] / "index" / "data" / "version-2.db"


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in sorted(folder.rglob("*"))
    }


def fill(settings: Settings) -> dict[str, int]:
    """Make everything that a service makes in its data directory; return the modes of the files."""
    service = Service(settings)
    try:
        service.encoders.create("e", "lsh", 8, {}, dimension=4)
        service.collections.create("c", "e", keep_descriptors=True)
        service.collections.upsert("c", ["a"], np.ones((1, 4)))
        service.snapshots.write("c")
        with service.jobs._folders.of("0123456789ab") as folder:
            (folder / "ids.npy").touch()
            return modes(settings.data_dir)
    finally:
        service.close()


def test_a_new_directory_is_closed_to_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path)
    found = fill(settings)
    assert {"bitcell.db", "bitcell.db-wal", "bitcell.db.lock", "snapshots"} <= set(found)
    assert any(name.endswith("/ids.npy") for name in found)
    assert {name: mode for name, mode in found.items() if mode & 0o077} == {}
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700
    # The command line makes its files private as well.
    os.umask(0o022)
    monkeypatch.setenv("BITCELL_DATA_DIR", str(tmp_path / "other"))
    assert bitcell(monkeypatch, "keys create mine") == 0
    assert {mode & 0o077 for mode in modes(tmp_path).values()} == {0}
    os.umask(0o022)
    monkeypatch.setenv("BITCELL_DATA_DIR", str(settings.data_dir))
    assert bitcell(monkeypatch, f"snapshot c {tmp_path}/c.snapshot") == 0
    assert {mode & 0o077 for mode in modes(tmp_path).values()} == {0}


def test_what_an_earlier_version_made_is_closed_to_strangers(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    for folder in (settings.data_dir, settings.data_dir / "snapshots"):
        folder.mkdir(mode=0o755)
    shutil.copy(EARLIER, settings.data_dir / "bitcell.db")
    (settings.data_dir / "bitcell.db.lock").touch()
    (settings.data_dir / "notes.txt").touch()
    found = fill(settings)
    assert found["bitcell.db"] == found["bitcell.db.lock"] == 0o640
    assert found["snapshots"] == 0o750
    assert found["bitcell.db-wal"] & 0o007 == 0
    # Neither the directory nor what others put there is ours to change.
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o755
    assert found["notes.txt"] == 0o644


def test_a_directory_that_passes_on_its_group_stays_readable_for_it(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.data_dir.mkdir()
    settings.data_dir.chmod(0o2770)
    found = fill(settings)
    for name, mode in found.items():
        assert mode & 0o007 == 0
        assert (mode & 0o040) or name == "keys.db", name


def test_partial_files_of_killed_processes_are_removed_at_start(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    left = [
        "snapshots/.0123456789abcdef.bitcell-partial",
        "snapshots/restore-0123456789abcdef.bitcell-partial",
        "snapshots/c-20240101T000000000000.snapshot.part",
        "snapshots/c-20240101T000000000000.snapshot.1.partial",
        "datasets/cifar10.partial/.0123456789abcdef.bitcell-partial",
        "downloads/.0123456789abcdef.bitcell-partial",
    ]
    kept = [
        "snapshots/c-20240101T000000000000.snapshot",
        "snapshots/notes.part",
        "snapshots/c.snapshot.part",
        "datasets/cifar10.partial/0.npy",
        "downloads/cifar-10-binary.tar.gz.part",  # The next download resumes it.
        ".0123456789abcdef.bitcell-partial",
    ]
    for name in left + kept:
        (settings.data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (settings.data_dir / name).touch()
    # Another process owns the data: its files are not touched.
    database = Database(settings.data_dir / "bitcell.db")
    with pytest.raises(OSError, match="in use by another process"):
        Service(settings)
    assert set(left + kept) <= set(modes(settings.data_dir))
    database.close()
    Service(settings).close()
    found = set(modes(settings.data_dir))
    assert set(kept) <= found
    assert not found & set(left)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(OSError, match="data cannot hold the data"):
        Service(settings_in(tmp_path))


def test_another_thread_may_end_the_lock_of_a_directory_without_a_record(tmp_path: Path) -> None:
    """As at the end of a service, which threads close."""
    with ExitStack() as opened, ThreadPoolExecutor(1) as threads:
        opened.enter_context(lock_data_dir(tmp_path))
        with pytest.raises(InUse), lock_data_dir(tmp_path):
            pass
        threads.submit(opened.close).result()
    with lock_data_dir(tmp_path):
        pass
