"""docker/helm: the chart of several replicas. No cluster runs it here."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from app.service.settings import known_variables

ROOT = Path(__file__).resolve().parent.parent
HELM = ROOT / "docker" / "helm"
CHART = HELM / "bitcell"
SECRET = {"secret": {"name": "urls"}}
KINDS = ["ConfigMap", "Deployment", "PersistentVolumeClaim", "PodDisruptionBudget", "Service"]


def values(**changed: Any) -> dict[str, Any]:
    """Return the default values with some changed, as Helm merges them."""
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    for name, value in (SECRET | changed).items():
        found[name] = found[name] | value if isinstance(value, dict) else value
    return found


@pytest.mark.parametrize(
    ("changed", "is_valid"),
    [
        ({}, True),
        ({"replicas": 1, "shared": {"persistence": False}}, True),
        ({"config": {"BITCELL_CONSISTENCY": "session"}}, True),
        ({"podDisruptionBudget": {"maxUnavailable": "50%"}}, True),
        ({"replicas": 2, "shared": {"persistence": False}}, False),
        ({"replicas": 2, "shared": {"accessMode": "ReadWriteOnce"}}, False),
        ({"replicas": 0}, False),
        ({"config": {"BITCELL_DATABASE_URL": "postgresql://u:secret@h/d"}}, False),
        ({"config": {"BITCELL_DEMO": False}}, False),
        ({"config": {"DEMO": "false"}}, False),
        ({"shared": {"size": "much"}}, False),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, False),
    ],
)
def test_the_schema_tells_good_values_from_bad(changed: dict[str, Any], is_valid: bool) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert jsonschema_rs.is_valid(schema, values(**changed)) == is_valid


def test_every_value_has_a_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert jsonschema_rs.is_valid(schema, values(nonsense=1)) is False
    assert set(schema["properties"]) == {"global", *values()}


def test_versions_are_those_of_the_package_and_of_the_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == project["project"]["version"]
    milvus = yaml.safe_load((HELM / "milvus-values.yaml").read_text())
    tested = f"milvus=={milvus['image']['all']['tag'].removeprefix('v')};"
    assert any(one.startswith(tested) for one in project["dependency-groups"]["dev"])


def test_variables_of_kubernetes_are_not_taken_for_settings() -> None:
    """For a Service named `bitcell`, Kubernetes sets BITCELL_PORT to its URL."""
    template = (CHART / "templates" / "deployment.yaml").read_text()
    assert re.search(r"^      enableServiceLinks: false$", template, re.MULTILINE)
    deploying = (ROOT / "docs" / "deploying.md").read_text()
    assert "      enableServiceLinks: false" in deploying


def test_the_settings_exist() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    excluded = schema["properties"]["config"]["propertyNames"]["not"]["enum"]
    assert {*values()["config"], *excluded} <= set(known_variables())


def rendered(**changed: Any) -> dict[str, Any]:
    """Return the manifests that Helm makes, by kind."""
    reason = "helm: pip install helm-python-sdk kubernetes-validate"
    helm = pytest.importorskip("helm_python", reason=reason)
    schemas = pytest.importorskip("kubernetes_validate", reason=reason)
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values=SECRET | changed, name="a", namespace="here")
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    found = [one for text in texts for one in yaml.safe_load_all(text) if one]
    for one in found:
        schemas.validate(one, "1.30", strict=True)
    return {one["kind"]: one for one in found}


@pytest.mark.may_skip_in_ci
def test_helm_makes_manifests_that_kubernetes_takes() -> None:
    found = rendered()
    assert sorted(found) == KINDS
    spec = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    names = {"shared": "a-bitcell-shared"}
    claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"][-1:]}
    assert claims == names
    assert found["PersistentVolumeClaim"]["metadata"]["name"] == names["shared"]
    assert found["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    refs = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"]}
    assert refs == {
        name: {"name": "urls", "key": name}
        for name in ("BITCELL_DATABASE_URL", "BITCELL_INDEX_URL")
    }
    selector = found["Service"]["spec"]["selector"]
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == selector
    again = rendered(config={"BITCELL_MAX_K": "10"})
    note = "checksum/config"
    before, after = (
        one["Deployment"]["spec"]["template"]["metadata"]["annotations"][note]
        for one in (found, again)
    )
    assert before != after


@pytest.mark.may_skip_in_ci
def test_one_replica_needs_no_shared_volume_and_no_budget() -> None:
    found = rendered(replicas=1, shared={"persistence": False})
    assert sorted(found) == ["ConfigMap", "Deployment", "Service"]
    volumes = found["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "shared", "emptyDir": {}} in volumes


def test_a_volume_of_one_node_is_given_up_before_the_next_pod_wants_it() -> None:
    template = (CHART / "templates" / "deployment.yaml").read_text()
    condition = 'if and .Values.shared.persistence (ne .Values.shared.accessMode "ReadWriteMany")'
    _, _, rest = template.partition(condition)
    assert re.search(r"\n    type: Recreate\n", rest.partition("else")[0])


@pytest.mark.may_skip_in_ci
def test_only_a_volume_of_many_nodes_is_updated_pod_by_pod() -> None:
    for mode in ("ReadWriteOnce", "ReadWriteOncePod"):
        found = rendered(replicas=1, shared={"accessMode": mode})
        assert found["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert rendered()["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    without = rendered(replicas=1, shared={"persistence": False})
    assert "rollingUpdate" in without["Deployment"]["spec"]["strategy"]


@pytest.mark.may_skip_in_ci
def test_the_name_of_the_secret_is_needed() -> None:
    with pytest.raises(Exception, match=r"secret\.name is needed"):
        rendered(secret={"name": ""})
