"""Fixtures that many tests share, and the plugin that reports skipped tests."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.datasets.catalog import load_dataset
from app.datasets.dataset import Dataset

pytest_plugins = ["tests.skips"]


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The dataset `digits`."""
    return load_dataset("digits")


@pytest.fixture(scope="session")
def X(digits: Dataset) -> NDArray[np.float32]:
    """The descriptors of the digits, read-only: a test that writes to them fails."""
    X = digits.descriptors.view()
    X.flags.writeable = False
    return X


@pytest.fixture(scope="session")
def y(digits: Dataset) -> NDArray[np.int64]:
    """The labels of the digits, read-only."""
    y = digits.labels.view()
    y.flags.writeable = False
    return y
