"""The linear operators of GIST: filters, Fourier transforms and resizing, as matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_SUPPORT = 1e-4
"""A filter is used at the frequencies where it is above this share of its peak."""


def gabor_bank(n: int, orientations: Sequence[int]) -> NDArray[np.float64]:
    """Return the transfer functions of LMgist's Gabor filters.

    Parameters
    ----------
    n : int
        Side of the padded image in pixels, even.
    orientations : sequence of int
        Number of orientations at each scale, from fine to coarse.

    Returns
    -------
    ndarray of float64, shape (sum(orientations), n, n)
        Indexed by filter, vertical and horizontal frequency; frequencies go from -n/2 to n/2 - 1
        cycles per image. At zero and at the horizontal Nyquist frequency, which have no sign, the
        values deviate from LMgist as `Gist` describes.
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
        # Filter 0 mirrored is its own conjugate: the magnitude of its response is the same.
        rest[:] = (rest + rest[::-1, :, -np.arange(n)]) / 2
        first += o
    return bank


def crop_filter(transfer: NDArray[np.float64]) -> tuple[slice, slice, NDArray[np.float32]]:
    """Crop a filter to the smallest rectangle of frequencies outside of which it is negligible.

    Returns
    -------
    rows, columns : slice
        The rectangle.
    ndarray of float32, shape (rows, columns, 1)
        The filter inside it.
    """
    used = transfer >= _SUPPORT * transfer.max()
    rows, columns = (np.flatnonzero(used.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return *box, transfer[box][..., None].astype(np.float32)


def dft_matrices(size: int, padding: int) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Return, for one axis, padding with DFT and inverse DFT with cropping, as matrices.

    Only a few frequencies and pixels are needed, so matrix products are faster than the FFT. The
    first matrix is (n, size), the second (size, n), with n = size + 2 * padding; frequencies start
    at -n/2.
    """
    n = size + 2 * padding
    wave = np.exp(2j * math.pi / n * np.outer(np.arange(n) - padding, np.arange(n) - n // 2))
    padded = np.pad(np.eye(size), ((padding, padding), (0, 0)), mode="symmetric")
    analysis = wave.conj().T @ padded
    synthesis = wave[padding : padding + size] / n
    return analysis.astype(np.complex64), synthesis.astype(np.complex64)


def lowpass_matrix(n: int, cutoff: float) -> NDArray[np.float32]:
    """Return one axis of the pre-filter's circular Gaussian low-pass as an (n, n) matrix."""
    gain = np.exp2(-((np.fft.fftfreq(n, 1 / n) / cutoff) ** 2))
    return np.fft.ifft(gain[:, None] * np.fft.fft(np.eye(n), axis=0), axis=0).real.astype(
        np.float32
    )


def resampling_matrix(length: int, side: int, size: int) -> NDArray[np.float64]:
    """Return one axis of cropping `length` pixels to their middle `side`, resized to `size`."""
    scale = side / size
    centres = (length - side) / 2 + (np.arange(size) + 0.5) * scale
    distance = np.abs(np.arange(length) + 0.5 - centres[:, None])
    weights = np.maximum(0, 1 - distance / max(scale, 1))
    resampling: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return resampling


def apply_both_axes(rows: Array, columns: Array, stack: Array) -> Array:
    """Multiply a (h, w, n) stack of images by (r, h) and (c, w) matrices, to (r, c, n)."""
    half = rows @ stack.swapaxes(0, 1)
    product: Array = columns @ half.swapaxes(0, 1)
    return product
