"""How fast GIST descriptors are made, against the obvious way on the same images."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from hashing.gist import Gist, gabor_bank

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_REPEATS = 3
_TOLERANCE = 1e-4  # largest relative error of a descriptor


def measure(n: int = 1000) -> dict[str, float]:
    """Compare `Gist.transform` with one complex inverse FFT per filter and image.

    Parameters
    ----------
    n : int
        Number of images (32 x 32, colour, uint8: smooth noise, the same in each run). The naive
        way gets a fifth of them, since its speed does not depend on their number.

    Returns
    -------
    dict of str to float
        ``naive_images_per_s`` and ``gist_images_per_s``, each the best of three, the repeats of
        both interleaved; ``ratio``, the second over the first.

    Raises
    ------
    RuntimeError
        If the two ways disagree.
    """
    images = _smooth_images(n)
    few = images[: max(1, n // 5)]
    gist = Gist()
    bank = np.fft.ifftshift(gabor_bank(96, (8, 8, 8)), axes=(1, 2))
    naive_seconds, gist_seconds = [], []
    for _ in range(_REPEATS):
        seconds, expected = _timed(lambda: np.stack([_naive(image, bank) for image in few]))
        naive_seconds.append(seconds / len(few))
        seconds, descriptors = _timed(lambda: gist.transform(images))
        gist_seconds.append(seconds / n)
    error = np.linalg.norm(descriptors[: len(few)] - expected, axis=1)
    worst = float((error / np.linalg.norm(expected, axis=1)).max())
    if not worst < _TOLERANCE:
        raise RuntimeError(f"expected a relative error under {_TOLERANCE}, got {worst}")
    naive, fast = 1 / min(naive_seconds), 1 / min(gist_seconds)
    return {"naive_images_per_s": naive, "gist_images_per_s": fast, "ratio": fast / naive}


def _timed(work: Callable[[], NDArray[Any]]) -> tuple[float, NDArray[Any]]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def _smooth_images(n: int) -> NDArray[np.uint8]:
    """White noise with its spectrum divided by frequency, as that of photographs falls."""
    noise = np.random.default_rng(0).standard_normal((n, 32, 32, 3))
    f = np.fft.fftfreq(32, 1 / 32)
    fall = 1 / np.maximum(1, np.hypot(f[:, None], f))[..., None]
    smooth = np.fft.ifft2(np.fft.fft2(noise, axes=(1, 2)) * fall, axes=(1, 2)).real
    smooth -= smooth.min(axis=(1, 2, 3), keepdims=True)
    smooth *= 255 / smooth.max(axis=(1, 2, 3), keepdims=True)
    return smooth.astype(np.uint8)


def _naive(image: NDArray[np.uint8], bank: NDArray[np.float64]) -> NDArray[np.float64]:
    """Follow the definition in plain numpy: float64, one image, an inverse FFT per filter."""
    f = np.fft.fftfreq(42, 1 / 42)
    lowpass = np.exp2(-(f[:, None] ** 2 + f**2) / 4.0**2)
    x = image.mean(axis=2)
    x = (x - x.min()) * 255 / (x.max() - x.min())
    x = np.pad(np.log(x + 1), 5, mode="symmetric")
    x -= np.fft.ifft2(np.fft.fft2(x) * lowpass).real
    x /= 0.2 + np.sqrt(np.abs(np.fft.ifft2(np.fft.fft2(x**2) * lowpass)))
    spectrum = np.fft.fft2(np.pad(x[5:-5, 5:-5], 32, mode="symmetric"))
    means = []
    for transfer in bank:
        magnitude = np.abs(np.fft.ifft2(spectrum * transfer))[32:64, 32:64]
        means.append(magnitude.reshape(4, 8, 4, 8).mean(axis=(1, 3)).ravel())
    return np.concatenate(means)


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:20} {value:10.1f}")
