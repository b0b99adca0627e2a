"""Arrow record batches are encoded as `encode` encodes their descriptors."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hashing import make_hasher
from hashing.arrow import CODE, code_array, codes_of, encode_batches, matrix
from hashing.validation import InvalidInput

X = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
HASHER = make_hasher("lsh", n_bits=11).fit(X)
TABLE = pa.table({"id": np.arange(50), "embedding": list(X)})


def encoded(table: Any, rows: int, column: str | None = None) -> Any:
    hasher = pickle.loads(pickle.dumps(HASHER))  # As a cluster sends it to its workers.
    return pa.Table.from_batches(encode_batches(hasher, table.to_batches(rows), column))


@pytest.mark.parametrize("rows", [1, 7, 50])
def test_batches_of_any_size_give_the_same_codes(rows: int) -> None:
    made = encoded(TABLE, rows)
    assert made.column_names == ["id", CODE]
    assert made["id"].to_pylist() == list(range(50))
    assert made[CODE].to_pylist() == [bytes(code) for code in HASHER.encode(X)]
    assert made.schema.field(CODE).type == pa.binary(2)


def test_a_row_is_counted_over_all_batches() -> None:
    bad = X.copy()
    bad[33, 2] = np.inf
    with pytest.raises(InvalidInput, match=r"'embedding', row 33: .*; number 2 is inf") as failed:
        encoded(TABLE.set_column(1, "embedding", [list(bad)]), 7)
    assert failed.value.row == 33
    with pytest.raises(InvalidInput, match=r"column 'embed' of lists of numbers \(did you mean"):
        encoded(TABLE, 7, "embed")


def test_a_part_of_a_column_is_read_without_a_copy() -> None:
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 6)):
        lists = pa.array(list(X), kind)
        part = matrix(lists[10:20], "x")
        np.testing.assert_array_equal(part, X[10:20])
        assert np.shares_memory(part, matrix(lists, "x"))


@pytest.mark.parametrize("kind", [pa.binary(2), pa.binary(), pa.large_binary()])
def test_codes_are_read_back_from_any_binary_column(kind: Any) -> None:
    codes = HASHER.encode(X)
    column = pa.array([bytes(code) for code in codes], kind)
    np.testing.assert_array_equal(codes_of(column), codes)
    np.testing.assert_array_equal(codes_of(column[9:30]), codes[9:30])
    assert codes_of(column[:0]).shape == (0, 2 if kind == pa.binary(2) else 0)
    assert code_array(codes).to_pylist() == column.to_pylist()
    with pytest.raises(InvalidInput, match="the codes have nulls: the first is row 1"):
        codes_of(pa.array([b"ab", None], kind))


def test_codes_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidInput, match="row 0 has 2 bytes, row 1 has 1"):
        codes_of(pa.array([b"ab", b"a"]))
