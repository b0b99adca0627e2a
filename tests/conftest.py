"""Data that many tests share, read-only: a test that writes to it fails."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.datasets.catalog import load_dataset
from app.datasets.dataset import Dataset


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def X(digits: Dataset) -> NDArray[np.float32]:
    X = digits.descriptors.view()
    X.flags.writeable = False
    return X


@pytest.fixture(scope="session")
def y(digits: Dataset) -> NDArray[np.int64]:
    y = digits.labels.view()
    y.flags.writeable = False
    return y
