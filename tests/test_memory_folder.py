"""Temporary files are in memory, and nothing of them is left behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from tests import memory_folder
from tests.memory_folder import make_folder

ROOT = Path(__file__).resolve().parent.parent
# Makes a folder, says which, and waits to be killed.
RUN = """
import sys
from pathlib import Path
from tests.memory_folder import make_folder
print(make_folder(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _enough_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_folder, "ROOM", 0)


def test_a_folder_stays_while_its_run_lasts_and_goes_with_the_next(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", RUN, str(tmp_path)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as run:
        assert run.stdout is not None
        folder = Path(run.stdout.readline().strip())
        (folder / "file").touch()
        own = make_folder(tmp_path)
        assert own is not None
        assert own.stat().st_mode & 0o777 == 0o711
        assert (folder / "file").exists()
        run.send_signal(signal.SIGKILL)
    other = make_folder(tmp_path)
    assert other is not None
    assert set(tmp_path.iterdir()) == {own, other}


def test_without_room_or_permission_files_are_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make_folder(tmp_path / "missing") is None
    (tmp_path / "file").touch()
    assert make_folder(tmp_path / "file") is None
    usage = namedtuple("usage", ["free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(64 << 20))
    monkeypatch.setattr(memory_folder, "ROOM", 1 << 30)
    assert make_folder(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
