"""Words that the patches of images are compared with, learned by spherical k-means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

PATCH = 6
CONTRAST_FLOOR = 10.0
"""Added to the variance of a patch, whose pixels are from 0 to 255, before the division by it."""
WHITENING_FLOOR = 0.1
"""Added to the eigenvalues of normalised patches before the division by them."""
DICTIONARY_IMAGES, PATCHES_PER_IMAGE = 8_000, 20
ROUNDS = 10
THRESHOLD = 0.5


@dataclass(frozen=True)
class Dictionary:
    """Words that patches are compared with, at one scale of the images.

    The second half of the words are the mirror images of the first. The mirror image of an image
    therefore has the same features in another order.

    Attributes
    ----------
    weights : (PATCH · PATCH · 3, words) float32
        Whitening and words in one matrix.
    bias : (words,) float32
        What the whitening and the threshold subtract.
    halve : bool
        Whether images are halved in size first.
    stride : int
        Pixels between two patches.
    """

    weights: Floats
    bias: Floats
    halve: bool
    stride: int

    @classmethod
    def learn(
        cls, images: Images, n_words: int, *, halve: bool, stride: int, rng: np.random.Generator
    ) -> Self:
        """Learn the words from random patches of the images by spherical k-means."""
        chosen = rng.choice(len(images), min(DICTIONARY_IMAGES, len(images)), replace=False)
        patches = np.concatenate(
            [
                _random_patches(images[chosen[i : i + 50]], halve, rng)
                for i in range(0, len(chosen), 50)
            ]
        )
        flipped = flip(patches)
        mean = (patches.mean(axis=0) + flipped.mean(axis=0)) / 2
        patches -= mean
        flipped -= mean
        covariance = (patches.T @ patches + flipped.T @ flipped) / (2 * len(patches))
        energies, axes = np.linalg.eigh(covariance)
        whiten = (axes / np.sqrt(energies + WHITENING_FLOOR)) @ axes.T
        words = _cluster(patches @ whiten, n_words // 2, rng)
        both = np.concatenate([words, flip(words)])
        weights = (whiten @ both.T).astype(np.float32)
        return cls(weights, -(mean @ weights + np.float32(THRESHOLD)), halve, stride)

    def __call__(self, images: Images) -> Floats:
        """Return the mean activation of each word in the quadrants, (n, 4, words).

        The quadrants are top left, bottom left, top right, bottom right.
        """
        patches = image_patches(_scaled(images, self.halve), self.stride)
        n, side = patches.shape[:2]
        z = patches.reshape(-1, len(self.weights)) @ self.weights
        z += self.bias
        np.maximum(z, 0, out=z)
        pooled: Floats = quadrants(side) @ z.reshape(n, side * side, -1)
        return pooled


def _cluster(patches: Floats, n_words: int, rng: np.random.Generator) -> Floats:
    """Return unit vectors, (n_words, d): each the mean of the patches nearest to it.

    A patch is assigned to the word with the largest inner product in absolute value, among the
    words and their mirror images.
    """
    words = _unit(rng.standard_normal((n_words, patches.shape[1]), np.float32))
    for _ in range(ROUNDS):
        both = np.concatenate([words, flip(words)])
        sums = np.zeros_like(both)
        for i in range(0, len(patches), 5000):
            block = patches[i : i + 5000]
            similarity = block @ both.T
            nearest = np.maximum(similarity, -similarity).argmax(axis=1)
            rows = np.arange(len(block))
            strength = csr_array(
                (similarity[rows, nearest], (nearest, rows)), shape=(len(both), len(block))
            )
            sums += strength @ block
        words = _unit(sums[:n_words] + flip(sums[n_words:]) + np.float32(1e-3) * words)
    return words


def _unit(rows: Floats) -> Floats:
    lengths: Floats = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    return rows / lengths


def _scaled(images: Images, halve: bool) -> Floats:
    x = images.astype(np.float32)
    if halve:
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
    return x


def image_patches(x: Floats, stride: int) -> Floats:
    """Return the patches of images, normalised in contrast: (n, side, side, PATCH · PATCH · 3)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (PATCH, PATCH), axis=(1, 2))
    n, rows, columns = windows[:, ::stride, ::stride].shape[:3]
    patches = windows[:, ::stride, ::stride].reshape(n, rows, columns, -1)
    patches -= patches.mean(axis=3, keepdims=True)
    square = np.einsum("nijk,nijk->nij", patches, patches)[..., None]
    patches /= np.sqrt(square / np.float32(patches.shape[3]) + np.float32(CONTRAST_FLOOR))
    return patches


def _random_patches(images: Images, halve: bool, rng: np.random.Generator) -> Floats:
    patches = image_patches(_scaled(images, halve), 1)
    flat = patches.reshape(len(images), -1, patches.shape[3])
    places = rng.integers(0, flat.shape[1], (len(images), PATCHES_PER_IMAGE))
    return flat[np.arange(len(images))[:, None], places].reshape(-1, flat.shape[2])


def flip(patches: Floats) -> Floats:
    """Return the mirror images of patches, (n, PATCH · PATCH · 3) channel by channel."""
    return patches.reshape(-1, 3, PATCH, PATCH)[..., ::-1].reshape(len(patches), -1)


def quadrants(side: int) -> Floats:
    """Return the weights that average (side · side) places over quadrants, (4, side · side).

    The middle row and column of an odd side are in none.
    """
    half = side // 2
    ends = np.zeros((2, side), np.float32)
    ends[0, :half] = ends[1, side - half :] = 1 / half
    return np.stack([np.outer(ends[i], ends[j]).ravel() for j in (0, 1) for i in (0, 1)])
