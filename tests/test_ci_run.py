"""`.ci/run` installs what the tests need and fails when anything it runs fails.

It is run with a PATH of stand-ins, which write down how they were called.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BASH = shutil.which("bash") or "bash"
MAKE = 'echo "make $* CI=$CI" >> calls; [ "$*" != "$FAILING" ]'
# Its last arguments are the packages to install.
APT_GET = """echo "apt-get $*" >> calls
[ "$1" != install ] || for name in ${@:4}; do cp make ${name/postgresql/initdb}; done"""
INSTALL = "apt-get install -y --no-install-recommends"
FAILING_APT_GET = "echo 'no network' >&2; exit 100"
GREEN = ["make lint CI=true", "make test CI=true"]


class Machine:
    """A folder of stand-ins for the commands of a machine."""

    def __init__(self, folder: Path, **commands: str) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        dirname = shutil.which("dirname")
        assert dirname
        (folder / "dirname").symlink_to(dirname)
        cp = shutil.which("cp")
        assert cp
        (folder / "cp").symlink_to(cp)
        for name, script in commands.items():
            command = folder / name.replace("_", "-")
            command.write_text(f"#!{BASH}\ncd {folder}\n{script}\n")
            command.chmod(0o755)

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        return subprocess.run(
            [BASH, str(ROOT / ".ci" / "run")],
            env={"PATH": str(self.folder), "POSTGRESQL_ROOT": str(self.folder)} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()


def test_what_is_missing_is_installed_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path, id="echo 0", make=MAKE, apt_get=APT_GET)
    assert machine.run().returncode == 0
    assert machine.called() == ["apt-get update", f"{INSTALL} chromium postgresql", *GREEN]
    assert machine.run().returncode == 0
    assert machine.called() == GREEN


@pytest.mark.parametrize(("there", "missing"), [("chromium", "postgresql"), ("initdb", "chromium")])
def test_only_what_is_missing_is_installed(there: str, missing: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path, id="echo 0", make=MAKE, apt_get=APT_GET, **{there: ""})
    assert machine.run().returncode == 0
    assert machine.called() == ["apt-get update", f"{INSTALL} {missing}", *GREEN]


def test_servers_of_postgresql_are_found_where_debian_has_them(tmp_path: Path) -> None:
    machine = Machine(tmp_path, id="echo 0", make=MAKE, apt_get=APT_GET, chromium="")
    programs = tmp_path / "root" / "15" / "bin"
    programs.mkdir(parents=True)
    (programs / "initdb").touch()
    assert machine.run(POSTGRESQL_ROOT=str(tmp_path / "root")).returncode == 0
    assert machine.called() == GREEN


@pytest.mark.parametrize(
    ("user", "apt_get", "reason"),
    [
        ("0", FAILING_APT_GET, "no network"),
        ("1000", APT_GET, "only root on Debian can install what is missing: chromium postgresql"),
    ],
)
def test_a_failed_installation_is_reported(
    user: str, apt_get: str, reason: str, tmp_path: Path
) -> None:
    machine = Machine(tmp_path, id=f"echo {user}", make=MAKE, apt_get=apt_get)
    run = machine.run()
    assert reason in run.stderr
    assert "not installed: chromium postgresql. The tests that need it are skipped" in run.stderr
    # The tests run all the same; that a skip fails them is tested in test_skips.py.
    assert machine.called() == GREEN


@pytest.mark.parametrize("failing", ["lint", "test"])
def test_it_fails_when_a_step_fails(failing: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path, make=MAKE, chromium="", initdb="")
    assert machine.run(FAILING=failing).returncode != 0
    assert machine.called()[-1] == f"make {failing} CI=true"


def test_ci_can_be_switched_off(tmp_path: Path) -> None:
    machine = Machine(tmp_path, make=MAKE, google_chrome="", initdb="")
    assert machine.run(CI="false").returncode == 0
    assert machine.called() == ["make lint CI=false", "make test CI=false"]
