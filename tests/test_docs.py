"""The pages list everything that they should list, nothing else, and their links lead somewhere."""

from __future__ import annotations

import json
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from prometheus_client.parser import text_string_to_metric_families

from app.cli.main import cli
from app.http.examples import ANSWERS, BODIES, PROBLEM
from app.main import create_app
from app.service.settings import Settings, known_variables
from tests.app.asgi_client import TestClient
from tests.app.conftest import fill, settings_in

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    str(path.relative_to(ROOT))
    for folder in (".", "docs", "client", "hashing")
    for path in (ROOT / folder).glob("*.md")
)
OPERATING = (ROOT / "docs" / "operating.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()


def rows(prefix: str) -> dict[str, list[str]]:
    """Return the rows of the tables in operating.md whose name begins so, by name."""
    lines = re.findall(rf"^\| `({prefix}\w+)` \|(.*)\|$", OPERATING, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in lines}


def test_every_setting_is_listed_with_its_default() -> None:
    listed = rows("BITCELL_")
    assert sorted(listed) == sorted(known_variables())
    for name, (default, _) in listed.items():
        field = name.removeprefix("BITCELL_").lower()
        if Settings.model_fields[field].default in (None, ""):
            continue  # It depends on other settings, as the page says in words.
        settings = Settings.model_validate({field: default.strip("`")})
        assert getattr(settings, field) == Settings.model_fields[field].default


def test_every_metric_is_listed(tmp_path: Path) -> None:
    with TestClient(create_app(settings_in(tmp_path))) as client:
        fill(client)
        text = client.get("/metrics").text
    found = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in text_string_to_metric_families(text)
        if family.name.startswith("bitcell_") and not family.name.endswith("_created")
    }
    assert found == {name: cells[0] for name, cells in rows("bitcell_").items()}


def test_every_route_is_listed() -> None:
    document = create_app().openapi()
    calls = {
        f"{method.upper()} {path}" for path, call in document["paths"].items() for method in call
    }
    assert calls == set(re.findall(r"^### `([A-Z]+ /[^`]*)`$", API, re.MULTILINE))


def test_every_field_of_a_query_and_its_answer_is_listed() -> None:
    schemas = create_app().openapi()["components"]["schemas"]
    for schema in (
        "Query",
        "NewEncoder",
        "NewItem",
        "NewBenchmark",
        "NewExplanation",
        "NewRecommendation",
        "FindDuplicates",
        "CertificateOut",
        "JobOut",
    ):
        for field in schemas[schema]["properties"]:
            assert re.search(rf"[`\"]{field}[`\":=]", API), f"{field} of {schema}"


def examples_in_api() -> list[tuple[str, Any]]:
    """Return the JSON blocks of api.md, each with the heading above it."""
    found = []
    for section in re.split(r"^##+ ", API, flags=re.MULTILINE):
        heading = section.partition("\n")[0].strip("`")
        for block in re.findall(r"^```json\n(.*?)^```$", section, re.DOTALL | re.MULTILINE):
            found.append((heading, json.loads(block)))
    return found


def test_the_examples_are_those_of_the_openapi_document() -> None:
    """The examples of that document are tested against a service, in test_openapi.py."""
    examples = examples_in_api()
    assert len(examples) > 25
    for heading, example in examples:
        own = [answer for at, answer in ANSWERS.items() if at.startswith(f"{heading} ")]
        if heading.endswith("/groups"):
            own = [json.loads(line) for answer in own for line in answer.splitlines()]
        own += BODIES.get(heading, {}).values()
        if not own:  # The heading is not that of a call.
            own = [PROBLEM, *BODIES["POST /v1/collections/{name}/query"].values()]
        assert example in own, heading


def test_every_command_is_listed() -> None:
    group: Any = typer.main.get_command(cli)
    commands = set()
    for name, command in group.commands.items():
        parts = getattr(command, "commands", None)
        commands |= {f"{name} {part}" for part in parts} if parts else {name}
    page = (ROOT / "docs" / "library.md").read_text()
    assert commands == set(re.findall(r"`bitcell ([a-z0-9 -]+)`", page))


@cache
def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_paths_in_architecture_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    paths = re.findall(r"`([\w.-]+(?:/[\w.-]+)*/|[\w.-]+(?:/[\w.-]+)*\.(?:py|md))`", page)
    assert len(paths) > 25
    for path in paths:
        assert (ROOT / path).exists(), path


def test_the_folders_with_code_are_in_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    # Folders inside these are parts of what is described there.
    folders = {
        f"{path.parent.relative_to(ROOT)}/"
        for package in ("app", "bitcodes", "hashing", "index")
        for path in (ROOT / package).glob("*/__init__.py")
    }
    assert folders <= set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE))


def test_the_plot_shows_the_figures_of_the_table() -> None:
    source = ROOT / "docs" / "images" / "make_plot.py"
    script = runpy.run_path(str(source))
    series = script["read_table"]((ROOT / "README.md").read_text())
    assert len(series) == 18
    assert script["draw"](series) == source.with_name("map-by-bits.svg").read_text()
