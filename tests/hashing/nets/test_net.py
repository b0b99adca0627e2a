"""The trained nets: what they learn, what they refuse, and what they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.benchmark.splits import Protocol, split
from app.datasets.dataset import Dataset
from hashing import Hasher, InvalidInput, NotFitted, make_hasher
from hashing.arrays import NotFinite
from hashing.gist import Gist
from tests.average_precision import mean_average_precision
from tests.methods import needs_torch, quick

METHODS = ["net-1", "net-2"]
# Both are trained in the same way, which takes seconds.
IN_TURN = [pytest.param("net-1", marks=pytest.mark.slow), "net-2"]


def small_net(method: str, **params: Any) -> Hasher:
    return make_hasher(method, **{"n_bits": 16, **quick(method), **params})


FEW_LABELS = Protocol(queries_per_class=40, labels_per_class=20)


SHORT_TRAINING = {
    "digits": {"hidden": 256, "teacher_steps": 300, "steps": 150},
    "blobs": {"hidden": 128, "teacher_steps": 500, "steps": 150},
}


def blobs() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return four classes, each of four clusters in 30 dimensions."""
    rng = np.random.default_rng(0)
    y = np.arange(800) % 4
    centres = rng.normal(size=(4, 4, 30))
    return centres[y, rng.integers(0, 4, 800)] + rng.normal(0, 0.6, (800, 30)), y


@pytest.mark.parametrize("rows", [pytest.param("all", marks=pytest.mark.slow), "labelled"])
@pytest.mark.parametrize("data", [pytest.param("digits", marks=pytest.mark.slow), "blobs"])
def test_nets_rank_better_than_lsh_and_ksh(data: str, rows: str, digits: Dataset) -> None:
    X, labels = (digits.descriptors, digits.labels) if data == "digits" else blobs()
    parts = split(labels, FEW_LABELS, 1)
    use = parts.y >= (0 if rows == "labelled" else -1)
    rows_of_fit = X[parts.database][use], parts.y[use]
    nets: list[Any] = [make_hasher(name, n_bits=16, **SHORT_TRAINING[data]) for name in METHODS]
    teacher = nets[0].new_teacher().fit(*rows_of_fit)
    hashers = [make_hasher(name, n_bits=16).fit(*rows_of_fit) for name in ("lsh", "ksh")]
    scores = {}
    for hasher in (*hashers, *(net.fit(*rows_of_fit, teacher=teacher) for net in nets)):
        codes = hasher.encode(X)
        scores[hasher.method] = mean_average_precision(
            codes[parts.queries],
            labels[parts.queries],
            codes[parts.database],
            labels[parts.database],
        )
    # With 200 labelled digits and nothing else, ksh is ahead of the nets.
    rival = "lsh" if (data, rows) == ("digits", "labelled") else "ksh"
    assert scores["net-2"] > scores[rival], scores
    assert scores["net-1"] > scores["lsh"] + 0.1, scores


