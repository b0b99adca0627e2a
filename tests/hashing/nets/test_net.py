from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.benchmark.splits import Protocol, split
from app.datasets.dataset import Dataset
from hashing import Hasher, InvalidInput, make_hasher
from hashing.arrays import NotFinite
from hashing.gist import Gist
from tests.average_precision import mean_average_precision
from tests.methods import needs_torch, quick

METHODS = ["net-1", "net-2"]


def small(method: str, **params: Any) -> Hasher:
    return make_hasher(method, **{"n_bits": 16, **quick(method), **params})


def value(distances: NDArray[Any], relevance: NDArray[Any], n_bins: int) -> float:
    """As the docstring of `AveragePrecision` has it, item by item and bin by bin."""
    found = []
    for row, relevant in zip(distances, relevance, strict=True):
        N, R = np.zeros(n_bins + 1), np.zeros(n_bins + 1)
        for distance, p in zip(row, relevant, strict=True):
            if np.isnan(distance):
                continue
            for t in range(n_bins + 1):
                weight = max(0.0, 1 - abs(distance * n_bins - t))
                N[t] += weight
                R[t] += weight * p
        terms = [
            R[t] * (R[:t].sum() + (R[t] + 1) / 2) / (N[:t].sum() + (N[t] + 1) / 2)
            for t in range(n_bins + 1)
        ]
        found.append(sum(terms) / R.sum())
    return float(np.mean(found))


def example() -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(0)
    distances = rng.random((4, 9))
    distances[1, 3] = np.nan
    return distances, rng.random((4, 9))


def test_average_precision_and_its_gradient_are_those_of_the_formula() -> None:
    torch = needs_torch()
    from hashing.nets.ranking_loss import AveragePrecision

    distances, relevance = example()
    tensor = torch.from_numpy(distances.copy()).requires_grad_()
    result = AveragePrecision.apply(tensor, torch.from_numpy(relevance), 5)
    np.testing.assert_allclose(result.item(), value(distances, relevance, 5), rtol=1e-12)
    result.backward()
    step = 1e-6
    for at in np.ndindex(distances.shape):
        if np.isnan(distances[at]):
            assert tensor.grad[at] == 0
            continue
        ends = []
        for moved in (step, -step):
            there = distances.copy()
            there[at] += moved
            ends.append(value(there, relevance, 5))
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(tensor.grad[at].item(), slope, rtol=1e-5, atol=1e-9)


def test_without_ties_it_is_the_average_precision() -> None:
    torch = needs_torch()
    from sklearn.metrics import average_precision_score

    from hashing.nets.ranking_loss import AveragePrecision

    rng = np.random.default_rng(0)
    distances = np.array([rng.permutation(21) for _ in range(6)]) / 20
    relevance = (rng.random(distances.shape) < 0.3).astype(float)
    result = AveragePrecision.apply(torch.from_numpy(distances), torch.from_numpy(relevance), 20)
    expected = [average_precision_score(r, -d) for r, d in zip(relevance, distances, strict=True)]
    np.testing.assert_allclose(result.item(), np.mean(expected), rtol=1e-12)


@pytest.mark.parametrize("hidden", [0, 3])
def test_gradient_of_the_loss_agrees_with_finite_differences(hidden: int) -> None:
    torch = needs_torch()
    from hashing.nets.ranking_loss import loss
    from hashing.nets.torch_helpers import forward

    rng = np.random.default_rng(1)
    widths = [5, *([hidden] if hidden else []), 4]
    arrays = [
        array
        for d, m in pairwise(widths)
        for array in (rng.normal(0, 1.0, (d, m)), rng.normal(0, 0.3, m))
    ]
    x = torch.from_numpy(rng.normal(size=(8, 5)))
    P = torch.from_numpy(rng.dirichlet(np.ones(3), 8))

    def of(arrays: list[Any]) -> Any:
        layers = list(zip(arrays[::2], arrays[1::2], strict=True))
        return loss(forward(x, layers), P, 1.3)

    tensors = [torch.from_numpy(array.copy()).requires_grad_() for array in arrays]
    of(tensors).backward()
    step = 1e-6
    for i, tensor in enumerate(tensors):
        for at in np.ndindex(arrays[i].shape):
            ends = []
            for moved in (step, -step):
                there = [array.copy() for array in arrays]
                there[i][at] += moved
                ends.append(of([torch.from_numpy(array) for array in there]).item())
            slope = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(tensor.grad[at].item(), slope, rtol=1e-4, atol=1e-8)


