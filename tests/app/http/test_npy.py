"""Reading untrusted npy; test_bad_input has the answers over HTTP."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from app.http.npy import DESCRIPTORS, OF_ITEMS, BadNpy, read_arrays, strings
from tests.app.conftest import npy

ITEMS = DESCRIPTORS | OF_ITEMS


@given(
    st.lists(
        hnp.arrays(
            st.sampled_from(["<f2", ">f4", "f8", "u1", ">i8"]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
def test_reads_what_numpy_writes(arrays: list[Any], fortran: bool) -> None:
    written = [np.asfortranarray(a) if fortran else a for a in arrays]
    read = read_arrays(npy(*written), dict.fromkeys("abc"[: len(arrays)], "fiu"), len(arrays))
    for one, other in zip(read, arrays, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for body in (data, b"\x93NUMPY" + data, npy(np.ones((2, 3))) + data):
        with suppress(BadNpy):
            read_arrays(body, ITEMS, 2)


@pytest.mark.filterwarnings("ignore:Reading `.npy`")  # "(2L)" is a shape that Python 2 wrote.
@given(st.integers(0, 200), st.integers(0, 255))
def test_one_wrong_byte_is_read_or_refused(place: int, value: int) -> None:
    body = bytearray(npy(np.ones((2, 3)), np.array(["a", "b"])))
    body[place] = value
    with suppress(BadNpy):
        assert len(read_arrays(bytes(body), ITEMS, 2)) == 2


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("<f8", "(2**62, 4)"),
        ("<f8", "(" + "9" * 301 + ",)"),
        ("<f8", "(-1, 8)"),
        ("<f8", "(True, 8)"),
        ("<f8", "(" + "99999999999999," * 8 + ")"),
        # No values, but numpy multiplies the other lengths and the size of a value all the same.
        ("<U536870911", "(0, 140737488355328)"),
    ],
)
def test_a_false_shape_is_refused_without_reserving_memory(dtype: str, shape: str) -> None:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(501) + "\n"
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(64)
    with pytest.raises(BadNpy):
        read_arrays(body, {"values": "fU"})


@pytest.mark.parametrize("order", ["<", ">"])
def test_ids_are_code_points(order: str) -> None:
    def ids(*points: int) -> NDArray[np.str_]:
        data = np.array(points, order + "u4").tobytes()
        (array,) = read_arrays(npy(np.frombuffer(data, order + "U2")), {"ids": "U"})
        return array

    assert strings(ids(0x61, 0x10FFFF, 0x62, 0)) == ["a\U0010ffff", "b"]
    assert strings(ids()) == []
    for wrong in (0x110000, 0x7FFFFFFF, 0xFFFFFFFF):
        with pytest.raises(BadNpy, match="not Unicode"):
            strings(ids(0x61, wrong))


def test_no_copy_is_made() -> None:
    body = npy(np.arange(6.0).reshape(2, 3))
    (array,) = read_arrays(body, DESCRIPTORS)
    assert not array.flags.owndata
    assert array.base is not None