@pytest.mark.parametrize("method", IN_TURN)
def test_numpy_projects_as_the_net_that_torch_trained(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    torch = needs_torch()
    X, y = X[:200], y[:200]
    from hashing.nets import ranking_loss, torch_helpers
    from hashing.nets.views import View

    fitted: Any = small_net(method, noise=0.5).fit(X, y)
    raised = np.sign(X) * np.sqrt(np.abs(X.astype(float)))
    spread = raised.std(axis=0)
    s = ((raised - raised.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32)
    taught = fitted.new_teacher().fit(X, y)
    layers = ranking_loss.train(
        View(s),
        taught.probabilities_,
        fitted.n_bits,
        taught.hidden_layer_ if method == "net-2" else None,
        noise=fitted.noise,
        steps=fitted.steps,
        random_state=fitted.random_state,
    )
    expected = torch_helpers.forward(
        torch.from_numpy(s), [tuple(map(torch.from_numpy, layer)) for layer in layers]
    ).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(fitted.project(X), expected, atol=1e-2 * expected.std())


@pytest.mark.parametrize("method", ["net-1", pytest.param("net-2", marks=pytest.mark.slow)])
def test_mirror_makes_the_codes_of_mirror_images_similar(method: str) -> None:
    # Random descriptors, which have nothing in common with their mirror images.
    rng = np.random.default_rng(0)
    mirror = Gist(size=8, orientations=(4,), blocks=2).mirror
    y = np.arange(400) % 4
    X = rng.random((4, len(mirror)))[y] + rng.normal(0, 0.3, (400, len(mirror)))
    differ = {}
    for name, parameter in (("with", mirror.tolist()), ("without", None)):
        fitted = small_net(method, mirror=parameter, teacher_steps=60, steps=100).fit(X, y)
        differ[name] = (fitted.transform(X) != fitted.transform(X[:, mirror])).mean()
    assert differ["with"] < 0.85 * differ["without"], differ


@pytest.mark.parametrize("method", IN_TURN)
@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([-1] * 6, "two classes are needed, got 0"),
        ([3] * 6, "two classes are needed, got 1"),
    ],
)
def test_too_few_labels_are_refused(method: str, y: list[int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        small_net(method).fit(np.eye(6), y)


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
@pytest.mark.parametrize("y", [[0, 1, 0, 1, 2, -1], [5, 6, 7, -1, -1, -1]])
def test_degenerate_descriptors_give_finite_codes(
    method: str, X: NDArray[Any], noise: float, y: list[int]
) -> None:
    fitted = small_net(method, noise=noise, steps=10, teacher_steps=10).fit(X, y)
    z = fitted.project(X)
    assert np.isfinite(z).all()
    assert fitted.encode(X).shape == (6, 2)


@pytest.mark.parametrize("method", IN_TURN)
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


def test_relu_does_not_hide_an_infinity(X: NDArray[Any], y: NDArray[Any]) -> None:
    fitted = small_net("net-2", steps=1).fit(X, y)
    bad = X[:3].copy()
    for wrong in (np.inf, -np.inf, np.nan):
        bad[1, 2] = wrong
        with pytest.raises(NotFinite):
            fitted._project(bad)


@pytest.mark.parametrize("method", ["net-1", pytest.param("net-2", marks=pytest.mark.slow)])
def test_the_state_of_torch_is_restored_and_does_not_matter(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    torch = needs_torch()
    X, y = X[:600], y[:600]
    before = torch.get_num_threads()
    fingerprints = set()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            state = torch.get_rng_state()
            with torch.inference_mode():
                fingerprints.add(small_net(method).fit(X, y).fingerprint)
                assert torch.is_inference_mode_enabled()
            assert torch.equal(torch.get_rng_state(), state)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(fingerprints) == 1


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


@pytest.mark.parametrize("method", IN_TURN)
def test_without_torch_it_encodes_and_training_names_what_it_needs(
    method: str, tmp_path: Path
) -> None:
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


@pytest.mark.parametrize("method", IN_TURN)
def test_a_fit_reports_its_progress_and_can_be_stopped(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    needs_torch()
    from hashing.progress import followed

    X, y = X[:60], y[:60]
    reports: list[tuple[int, int, str]] = []
    net = small_net(method, teacher_steps=130, steps=60)
    with followed(lambda *progress: reports.append(progress)):
        net.fit(X, y)
    steps = [done for done, _, _ in reports]
    assert steps == sorted(steps)
    assert max(np.diff(steps)) <= 50
    assert {total for _, total, _ in reports} == {190}
    activities = [activity for _, _, activity in reports]
    assert activities == ["the teacher learns the classes"] * 3 + ["the net learns the codes"] * 2

    def stop(done: int, total: int, activity: str) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), followed(stop):
        net.fit(X, y)
    with pytest.raises(NotFitted):
        net.encode(X)