def test_balanced_probabilities_have_the_frequencies_asked_for() -> None:
    needs_torch()
    from hashing.nets.teacher import balance

    rng = np.random.default_rng(0)
    P = rng.dirichlet([5, 1, 0.2], 500).astype(np.float32)
    frequencies = np.array([0.2, 0.3, 0.5], np.float32)
    even = balance(P, frequencies, rounds=200)
    np.testing.assert_allclose(even.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(even.mean(axis=0), frequencies, atol=1e-3)
    # A factor a class: ratios of ratios stay.
    odds = (even[:, 0] / even[:, 1]) / (P[:, 0] / P[:, 1])
    np.testing.assert_allclose(odds, odds[0], rtol=1e-3)


FEW = Protocol(queries_per_class=40, labels_per_class=20)


SHORT = {
    "digits": {"hidden": 256, "teacher_steps": 300, "steps": 150},
    "blobs": {"hidden": 256, "teacher_steps": 600, "steps": 300},
}


def blobs() -> tuple[NDArray[Any], NDArray[Any]]:
    """Eight classes, each of four clusters in 30 dimensions."""
    rng = np.random.default_rng(0)
    y = np.arange(1600) % 8
    centres = rng.normal(size=(8, 4, 30))
    return centres[y, rng.integers(0, 4, 1600)] + rng.normal(0, 0.6, (1600, 30)), y


def test_the_teacher_learns_from_rows_without_labels(digits: Dataset) -> None:
    needs_torch()
    from hashing.nets.teacher import teach

    parts = split(digits.labels, Protocol(queries_per_class=40, labels_per_class=5), 0)
    X, y = digits.descriptors[parts.database], parts.y
    s = ((X - X.mean(axis=0)) / (X.std(axis=0) + 1)).astype(np.float32)
    options: dict[str, Any] = {"hidden": 64, "mirror": None, "noise": 0.1, "random_state": 0}
    hidden_labels = digits.labels[parts.database]
    right = []
    for steps in (1, 150):
        P = teach(s, y, steps=steps, **options).probabilities
        np.testing.assert_allclose(P.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(P[y >= 0].argmax(axis=1), y[y >= 0])
        assert set(np.unique(P[y >= 0])) == {0, 1}
        right.append((P.argmax(axis=1) == hidden_labels)[y < 0].mean())
    assert right[1] > right[0] + 0.03, right


@pytest.mark.parametrize("rows", ["all", "labelled"])
@pytest.mark.parametrize("data", ["digits", "blobs"])
def test_nets_find_more_than_lsh_and_ksh(data: str, rows: str, digits: Dataset) -> None:
    X, labels = (digits.descriptors, digits.labels) if data == "digits" else blobs()
    parts = split(labels, FEW, 1)
    use = parts.y >= (0 if rows == "labelled" else -1)
    found = {}
    for method in ("lsh", "ksh", *METHODS):
        params = SHORT[data] if method in METHODS else {}
        hasher = make_hasher(method, n_bits=24, **params)
        hasher.fit(X[parts.database][use], parts.y[use])
        codes = hasher.encode(X)
        found[method] = mean_average_precision(
            codes[parts.queries],
            labels[parts.queries],
            codes[parts.database],
            labels[parts.database],
        )
    # KSH's kernel is hard to beat on 200 digits and nothing else.
    rival = "lsh" if (data, rows) == ("digits", "labelled") else "ksh"
    assert found["net-2"] > found[rival], found
    assert found["net-1"] > found["lsh"] + 0.1, found


@pytest.mark.parametrize("method", METHODS)
def test_numpy_gives_what_torch_trained(method: str, X: NDArray[Any], y: NDArray[Any]) -> None:
    torch = needs_torch()
    from hashing.nets import ranking_loss, teacher, torch_helpers

    fitted: Any = small(method, noise=0.5).fit(X, y)
    raised = np.sign(X) * np.sqrt(np.abs(X.astype(float)))
    spread = raised.std(axis=0)
    s = ((raised - raised.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32)
    shared = {"mirror": None, "noise": fitted.noise, "random_state": fitted.random_state}
    taught = teacher.teach(s, y, hidden=32, steps=fitted.teacher_steps, **shared)
    hidden = taught.hidden if method == "net-2" else None
    layers = ranking_loss.train(
        s, taught.probabilities, fitted.n_bits, hidden, steps=fitted.steps, **shared
    )
    expected = torch_helpers.forward(
        torch.from_numpy(s), [tuple(map(torch.from_numpy, layer)) for layer in layers]
    ).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(fitted.project(X), expected, atol=1e-2 * expected.std())


@pytest.mark.parametrize("method", METHODS)
def test_mirror_makes_codes_of_mirror_images_alike(method: str) -> None:
    # Descriptors that their mirror images tell nothing about: an even and an odd part.
    rng = np.random.default_rng(0)
    mirror = Gist(size=8, orientations=(4,), blocks=2).mirror
    y = np.arange(400) % 4
    X = rng.random((4, len(mirror)))[y] + rng.normal(0, 0.3, (400, len(mirror)))
    differ = {}
    for name, given in (("with", mirror.tolist()), ("without", None)):
        fitted = small(method, mirror=given, teacher_steps=60, steps=100).fit(X, y)
        differ[name] = (fitted.transform(X) != fitted.transform(X[:, mirror])).mean()
    assert differ["with"] < 0.85 * differ["without"], differ


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([-1] * 6, "two classes are needed, got 0"),
        ([3] * 6, "two classes are needed, got 1"),
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
@pytest.mark.parametrize("y", [[0, 1, 0, 1, 2, -1], [5, 6, 7, -1, -1, -1]])
def test_degenerate_descriptors_give_finite_codes(
    method: str, X: NDArray[Any], noise: float, y: list[int]
) -> None:
    fitted = small(method, noise=noise, steps=10, teacher_steps=10).fit(X, y)
    z = fitted.project(X)
    assert np.isfinite(z).all()
    assert fitted.encode(X).shape == (6, 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("power", 0),
        ("power", 1.5),
        ("noise", -0.5),
        ("noise", np.inf),
        ("steps", 0),
        ("steps", 1.5),
        ("teacher_steps", 0),
        ("hidden", 0),
        ("mirror", "gist"),
        ("mirror", [0, 1, 1]),
        ("mirror", [0, 1, 3]),
        ("mirror", [0, 1]),
    ],
)
def test_parameters_are_checked(method: str, name: str, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match=name):
        make_hasher(method, **{name: wrong}).fit(np.eye(3), [0, 0, 1])


def test_an_infinity_is_not_hidden_by_relu(X: NDArray[Any], y: NDArray[Any]) -> None:
    fitted = small("net-2", steps=1).fit(X, y)
    bad = X[:3].copy()
    for wrong in (np.inf, -np.inf, np.nan):
        bad[1, 2] = wrong
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
                # Another teacher between, so that this one is not the last, which is kept.
                small(method, random_state=9, steps=1, teacher_steps=1).fit(X, y)
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
    fitted = make_hasher(method, n_bits=8, hidden=5, mirror=[5, 4, 3, 2, 1, 0])
    shapes: dict[str, Any] = {"weights_": (6, 8), "bias_": (8,), "offset_": (1,)}
    if method == "net-2":
        shapes = {
            "hidden_weights_": (6, 5),
            "hidden_bias_": (5,),
            "weights_": (5, 8),
            "bias_": (8,),
        }
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    fitted.restore(6, arrays | {"power_": np.array([0.5], np.float32)})
    fitted.save(tmp_path / "net.safetensors")
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "net.safetensors")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[0] == fitted.encode(np.eye(6)).tobytes().hex()
    assert out[1].startswith(f"{method} is trained with torch, which cannot be imported")
    assert "make train-deps" in out[1]
    assert "pip install '.[train]'" in out[1]


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_tells_how_far_it_is_and_ends_when_told(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    needs_torch()
    from hashing.progress import followed

    told: list[tuple[int, int, str]] = []
    # Another seed than elsewhere, so that its teacher is not the one kept.
    seed = 77 + METHODS.index(method)
    net = small(method, teacher_steps=30, steps=60, random_state=seed)
    with followed(lambda *progress: told.append(progress)):
        net.fit(X, y)
    steps = [done for done, _, _ in told]
    assert steps == [*range(0, 30, 2), 30, 80]
    assert {of for _, of, _ in told} == {90}
    assert [now for _, _, now in told] == ["the teacher learns the classes"] * 15 + [
        "the net learns the codes"
    ] * 2

    def stop(done: int, of: int, now: str) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), followed(stop):
        net.fit(X, y)
    assert net.fit(X, y).random_state == seed
    assert len(told) == 17
