"""Snapshot files over HTTP: list, download, upload, delete, and keep the last of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from app.main import create_app
from app.service.keys import READ, Keys
from app.service.settings import Settings
from tests.app.asgi_client import TestClient
from tests.app.conftest import fill, settings_in
from tests.index import snapshot_blocks

SNAPSHOTS = "/v1/collections/c/snapshots"
FILE = {"Content-Type": "application/octet-stream"}
NAMES = ["my snapshot.snapshot", "Köln 2026.snapshot", "at 4.15.12\u202fPM", "100% a?b#c", "x"]
QUERY = {"descriptors": [[1, 2, 3, 4]]}


def folder_of(settings: Settings) -> Path:
    return settings.data_dir / "snapshots"


def taken(client: TestClient) -> tuple[str, bytes]:
    """Return the name and the bytes of a new snapshot of `c`."""
    name = client.post(SNAPSHOTS).json()["snapshot"]
    return name, client.get(f"/v1/snapshots/{name}").content


@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_may_have_any_name_of_a_file(
    name: str, small: TestClient, settings: Settings
) -> None:
    """One with a space in its name was not found."""
    made, data = taken(small)
    (folder_of(settings) / made).rename(folder_of(settings) / name)
    listed = small.get("/v1/snapshots").json()
    assert [(one["snapshot"], one["bytes"]) for one in listed] == [(name, len(data))]
    url = f"/v1/snapshots/{quote(name, safe='')}"
    answer = small.get(url)
    assert answer.content == data
    assert answer.headers["Content-Disposition"].endswith(f"''{quote(name, safe='')}")
    assert small.delete(url).status_code == 204
    assert small.get(url).status_code == 404
    uploaded = small.put(url, content=data, headers=FILE)
    assert uploaded.status_code == 201
    assert uploaded.json()["snapshot"] == name
    restored = small.post("/v1/collections/d/restore", json={"snapshot": name})
    assert restored.status_code == 201
    assert restored.json()["items"] == 3


@pytest.mark.parametrize(
    "name", ["..", ".hidden", "../bitcell.db", "a\nb", "\x00", "x" * 256, "é" * 128]
)
def test_other_names_are_refused(name: str, small: TestClient, settings: Settings) -> None:
    _, data = taken(small)
    before = sorted(path.name for path in settings.data_dir.rglob("*"))
    url = f"/v1/snapshots/{quote(name, safe='', errors='surrogatepass')}"
    text = name.encode(errors="replace").decode()
    statuses = [
        small.put(url, content=data, headers=FILE).status_code,
        small.get(url).status_code,
        small.delete(url).status_code,
        small.post("/v1/collections/d/restore", json={"snapshot": text}).status_code,
    ]
    assert set(statuses) <= {404, 405, 422}
    assert sorted(path.name for path in settings.data_dir.rglob("*")) == before
    assert len(small.get("/v1/snapshots").json()) == 1


def test_files_that_are_being_written_are_not_snapshots(
    small: TestClient, settings: Settings
) -> None:
    taken(small)
    name = "restore-1.bitcell-partial"
    (folder_of(settings) / name).write_bytes(b"")
    (folder_of(settings) / "folder").mkdir()
    assert len(small.get("/v1/snapshots").json()) == 1
    for other in (name, "folder"):
        assert small.get(f"/v1/snapshots/{other}").status_code == 404
        assert small.delete(f"/v1/snapshots/{other}").status_code == 404
    assert small.put(f"/v1/snapshots/{name}", content=b"", headers=FILE).status_code == 422


def test_the_last_ones_are_kept(small: TestClient, settings: Settings) -> None:
    small.post("/v1/collections", json={"name": "c-2", "encoder": "e"})
    other = small.post("/v1/collections/c-2/snapshots").json()
    assert "removed" not in other
    (folder_of(settings) / "c-mine.snapshot").write_bytes(b"")
    made = [small.post(SNAPSHOTS).json()["snapshot"] for _ in range(4)]
    newest = small.post(f"{SNAPSHOTS}?keep=2").json()
    assert newest["removed"] == made[:3]
    left = {one["snapshot"] for one in small.get("/v1/snapshots").json()}
    assert left == {other["snapshot"], "c-mine.snapshot", made[3], newest["snapshot"]}
    assert small.post(f"{SNAPSHOTS}?keep=9").json()["removed"] == []
    for wrong in (0, -1, "all"):
        assert small.post(f"{SNAPSHOTS}?keep={wrong}").status_code == 422


def test_an_upload_may_be_larger_than_a_body(settings: Settings) -> None:
    tight = settings.model_copy(update={"max_body": 2000})
    with TestClient(create_app(tight)) as client:
        fill(client)
        _, data = taken(client)
        rows = snapshot_blocks.columns(snapshot_blocks.split(data)[2])
        blocks = snapshot_blocks.split(data)[:2]
        for block in range(100):
            texts = json.dumps([[f"{block}-{i}" for i in range(3)], [{"n": "x" * 99}] * 3])
            blocks.append(snapshot_blocks.block_of([texts.encode(), *rows[1:]]))
        large = snapshot_blocks.join(blocks)
        assert len(large) > 20 * tight.max_body
        answer = client.put("/v1/snapshots/large", content=large, headers=FILE)
        assert answer.status_code == 201, answer.text
        restored = client.post("/v1/collections/d/restore", json={"snapshot": "large"})
        assert restored.json()["items"] == 300
        # Other bodies are as limited as before.
        assert client.put("/v1/encoders/x", content=large, headers=FILE).status_code == 413


def unwanted(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    yield "no snapshot", b"x" * 5000
    yield "half", data[: len(data) // 2]
    yield "a flipped bit", data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]
    yield "more", data + b"x"
    about, *rest = snapshot_blocks.split(data)
    wrong = json.dumps(json.loads(about) | {"n_bits": -1}).encode()
    yield "a wrong description", snapshot_blocks.join([wrong, *rest])


def test_what_is_no_snapshot_is_refused_and_leaves_nothing(
    small: TestClient, settings: Settings
) -> None:
    made, data = taken(small)
    for what, content in unwanted(data):
        refused = small.put("/v1/snapshots/new", content=content, headers=FILE)
        assert (what, refused.status_code) == (what, 422)
        assert "partial" not in refused.json()["detail"]
        assert [path.name for path in folder_of(settings).iterdir()] == [made]
    taken_name = small.put(f"/v1/snapshots/{made}", content=data, headers=FILE)
    assert taken_name.status_code == 409
    assert (folder_of(settings) / made).read_bytes() == data


def test_uploads_are_held_to_the_size_of_all_snapshots(settings: Settings) -> None:
    small_folder = settings.model_copy(update={"max_snapshots": 1500})
    with TestClient(create_app(small_folder)) as client:
        fill(client)
        made, data = taken(client)
        assert len(data) < 1500 < 2 * len(data)
        refused = client.put("/v1/snapshots/new", content=data, headers=FILE)
        assert refused.status_code == 507
        assert "BITCELL_MAX_SNAPSHOTS" in refused.json()["detail"]
        assert [path.name for path in folder_of(settings).iterdir()] == [made]


def test_a_read_key_may_list_and_download(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with TestClient(create_app(settings)) as client:
        fill(client)
        made, data = taken(client)
        with closing(Keys(settings.data_dir)) as keys:
            _, secret = keys.create("reader", READ)
        url, key = f"/v1/snapshots/{made}", {"Authorization": f"Bearer {secret}"}
        assert client.get(url).status_code == 401
        assert client.get("/v1/snapshots", headers=key).json()[0]["snapshot"] == made
        assert client.get(url, headers=key).content == data
        assert client.put(url + "2", content=data, headers=FILE | key).status_code == 403
        assert client.delete(url, headers=key).status_code == 403
        assert client.get("/v1/encoders/e/file", headers=key).status_code == 200


def test_the_file_of_an_encoder_makes_the_same_encoder(small: TestClient) -> None:
    answer = small.get("/v1/encoders/e/file")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''e.safetensors"
    copy = small.put("/v1/encoders/f", content=answer.content, headers=FILE).json()
    assert copy | {"name": "e"} == small.get("/v1/encoders/e").json()
    assert small.get("/v1/encoders/f/file").content == answer.content
    codes = [small.post(f"/v1/encoders/{name}/encode", json=QUERY).json() for name in "ef"]
    assert codes[0] == codes[1]
    assert small.get("/v1/encoders/none/file").status_code == 404
