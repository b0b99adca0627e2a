"""Patch features: mirror images, determinism, and that they tell textures and colours apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.datasets.patch_features.dictionary import flip, image_patches, quadrants
from app.datasets.patch_features.features import PatchFeatures

SMALL: dict[str, Any] = {"words": (12, 8), "n_features": 10}


def textures(n: int) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Return stripes along three directions, at random phases, in two colours, and their kind."""
    rng = np.random.default_rng(0)
    kind = np.arange(n) % 6
    y, x = np.mgrid[:32, :32]
    angles = np.array([0.0, np.pi / 2, np.pi / 4])[kind % 3]
    phase = rng.uniform(0, 2 * np.pi, n)
    along = x * np.cos(angles)[:, None, None] + y * np.sin(angles)[:, None, None]
    wave = np.sin(along + phase[:, None, None])
    colour = np.where((kind < 3)[:, None], [1.0, 0.2, 0.2], [0.2, 0.2, 1.0])
    images = 128 + 60 * wave[..., None] * colour[:, None, None] + rng.normal(0, 20, (n, 32, 32, 3))
    return images.clip(0, 255).astype(np.uint8), kind


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return textures(120)[0]


@pytest.fixture(scope="module")
def features(images: NDArray[np.uint8]) -> PatchFeatures:
    return PatchFeatures(**SMALL).fit(images)


def test_the_features_of_mirror_images_are_a_permutation(
    features: PatchFeatures, images: NDArray[np.uint8]
) -> None:
    straight = features.transform(images[:20]).astype(float)
    mirrored = features.transform(images[:20, :, ::-1]).astype(float)
    np.testing.assert_allclose(mirrored, straight[:, features.mirror], atol=5e-3)
    assert np.abs(mirrored - straight).max() > 0.1
    np.testing.assert_array_equal(features.mirror[features.mirror], np.arange(10))


def test_textures_and_colours_are_told_apart(features: PatchFeatures) -> None:
    images, kind = textures(120)
    F = features.transform(images).astype(float)
    distances = ((F[:, None] - F) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (kind[distances.argmin(axis=1)] == kind).mean() > 0.95


def test_the_same_seed_gives_the_same_features_and_a_file_keeps_them(
    features: PatchFeatures, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    expected = features.transform(images)
    assert expected.dtype == np.float16
    again = PatchFeatures(**SMALL).fit(images)
    np.testing.assert_array_equal(again.transform(images), expected)
    parts = [features.transform(images[i : i + 30]) for i in range(0, 120, 30)]
    np.testing.assert_allclose(np.concatenate(parts).astype(float), expected, atol=5e-3)
    features.save(tmp_path / "f.npz")
    loaded = PatchFeatures(**SMALL).load(tmp_path / "f.npz")
    np.testing.assert_array_equal(loaded.transform(images), expected)
    np.testing.assert_array_equal(loaded.mirror, features.mirror)


def test_the_progress_is_reported_and_ends_complete(images: NDArray[np.uint8]) -> None:
    reports: list[tuple[str, int, int]] = []
    PatchFeatures(**SMALL).fit(images[:30], lambda *report: reports.append(report))
    assert reports[0] == ("learning patches", 0, 2)
    assert reports[-1] == ("learning components", 30, 30)


def test_patches_are_normalised_and_mirrored_as_the_images_are() -> None:
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    patches = image_patches(x, 2)
    assert patches.shape == (2, 14, 14, 108)
    patch = x[1, 4:10, 6:12].transpose(2, 0, 1).ravel()
    expected = (patch - patch.mean()) / np.sqrt(patch.var() + 10)
    np.testing.assert_allclose(patches[1, 2, 3], expected, atol=1e-5)
    mirrored = image_patches(x[:, :, ::-1], 2)
    np.testing.assert_array_equal(flip(mirrored[1, 2, 10][None])[0], patches[1, 2, 3])


def test_quadrants_average_their_places_and_leave_the_middle_of_an_odd_side_out() -> None:
    weights = quadrants(5).reshape(4, 5, 5)
    np.testing.assert_allclose(weights.sum(axis=(1, 2)), 1)
    assert (weights[:, 2] == 0).all()
    assert (weights[:, :, 2] == 0).all()
    np.testing.assert_array_equal(weights[1, 3:, :2], np.full((2, 2), 0.25))  # bottom left
    np.testing.assert_array_equal(weights[2], weights[0, :, ::-1])


def test_no_more_features_are_kept_than_asked_for_where_variances_are_zero() -> None:
    images = textures(12)[0]
    features = PatchFeatures(words=(24, 16), n_features=40).fit(images)
    assert features.transform(images).shape == (12, 40)
    assert sorted(features.mirror) == list(range(40))
