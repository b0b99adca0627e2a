"""Images to GIST descriptors."""

from __future__ import annotations

import math
import operator
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = NDArray[Any]

_PREFILTER_PADDING = 5  # pixels, as in LMgist
_SUPPORT = 1e-4  # a filter is used where it is above this part of its peak
_FLAT = 1e-12  # contrast, relative to the largest value, that is only float64 rounding
_BLOCK_BYTES = 1 << 24  # of a block of images as float64, before they are resized
# OpenBLAS spreads larger products over threads. These wait for each other by spinning, which on a
# busy machine can take a hundred times longer; a thread a block of images is faster and steady.
_PRODUCT = 1 << 16
_THREADS = min(8, os.cpu_count() or 1)  # each holds a block: more would cost memory


class Gist:
    """GIST descriptors of images, as LMgist makes them.

    A GIST descriptor says how much of each orientation and scale there is in each part of an
    image. The image is made grey, brought to ``size``, stretched to [0, 255], its logarithm is
    whitened and normalised to equal local contrast, then filtered by a bank of Gabor filters; the
    magnitude of each response is averaged over a grid of blocks.

    Parameters
    ----------
    size : int
        Side in pixels of the square that is described: even, and a multiple of `blocks`.
    orientations : sequence of int
        Orientations at each scale, from fine to coarse. The filters of scale s peak at
        ``0.3 / 1.85**s`` cycles a pixel.
    blocks : int
        Blocks along a side.
    prefilter : float
        Width of the low-pass filter of the pre-filter, in cycles an image (LMgist's `fc_prefilt`).
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
        If a parameter is out of range.

    Notes
    -----
    Source: A. Oliva and A. Torralba, "Modeling the shape of the scene: a holistic representation
    of the spatial envelope", IJCV 42(3), 2001, and the authors' MATLAB function LMgist.

    Deviations from LMgist:

    - Components are ordered by block row, then column; MATLAB's order is column, then row.
    - A frequency without a sign, that is zero or the horizontal Nyquist frequency, gets the mean
      of a filter and the mirror image of its partner in `mirror`, where LMgist takes one sign.
      That makes `mirror` exact (in LMgist it is off by 0.05 %). Descriptors of photographs change
      by 0.02 % on average, and by less than 0.2 % in the worst of 60,000.
    - Filters are cut off below 1e-4 of their peak, and arithmetic is in float32: together a
      change of 0.0002 %.
    - An image of another shape is cropped to the square in its middle, as LMgist does, but to
      fractions of a pixel. It is resized bilinearly, with the triangle widened when shrinking, in
      floating point; at the borders the weights are renormalised (Pillow's rule), where MATLAB
      reflects the image.
    - A constant image (to 1e-12 of its value) has the zero descriptor; LMgist divides by zero.
    - `size` is even and a multiple of `blocks`; LMgist also takes others, with unequal blocks.
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
        self.size = _whole("size", size, 2)
        self.orientations = tuple(_whole("orientations", o, 1) for o in orientations)
        self.blocks = _whole("blocks", blocks, 1)
        self.prefilter = float(prefilter)
        self.padding = _whole("padding", padding, 0)
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
        self._lowpass = _lowpass(self.size + 2 * _PREFILTER_PADDING, self.prefilter)
        self._analysis, self._synthesis = _dft(self.size, self.padding)
        bank = gabor_bank(self.size + 2 * self.padding, self.orientations)
        self._filters = [_cut(transfer) for transfer in bank]

    def transform(self, images: Array) -> NDArray[np.float32]:
        """Describe images, in blocks, with a thread for each processor but at most eight.

        Parameters
        ----------
        images : ndarray, shape (n, h, w) or (n, h, w, 3)
            Grey or colour images, of integers or floats in any range: a descriptor does not
            change when an image is brightened or its contrast stretched. Grey is the plain mean of
            the channels. Images that are not `size` by `size` are cropped and resized.

        Returns
        -------
        ndarray of float32, shape (n, dimension)
            Non-negative. An image's descriptor does not depend on the other images, up to
            float32 rounding.

        Raises
        ------
        ValueError
            If `images` has another shape or dtype, has no pixels, or has values that are not
            finite (in float32).
        """
        images = _checked(images)
        side = self.size + 2 * self.padding
        step = max(8, _PRODUCT // (self.size * side))
        step = max(1, min(step, _BLOCK_BYTES // (8 * math.prod(images.shape[1:]))))
        descriptors = np.empty((len(images), self.dimension), dtype=np.float32)

        def describe(start: int) -> None:
            block = self._resized(images[start : start + step], start)
            descriptors[start : start + step] = self._describe(self._prefiltered(block))

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(describe, range(0, len(images), step)))  # raises the first error
        return descriptors

    def _resized(self, images: Array, start: int) -> NDArray[np.float64]:
        """Images of any kind as grey (size, size, n), a strip of large ones at a time."""
        height, width = images.shape[1:3]
        if (height, width) == (self.size, self.size):
            _check_finite(images, start)
            return _grey(images)
        side = min(height, width)
        rows, columns = (_resampling(length, side, self.size) for length in (height, width))
        step = max(1, _BLOCK_BYTES * height // (8 * images.size))
        resized = np.zeros((self.size, self.size, len(images)))
        for top in range(0, height, step):
            strip = images[:, top : top + step]
            _check_finite(strip, start)
            resized += _both_axes(rows[:, top : top + step], columns, _grey(strip))
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
        x -= _both_axes(self._lowpass, self._lowpass, x)
        power = _both_axes(self._lowpass, self._lowpass, x * x)
        x /= 0.2 + np.sqrt(np.abs(power))
        return x[pad:-pad, pad:-pad]

    def _describe(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Filter (size, size, n) pre-filtered images and average the responses over blocks."""
        spectrum = _both_axes(self._analysis, self._analysis, images)
        grid = (self.blocks, self.size // self.blocks)
        n = images.shape[2]
        means = np.empty((len(self._filters), self.blocks, self.blocks, n), dtype=np.float32)
        parts = spectrum.view(np.float32)  # a real product is faster than a complex one
        for k, (rows, columns, transfer) in enumerate(self._filters):
            band = (parts[rows, columns] * transfer).view(np.complex64)
            response = _both_axes(self._synthesis[:, rows], self._synthesis[:, columns], band)
            magnitude = np.abs(response).reshape(*grid, *grid, n)
            means[k] = magnitude.sum(axis=1).sum(axis=2)
        means *= (self.blocks / self.size) ** 2
        return means.reshape(self.dimension, n).T

    def _mirror(self) -> NDArray[np.intp]:
        """Mirroring turns orientation j of o into (-j) mod o and reverses the block columns."""
        index = np.arange(self.dimension).reshape(-1, self.blocks, self.blocks)
        order: list[int] = []
        first = 0
        for o in self.orientations:
            order += [first + (-j) % o for j in range(o)]
            first += o
        return index[order, :, ::-1].ravel()


def gabor_bank(n: int, orientations: Sequence[int]) -> NDArray[np.float64]:
    """Transfer functions of LMgist's Gabor filters.

    Parameters
    ----------
    n : int
        Side of the padded image in pixels, even.
    orientations : sequence of int
        Orientations at each scale, from fine to coarse.

    Returns
    -------
    ndarray of float64, shape (sum(orientations), n, n)
        Indexed by filter, vertical and horizontal frequency, each from -n/2 to n/2 - 1 cycles an
        image. Without a sign at zero and at the horizontal Nyquist frequency, see `Gist`.
    """
    f = np.arange(n) - n // 2
    radius = np.hypot(f[:, None], f)
    angle = np.arctan2(f[:, None], f)
    bank = np.empty((sum(orientations), n, n))
    first = 0
    for scale, o in enumerate(orientations):
        radial = -3.5 * (radius / (n * 0.3 / 1.85**scale) - 1) ** 2
        tuning = 2 * math.pi * (o / 8) ** 2
        for j in range(o):
            turned = (angle + math.pi * j / o + math.pi) % (2 * math.pi) - math.pi
            bank[first + j] = np.exp(radial - tuning * turned**2)
        rest = bank[first + 1 : first + o]
        # Filter j is the mirror image of filter o - j, except where a frequency has no sign.
        # Filter 0 mirrored is its own conjugate: the same magnitude of response.
        rest[:] = (rest + rest[::-1, :, -np.arange(n)]) / 2
        first += o
    return bank


def _cut(transfer: NDArray[np.float64]) -> tuple[slice, slice, NDArray[np.float32]]:
    """Cut a filter to the smallest rectangle of frequencies outside of which it is negligible."""
    used = transfer >= _SUPPORT * transfer.max()
    rows, columns = (np.flatnonzero(used.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return *box, transfer[box][..., None].astype(np.float32)


def _dft(size: int, padding: int) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """One axis of padding and DFT, and of inverse DFT and cropping, as matrices.

    Few frequencies and few pixels are wanted, so that matrix products beat the FFT. The first is
    (n, size), the second (size, n), where n = size + 2 * padding; frequencies start at -n/2.
    """
    n = size + 2 * padding
    wave = np.exp(2j * math.pi / n * np.outer(np.arange(n) - padding, np.arange(n) - n // 2))
    padded = np.pad(np.eye(size), ((padding, padding), (0, 0)), mode="symmetric")
    analysis = wave.conj().T @ padded
    synthesis = wave[padding : padding + size] / n
    return analysis.astype(np.complex64), synthesis.astype(np.complex64)


def _lowpass(n: int, cutoff: float) -> NDArray[np.float32]:
    """One axis of the pre-filter's circular Gaussian low-pass as an (n, n) matrix."""
    gain = np.exp2(-((np.fft.fftfreq(n, 1 / n) / cutoff) ** 2))
    return np.fft.ifft(gain[:, None] * np.fft.fft(np.eye(n), axis=0), axis=0).real.astype(
        np.float32
    )


def _resampling(length: int, side: int, size: int) -> NDArray[np.float64]:
    """One axis of cropping the middle `side` of `length` pixels and resizing it to `size`."""
    scale = side / size
    centres = (length - side) / 2 + (np.arange(size) + 0.5) * scale
    distance = np.abs(np.arange(length) + 0.5 - centres[:, None])
    weights = np.maximum(0, 1 - distance / max(scale, 1))
    resampling: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return resampling


def _both_axes(rows: Array, columns: Array, stack: Array) -> Array:
    """Multiply a (h, w, n) stack of images by (r, h) and (c, w) matrices, to (r, c, n)."""
    half = rows @ stack.swapaxes(0, 1)
    product: Array = columns @ half.swapaxes(0, 1)
    return product


def _grey(images: Array) -> NDArray[np.float64]:
    """(n, h, w) or (n, h, w, 3) to (h, w, n), which keeps the inner loops long."""
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


def _check_finite(block: Array, start: int) -> None:
    finite = np.abs(block) <= np.finfo(np.float32).max
    bad = ~finite.all(axis=tuple(range(1, block.ndim)))
    if bad.any():
        raise ValueError(
            "images: expected finite values, "
            f"got NaN, infinite or too large ones in image {start + bad.argmax()}"
        )


def _whole(name: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return number
