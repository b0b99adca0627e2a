"""HEAD answers as GET does, without a body."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/openapi.json",
        "/page/main.js",
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/methods",
        "/v1/collections",
        "/v1/collections/c/items/a",
        "/v1/collections/none",
        "/v1/encoders/e/file",
        "/v1/datasets",
        "/v1/datasets/digits",
        "/v1/datasets/none",
        "/v1/snapshots",
        "/v1/recommendations",
        "/v1/explanations",
    ],
)
def test_head_has_the_status_and_type_of_get(small: TestClient, path: str) -> None:
    got, head = small.get(path), small.head(path)
    assert head.status_code == got.status_code != 405
    assert head.headers["content-type"] == got.headers["content-type"]


def test_head_of_what_only_takes_post_is_refused(small: TestClient) -> None:
    answer = small.head("/v1/collections/c/query")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
