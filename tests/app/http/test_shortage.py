"""What the system lacks for now is answered with 503, a full disk with 507, and nothing is left."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.service.settings import Settings
from hashing import make_hasher
from index import Database, Store, Unavailable, snapshot
from tests.app.asgi_client import TestClient
from tests.app.problems import assert_problem
from tests.no_more_files import no_more_files

COLLECTION = "/v1/collections/c"
ENCODER_FILE = make_hasher("lsh", n_bits=12).fit(np.eye(4)).to_bytes()
ITEMS = [
    {"id": f"x{i}", "descriptor": [1, 2, 3, i], "payload": {"t": "x" * 2000}} for i in range(200)
]
CALLS: list[tuple[str, str, Any]] = [
    ("GET", "/", None),
    ("GET", "/docs", None),
    ("GET", "/readyz", None),
    ("GET", "/metrics", None),
    ("GET", "/v1/datasets", None),
    ("GET", "/v1/encoders", None),
    ("POST", f"{COLLECTION}/query", {"descriptors": [[1, 2, 3, 4]], "filter": {"n": 1}}),
    ("PUT", f"{COLLECTION}/items", {"items": ITEMS}),
    ("POST", f"{COLLECTION}/items/delete", {"ids": [item["id"] for item in ITEMS]}),
    ("GET", f"{COLLECTION}/statistics", None),
    ("POST", f"{COLLECTION}/snapshots", None),
    ("POST", "/v1/collections/d/restore", {"snapshot": "c.snapshot"}),
    ("DELETE", "/v1/collections/d", None),
    ("PUT", "/v1/encoders/f", ENCODER_FILE),
    ("DELETE", "/v1/encoders/f", None),
    ("GET", "/v1/jobs", None),
]


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_no_call_fails_for_want_of_file_descriptors(
    spare: int, small: TestClient, settings: Settings
) -> None:
    folder = settings.data_dir / "snapshots"
    file = small.post(f"{COLLECTION}/snapshots").json()["snapshot"]
    (folder / file).rename(folder / "c.snapshot")
    statuses = {}
    with no_more_files(spare):
        for method, path, body in CALLS:
            given = {"content": body} if isinstance(body, bytes) else {"json": body}
            answer = small.request(method, path, **(given if body else {}))
            statuses[f"{method} {path}"] = answer.status_code
            if answer.status_code == 503:
                assert_problem(answer, 503, "short of file descriptors: try again later")
                assert answer.headers["Retry-After"] == "10"
    allowed = {200, 201, 204, 503}
    if statuses["POST /v1/collections/d/restore"] == 503:
        allowed |= {404}  # There is nothing to delete.
    assert set(statuses.values()) <= allowed, statuses
    if spare == 0:
        assert statuses[f"POST {COLLECTION}/snapshots"] == 503
    assert not [path for path in folder.iterdir() if path.suffix != ".snapshot"]
    assert small.post(f"{COLLECTION}/snapshots").status_code == 201


def test_a_fresh_database_can_be_read_without_opening_files(tmp_path: Path) -> None:
    database = Database(tmp_path / "bitcell.db")
    with no_more_files():
        for _ in range(8):
            assert database.read("SELECT 1") == [(1,)]
    database.close()


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (OSError(errno.ENFILE, "Too many open files in system"), 503, "short of file descriptors"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 503, "short of memory"),
        (MemoryError(), 503, "short of memory"),
        (RuntimeError("can't start new thread"), 503, "short of threads"),
        (OSError(errno.ENOSPC, "No space left on device"), 507, "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 507, "the disk is full"),
        (OSError(errno.EIO, "Input/output error"), 500, "the service failed"),
        (RuntimeError("something else"), 500, "the service failed"),
    ],
)
def test_errors_of_the_system_have_one_meaning_for_every_call(
    error: Exception,
    status: int,
    message: str,
    small: TestClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "write", fail)
        patch.setattr(snapshot, "describe", fail)
        patch.setattr(Store, "get", fail)
        for method, path, body in CALLS:
            if path.startswith(COLLECTION) and "query" not in path:
                answer = small.request(method, path, **({"json": body} if body else {}))
                assert_problem(answer, status, message)
    assert small.get(COLLECTION).status_code == 200


def test_an_index_that_cannot_be_asked_is_503(
    small: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*of: Any) -> Any:
        raise Unavailable("Milvus at host:1 did not answer within 3 s: try again later", 6.6)

    monkeypatch.setattr(Store, "get", fails)
    calls: list[tuple[str, str, Any]] = [
        ("GET", COLLECTION, None),
        ("PUT", f"{COLLECTION}/items", {"items": ITEMS[:1]}),
        ("POST", f"{COLLECTION}/query", {"descriptors": [[1, 2, 3, 4]]}),
    ]
    for method, path, body in calls:
        answer = small.request(method, path, json=body)
        assert_problem(answer, 503, "did not answer within 3 s")
        assert answer.headers["Retry-After"] == "7"
