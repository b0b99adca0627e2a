"""Files of descriptors become files of the codes that `encode` gives."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from app.cli.collections.codes import requests
from app.cli.main import main
from app.database.embedded import EmbeddedState
from app.datasets.dataset import BadDataset
from app.encoding import codes_file, sources
from app.encoding.codes_file import About, read_about
from app.encoding.items import open_items
from hashing import Hasher, make_hasher
from tests.app.cli.test_main import bitcell

N, D = 1000, 12
X = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
KINDS = {
    "list": pa.list_(pa.float32()),
    "fixed": pa.list_(pa.float32(), D),
    "large": pa.large_list(pa.float32()),
    "double": pa.list_(pa.float64()),
    "half": pa.list_(pa.float16(), D),
    "int": pa.list_(pa.int16()),
}
OTHERS: dict[str, Any] = {
    "id": pa.array([f"i{i}" for i in range(N)]),
    "label": pa.array(np.arange(N) % 3),
    "tags": pa.array([["a", None], None] * (N // 2)),
    "place": pa.array([{"x": i, "y": None} for i in range(N)]),
    "kind": pa.array(["a", "b"] * (N // 2)).dictionary_encode(),
}


@pytest.fixture
def hasher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hasher:
    """An encoder of 11 bits in e.safetensors, in the current folder; small batches and groups."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BITCELL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(sources, "BATCH_ROWS", 70)
    monkeypatch.setattr(codes_file, "GROUP_ROWS", 300)
    hasher = make_hasher("itq", n_bits=11).fit(X)
    hasher.save("e.safetensors")
    return hasher


def lists(matrix: NDArray[Any], kind: str = "list") -> pa.Array:
    return pa.array(list(matrix.astype(KINDS[kind].value_type.to_pandas_dtype())), KINDS[kind])


def write(name: str, columns: dict[str, Any], group: int = 130) -> None:
    parquet.write_table(pa.table(columns), name, row_group_size=group)


