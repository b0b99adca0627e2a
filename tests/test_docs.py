"""The page on operating lists what there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.main import create_app
from app.service.settings import Settings, known_variables

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "operating.md").read_text()


def rows(prefix: str) -> dict[str, list[str]]:
    """The rows of the tables that begin with such a name, by that name."""
    lines = re.findall(rf"^\| `({prefix}\w+)` \|(.*)\|$", PAGE, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in lines}


def test_every_setting_is_listed_with_its_default() -> None:
    listed = rows("BITCELL_")
    assert sorted(listed) == sorted(known_variables())
    for name, (default, _) in listed.items():
        field = name.removeprefix("BITCELL_").lower()
        if Settings.model_fields[field].default in (None, ""):
            continue  # It follows from others, which the page says in words.
        given = Settings.model_validate({field: default.strip("`")})
        assert getattr(given, field) == Settings.model_fields[field].default


def test_every_metric_is_listed(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(data_dir=tmp_path, allowed_hosts="testserver"))) as client:
        text = client.get("/metrics").text
    found = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in text_string_to_metric_families(text)
        if family.name.startswith("bitcell_") and not family.name.endswith("_created")
    }
    assert found == {name: cells[0] for name, cells in rows("bitcell_").items()}


@pytest.mark.parametrize(
    "page", ["README.md", "client/README.md", "docs/operating.md", "docs/tutorial.md"]
)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / link).exists(), link
