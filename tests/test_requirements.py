"""The locked versions: everything has hashes, and torch is what the package asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path.name for path in ROOT.glob("requirements*.txt"))


def requirements(file: str) -> dict[str, int]:
    """Return the requirements of a file, each with the number of its hashes."""
    text = re.sub(r"^#.*\n", "", (ROOT / file).read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return {
        line.split(" --hash", 1)[0].strip(): len(re.findall(r" --hash=sha256:[0-9a-f]{64}\b", line))
        for line in lines
    }


@pytest.mark.parametrize("file", FILES)
def test_every_requirement_is_one_version_with_hashes(file: str) -> None:
    found = requirements(file)
    assert found
    for requirement, hashes in found.items():
        assert re.match(r"[a-z0-9-]+==[^ ]+( ;|$)", requirement), requirement
        assert hashes, requirement


def test_torch_is_the_version_that_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extra = project["project"]["optional-dependencies"]["train"]
    assert set(requirements("requirements-torch.txt")) == {one.replace(";", " ;") for one in extra}


def test_what_torch_needs_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locked = {one.partition("==")[0] for one in requirements("requirements-train.txt")}
    assert set(project["dependency-groups"]["torch"]) <= locked
    assert "torch" not in locked


def test_no_index_is_added_to_the_configured_ones() -> None:
    """Two indexes at once could each supply the packages of the other."""
    for path in ("Makefile", *FILES):
        assert "--extra-index-url" not in (ROOT / path).read_text(), path
