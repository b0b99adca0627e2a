"""`bitcell gist`: folders, names of all kinds, files that cannot be read."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.cli.main import main
from app.datasets.catalog import load_dataset
from app.service.images import describe_file
from index.validation import check_ids


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gist(monkeypatch: pytest.MonkeyPatch, *arguments: str, out: str = "x.npz") -> int:
    """Run the command and return its exit status."""
    monkeypatch.setattr("sys.argv", ["bitcell", "gist", *arguments, "--out", out])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def paint(*names: str | bytes) -> None:
    """Write a small picture under each name, each another."""
    for name in names:
        path = Path(os.fsdecode(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(os.fsencode(path))
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path, "PNG")


def ids(path: str = "x.npz") -> list[str]:
    found: list[str] = load_dataset(path).ids.tolist()
    check_ids(found)  # as the service does
    return found


def test_files_that_cannot_be_read_are_listed_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paint("a.png", "b.png", "c.png")
    whole = Path("b.png").read_bytes()
    Path("b.png").write_bytes(whole[: len(whole) // 2])
    Path("text.jpg").write_text("no image")
    long = "/".join(["n" * 100] * 3) + ".png"
    paint(long)
    assert gist(monkeypatch, "a.png", "b.png", "text.jpg", "gone.png", long, "c.png") == 1
    assert ids() == ["a.png", "c.png"]
    for name, descriptor in zip(ids(), load_dataset("x.npz").descriptors, strict=True):
        np.testing.assert_array_equal(descriptor, describe_file(Path(name)))
    out, err = capsys.readouterr()
    assert "x.npz: 2 descriptors of dimension 384" in out
    assert re.findall("^bitcell: (.*)$", err, re.MULTILINE) == [
        "b.png cannot be read as an image: image file is truncated",
        "text.jpg cannot be read as an image: no such format",
        "gone.png cannot be read as an image: No such file or directory",
        f"{long} is too long for an id, of at most 256 characters",
    ]


def test_a_folder_with_names_of_all_kinds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paint("p/a.png", "p/sub/Screenshot 1.02\u202fPM.PNG", "p/sub/50%.png", b"p/caf\xe9.png")
    Path("p/notes.txt").touch()
    assert gist(monkeypatch, "p") == 0
    escaped = ["p/caf%E9.png", "p/sub/50%25.png", "p/sub/Screenshot 1.02%E2%80%AFPM.PNG"]
    assert ids() == ["p/a.png", *escaped]
    assert "left out by their names: 1" in capsys.readouterr().err


def test_a_file_in_a_parent_folder_or_named_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint("p/a.png", "b.png")
    Path("here").mkdir()
    monkeypatch.chdir("here")
    b, inside = str(folder.resolve() / "b.png"), str(folder.resolve() / "p" / "a.png")
    assert gist(monkeypatch, "../b.png", "../b.png", b, "../p", "../p/a.png") == 0
    assert ids() == [b, inside]


def test_without_a_single_descriptor_no_dataset_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    assert gist(monkeypatch, "empty") == 2
    assert "there are no image files in empty" in capsys.readouterr().err
    Path("x.jpg").touch()
    os.mkfifo("pipe.png")
    assert gist(monkeypatch, "x.jpg", "pipe.png") == 2
    assert "it is a folder, a pipe or a device" in capsys.readouterr().err
    assert not Path("x.npz").exists()


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paint("a.png")
    monkeypatch.setattr("app.service.images.describe_file", lambda *_: pytest.fail("it worked"))
    Path("folder.npz").mkdir()
    assert gist(monkeypatch, "a.png", out="folder.npz") == 2
    assert "folder.npz is a folder, not a file" in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda path, how: how != os.W_OK)  # as on a read-only disk
    assert gist(monkeypatch, "a.png") == 2
    assert "the folder . cannot be written to" in capsys.readouterr().err


def test_the_background(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    white = np.full((16, 16, 4), 255, np.uint8)
    white[:8, :, 3] = 0
    Image.fromarray(white).save("white.png")
    assert gist(monkeypatch, "white.png") == 0
    assert not load_dataset("x.npz").descriptors.any()
    assert gist(monkeypatch, "white.png", "--background", "black") == 0
    assert load_dataset("x.npz").descriptors.any()
    assert gist(monkeypatch, "white.png", "--background", "snow white", out="y.npz") == 2
    assert "--background: unknown color specifier: 'snow white'" in capsys.readouterr().err


def test_postscript_starts_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        pytest.fail("Ghostscript was started")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", start)
    Image.new("RGB", (16, 16)).save("a.jpg", "EPS")
    assert gist(monkeypatch, "a.jpg") == 2
