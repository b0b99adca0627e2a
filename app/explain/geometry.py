"""The laws about the descriptors alone: size, stable embedding, angles, inversion."""

from __future__ import annotations

import math

import numpy as np

from app.explain.data import Data
from app.explain.finding import Figure, Finding, Law, Plot, Series, value_only
from hashing import InvalidInput
from hashing.theory import angles, embedding, inversion
from hashing.theory.local_dimension import local_dimension
from hashing.theory.mean_width import ceiling, dimension, mean_width, widths_after_layers
from hashing.theory.samples import Estimate, sample

WIDTH = Law(
    "width",
    "How many dimensions do the data really use?",
    "The Gaussian mean width ω is how far apart the descriptors (less their mean, scaled to "
    "length 1) lie when looked at from a random direction. (ω/2)² acts as their dimension: it is "
    "n − ½ for a sphere of n dimensions, grows like k + log L for L groups of dimension k, and "
    "random codes need a number of bits in proportion to it. A random relu layer keeps between ½ "
    "and all of ω² (when the half of the energy that relu takes is given back).",
    "N items cannot show a dimension above 2 ln N (dashed): a figure near that line means “this or "
    "more”. The local dimension is too low above some 10 to 20 dimensions.",
    "Plan, Vershynin 2013; Giryes, Sapiro, Bronstein 2016; Facco et al. 2017",
)
EMBEDDING = Law(
    "embedding",
    "How far do random codes bend distances?",
    "Under random hyperplanes, the share of differing bits d_H estimates the angle divided by π, "
    "d_S. For all pairs of a set at once, |d_S − d_H| is at most δ = c · m^(−1/6) · ω^(1/3) at m "
    "bits. Items of equal codes are at most δ apart, and codes and items at most δ/2 in the "
    "sense of Gromov and Hausdorff.",
    "δ is an upper bound for the worst set: what is measured falls faster, about like 1/√m. "
    "Trained codes do not follow it.",
    "Plan, Vershynin 2014; Giryes, Sapiro, Bronstein 2016, on the stable embedding",
)
ANGLES = Law(
    "angles",
    "What does a layer of a random net do to angles?",
    "With α the angle of two descriptors, a wide random relu layer makes its cosine cos α + ψ(α), "
    "ψ(α) = (sin α − α cos α)/π: large angles shrink more than small ones. Squared distances "
    "become ½‖u − v‖² − ‖u‖‖v‖ψ(α), between ¼ and ½ of what they were. Further layers repeat it.",
    "The law is for weights that are independent of the data; single pairs are off by about 1/√m. "
    "Trained nets break it on purpose.",
    "Cho, Saul 2009; Giryes, Sapiro, Bronstein 2016, theorem 3, with a plus that must be a "
    "minus; Gulcu, Güngör 2019",
)
INVERSION = Law(
    "inversion",
    "Can a descriptor be recovered from the outputs of a random net?",
    "2 Aᵀ ρ(Au) estimates u from the m outputs ρ(Au) of a layer, with an error of √((2k + 3)/m) if "
    "u lies in k known dimensions; more layers add their errors. If k or more units are active, "
    "solving linear equations gives u exactly.",
    "The rate is for what lies in the k principal dimensions; the rest of a descriptor is lost to "
    "this estimate. It needs the weights, and real-valued outputs.",
    "Giryes, Sapiro, Bronstein 2016, on recovery; Plan, Vershynin 2016",
)
_LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_UNITS = (256, 512, 1024, 2048)
_KEPT_VARIANCE = 0.9
_MOST_DIRECTIONS = 32
_RECOVERED = 100


