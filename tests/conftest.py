"""Fixtures that many tests share, and the plugin that reports skipped tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from app.datasets import catalog
from app.datasets.dataset import Dataset
from app.datasets.digits import load_digits

pytest_plugins = [
    "tests.memory_folder",
    "tests.milvus_server",
    "tests.postgres",
    "tests.skips",
]


@cache
def _load_digits_once() -> Dataset:
    digits = load_digits()
    for array in (digits.descriptors, digits.labels, digits.ids, digits.images):
        assert array is not None
        array.flags.writeable = False
    return digits


@pytest.fixture(autouse=True, scope="session")
def _digits_are_described_once() -> Iterator[None]:
    """Keep the digits in a test process, since every load takes a second of computing GIST."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(catalog, "load_digits", _load_digits_once)
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The dataset `digits`, read-only: a test that writes to it fails."""
    return _load_digits_once()


@pytest.fixture(scope="session")
def X(digits: Dataset) -> NDArray[np.float32]:
    """The descriptors of the digits."""
    return digits.descriptors


@pytest.fixture(scope="session")
def y(digits: Dataset) -> NDArray[np.int64]:
    """The labels of the digits."""
    return digits.labels


def pytest_configure() -> None:
    """Collect no garbage while modules are imported, which took a sixth of that time."""
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Collect garbage again, but not among what is loaded by now: a third of a million objects."""
    gc.freeze()
    gc.enable()
