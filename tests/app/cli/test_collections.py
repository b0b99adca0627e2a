"""`bitcell collections`, `load` and `query` on a running service, and the global options."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from app.cli.collections import calls, load
from app.service.data_dir import URL_FILE
from app.service.keys import Keys
from hashing import make_hasher
from hashing.methods.rabitq import RaBitQ
from tests.app.cli.test_main import bitcell
from tests.app.service_process import Process

CODES = np.random.default_rng(0).integers(0, 256, (500, 8), np.uint8)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Return a service that needs keys, with the demo collection."""
    data_dir = tmp_path_factory.mktemp("commands") / "data"
    process = Process(data_dir, BITCELL_REQUIRE_KEYS="true")
    yield process
    process.stop()


@pytest.fixture
def run(
    service: Process,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str], str]:
    """Run a command that succeeds, with the data directory as an option; return its output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BITCELL_DATA_DIR", raising=False)
    data_dir = service.data_dir

    def run(line: str) -> str:
        assert bitcell(monkeypatch, f"--data-dir {data_dir} {line}") == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return run


def test_codes_are_loaded_and_found(
    run: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_ITEMS", 170)  # Three requests.
    np.save("codes.npy", CODES)
    assert run("load own codes.npy --bits 64") == "own: 500 items loaded, 500 in all\n"
    assert run("load own codes.npy") == "own: 500 items loaded, 500 in all\n"
    (row,) = (line.split() for line in run("collections").splitlines() if line[:3] == "own")
    assert row == ["own", "500", "64"]
    answer = json.loads(run(f"query own --code {CODES[7].tobytes().hex()} -k 5 --json"))
    (found,) = answer["results"]
    expected = np.bitwise_count(CODES ^ CODES[7]).sum(axis=1)
    assert [near["distance"] for near in found] == sorted(expected.tolist())[:5]
    assert [expected[int(near["id"])] for near in found] == sorted(expected.tolist())[:5]
    assert answer["certificates"][0]["exact"]


def test_files_of_codes_are_loaded_and_found(
    run: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load, "_ITEMS", 170)  # Three requests.
    X = np.random.default_rng(0).normal(size=(500, 384)).astype(np.float32)
    table = pa.table(
        {
            "emb": list(X),
            "id": [f"i{i}" for i in range(500)],
            "label": np.array(["b", "", "a"])[np.arange(500) % 3],
            "n": pa.array([None, *range(1, 500)]),
            "tags": [[f"t{i}"] for i in range(500)],
            "day": pa.array([0] * 500, pa.date32()),
        }
    )
    parquet.write_table(table, "x.parquet", row_group_size=200)
    run("encode demo x.parquet --out c.parquet")
    line = "load coded c.parquet --encoder demo --payload n,tags"
    assert run(line) == "coded: 500 items loaded, 500 in all\nlabels: 0 a, 1 b\n"
    np.save("queries.npy", X[[0, 499]])
    for name in ("coded", "plain"):
        if name == "plain":
            run("load plain x.parquet --encoder demo")
        answer = json.loads(run(f"query {name} --descriptors queries.npy -k 3 --json"))
        for found in answer["results"]:
            for near in found:
                near.pop("payload", None)
        if name == "coded":
            expected = answer["results"]
    assert answer["results"] == expected
    assert expected[0][0] == {"id": "i0", "distance": 0, "label": 1}
    (found,) = json.loads(run('query coded --id i499 -k 1 --filter {"n":499} --json'))["results"]
    assert found[0]["id"] == "i499"
    # Without payloads, and into a collection without an encoder.
    shown = run("load bare c.parquet --bits 128").splitlines()
    assert shown == ["bare: 500 items loaded, 500 in all", "labels: 0 a, 1 b"]
    capsys.readouterr()


def test_files_of_codes_that_do_not_fit_are_refused(
    run: Callable[[str], str],
) -> None:
    own = make_hasher("lsh", n_bits=128, random_state=9).fit(np.eye(384))
    own.save("own.safetensors")
    np.save("x.npy", np.eye(384))
    run("encode own.safetensors x.npy --out own.parquet")
    codes = pa.array([bytes(16)] * 20, pa.binary())
    parquet.write_table(pa.table({"code": codes, "day": pa.array([0] * 20, pa.date32())}), "s")
    parquet.write_table(pa.table({"codes": codes, "id": pa.array([1, None] * 10)}), "nulls")
    ids = pa.array([str(i) for i in range(20)])
    parquet.write_table(pa.table([codes, ids, ids], ["code", "id", "id"]), "twice")
    parquet.write_table(pa.table([codes, pa.array([0.5] * 20)], ["code", "label"]), "halves")
    numbers = pa.array([0.5, None, float("nan"), *range(17)])
    parquet.write_table(pa.table({"code": codes, "n": numbers}), "nan")
    for line, message in {
        "load c own.parquet --encoder demo": f"with fingerprint {own.fingerprint}, and encoder",
        "load demo own.parquet": "and encoder 'demo' of 'demo' has the fingerprint",
        "load c own.parquet --bits 64": "own.parquet has codes of 128 bits, expected 64",
        "load c own.parquet --encoder demo --keep-descriptors": "leave out --keep-descriptors",
        "load c own.parquet --fingerprint 0": "got --fingerprint 0",
        "load c own.parquet": "there is no collection 'c'",
        "load c s --encoder demo": "if it was encoder 'demo', give --fingerprint",
        "load c s --bits 100": "expected 100-bit codes as uint8 of shape",
        "load c s --bits 128 --payload dya": "expected one column 'dya' (did you mean 'day'?)",
        "load c s --bits 128 --payload day": "column 'day' is date32[day]; a payload takes",
        "load c nulls --bits 128": "nulls, rows 0 to 19: column 'id' has nulls",
        "load c twice --bits 128": "twice: expected one column 'id', got 2",
        "load c halves --bits 128": "column 'label' must have integers or strings, got double",
        "load c nan --bits 128 --payload n": "column 'n', row 2: a payload takes finite numbers",
        "load c own.parquet --encoder none": "`curl -T none.safetensors http",
        "load demo own.parquet --encoder demo": "and encoder 'demo' has the fingerprint",
        "load demo s --bits 128": "to load into it, leave out --bits",
        "load c x.npy --payload day": "--payload is for parquet files of codes",
    }.items():
        with pytest.raises(AssertionError, match=re.escape(message)) as caught:
            run(line)
        # Before a collection is created, but for what only the service or a row says.
        created = "no collection is created" in str(caught.value)
        assert created == any(name in line for name in ("100", "nulls", "load c nan")), line
    assert not [line for line in run("collections").splitlines() if line.startswith("c ")]


def test_a_collection_that_keeps_descriptors_refuses_codes_before_they_are_sent(
    run: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("x.npy", np.eye(384))
    run("load kept x.npy --encoder demo --keep-descriptors")
    run("encode demo x.npy --out c.parquet")
    monkeypatch.setattr(calls, "upsert", None)
    with pytest.raises(AssertionError, match="collection 'kept' keeps descriptors"):
        run("load kept c.parquet")


def test_a_dataset_goes_before_a_folder_of_its_name(run: Callable[[str], str]) -> None:
    Path("digits").mkdir()
    parquet.write_table(pa.table({"code": [bytes(16)]}), "digits/a.parquet")
    assert run("load folder digits --encoder demo").startswith("folder: 1,797 items loaded")


def test_a_dataset_is_loaded_with_its_labels(run: Callable[[str], str]) -> None:
    rng = np.random.default_rng(1)
    X, ids = rng.normal(size=(20, 384)), [f"item {i}" for i in range(20)]
    np.savez("mine.npz", descriptors=X, labels=np.arange(20) % 3, ids=ids)
    assert run("load mine mine.npz --encoder demo") == "mine: 20 items loaded, 20 in all\n"
    np.save("queries.npy", X[[4, 5]])
    shown = run("query mine --descriptors queries.npy --k 2")
    assert "query 0:" in shown
    nearest = [line.split()[:4] for line in shown.splitlines() if line.startswith("item ")][::2]
    assert nearest == [
        ["item", "4", "0", "1"],
        ["item", "5", "0", "2"],
    ]


def test_a_load_that_is_refused_from_the_start_leaves_no_collection(
    run: Callable[[str], str],
    service: Process,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save("short.npy", np.ones((3, 64)))
    data_dir = service.data_dir
    before = run("collections")
    assert bitcell(monkeypatch, f"--data-dir {data_dir} load new short.npy --encoder demo") == 2
    error = capsys.readouterr().err
    assert "short.npy has descriptors of dimension 64, and encoder 'demo' takes" in error
    assert run("collections") == before
    assert bitcell(monkeypatch, f"--data-dir {data_dir} load demo short.npy") == 2
    assert "items 0 to 2 of the source" in (error := capsys.readouterr().err)
    assert error.rstrip().endswith("; nothing is stored")


@pytest.mark.parametrize("fault", ["size", "nan", "ids"])
def test_a_load_whose_first_items_are_refused_leaves_no_collection(
    fault: str,
    run: Callable[[str], str],
    service: Process,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    X = np.ones((4, 384))
    X[3] = np.nan
    np.save("size.npy", CODES)  # Of 64 bits.
    np.save("nan.npy", X)
    np.savez(
        "ids.npz", descriptors=np.ones((4, 384)), labels=np.zeros(4, int), ids=[*"abc", "d" * 300]
    )
    line = {
        "size": "load new size.npy --bits 100",
        "nan": "load new nan.npy --encoder demo",
        "ids": "load new ids.npz --encoder demo",
    }[fault]
    before = run("collections")
    assert bitcell(monkeypatch, f"--data-dir {service.data_dir} {line}") == 2
    error = capsys.readouterr().err
    assert error.rstrip().endswith("; nothing is stored, and no collection is created")
    assert run("collections") == before


def test_a_load_that_is_refused_later_keeps_what_is_stored(
    run: Callable[[str], str],
    service: Process,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(load, "_ITEMS", 2)
    X = np.ones((4, 384))
    X[3] = np.nan
    np.save("late.npy", X)
    line = "load late late.npy --encoder demo"
    assert bitcell(monkeypatch, f"--data-dir {service.data_dir} {line}") == 2
    assert "all before them are stored" in capsys.readouterr().err
    (row,) = (line.split() for line in run("collections").splitlines() if line[:4] == "late")
    assert row[1] == "2"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, httpx2.ReadError, httpx2.ConnectTimeout])
@pytest.mark.parametrize("stored", [False, True])
def test_a_load_that_ends_in_its_first_items_leaves_no_empty_collection(
    stop: type[BaseException],
    stored: bool,
    run: Callable[[str], str],
    service: Process,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The service may have stored them although the command did not hear of it."""
    np.save("codes.npy", CODES)
    before, upsert = run("collections"), calls.upsert

    def broken(*given: Any) -> int:
        if stored:
            upsert(*given)
        raise stop("gone")

    monkeypatch.setattr(calls, "upsert", broken)
    line = f"load {stop.__name__}-{stored} codes.npy --bits 64"
    status = bitcell(monkeypatch, f"--data-dir {service.data_dir} {line}")
    error = capsys.readouterr().err
    assert status == (130 if stop is KeyboardInterrupt else 2)
    assert (run("collections") == before) == (not stored)
    assert ("no collection is created" in error) == (stop is not KeyboardInterrupt and not stored)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, httpx2.ReadError])
