"""What limits how long a database is waited for."""

from __future__ import annotations

import tomllib
from inspect import signature
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_only_a_psycopg_whose_waits_can_be_limited_may_be_installed() -> None:
    """The wait of a connection is no public method: see `app.database.engine`."""
    psycopg = pytest.importorskip("psycopg")
    assert "timeout" in signature(psycopg.Connection.wait).parameters
    assert issubclass(psycopg.errors._WaitTimeout, Exception)
    project = tomllib.loads(PROJECT.read_text())
    wanted = [
        Requirement(text).specifier
        for text in (
            *project["project"]["optional-dependencies"]["servers"],
            *(one for one in project["dependency-groups"]["dev"] if isinstance(one, str)),
        )
        if Requirement(text).name == "psycopg"
    ]
    assert len(wanted) == 2
    for versions in wanted:
        assert psycopg.__version__ in versions
        assert "3.3.8" not in versions
        assert "3.4.0" not in versions
