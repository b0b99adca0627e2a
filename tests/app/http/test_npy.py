"""npy from strangers; the refusals over HTTP are in test_bad_input."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.http.npy import DESCRIPTORS, ITEMS, BadNpy, read_arrays
from tests.app.conftest import npy


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
def test_bytes_of_any_kind_are_read_or_refused(data: bytes) -> None:
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
    "shape",
    [
        "(2**62, 4)",
        "(" + "9" * 301 + ",)",
        "(-1, 8)",
        "(True, 8)",
        "(" + "99999999999999," * 8 + ")",
    ],
)
def test_a_shape_that_lies_is_refused_without_reserving_it(shape: str) -> None:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(501) + "\n"
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(64)
    with pytest.raises(BadNpy):
        read_arrays(body, DESCRIPTORS)


def test_no_copy_is_made() -> None:
    body = npy(np.arange(6.0).reshape(2, 3))
    (array,) = read_arrays(body, DESCRIPTORS)
    assert not array.flags.owndata
    assert array.base is not None
