"""`bitcell explain` and `bitcell label-next`, from their command lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from app.cli.main import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BITCELL_DATA_DIR", str(tmp_path / "data"))
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    X = 2 * np.eye(3, 10)[y] + 0.5 * rng.standard_normal((240, 10))
    labels = np.where(np.arange(240) < 120, y, -1)
    ids = np.array([f"item-{i}" for i in range(240)])
    np.savez("half.npz", descriptors=X.astype(np.float32), labels=labels, ids=ids)


def bitcell(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    monkeypatch.setattr("sys.argv", ["bitcell", *line.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_explain_prints_and_writes_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "explain --dataset half.npz --laws width,calibration --report r.html --json r.json"
    assert bitcell(monkeypatch, line) == 0
    printed = " ".join(capsys.readouterr().out.split())
    page, result = Path("r.html").read_text(), json.loads(Path("r.json").read_text())
    assert [each["law"]["key"] for each in result["findings"]] == ["width", "calibration"]
    for each in result["findings"]:
        assert each["answer"] in printed
        assert each["answer"] in page
        assert each["law"]["limit"] in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--laws depth", "there is no law 'depth'"),
        ("--laws ,", "expected at least one law, got none; there are width, embedding"),
        ("--items 49", "--items must be from 50"),
        ("--report r.txt", "ends in .html"),
        ("--encoder none.safetensors", "none.safetensors"),
    ],
)
def test_wrong_options_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: str,
    message: str,
) -> None:
    assert bitcell(monkeypatch, f"explain --dataset half.npz {options}") == 2
    assert message in capsys.readouterr().err


def test_label_next_proposes_items_without_a_label(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "label-next --dataset half.npz -n 7 --measure --bits 8 --json l.json"
    assert bitcell(monkeypatch, line) == 0
    out = capsys.readouterr()
    proposed = out.out.split()
    assert len(set(proposed)) == 7
    assert all(int(each.removeprefix("item-")) >= 120 for each in proposed)
    result = json.loads(Path("l.json").read_text())
    assert result["items"] == proposed
    assert f"{100 * result['gain']['difference']['value']:+.1f} points" in out.err


def test_label_next_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    X = np.random.default_rng(0).standard_normal((60, 4))
    np.savez("full.npz", descriptors=X, labels=np.arange(60) % 2)
    assert bitcell(monkeypatch, "label-next --dataset full.npz -n 5") == 2
    assert "at least 5 items without a label, got 0 of 60" in capsys.readouterr().err
    assert bitcell(monkeypatch, "label-next --dataset full.npz -n 5 --measure --method lsh") == 2
    assert "lsh does not learn from labels" in capsys.readouterr().err
    np.savez("bare.npz", descriptors=X)
    assert bitcell(monkeypatch, "label-next --dataset bare.npz -n 5 --measure") == 2
    assert "needs labels: no item has one" in capsys.readouterr().err


def test_an_error_of_the_measurement_does_not_lose_the_proposals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    X = np.random.default_rng(0).standard_normal((90, 4))
    labels = np.where(np.arange(90) < 30, np.arange(90) % 2, -1)
    np.savez("few.npz", descriptors=X, labels=labels)
    line = "label-next --dataset few.npz -n 5 --measure --json l.json"
    assert bitcell(monkeypatch, line) == 2
    out = capsys.readouterr()
    assert "at least 50 labelled items, got 30" in out.err
    assert len(set(out.out.split())) == 5
    assert json.loads(Path("l.json").read_text())["items"] == out.out.split()


def test_a_wrong_method_or_length_is_refused_before_items_are_chosen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, message in (("--method md5", "no method 'md5'"), ("--bits 0", "n_bits")):
        assert bitcell(monkeypatch, f"label-next --dataset none.npz --measure {options}") == 2
        assert message in capsys.readouterr().err
