"""docker/compose.milvus.yml: two replicas, PostgreSQL and Milvus. No engine runs it here."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.service.settings import known_variables

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docker" / "compose.milvus.yml"
SECRETS = ROOT / "docker" / "milvus.env.example"
REPLICAS = ["bitcell-1", "bitcell-2"]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


def test_all_versions_are_fixed_and_milvus_is_the_one_that_is_tested(
    services: dict[str, Any],
) -> None:
    images = {name: one["image"] for name, one in services.items() if name not in REPLICAS}
    for image in images.values():
        assert re.search(r":v?[\w.-]*\d+\.\d+[\w.-]*$|:RELEASE\.\d{4}-", image), image
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    (tested,) = [
        one for one in groups["dev"] if isinstance(one, str) and one.startswith("milvus==")
    ]
    assert images["milvus"] == f"milvusdb/milvus:v{re.split('[=; ]+', tested)[1]}"


def test_the_replicas_differ_in_their_data_directory_only(services: dict[str, Any]) -> None:
    volumes = [dict(v.split(":") for v in services[name]["volumes"]) for name in REPLICAS]
    places = [{path: name for name, path in one.items()} for one in volumes]
    assert places[0]["/shared"] == places[1]["/shared"]
    assert places[0]["/data"] != places[1]["/data"]
    rest = [{k: v for k, v in services[name].items() if k != "volumes"} for name in REPLICAS]
    assert rest[0] == rest[1]
    assert rest[0]["environment"]["BITCELL_SHARED_DIR"] == "/shared"
    # The image has the folder, so that a new volume there belongs to the user of the service.
    assert re.search(r"install .* -o bitcell .* /shared$", (ROOT / "Dockerfile").read_text(), re.M)


def test_the_settings_exist(services: dict[str, Any]) -> None:
    names = set(services[REPLICAS[0]]["environment"])
    assert {"BITCELL_DATABASE_URL", "BITCELL_INDEX_URL"} < names
    assert names <= set(known_variables())


def test_what_is_waited_for_has_a_health_check(services: dict[str, Any]) -> None:
    for service in services.values():
        for name, needed in service.get("depends_on", {}).items():
            assert needed == {"condition": "service_healthy"}
            # That of the replicas is in the image.
            assert "healthcheck" in services[name] or name in REPLICAS, name


def test_all_volumes_are_declared(services: dict[str, Any]) -> None:
    declared = set(yaml.safe_load(FILE.read_text())["volumes"])
    used = {v.split(":")[0] for one in services.values() for v in one.get("volumes", ())}
    assert {name for name in used if not name.startswith("./")} == declared
    for name in used - declared:
        assert (FILE.parent / name).exists(), name


def test_secrets_come_from_the_environment_and_are_required() -> None:
    names = set(re.findall(r"^(\w+)=", SECRETS.read_text(), re.MULTILINE))
    used = re.findall(r"\$\{(\w+)(\S*?)\}", FILE.read_text())
    assert {name for name, _ in used} == names
    assert {rest for _, rest in used} == {":?"}
    assert "/docker/milvus.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_balancer_knows_the_replicas() -> None:
    config = (ROOT / "docker" / "haproxy.cfg").read_text()
    assert re.findall(r"^    server (\S+) (\S+)$", config, re.MULTILINE) == [
        (name, f"{name}:8000") for name in REPLICAS
    ]


@pytest.mark.slow  # It takes seconds to start.
@pytest.mark.may_skip_in_ci
def test_compose_accepts_the_file(tmp_path: Path) -> None:
    compose = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    if (
        not shutil.which(compose[0])
        or subprocess.run([*compose, "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("compose: install Docker Compose")
    environment = tmp_path / "milvus.env"
    environment.write_text(SECRETS.read_text().replace("PASSWORD=", "PASSWORD=abc"))
    read = [*compose, "-f", str(FILE), "--env-file", str(environment), "config"]
    shown = subprocess.run(read, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    found = yaml.safe_load(shown.stdout)["services"]
    assert found.keys() == yaml.safe_load(FILE.read_text())["services"].keys()
    url = found["bitcell-2"]["environment"]["BITCELL_DATABASE_URL"]
    assert url == "postgresql://bitcell:abc@postgres/bitcell"
    # Without passwords it does not start.
    read[read.index(str(environment))] = str(SECRETS)
    refused = subprocess.run(read, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "POSTGRES_PASSWORD" in refused.stderr