def width(data: Data) -> Finding:
    """Measure the mean width, also after two random layers, and the local dimension."""
    widths = widths_after_layers(data.unit, seed=data.seed)
    dimensions = [dimension(each) for each in widths]
    local, local_answer = _local(data)
    top = ceiling(len(data.unit))
    layers = [0, 1, 2]
    plot = Plot(
        "The dimension (ω/2)² of the descriptors, and after one and two random relu layers of "
        "1,024 units. Bars: 95 % intervals over directions.",
        "random layers",
        "(ω/2)²",
        [
            Series.measured("measured", layers, dimensions),
            Series.of_law("least by the law", layers, [dimensions[0].value / 2**i for i in layers]),
            Series.of_law("most by the law", layers, [dimensions[0].value] * 3),
            Series.of_law("largest that this number of items can show", layers, [top] * 3),
        ],
        categories=["none", "one", "two"],
    )
    near = "at least " if dimensions[0].value > 0.7 * top else ""
    answer = (
        f"{len(data.X):,} descriptors of dimension {data.X.shape[1]} have a mean width of "
        f"{widths[0].value:.2f}, as a sphere of {near}{dimensions[0].value:.1f} dimensions. "
        f"{local_answer}"
    )
    figures = [
        Figure("mean width ω", widths[0]),
        Figure("dimension (ω/2)²", dimensions[0]),
        Figure("after one layer", dimensions[1]),
        Figure("after two layers", dimensions[2]),
        Figure("largest that this number of items can show", value_only(top)),
        *local,
    ]
    return Finding(WIDTH, answer, figures, [plot])


def stable_embedding(data: Data) -> Finding:
    """Measure how far random codes bend distances, at growing length."""
    found = embedding.distortions(data.unit, _LENGTHS, n_draws=3, seed=data.seed)
    items = data.unit[sample(len(data.unit), embedding.ITEMS, data.seed)]
    size = mean_width(items, seed=data.seed)
    fitted = embedding.fit(found, size)
    cells = [
        (float(each.n_bits), each.cell_diameter) for each in found if each.cell_diameter is not None
    ]
    series = [
        Series.measured("largest error of all pairs", _LENGTHS, [each.supremum for each in found]),
        Series("95 % of pairs are below", [(each.n_bits, each.percentile_95) for each in found]),
        Series("half of the pairs are below", [(each.n_bits, each.median) for each in found]),
        Series.of_law(
            f"bound δ with c = {fitted.constant:.2f}",
            _LENGTHS,
            [embedding.bound(m, size.value, fitted.constant) for m in _LENGTHS],
        ),
    ]
    if cells:
        series.append(Series("widest cell of equal codes", cells))
    plot = Plot(
        f"|d_S − d_H| over the pairs of {len(items)} items by code length. Bars: 95 % intervals "
        "over draws of the hyperplanes.",
        "code length m, bits",
        "|d_S − d_H|",
        series,
        log_x=True,
        log_y=True,
    )
    at = next(each for each in found if each.n_bits == 64)
    answer = (
        f"At 64 bits, half of the pairs are off by less than {180 * at.median:.1f}°, and the worst "
        f"by {180 * at.supremum.value:.0f}°. Errors fall like m^({fitted.exponent.value:.2f})."
    )
    figures = [
        Figure("measured exponent of m (bound: −1/6)", fitted.exponent),
        Figure("fitted c of the bound", value_only(fitted.constant)),
        Figure("largest |d_S − d_H| at 64 bits", at.supremum),
        Figure("codes farther apart than items, at most, at 64 bits", value_only(at.too_far)),
        Figure("codes nearer than items, at most, at 64 bits", value_only(at.too_near)),
    ]
    return Finding(EMBEDDING, answer, figures, [plot])


