from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits as sklearn_digits

from app.datasets.dataset import Dataset
from app.datasets.digits import load_digits, read_digits
from hashing.gist import Gist
from tests.test_imports import imported_by


def test_the_digits_are_those_of_scikit_learn() -> None:
    images, labels = read_digits()
    expected = sklearn_digits()
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected.target)
    np.testing.assert_array_equal(images, np.rint(expected.images * (255 / 16)))


def test_the_dataset_is_their_gist_and_their_images(digits: Dataset) -> None:
    expected = sklearn_digits()
    grey = np.rint(expected.images * (255 / 16)).astype(np.uint8)
    np.testing.assert_array_equal(digits.descriptors, Gist().transform(grey))
    assert digits.descriptors.dtype == np.float32
    assert digits.descriptors.shape == (1797, 384)
    assert digits.ids[[0, 1796]].tolist() == ["digit-0000", "digit-1796"]
    assert len(set(digits.ids)) == 1797
    images = load_digits().images
    assert images is not None
    for channel in range(3):
        np.testing.assert_array_equal(images[..., channel], grey)


def test_loading_the_digits_does_not_import_scikit_learn() -> None:
    code = "from app.datasets.catalog import load_dataset; load_dataset('digits')"
    assert "sklearn" not in imported_by(code)