def test_a_collection_that_cannot_be_dropped_again_is_named(
    stop: type[BaseException],
    run: Callable[[str], str],
    service: Process,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save("codes.npy", CODES)

    def broken(*given: Any) -> None:
        raise stop("gone")

    def unreachable(*given: Any) -> None:
        raise httpx2.ConnectError("gone too")

    monkeypatch.setattr(calls, "upsert", broken)
    monkeypatch.setattr(calls, "drop_collection", unreachable)
    line = f"load left-{stop.__name__} codes.npy --bits 64"
    assert bitcell(monkeypatch, f"--data-dir {service.data_dir} {line}")
    assert f"left-{stop.__name__}, which this command created, may be" in capsys.readouterr().err


def test_the_names_of_classes_are_shown_as_a_collection_keeps_numbers(
    run: Callable[[str], str],
) -> None:
    labels = np.array(["cat", "[red]dog"])[np.arange(6) % 2]
    np.savez("named.npz", descriptors=np.ones((6, 384)), labels=labels)
    shown = run("load named named.npz --encoder demo")
    assert shown.splitlines() == ["named: 6 items loaded, 6 in all", "labels: 0 [red]dog, 1 cat"]


def test_filters_and_radius_are_passed_on(run: Callable[[str], str]) -> None:
    line = 'query demo --id digit-0007 --radius 40 --filter {"label":7} --json'
    (found,) = json.loads(run(line))["results"]
    assert found
    assert all(near["label"] == 7 and near["distance"] <= 40 for near in found)


def test_the_meaning_of_distances_is_shown(run: Callable[[str], str]) -> None:
    line = "query demo --id digit-0007 --false-match-rate 0.01 --calibrated"
    (about,) = json.loads(run(f"{line} --json"))["certificates"]
    radius, pairs = about["false_matches"]["radius"], about["false_matches"]["pairs"]
    shown = run(line)
    assert f"radius {radius}: at most" in shown
    assert f"from {pairs:,} pairs with different labels" in shown
    assert "angles: 90% intervals, from" in shown
    assert "° (" in shown


def test_estimated_distances(service: Process, run: Callable[[str], str]) -> None:
    X = np.random.default_rng(2).normal(size=(300, 16)).astype(np.float32)
    hasher = RaBitQ(64).fit(X)
    keys = Keys(service.data_dir)
    made, secret = keys.create("estimates", "write")
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/octet-stream"}
    url = f"{service.url}/v1/encoders/rabitq"
    httpx2.put(url, content=hasher.to_bytes(), headers=headers, timeout=60).raise_for_status()
    keys.revoke(made.id)
    keys.close()
    np.save("x.npy", X)
    created = "--encoder rabitq --ranking estimate --metric euclidean --keep-descriptors"
    run(f"load estimated x.npy {created}")
    assert "euclidean" in run("collections")
    true = np.linalg.norm(X - X[3], axis=1)
    shown = run("query estimated --id 3 -k 5 --confidence 0.999")
    assert "with probability 0.999" in shown
    nearest = [line.split()[0] for line in shown.splitlines() if line[0].isdigit()]
    assert nearest == [str(i) for i in np.argsort(true)[:5]]
    line = "query estimated --id 3 --json --max-score 4"
    found = json.loads(run(line))["results"][0]
    assert 0 < len(found) < 300
    assert all(near["score"] <= 4 for near in found)
    (found,) = json.loads(run("query estimated --id 3 --rerank 20 --rerank-by cosine --json"))[
        "results"
    ]
    assert found[0]["score"] == pytest.approx(0, abs=1e-6)


def test_an_image_is_a_query(run: Callable[[str], str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save("a.png")
    (found,) = json.loads(run("query demo --image a.png -k 4 --json"))["results"]
    assert len(found) == 4


def test_tables_fit_80_columns_and_show_ids_in_full(run: Callable[[str], str]) -> None:
    lines = run("query demo --id digit-0007 --id digit-0008 -k 3").splitlines()
    lines += run("collections").splitlines() + run("methods").splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("digit-0007" in line for line in lines) == 2, lines
    assert {"lsh", "itq", "net-2"} <= {line.split(" ")[0] for line in lines}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("query demo", "give one of --id, --image, --code, --descriptors; got none"),
        ("query demo --id a --code 00", "got --id and --code"),
        ("query demo --id a --filter {", "--filter takes JSON"),
        ("query demo --id a --filter null", "--filter takes a JSON object such as"),
        ('query demo --id a --filter {"a":NaN}', "NaN is no number of JSON"),
        ('query demo --id a --filter {"a":{"gt":-1e400}}', "-1e400 is too large"),
        ('query demo --id a --filter {"a":{"gt":1},"a":{"lt":5}}', "'a' is given twice in one"),
        ('duplicates demo --radius 1 --filter {"and":[{"a":1,"a":2}]}', "'a' is given twice"),
        ("query demo --id a --confidence nan", "--confidence takes a finite number, got nan"),
        ("query demo --id a --max-score=-inf", "--max-score takes a finite number, got -inf"),
        ("query demo --id a --false-match-rate inf", "--false-match-rate takes a finite number"),
        ("query demo --descriptors nan.npy", "nan.npy: descriptors must be finite and at most"),
        ("query demo --descriptors none.npy", "none.npy: descriptors must have shape (n, d)"),
        ("query demo --image flat.npy --image nan.npy", "flat.npy: image 0 cannot be read as PNG"),
        ("collections --url localhost:8000", "--url takes a URL with http:// or https://, got"),
        ("collections --url=", "--url takes a URL with http:// or https://, got ''"),
        ("recommend --dataset digits --bytes 1 --make a/b", "a name has 1 to 64 of a-z"),
        ("recommend --dataset digits --bytes 1 --make=", "a name has 1 to 64 of a-z"),
        ("load demo empty.npy", "empty.npy: the npy header cannot be read: EOF"),
        ("load demo short.npy", "float64 of shape (3,); 2 bytes are stored for it"),
        ("load demo objects.npy", "objects.npy: the array holds Python objects"),
        ("duplicates demo --radius 1 --filter null", "'{\"label\": 3}', got 'null'"),
        ("duplicates demo --radius 1 --filter [1]", "--filter takes a JSON object"),
        ("collections --key a --key-file b", "give --key or --key-file, not both"),
        ("query demo --id a --key ключ", "--key: expected one key"),
        ("load demo digits --key-file flat.npy", "flat.npy is no text"),
        ("collections --key nobody's", "expected `Authorization: Bearer KEY`"),
        ("query nothing --id a", "there is no collection 'nothing'"),
        ("load nothing digits", "there is no collection 'nothing'"),
        ("load demo no.npz", "there is no file no.npz"),
        ("load demo flat.npy", "expected a matrix, (n, d), got the shape (3,)"),
        ("load demo wrong.npy", "items 0 to 1 of the source:"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    line: str,
    message: str,
    run: Callable[[str], str],
    service: Process,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save("flat.npy", np.zeros(3))
    np.save("wrong.npy", np.ones((2, 3)))
    np.save("nan.npy", np.full((2, 384), np.nan))
    np.save("none.npy", np.ones((0, 384)))
    np.save("objects.npy", np.array([[1, "a"]], object))
    Path("short.npy").write_bytes(Path("flat.npy").read_bytes()[:130])
    Path("empty.npy").touch()
    data_dir = service.data_dir
    assert bitcell(monkeypatch, f"--data-dir {data_dir} {line}") == 2
    error = capsys.readouterr().err.strip()  # A progress bar leaves an empty line.
    assert message in error
    assert "\n" not in error


def test_a_key_opens_a_service_whose_data_is_elsewhere(
    service: Process,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BITCELL_DATA_DIR", str(tmp_path / "none"))
    keys = Keys(service.data_dir)
    made, secret = keys.create("remote", "read")
    Path("key").write_text(f"{secret}\n")
    np.save("codes.npy", CODES)
    try:
        for option in (f"--key {secret}", "--key-file key", "--key-file -"):
            monkeypatch.setattr("sys.stdin", io.StringIO(secret))
            for line in ("collections", "query demo --id digit-0007", "duplicates demo --radius 0"):
                # A search for duplicates is a job: it needs a key that may write.
                status = 2 if line.startswith("duplicates") else 0
                monkeypatch.setattr("sys.stdin", io.StringIO(secret))
                assert bitcell(monkeypatch, f"{line} --url {service.url} {option}") == status
        assert "the key 'remote' may only read" in capsys.readouterr().err
        assert (
            bitcell(monkeypatch, f"load x codes.npy --bits 64 --url {service.url} --key-file key")
            == 2
        )
        assert "may only read" in capsys.readouterr().err
        assert not Path("none").exists()
    finally:
        keys.revoke(made.id)
        keys.close()


def test_the_keys_of_commands_are_gone_afterwards(
    run: Callable[[str], str], service: Process
) -> None:
    run("collections")
    keys = Keys(service.data_dir)
    assert [key.name for key in keys.list()] == ["first start"]
    keys.close()


def test_the_service_notes_its_address_while_it_runs(tmp_path: Path) -> None:
    process = Process(tmp_path, BITCELL_HOST="0.0.0.0", BITCELL_DEMO="false")
    noted = (tmp_path / URL_FILE).read_text().strip()
    assert noted == process.url.replace("0.0.0.0", "127.0.0.1")
    process.stop()
    assert not (tmp_path / URL_FILE).exists()


def test_the_version_and_completion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bitcell(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("bitcell 0.")
    monkeypatch.setenv("_BITCELL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "bitcell que")
    monkeypatch.setenv("COMP_CWORD", "1")
    bitcell(monkeypatch, "")
    assert "query" in capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("colections", "Did you mean 'collections'?"),
        ("query demo --idd x", "--id"),
        ("key create x", "Did you mean 'keys'?"),
    ],
)
def test_a_misspelt_command_or_option_gets_a_suggestion(
    line: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bitcell(monkeypatch, line) == 2
    assert message in capsys.readouterr().err
