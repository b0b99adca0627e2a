"""Forked processes end, print and see their environment as those of an interpreter do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.fork_server import ForkedProcess


@pytest.mark.parametrize(
    "code",
    [
        "print('said'); raise SystemExit(3)",
        "raise ValueError('wrong')",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
        "import os, sys; print(sys.argv, os.environ['MINE'], 'HOME' in os.environ, os.getcwd())",
        "import atexit, threading; atexit.register(print, 'end'); "
        "threading.Timer(0.01, print, ['thread']).start()",
    ],
)
def test_a_copy_does_what_an_interpreter_does(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    environment = {"MINE": "1"} | kept
    expected = subprocess.run(
        [sys.executable, "-c", code, "a", "b c"], env=environment, capture_output=True, text=True
    )
    process = ForkedProcess(code, ["a", "b c"], environment)
    with process.stdout, process.stderr:
        assert process.stdout.read() == expected.stdout
        # A traceback has the lines of the server too.
        assert process.stderr.read().splitlines()[-1:] == expected.stderr.splitlines()[-1:]
    assert process.wait(30) == expected.returncode


def test_a_copy_has_the_service_loaded_and_changes_nothing_for_the_next() -> None:
    code = "import sys; print('app.http.server' in sys.modules); sys.modules.pop('app.http.server')"
    for _ in range(2):
        process = ForkedProcess(code, [], dict(os.environ))
        with process.stdout, process.stderr:
            assert process.stdout.read() == "True\n"
        assert process.wait(30) == 0


def test_a_copy_that_has_just_ended_can_be_sent_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    process = ForkedProcess("", [], dict(os.environ))
    with process.stdout, process.stderr:
        assert process.wait(30) == 0
    # As before its exit status has come.
    monkeypatch.setattr(process, "poll", lambda: None)
    process.send_signal(signal.SIGTERM)


def test_a_copy_is_killed_by_a_signal() -> None:
    process = ForkedProcess("import threading; threading.Event().wait()", [], dict(os.environ))
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == process.poll() == -signal.SIGKILL
    process.send_signal(signal.SIGKILL)  # It has ended: nobody is signalled.
    process.stdout.close()
    process.stderr.close()
