"""The container image: what the Dockerfile copies exists, is sent to Docker, and is complete."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
# Sources of `COPY SOURCE… TARGET`, apart from those of `COPY --from=STAGE`.
COPIED = [
    source
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    for source in sources.split()
]


def test_everything_that_is_copied_is_there_and_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    kept = {line.removeprefix("!").rstrip("/") for line in lines if line.startswith("!")}
    assert COPIED
    for source in COPIED:
        assert (ROOT / source).exists(), source
        assert source.partition("/")[0] in {path.partition("/")[0] for path in kept}, source


def test_every_package_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.removesuffix("*") for pattern in patterns} <= set(COPIED)


def test_the_image_works_with_postgresql_and_milvus() -> None:
    (locked,) = re.findall(r"pip install .*--require-hashes -r /tmp/(\S+)", DOCKERFILE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        re.split(r"[^\w-]", one)[0]
        for one in (*project["dependencies"], *project["optional-dependencies"]["servers"])
    }
    assert {"pymilvus", "psycopg", "sqlalchemy"} < wanted
    lines = (ROOT / locked).read_text().splitlines()
    assert wanted <= {line.partition("==")[0] for line in lines}


def test_compose_bounds_the_service_as_the_documentation_says() -> None:
    compose = (ROOT / "docker" / "compose.yml").read_text()
    settings = dict(re.findall(r"^    (\w+): (.+)$", compose, re.MULTILINE))
    assert settings["mem_limit"] == settings["memswap_limit"] == "4g"
    assert settings["pids_limit"] == "4096"
    assert settings["read_only"] == "true"
    assert settings["cap_drop"] == "[ALL]"
    assert settings["security_opt"] == '["no-new-privileges:true"]'
    operating = (ROOT / "docs" / "operating.md").read_text()
    assert "--memory 4g --memory-swap 4g --pids-limit 4096 --read-only --tmpfs /tmp" in operating


def test_what_is_removed_of_scipy_is_not_imported() -> None:
    (removed,) = re.findall(r"rm -rf (cluster[a-z \\\n]+)\n", DOCKERFILE)
    sources = (
        path.read_text() for name in ("app", "hashing") for path in (ROOT / name).rglob("*.py")
    )
    imported = {
        name for text in sources for name in re.findall(r"(?:from|import) scipy\.(\w+)", text)
    }
    assert {"fft", "linalg", "sparse", "special"} == imported
    assert not imported & set(removed.replace("\\", "").split())
