"""GIST descriptors, against LMgist's definition written out."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hashing.gist import Gist, gabor_bank

Array = NDArray[Any]


def smooth(n: int, h: int, w: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Return random images in [0, 255] with a falling spectrum, like that of photographs."""
    fy, fx = np.fft.fftfreq(h, 1 / h)[:, None], np.fft.fftfreq(w, 1 / w)
    noise = np.random.default_rng(seed).standard_normal((n, h, w))
    images = np.fft.ifft2(np.fft.fft2(noise) / np.maximum(1, np.hypot(fy, fx))).real
    images -= images.min(axis=(1, 2), keepdims=True)
    result: NDArray[np.float64] = images * (255 / images.max(axis=(1, 2), keepdims=True))
    return result


@pytest.fixture(scope="module")
def photos() -> NDArray[np.uint8]:
    """Return colour images, read-only."""
    images = np.stack([smooth(6, 32, 32, seed=s) for s in (1, 2, 3)], axis=-1).astype(np.uint8)
    images.flags.writeable = False
    return images


@pytest.fixture(scope="module")
def gist() -> Gist:
    return Gist()


def gabor(fx: Array, fy: Array, n: int, scale: int, o: int, j: int) -> Array:
    """Return a transfer function of LMgist at frequencies in cycles per image."""
    turned = np.angle(fx + 1j * fy) + np.pi * j / o
    turned = turned - 2 * np.pi * (turned > np.pi) + 2 * np.pi * (turned < -np.pi)
    peak = 0.3 / 1.85**scale
    tuning = 16 * o**2 / 32**2
    exponent = 10 * 0.35 * (np.hypot(fx, fy) / n / peak - 1) ** 2 + 2 * tuning * np.pi * turned**2
    result: Array = np.exp(-exponent)
    return result


def signless(fx: Array, fy: Array, n: int, scale: int, o: int, j: int) -> Array:
    """Return `gabor`, or its mean over both signs for a frequency without a sign."""
    one = gabor(fx, fy, n, scale, o, j)
    if j == 0:
        return one
    # -0.0 + 0j has the angle pi, which is the other sign of the zero frequency.
    zero = (fx == 0) & (fy == 0)
    other = gabor(np.where(zero, -0.0, np.where(fx == -n / 2, n / 2, fx)), fy, n, scale, o, j)
    at_pi = gabor(np.array(-1e-12), np.array(0.0), n, scale, o, j)
    result: Array = (one + np.where(zero, at_pi, other)) / 2
    return result


def slow_gist(image: Array, parameters: dict[str, Any], transfer: Any = signless) -> Array:
    """Compute the definition step by step, for one grey image of the right size."""
    orientations = parameters.get("orientations", (8, 8, 8))
    blocks = parameters.get("blocks", 4)
    pad = parameters.get("padding", 32)
    size = len(image)
    x = image.astype(np.float64)
    x = x - x.min()
    x = np.log(255 * x / x.max() + 1)
    x = np.pad(x, 5, mode="symmetric")
    f = np.fft.fftfreq(len(x), 1 / len(x))
    s = parameters.get("prefilter", 4.0) / np.sqrt(np.log(2))
    lowpass = np.exp(-(f[:, None] ** 2 + f**2) / s**2)
    x = x - np.fft.ifft2(np.fft.fft2(x) * lowpass).real
    x = x / (0.2 + np.sqrt(np.abs(np.fft.ifft2(np.fft.fft2(x**2) * lowpass))))
    x = np.pad(x[5:-5, 5:-5], pad, mode="symmetric")
    n = len(x)
    f = np.fft.fftfreq(n, 1 / n)
    fx, fy = np.meshgrid(f, f)
    side = size // blocks
    values = []
    for scale, o in enumerate(orientations):
        for j in range(o):
            response = np.fft.ifft2(np.fft.fft2(x) * transfer(fx, fy, n, scale, o, j))
            magnitude = np.abs(response)[pad : pad + size, pad : pad + size]
            values += [
                magnitude[r * side : (r + 1) * side, c * side : (c + 1) * side].mean()
                for r in range(blocks)
                for c in range(blocks)
            ]
    return np.array(values)


