"""`bitcell recommend`, from its command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.cli.main import main
from app.cli.theory import recommend
from tests.app.recommend.made import clusters
from tests.app.service_process import Process


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    data_dir = tmp_path_factory.mktemp("recommend") / "data"
    process = Process(data_dir, BITCELL_DEMO="false")
    process.data_dir = data_dir
    yield process
    process.stop()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("BITCELL_DATA_DIR", str(tmp_path / "none"))
    made = clusters(240)
    np.savez("mine.npz", descriptors=made.descriptors, labels=made.labels)


def bitcell(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    monkeypatch.setattr("sys.argv", ["bitcell", *line.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


LINE = "recommend --dataset mine.npz --methods sdh,itq --max-bits 16"


def test_the_answer_is_printed_and_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bitcell(monkeypatch, f"{LINE} --within 20 --json r.json --report r.html") == 0
    result, printed = json.loads(Path("r.json").read_text()), capsys.readouterr().out
    assert printed.startswith(result["answer"])
    assert f"Runner-up: {result['runner_up']['why']}" in printed
    assert result["answer"].replace("`", "") in Path("r.html").read_text()
    assert [each["method"] for each in result["candidates"]].count("sdh") == printed.count("\nsdh ")
    table = printed[printed.index("\nmethod ") :].split("\nIntervals")[0]
    assert max(map(len, table.splitlines())) <= 80


def test_a_goal_out_of_reach_has_the_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "recommend --dataset mine.npz --recall 0.99 --rerank 0 --methods sign --max-bits 8"
    assert bitcell(monkeypatch, line) == 1
    assert capsys.readouterr().out.startswith("No candidate reaches the goal, 99 % of the 10")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("recommend --within 2", "give one of --dataset and --collection"),
        ("recommend --dataset mine.npz", "expected one goal"),
        ("recommend --dataset mine.npz --within 2 --distance dot", "--distance must be"),
        ("recommend --dataset mine.npz --within 2 --seconds -1", "a number above 0, got -1"),
        ("recommend --dataset mine.npz --recall 0.5 --k 50 --rerank 5", "rerank must be at least"),
        ("recommend --dataset mine.npz --within 2 --report r.txt", "ends in .html"),
        ("recommend --dataset mine.npz --within 2 --json no/r.json", "no folder"),
        ("recommend --dataset none.npz --within 2", "there is no file none.npz"),
        ("recommend --dataset mine.npz --within 2 --make new", "holds no data"),
    ],
)
def test_wrong_options_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    assert bitcell(monkeypatch, line) == 2
    assert message in capsys.readouterr().err


def test_make_creates_the_encoder_and_the_collection(
    service: Process, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BITCELL_DATA_DIR", str(service.data_dir))
    assert bitcell(monkeypatch, f"{LINE} --within 20 --make small") == 0
    assert "bitcell load small" in capsys.readouterr().out
    made = json.loads(service.get("/v1/collections/small"))
    assert (made["encoder"], made["items"]) == ("small", 0)
    assert bitcell(monkeypatch, f"{LINE} --within 20 --make small") == 2
    assert "already the name of one of the encoders" in capsys.readouterr().err
    assert bitcell(monkeypatch, f"{LINE} --within 20 --make not/this --json r.json") == 2
    assert "not/this" in capsys.readouterr().err
    assert not Path("r.json").exists()
    # A name that is taken meanwhile is refused only when it is made: the answer is not lost.
    with monkeypatch.context() as patched:
        patched.setattr(recommend, "_check_free", lambda *taken: None)
        assert bitcell(patched, f"{LINE} --within 20 --make small --json r.json") == 2
    printed = capsys.readouterr()
    assert printed.out.startswith(json.loads(Path("r.json").read_text())["answer"])
    assert "small" in printed.err
    # Of the descriptors that a collection keeps, as a job of the service.
    kept = {"name": "kept", "encoder": "small", "keep_descriptors": True}
    service.call("POST", "/v1/collections", kept)
    assert bitcell(monkeypatch, "load kept mine.npz") == 0
    line = "recommend --collection kept --within 20 --make small"
    assert bitcell(monkeypatch, line) == 2
    assert "already the name of one of the encoders" in capsys.readouterr().err
    assert json.loads(service.get("/v1/recommendations")) == []
    line = "recommend --collection kept --within 20 --methods sdh --max-bits 8 --make smaller"
    assert bitcell(monkeypatch, line) == 0
    assert "Use `sdh` with 8 bits" in capsys.readouterr().out
    made = json.loads(service.get("/v1/collections/smaller"))
    assert made["n_bits"] == 8
