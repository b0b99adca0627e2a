"""What the library takes as labels and descriptors."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pytest

from hashing import InvalidInput, make_hasher
from hashing.validation import as_descriptors, as_labels, check_int, check_number

X = np.random.default_rng(0).normal(size=(3, 4))


class Quantity(np.ndarray):
    """Numbers with a unit, as of astropy and pint."""

    @property
    def units(self) -> str:
        return "cm"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2.2, 3], "row 1 is 2.2"),
        ([1, True, 2], "row 1 is True"),
        ([1, None, 2], "row 1 is None"),
        ([1, 2, 2**64 - 1], "row 2 is 18446744073709551615"),
        ([0, -2, 1], "row 1 is -2"),
        ([1, "2", 3], "row 1 is '2'"),
        ([1, [2], 3], r"row 1 is \[2\]"),
        ([1, datetime.date(2026, 1, 1), 3], "row 1 is datetime.date"),
        ([1, np.ma.masked, 3], "row 1 is masked"),
        (np.array([1.0, 2.0, 3.0]), "row 0 is np.float64"),
        (np.array([0, -2, 1]), "row 1 is np.int64"),
        (np.array([1, 2, 2**63], np.uint64), "row 2 is np.uint64"),
        (np.array([1, 2, 3], "M8[Y]"), "row 0 is np.datetime64"),
        (np.array([1, 2, 3], "m8[s]"), "row 0 is np.timedelta64"),
        (np.array([1, 2, "3"], object), "row 2 is '3'"),
        (np.ma.array([1, 2, 3], mask=[False, False, True]), "row 2 is masked"),
        (np.array([1, 2, 3]).view(Quantity), "got Quantity with a unit"),
    ],
)
def test_what_is_no_integer_is_no_label(labels: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^labels must be .*{message}"):
        as_labels(labels, 3)
    with pytest.raises(InvalidInput, match=message):
        make_hasher("lsh", n_bits=8).fit(X, labels)


@pytest.mark.parametrize(
    "labels",
    [
        [7, -1, 2**63 - 1],
        (np.int8(7), -1, np.uint64(2**63 - 1)),
        np.array([7, -1, 2**63 - 1]),
        np.array([7, -1, 2**63 - 1], object),
        np.ma.array([7, -1, 2**63 - 1]),
    ],
)
def test_integers_are_labels(labels: Any) -> None:
    read = as_labels(labels, 3)
    assert type(read) is np.ndarray
    assert read.dtype == np.dtype(np.int64)
    assert read.tolist() == [7, -1, 2**63 - 1]


@pytest.mark.parametrize(
    ("descriptors", "message"),
    [
        (np.ma.array(X, mask=X[1, 2] == X), "complete; a value in row 1 is masked"),
        ([np.ma.array(row, mask=row == X[2, 0]) for row in X], "a value in row 2 is masked"),
        (X.view(Quantity), "plain numbers, got Quantity with a unit"),
        (X + 1j, "real numbers"),
        (X.astype("m8[s]"), "real numbers"),
    ],
)
def test_numpy_drops_no_part_of_a_descriptor(descriptors: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^descriptors must be .*{message}"):
        as_descriptors(descriptors)
    with pytest.raises(InvalidInput, match=message):
        make_hasher("lsh", n_bits=8).fit(X).encode(descriptors)
    assert as_descriptors(np.ma.array(X)).shape == X.shape


@pytest.mark.parametrize(("given", "meant"), [("lhs", "lsh"), ("LSH", "lsh"), ("net2", "net-2")])
def test_a_method_that_is_not_known_may_be_a_misspelt_one(given: str, meant: str) -> None:
    with pytest.raises(
        InvalidInput, match=rf"no method '{given}' \(did you mean '{meant}'\?\); th"
    ):
        make_hasher(given)
    with pytest.raises(InvalidInput, match=r"no parameter 'n_bit' \(did you mean 'n_bits'\?\); it"):
        make_hasher(meant, n_bit=8)
    with pytest.raises(InvalidInput, match=r"no method 'md5'; there are lsh"):
        make_hasher("md5")


def test_a_time_is_no_number() -> None:
    for value in (np.timedelta64(5, "s"), True):
        with pytest.raises(InvalidInput, match="n_bits must be an integer, got"):
            check_int("n_bits", value, 1, 9)
        with pytest.raises(InvalidInput, match="alpha must be a number, got"):
            check_number("alpha", value)
    with pytest.raises(InvalidInput, match="alpha must be a number, got"):
        check_number("alpha", np.complex64(1))
