"""The commands, run from their command lines."""

from __future__ import annotations

import gc
import json
import re
import sys
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.benchmark.report.render import render
from app.cli.main import main
from app.cli.progress import progress_bar
from app.datasets.catalog import load_dataset
from hashing import load_hasher, make_hasher
from hashing.gist import Gist
from index import Database, Store, snapshot

TRAIN = "train --dataset digits --method lsh --bits 8 --out e.safetensors"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BITCELL_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def bitcell(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    """Run a command line and return its exit status."""
    monkeypatch.setattr("sys.argv", ["bitcell", *line.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_benchmark_prints_and_writes_the_same_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "benchmark --dataset digits --methods raw,lsh --bits 12,24 --seed 1 --json out.json"
    assert bitcell(monkeypatch, line) == 0
    result = json.loads(Path("out.json").read_text())
    assert result["dataset"]["name"] == "digits"
    assert result["protocol"]["seeds"] == [1]
    rows = [(row["method"], row["n_bits"]) for row in result["results"]]
    assert rows == [("raw", None), ("lsh", 12), ("lsh", 24)]
    shown = capsys.readouterr().out
    for row in result["results"]:
        assert 0 < row["map"] < 1
        assert f"{100 * row['map']:.2f}" in shown
    assert "Scaled to 29 queries and 58 labels per class" in " ".join(shown.split())


def test_the_tables_of_a_benchmark_fit_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 4
    descriptors = rng.normal(size=(200, 500)) + 0.1 * labels[:, None]
    np.savez("d.npz", descriptors=descriptors, labels=labels)
    line = "benchmark --dataset d.npz --methods raw,lsh,random-net-2 --bits 12,128 --seeds 0,1,2"
    assert bitcell(monkeypatch, f"{line} --reference lsh --json out.json") == 0
    lines = capsys.readouterr().out.splitlines()
    first, second = (i for i, line in enumerate(lines) if line.startswith("method"))
    tables = [line.rstrip() for line in lines[first : second + 8]]
    assert max(map(len, tables)) <= 80
    # Every heading and figure is there in full.
    assert not {"…", "None", "nan"} & set(" ".join(tables).split())
    for row in json.loads(Path("out.json").read_text())["results"]:
        start = f"{row['method']:12} {row['n_bits'] or '':>4} "
        shown = " ".join(line[len(start) :] for line in tables if line.startswith(start)).split()
        assert f"{100 * row['map']:.2f}" in shown
        assert f"{100 * row['recall_neighbours_100']:.1f}" in shown
        assert f"{100 * row['map_interval'][0]:.1f}" in shown
        other = row["method"] == "random-net-2"
        assert (row["difference"] is not None) == other
        assert (
            f"({100 * (row['difference'] or {'interval': [0]})['interval'][0]:+.1f}" in shown
        ) == other


def test_a_reference_that_is_not_measured_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "benchmark --dataset digits --methods raw,lsh --bits 12 --reference itq"
    assert bitcell(monkeypatch, line) == 2
    assert "one of the methods, raw, lsh; got 'itq'" in capsys.readouterr().err


def test_benchmark_writes_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "benchmark --dataset digits --methods raw,lsh --bits 12 --json o.json --report o.html"
    assert bitcell(monkeypatch, line) == 0
    result = json.loads(Path("o.json").read_text())
    expected = render(result, load_dataset("digits", images=True))
    assert Path("o.html").read_text("utf-8") == expected
    assert "data:image/png" in expected


def test_an_interrupted_benchmark_shows_its_rows_and_writes_its_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(hasher: object, X: object, y: object = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hashing.methods.pcah.PCAH.fit", interrupt)
    line = "benchmark --dataset digits --methods lsh,pcah --bits 12 --json o.json --report o.html"
    assert bitcell(monkeypatch, line) == 130
    printed = capsys.readouterr().out
    assert "Not measured: pcah, 12 bits (seed 0)." in printed
    result = json.loads(Path("o.json").read_text())
    assert [("map" in row) for row in result["results"]] == [True, False]
    assert result["interrupted"] in Path("o.html").read_text("utf-8")


def test_benchmark_writes_its_files_though_its_output_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def closed(result: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("app.cli.benchmark_output.print_result", closed)
    line = "benchmark --dataset digits --methods lsh --bits 12 --json o.json --report o.html"
    assert bitcell(monkeypatch, line) == 2
    assert json.loads(Path("o.json").read_text())["results"][0]["method"] == "lsh"
    assert Path("o.html").read_text("utf-8").endswith("</html>")


def test_names_and_messages_are_printed_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    rng = np.random.default_rng(0)
    name = "a[red]b:cat:"
    np.savez(f"{name}.npz", descriptors=rng.normal(size=(40, 4)), labels=np.arange(40) % 2)
    monkeypatch.setitem(sys.modules, "torch", None)  # An import of torch fails.
    methods = ("net-2", "siamese-2")
    hint = (
        "`make train-deps` installs it, or, in a checkout, `pip install --no-deps -r "
        "requirements-torch.txt --index-url https://download.pytorch.org/whl/cpu` and then "
        "`pip install '.[train]'`"
    )
    line = f"benchmark --dataset {name}.npz --methods lsh,{','.join(methods)} --bits 8"
    for protocol in ("retrieval-59k", "neighbours"):
        assert bitcell(monkeypatch, f"{line} --protocol {protocol} --report r.html") == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert shown.startswith(f"{name}, {protocol}:")
        page = unescape(Path("r.html").read_text("utf-8"))
        for method in methods:
            message = f"{method} is trained with torch, which cannot be imported"
            assert f"{method}, 8 bits: {message}" in shown
            assert message in page
        assert shown.count(hint) == page.count(hint) == len(methods)
    for method in methods:
        train = f"train --dataset {name}.npz --method {method} --bits 8 --out e.safetensors"
        assert bitcell(monkeypatch, train) == 2
        assert hint in capsys.readouterr().err


def test_a_path_with_brackets_is_printed_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (32, 32), (9, 9, 9)).save("a.png")
    assert bitcell(monkeypatch, "gist a.png --out a[red]b.npz") == 0
    assert "a[red]b.npz: 1 descriptors" in capsys.readouterr().out


def test_the_progress_bar_is_gone_before_an_error_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich draws a bar in terminals only.
    Path("text.txt").write_text("no image")
    assert bitcell(monkeypatch, "gist text.txt --out x.npz") == 2
    bar, message, rest = capsys.readouterr().err.partition("bitcell: text.txt cannot be read")
    assert message
    hide_cursor, show_cursor = "\x1b[?25l", "\x1b[?25h"
    assert bar.count(hide_cursor) == bar.count(show_cursor) == 1
    assert show_cursor not in rest
    gc.collect()
    assert capsys.readouterr().err == ""


def test_the_progress_bar_prints_names_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich draws a bar in terminals only.
    with progress_bar(1) as update:
        update(0, 1, "a[red]b[/]c")
    assert "a[red]b[/]c" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)


def test_train_then_encode(monkeypatch: pytest.MonkeyPatch, X: NDArray[Any]) -> None:
    line = "train --dataset digits --method lsh --bits 24 --seed 3 --out e.safetensors"
    assert bitcell(monkeypatch, line) == 0
    hasher = make_hasher("lsh", n_bits=24, random_state=3).fit(X)
    assert load_hasher("e.safetensors").fingerprint == hasher.fingerprint
    np.save("x.npy", X[:50])
    assert bitcell(monkeypatch, "encode e.safetensors x.npy --out codes.npy") == 0
    np.testing.assert_array_equal(np.load("codes.npy"), hasher.encode(X[:50]))


def test_train_takes_further_parameters_of_the_method(
    monkeypatch: pytest.MonkeyPatch, X: NDArray[Any]
) -> None:
    line = "train --dataset digits --method random-net-1 --bits 24 --out e.safetensors"
    assert bitcell(monkeypatch, f"{line} --param activation=relu --param a=0.5") == 0
    hasher = make_hasher("random-net-1", n_bits=24, activation="relu", a=0.5).fit(X)
    assert load_hasher("e.safetensors").fingerprint == hasher.fingerprint


@pytest.mark.parametrize("privileged", [True, False])
def test_train_leaves_out_privileged_features_on_request(
    privileged: bool, monkeypatch: pytest.MonkeyPatch, X: NDArray[Any]
) -> None:
    fitted: list[Any] = []

    class Watched(type(make_hasher("lsh"))):  # type: ignore[misc]
        def fit(self, *arrays: Any) -> Any:
            fitted.extend(arrays)
            return super().fit(*arrays)

    monkeypatch.setattr("hashing.make_hasher", lambda method, **_: Watched(n_bits=8))
    extra = np.ones((9, 2), np.float32)
    np.savez("d.npz", descriptors=X[:9], labels=np.arange(9) % 3, privileged=extra)
    line = "train --dataset d.npz --method net-2 --bits 8 --out e.safetensors"
    assert bitcell(monkeypatch, line + (" --no-privileged" if not privileged else "")) == 0
    np.testing.assert_array_equal(fitted[2], extra if privileged else None)


def test_train_needs_labels_only_for_methods_that_use_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("d.npz", descriptors=np.eye(9))
    line = "train --dataset d.npz --bits 4 --out e.safetensors"
    assert bitcell(monkeypatch, f"{line} --method lsh") == 0
    assert bitcell(monkeypatch, f"{line} --method ksh") == 2
    assert "labels of at least two classes are needed, got 0" in capsys.readouterr().err


def test_a_benchmark_without_labels_is_of_neighbours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    X = np.random.default_rng(0).normal(size=(60, 8))
    np.savez("d.npz", descriptors=X)
    np.save("d.npy", X)
    for name, options in (("d.npz", ""), ("d.npy", " --distance cosine --k 5 --queries 20")):
        line = f"benchmark --dataset {name} --methods raw-cosine,classifier --bits 8{options}"
        assert bitcell(monkeypatch, line) == 0
        n, k, distance = (20, 5, "cosine") if options else (30, 10, "euclidean")
        shown = capsys.readouterr().out
        assert f"{n} queries drawn, {60 - n} in the database, k {k}, {distance} dist" in shown
        assert "\nclassifier: labels of at least two classes" in shown
    assert bitcell(monkeypatch, f"{line} --tune") == 2
    assert "--tune needs a protocol with labels" in capsys.readouterr().err
    assert bitcell(monkeypatch, f"{line} --protocol mine") == 2
    assert "unseen-only, neighbours" in capsys.readouterr().err
    assert bitcell(monkeypatch, f"{line} --protocol retrieval-59k") == 2
    assert "--k and --distance need --protocol neighbours" in capsys.readouterr().err
    line = "benchmark --dataset d.npz --methods raw-cosine --bits 8"
    assert bitcell(monkeypatch, f"{line} --protocol retrieval-59k") == 2
    assert "`bitcell benchmark --protocol neighbours` needs no labels" in capsys.readouterr().err


def test_gist_makes_a_dataset_of_image_files(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, shape, np.uint8) for shape in ((40, 50, 3), (32, 32, 3))]
    for name, image in zip(("a.png", "b.png"), pixels, strict=True):
        Image.fromarray(image).save(name)
    assert bitcell(monkeypatch, "gist a.png b.png --out mine.npz") == 0
    dataset = load_dataset("mine.npz")
    assert dataset.ids.tolist() == ["a.png", "b.png"]
    assert dataset.labels.tolist() == [-1, -1]
    for image, descriptor in zip(pixels, dataset.descriptors, strict=True):
        np.testing.assert_allclose(descriptor, Gist().transform(image[None])[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("benchmark --dataset mnist --methods lsh", "there is no dataset 'mnist'"),
        ("benchmark --dataset no.npz --methods lsh", "there is no file no.npz"),
        ("benchmark --dataset digits --methods md5", "there is no method 'md5'"),
        ("benchmark --dataset digits --methods LSH", "did you mean 'lsh'?"),
        ("train --dataset digits --method siamese1 --bits 8 --out e.safetensors", "'siamese-1'?"),
        ("benchmark --dataset digits --methods lsh --bits 1x", "whole numbers, got '1x'"),
        ("benchmark --dataset digits --methods lsh --bits 0", "bits must be from 1"),
        ("benchmark --dataset digits --methods , --bits 1", "at least one method"),
        ("benchmark --dataset digits --methods lsh --seed -1", "seed must be from 0"),
        ("benchmark --dataset digits --methods lsh --json no/x.json", "there is no folder no"),
        ("benchmark --dataset digits --methods lsh --report no/x.html", "there is no folder no"),
        ("benchmark --dataset digits --methods lsh --report x.pdf", "ends in .html"),
        ("train --dataset digits --method lsh --bits 8 --out e.pt", "ends in .safetensors"),
        (f"{TRAIN} --param center", "--param is NAME=VALUE, such as steps=1000; got 'center'"),
        (f"{TRAIN} --param centre=false", "no parameter 'centre' (did you mean 'center'?)"),
        (f"{TRAIN} --param center=no", "center must be true or false, got 'no'"),
        (f"{TRAIN} --param n_bits=8", "--param n_bits: use --bits"),
        (f"{TRAIN} --param center=true --param center=false", "--param center is given twice"),
        ("encode no.safetensors x.npy --out c.npy", "No such file or directory: 'no.safetensors'"),
        ("encode e.safetensors text.txt --out c.npy", "text.txt is in no format"),
        ("serve --port 99999", "--port: Input should be less than"),
        ("gist text.txt --out x.npz", "text.txt cannot be read as an image"),
        (
            "encode e.safetensors none.npy --out c.npy",
            "none.npy: expected descriptors, got none",
        ),
        ("benchmark --dataset digits --methods lsh --k 3", "--k needs --protocol neighbours"),
        (
            "benchmark --dataset digits --methods lsh --distance cosine --rerank 5",
            "--distance and --rerank need --protocol neighbours",
        ),
        ("benchmark --dataset x.npy --methods lsh --labels 3", "--labels needs a protocol with"),
        ("benchmark --dataset x.npy --methods lsh --seed -1", "seed must be from 0"),
        ("explain --dataset x.npy --seed -1", "seed must be from 0 to 9223372036854775807, got -1"),
        ("recommend --dataset x.npy --bytes 1 --methods ,", "at least one method; there are lsh"),
        ("label-next --dataset=", "expected the name of a dataset or the path of a file, got ''"),
    ],
)
def test_an_error_is_one_line_and_leaves_no_file(
    line: str,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("text.txt").write_text("no image")
    make_hasher("lsh", n_bits=8).fit(np.ones((1, 3))).save("e.safetensors")
    np.save("x.npy", np.random.default_rng(0).normal(size=(150, 3)))
    np.save("none.npy", np.ones((0, 3)))
    files = set(folder.iterdir())
    assert bitcell(monkeypatch, line) == 2
    stderr = capsys.readouterr().err.strip()
    assert stderr.startswith("bitcell: ")
    assert message in stderr
    assert "\n" not in stderr
    assert set(folder.iterdir()) == files


@pytest.fixture
def snapshot_of_c(folder: Path) -> None:
    """A file c.snapshot with a collection `c`, written from another data directory."""
    database = Database(folder / "other" / "bitcell.db")
    store = Store(database)
    with (folder / "c.snapshot").open("wb") as file:
        snapshot.write(store.create("c", 8, encoder="e", fingerprint="0"), file)
    store.close()
    database.close()


@pytest.mark.parametrize(
    "line",
    [
        "keys list",
        "keys revoke 1f3a9c02",
        "snapshot c copy.snapshot",
        "restore c.snapshot",
        "backup copy",
        "export e e.safetensors",
        "train --dataset mnist --method lsh --bits 8 --out e.safetensors",
        "benchmark --dataset mnist --methods lsh",
    ],
)
@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.usefixtures("snapshot_of_c")
def test_a_command_that_reads_creates_nothing(
    line: str,
    exists: bool,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if exists:
        (folder / "data").mkdir()
    before = sorted(folder.rglob("*"))
    assert bitcell(monkeypatch, line) == 2
    assert sorted(folder.rglob("*")) == before
    (message,) = capsys.readouterr().err.splitlines()
    missing = "there is no dataset 'mnist'" if "mnist" in line else str(folder / "data")
    assert missing in message


def test_a_key_in_the_wrong_folder_is_refused_or_noted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bitcell(monkeypatch, "keys create early") == 0
    assert f"{folder / 'data'} holds no data yet" in capsys.readouterr().err
    monkeypatch.delenv("BITCELL_DATA_DIR")
    before = sorted(folder.rglob("*"))
    assert bitcell(monkeypatch, "keys create lost") == 2
    assert "bitcell-data holds no data: is BITCELL_DATA_DIR set" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before
    # Where a service has been started, the default folder is the right one.
    Database(folder / "bitcell-data" / "bitcell.db").close()
    assert bitcell(monkeypatch, "keys create mine") == 0
    assert "holds no data" not in capsys.readouterr().err


def test_listing_no_keys_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bitcell(monkeypatch, "keys create camera") == 0
    assert bitcell(monkeypatch, "keys list") == 0
    created, listed = capsys.readouterr().out.splitlines()
    assert created.startswith("bitcell_")
    key, scope, _, name = listed.split()
    assert (scope, name) == ("read", "camera")
    assert bitcell(monkeypatch, f"keys revoke {key}") == 0
    assert bitcell(monkeypatch, "keys list") == 0
    output = capsys.readouterr()
    assert output.out == ""
    revoked, none = output.err.splitlines()
    assert revoked.startswith("this was the last key: the service refuses every request")
    assert none.startswith("there are no keys: the service refuses every request")


def test_a_damaged_file_of_keys_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "keys.db").write_bytes(b"not a database" * 100)
    assert bitcell(monkeypatch, "keys list") == 2
    message = capsys.readouterr().err
    assert "keys.db: file is not a database" in message
    assert message.count("\n") == 1


def test_an_unreachable_database_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BITCELL_DATABASE_URL", "postgresql://u:secret@127.0.0.1:1/d")
    assert bitcell(monkeypatch, "keys list") == 2
    shown = capsys.readouterr().err
    assert "cannot be reached: connection" in shown
    assert "Connection refused" in shown
    assert "secret" not in shown
