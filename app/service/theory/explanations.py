"""Starting explanations as jobs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from app.explain.laws import LAWS, check_laws
from app.jobs.kind import Progress
from app.jobs.queue import Jobs
from app.jobs.theory import explanation
from app.service.collections.collections import Collections
from app.service.collections.kept_descriptors import kept_descriptors
from app.service.encoder_store import EncoderStore
from app.service.files.dataset_files import Datasets

Export = Callable[[dict[str, Any], Path, Progress], None]


class Explanations:
    """The explanations of a service; their state and results are those of their jobs."""

    def __init__(
        self, datasets: Datasets, collections: Collections, encoders: EncoderStore, jobs: Jobs
    ) -> None:
        self._datasets = datasets
        self._collections = collections
        self._encoders = encoders
        self._jobs = jobs

    def start(
        self,
        laws: list[str] | None,
        items: int,
        seed: int,
        *,
        dataset: str | None = None,
        collection: str | None = None,
        encoder: str | None = None,
    ) -> str:
        """Queue an explanation of a named dataset or of a collection; return the job's id.

        Raises
        ------
        NotFound, UnknownDataset
            There is no such collection, encoder or dataset.
        InvalidInput
            There is no such law; or the collection keeps no descriptors.
        TooMany
            Too many jobs are queued or running.
        """
        chosen = [*LAWS] if laws is None else laws
        check_laws(chosen)
        with nullcontext() if encoder is None else self._encoders.pinned(encoder):
            if collection is not None:
                kept_descriptors(self._collections.get(collection))
                return self._add({"collection": collection}, chosen, encoder, items, seed)
            with self._datasets.using(dataset or ""):
                return self._add({"dataset": dataset or ""}, chosen, encoder, items, seed)

    def _add(
        self, source: dict[str, str], laws: list[str], encoder: str | None, items: int, seed: int
    ) -> str:
        request = explanation.request(source, laws, encoder, items, seed)
        return self._jobs.add(explanation.KIND, request)


def export(
    encoders: EncoderStore,
    export_collection: Export,
    request: dict[str, Any],
    folder: Path,
    progress: Progress,
) -> None:
    """Write the encoder and the collection that a job's request names into the job's folder."""
    if request["encoder"] is not None:
        hasher = encoders.get(request["encoder"]).hasher
        explanation.write_encoder(hasher.to_bytes(), folder)
    export_collection(request, folder, progress)