def relative_error(actual: Array, expected: Array) -> Array:
    """Return the relative error of each descriptor."""
    error: Array = np.linalg.norm(actual - expected, axis=1) / np.linalg.norm(expected, axis=1)
    return error


PARAMETERS: list[dict[str, Any]] = [
    {},
    {"orientations": (8, 8, 4)},
    {"orientations": (5,), "blocks": 2},
    {"orientations": (1, 2, 3), "blocks": 1},
    {"size": 24, "blocks": 3, "padding": 7},
    {"size": 16, "padding": 0},
    {"size": 64, "blocks": 8, "orientations": (4, 6), "padding": 10},
    {"prefilter": 1.5},
]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_transform_agrees_with_the_definition(parameters: dict[str, Any]) -> None:
    size = parameters.get("size", 32)
    images = smooth(5, size, size)
    expected = np.stack([slow_gist(image, parameters) for image in images])
    actual = Gist(**parameters).transform(images)
    assert actual.shape == expected.shape
    assert relative_error(actual, expected).max() < 2e-5


def test_it_differs_from_lmgist_by_less_than_a_thousandth(gist: Gist) -> None:
    images = smooth(20, 32, 32)
    expected = np.stack([slow_gist(image, {}, gabor) for image in images])
    assert 1e-5 < relative_error(gist.transform(images), expected).mean() < 1e-3


@pytest.mark.parametrize("n", [8, 96])
def test_the_bank_agrees_with_the_definition(n: int) -> None:
    f = np.arange(-n // 2, n // 2, dtype=np.float64)
    fx, fy = np.meshgrid(f, f)
    orientations = (8, 3, 1)
    expected = [
        signless(fx, fy, n, scale, o, j) for scale, o in enumerate(orientations) for j in range(o)
    ]
    np.testing.assert_allclose(gabor_bank(n, orientations), expected, rtol=1e-9, atol=1e-12)


def test_the_result_is_float32_finite_and_repeatable(gist: Gist, photos: Array) -> None:
    first = gist.transform(photos)
    assert first.dtype == np.float32
    assert first.shape == (len(photos), gist.dimension) == (6, 384)
    assert np.isfinite(first).all()
    assert (first > 0).all()
    np.testing.assert_array_equal(gist.transform(photos), first)


def test_the_layout_is_scale_orientation_row_column(gist: Gist) -> None:
    y, x = np.mgrid[:32, :32]
    waves = np.stack([x, y, x - y, x + y]) * np.array([1, 1, 0.7, 0.7])[:, None, None]
    fine, coarse = np.sin(2 * np.pi * 0.3 * waves), np.sin(2 * np.pi * 0.09 * waves)
    # A wave along x has its peak at orientation 0, one along y at 4 of 8, the others between.
    for scale, images in ((0, fine), (2, coarse)):
        energy = gist.transform(images).reshape(4, 3, 8, 16).sum(axis=3)
        strongest = [divmod(int(e.argmax()), 8) for e in energy]
        assert strongest == [(scale, 0), (scale, 4), (scale, 2), (scale, 6)]
    spot = np.zeros((1, 32, 32))
    spot[0, 10, 30] = 1
    block = gist.transform(spot).reshape(24, 16)[:8].sum(axis=0).argmax()
    assert divmod(int(block), 4) == (1, 3)


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_mirroring_permutes_the_descriptor(parameters: dict[str, Any]) -> None:
    gist = Gist(**parameters)
    # White noise has much energy at the Nyquist frequency, where a wrong sign would show.
    images = np.random.default_rng(0).integers(0, 256, (8, gist.size, gist.size), dtype=np.uint8)
    original = gist.transform(images)
    mirrored = gist.transform(images[:, :, ::-1])
    assert gist.mirror.dtype == np.intp
    assert relative_error(mirrored, original[:, gist.mirror]).max() < 2e-5
    if gist.dimension > 1 and gist.blocks > 1:
        assert relative_error(mirrored, original).min() > 1e-2


def test_the_mirror_is_its_own_inverse(gist: Gist) -> None:
    np.testing.assert_array_equal(gist.mirror[gist.mirror], np.arange(gist.dimension))
    # Orientation 1 becomes 7, and column 0 becomes column 3 of the same row.
    expected = np.ravel_multi_index((1, 7, 2, 3), (3, 8, 4, 4))
    assert gist.mirror[np.ravel_multi_index((1, 1, 2, 0), (3, 8, 4, 4))] == expected


@pytest.mark.parametrize("shape", [(8, 8), (40, 33), (33, 40), (101, 64)])
def test_mirroring_commutes_with_resizing(gist: Gist, shape: tuple[int, int]) -> None:
    images = smooth(3, *shape)
    expected = gist.transform(images)[:, gist.mirror]
    assert relative_error(gist.transform(images[:, :, ::-1]), expected).max() < 2e-5


def test_grey_is_the_mean_of_the_channels(gist: Gist, photos: Array) -> None:
    expected = gist.transform(photos.mean(axis=-1))
    np.testing.assert_allclose(gist.transform(photos), expected, rtol=1e-4, atol=1e-6)
    red = photos[..., 0]
    np.testing.assert_allclose(
        gist.transform(np.stack([red, red, red], axis=-1)), gist.transform(red), rtol=1e-4
    )


@pytest.mark.parametrize(
    "shape",
    [(8, 8), (16, 16), (31, 47), (64, 64), (90, 71), (20, 100), (1, 900), (3, 1001), (2000, 7)],
)
def test_resizing_is_a_bilinear_resize_of_the_middle_square(
    gist: Gist, shape: tuple[int, int]
) -> None:
    images = smooth(3, *shape).astype(np.float32)
    height, width = shape
    side = min(shape)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    resized = [
        np.asarray(Image.fromarray(i).resize((32, 32), Image.Resampling.BILINEAR, box=box))
        for i in images
    ]
    expected = gist.transform(np.stack(resized))
    assert relative_error(gist.transform(images), expected).max() < 1e-4


def test_a_long_image_costs_as_much_as_its_middle(gist: Gist) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 2, 1_000_000), dtype=np.uint8)
    tracemalloc.start()
    try:
        found = gist.transform(images)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5e6  # A matrix over the whole length takes 256 MB.
    np.testing.assert_array_equal(found, gist.transform(images[:, :, 499_992:500_008]))


