"""scikit-learn's own estimator checks, for every method in HASHERS."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sklearn
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

from hashing import HASHERS, InvalidInput, make_hasher
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


class Table:
    """The part of the tables of pandas and polars that is used, which the tests need not have."""

    def __init__(
        self,
        values: Any,
        index: Any = None,
        columns: Any = None,
        *,
        schema: Any = None,
        orient: Any = None,
    ) -> None:
        self.values = np.asarray(values)
        self.index = range(len(self.values)) if index is None else index
        self.columns = np.asarray(columns if schema is None else schema, object)
        self.orient = orient

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return self.values


def table_of(X: NDArray[Any]) -> Table:
    return Table(X, [f"row {i}" for i in range(len(X))], [f"x{i}" for i in range(X.shape[1])])


# `check_estimator` leaves these to scikit-learn's own estimators. Those that need pandas or polars
# pass too, where they are installed.
@pytest.mark.parametrize(
    "check", ["check_transformer_get_feature_names_out", "check_set_output_transform"]
)
@pytest.mark.parametrize("method", ["lsh", "sdh"])
def test_the_checks_of_tables_pass(check: str, method: str) -> None:
    hasher = make_hasher(method, n_bits=2)
    getattr(estimator_checks, check)(type(hasher).__name__, hasher)


def test_bits_have_names_in_every_kind_of_output(
    X: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pandas", "polars"):
        module: Any = ModuleType(name)
        module.DataFrame = Table
        monkeypatch.setitem(sys.modules, name, module)
    table, names = table_of(X[:50]), ["itq_0", "itq_1", "itq_2"]
    hasher: Any = make_hasher("itq", n_bits=3).fit(table)
    expected = hasher.transform(table)
    assert type(expected) is np.ndarray
    assert hasher.get_feature_names_out(table.columns).tolist() == names
    with sklearn.config_context(transform_output="polars"):
        found = hasher.transform(table)
    assert (found.columns.tolist(), found.orient) == (names, "row")
    hasher.set_output(transform="pandas")
    for found in (hasher.transform(table), clone(hasher).fit_transform(table)):
        np.testing.assert_array_equal(found.values, expected)
        assert (found.columns.tolist(), found.index) == (names, table.index)
    with sklearn.config_context(transform_output="polars"):
        assert hasher.transform(X[:3]).orient is None
        assert type(hasher.set_output(transform="default").transform(table)) is np.ndarray
    assert hasher.set_output() is hasher
    with pytest.raises(InvalidInput, match="transform must be default, pandas or polars"):
        hasher.set_output(transform="arrow")


def test_a_pipeline_passes_set_output_and_names_on(X: NDArray[Any]) -> None:
    pipeline = make_pipeline(StandardScaler(), make_hasher("lsh", n_bits=2)).fit(X[:50])
    assert pipeline.get_feature_names_out().tolist() == ["lsh_0", "lsh_1"]
    assert pipeline.set_output(transform="default").transform(X[:5]).shape == (5, 2)


def test_columns_in_another_order_are_refused(X: NDArray[Any]) -> None:
    table = table_of(X[:50])
    turned = Table(X[:50, ::-1], columns=table.columns[::-1])
    hasher: Any = make_hasher("itq", n_bits=3).fit(table)
    assert hasher.feature_names_in_.tolist() == table.columns.tolist()
    for call in (hasher.encode, hasher.transform, hasher.project):
        with pytest.raises(InvalidInput, match="another order"):
            call(turned)
        call(X[:3])
    with pytest.raises(InvalidInput, match="not equal to feature_names_in_"):
        hasher.get_feature_names_out(table.columns[::-1])
    assert not hasattr(hasher.fit(X), "feature_names_in_")
    hasher.encode(turned)
    with pytest.raises(InvalidInput, match="length equal to number of features"):
        hasher.get_feature_names_out(["a", "b"])
