"""Encoder files: what is refused, what is kept, and files of earlier versions."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from hashing import BadEncoder, load_hasher, make_hasher
from hashing.registry import from_bytes

ARRAYS = {
    "weights_": np.ones((4, 8), np.float32),
    "bias_": np.zeros(8, np.float32),
    "offset_": np.zeros(1, np.float32),
}
HEADER: dict[str, Any] = {
    "format": 1,
    "method": "lsh",
    "params": {"n_bits": 8, "center": True, "scale": False, "random_state": 0},
    "n_features": 4,
}


def file(arrays: dict[str, Any] = ARRAYS, **changes: Any) -> bytes:
    return save(arrays, metadata={"bitcell": json.dumps(HEADER | changes)})


def tensors(**described: tuple[str, list[int], int]) -> bytes:
    """A file of tensors of zeros, each described by its dtype, shape and number of bytes."""
    header: dict[str, Any] = {"__metadata__": {"bitcell": json.dumps(HEADER)}}
    end = 0
    for name, (dtype, shape, size) in described.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end := end + size]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


def test_the_valid_file_that_the_other_tests_change() -> None:
    assert from_bytes(file()).encode(np.ones((1, 4))).tolist() == [[255]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no safetensors file"),
        (b"\x00" * 100, "no safetensors file"),
        (pickle.dumps({"weights_": 1}), "no safetensors file"),
        (make_hasher("lsh").fit(np.ones((1, 3))).to_bytes()[:-1], "no safetensors file"),
        (save(ARRAYS), "no 'bitcell' header"),
        (save(ARRAYS, metadata={"bitcell": "{"}), "no 'bitcell' header"),
        (save(ARRAYS, metadata={"bitcell": "[" * 100_000}), "no 'bitcell' header"),
        (save(ARRAYS, metadata={"bitcell": "[]"}), r"must be a JSON object, got \[\]"),
        (file(format=2), "format 2 is newer than 1"),
        (file(format=True), "format must be an integer, got True"),
        (file(format=0), "format must be from 1"),
        (file(method="md5"), "no method 'md5'"),
        (file(method=["lsh"]), r"method must be a str, got \['lsh'\]"),
        (file(params=[]), r"params must be a dict, got \[\]"),
        (file(params={"n_bits": 0}), "n_bits must be from 1"),
        (file(params={"bits": 8}), "no parameter 'bits'"),
        (file(n_features=None), "n_features must be an integer"),
        (file(n_features=2**40), "n_features must be from 1"),
        (file(n_features=5), r"weights_ must have shape \(5, 8\) .*, got \(4, 8\)"),
        (file(params={"n_bits": 9}), r"weights_ must have shape \(4, 9\) .*, got \(4, 8\)"),
        (
            file({"weights_": ARRAYS["weights_"]}),
            r"expected arrays \['bias_', 'offset_', 'weights_'\], got \['weights_'\]",
        ),
        (file(ARRAYS | {"more": np.ones(1, np.float32)}), r"got \['bias_', 'more', 'offset_', "),
        (file(ARRAYS | {"bias_": np.zeros(8)}), r"bias_ must be float32 \(F32\), got F64"),
        (file(ARRAYS | {"bias_": np.full(8, np.nan, np.float32)}), "not finite"),
        (file(ARRAYS | {"bias_": np.zeros(7, np.float32)}), r"bias_ .* \(8,\) .*, got \(7,\)"),
        (file(ARRAYS | {"weights_": np.ones(4, np.float32)}), r"weights_ .*, got \(4,\)"),
        (file(ARRAYS | {"bias_": np.zeros((8, 1), np.float32)}), r"bias_ .*, got \(8, 1\)"),
        (tensors(bias_=("BF16", [8], 16)), r"bias_ must be float32 \(F32\), got BF16"),
        (tensors(bias_=("F32", [2**62, 0], 0)), "bias_ has an impossible shape: array is too big"),
        (tensors(bias_=("F32", [1] * 100, 4)), "bias_ has an impossible shape: maximum"),
    ],
)
def test_an_invalid_file_is_refused_with_the_reason(
    data: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(BadEncoder, match=message) as error:
        load_hasher(path)
    assert str(path) in str(error.value)


def test_the_fingerprint_depends_on_header_and_arrays() -> None:
    base = from_bytes(file())
    changed_array = from_bytes(file(ARRAYS | {"bias_": np.ones(8, np.float32)}))
    changed_header = from_bytes(file(params=HEADER["params"] | {"random_state": 1}))
    assert len({h.fingerprint for h in (base, changed_array, changed_header)}) == 3
    assert from_bytes(base.to_bytes()).fingerprint == base.fingerprint


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hasher = make_hasher("lsh", n_bits=8).fit(np.ones((1, 3)))
    path = tmp_path / "encoder.safetensors"
    hasher.save(path)
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        hasher.set_params(random_state=1).fit(np.ones((1, 3))).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_files_of_the_first_version_can_be_read() -> None:
    path = Path(__file__).parent / "data" / "lsh-format-1.safetensors"
    hasher = load_hasher(path)
    assert hasher.fingerprint == (path.with_suffix(".sha256")).read_text().strip()
