"""GIST descriptors of images."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from hashing.gist.operators import (
    Array,
    apply_both_axes,
    crop_filter,
    dft_matrices,
    gabor_bank,
    lowpass_matrix,
    resampling_matrix,
)

_PREFILTER_PADDING = 5  # pixels, as in LMgist
_LONG = 8  # the middle of a long image is cut out: this many times its short side
_FLAT = 1e-12  # contrast, relative to the largest value, that is only float64 rounding
_BLOCK_BYTES = 1 << 24  # size of a block of images as float64, before resizing
# OpenBLAS spreads products of more than this size over threads, which wait for each other by
# spinning. On a busy machine that can take a hundred times longer. One thread per block of images
# is faster and steady.
_PRODUCT_SIZE = 1 << 16
_THREADS = min(8, os.cpu_count() or 1)  # each holds a block, so more would cost memory


class Gist:
    """GIST descriptors of images, as LMgist computes them.

    A GIST descriptor states how much of each orientation and scale there is in each part of an
    image. The image is converted to grey, resized to `size`, and stretched to [0, 255]; its
    logarithm is whitened and normalised to equal local contrast, then filtered by a bank of Gabor
    filters. The magnitude of each response is averaged over a grid of blocks.

    Parameters
    ----------
    size : int
        Side in pixels of the square that is described: even, and a multiple of `blocks`.
    orientations : sequence of int
        Number of orientations at each scale, from fine to coarse. The filters of scale s peak at
        ``0.3 / 1.85**s`` cycles per pixel.
    blocks : int
        Blocks along a side.
    prefilter : float
        Width of the low-pass filter of the pre-filter, in cycles per image (LMgist's
        `fc_prefilt`).
    padding : int
        Pixels of symmetric padding on each side before the Gabor filters (LMgist's
        `boundaryExtension`).

    Attributes
    ----------
    dimension : int
        Length of a descriptor, ``sum(orientations) * blocks**2``. Components are ordered by
        (scale, orientation, block row, block column).
    mirror : ndarray of intp, shape (dimension,)
        The descriptors of horizontally mirrored images are ``transform(images)[:, mirror]``, up to
        float32 rounding.

    Raises
    ------
    ValueError
        A parameter is out of range.

    Notes
    -----
    Source: A. Oliva and A. Torralba, "Modeling the shape of the scene: a holistic representation
    of the spatial envelope", IJCV 42(3), 2001, and the authors' MATLAB function LMgist.

    Deviations from LMgist:

    - Components are ordered by block row, then column; MATLAB's order is column, then row.
    - A frequency without a sign (zero, or the horizontal Nyquist frequency) gets the mean of a
      filter and the mirror image of its partner in `mirror`; LMgist takes one sign. This makes
      `mirror` exact (in LMgist it is off by 0.05 %). Descriptors of photographs change by 0.02 %
      on average, and by less than 0.2 % in the worst of 60,000.
    - Filters are cut off below 1e-4 of their peak, and arithmetic is in float32: together a
      change of 0.0002 %.
    - An image of another shape is cropped to the square in its middle, as in LMgist, but to
      fractions of a pixel. It is resized bilinearly, with the triangle widened when shrinking, in
      floating point. At the borders the weights are renormalised (Pillow's rule); MATLAB reflects
      the image.
    - A constant image (to 1e-12 of its value) has the zero descriptor; LMgist divides by zero.
    - `size` is even and a multiple of `blocks`; LMgist also accepts others, with unequal blocks.
    """

    def __init__(
        self,
        *,
        size: int = 32,
        orientations: Sequence[int] = (8, 8, 8),
        blocks: int = 4,
        prefilter: float = 4.0,
        padding: int = 32,
    ) -> None:
        self.size = _whole_number("size", size, 2)
        self.orientations = tuple(_whole_number("orientations", o, 1) for o in orientations)
        self.blocks = _whole_number("blocks", blocks, 1)
        self.prefilter = float(prefilter)
        self.padding = _whole_number("padding", padding, 0)
        if not self.orientations:
            raise ValueError("orientations: expected at least one scale, got none")
        if self.size % 2 or self.size % self.blocks:
            raise ValueError(
                f"size: expected an even multiple of blocks = {self.blocks}, got {self.size}"
            )
        if not (self.prefilter > 0 and math.isfinite(self.prefilter)):
            raise ValueError(f"prefilter: expected a positive number, got {prefilter}")
        self.dimension = sum(self.orientations) * self.blocks**2
        self.mirror = self._mirror()
        self._lowpass = lowpass_matrix(self.size + 2 * _PREFILTER_PADDING, self.prefilter)
        self._analysis, self._synthesis = dft_matrices(self.size, self.padding)
        bank = gabor_bank(self.size + 2 * self.padding, self.orientations)
        self._filters = [crop_filter(transfer) for transfer in bank]

    def transform(self, images: Array) -> NDArray[np.float32]:
        """Describe images, block by block, with one thread per processor but at most eight.

        Parameters
        ----------
        images : ndarray, shape (n, h, w) or (n, h, w, 3)
            Grey or colour images, of integers or floats in any range: a descriptor does not change
            when an image becomes brighter or its contrast is stretched. Grey is the plain mean of
            the channels; an alpha channel is refused (`hashing.gist.pixels` removes it). Images
            that are not `size` by `size` are cropped and resized. A side may have any length: of an
            image longer than eight times its width, or wider than eight times its height, only the
            middle is read.

        Returns
        -------
        ndarray of float32, shape (n, dimension)
            Non-negative. An image's descriptor does not depend on the other images, up to float32
            rounding.

        Raises
        ------
        ValueError
            `images` has another shape or dtype, has no pixels, or has values that are not finite
            (in float32) where they are read.
        """
        images = _middle(_checked(images))
        side = self.size + 2 * self.padding
        step = max(8, _PRODUCT_SIZE // (self.size * side))
        step = max(1, min(step, _BLOCK_BYTES // (8 * math.prod(images.shape[1:]))))
        descriptors = np.empty((len(images), self.dimension), dtype=np.float32)

        def describe_block(start: int) -> None:
            block = self._resized(images[start : start + step], start)
            descriptors[start : start + step] = self._describe(self._prefiltered(block))

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(describe_block, range(0, len(images), step)))  # raises the first error
        return descriptors

    def _resized(self, images: Array, start: int) -> NDArray[np.float64]:
        """Return images of any shape as grey (size, size, n), strip by strip if they are large.

        `start` is the number of the first image, for error messages.
        """
        height, width = images.shape[1:3]
        if (height, width) == (self.size, self.size):
            _check_finite(images, start)
            return _grey(images)
        side = min(height, width)
        rows, columns = (resampling_matrix(length, side, self.size) for length in (height, width))
        step = max(1, _BLOCK_BYTES * height // (8 * images.size))
        resized = np.zeros((self.size, self.size, len(images)))
        for top in range(0, height, step):
            strip = images[:, top : top + step]
            _check_finite(strip, start)
            resized += apply_both_axes(rows[:, top : top + step], columns, _grey(strip))
        return resized

    def _prefiltered(self, images: NDArray[np.float64]) -> NDArray[np.float32]:
        """Stretch, whiten and normalise the contrast of grey (size, size, n) images."""
        low, high = images.min(axis=(0, 1)), images.max(axis=(0, 1))
        span = high - low
        flat = span <= _FLAT * np.maximum(np.abs(low), np.abs(high))
        stretched = np.where(flat, 0, (images - low) / np.where(flat, 1, span) * 255)
        pad = _PREFILTER_PADDING
        x = np.log1p(stretched.astype(np.float32))
        x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
        x -= apply_both_axes(self._lowpass, self._lowpass, x)
        power = apply_both_axes(self._lowpass, self._lowpass, x * x)
        x /= 0.2 + np.sqrt(np.abs(power))
        return x[pad:-pad, pad:-pad]

    def _describe(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Filter pre-filtered (size, size, n) images and average the responses over blocks."""
        spectrum = apply_both_axes(self._analysis, self._analysis, images)
        grid = (self.blocks, self.size // self.blocks)
        n = images.shape[2]
        means = np.empty((len(self._filters), self.blocks, self.blocks, n), dtype=np.float32)
        parts = spectrum.view(np.float32)  # A real product is faster than a complex one.
        for k, (rows, columns, transfer) in enumerate(self._filters):
            band = (parts[rows, columns] * transfer).view(np.complex64)
            response = apply_both_axes(self._synthesis[:, rows], self._synthesis[:, columns], band)
            magnitude = np.abs(response).reshape(*grid, *grid, n)
            means[k] = magnitude.sum(axis=1).sum(axis=2)
        means *= (self.blocks / self.size) ** 2
        return means.reshape(self.dimension, n).T

    def _mirror(self) -> NDArray[np.intp]:
        """Return the permutation of `mirror`.

        Mirroring turns orientation j of o into (-j) mod o and reverses the block columns.
        """
        index = np.arange(self.dimension).reshape(-1, self.blocks, self.blocks)
        order: list[int] = []
        first = 0
        for o in self.orientations:
            order += [first + (-j) % o for j in range(o)]
            first += o
        return index[order, :, ::-1].ravel()


def _grey(images: Array) -> NDArray[np.float64]:
    """Convert (n, h, w) or (n, h, w, 3) to (h, w, n), which keeps the inner loops long."""
    pixels = np.moveaxis(images, 0, -1).astype(np.float64, order="C")
    return pixels if pixels.ndim == 3 else pixels.sum(axis=2) / 3


def _checked(images: Array) -> Array:
    images = np.asarray(images)
    if images.dtype.kind not in "uif":
        raise ValueError(f"images: expected integers or floats, got dtype {images.dtype}")
    if images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
        raise ValueError(f"images: expected shape (n, h, w) or (n, h, w, 3), got {images.shape}")
    if 0 in images.shape[1:]:
        raise ValueError(f"images: expected at least one pixel, got shape {images.shape}")
    return images


def _middle(images: Array) -> Array:
    """Return the middle of long images, which contains all pixels that resizing uses.

    The cost of resizing grows with the length of a side, of which only the square in the middle is
    described. Other images stay whole, so that their descriptors keep every bit.
    """
    height, width = images.shape[1:3]
    kept = _LONG * min(height, width)
    top, left = max(0, height - kept) // 2, max(0, width - kept) // 2
    return images[:, top : height - top, left : width - left]


def _check_finite(block: Array, start: int) -> None:
    finite = np.abs(block) <= np.finfo(np.float32).max
    bad = ~finite.all(axis=tuple(range(1, block.ndim)))
    if bad.any():
        raise ValueError(
            "images: expected finite values, "
            f"got NaN, infinite or too large ones in image {start + bad.argmax()}"
        )


def _whole_number(name: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return number
