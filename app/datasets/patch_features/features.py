"""The features of images: pooled activations of the words of two dictionaries, reduced by PCA.

They are the privileged features of CIFAR-10: known while a net is trained, not for its queries.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from app.datasets.patch_features.dictionary import Dictionary, Floats, Images
from hashing.atomic_file import atomic_write
from hashing.parts.blas import one_blas_thread

Components = tuple[NDArray[Any], NDArray[Any]]
"""Variances, in falling order, and unit vectors as columns."""
Progress = Callable[[str, int, int], None]
"""Called with what is being done, the images done, and the images in all."""

WORDS = (1200, 600)
N_FEATURES = 800
BLOCK = 10
"""Images at a time: the activations of more of them do not fit in the cache."""
GROUP = 1_000
"""Images between two reports of the progress."""
PCA_IMAGES = 16_000
DAMPING = 0.1
"""Share of the mean eigenvalue that is added to each before the division by its root."""
_THREADS = min(8, os.cpu_count() or 1)


def _ignore(activity: str, done: int, total: int) -> None:
    pass


class PatchFeatures:
    """Features of 32 x 32 colour images, from two dictionaries, reduced by PCA.

    6 x 6 patches are normalised in contrast, whitened, and compared with the words of a
    dictionary; what exceeds a threshold is averaged over each quadrant of the image, and the
    square root taken. One dictionary works on the image, every second pixel, the other on the
    image at half the size. The principal components of both together are divided by the root of
    their variance, damped. No label is used.

    The features of a mirror image are ``features[:, mirror]``: see `_pca`.

    Parameters
    ----------
    words : (int, int), optional
        Words of the two dictionaries, even; by default `WORDS`.
    n_features : int, optional
        Principal components that are kept, at most; by default `N_FEATURES`.
    random_state : int

    References
    ----------
    A. Coates, H. Lee, A. Y. Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature
    Learning", AISTATS 2011. A. Coates, A. Y. Ng, "The Importance of Encoding Versus Training with
    Sparse Coding and Vector Quantization", ICML 2011: the threshold. Deviations: words come in
    mirrored pairs; square root and PCA.
    """

    dictionaries: list[Dictionary]
    mean: Floats
    weights: Floats
    mirror: NDArray[np.intp]

    def __init__(
        self,
        words: tuple[int, int] | None = None,
        n_features: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.words = words or WORDS
        self.n_features = n_features or N_FEATURES
        self.random_state = random_state

    @property
    def settings(self) -> tuple[Any, ...]:
        """What decides, with the images, what `fit` learns."""
        return self.words, self.n_features, self.random_state

    def fit(self, images: Images, progress: Progress = _ignore) -> Self:
        """Learn dictionaries and principal components from (n, h, w, 3) images."""
        rng = np.random.default_rng(self.random_state)
        full, half = self.words
        with one_blas_thread():
            progress("learning patches", 0, 2)
            self.dictionaries = [Dictionary.learn(images, full, halve=False, stride=2, rng=rng)]
            progress("learning patches", 1, 2)
            self.dictionaries += [Dictionary.learn(images, half, halve=True, stride=1, rng=rng)]
        chosen = rng.choice(len(images), min(PCA_IMAGES, len(images)), replace=False)
        self._pca(images[np.sort(chosen)], progress)
        return self

    def transform(self, images: Images) -> NDArray[np.float16]:
        """Return the features, (n, p)."""
        features = []
        for _, rows in _groups(images):
            with one_blas_thread():
                features.append((self._words(images[rows]) - self.mean) @ self.weights)
        return np.concatenate(features).astype(np.float16)

    def save(self, path: Path) -> None:
        """Write what `fit` learned to an npz file."""
        arrays: dict[str, Any] = {
            "mean": self.mean,
            "weights": self.weights,
            "mirror": self.mirror,
        }
        for i, one in enumerate(self.dictionaries):
            arrays |= {f"words_{i}": one.weights, f"bias_{i}": one.bias}
        with atomic_write(path) as file:
            np.savez(file, **arrays)

    def load(self, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as npz:
            self.mean, self.weights, self.mirror = npz["mean"], npz["weights"], npz["mirror"]
            self.dictionaries = [
                Dictionary(npz[f"words_{i}"], npz[f"bias_{i}"], halve=halve, stride=stride)
                for i, (halve, stride) in enumerate([(False, 2), (True, 1)])
            ]
        return self

    def _words(self, images: Images) -> Floats:
        """Return the roots of the pooled activations, (n, 4 · words).

        The first half are of the left quadrants; the second half are, in the same order, what
        the first half is for the mirror image.
        """
        with one_blas_thread(), ThreadPoolExecutor(_THREADS) as pool:
            blocks = [images[i : i + BLOCK] for i in range(0, len(images), BLOCK)]
            return np.concatenate(list(pool.map(self._block, blocks)))

    def _block(self, images: Images) -> Floats:
        left, right = [], []
        for dictionary in self.dictionaries:
            pooled = dictionary(images)
            n_words = pooled.shape[2]
            left.append(pooled[:, :2].reshape(len(images), -1))
            mirrored = np.roll(pooled[:, 2:], n_words // 2, axis=2)
            right.append(mirrored.reshape(len(images), -1))
        roots: Floats = np.sqrt(np.concatenate([*left, *right], axis=1))
        return roots

    def _pca(self, images: Images, progress: Progress) -> None:
        """Set `mean`, `weights` and `mirror`, from images and their mirror images.

        Mirroring swaps the halves l and r of the pooled activations. The principal components of
        images together with their mirror images are therefore functions either of l + r, which
        mirroring keeps, or of l - r, whose sign it changes. One component s of the first kind and
        one a of the second are stored as (s + a) / √2 and (s - a) / √2, which mirroring swaps.
        """
        size = 2 * sum(self.words)
        total = np.zeros(size)
        squares = np.zeros((2, size, size), np.float32)
        for start, rows in _groups(images):
            progress("learning components", start, len(images))
            left, right = np.split(self._words(images[rows]), 2, axis=1)
            total += (left + right).sum(axis=0, dtype=np.float64)
            with one_blas_thread():
                for square, part in zip(squares, (left + right, left - right), strict=True):
                    square += part.T @ part
        mean = total / len(images)
        progress("learning components", len(images), len(images))
        # An orthonormal change of basis is (l ± r) / √2: hence the halves. l - r has mean zero.
        symmetric = _largest((squares[0] / len(images) - np.outer(mean, mean)) / 2, self.n_features)
        antisymmetric = _largest(squares[1] / (2 * len(images)), self.n_features)
        self._keep(symmetric, antisymmetric)
        self.mean = np.concatenate([mean, mean]).astype(np.float32) / np.float32(2)

    def _keep(self, symmetric: Components, antisymmetric: Components) -> None:
        """Keep the largest components of both kinds, scale them, and pair them."""
        both = np.concatenate([symmetric[0], antisymmetric[0]])
        largest = np.argsort(-both, kind="stable")[: self.n_features]
        variances = both[largest]
        damping = DAMPING * variances.mean()
        n_symmetric = int((largest < len(symmetric[0])).sum())
        s, a = (
            kind[:, :n]
            / np.sqrt(values[:n] + damping)
            / (2 * (variances / (variances + damping)).mean()) ** 0.5
            for (values, kind), n in (
                (symmetric, n_symmetric),
                (antisymmetric, len(largest) - n_symmetric),
            )
        )
        pairs = min(s.shape[1], a.shape[1])
        s, a = np.concatenate([s, s]), np.concatenate([a, -a])[:, :pairs]
        paired, single = s[:, :pairs], s[:, pairs:]
        columns = [(paired + a) / 2**0.5, (paired - a) / 2**0.5, single]
        self.weights = np.concatenate(columns, axis=1).astype(np.float32)
        self.mirror = np.arange(self.weights.shape[1])
        self.mirror[: 2 * pairs] = np.roll(self.mirror[: 2 * pairs], pairs)


def _largest(covariance: NDArray[Any], count: int) -> Components:
    """Return the largest eigenvalues, in falling order, and their eigenvectors as columns."""
    d = len(covariance)
    with one_blas_thread():
        values, vectors = eigh(covariance, subset_by_index=[max(0, d - count), d - 1])
    return np.maximum(values[::-1], 0), vectors[:, ::-1]


def _groups(rows: Any) -> Iterator[tuple[int, slice]]:
    return ((start, slice(start, start + GROUP)) for start in range(0, len(rows), GROUP))
