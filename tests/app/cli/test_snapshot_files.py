"""`bitcell snapshot` and `bitcell restore`, with and without a service that holds the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from struct import pack
from zlib import crc32

import httpx2
import numpy as np
import pytest

from app.service.encoder_store import EncoderStore
from app.service.keys import READ, Keys
from hashing import make_hasher
from index import Collection, Database, Store
from tests.app.cli.test_main import bitcell
from tests.app.http.test_serving import Process

Run = Callable[[str], str]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with an encoder `e` and a collection `c` of 300 items."""
    path = tmp_path / "data"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BITCELL_DATA_DIR", str(path))
    make(path)
    return path


def make(path: Path, seed: int = 0) -> None:
    hasher = make_hasher("lsh", n_bits=12, random_state=seed).fit(np.eye(4))
    database = Database(path / "bitcell.db")
    used, store = EncoderStore(database).add("e", hasher), Store(database)
    collection = store.create("c", 12, encoder="e", fingerprint=used.fingerprint)
    codes = hasher.encode(np.random.default_rng(0).normal(size=(300, 4)))
    payloads = [{"i": i} for i in range(300)]
    collection.upsert([f"{i}" for i in range(300)], codes, list(range(300)), payloads)
    store.close()
    database.close()


def contents(path: Path) -> dict[str, list[object]]:
    def items(collection: Collection) -> list[object]:
        return [collection.get(f"{i}") for i in range(300)]

    database = Database(path / "bitcell.db")
    store = Store(database)
    found = {collection.name: items(collection) for collection in store.list()}
    store.close()
    database.close()
    return found


@pytest.fixture
def run(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The output of a command that works."""

    def run(line: str) -> str:
        assert bitcell(monkeypatch, line) == 0, capsys.readouterr().err
        return capsys.readouterr().out.strip()

    return run


@pytest.fixture
def refused(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """What a command says that does not work, in one line."""

    def run(line: str) -> str:
        assert bitcell(monkeypatch, line) == 2
        said = capsys.readouterr().err.strip()
        assert "\n" not in said
        return said

    return run


def test_a_copy_is_made_and_put_back_without_a_service(data: Path, run: Run) -> None:
    assert run("snapshot c c.snapshot") == "c.snapshot: 300 items of c"
    assert run("restore c.snapshot --name d") == "d: 300 items"
    there = contents(data)
    assert sorted(there) == ["c", "d"]
    assert there["c"] == there["d"]


def test_it_goes_back_under_its_own_name(data: Path, run: Run, refused: Run) -> None:
    run("snapshot c c.snapshot")
    before = contents(data)
    assert "there is a collection 'c' already" in refused("restore c.snapshot")
    database = Database(data / "bitcell.db")
    store = Store(database)
    store.drop("c")
    store.close()
    database.close()
    assert run("restore c.snapshot") == "c: 300 items"
    assert contents(data) == before


def test_what_is_wrong_is_said(
    data: Path, run: Run, refused: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no collection 'x'" in refused("snapshot x x.snapshot")
    assert "ends in .snapshot" in refused("snapshot c c.txt")
    assert "there is no folder no" in refused("snapshot c no/c.snapshot")
    assert "No such file" in refused("restore no.snapshot")
    Path("text.snapshot").write_text("no snapshot")
    assert "is no snapshot of version 1" in refused("restore text.snapshot")
    run("snapshot c c.snapshot")
    assert "a name has 1 to 64" in refused("restore c.snapshot --name /")
    damaged = bytearray(Path("c.snapshot").read_bytes())
    damaged[-40] ^= 1
    Path("bad.snapshot").write_bytes(damaged)
    assert "bad.snapshot is damaged" in refused("restore bad.snapshot --name d")
    assert list(contents(data)) == ["c"]
    monkeypatch.setenv("BITCELL_DATA_DIR", "elsewhere")
    assert "elsewhere holds no data" in refused("snapshot c c.snapshot")
    assert not Path("elsewhere").exists()
    make(Path("elsewhere"), seed=1)
    assert "put that encoder there first" in refused("restore c.snapshot --name d")
    assert list(contents(Path("elsewhere"))) == ["c"]


def test_a_file_from_before_names_were_in_it_needs_one(data: Path, run: Run, refused: Run) -> None:
    database = Database(data / "bitcell.db")
    fingerprint = EncoderStore(database).get("e").fingerprint
    database.close()
    about = {"n_bits": 12, "encoder": "e", "fingerprint": fingerprint, "keep_descriptors": False}
    first = json.dumps(about).encode()
    head, end = pack("<QI", len(first), crc32(first)), pack("<QI", 0, crc32(first))
    Path("old.snapshot").write_bytes(b"Bitcell snapshot 1\n" + head + first + end)
    assert "give a --name" in refused("restore old.snapshot")
    assert run("restore old.snapshot --name d") == "d: 0 items"


@pytest.fixture
def served(data: Path) -> Iterator[Process]:
    with closing(Keys(data)) as keys:
        keys.create("someone", READ)
    process = Process(data, BITCELL_DEMO="false")
    yield process
    process.stop()


def test_a_service_that_holds_the_data_makes_the_copy(
    data: Path, served: Process, run: Run, refused: Run
) -> None:
    at = f"--url {served.url}"
    assert run(f"snapshot c c.snapshot {at}") == "c.snapshot: 300 items of c"
    assert run(f"restore c.snapshot --name d {at}") == "d: 300 items"
    assert "there is a collection 'c' already" in refused(f"restore c.snapshot {at}")
    assert "there is no collection 'x'" in refused(f"snapshot x x.snapshot {at}")
    assert "no service answers at http://127.0.0.1:9:" in refused(
        "snapshot c c.snapshot --url http://127.0.0.1:9"
    )
    # Neither the copies on the way nor the keys of the commands are left.
    assert list((data / "snapshots").iterdir()) == []
    with closing(Keys(data)) as keys:
        assert [key.name for key in keys.list()] == ["someone"]
    assert httpx2.get(f"{served.url}/v1/collections").status_code == 401
    served.stop()
    there = contents(data)
    assert there["c"] == there["d"]
