"""The speed of GIST, against a direct implementation on the same images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.measuring import in_turn
from hashing.gist import Gist, gabor_bank

_ROUNDS = 3
_TOLERANCE = 1e-4  # Largest relative error of a descriptor.


def measure(n: int = 1000) -> dict[str, float]:
    """Compare `Gist.transform` with one complex inverse FFT per filter and image.

    Parameters
    ----------
    n : int
        Number of images: 32 x 32, RGB, uint8, smooth noise from a fixed seed. The direct way gets
        a fifth of them, since its speed does not depend on their number.

    Returns
    -------
    dict of str to float
        ``direct_images_per_s`` and ``gist_images_per_s``, each the best of three rounds, taken in
        turn; ``ratio``, the second over the first.

    Raises
    ------
    RuntimeError
        The two ways disagree.
    """
    images = _smooth_images(n)
    few = images[: max(1, n // 5)]
    gist = Gist()
    bank = np.fft.ifftshift(gabor_bank(96, (8, 8, 8)), axes=(1, 2))

    def direct() -> NDArray[np.float64]:
        return np.stack([_direct(image, bank) for image in few])

    expected = direct()
    error = np.linalg.norm(gist.transform(few) - expected, axis=1)
    largest = float((error / np.linalg.norm(expected, axis=1)).max())
    if not largest < _TOLERANCE:
        raise RuntimeError(f"expected a relative error under {_TOLERANCE}, got {largest}")
    times = in_turn([lambda _: direct(), lambda _: gist.transform(images)], _ROUNDS, warm_up=0)
    direct_seconds, gist_seconds = times.min(axis=0).tolist()
    direct_rate, gist_rate = len(few) / direct_seconds, n / gist_seconds
    return {
        "direct_images_per_s": direct_rate,
        "gist_images_per_s": gist_rate,
        "ratio": gist_rate / direct_rate,
    }


def _smooth_images(n: int) -> NDArray[np.uint8]:
    """White noise with its spectrum divided by frequency, like the spectrum of photographs."""
    noise = np.random.default_rng(0).standard_normal((n, 32, 32, 3))
    f = np.fft.fftfreq(32, 1 / 32)
    fall = 1 / np.maximum(1, np.hypot(f[:, None], f))[..., None]
    smooth = np.fft.ifft2(np.fft.fft2(noise, axes=(1, 2)) * fall, axes=(1, 2)).real
    smooth -= smooth.min(axis=(1, 2, 3), keepdims=True)
    smooth *= 255 / smooth.max(axis=(1, 2, 3), keepdims=True)
    return smooth.astype(np.uint8)


def _direct(image: NDArray[np.uint8], bank: NDArray[np.float64]) -> NDArray[np.float64]:
    """GIST of one image, from its definition: in float64, one inverse FFT per filter."""
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
