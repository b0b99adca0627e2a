"""`bitcell duplicates`, with a service that owns the data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.cli.duplicates.output import print_groups
from app.cli.running_service import RunningService, running_service
from app.database.embedded import EmbeddedState
from app.service.encoder_store import EncoderStore
from app.service.keys import READ, Keys
from app.service.settings import Settings
from hashing import make_hasher
from index import Database, Store
from tests.app.cli.test_main import bitcell
from tests.app.service_process import Process


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Return the data directory and the address of a service with a collection `c`."""
    data = tmp_path_factory.mktemp("duplicates")
    database = Database(data / "bitcell.db")
    hasher = make_hasher("lsh", n_bits=16, random_state=0).fit(np.eye(4))
    used, store = EncoderStore(EmbeddedState(database)).add("e", hasher), Store(database)
    collection = store.create("c", 16, encoder="e", fingerprint=used.fingerprint)
    codes = np.zeros((9, 2), np.uint8)
    codes[:, 0] = [0, 0, 1, 3, 0, 255, 254, 60, 102]
    collection.upsert([f"[red]{'x' * 50} {i}" for i in range(9)], codes, [1] * 4 + [2] * 5)
    store.close()
    database.close()
    Keys(data).create("test", READ)  # The command makes a key of its own.
    process = Process(data, BITCELL_DEMO="false")
    yield data, process.url
    process.stop()


def run(
    monkeypatch: pytest.MonkeyPatch, service: tuple[Path, str], line: str, status: int = 0
) -> None:
    data, url = service
    monkeypatch.setenv("BITCELL_DATA_DIR", str(data))
    monkeypatch.setenv("COLUMNS", "80")
    assert bitcell(monkeypatch, f"duplicates {line} --url {url}") == status


def test_groups_are_printed_in_80_columns_and_written_to_files(
    service: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(monkeypatch, service, f"c --radius 1 --out {tmp_path / 'all.jsonl'}")
    printed = capsys.readouterr().out
    summary = " ".join(printed.split())
    assert "c: 7 of 9 items are within 1 bit of another; they are in 2 groups" in summary
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    assert re.search(r"^ *5 +7 +1 +\[red\]x", printed, re.MULTILINE)
    assert re.search(r"^ *2 +1 +1 +\[red\]x", printed, re.MULTILINE)
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [len(group["items"]) for group in lines] == [5, 2]
    run(monkeypatch, service, f"c --radius 1 --show 1 --out {tmp_path / 'all.npy'}")
    assert "Not shown: 1 group." in capsys.readouterr().out
    names = np.load(tmp_path / "all.npy")
    assert names.tolist() == [one for group in lines for one in group["items"]]


def test_a_filter_and_the_limit_are_passed_on(
    service: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, service, """c --radius 1 --max-pairs 1 --filter {"label":1}""")
    printed = capsys.readouterr().out
    assert "in 1 group, with more than 1 pair." in " ".join(printed.split())
    assert "c: 4 of 4 items" in printed


def test_ctrl_c_cancels_the_job(
    service: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs: list[str] = []

    def interrupted(service: RunningService, job: str, progress: object) -> None:
        jobs.append(job)
        raise KeyboardInterrupt

    def state(service: RunningService) -> str | None:
        response = service._request("GET", f"/v1/jobs/{jobs[0]}")
        return None if response.status_code == 404 else response.json()["state"]

    monkeypatch.setattr(RunningService, "wait", interrupted)
    run(monkeypatch, service, "c --radius 1", status=130)
    with running_service(Settings(data_dir=service[0]), service[1]) as running:
        while (found := state(running)) in ("queued", "running"):
            pass
    assert found in (None, "cancelled")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("none --radius 1", "there is no collection 'none'"),
        ("c --radius 1 --filter {", "--filter takes JSON, got '{'"),
        ("c --radius 1 --filter {}", "expected a filter"),
        ("c --radius 1 --out groups.txt", "expected a file name that ends in .jsonl"),
    ],
)
def test_what_is_refused_is_one_line(
    line: str,
    message: str,
    service: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(monkeypatch, service, line, status=2)
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_without_groups_there_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    result = {"collection": "c", "radius": 2, "items": 5, "groups": 0, "grouped": 0, "pairs": 0}
    print_groups(result | {"truncated": False, "largest": []}, 20)
    assert "ids" not in capsys.readouterr().out
