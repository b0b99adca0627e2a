"""A pytest plugin: say what was skipped and how to get it, and fail on a skip in CI.

A skipped test proves nothing. On the machine of a user that is acceptable as long as the last lines
of the output say so. With CI=true it is a failure, unless the test carries the marker
`may_skip_in_ci`, which is for tests that need files only a user can have.

The reason of a skip is written as "KIND: HOW TO GET IT", for instance
"browser: install Chromium (apt install chromium)".
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterable
from typing import Any

import pytest

ALLOWED = "may_skip_in_ci"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", f"{ALLOWED}: a skip of this test is no failure in CI")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test into a failure in CI."""
    report = yield
    if item.get_closest_marker(ALLOWED) is None:
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module into a failure in CI."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Generator[None, None, None]:
    """Print a line for each kind of skip, just before pytest's closing line."""
    yield
    reports = terminalreporter.stats.get("skipped", [])
    for line in summary(map(_reason, reports)):
        terminalreporter.write_line(line, yellow=True)


def summary(reasons: Iterable[str]) -> list[str]:
    """Return one line for each reason: how many tests were skipped, and how to get them."""
    lines = []
    for reason, count in sorted(Counter(reasons).items()):
        kind, colon, how = reason.partition(": ")
        tests = "test" if count == 1 else "tests"
        if colon and " " not in kind:
            lines.append(f"{count} {kind} {tests} skipped: {how}")
        else:
            lines.append(f"{count} {tests} skipped: {reason}")
    return lines


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    in_ci = os.environ.get("CI", "").lower() in ("true", "1")
    if in_ci and report.skipped and not hasattr(report, "wasxfail"):
        report.longrepr = f"skipped, which is a failure with CI=true: {_reason(report)}"
        report.outcome = "failed"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    longrepr = report.longrepr
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")
