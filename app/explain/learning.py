"""The laws about labels: what training does, how much training data, which bits discriminate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.explain.data import Data, few_labels
from app.explain.finding import Figure, Finding, Law, Plot, Series, value_only
from hashing import Hasher, InvalidInput, make_hasher
from hashing.methods.rabitq import RaBitQ
from hashing.theory.compression import kept, neighbours_nearest
from hashing.theory.covering import farthest_first, sudakov_bound
from hashing.theory.mean_width import mean_width
from hashing.theory.samples import Estimate, relu_layer, sample
from hashing.theory.training import Change, Ratios, change

TRAINING = Law(
    "training",
    "What does training change?",
    "A random layer changes all distances by similar factors. Training moves the boundary of the "
    "classes: the farthest item of the same class comes nearer, the nearest item of another class "
    "is pushed away, and random pairs change less. Ratios of output to input distance, 1 is the "
    "mean of all pairs.",
    "An observation about nets that generalize, not a theorem. Wrong labels look like a boundary.",
    "Giryes, Sapiro, Bronstein 2016, on the role of training",
)
LABELS = Law(
    "labels",
    "How many labels are worth paying for?",
    "Items that are ε apart number at most exp(c ω²/ε²), c = π ln 2/2 (Sudakov): that many labels "
    "put one within ε of every item. Next to the bound stands what matters: mAP as labels are "
    "added.",
    "The bound is loose: its exponent is often ten times that of a net that is found. The curve "
    "is for random labels and one method.",
    "Sudakov 1969; Giryes, Sapiro, Bronstein 2016, on the training set",
)
COMPRESSION = Law(
    "compression",
    "How many bits tell classes apart, and how many reconstruct?",
    "Telling classes apart takes fewer bits than finding the true neighbours or reconstructing "
    "descriptors: a code length can be enough for the first and far too short for the others.",
    "Where each item is its own class, the first two are the same. Regression, which reconstructs "
    "here, is a lower bound: better methods reconstruct more. rabitq keeps three numbers per item "
    "besides its bits.",
    "Giryes, Sapiro, Bronstein 2016; Davenport et al. 2010",
)
_PER_CLASS = (2, 5, 10, 20, 50, 100, 200)
_SEEDS = 3
_CURVE_METHOD, _CURVE_BITS = "sdh", 32
_LENGTHS = (8, 16, 32, 64, 128, 256)
_NET_ITEMS = 2000
_NET = 256
_KEPT_ITEMS = 3000


def training(data: Data) -> Finding:
    """Compare a random net and a trained encoder on distances within and between classes."""
    X, y = data.X[data.test], data.classes(data.test, "what training changes")
    centred = X.astype(np.float64) - data.X[data.learn].mean(axis=0)
    rng = np.random.default_rng(data.seed)
    hidden = relu_layer(relu_layer(centred, 1024, rng), 1024, rng)
    trained = data.trained
    found = {
        "two random layers": change(X, hidden, y, data.seed),
        f"trained: {trained.name}": change(X, trained.hasher.project(X), y, data.seed),
    }
    names = [
        "same class, random",
        "other class, random",
        "same class, farthest",
        "other class, nearest",
    ]
    plot = Plot(
        "Output over input distance of pairs, 1 is the mean of all pairs. Marks: medians; bars: "
        "the middle half of the pairs.",
        "pairs",
        "ratio of distances",
        [_medians(name, each) for name, each in found.items()],
        categories=names,
    )
    before, after = found.values()
    answer = (
        f"Of the farthest pairs of a class, {trained.name} changes the distance by a factor of "
        f"{after.boundary_within.mean.value:.2f} (random net: "
        f"{before.boundary_within.mean.value:.2f}); of the nearest pairs of two classes, by "
        f"{after.boundary_between.mean.value:.2f} ({before.boundary_between.mean.value:.2f})."
    )
    figures = [
        Figure(f"{what}, {name}", ratios.mean)
        for name, each in found.items()
        for what, ratios in zip(names, _all(each), strict=True)
    ]
    return Finding(TRAINING, answer, figures, [plot])


def labels(data: Data) -> Finding:
    """Measure mAP against labels per class, and nets against Sudakov's bound."""
    net_plot, figures = _nets(data)
    y = data.classes(data.learn, "the curve of labels")
    largest = int(np.unique(y[y >= 0], return_counts=True)[1].max())
    counts = [n for n in _PER_CLASS if n <= largest]
    found = [
        Estimate.of_mean([_trained_map(data, n, seed) for seed in range(_SEEDS)]) for n in counts
    ]
    curve = Plot(
        f"mAP of {_CURVE_METHOD} at {_CURVE_BITS} bits by labels per class; mean and 95 % interval "
        f"over {_SEEDS} draws of the labels.",
        "labels per class",
        "mAP",
        [
            Series.measured(_CURVE_METHOD, counts, found),
            Series.of_law("descriptors without codes", counts, [data.raw_map] * len(counts)),
        ],
        log_x=True,
    )
    enough = next(
        (n for n, each in zip(counts, found, strict=True) if each.value > 0.95 * found[-1].value),
        counts[-1],
    )
    maps = f"({found[-1].value:.3f}; the descriptors themselves: {data.raw_map:.3f})"
    answer = (
        f"{enough} labels per class give {_CURVE_METHOD} 95 % of the mAP that {counts[-1]} give "
        f"{maps}."
        if enough < counts[-1]
        else f"No smaller number of labels per class reaches 95 % of the mAP at {enough}, the most "
        f"that were tried {maps}: more labels may help."
    )
    figures = [
        Figure(f"mAP with {n} labels per class", each)
        for n, each in zip(counts, found, strict=True)
    ] + figures
    return Finding(LABELS, answer, figures, [curve, net_plot])


