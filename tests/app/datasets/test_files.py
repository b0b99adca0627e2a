"""Files of every format are recognised by content, and hostile ones reserve no memory."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from app.datasets.catalog import UnknownDataset, load_dataset
from app.datasets.dataset import BadDataset
from app.datasets.files import read_dataset

X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
HUGE = 10**12


def vecs(X: NDArray[Any], dtype: str) -> bytes:
    """Each row as texmex files have it: its dimension, then its values."""
    return b"".join(np.int32(len(row)).tobytes() + row.astype(dtype).tobytes() for row in X)


def npy_header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape})
    text += " " * (53 - len(text)) if len(text) < 53 else ""
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> None:
    parquet.write_table(pa.table(columns), path, **options)


def read(path: Path, content: bytes) -> NDArray[np.float32]:
    path.write_bytes(content)
    dataset = read_dataset(path, "d")
    assert dataset.labels.tolist() == [-1] * len(dataset)
    assert dataset.ids.tolist() == [str(i) for i in range(len(dataset))]
    assert dataset.descriptors.dtype == np.float32
    return dataset.descriptors


@pytest.mark.parametrize("name", ["x.fvecs", "x", "x.npz"])
@pytest.mark.parametrize("n", [1, 2, 50])
def test_fvecs(n: int, name: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(tmp_path / name, vecs(X[:n], "<f4")), X[:n])


@pytest.mark.parametrize("d", [1, 6, 8, 128])
def test_bvecs_and_ivecs(d: int, tmp_path: Path) -> None:
    values = np.random.default_rng(d).integers(0, 256, (40, d))
    np.testing.assert_array_equal(read(tmp_path / "x", vecs(values, "u1")), values)
    np.testing.assert_array_equal(read(tmp_path / "x", vecs(values - 100, "<i4")), values - 100)


def test_the_name_tells_large_integers_from_floats(tmp_path: Path) -> None:
    values = np.arange(12).reshape(3, 4) << 24
    np.testing.assert_array_equal(read(tmp_path / "x.ivecs", vecs(values, "<i4")), values)
    tiny = np.full((3, 4), 1e-40, np.float32)
    np.testing.assert_array_equal(read(tmp_path / "x.fvecs", vecs(tiny, "<f4")), tiny)


@pytest.mark.parametrize("largest", [1, 1000, 1 << 23, 1 << 24, 1 << 28, (1 << 31) - 1])
@pytest.mark.parametrize("smallest", [0, -1])
def test_integers_are_known_without_a_name(smallest: int, largest: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(smallest * largest, largest + 1, (500, 4))
    np.testing.assert_array_equal(
        read(tmp_path / "x", vecs(values, "<i4")), values.astype(np.float32)
    )


@pytest.mark.parametrize("scale", [1e-12, 1, 1e12])
def test_floats_are_known_without_a_name(scale: float, tmp_path: Path) -> None:
    values = (scale * np.random.default_rng(0).normal(size=(500, 4))).astype(np.float32)
    values[::2, :2] = 0
    values[::5, 3] = 1e-40
    np.testing.assert_array_equal(read(tmp_path / "x", vecs(values, "<f4")), values)
    np.testing.assert_array_equal(read(tmp_path / "x", vecs(0 * values, "<f4")), 0 * values)


@pytest.mark.parametrize("deviation", [15, 40])
def test_floats_that_are_mostly_tiny_are_floats(deviation: float, tmp_path: Path) -> None:
    logits = deviation * np.random.default_rng(0).normal(size=(500, 100))
    rows = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax = (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)
    assert (softmax < 2.0**-64).mean() > 1 / 4
    np.testing.assert_array_equal(read(tmp_path / "x", vecs(softmax, "<f4")), softmax)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint8])
def test_npy(dtype: Any, tmp_path: Path) -> None:
    values = np.asfortranarray(np.abs(X).astype(dtype))
    np.save(tmp_path / "x.npy", values)
    np.testing.assert_array_equal(read_dataset(tmp_path / "x.npy", "x").descriptors, values)


def test_hdf5_has_descriptors_queries_and_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "sift.bin"
    neighbours = np.arange(20).reshape(10, 2)
    for distance, expected in (("euclidean", "euclidean"), ("angular", "cosine")):
        with h5py.File(path, "w") as file:
            file.attrs["distance"] = distance
            file["train"] = X
            assert "test" not in file
        assert read_dataset(path, "x").given is None
        with h5py.File(path, "a") as file:
            file.create_dataset("test", data=X[:10].astype(np.float64), compression="gzip")
        assert read_dataset(path, "x").given.neighbours is None  # type: ignore[union-attr]
        with h5py.File(path, "a") as file:
            file["neighbors"] = neighbours.astype(np.int32)
        dataset = load_dataset(str(path))
        assert dataset.name == "sift"
        np.testing.assert_array_equal(dataset.descriptors, X)
        assert dataset.given is not None
        np.testing.assert_array_equal(dataset.given.queries, X[:10])
        np.testing.assert_array_equal(dataset.given.neighbours, neighbours)
        assert dataset.given.distance == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": None}, r"no dataset 'train' in the file; it has .'neighbors', 'test'"),
        ({"train": X[0]}, r"'train' must be numbers of shape \(n, d\), got float32 \(6,\)"),
        ({"train": X > 0}, "'train' must be numbers of shape"),
        ({"train": np.full_like(X, np.inf)}, "row 0, column 0 is inf"),
        ({"test": X[:, :5]}, "dimension 6, got 5"),
        ({"test": X[:0]}, "bytes are stored for it|`test` has no rows"),
        ({"neighbors": np.zeros((9, 2), int)}, r"`neighbors` must be integers of shape \(10, k\)"),
        ({"neighbors": np.full((10, 2), 7)}, "row 0 of `neighbors` has an item twice"),
        ({"neighbors": X[:10]}, r"`neighbors` must be integers"),
        ({"neighbors": np.full((10, 2), 50)}, "rows of `train`, from 0 to 49, got 50 to 50"),
        ({"neighbors": np.full((10, 2), -1)}, "rows of `train`, from 0 to 49, got -1 to -1"),
    ],
)
def test_bad_hdf5_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    good = {"train": X, "test": X[:10], "neighbors": np.arange(20).reshape(10, 2)}
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        for key, value in (good | change).items():
            if value is not None:
                file[key] = value
    with pytest.raises(BadDataset, match=message):
        read_dataset(tmp_path / "x.hdf5", "x")


def test_hdf5_reads_no_other_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["train"] = X
    (tmp_path / "raw.bin").write_bytes(X.tobytes())
    layout = h5py.VirtualLayout(X.shape, X.dtype)
    layout[:] = h5py.VirtualSource(tmp_path / "other.hdf5", "train", X.shape, X.dtype)
    makers: list[Any] = [
        lambda file: file.__setitem__("train", h5py.ExternalLink("other.hdf5", "train")),
        lambda file: file.__setitem__("train", h5py.SoftLink("/elsewhere")),
        lambda file: file.create_group("train"),
        lambda file: file.create_virtual_dataset("train", layout),
        lambda file: file.create_dataset(
            "train", X.shape, X.dtype, external=[(str(tmp_path / "raw.bin"), 0, X.nbytes)]
        ),
    ]
    for make in makers:
        with h5py.File(tmp_path / "x.hdf5", "w") as file:
            make(file)
        with pytest.raises(BadDataset, match=r"not a group or a link|in other files"):
            read_dataset(tmp_path / "x.hdf5", "x")


@pytest.mark.parametrize("kind", ["list", "fixed", "large", "double"])
def test_parquet(kind: str, tmp_path: Path) -> None:
    types = {
        "list": pa.list_(pa.float32()),
        "fixed": pa.list_(pa.float32(), 6),
        "large": pa.large_list(pa.float32()),
        "double": pa.list_(pa.float64()),
    }
    many = np.tile(X, (100, 1))  # Several batches.
    labels = np.arange(len(many)) % 3
    columns = {
        "other": pa.array([[1, 2]] * len(many)),
        "emb": pa.array(many.tolist(), types[kind]),
        "label": labels,
        "id": [f"i{i}" for i in range(len(many))],
    }
    write_parquet(tmp_path / "x", columns, row_group_size=1500)
    dataset = read_dataset(tmp_path / "x", "x")
    np.testing.assert_array_equal(dataset.descriptors, many)
    np.testing.assert_array_equal(dataset.labels, labels)
    assert dataset.ids.tolist() == columns["id"]
    write_parquet(tmp_path / "x", {"anything": columns["emb"], "label": ["b", "a"] * 2500})
    dataset = read_dataset(tmp_path / "x", "x")
    assert dataset.labels.tolist() == [1, 0] * 2500
    assert dataset.class_name(0) == "a"


@pytest.mark.parametrize(
    ("lists", "names"),
    [
        ([["sky", "sea"], [], ["sea"]] * 2000, ["sea", "sky"]),
        ([[3, 7], [], [3]] * 2000, ["3", "7"]),
    ],
)
def test_parquet_with_several_labels(lists: list[Any], names: list[str], tmp_path: Path) -> None:
    write_parquet(tmp_path / "x", {"emb": np.eye(len(lists), 6).tolist(), "labels": lists})
    dataset = read_dataset(tmp_path / "x", "x")
    assert dataset.class_names is not None
    assert dataset.class_names.tolist() == names
    assert dataset.targets.tolist() == [[str(n) in map(str, one) for n in names] for one in lists]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0]}, "expected one column of lists of numbers.*x: double"),
        ({"x": [["a"]]}, "expected one column of lists"),
        ({"x": [[1.0]], "y": [[1.0]]}, "expected one column of lists"),
        ({"x": [[1.0], [1.0, 2.0]]}, "row 0 has 1 numbers, row 1 has 2"),
        ({"x": [[1.0], None]}, "column 'x' has nulls"),
        ({"x": [[1.0], [None]]}, "column 'x' has nulls in its lists"),
        ({"x": [[1.0], [float("nan")]]}, "row 1, column 0 is nan"),
        ({"x": [[1.0], [1e300]]}, "row 1, column 0 is inf"),
        ({"x": [[1.0]], "label": [0.5]}, "labels must be integers or strings"),
        ({"x": [[1.0], [2.0]], "id": ["a", "a"]}, "ids must be unique"),
        ({"x": [[1.0]], "labels": [[1, None]]}, "nulls in their lists"),
        ({"x": [[1.0]], "labels": [[{"a": 1}]]}, "labels"),
    ],
)
def test_bad_parquet_is_refused(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_parquet(tmp_path / "x", columns)
    with pytest.raises(BadDataset, match=message):
        read_dataset(tmp_path / "x", "x")


HOSTILE = {
    "shape": npy_header((HUGE, 128)),
    "negative": npy_header((-1, 128)),
    "overflow": npy_header((2**62, 2**62)),
    "objects": npy_header((3, 3), "|O"),
    "nested": b"\x93NUMPY\x01\x00\x00\x10" + b"(" * 4096,
    "cut": npy_header((3, 3))[:40],
    "dimension": np.array([2**31 - 1, 5, 5], "<i4").tobytes(),
    "negative dimension": np.array([-4, 5, 5], "<i4").tobytes(),
    "two dimensions": vecs(X[:1], "<f4") + vecs(X[:1, :3], "<f4"),
    "cut vector": vecs(X, "<f4")[:-2],
    "text": b"1,2,3\n4,5,6\n",
    "empty": b"",
    "zip": b"PK\x03\x04broken",
    "hdf5": b"\x89HDF\r\n\x1a\n" + b"\xff" * 500,
    "parquet": b"PAR1" + b"\xff" * 500 + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_and_reserves_no_memory(kind: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(HOSTILE[kind])
    assert refused_within(1 << 22, tmp_path / "x")


def refused_within(limit: int, path: Path) -> bool:
    tracemalloc.start()
    try:
        with pytest.raises(BadDataset):
            read_dataset(path, "x")
        return tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def test_an_npz_whose_header_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "x", "w", compression) as file:
            file.writestr("descriptors.npy", npy_header((1 << 30, 128)) + bytes(1000))
        assert refused_within(1 << 22, tmp_path / "x")


def test_arrays_of_an_npz_that_are_not_used_are_not_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x", descriptors=X, other=np.zeros(1 << 24, np.uint8))
    tracemalloc.start()
    assert len(read_dataset(tmp_path / "x.npz", "x")) == len(X)
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()
    np.savez_compressed(tmp_path / "y", other=np.zeros(1 << 24, np.uint8))
    assert refused_within(1 << 22, tmp_path / "y.npz")


def test_hdf5_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        file.create_dataset("train", (HUGE, 128), np.float32, chunks=(64, 128))
        file["train"][0] = 1.0
    assert refused_within(1 << 22, tmp_path / "x")


@pytest.mark.parametrize("kind", ["npz", "hdf5", "parquet"])
def test_damaged_files_raise_nothing_else(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if kind == "npz":
        with path.open("wb") as out:
            np.savez_compressed(out, descriptors=X, labels=np.array(["a", "b"] * 25))
    elif kind == "parquet":
        write_parquet(path, {"emb": X.tolist(), "label": ["a", "b"] * 25})
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("train", data=X, compression="gzip", chunks=(8, 6))
    good, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(good)
        damaged[rng.integers(len(good))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read_dataset(path, "x")
        except BadDataset:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    ("offset", "value"),
    [(4, 99), (6, 1), (8, 14), (8, 99)],  # version needed, encrypted, LZMA, unknown compression
)
def test_zip_files_of_other_kinds_are_refused(offset: int, value: int, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", descriptors=X)
    damaged = bytearray((tmp_path / "x.npz").read_bytes())
    central = damaged.index(b"PK\x01\x02")
    damaged[offset] = damaged[central + 2 + offset] = value
    (tmp_path / "x.npz").write_bytes(damaged)
    with pytest.raises(BadDataset):
        read_dataset(tmp_path / "x.npz", "x")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, package in (("hdf5", "h5py"), ("parquet", "pyarrow")):
        monkeypatch.setitem(sys.modules, package, None)
        (tmp_path / "x").write_bytes(HOSTILE[kind])
        with pytest.raises(BadDataset, match=f"to read it, `pip install {package}`"):
            read_dataset(tmp_path / "x", "x")


def test_the_packages_are_imported_only_for_their_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    code = (
        "import sys; from app.datasets.catalog import load_dataset; load_dataset(sys.argv[1]);"
        "assert not {'h5py', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.npy")], check=True)


def test_messages_say_what_a_path_is(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,2\n3,4\n")
    with pytest.raises(BadDataset, match=r"no format that is read here; these are npz, npy, fvecs"):
        load_dataset(str(tmp_path / "x.csv"))
    with pytest.raises(UnknownDataset, match="is a folder"):
        load_dataset(str(tmp_path))
    with pytest.raises(UnknownDataset, match=r"there is no file nowhere\.fvecs"):
        load_dataset("nowhere.fvecs")
