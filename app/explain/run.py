"""Measure the laws on a dataset, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from app.datasets.dataset import Dataset
from app.explain import codes, geometry, learning
from app.explain.data import N_BITS, Data, Encoder
from app.explain.finding import Finding, Law, as_json
from app.explain.laws import ITEMS, LAWS, check_laws
from hashing import InvalidInput

Progress = Callable[[int, int, str], None]

_MEASURED: tuple[tuple[Law, Callable[[Data], Finding]], ...] = (
    (geometry.WIDTH, geometry.width),
    (geometry.EMBEDDING, geometry.stable_embedding),
    (codes.CALIBRATION, codes.calibration),
    (learning.COMPRESSION, learning.compression),
    (learning.LABELS, learning.labels),
    (learning.TRAINING, learning.training),
    (codes.PRIVACY, codes.privacy),
    (geometry.ANGLES, geometry.angle_law),
    (geometry.INVERSION, geometry.recovery),
)


@dataclass(frozen=True)
class Explanation:
    """What the laws say about a dataset.

    Attributes
    ----------
    dataset : str
    n_items, n_sampled, dimension : int
    trained : str or None
        The trained encoder that is compared with random ones; None if there was none.
    seed : int
    findings : list of Finding
    interrupted : bool
        Whether it was interrupted, so that laws are missing.
    """

    dataset: str
    n_items: int
    n_sampled: int
    dimension: int
    trained: str | None
    seed: int
    findings: list[Finding]
    interrupted: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the explanation as a dict that JSON can hold."""
        return {
            "dataset": {
                "name": self.dataset,
                "items": self.n_items,
                "sampled": self.n_sampled,
                "dimension": self.dimension,
            },
            "trained": self.trained,
            "n_bits": N_BITS,
            "seed": self.seed,
            "findings": as_json(self.findings),
        }


def explain(
    dataset: Dataset,
    progress: Progress,
    *,
    laws: Sequence[str] = LAWS,
    encoder: Encoder | None = None,
    n_items: int = ITEMS,
    seed: int = 0,
) -> Explanation:
    """Measure laws on a sample of a dataset.

    Parameters
    ----------
    dataset : Dataset
    progress : callable
        Takes the laws done, their number, and the one that is measured next.
    laws : sequence of str
        Keys of `LAWS`.
    encoder : Encoder, optional
        A fitted encoder to compare with random ones, in place of one that is trained here.
    n_items : int
        Items of the sample, at most.
    seed : int

    Raises
    ------
    InvalidInput
        There are too few items, they are constant, no law is chosen, or there is no such law. A law
        that needs labels, where these are missing, is reported with the reason.
    KeyboardInterrupt
        It was interrupted before the first law was measured. Later, the laws that are missing are
        reported as such.
    """
    check_laws(laws)
    data = Data(dataset, n_items, seed, encoder)
    chosen = [each for each in _MEASURED if each[0].key in laws]
    findings: list[Finding] = []
    interrupted = False
    for done, (law, measure) in enumerate(chosen):
        try:
            progress(done, len(chosen), law.key)
            findings.append(measure(data))
        except InvalidInput as error:
            findings.append(Finding(law, problem=str(error)))
        except KeyboardInterrupt:
            if not findings:
                raise
            findings += [Finding(each, problem="interrupted") for each, _ in chosen[done:]]
            interrupted = True
            break
    progress(len(chosen), len(chosen), "done")
    return Explanation(
        dataset=dataset.name,
        n_items=len(dataset),
        n_sampled=len(data.X),
        dimension=data.X.shape[1],
        trained=data.trained_name,
        seed=seed,
        findings=findings,
        interrupted=interrupted,
    )
