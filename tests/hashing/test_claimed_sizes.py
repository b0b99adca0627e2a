"""Sizes that an encoder file claims, against its arrays and against memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hashing import HASHERS, BadEncoder, Hasher, make_hasher
from hashing.registry import from_bytes
from hashing.shapes import UpTo
from hashing.storage import EncoderFile
from tests.methods import quick

N_FEATURES, N_BITS, N_ANCHORS = 20, 6, 12
HUGE = 2**27
PEAK = 200_000  # bytes; one float32 vector of HUGE numbers takes 512 MiB

WITH_ANCHORS = {"agh", "ksh", "sdh"}
TWO_LAYERS = {"random-net-2", "siamese-2", "net-2"}


@pytest.fixture(scope="module", params=HASHERS)
def hasher(request: pytest.FixtureRequest, X: NDArray[Any], y: NDArray[Any]) -> Hasher:
    method = request.param
    params = quick(method)
    if method in WITH_ANCHORS:
        params = params | {"n_anchors": N_ANCHORS}
    if method in TWO_LAYERS:
        params = params | {"hidden": 9}
    return make_hasher(method, n_bits=N_BITS, **params).fit(X[:200, :N_FEATURES], y[:200])


def contents(hasher: Hasher) -> EncoderFile:
    return EncoderFile.from_bytes(hasher.to_bytes())


def with_params(file: EncoderFile, **params: Any) -> EncoderFile:
    return replace(file, params=file.params | params)


def load_with_little_memory(file: EncoderFile) -> Hasher:
    """Load a file; fail if that takes more memory than its arrays account for."""
    data = file.to_bytes()
    tracemalloc.start()
    try:
        return from_bytes(data)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < PEAK + 10 * len(data)


def contradictions(file: EncoderFile) -> list[EncoderFile]:
    """Files whose header contradicts their arrays."""
    changed = [with_params(file, n_bits=n_bits) for n_bits in (1, N_BITS - 1, N_BITS + 1, 4096)]
    if file.method == "ssh":
        # Its arrays do not depend on the dimension, but name dimensions.
        changed.append(replace(file, n_features=int(file.arrays["features_"].max())))
    elif file.method == "sign":
        changed.append(replace(file, n_features=N_BITS - 1))
    else:
        changed += [replace(file, n_features=n) for n in (1, N_FEATURES + 1, HUGE)]
    if file.method in WITH_ANCHORS:
        changed.append(with_params(file, n_anchors=N_ANCHORS // 2))
    if file.method in TWO_LAYERS:
        changed += [with_params(file, hidden=hidden) for hidden in (1, 8192)]
    if file.method == "agh":
        changed.append(with_params(file, layers=1))
    if file.method in {"net-1", "net-2"}:
        changed.append(with_params(file, mirror=list(range(N_FEATURES - 1))))
        changed.append(with_params(file, power=0.25))
    return changed


def test_a_header_that_contradicts_the_arrays_is_refused_without_allocating(
    hasher: Hasher,
) -> None:
    file = contents(hasher)
    assert load_with_little_memory(file).fingerprint == hasher.fingerprint
    for contradiction in contradictions(file):
        with pytest.raises(BadEncoder):
            load_with_little_memory(contradiction)


def test_each_array_of_another_shape_is_refused(hasher: Hasher) -> None:
    file = contents(hasher)
    for name, array in file.arrays.items():
        shapes = [array[None], np.concatenate([array, array]), array[:0]]
        if array.ndim == 2:
            shapes += [array.T, array.ravel(), array[:, :0], np.concatenate([array, array], 1)]
        for other in shapes:
            if other.shape == array.shape:
                continue
            with pytest.raises(BadEncoder, match=r"_ must have shape .* got"):
                load_with_little_memory(replace(file, arrays=file.arrays | {name: other}))


def test_claims_that_the_arrays_allow_take_no_memory_either(hasher: Hasher) -> None:
    file = contents(hasher)
    if file.method in {"ssh", "sign"}:
        assert load_with_little_memory(replace(file, n_features=2**31)).n_features_in_ == 2**31
    if file.method in WITH_ANCHORS:
        load_with_little_memory(with_params(file, n_anchors=8000))


def test_the_number_of_learned_values_is_known_before_the_fit(
    hasher: Hasher, X: NDArray[Any], y: NDArray[Any]
) -> None:
    arrays = [a for a in vars(hasher).values() if isinstance(a, np.ndarray)]
    assert hasher.n_learned == sum(array.size for array in arrays)
    expected = make_hasher(hasher.method, **hasher.get_params()).learned_values(N_FEATURES)
    if hasher.method == "agh":  # k-means may leave fewer anchors
        assert hasher.n_learned <= expected
    else:
        assert hasher.n_learned == expected
    if hasher.method in WITH_ANCHORS:
        few = make_hasher(hasher.method, n_bits=N_BITS, n_anchors=5000)
        few.fit(X[:40, :N_FEATURES], y[:40])
        assert few.n_learned < few.learned_values(N_FEATURES)


def test_kernel_methods_count_their_anchors() -> None:
    assert make_hasher("ksh", n_bits=16, n_anchors=10_000).learned_values(16_384) == 164_000_017


NO_FIT_GIVES = [
    ("width_", [0.0], "width_ must be above 0, got 0"),
    ("width_", [-1.0], "width_ must be above 0, got -1"),
    ("power_", [-0.5], "power_ must be from 0 to 1, got -0.5"),
    ("power_", [1.5], "power_ must be from 0 to 1, got 1.5"),
    ("features_", [0, 1, 2, 3, 4, N_FEATURES], "whole numbers from 0 to 19; .* 0 to 20"),
    ("features_", [0, 1, 2, 3, 4, -1], "whole numbers from 0 to 19; .* -1 to 4"),
    ("features_", [0, 1, 2, 3, 4, 0.5], "whole numbers from 0 to 19"),
    ("modes_", [1, 2, 1, 1, 1, 0], "modes_ must be whole numbers from 1 to 6; they range from 0"),
    ("modes_", [1, 2, 1, 1, 1, 7], "modes_ must be whole numbers from 1 to 6"),
    ("modes_", [1, 2, 1, 1, 1, 1.5], "modes_ must be whole numbers from 1 to 6"),
    ("offset_", [-1.0], "offset_ must be 0 or more, got -1"),
    ("bias_", [np.inf] * N_BITS, "bias_ holds values that are not finite"),
]


def test_values_that_no_fit_gives_are_refused(hasher: Hasher) -> None:
    file = contents(hasher)
    for name, value, message in NO_FIT_GIVES:
        if name in file.arrays:
            arrays = file.arrays | {name: np.array(value, np.float32)}
            with pytest.raises(BadEncoder, match=message):
                from_bytes(replace(file, arrays=arrays).to_bytes())


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("agh", {"n_anchors": 8192, "n_nearest": 50}),
        ("ksh", {"n_anchors": 10_000}),
        ("random-net-2", {"hidden": 8192}),
    ],
)
def test_encoding_takes_bounded_memory_however_wide_the_encoder(
    method: str, params: dict[str, int]
) -> None:
    rng = np.random.default_rng(0)
    hasher = make_hasher(method, n_bits=N_BITS, **params)
    shapes = {
        name: [size.limit if isinstance(size, UpTo) else size for size in shape]
        for name, shape in hasher.learned_shapes(1).items()
    }
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    if "width_" in arrays:
        arrays["width_"][:] = 1
    hasher.restore(1, arrays)
    X = rng.normal(size=(4096, 1))
    tracemalloc.start()
    codes = hasher.encode(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 128 << 20
    np.testing.assert_array_equal(hasher.encode(X[1000:1010]), codes[1000:1010])