def compression(data: Data) -> Finding:
    """Measure mAP, neighbours found and reconstruction by code length."""
    items = data.X[data.test][sample(len(data.test), _KEPT_ITEMS, data.seed)]
    hashers = [make_hasher("lsh", n_bits=m, random_state=data.seed) for m in _LENGTHS]
    hashers = [each.fit(data.X[data.learn]) for each in hashers]
    found = [kept(items, each.encode(items), each.n_bits, data.seed) for each in hashers]
    estimated = [_by_estimates(data, items, m) for m in _LENGTHS]
    series = [
        Series.measured("true neighbours found", _LENGTHS, [each.neighbours for each in found]),
        Series.measured("true neighbours found by the estimates of rabitq", _LENGTHS, estimated),
        Series.measured(
            "variance reconstructed: 1 less the inversion error",
            _LENGTHS,
            [each.reconstruction for each in found],
        ),
    ]
    at = found[_LENGTHS.index(64)]
    kept_at = (
        f"{100 * at.neighbours.value:.0f} % of the 10 true neighbours and "
        f"{100 * at.reconstruction.value:.0f} % of the variance."
    )
    try:
        of_classes, map_at = _classes_told_apart(data, hashers)
        series.insert(0, of_classes)
        answer = f"At 64 bits, random codes keep {100 * map_at:.0f} % of the mAP, {kept_at}"
    except InvalidInput as error:
        answer = f"At 64 bits, random codes find {kept_at} The mAP is unknown: {error}."
    plot = Plot(
        "What random codes keep, by their length; 1 is all. Bars: 95 % intervals over items.",
        "code length, bits",
        "share kept",
        series,
        log_x=True,
    )
    figures = [Figure(f"neighbours found, {each.n_bits} bits", each.neighbours) for each in found]
    figures += [
        Figure(f"neighbours found by rabitq, {m} bits", each)
        for m, each in zip(_LENGTHS, estimated, strict=True)
    ]
    figures += [
        Figure(f"variance reconstructed, {each.n_bits} bits", each.reconstruction) for each in found
    ]
    return Finding(COMPRESSION, answer, figures, [plot])


def _classes_told_apart(data: Data, hashers: Sequence[Hasher]) -> tuple[Series, float]:
    """Return the mAP of codes over that of descriptors, and its value at 64 bits."""
    share = [data.mean_average_precision(each) / data.raw_map for each in hashers]
    points = [(float(m), s) for m, s in zip(_LENGTHS, share, strict=True)]
    name = "classes told apart: mAP over that of descriptors"
    return Series(name, points), share[_LENGTHS.index(64)]


def _by_estimates(data: Data, items: NDArray[np.float32], n_bits: int) -> Estimate:
    """Return the share of the true neighbours that are nearest by rabitq's estimated distance."""
    hasher = RaBitQ(n_bits=n_bits, random_state=data.seed).fit(data.X[data.learn])
    codes, factors = hasher.encode(items), hasher.factors(items)
    return neighbours_nearest(
        items, lambda queries: hasher.estimate(items[queries], codes, factors), seed=data.seed
    )


def _all(each: Change) -> tuple[Ratios, ...]:
    return each.random_within, each.random_between, each.boundary_within, each.boundary_between


def _medians(name: str, each: Change) -> Series:
    quantiles = [ratios.quantiles for ratios in _all(each)]
    return Series(
        name,
        [(float(i), q[2]) for i, q in enumerate(quantiles)],
        [(q[1], q[3]) for q in quantiles],
    )


def _trained_map(data: Data, per_class: int, seed: int) -> float:
    chosen = few_labels(data.y[data.learn], per_class, seed)
    return data.mean_average_precision(data.fit(_CURVE_METHOD, _CURVE_BITS, chosen))


def _nets(data: Data) -> tuple[Plot, list[Figure]]:
    """Compare the nets that farthest-first traversal finds with Sudakov's bound."""
    items = data.unit[sample(len(data.unit), _NET_ITEMS, data.seed)]
    size = mean_width(items, seed=data.seed)
    _, radii = farthest_first(items, min(_NET, len(items)))
    if len(radii) < 2:
        raise InvalidInput("nets need at least two different descriptors")
    numbers = np.unique(np.geomspace(2, len(radii), 12).astype(int))
    points = [(float(radii[n - 1]), math.log(n)) for n in numbers][::-1]
    bounds = [sudakov_bound(size.value, radius) for radius, _ in points]
    plot = Plot(
        f"Natural logarithm of the size of ε-nets of {len(items):,} items (length 1), as "
        "farthest-first traversal finds them, and the bound.",
        "radius ε",
        "ln of the number of items",
        [Series("nets found", points), Series.of_law("bound", [r for r, _ in points], bounds)],
    )
    last = len(radii)
    return plot, [
        Figure(f"radius that a net of {last} items covers", value_only(float(radii[-1]))),
        Figure(f"ln {last}", value_only(math.log(last))),
        Figure("Sudakov’s bound on it", value_only(sudakov_bound(size.value, float(radii[-1])))),
    ]
