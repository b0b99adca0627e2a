"""scikit-learn's own estimator checks, for every method in HASHERS."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import check_estimator

from hashing import HASHERS, make_hasher
from tests.methods import each_method, quick

WORDING = "refused, but not with the message that scikit-learn expects"
FAILING_CHECKS = {
    "check_n_features_in_after_fitting": WORDING,
    "check_complex_data": WORDING,
    "check_estimators_empty_data_messages": WORDING,
    "check_estimators_nan_inf": WORDING + ": the message names the row and column",
    "check_fit2d_predict1d": WORDING,
    "check_dtype_object": "numbers that are Python objects are refused, not converted",
}
FAILING_WITH_LABELS = {
    "check_fit2d_1sample": WORDING + ": one item has no pairs",
    "check_requires_y_none": WORDING,
}
FAILING_WITH_ONE_ITEM = {"check_fit2d_1sample": WORDING + ": one item has no spread"}

# The checks concern the interface, so a few steps of training are enough.
FEW_STEPS = {
    "siamese-1": {"steps": 5},
    "siamese-2": {"steps": 5},
    "net-1": {"steps": 5, "teacher_steps": 5},
    "net-2": {"steps": 5, "teacher_steps": 5},
}


def failing_checks(method: str) -> dict[str, str]:
    if HASHERS[method].needs_labels:
        return FAILING_CHECKS | FAILING_WITH_LABELS
    return FAILING_CHECKS if HASHERS[method].data_free else FAILING_CHECKS | FAILING_WITH_ONE_ITEM


@pytest.mark.filterwarnings("ignore")  # from the checks that are known to fail
@pytest.mark.parametrize("method", each_method())
def test_no_other_check_fails(method: str) -> None:
    # One bit, because the checks fit as few as two clusters in two or three dimensions.
    hasher: Any = make_hasher(method, n_bits=1, **quick(method) | FEW_STEPS.get(method, {}))
    allowed = failing_checks(method)
    results = check_estimator(hasher, expected_failed_checks=allowed, on_fail=None, on_skip=None)
    failed = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "failed"}
    assert failed == {}
    # A check that passes must be removed from the list.
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(allowed)
    assert sum(r["status"] == "passed" for r in results) > 35
