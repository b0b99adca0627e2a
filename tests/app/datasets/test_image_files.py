"""Image files on the disk, and ids for their items."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from app.datasets.image_files import LONGEST_ID, find, item_id
from index.validation import MAX_ID, check_ids


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str | bytes) -> None:
    for name in names:
        path = Path(os.fsdecode(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(*paths: str) -> tuple[list[str], int]:
    errors: list[OSError] = []
    files, others = find(map(Path, paths), {".jpg", ".png"}, errors.append)
    assert not errors
    return [str(path) for path in files], others


def test_folders_are_searched_in_the_order_of_names() -> None:
    touch("p/b/x.png", "p/b/a.JPG", "p/c.jpg", "p/a/z.png", "p/notes.txt", "p/b/Thumbs.db")
    touch("p/.cache/x.png", "p/._c.jpg", "q/x.png")
    Path("p/loop").symlink_to(Path("p").resolve())
    expected = ["p/c.jpg", "p/a/z.png", "p/b/a.JPG", "p/b/x.png"]
    assert found("p") == (expected, 2)
    assert found("q", "p/notes.txt", "p") == (["q/x.png", "p/notes.txt", *expected], 2)
    assert found("p/.cache") == (["p/.cache/x.png"], 0)
    assert found("gone", "q/../gone.jpg") == (["gone", "q/../gone.jpg"], 0)


def test_a_file_is_found_once() -> None:
    touch("p/a.jpg", "b.jpg")
    assert found("b.jpg", "p", "./b.jpg", "p/a.jpg", "p/", "./p//a.jpg") == (
        ["b.jpg", "p/a.jpg"],
        0,
    )


def test_a_folder_that_cannot_be_read_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("p/a.jpg", "p/locked/b.jpg")
    scan = os.scandir

    def refuse(path: str) -> object:  # Permissions do not stop root.
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    errors: list[OSError] = []
    files, _ = find([Path("p")], {".jpg"}, errors.append)
    assert files == [Path("p/a.jpg")]
    assert [error.filename for error in errors] == ["p/locked"]


NAMES: list[str | bytes] = [
    "plain.jpg",
    "Ünïcode 图.jpg",
    "Screenshot 2026-01-02 at 1.02.03\u202fPM.png",  # as macOS writes it
    "fam\u200cily.png",
    "soft\u00adhyphen.png",
    "two\nlines\t.png",
    "50%.png",
    "50%25.png",
    "a%E2%80%AFb.png",
    "a\u202fb.png",
    b"caf\xe9.jpg",
    b"\xff\xfe.jpg",
    "...",
    "sub/..hidden/x.jpg",
]


@pytest.mark.parametrize("name", NAMES)
def test_an_id_is_accepted_and_leads_back_to_the_file(name: str | bytes) -> None:
    path = Path(os.fsdecode(name))
    check_ids([item_id(path)])
    assert unquote_to_bytes(item_id(path)) == os.fsencode(path)


def test_ids_of_plain_names_are_the_paths_and_all_ids_differ() -> None:
    paths = [Path(os.fsdecode(name)) for name in NAMES]
    check_ids([item_id(path) for path in paths])
    assert item_id(Path("./p//plain name.jpg")) == "p/plain name.jpg"
    assert item_id(Path("/abs/Ünïcode 图.jpg")) == "/abs/Ünïcode 图.jpg"


def test_the_id_of_a_path_with_parents_is_absolute(folder: Path) -> None:
    touch("p/a.jpg", "elsewhere/deep/x")
    assert item_id(Path("p/../p/a.jpg")) == str(folder.resolve() / "p/a.jpg")
    Path("link").symlink_to("elsewhere/deep")
    # The parent of a link is that of the folder it leads to.
    assert item_id(Path("link/../a.jpg")) == str(folder.resolve() / "elsewhere/a.jpg")
    check_ids([item_id(Path("../../../../../../../../a.jpg"))])


def test_the_longest_id_is_that_of_the_index() -> None:
    assert LONGEST_ID == MAX_ID
