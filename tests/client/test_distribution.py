"""The client as a distribution: what it installs, and that it works in any project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from importlib.util import find_spec
from pathlib import Path

import httpx2
import numpy as np
import pytest

import bitcell_client
from tests.app.service_process import Process
from tests.test_imports import imported_by

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "client" / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SERVICE = {"app", "bitcodes", "hashing", "index", "fastapi", "starlette", "uvicorn", "pydantic"}
HEAVY = {"faiss", "scipy", "sklearn", "torch", "sqlite3"}
# Stands in for the `app` of a user's own project.
APP_OF_USER = 'NAME = "the app of the user"\n'
IMPORT_BOTH = "import app, bitcell_client; print(app.NAME, bitcell_client.__file__, sep='\\n')"


def python(*command: str | Path, folder: Path, path: list[Path]) -> str:
    """The output of a command in a folder, with that folder and a search path for modules."""
    run = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [folder, *path]))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `client/`, so that a build leaves nothing in the checkout."""
    folder: Path = tmp_path_factory.mktemp("source") / "client"
    leave = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "client", folder, ignore=leave)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("wheel")
    build: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "-w",
        folder,
        source,
    ]
    # Quicker, and without an index, where the environment has setuptools.
    if find_spec("setuptools"):
        build.append("--no-build-isolation")
    python(*build, folder=folder, path=[])
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of a user, which has a package `app`."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text(APP_OF_USER)
    return tmp_path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service with the collection `demo`."""
    process = Process(tmp_path_factory.mktemp("demo"))
    yield process
    process.stop()


def example(url: str) -> str:
    """The code of the README, for a service at a URL."""
    return "\n".join(BLOCKS).replace("http://localhost:8000", url)


def check_output(output: str) -> None:
    lines = output.splitlines()
    assert lines[0] == "digit-0007 0 7"
    assert lines[3:5] == [
        "1000 items",
        "Neighbour(id='item-0', distance=0)",
    ]
    assert "done None" in lines
    assert "there is no collection 'no-such-collection'" in output
    assert lines[-1].startswith("['digit-0008', ")


def test_the_wheel_has_the_client_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        about = message_from_bytes(archive.read(metadata))
    package = ROOT / "client" / "bitcell_client"
    sources = {str(path.relative_to(package.parent)) for path in package.rglob("*.py")}
    info = metadata.removesuffix("METADATA")
    installed = {name for name in names if not name.startswith(info)}
    assert installed == sources | {"bitcell_client/py.typed"}
    assert any(name.endswith("/LICENSE") for name in names)
    assert about["Name"] == "bitcell-client"
    required = [re.split(r"[<>=! ]", line)[0] for line in about.get_all("Requires-Dist", [])]
    assert sorted(required) == ["httpx2", "numpy"]


def test_its_version_is_that_of_the_service() -> None:
    service = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert bitcell_client.__version__ == service["version"]
    assert (ROOT / "client" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_service_does_not_need_it() -> None:
    service = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert not [line for line in service["project"]["dependencies"] if "bitcell" in line]
    packages = service["tool"]["setuptools"]["packages"]["find"]["include"]
    assert not [pattern for pattern in packages if pattern.startswith(("client", "bitcell"))]
    users = [
        path
        for package in ("app", "bitcodes", "hashing", "index")
        for path in (ROOT / package).rglob("*.py")
        if "bitcell_client" in path.read_text()
    ]
    assert users == []


def test_it_imports_nothing_of_the_service() -> None:
    assert not imported_by("import bitcell_client") & (SERVICE | HEAVY)


@pytest.mark.slow
def test_it_works_beside_a_package_named_app(wheel: Path, project: Path, demo: Process) -> None:
    unpacked = project / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    dependencies = [Path(str(module.__file__)).parents[1] for module in (httpx2, np)]
    path = [unpacked, *dependencies]
    output = python(sys.executable, "-c", IMPORT_BOTH, folder=project, path=path)
    name, file = output.splitlines()
    assert name == "the app of the user"
    assert Path(file).is_relative_to(unpacked)
    (project / "example.py").write_text(example(demo.url))
    check_output(python(sys.executable, "example.py", folder=project, path=path))


@pytest.mark.slow
def test_type_checkers_accept_the_code_of_the_pages(tmp_path: Path) -> None:
    tutorial = (ROOT / "docs" / "tutorial.md").read_text()
    blocks = [*BLOCKS, *re.findall(r"<<'END'\n(.*?)^END$", tutorial, re.DOTALL | re.MULTILINE)]
    for i, block in enumerate(blocks):
        (tmp_path / f"block{i}.py").write_text(block)
    options: list[str | Path] = [
        "--config-file=",
        "--check-untyped-defs",
        "--cache-dir",
        tmp_path / "cache",
    ]
    output = python(
        *(sys.executable, "-m", "mypy"),
        *options,
        *tmp_path.glob("*.py"),
        folder=tmp_path,
        path=[ROOT / "client"],
    )
    assert output == f"Success: no issues found in {len(blocks)} source files\n"


@pytest.mark.slow
def test_it_installs_into_an_empty_environment(source: Path, project: Path, demo: Process) -> None:
    environment = project / "environment"
    python(sys.executable, "-m", "venv", environment, folder=project, path=[])
    interpreter = environment / "bin" / "python"
    python(interpreter, "-m", "pip", "install", "--quiet", source, folder=project, path=[])
    code = "from importlib.metadata import distributions as all; print(*(d.name for d in all()))"
    installed = set(python(interpreter, "-c", code, folder=project, path=[]).split())
    assert {"bitcell-client", "httpx2", "numpy"} <= installed
    assert not installed & (SERVICE | HEAVY | {"bitcell"})
    output = python(interpreter, "-c", IMPORT_BOTH, folder=project, path=[])
    assert output.startswith("the app of the user\n")
    (project / "example.py").write_text(example(demo.url))
    check_output(python(interpreter, "example.py", folder=project, path=[]))
