"""BITCELL_ROOT_PATH: the service below a prefix, whether the proxy takes it from paths or not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest
from pydantic import ValidationError

from app.main import create_app
from app.service.settings import Settings
from tests.app.asgi_client import TestClient
from tests.app.conftest import fill


@pytest.fixture
def below(settings: Settings) -> Iterator[TestClient]:
    app = create_app(settings.model_copy(update={"root_path": "/tools/bitcell"}))
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("prefix", ["", "/tools/bitcell"])
def test_calls_work_with_and_without_the_prefix(below: TestClient, prefix: str) -> None:
    below.base_url = below.base_url.join(f"{prefix}/")
    fill(below)
    answer = below.post("v1/collections/c/query", json={"ids": ["a"], "k": 1})
    assert answer.json()["results"][0][0]["id"] == "a"
    accepted = below.post("v1/benchmarks", json={"dataset": "digits", "methods": ["lsh"]})
    assert accepted.headers["location"].startswith("/tools/bitcell/v1/benchmarks/")
    assert accepted.json()["url"] == accepted.headers["location"]


def test_pages_and_all_their_links_are_below_the_prefix(below: TestClient) -> None:
    for page in ("/tools/bitcell/", "/tools/bitcell/docs"):
        text = below.get(page).text
        links = re.findall(r'(?:href|src)="([^"#][^":]*)"', text)
        assert len(links) >= 3
        for link in links:
            path = urljoin(page, link)
            assert path.startswith("/tools/bitcell/")
            assert below.get(path).status_code == 200, path
    assert below.get("/tools/bitcell", follow_redirects=False).headers["location"] == (
        "/tools/bitcell/"
    )
    document = below.get("/tools/bitcell/openapi.json").json()
    assert document["servers"] == [{"url": "/tools/bitcell"}]


def test_scripts_name_no_path_from_the_root(below: TestClient) -> None:
    main = below.get("/page/main.js").text
    for name in ("main.js", "docs.js", *re.findall(r'from "\./(\w+\.js)"', main)):
        script = below.get(f"/page/{name}").text
        assert not re.search(r"""["'`]/(v1|page|docs|openapi)""", script), name


def test_keys_are_needed_below_the_prefix(settings: Settings) -> None:
    chosen = {"root_path": "/b", "require_keys": True}
    with TestClient(create_app(settings.model_copy(update=chosen))) as client:
        for path in ("/b/v1/encoders", "/v1/encoders", "/b/metrics", "/b/b/v1/encoders"):
            assert client.get(path).status_code == 401
        assert client.get("/b/healthz").status_code == 200


@pytest.mark.parametrize("wrong", ["bitcell", "/bitcell/", "/", "/a//b", "/a?b", "/v1/x"])
def test_other_prefixes_are_refused(wrong: str) -> None:
    with pytest.raises(ValidationError):
        Settings(root_path=wrong)
