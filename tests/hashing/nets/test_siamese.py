"""The siamese nets: their loss, what they learn, what they refuse, and what they need."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.benchmark.splits import Protocol, split
from app.datasets.dataset import Dataset
from hashing import Hasher, InvalidInput, make_hasher
from hashing.arrays import NotFinite
from tests.average_precision import mean_average_precision
from tests.methods import needs_torch, quick

METHODS = ["siamese-1", "siamese-2"]
# Both are trained in the same way, which takes seconds.
IN_TURN = [pytest.param("siamese-1", marks=pytest.mark.slow), "siamese-2"]


def small(method: str, **params: Any) -> Hasher:
    return make_hasher(method, **{"n_bits": 16, **quick(method), **params})


def loss_pair_by_pair(
    xi: NDArray[Any], classes: NDArray[Any], margin: float, dissimilar: float
) -> float:
    similar, others = [0.0], [0.0]
    for i, j in combinations(range(len(xi)), 2):
        distance = float(np.linalg.norm(xi[i] - xi[j]))
        if classes[i] == classes[j]:
            similar.append(distance**2 / 2)
        else:
            others.append(max(0.0, margin - distance) ** 2 / 2)
    return float(
        sum(similar) / max(1, len(similar) - 1) + dissimilar * sum(others) / max(1, len(others) - 1)
    )


@pytest.mark.parametrize("n_classes", [1, 2, 3, 12])
def test_the_loss_is_the_formula_and_its_gradient_agrees(n_classes: int) -> None:
    torch = needs_torch()
    from hashing.nets.siamese_training import loss

    rng = np.random.default_rng(0)
    xi = np.tanh(rng.normal(size=(12, 5)))
    classes = np.arange(12) % n_classes
    # Half of the distances are below this margin.
    margin = float(np.median([np.linalg.norm(a - b) for a, b in combinations(xi, 2)]))
    tensor = torch.from_numpy(xi).requires_grad_()
    value = loss(tensor, torch.from_numpy(classes), margin, 3.0)
    np.testing.assert_allclose(value.item(), loss_pair_by_pair(xi, classes, margin, 3.0))
    value.backward()
    for at in np.ndindex(xi.shape):
        ends = []
        for moved in (1e-6, -1e-6):
            changed = xi.copy()
            changed[at] += moved
            ends.append(loss_pair_by_pair(changed, classes, margin, 3.0))
        slope = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(tensor.grad[at].item(), slope, rtol=1e-4, atol=1e-7)


def test_equal_codes_have_a_finite_gradient() -> None:
    torch = needs_torch()
    from hashing.nets.siamese_training import loss

    same = torch.zeros(4, 3, requires_grad=True)
    loss(same, torch.tensor([0, 0, 1, 1]), 2.0, 1.0).backward()
    assert torch.isfinite(same.grad).all()


@pytest.mark.parametrize("method", IN_TURN)
def test_training_lowers_the_loss_of_the_fitted_codes(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    values = []
    for steps in (1, 80):
        fitted: Any = small(method, steps=steps, noise=0.0).fit(X[:300], y[:300])
        xi = np.tanh(fitted.project(X[:60]).astype(float))
        values.append(loss_pair_by_pair(xi, y[:60], fitted.margin * 4, fitted.dissimilar))
    assert values[1] < 0.4 * values[0], values


@pytest.mark.parametrize("method", IN_TURN)
def test_numpy_projects_as_the_net_that_torch_trained(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    torch = needs_torch()
    from hashing.nets import siamese_training

    y = np.where(np.arange(len(y)) < 300, y, -1)
    fitted: Any = small(method).fit(X, y)
    known = X[:300].astype(float)
    spread = known.std(axis=0)
    s = ((X - known.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32)
    names = ("margin", "dissimilar", "noise", "steps", "random_state")
    layers = siamese_training.train(
        s[:300],
        y[:300],
        fitted.n_bits,
        getattr(fitted, "hidden", None),
        **{name: getattr(fitted, name) for name in names},
    )
    tensors = [tuple(map(torch.from_numpy, layer)) for layer in layers]
    expected = siamese_training.forward(torch.from_numpy(s), tensors).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(np.tanh(fitted.project(X)), expected, atol=1e-3)


@pytest.mark.parametrize("method", IN_TURN)
def test_descriptors_without_a_label_have_no_part(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    known = np.arange(200) % 3 == 0
    alone = small(method, steps=5).fit(X[:200][known], y[:200][known])
    with_others = small(method, steps=5).fit(X[:200], np.where(known, y[:200], -1))
    assert with_others.fingerprint == alone.fingerprint


@pytest.mark.parametrize("method", IN_TURN)
def test_they_rank_better_than_lsh(method: str, digits: Dataset) -> None:
    X, labels = digits.descriptors, digits.labels
    parts = split(labels, Protocol(), 1)
    scores = {}
    for name in ("lsh", method):
        params = {} if name == "lsh" else quick(method) | {"steps": 80}
        codes = make_hasher(name, n_bits=24, **params).fit(X[parts.database], parts.y).encode(X)
        scores[name] = mean_average_precision(
            codes[parts.queries],
            labels[parts.queries],
            codes[parts.database],
            labels[parts.database],
        )
    assert scores[method] > scores["lsh"] + 0.3, scores


@pytest.mark.parametrize("method", IN_TURN)
@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([-1] * 6, "two classes are needed, got 0"),
        ([3] * 6, "two classes are needed, got 1"),
        ([5, 6, 7, -1, -1, -1], "similar pairs need two labelled items of one class"),
    ],
)
def test_labels_without_pairs_are_refused(method: str, y: list[int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_hasher(method).fit(np.eye(6), y)


@pytest.mark.parametrize("method", IN_TURN)
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
    assert np.isfinite(fitted.project(X)).all()
    assert fitted.encode(X).shape == (6, 2)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("margin", 0),
        ("margin", 2.1),
        ("dissimilar", 0.0),
        ("dissimilar", np.inf),
        ("noise", -0.5),
        ("noise", "a"),
        ("steps", 0),
        ("steps", 1.5),
        ("hidden", 0),
    ],
)
def test_parameters_are_checked(name: str, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match=name):
        make_hasher("siamese-2", **{name: wrong}).fit(np.eye(3), [0, 0, 1])


def test_tanh_does_not_hide_an_infinity(X: NDArray[Any], y: NDArray[Any]) -> None:
    fitted = small("siamese-2", steps=1).fit(X, y)
    bad = X[:3].copy()
    for wrong in (np.inf, -np.inf, np.nan):
        bad[1, 2] = wrong
        with pytest.raises(NotFinite):
            fitted._project(bad)


def test_the_state_of_torch_is_restored_and_does_not_matter(
    X: NDArray[Any], y: NDArray[Any]
) -> None:
    torch = needs_torch()
    before = torch.get_num_threads()
    fingerprints = set()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            state = torch.get_rng_state()
            with torch.inference_mode():
                fingerprints.add(small("siamese-2").fit(X, y).fingerprint)
                assert torch.is_inference_mode_enabled()
            assert torch.equal(torch.get_rng_state(), state)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(fingerprints) == 1


def test_a_fit_reports_its_progress_and_can_be_stopped(X: NDArray[Any], y: NDArray[Any]) -> None:
    needs_torch()
    from hashing.progress import followed

    reports: list[tuple[int, int, str]] = []
    net = small("siamese-1", steps=120)
    with followed(lambda *progress: reports.append(progress)):
        net.fit(X, y)
    assert reports == [(step, 120, "the net learns from pairs") for step in (0, 50, 100)]

    def stop(done: int, total: int, activity: str) -> None:
        if done:
            raise InterruptedError

    with pytest.raises(InterruptedError), followed(stop):
        net.fit(X, y)
    with pytest.raises(ValueError, match="has not been fitted"):
        net.encode(X)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import numpy as np
from hashing import InvalidInput, load_hasher, make_hasher
for path in sys.argv[1:]:
    loaded = load_hasher(path)
    print(loaded.encode(np.eye(6)).tobytes().hex())
    try:
        make_hasher(loaded.method).fit(np.eye(6), [0, 1, 0, 1, 2, -1])
    except InvalidInput as error:
        print(error)
"""


def test_without_torch_they_encode_and_training_names_what_it_needs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    expected, paths = [], []
    for method in METHODS:
        fitted = make_hasher(method, n_bits=8, **({"hidden": 5} if method == "siamese-2" else {}))
        fitted.restore(
            6,
            {
                name: np.abs(rng.normal(size=shape)).astype(np.float32)  # type: ignore[arg-type]
                for name, shape in fitted.learned_shapes(6).items()
            },
        )
        paths.append(tmp_path / method)
        fitted.save(paths[-1])
        expected.append(fitted.encode(np.eye(6)).tobytes().hex())
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, paths)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[::2] == expected
    for method, line in zip(METHODS, out[1::2], strict=True):
        assert line.startswith(f"{method} is trained with torch, which cannot be imported")
        assert "make train-deps" in line