@pytest.mark.parametrize("shape", [(480, 640, 3), (97, 776), (1000, 130, 3)])
def test_other_images_keep_every_bit(
    gist: Gist, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    found = gist.transform(images)
    monkeypatch.setattr("hashing.gist.descriptor._LONG", 1000)  # Nothing is cut out.
    np.testing.assert_array_equal(found, gist.transform(images))


def test_brightness_and_contrast_do_not_matter(gist: Gist) -> None:
    images = smooth(4, 32, 32)
    expected = gist.transform(images)
    for scale, offset in ((1 / 255, 0), (0.3, 60), (1e4, -1e6), (1e-300, 0)):
        np.testing.assert_allclose(
            gist.transform(images * scale + offset), expected, rtol=1e-4, atol=1e-6
        )
    # Because of the logarithm, a negative is a different image.
    assert relative_error(gist.transform(255 - images), expected).min() > 0.01


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 255.0, 1e30])
@pytest.mark.parametrize("shape", [(2, 32, 32), (2, 9, 13), (2, 50, 40, 3)])
def test_a_constant_image_has_the_zero_descriptor(
    gist: Gist, value: float, shape: tuple[int, ...]
) -> None:
    images = np.full(shape, value)
    images[1, 4, 4] += abs(value) / 2 + 1
    descriptors = gist.transform(images)
    assert not descriptors[0].any()
    assert descriptors[1].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float64])
def test_dtype_does_not_matter(gist: Gist, photos: Array, dtype: type[Any]) -> None:
    np.testing.assert_allclose(
        gist.transform(photos.astype(dtype)), gist.transform(photos), rtol=1e-4, atol=1e-6
    )


