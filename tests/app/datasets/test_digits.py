from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits as sklearn_digits

from app.datasets.dataset import Dataset
from app.datasets.digits import read_digits
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
    # Of every fifth image, since all of them take a second. Other blocks have other last bits.
    some = Gist().transform(grey[::5])
    np.testing.assert_allclose(digits.descriptors[::5], some, rtol=0, atol=1e-6 * some.max())
    assert digits.descriptors.dtype == np.float32
    assert digits.descriptors.shape == (1797, 384)
    assert digits.ids[[0, 1796]].tolist() == ["digit-0000", "digit-1796"]
    assert len(set(digits.ids)) == 1797
    assert digits.images is not None
    for channel in range(3):
        np.testing.assert_array_equal(digits.images[..., channel], grey)


def test_loading_the_digits_does_not_import_scikit_learn() -> None:
    code = """
import numpy as np
from hashing.gist import Gist
Gist.transform = lambda self, images: np.zeros((len(images), 384), np.float32)
from app.datasets.catalog import load_dataset
load_dataset("digits")
"""
    assert "sklearn" not in imported_by(code)
