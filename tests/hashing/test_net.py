from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.benchmark.datasets import Dataset
from app.benchmark.metrics import mean_average_precision
from app.benchmark.protocol import Protocol, split
from hashing import Hasher, InvalidInput, make_hasher
from hashing.base import NotFinite
from hashing.pairs import sample_pairs
from tests.methods import needs_torch, quick

METHODS = ["net-1", "net-2"]
MARGIN, ALPHA = 1.3, 0.7


def small(method: str, **params: Any) -> Hasher:
    return make_hasher(method, **{"n_bits": 16, **quick(method), **params})


def loss(xi: NDArray[Any], margin: float = MARGIN, alpha: float = ALPHA) -> float:
    """As the docstring of `Net1` has it, pair by pair; xi is (2 kinds, 2 items, pairs, m)."""
    similar, dissimilar = (
        np.array([np.linalg.norm(a - b) / np.sqrt(len(a)) for a, b in zip(*kind, strict=True)])
        for kind in xi
    )
    hinges = [max(0.0, margin - r) ** 2 for r in dissimilar]
    return float(np.mean(similar**2) + alpha * np.mean(hinges))


def example(hidden: tuple[int, ...]) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Pairs of rows, (2 kinds, 2 items, 9 pairs, 5), and layers down to 4 units, in float64."""
    rng = np.random.default_rng(0)
    widths = (5, *hidden, 4)
    arrays = []
    for d, m in pairwise(widths):
        arrays += [rng.normal(0, 1.5, (d, m)), rng.normal(0, 0.3, m)]
    return rng.normal(size=(2, 2, 9, 5)), arrays


def codes(x: NDArray[Any], arrays: list[NDArray[Any]]) -> NDArray[Any]:
    for weights, bias in zip(arrays[::2], arrays[1::2], strict=True):
        x = np.tanh(x @ weights + bias)
    return x


@pytest.mark.parametrize("hidden", [(), (3,)])
def test_loss_and_gradient_are_those_of_the_formula(hidden: tuple[int, ...]) -> None:
    torch = needs_torch()
    from hashing.siamese import forward, pair_loss

    x, arrays = example(hidden)
    tensors = [torch.from_numpy(array.copy()).requires_grad_() for array in arrays]
    layers = list(zip(tensors[::2], tensors[1::2], strict=True))
    similar, dissimilar = forward(torch.from_numpy(x), layers)
    value = pair_loss(similar, dissimilar, MARGIN, ALPHA)
    expected = loss(codes(x, arrays))
    np.testing.assert_allclose(value.item(), expected, rtol=1e-12)
    # The example has pairs on both sides of the hinge.
    far = np.linalg.norm(np.subtract(*codes(x, arrays)[1]), axis=-1) / 2
    assert (far < MARGIN).any()
    assert (far > MARGIN).any()

    value.backward()
    step = 1e-6
    for array, tensor in zip(arrays, tensors, strict=True):
        for at in np.ndindex(array.shape):
            here = array[at]
            ends = []
            for moved in (here + step, here - step):
                array[at] = moved
                ends.append(loss(codes(x, arrays)))
            array[at] = here
            slope = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(tensor.grad[at].item(), slope, rtol=1e-5, atol=1e-8)


def test_equal_items_of_two_classes_have_a_gradient() -> None:
    torch = needs_torch()
    from hashing.siamese import pair_loss

    same = torch.ones(2, 3, 4, dtype=torch.float64, requires_grad=True)
    value = pair_loss(same, same, MARGIN, ALPHA)
    np.testing.assert_allclose(value.item(), ALPHA * MARGIN**2)
    value.backward()
    assert torch.isfinite(same.grad).all()


@pytest.mark.parametrize("method", METHODS)
def test_numpy_gives_what_torch_trained(method: str, X: NDArray[Any], y: NDArray[Any]) -> None:
    torch = needs_torch()
    from hashing.siamese import forward, train

    fitted: Any = small(method).fit(X, y)
    standardised = ((X - X.mean(axis=0, dtype=float)) / X.std(axis=0, dtype=float)).astype("f4")
    params = {k: v for k, v in fitted.get_params().items() if k not in ("n_bits", "hidden")}
    widths = [*([fitted.hidden] if method == "net-2" else []), fitted.n_bits]
    layers = [tuple(map(torch.from_numpy, a)) for a in train(standardised, y, widths, **params)]
    expected = forward(torch.from_numpy(standardised), layers).numpy()
    assert expected.std() > 0.2
    np.testing.assert_allclose(np.tanh(fitted.project(X)), expected, atol=1e-4)
    np.testing.assert_allclose(np.tanh(fitted._project(X.astype(float))), expected, atol=1e-4)


FEW = Protocol(queries_per_class=40, labels_per_class=20)


@pytest.mark.parametrize("method", METHODS)
def test_training_lowers_the_loss_of_pairs_it_has_not_seen(method: str, digits: Dataset) -> None:
    parts = split(digits.labels, FEW, 0)
    X, y = digits.descriptors[parts.database], parts.y
    others = np.where(y < 0, digits.labels[parts.database], -1)
    pairs = np.stack(sample_pairs(others, 2000, np.random.default_rng(0))).transpose(0, 2, 1)
    losses = []
    for steps in (1, 20, 200):
        fitted: Any = small(method, steps=steps).fit(X, y)
        xi = np.tanh(fitted.project(X))[pairs]
        losses.append(loss(xi, fitted.margin, fitted.alpha))
    assert losses[1] < 0.9 * losses[0]
    assert losses[2] < 0.9 * losses[1]


def test_a_few_labels_find_far_more_than_random_bits(digits: Dataset) -> None:
    parts = split(digits.labels, FEW, 0)
    X, labels = digits.descriptors, digits.labels
    found = {}
    for method in ("lsh", *METHODS):
        params = quick(method) | ({"steps": 200} if method in METHODS else {})
        hasher = make_hasher(method, n_bits=24, **params).fit(X[parts.database], parts.y)
        codes = hasher.encode(X)
        found[method] = mean_average_precision(
            codes[parts.queries],
            labels[parts.queries],
            codes[parts.database],
            labels[parts.database],
        )
    assert found["net-1"] > found["lsh"] + 0.2, found
    assert found["net-2"] > found["lsh"] + 0.2, found


@pytest.mark.parametrize("method", METHODS)
def test_unlabelled_rows_count_in_the_standardisation_alone(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    some = np.where(np.arange(len(y)) % 3 == 0, y, -1)
    fitted = small(method).fit(X, some)
    # The same rows in another order, the labelled ones in the same.
    order = np.argsort(some < 0, kind="stable")
    again = small(method).fit(X[order], some[order])
    for name in fitted.learned:
        np.testing.assert_allclose(getattr(again, name), getattr(fitted, name), atol=1e-3)
    assert small(method).fit(X, y).fingerprint != fitted.fingerprint


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([-1] * 6, "two classes are needed, got 0"),
        ([3] * 6, "two classes are needed, got 1"),
        ([5, 6, 7, -1, -1, -1], "each class has one"),
    ],
)
def test_too_few_labels_are_refused(method: str, y: list[int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        small(method).fit(np.eye(6), y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "X",
    [
        np.zeros((6, 3)),
        np.repeat([[1.0, 2.0, 3.0]], 6, axis=0),
        np.repeat(np.eye(3), 2, axis=0),
        np.column_stack([np.full(6, 7.5), np.arange(6)]),
        np.arange(6)[:, None],
    ],
    ids=["zeros", "one point", "duplicates", "constant feature", "one feature"],
)
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_degenerate_descriptors_give_finite_codes(
    method: str, X: NDArray[Any], noise: float
) -> None:
    fitted = small(method, noise=noise, steps=10).fit(X, [0, 1, 0, 1, 2, -1])
    z = fitted.project(X)
    assert np.isfinite(z).all()
    assert fitted.encode(X).shape == (6, 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("margin", 0),
        ("alpha", -1.0),
        ("noise", -0.5),
        ("steps", 0),
        ("steps", 1.5),
        ("learning_rate", np.inf),
        ("weight_decay", "1"),
    ],
)
def test_parameters_are_checked(method: str, name: str, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match=name):
        make_hasher(method, **{name: wrong}).fit(np.eye(3), [0, 0, 1])


def test_hidden_is_checked() -> None:
    with pytest.raises(InvalidInput, match="hidden must be from 1 to 8192, got 0"):
        make_hasher("net-2", hidden=0).fit(np.eye(3), [0, 0, 1])


def test_training_that_diverges_is_refused() -> None:
    bad = small("net-1", learning_rate=1e30, weight_decay=1e30)
    with pytest.raises(InvalidInput, match="training diverged: lower learning_rate"):
        bad.fit(np.eye(6), [0, 1, 0, 1, 2, -1])


def test_an_infinity_is_not_hidden_by_tanh(X: NDArray[Any], y: NDArray[Any]) -> None:
    fitted = small("net-2", steps=1).fit(X, y)
    bad = X[:3].copy()
    bad[1, 2] = np.inf
    with pytest.raises(NotFinite):
        fitted._project(bad)


@pytest.mark.parametrize("method", METHODS)
def test_torch_is_left_as_it_was_and_makes_no_difference(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    torch = needs_torch()
    before = torch.get_num_threads()
    prints = set()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            state = torch.get_rng_state()
            with torch.inference_mode():
                prints.add(small(method).fit(X, y).fingerprint)
                assert torch.is_inference_mode_enabled()
            assert torch.equal(torch.get_rng_state(), state)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(prints) == 1


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import numpy as np
from hashing import InvalidInput, load_hasher, make_hasher
loaded = load_hasher(sys.argv[1])
print(loaded.encode(np.eye(6)).tobytes().hex())
try:
    make_hasher(loaded.method).fit(np.eye(6), [0, 1, 0, 1, 2, -1])
except InvalidInput as error:
    print(error)
"""


@pytest.mark.parametrize("method", METHODS)
def test_without_torch_it_encodes_and_says_what_training_needs(method: str, tmp_path: Path) -> None:
    fitted = make_hasher(method, n_bits=8)
    fitted.n_features_in_ = 6
    shapes = [(6, 8), (8,), (1,)] if method == "net-1" else [(6, 5), (5,), (5, 8), (8,)]
    rng = np.random.default_rng(0)
    for name, shape in zip(fitted.learned, shapes, strict=True):
        setattr(fitted, name, rng.normal(size=shape).astype(np.float32))
    fitted.save(tmp_path / "net.safetensors")
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "net.safetensors")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[0] == fitted.encode(np.eye(6)).tobytes().hex()
    assert out[1].startswith(f"{method} is trained with torch, which cannot be imported")
    assert "make train-deps" in out[1]
    assert "pip install 'bitcell[train]'" in out[1]
