"""The laws about codes: what they give away, and what a distance between them means."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from app.explain.data import N_BITS, Data, Encoder
from app.explain.finding import Figure, Finding, Law, Plot, Series, value_only
from bitcodes import unpack
from hashing import Hasher, InvalidInput, make_hasher
from hashing.arrays import Float64Array
from hashing.theory.calibration import Calibration, binomial_angles
from hashing.theory.one_bit import Recovery, regression_recovery
from hashing.theory.samples import Estimate, angles_between, random_pairs, sample, unit

PRIVACY = Law(
    "privacy",
    "What do codes give away?",
    "A sign tells which side of a hyperplane a descriptor lies on; m of them leave an error that "
    "falls like a power of m, so a long code is the descriptor itself, less its length. Here, "
    "linear regression recovers descriptors from codes alone: it has seen other descriptors of the "
    "same kind with their codes, and neither the encoder nor the items.",
    "Regression is the least that can be recovered: stronger methods may recover more. Treat codes "
    "as you treat descriptors: they are not anonymous.",
    "Plan, Vershynin 2013",
)
CALIBRATION = Law(
    "calibration",
    "What does a Hamming distance mean?",
    "Under random hyperplanes a distance of d of m bits means an angle of πd/m, with binomial "
    "intervals. For other codes, isotonic regression finds the mean angle of pairs at each "
    "distance, and held-out pairs find the interval that contains 90 % of them.",
    "Binomial intervals hold at each angle, not at each distance: most pairs are far apart, so a "
    "small distance is mostly a pair that is farther than it looks. Intervals from pairs hold at "
    "each distance, for pairs from the same source; after a drift, calibrate again.",
    "Clopper, Pearson 1934; Vovk, Gammerman, Shafer 2005",
)
_LENGTHS = (8, 16, 32, 64, 128, 256)
_RECOVERED = 4000
_PAIRS = 20_000


def privacy(data: Data) -> Finding:
    """Measure what regression recovers from codes."""
    items = data.X[data.test][sample(len(data.test), _RECOVERED, data.seed)]
    hashers = [make_hasher("lsh", n_bits=m, random_state=data.seed) for m in _LENGTHS]
    found = [_recovered(items, each.fit(data.X[data.learn]), data) for each in hashers]
    at = found[_LENGTHS.index(64)]
    series = [
        Series.measured("random hyperplanes: cosine", _LENGTHS, [each.cosine for each in found]),
        Series.measured("random hyperplanes: share lost", _LENGTHS, [each.lost for each in found]),
    ]
    figures = [
        Figure("cosine to the true descriptor, 64 bits", at.cosine),
        Figure("share of the variance lost, 64 bits", at.lost),
    ]
    trained = _trained(data)
    if trained is not None:
        own = _recovered(items, trained.hasher, data)
        n_bits = trained.hasher.n_bits
        series.append(Series.measured(f"{trained.name}: cosine", [n_bits], [own.cosine]))
        figures += [
            Figure(f"cosine, {trained.name}, {n_bits} bits", own.cosine),
            Figure(f"share lost, {trained.name}, {n_bits} bits", own.lost),
        ]
    plot = Plot(
        "Cosine between descriptors (less their mean) and what was recovered from their codes, and "
        "the share of the variance that was not. Bars: 95 % intervals over items.",
        "code length, bits",
        "cosine, share",
        series,
        log_x=True,
    )
    answer = (
        f"From 64 bits of random hyperplanes, {100 * (1 - at.lost.value):.0f} % of the variance of "
        f"unseen descriptors is recovered; the cosine to the true descriptor is "
        f"{at.cosine.value:.2f} on average."
    )
    return Finding(PRIVACY, answer, figures, [plot])


def calibration(data: Data) -> Finding:
    """Calibrate random hyperplanes and a trained encoder on pairs, and measure the coverage."""
    law = binomial_angles(N_BITS)
    plots, figures = [], []
    distances, angles, new = _pairs(data, data.random.hasher)
    measured = Calibration.fit(distances, angles, N_BITS, seed=data.seed, upper=math.pi)
    distances_of_random = distances
    plots.append(_plot(data.random.name, measured, distances, law))
    figures.append(Figure("90 % binomial intervals cover, of new pairs", _coverage(law, *new)))
    figures.append(Figure("90 % conformal intervals cover", _coverage(measured, *new)))
    trained = _trained(data)
    if trained is not None:
        distances, angles, new = _pairs(data, trained.hasher)
        own = Calibration.fit(
            distances, angles, trained.hasher.n_bits, seed=data.seed, upper=math.pi
        )
        plots.append(_plot(trained.name, own, distances, None))
        figures.append(
            Figure(f"90 % conformal intervals of {trained.name} cover", _coverage(own, *new))
        )
    d = max(N_BITS // 4, int(distances_of_random.min()))
    figures.append(
        Figure(
            f"angle of pairs at distance {d} of random hyperplanes, degrees, with 90 % of them",
            _degrees(measured, d),
        )
    )
    answer = (
        f"Between codes of {N_BITS} random hyperplanes, a distance of {d} means "
        f"{math.degrees(law.value[d]):.0f}° ({math.degrees(law.low[d]):.0f}° to "
        f"{math.degrees(law.high[d]):.0f}°), seen from the mean of the descriptors. Pairs of these "
        f"data at that distance have {math.degrees(measured.value[d]):.0f}° on average."
    )
    return Finding(CALIBRATION, answer, figures, plots)


def _trained(data: Data) -> Encoder | None:
    """Return the trained encoder, None if there are no labels to train one with."""
    try:
        return data.trained
    except InvalidInput:
        return None


def _recovered(items: NDArray[np.float32], hasher: Hasher, data: Data) -> Recovery:
    return regression_recovery(items, unpack(hasher.encode(items), hasher.n_bits), data.seed)


Pairs = tuple[NDArray[np.int64], Float64Array]


def _pairs(data: Data, hasher: Hasher) -> tuple[NDArray[np.int64], Float64Array, Pairs]:
    """Return distances and angles of pairs to calibrate with, and of others to measure with.

    The pairs are of the second half, and so are the others, but of other items.
    """
    rng = np.random.default_rng(data.seed)
    order = rng.permutation(data.test)
    mean = data.X[data.learn].mean(axis=0, dtype=np.float64)
    found = []
    for part in (order[: len(order) // 2], order[len(order) // 2 :]):
        U = unit(data.X[part] - mean)
        bits = unpack(hasher.encode(data.X[part]), hasher.n_bits)
        first, second = random_pairs(len(part), _PAIRS, rng)
        distances = (bits[first] != bits[second]).sum(axis=1)
        found.append((distances.astype(np.int64), angles_between(U[first], U[second])))
    return *found[0], found[1]


def _coverage(
    calibration: Calibration, distances: NDArray[np.int64], angles: Float64Array
) -> Estimate:
    inside = (calibration.low[distances] <= angles) & (angles <= calibration.high[distances])
    return value_only(float(inside.mean()))


def _degrees(found: Calibration, d: int) -> Estimate:
    value, low, high = (math.degrees(each[d]) for each in (found.value, found.low, found.high))
    return Estimate(value, low, high)


def _plot(
    name: str, found: Calibration, distances: NDArray[np.int64], law: Calibration | None
) -> Plot:
    """Plot the angles at the distances that occur."""
    d = np.unique(distances)
    d = d[np.unique(np.linspace(0, len(d) - 1, 24).astype(int))]
    degrees = [np.degrees(each[d]) for each in (found.value, found.low, found.high)]
    series = [
        Series(
            "mean angle of pairs",
            [(float(a), float(b)) for a, b in zip(d, degrees[0], strict=True)],
            [(float(a), float(b)) for a, b in zip(degrees[1], degrees[2], strict=True)],
        )
    ]
    if law is not None:
        x = [float(each) for each in d]
        series += [
            Series.of_law("law πd/m", x, np.degrees(law.value[d]).tolist()),
            Series.of_law("low end of its interval", x, np.degrees(law.low[d]).tolist()),
            Series.of_law("high end", x, np.degrees(law.high[d]).tolist()),
        ]
    return Plot(
        f"Angle of pairs by the Hamming distance of their codes, {name}. Bars contain 90 % of the "
        "pairs.",
        "Hamming distance, bits",
        "angle, degrees",
        series,
    )
