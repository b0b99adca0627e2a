"""Files that appear whole or not at all, also if their writer is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hashing.atomic_file import atomic_write, remove_leftovers, temporary_file

WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from hashing.atomic_file import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    file.write(b"the beginning")
    file.flush()
    print("written", flush=True)
    sys.stdin.read()
"""


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    with atomic_write(path) as file:
        file.write(b"after")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after"
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"%d" % (1 // 0))
    assert path.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_leaves_is_removed_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    arguments = [sys.executable, "-c", WRITE_AND_WAIT, str(tmp_path / "a")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        (partial,) = tmp_path.iterdir()
        remove_leftovers(tmp_path)
        with atomic_write(tmp_path / "b") as file:
            file.write(b"b")
        assert partial.read_bytes() == b"the beginning"
        writer.send_signal(signal.SIGKILL)
    assert partial.exists()
    others = [tmp_path / name for name in ("x.partial", "x.part", ".bitcell-partial.txt")]
    for other in others:
        other.touch()
    (tmp_path / "folder.bitcell-partial").mkdir()
    (tmp_path / "link.bitcell-partial").symlink_to(others[0])
    kept = set(tmp_path.iterdir()) - {partial}
    with atomic_write(tmp_path / "b") as file:
        file.write(b"c")
    assert set(tmp_path.iterdir()) == kept


def test_a_cleaner_that_comes_before_the_lock_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hashing import atomic_file

    lock = atomic_file._lock
    cleaned: list[bool] = []

    def clean_and_lock(descriptor: int) -> bool | None:
        if not cleaned:
            cleaned.append(True)
            remove_leftovers(tmp_path)
        return lock(descriptor)

    monkeypatch.setattr(atomic_file, "_lock", clean_and_lock)
    with atomic_write(tmp_path / "a") as file:
        file.write(b"whole")
    assert cleaned
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_cleaner_that_deletes_after_the_lock_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has locked the file before its writer, but has not deleted it yet."""
    from hashing import atomic_file

    lock = atomic_file._lock
    cleaned: list[Path] = []

    def lock_second(descriptor: int) -> bool | None:
        if cleaned:
            return lock(descriptor)
        cleaned.extend(tmp_path.iterdir())
        with cleaned[0].open("rb") as cleaner:
            assert lock(cleaner.fileno())
            return lock(descriptor)

    monkeypatch.setattr(atomic_file, "_lock", lock_second)
    with atomic_write(tmp_path / "a") as file:
        file.write(b"whole")
        cleaned[0].unlink(missing_ok=True)
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_temporary_file_is_deleted(tmp_path: Path) -> None:
    with temporary_file(tmp_path, "restore-") as file:
        (path,) = tmp_path.iterdir()
        assert path.name.startswith("restore-")
        assert os.fspath(path) == os.fspath(file.name)
    assert list(tmp_path.iterdir()) == []
    remove_leftovers(tmp_path / "missing")