def codes_in(name: str) -> NDArray[np.uint8]:
    """Return the codes of a file, read as pyarrow gives them."""
    values = parquet.read_table(name)["code"].to_pylist()
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_those_of_encode(
    kind: str, hasher: Hasher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("x.parquet", {"other": [[1, 2]] * N, "emb": lists(8 * X, kind), **OTHERS})
    assert bitcell(monkeypatch, "encode e.safetensors x.parquet --out c.parquet") == 0
    assert capsys.readouterr().out == "c.parquet: 1000 codes of 2 bytes\n"
    matrix = (8 * X).astype(KINDS[kind].value_type.to_pandas_dtype())
    np.testing.assert_array_equal(codes_in("c.parquet"), hasher.encode(matrix))
    written = parquet.read_table("c.parquet")
    assert written.column_names == ["other", *OTHERS, "code"]
    assert written.schema.field("code").type == pa.binary(2)
    for name, values in OTHERS.items():
        assert written[name].to_pylist() == values.to_pylist()
        assert written.schema.field(name).type == values.type
    assert json.loads(written.schema.metadata[b"bitcell"]) == {
        "format": 1,
        "n_bits": 11,
        "method": "itq",
        "fingerprint": hasher.fingerprint,
    }
    assert read_about(written.schema) == About(11, hasher.fingerprint)
    assert parquet.ParquetFile("c.parquet").num_row_groups > 2


def test_columns_can_be_chosen(hasher: Hasher, monkeypatch: pytest.MonkeyPatch) -> None:
    write("x.parquet", {"a": lists(X), "b": lists(-X), "code": [1] * N, **OTHERS})
    line = "encode e.safetensors x.parquet --out c.parquet --column b --keep label,id"
    assert bitcell(monkeypatch, line) == 0
    assert parquet.read_schema("c.parquet").names == ["id", "label", "code"]
    np.testing.assert_array_equal(codes_in("c.parquet"), hasher.encode(-X))


def test_a_folder_is_read_in_order_of_names(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("parts").mkdir()
    for start in (0, 400, 700):
        stop = {0: 400, 400: 700, 700: N}[start]
        write(f"parts/part-{start:05}.parquet", {"emb": lists(X[start:stop])})
    write("parts/part-00500.parquet", {"emb": lists(X[:0])})
    Path("parts/_SUCCESS").touch()
    for out in ("c.parquet", "c.npy"):
        assert bitcell(monkeypatch, f"encode e.safetensors parts --out {out}") == 0
    np.testing.assert_array_equal(codes_in("c.parquet"), hasher.encode(X))
    np.testing.assert_array_equal(np.load("c.npy"), hasher.encode(X))


@pytest.mark.parametrize("name", ["x.npy", "fortran.npy", "big.npy", "x.fvecs"])
def test_matrices_are_read_row_by_row(
    name: str, hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("x.npy", X)
    np.save("fortran.npy", np.asfortranarray(X))
    np.save("big.npy", X.astype(">f8"))
    head = np.full((N, 1), D, "<i4").view("<f4")
    Path("x.fvecs").write_bytes(np.hstack([head, X]).tobytes())
    assert bitcell(monkeypatch, f"encode e.safetensors {name} --out c.parquet") == 0
    assert parquet.read_schema("c.parquet").names == ["code"]
    np.testing.assert_array_equal(codes_in("c.parquet"), hasher.encode(X))


def test_an_encoder_of_the_data_directory_goes_by_its_name(
    hasher: Hasher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.service.encoder_store import EncoderStore
    from index import Database

    (tmp_path / "data").mkdir()
    database = Database(tmp_path / "data" / "bitcell.db")
    EncoderStore(EmbeddedState(database)).add("mine", hasher)
    np.save("x.npy", X)
    # The service that has it open may be running.
    assert bitcell(monkeypatch, "encode mine x.npy --out c.npy") == 0
    database.close()
    np.testing.assert_array_equal(np.load("c.npy"), hasher.encode(X))


def test_a_file_that_is_there_is_replaced_only_if_asked(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("x.parquet", {"emb": lists(X)})
    Path("c.parquet").write_text("mine")
    line = "encode e.safetensors x.parquet --out c.parquet"
    assert bitcell(monkeypatch, line) == 2
    assert "c.parquet exists already; --overwrite replaces it" in capsys.readouterr().err
    assert Path("c.parquet").read_text() == "mine"
    assert bitcell(monkeypatch, f"{line} --overwrite") == 0
    np.testing.assert_array_equal(codes_in("c.parquet"), hasher.encode(X))
    before = Path("x.parquet").read_bytes()
    line = "encode e.safetensors x.parquet --out x.parquet --overwrite"
    assert bitcell(monkeypatch, line) == 2
    assert "x.parquet holds the descriptors" in capsys.readouterr().err
    assert Path("x.parquet").read_bytes() == before


def test_codes_do_not_go_into_the_folder_of_the_descriptors(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("parts").mkdir()
    write("parts/a.parquet", {"emb": lists(X)})
    Path("link.parquet").symlink_to("parts/a.parquet")
    before = Path("parts/a.parquet").read_bytes()
    for out, message in {
        "parts/a.parquet": "parts/a.parquet holds the descriptors",
        "link.parquet": "link.parquet holds the descriptors",
        "parts/c.parquet": "parts/c.parquet is in the folder of the descriptors",
    }.items():
        assert bitcell(monkeypatch, f"encode e.safetensors parts --out {out} --overwrite") == 2
        assert message in capsys.readouterr().err
    assert Path("parts/a.parquet").read_bytes() == before
    assert [path.name for path in Path("parts").iterdir()] == ["a.parquet"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "e.safetensors", "", "--out", "c.npy"], "of descriptors, got ''"),
        (["encode", "", "x.npy", "--out", "c.npy"], "the name of an encoder, got ''"),
        (["encode", "lsh48", "x.npy", "--out", "c.npy"], "there is no file 'lsh48', and"),
        (["encode", "e.safetensors", "x.npy", "--out", "c.txt"], "in .parquet or .npy, got c.txt"),
        (["encode", "e.safetensors", "x.npz", "--out", "c.npy"], "npy file with `np.save`"),
        (["load", "c", ""], "the path of a file or a folder, got ''"),
    ],
)
def test_arguments_that_name_nothing_are_refused(
    arguments: list[str],
    message: str,
    hasher: Hasher,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("code.parquet", {"emb": lists(X)})
    np.save("x.npy", X)
    np.savez("x.npz", descriptors=X)
    monkeypatch.setattr(sys, "argv", ["bitcell", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_wide_rows_are_read_fewer_at_a_time(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = np.random.default_rng(0).bytes(N * 500).hex()
    table = {"emb": lists(X), "text": [text[1000 * i : 1000 * (i + 1)] for i in range(N)]}
    write("x.parquet", table, group=500)
    monkeypatch.setattr(sources, "BATCH_BYTES", 20_000)
    found = [len(rows.batch) for rows in sources.open_source(Path("x.parquet")).batches(400)]
    assert sum(found) == N
    assert 10 < max(found) < 20
    # Columns that are not read do not count.
    narrow = sources.open_source(Path("x.parquet"), keep=[])
    assert max(len(rows.batch) for rows in narrow.batches(400)) > 200
    assert bitcell(monkeypatch, "encode e.safetensors x.parquet --out c.parquet") == 0
    for payload, most in ([], 400), (["text"], 20):
        items = open_items(Path("c.parquet"), payload)
        assert items is not None
        sizes = [len(some.ids) for some in items.batches(400)]
        assert sum(sizes) == N
        assert most / 2 < max(sizes) <= most


def test_requests_fit_whatever_the_payloads_take_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = pa.array([[True, False] * 500] * 20)
    text = pa.array(["long" * 700] * 20).dictionary_encode()
    parquet.write_table(pa.table({"code": [b"00"] * 20, "a": flags, "b": text}), "flags")
    items = open_items(Path("flags"), ["a", "b"])
    assert items is not None
    parts = list(requests(items, 20, 40_000))
    sizes = [len(json.dumps(part.payloads, separators=(",", ":"))) for part in parts]
    assert max(sizes) < 40_000
    assert len(parts) < 20
    assert [each for part in parts for each in part.ids] == list(range(20))
    assert max(len(part.ids) for part in requests(items, 20, 10)) == 1


def test_views_of_text_and_bytes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["b", "", "a"]
    table = {
        "code": pa.array([b"0", b"1", b"2"], pa.binary_view()),
        "id": pa.array(names, pa.string_view()),
        "label": pa.array(names, pa.string_view()),
    }
    parquet.write_table(pa.table(table), "views")
    items = open_items(Path("views"), ["id"])
    assert items is not None
    (some,) = items.batches(10)
    assert some.ids.tolist() == names
    assert some.codes.tolist() == [[48], [49], [50]]
    assert some.labels is not None
    assert some.labels.tolist() == [1, -1, 0]
    assert some.payloads == [{"id": name} for name in names]


def test_nested_columns_are_written_with_dictionaries(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("x.parquet", {"emb": lists(X), **OTHERS})
    assert bitcell(monkeypatch, "encode e.safetensors x.parquet --out c.parquet") == 0
    group = parquet.ParquetFile("c.parquet").metadata.row_group(0)
    columns = [group.column(place) for place in range(group.num_columns)]
    plain = [each.path_in_schema for each in columns if "RLE_DICTIONARY" not in each.encodings]
    assert plain == ["code"]


def changed(row: int, place: int, value: float) -> NDArray[Any]:
    Y = X.astype(np.float64)
    Y[row, place] = value
    return Y


def test_a_bad_row_of_a_matrix_is_named(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("x.npy", changed(950, 3, np.nan))
    for out in ("c.npy", "c.parquet"):
        assert bitcell(monkeypatch, f"encode e.safetensors x.npy --out {out}") == 2
        assert "row 950: the numbers must be finite" in capsys.readouterr().err
        assert not Path(out).exists()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nan": (
        {"emb": lists(changed(950, 3, np.nan), "double")},
        "x.parquet, row group 7: column 'emb', row 950: the numbers must be finite and at most "
        "3.4e+38 in size; number 3 is nan",
    ),
    "large": (
        {"emb": lists(changed(131, 0, 1e39), "double")},
        "row group 1: column 'emb', row 131",
    ),
    "short": (
        {"emb": pa.array([*X[:940].tolist(), X[0, :5].tolist(), *X[941:].tolist()], KINDS["list"])},
        "x.parquet, row group 7: column 'emb': expected descriptors of dimension 12, got 5 in row "
        "940",
    ),
    "null": (
        {"emb": pa.array([*X[:300].tolist(), None, *X[301:].tolist()], KINDS["fixed"])},
        "row group 2: column 'emb' has nulls: the first is row 300",
    ),
    "null inside": (
        {"emb": pa.array([*X[:300].tolist(), [None] * D, *X[301:].tolist()], KINDS["fixed"])},
        "row group 2: column 'emb' has nulls in its lists: the first is in row 300",
    ),
    "dimension": (
        {"emb": pa.array(X[:, :5].tolist(), pa.list_(pa.float32(), 5))},
        "x.parquet has descriptors of dimension 5, and the encoder takes those of dimension 12",
    ),
    "no lists": ({"a": OTHERS["id"]}, "expected one column of lists of numbers, or one named"),
    "two": ({"a": lists(X), "b": lists(X)}, "the columns are a: list<element: float>, b: list"),
    "code": ({"emb": lists(X), "code": OTHERS["id"]}, "there is a column 'code' already"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_encoded_is_named_and_leaves_nothing(
    case: str,
    hasher: Hasher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns, message = BAD[case]
    write("x.parquet", columns)
    assert bitcell(monkeypatch, "encode e.safetensors x.parquet --out c.parquet") == 2
    stderr = capsys.readouterr().err.strip()
    assert message in stderr
    assert "\n" not in stderr
    assert {path.name for path in tmp_path.iterdir()} == {"x.parquet", "e.safetensors"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x.parquet --column embd", "expected one column 'embd' of lists of numbers (did you mean"),
        ("x.parquet --column id", "expected one column 'id' of lists of numbers; the columns are"),
        ("x.parquet --keep lable", "expected one column 'lable' (did you mean 'label'?)"),
        ("x.npy --keep label", "x.npy is no parquet, and only that has columns"),
        ("none.parquet", "No such file or directory"),
        ("empty", "empty is a folder without files whose names end in .parquet"),
        ("parts", "expected the columns of parts/a.parquet, emb: list<element: float>; got other"),
        ("damaged.parquet", "damaged.parquet cannot be read as parquet"),
    ],
)
def test_a_source_that_cannot_be_read_is_named(
    line: str,
    message: str,
    hasher: Hasher,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("x.parquet", {"embed": lists(X), **OTHERS})
    np.save("x.npy", X)
    for folder in ("empty", "parts"):
        Path(folder).mkdir()
    write("parts/a.parquet", {"emb": lists(X)})
    write("parts/b.parquet", {"other": lists(X)})
    Path("damaged.parquet").write_bytes(Path("x.parquet").read_bytes()[:-100])
    assert bitcell(monkeypatch, f"encode e.safetensors {line} --out c.parquet") == 2
    assert message in capsys.readouterr().err
    assert not Path("c.parquet").exists()


def test_a_file_that_changes_on_the_way_is_refused(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("x.parquet", {"emb": lists(X)})
    source = sources.open_source(Path("x.parquet"))
    write("x.parquet", {"emb": lists(X[:500])})
    with pytest.raises(BadDataset, match="is another file, or has changed"):
        list(source.batches(100))


def test_without_pyarrow_matrices_are_encoded_and_the_rest_says_how_to_get_it(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("x.npy", X)
    write("x.parquet", {"emb": lists(X)})
    for module in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, module, None)
    assert bitcell(monkeypatch, "encode e.safetensors x.npy --out c.npy") == 0
    np.testing.assert_array_equal(np.load("c.npy"), hasher.encode(X))
    for line, to in (("x.npy --out c.parquet", "write"), ("x.parquet --out d.npy", "read")):
        assert bitcell(monkeypatch, f"encode e.safetensors {line}") == 2
        assert f"is parquet: to {to} it, `pip install pyarrow`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (b"[]", "must be a JSON object"),
        (b"{", "must be a JSON object"),
        (b'{"format": 2, "n_bits": 8, "fingerprint": "0"}', "1 is the newest known"),
        (b'{"format": 1, "n_bits": "8", "fingerprint": "0"}', "n_bits must be an integer"),
        (b'{"format": 1, "n_bits": 8}', "fingerprint"),
    ],
)
def test_damaged_metadata_is_refused(metadata: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_about(pa.schema([], {b"bitcell": metadata}))


def test_memory_does_not_grow_with_the_file(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BATCH_ROWS", 2048)
    many = np.tile(X, (80, 1))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(many.reshape(-1)), D)
    write("x.parquet", {"emb": lists}, group=len(many))
    counted = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(counted)
    try:
        assert bitcell(monkeypatch, "encode e.safetensors x.parquet --out c.parquet") == 0
    finally:
        pa.set_memory_pool(before)
    assert many.nbytes > 7 << 19
    assert 0 < counted.max_memory() < 3 << 19
    np.testing.assert_array_equal(codes_in("c.parquet"), hasher.encode(many))


def test_memory_does_not_grow_with_the_width_of_rows(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = np.random.default_rng(0).bytes(N * 8000).hex()
    texts = [text[16_000 * i : 16_000 * (i + 1)] for i in range(N)]
    table = pa.table({"emb": lists(X), "text": texts})
    parquet.write_table(table, "x.parquet", write_batch_size=16)
    monkeypatch.setattr(sources, "BATCH_ROWS", N)
    monkeypatch.setattr(sources, "BATCH_BYTES", 1 << 18)
    monkeypatch.setattr(codes_file, "GROUP_BYTES", 1 << 18)
    counted, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(counted)
    try:
        assert bitcell(monkeypatch, "encode e.safetensors x.parquet --out c.parquet") == 0
    finally:
        pa.set_memory_pool(before)
    assert table.nbytes > 16_000_000
    assert 0 < counted.max_memory() < 8_000_000
    # What is read ahead comes from the default pool, whichever is set.
    start, taken = before.bytes_allocated(), []
    for _ in sources.open_source(Path("x.parquet")).batches(N):
        taken.append(before.bytes_allocated() - start)
    assert 0 < max(taken) < 8_000_000
