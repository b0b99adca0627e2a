"""scikit-learn's own checks of an estimator, over every method in HASHERS."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import check_estimator

from hashing import HASHERS, make_hasher
from tests.methods import quick

WORDING = "refused, in words of its own where scikit-learn asks for its own"
NOT_PASSED = {
    "check_n_features_in_after_fitting": WORDING,
    "check_complex_data": WORDING,
    "check_estimators_empty_data_messages": WORDING,
    "check_estimators_nan_inf": WORDING + ": the row and column of what is not finite",
    "check_fit2d_predict1d": WORDING,
    "check_dtype_object": "numbers held as Python objects are refused, not converted",
}
OF_LABELLED = {
    "check_fit2d_1sample": WORDING + ": one item has no pairs",
    "check_requires_y_none": WORDING,
}
OF_ONE_ITEM = {"check_fit2d_1sample": WORDING + ": one item has no spread"}


def not_passed(method: str) -> dict[str, str]:
    if HASHERS[method].needs_labels:
        return NOT_PASSED | OF_LABELLED
    return NOT_PASSED if HASHERS[method].data_free else NOT_PASSED | OF_ONE_ITEM


@pytest.mark.filterwarnings("ignore")  # for the checks that are known not to pass
@pytest.mark.parametrize("method", list(HASHERS))
def test_scikit_learn_finds_nothing_else(method: str) -> None:
    # One bit: the checks fit up to two clusters in two or three dimensions.
    hasher: Any = make_hasher(method, n_bits=1, **quick(method))
    allowed = not_passed(method)
    results = check_estimator(hasher, expected_failed_checks=allowed, on_fail=None, on_skip=None)
    failed = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "failed"}
    assert failed == {}
    # An exception that is no longer needed is to be taken off the list.
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(allowed)
    assert sum(r["status"] == "passed" for r in results) > 35
