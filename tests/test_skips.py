"""A skip fails with CI=true, and is reported with its remedy everywhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BROWSER = "browser: install Chromium (apt install chromium)"
MODULE = f"""
import pytest

def test_that_runs():
    pass

@pytest.mark.skipif(True, reason={BROWSER!r})
@pytest.mark.parametrize("page", [1, 2])
def test_with_a_browser(page):
    pass

def test_with_torch():
    pytest.importorskip("no_such_torch", reason="torch: run `make train-deps`")

@pytest.mark.may_skip_in_ci
def test_with_files_of_the_user():
    pytest.skip("CIFAR10_NPZ is not set")

@pytest.mark.xfail
def test_that_is_expected_to_fail():
    assert False
"""
SKIPPED_MODULE = "import pytest\npytest.skip('crash: mount a tmpfs', allow_module_level=True)\n"


def run_pytest(folder: Path, *options: str, ci: str | None) -> subprocess.CompletedProcess[str]:
    """Run the tests in a folder with this plugin and nothing else of the project."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "CI" and not name.startswith("PYTEST_")
    }
    # The plugins of other packages take seconds to load.
    environment |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    if ci is not None:
        environment["CI"] = ci
    own = ["-p", "tests.skips", "-p", "no:cacheprovider", "-ra", "--rootdir", str(folder)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *own, *options, str(folder)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "test_some.py").write_text(MODULE)
    (tmp_path / "test_module.py").write_text(SKIPPED_MODULE)
    return tmp_path


@pytest.mark.parametrize("ci", [None, "false", ""])
def test_a_skip_is_reported_just_before_the_closing_line(folder: Path, ci: str | None) -> None:
    run = run_pytest(folder, ci=ci)
    assert run.returncode == 0, run.stdout
    *skipped, closing = run.stdout.splitlines()[-5:]
    assert sorted(skipped) == [
        "1 crash test skipped: mount a tmpfs",
        "1 test skipped: CIFAR10_NPZ is not set",
        "1 torch test skipped: run `make train-deps`",
        "2 browser tests skipped: install Chromium (apt install chromium)",
    ]
    assert "1 passed, 5 skipped, 1 xfailed" in closing


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "2")])
def test_a_skip_fails_in_ci_unless_it_is_allowed(folder: Path, options: tuple[str, ...]) -> None:
    (folder / "test_module.py").unlink()
    run = run_pytest(folder, *options, ci="true")
    assert run.returncode == 1, run.stdout
    closing = run.stdout.splitlines()[-1]
    # A condition in a marker is met at the setup of a test, so its failure is called an error.
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed, 2 errors" in closing
    assert f"skipped, which is a failure with CI=true: {BROWSER}" in run.stdout
    assert "skipped, which is a failure with CI=true: torch: run `make train-deps`" in run.stdout
    assert "1 test skipped: CIFAR10_NPZ is not set" in run.stdout


def test_a_skipped_module_fails_in_ci(folder: Path) -> None:
    (folder / "test_some.py").unlink()
    run = run_pytest(folder, ci="true")
    assert run.returncode != 0, run.stdout
    assert "skipped, which is a failure with CI=true: crash: mount a tmpfs" in run.stdout


def test_allowed_skips_alone_are_no_failure(folder: Path) -> None:
    (folder / "test_module.py").unlink()
    run = run_pytest(folder, "-k", "user or runs", ci="true")
    assert run.returncode == 0, run.stdout
    assert "1 passed, 1 skipped, 4 deselected" in run.stdout.splitlines()[-1]