def angle_law(data: Data) -> Finding:
    """Measure cosines and distances after random relu layers."""
    bins = {n: angles.angle_bins(data.unit, n_layers=n, seed=data.seed) for n in (1, 2)}
    grid = np.linspace(0.02, math.pi, 60)
    in_degrees = [math.degrees(angle) for angle in grid]
    cosines, distances = [], []
    for n, name in ((1, "one layer"), (2, "two layers")):
        own = [math.degrees(each.angle) for each in bins[n]]
        # Equal descriptors have no distance to compare with.
        apart = [each for each in bins[n] if each.angle > 0]
        ratios = [_over(each, math.sin(each.angle / 2) ** 2 * 4) for each in apart]
        cosines.append(Series.measured(f"after {name}", own, [each.cosine for each in bins[n]]))
        cosines.append(
            Series.of_law(f"law, {name}", in_degrees, angles.cosine_after(grid, n).tolist())
        )
        angles_apart = [math.degrees(each.angle) for each in apart]
        distances.append(Series.measured(f"after {name}", angles_apart, ratios))
        law = angles.squared_distance_after(grid, n_layers=n) / (2 - 2 * np.cos(grid))
        distances.append(Series.of_law(f"law, {name}", in_degrees, law.tolist()))
    worst = max(abs(each.cosine.value - each.cosine_expected) for each in bins[1])
    plots = [
        Plot(
            "Mean cosine of pairs after random relu layers of 1,024 units, by their angle before. "
            "Bars: 95 % intervals over draws of the layers.",
            "angle before, degrees",
            "cosine after",
            cosines,
        ),
        Plot(
            "Squared distance after the layers, divided by that before.",
            "angle before, degrees",
            "ratio of squared distances",
            distances,
        ),
    ]
    typical = bins[1][len(bins[1]) // 2]
    answer = (
        f"A typical pair, {math.degrees(typical.angle):.0f}° apart, is "
        f"{math.degrees(math.acos(typical.cosine.value)):.0f}° apart after one layer. The law is "
        f"off by at most {worst:.3f} in the cosine."
    )
    figures = [
        Figure("largest error of the law of cosines, one layer", value_only(worst)),
        Figure("cosine of a typical pair after one layer", typical.cosine),
        Figure("by the law", value_only(typical.cosine_expected)),
    ]
    return Finding(ANGLES, answer, figures, plots)


def recovery(data: Data) -> Finding:
    """Measure how well descriptors are recovered from the outputs of random relu layers."""
    variances = np.linalg.eigvalsh(np.cov(data.unit, rowvar=False).reshape(-1, data.X.shape[1]))
    shares = np.cumsum(variances[::-1]) / variances.sum()
    k = min(int(np.searchsorted(shares, _KEPT_VARIANCE)) + 1, _MOST_DIRECTIONS, len(shares))
    basis = inversion.principal_subspace(data.unit, k)
    chosen = data.unit[sample(len(data.unit), _RECOVERED, data.seed)]
    inside = chosen @ basis
    inside = inside[np.linalg.norm(inside, axis=1) > 0]
    # In the coordinates of the subspace: Gaussian layers are Gaussian there too.
    found = {
        n: [inversion.errors(inside, m, n, lambda U: U, data.seed) for m in _UNITS]
        for n in (1, 2, 3)
    }
    layers = inversion.random_layers([k, 4 * k + 8], data.seed)
    solved = inversion.least_squares(inversion.forward(inside, layers), layers[0])
    exact = float(np.abs(solved - inside).max())
    names = {1: "one layer", 2: "two layers", 3: "three layers"}
    plot = Plot(
        f"Relative error of the recovered descriptors, within their {k} principal dimensions, by "
        "the width of the layers. Bars: 95 % intervals over items.",
        "units m of each layer",
        "‖û − u‖ / ‖u‖",
        [Series.measured(f"recovered from {names[n]}", _UNITS, found[n]) for n in (1, 2, 3)]
        + [
            Series.of_law(
                "law √((2k + 3)/m), one layer",
                _UNITS,
                [inversion.expected_error(k, m) for m in _UNITS],
            )
        ],
        log_x=True,
        log_y=True,
    )
    last = {n: found[n][-1] for n in found}
    answer = (
        f"From {_UNITS[-1]:,} outputs of one random layer, a descriptor is recovered up to "
        f"{100 * last[1].value:.0f} % of its length, from three layers up to "
        f"{100 * last[3].value:.0f} %. Solving the equations of {4 * k + 8} units leaves an error "
        f"of {exact:.0e}."
    )
    figures = [
        Figure("principal dimensions k", value_only(k)),
        Figure("share of the variance in them", value_only(float(shares[k - 1]))),
        *[Figure(f"error from {names[n]} of {_UNITS[-1]:,}", last[n]) for n in last],
        Figure("largest error by linear equations", value_only(exact)),
    ]
    return Finding(INVERSION, answer, figures, [plot])


def _local(data: Data) -> tuple[list[Figure], str]:
    """Return the local dimension and what it says; or no figure, and why there is none."""
    try:
        found = local_dimension(data.X)
    except InvalidInput as error:
        return [], f"How many they use between nearest neighbours is unknown: {error}."
    figure = Figure("local dimension, two nearest neighbours", found)
    return [figure], f"Between nearest neighbours they use {found.value:.1f} dimensions."


def _over(each: angles.AngleBin, before: float) -> Estimate:
    return each.squared_distance.times(1 / before)