def test_a_descriptor_does_not_depend_on_the_other_images(gist: Gist) -> None:
    images = smooth(150, 32, 32)  # more than two blocks
    expected = np.concatenate([gist.transform(image[None]) for image in images])
    np.testing.assert_allclose(gist.transform(images), expected, rtol=1e-4, atol=1e-6)


def test_the_block_size_bounds_the_memory(gist: Gist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hashing.gist.descriptor._THREADS", 2)
    images = np.random.default_rng(0).integers(0, 256, (1000, 32, 32), dtype=np.uint8)
    tracemalloc.start()
    try:
        gist.transform(images)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6  # the spectra of all images would take 74 MB


@pytest.mark.parametrize("shape", [(0, 32, 32), (0, 8, 9, 3)])
def test_no_images_give_no_descriptors(gist: Gist, shape: tuple[int, ...]) -> None:
    assert gist.transform(np.zeros(shape, np.uint8)).shape == (0, 384)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((32, 32)), r"\(n, h, w\) or \(n, h, w, 3\), got \(32, 32\)"),
        (np.zeros((1, 32, 32, 4)), r"got \(1, 32, 32, 4\)"),
        (np.zeros((1, 32, 32, 1)), r"got \(1, 32, 32, 1\)"),
        (np.zeros((1, 2, 32, 32, 3)), r"got \(1, 2, 32, 32, 3\)"),
        (np.zeros((1, 0, 32)), "at least one pixel"),
        (np.zeros((0, 32, 0, 3)), "at least one pixel"),
        (np.zeros((1, 32, 32), bool), "integers or floats, got dtype bool"),
        (np.zeros((1, 32, 32), object), "got dtype object"),
        (np.zeros((1, 32, 32), complex), "got dtype complex128"),
        (np.full((1, 32, 32), "a"), "got dtype <U1"),
    ],
)
def test_invalid_images_are_refused(gist: Gist, images: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gist.transform(images)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_values_that_are_not_finite_are_refused(gist: Gist, value: float) -> None:
    images = np.zeros((100, 32, 32, 3))
    images[70, 3, 4, 1] = value
    with pytest.raises(ValueError, match=r"finite values, got .* in image 70"):
        gist.transform(images)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"size": 0}, "size: expected a whole number of at least 2, got 0"),
        ({"size": 32.0}, "size: expected a whole number"),
        ({"size": True}, "size: expected a whole number"),
        ({"size": 30}, "size: expected an even multiple of blocks = 4, got 30"),
        ({"size": 33, "blocks": 3}, "even multiple of blocks = 3, got 33"),
        ({"orientations": ()}, "orientations: expected at least one scale"),
        ({"orientations": (8, 0)}, "orientations: expected a whole number of at least 1, got 0"),
        ({"orientations": (8, 2.5)}, "orientations: expected a whole number"),
        ({"blocks": 0}, "blocks: expected a whole number of at least 1, got 0"),
        ({"padding": -1}, "padding: expected a whole number of at least 0, got -1"),
        ({"prefilter": 0.0}, "prefilter: expected a positive number, got 0"),
        ({"prefilter": float("nan")}, "prefilter: expected a positive number, got nan"),
        ({"prefilter": float("inf")}, "prefilter: expected a positive number, got inf"),
    ],
)
def test_invalid_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Gist(**parameters)


@pytest.mark.may_skip_in_ci
def test_it_agrees_with_independent_descriptors_of_cifar10(gist: Gist) -> None:
    table, archive = (os.environ.get(f"CIFAR10_{n}") for n in ("NPZ", "IMAGES"))
    if not table or not archive:
        pytest.skip("CIFAR10_NPZ and CIFAR10_IMAGES are not both set")
    with np.load(table) as data:
        expected, ids = data["descriptors"][:500].astype(np.float64), data["ids"][:500].tolist()
    images = {}
    with tarfile.open(archive) as files:
        wanted = set(ids)
        for member in files:
            if member.name in wanted and (file := files.extractfile(member)):
                images[member.name] = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
    actual = gist.transform(np.stack([images[i] for i in ids]))
    assert relative_error(actual, expected).mean() < 0.01
