"""False alarms of the tests for drift in 100 trials, and alarms where something has changed.

    python -m bench.drift cifar10-gist384.npz cifar10-jpeg.tar.gz --trials 5

The first file has the arrays `descriptors`, `labels` and `ids`, the second one, which may be left
out, the images. `--trials` is the number of trials of each change, by default 20.
References are drawn from one half of the training images, windows from the other half or from the
test images, so that no item is in both.
"""

from __future__ import annotations

import argparse
import io
import tarfile
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.service.drift.two_samples import differences
from app.service.drift.watch import REMEMBERED, WINDOW
from app.service.drift.watched import LEAST_P
from bitcodes import Words, to_words
from hashing import Hasher, make_hasher
from hashing.gist import Gist

TRIALS, CHANGED_TRIALS = 100, 20
N_BITS, REFERENCE, _TRAINING, _IMAGES = 64, 2048, 5000, 4000

Draw = Callable[[np.random.Generator], Words]


def alarmed(reference: Words, windows: list[Words], n_bits: int, seed: int) -> bool:
    """Return whether any window raises an alarm."""
    half = len(reference) // 2
    base, held = reference[:half], reference[half:]
    return any(
        one.p_value <= LEAST_P
        for number, window in enumerate(windows)
        for one in differences(base, held, window, n_bits, LEAST_P, seed + number)
    )


def false_alarms(words: Words, n_bits: int, trials: int = TRIALS) -> float:
    """Return in which share of trials ten windows of shuffled codes raise an alarm."""
    found = 0
    for trial in range(trials):
        order = np.random.default_rng(trial).permutation(len(words))
        size = REFERENCE + REMEMBERED * WINDOW
        reference, rest = np.split(words[order[:size]], [REFERENCE])
        found += alarmed(reference, np.split(rest, REMEMBERED), n_bits, 1000 * trial)
    return found / trials


def alarms(words: Words, draw: Draw, n_bits: int, trials: int) -> float:
    """Return in which share of trials one window that `draw` returns raises an alarm."""
    found = 0
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        reference = words[rng.permutation(len(words))[:REFERENCE]]
        found += alarmed(reference, [draw(rng)], n_bits, trial)
    return found / trials


def encoded(hasher: Hasher, X: NDArray[np.float32]) -> Words:
    """Return codes as words."""
    return to_words(hasher.encode(X))


def gist_of_images(path: str, prefilter: float) -> NDArray[np.float32]:
    """Return the descriptors of the first images of each class, of another setting than usual."""
    images = []
    with tarfile.open(path) as archive:
        members = [member.name for member in archive if member.name.endswith(".jpg")]
        names = sorted(name for name in members if name.startswith("test/"))
        for name in names[:: max(1, len(names) // _IMAGES)]:
            file = archive.extractfile(name)
            if file is not None:
                images.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
    return Gist(prefilter=prefilter).transform(np.stack(images))


def main(descriptors: str, images: str | None, trials: int) -> None:
    """Print the shares of trials with an alarm."""
    with np.load(descriptors) as arrays:
        rows = np.char.startswith(arrays["ids"].astype(str), "train/")
        X, y = arrays["descriptors"][rows].astype(np.float32), arrays["labels"][rows]
    hasher = make_hasher("lsh", n_bits=N_BITS).fit(X[:_TRAINING])
    words = encoded(hasher, X[_TRAINING : len(X) // 2])
    X, y = X[len(X) // 2 :], y[len(X) // 2 :]
    new = encoded(hasher, X)
    print(f"nothing changed: {false_alarms(words, N_BITS):.0%} of {TRIALS} trials", flush=True)

    def mixed(share: float) -> Draw:
        of_class, others = np.flatnonzero(y == 0), np.flatnonzero(y != 0)
        n = int(share * WINDOW)
        return lambda rng: new[
            np.concatenate(
                [
                    rng.choice(of_class, n, replace=False),
                    rng.choice(others, WINDOW - n, replace=False),
                ]
            )
        ]

    def noisy(share: float) -> Draw:
        deviation = share * X.std(axis=0)

        def draw(rng: np.random.Generator) -> Words:
            some = X[rng.choice(len(X), WINDOW, replace=False)]
            noise = deviation * rng.standard_normal(some.shape)
            return encoded(hasher, (some + noise).astype(np.float32))

        return draw

    cases = {f"one class is {share:.0%} of the items": mixed(share) for share in (0.15, 0.2, 0.3)}
    cases |= {f"noise of {share:g} deviations": noisy(share) for share in (0.2, 0.5, 1.0)}

    def photographed(file: str, prefilter: float) -> Draw:
        of_images = encoded(hasher, gist_of_images(file, prefilter))
        return lambda rng: of_images[rng.choice(len(of_images), WINDOW, replace=False)]

    if images is not None:
        for prefilter in (4.0, 5.0, 8.0):
            cases[f"GIST with prefilter {prefilter:g}"] = photographed(images, prefilter)
    for name, draw in cases.items():
        print(f"{name}: {alarms(words, draw, N_BITS, trials):.0%} of {trials} trials", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("descriptors")
    parser.add_argument("images", nargs="?")
    parser.add_argument("--trials", type=int, default=CHANGED_TRIALS, help="of each change")
    given = parser.parse_args()
    main(given.descriptors, given.images, given.trials)
