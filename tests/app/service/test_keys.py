"""The file of API keys: what survives damage, loss, locks, a full disk and a crash."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.service import keys as module
from app.service.keys import READ, WRITE, Keys
from app.service.service import Service
from app.service.settings import Settings

# How version 0.1.0 wrote the file.
EARLIER = """CREATE TABLE keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, scope TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE, created REAL NOT NULL) STRICT"""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep all other processes from reading the file, as any program with SQLite can."""
    with closing(sqlite3.connect(folder / "keys.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def intact(folder: Path) -> bool:
    with closing(sqlite3.connect(folder / "keys.db")) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    with closing(Keys(tmp_path)) as opened:
        yield opened


def required_at_start(folder: Path) -> bool:
    with closing(Keys(folder)) as opened:
        return opened.required


def test_changes_are_seen_at_once(tmp_path: Path, keys: Keys) -> None:
    with closing(Keys(tmp_path)) as writer:
        for _ in range(10):
            assert not keys.any()
            (first, secret), (second, _) = (writer.create(name, READ) for name in ("a", "b"))
            assert keys.find(secret) == first
            writer.revoke(first.id)
            assert keys.find(secret) is None
            assert keys.any()
            writer.revoke(second.id)
        assert not keys.any()


def test_no_key_is_required_before_there_is_one(tmp_path: Path, keys: Keys) -> None:
    assert not keys.required
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("loss", ["revoke", "delete", "empty", "copy"])
def test_keys_stay_required_when_there_are_none_left(loss: str, tmp_path: Path, keys: Keys) -> None:
    with closing(Keys(tmp_path)) as writer:
        key, secret = writer.create("a", WRITE)
        assert keys.find(secret) == key
        if loss == "revoke":
            writer.revoke(key.id)
    if loss in ("delete", "copy"):
        for file in tmp_path.glob("keys.db*"):
            file.unlink()
    if loss == "empty":
        (tmp_path / "keys.db").write_bytes(b"")
    with capture_logs() as log:
        assert keys.find(secret) is None
        assert not keys.any()
    assert [entry["event"].split(":")[0] for entry in log] == ["there is no API key left"]
    assert keys.required
    folder = tmp_path
    if loss == "copy":
        folder = tmp_path / "copy"
        folder.mkdir()
        for file in tmp_path.glob("bitcell.db*"):
            shutil.copy(file, folder)
    assert required_at_start(folder)
    with closing(Keys(folder)) as writer:
        _, secret = writer.create("b", READ)
    if loss != "copy":
        assert keys.find(secret)


def test_a_key_that_was_revoked_before_anyone_looked_is_remembered(
    tmp_path: Path, keys: Keys
) -> None:
    with closing(Keys(tmp_path)) as writer:
        writer.revoke(writer.create("a", READ)[0].id)
    assert keys.required


def test_a_key_that_could_not_be_created_is_not_required(tmp_path: Path) -> None:
    (tmp_path / "keys.db").write_bytes(b"")
    with closing(Keys(tmp_path)) as writer:
        (tmp_path / "keys.db").write_bytes(b"not a database" * 100)
        with pytest.raises(OSError, match="file is not a database"):
            writer.create("a", READ)
    (tmp_path / "keys.db").unlink()
    assert not required_at_start(tmp_path)


def test_keys_of_an_earlier_version_are_remembered(settings: Settings) -> None:
    folder = settings.data_dir
    folder.mkdir()
    with closing(sqlite3.connect(folder / "keys.db", isolation_level=None)) as connection:
        connection.execute(EARLIER)
        row = ("1f3a9c02", "a", READ, module.hash_of("secret"), 1.0)
        connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?)", row)
    with closing(Service(settings)) as service:
        assert service.keys.find("secret")
        assert (folder / "keys.db-journal").stat().st_size > 2 * 4096
    (folder / "keys.db").unlink()
    assert required_at_start(folder)


def test_a_service_starts_although_keys_cannot_be_prepared(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Keys(settings.data_dir)) as writer:
        writer.create("a", READ)
    monkeypatch.setattr(module, "_PATIENCE", 0)
    with closing(sqlite3.connect(settings.data_dir / "keys.db", isolation_level=None)) as writing:
        writing.execute("BEGIN IMMEDIATE")
        with capture_logs() as log, closing(Service(settings)) as service:
            assert service.keys.any()
    assert "database is locked" in next(e["error"] for e in log if e["log_level"] == "warning")


def test_a_locked_file_stops_nobody_and_lets_nobody_in(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOG_AFTER", 0)
    with closing(Keys(tmp_path)) as writer:
        old, old_secret = writer.create("old", READ)
        assert keys.find(old_secret) == old
        new, new_secret = writer.create("new", READ)
        writer.revoke(old.id)
        with locked(tmp_path), capture_logs() as log:
            # The change was not read before the file was locked.
            for _ in range(3):
                assert keys.find(old_secret) == old
                assert keys.find(new_secret) is None
                assert keys.required
        assert [entry["error"].split(": ")[-1] for entry in log] == ["database is locked"]
        assert keys.find(old_secret) is None
        assert keys.find(new_secret) == new


def test_a_damaged_file_changes_nothing_while_it_is_open(tmp_path: Path, keys: Keys) -> None:
    key, secret = keys.create("a", READ)
    assert keys.find(secret) == key
    good = (tmp_path / "keys.db").read_bytes()
    (tmp_path / "keys.db").write_bytes(b"not a database" * 1000)
    assert keys.find(secret) == key
    assert keys.find("other") is None
    assert keys.required
    with pytest.raises(OSError, match=r"keys\.db: file is not a database$"):
        Keys(tmp_path)
    with pytest.raises(OSError, match=r"keys\.db: file is not a database"):
        keys.revoke(key.id)
    (tmp_path / "keys.db").write_bytes(good)
    keys.revoke(key.id)
    assert keys.find(secret) is None


def test_another_file_in_place_of_the_first_is_read(tmp_path: Path, keys: Keys) -> None:
    with closing(Keys(tmp_path / "other")) as other:
        key, secret = other.create("a", READ)
    old_secret = keys.create("b", READ)[1]
    assert keys.find(old_secret)
    (tmp_path / "other" / "keys.db").replace(tmp_path / "keys.db")
    assert keys.find(secret) == key
    assert keys.find(old_secret) is None


# Commands on a data directory on a full and then read-only disk.
FULL_DISK = """
import contextlib, io, json, os, subprocess, sys
from pathlib import Path
from app.cli.main import main

def run(*command):
    sys.argv = ["bitcell", "keys", *command]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as exit:
            code = exit.code
    return [code, out.getvalue(), err.getvalue()]

disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], check=True)
os.environ["BITCELL_DATA_DIR"] = str(disk / "data")
ids = [run("create", f"key {i}")[2].split()[0] for i in range(3)]
with open(disk / "rest", "wb", buffering=0) as file, contextlib.suppress(OSError):
    while True:
        file.write(bytes(4096))
results = {"revoke": run("revoke", ids[1]), "list": run("list")}
(disk / "data" / "keys.db-journal").unlink()
with open(disk / "rest", "ab", buffering=0) as file, contextlib.suppress(OSError):
    while True:
        file.write(bytes(4096))
results["no journal"] = run("revoke", ids[0])
results["create"] = run("create", "late")
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
results |= {"ro " + name: run(name, *more) for name, *more in (
    ["revoke", ids[0]], ["list"], ["create", "late"])}
results["ids"] = ids
print(json.dumps(results))
"""


# Containers may allow no file system of one's own, in CI too.
@pytest.mark.may_skip_in_ci
def test_a_key_is_revoked_on_a_full_disk(tmp_path: Path) -> None:
    # A file system of its own, which nobody else sees and which is gone with the process.
    alone = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run(["sh", "-c", f"{' '.join(alone)} true"], check=False).returncode:
        pytest.skip("full-disk: allow user namespaces on Linux, or run the tests as root")
    command = [*alone, sys.executable, "-c", FULL_DISK, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    results = json.loads(run.stdout)
    first, second, third = results.pop("ids")
    assert results["revoke"] == [0, "", ""]
    for name in ("list", "ro list"):
        code, out, err = results[name]
        assert (code, err) == (0, "")
        assert [line.split()[0] for line in out.splitlines()] == [first, third]
    for name, message in {
        "no journal": "database or disk is full; the key is still valid. To revoke all keys",
        "create": "database or disk is full",
        "ro revoke": "readonly database; the key is still valid",
        "ro create": "Read-only file system",
    }.items():
        code, out, err = results[name]
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1
    assert second not in results["list"][1]


# Write half of a revocation to the file, then be killed. Reading the other rows makes SQLite write
# the changed page early.
KILLED = f"""
import os, signal, sys, sqlite3
from app.service import keys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = PERSIST")
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute(keys._REVOKE, (sys.argv[2],))
connection.execute("SELECT sum(length(name)) FROM keys").fetchall()
os.kill(os.getpid(), {int(signal.SIGKILL)})
"""


def test_a_crash_while_a_key_is_revoked_leaves_all_keys(tmp_path: Path, keys: Keys) -> None:
    keys.create("first", READ)
    with closing(sqlite3.connect(tmp_path / "keys.db")) as connection:
        rows = [(f"{i:08x}", "x" * 100, READ, module.hash_of(f"{i}"), float(i)) for i in range(60)]
        connection.executemany("INSERT INTO keys VALUES (?, ?, ?, ?, ?)", rows)
        connection.commit()
    made = keys.list()
    before = (tmp_path / "keys.db").read_bytes()
    command = [sys.executable, "-c", KILLED, str(tmp_path / "keys.db"), made[5].id]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "keys.db").read_bytes() != before
    # The next reader takes the half revocation back.
    assert keys.list() == made
    with closing(Keys(tmp_path)) as opened:
        assert opened.list() == made
        opened.revoke(made[5].id)
    assert keys.list() == made[:5] + made[6:]
    assert intact(tmp_path)


def test_the_files_of_keys_are_private(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        with closing(Keys(tmp_path)) as writer:
            writer.create("a", READ)
    finally:
        os.umask(mask)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("keys.db", "keys.db-journal", "bitcell.db.keys-required"), 0o600)
