"""Re-encoding a collection from the descriptors it keeps, as a job inside the service."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from numpy.typing import NDArray

from app.errors import Conflict
from app.jobs.kind import Outcome, Progress, Task
from app.service.collections.estimates import estimator
from app.service.collections.kept_descriptors import check_kept
from app.service.encoder_store import EncoderStore
from app.service.prometheus import Metrics
from app.service.room import checking_room
from app.service.settings import Settings
from bitcodes import Codes
from index import NotFound
from index.backend import Collection, Store

_LOSSY = (
    "they were lost when they were written, so that new codes would be worse; load the items into "
    'a new collection with keep_descriptors "float32". Nothing was changed'
)

log = structlog.stdlib.get_logger("bitcell")


def work(
    store: Store,
    encoders: EncoderStore,
    metrics: Metrics,
    settings: Settings,
    task: Task,
    progress: Progress,
) -> Outcome:
    """Re-encode the collection that the task names with the encoder that it names.

    Raise InvalidInput, before any code is replaced, if the kept descriptors no longer give the
    codes that they once gave.
    """
    name = task.request["collection"]
    encoder = encoders.get(task.request["encoder"])
    collection = store.get(name)
    checked = checking_room(settings, progress)
    check = _check(encoders, collection)
    # Jobs of earlier versions name no metric.
    metric = task.request.get("metric", collection.metric)
    factors = None
    if metric is not None:
        hasher, metric = estimator(encoder.hasher, metric, encoder.name)
        factors = partial(hasher.factors, metric=metric)
    # If nothing differs, the job was done before a crash, or there is nothing to do.
    if (collection.fingerprint, collection.metric) != (encoder.fingerprint, metric):
        collection = store.reencode(
            name,
            encoder.hasher.encode,
            encoder.hasher.n_bits,
            encoder=encoder.name,
            fingerprint=encoder.fingerprint,
            metric=metric,
            factors=factors,
            check=check,
            progress=lambda done, of: checked(done, of, f"{done:,} of {of:,} items"),
        )
        # Distances between codes of different encoders do not belong in one histogram.
        metrics.remove_collection(name)
    return Outcome(
        {
            "collection": name,
            "encoder": encoder.name,
            "fingerprint": encoder.fingerprint,
            "n_bits": collection.n_bits,
            "items": len(collection),
        }
    )


def _check(encoders: EncoderStore, collection: Collection) -> Callable[[NDArray[Any], Codes], None]:
    """Return what compares kept descriptors with the present codes of a collection."""
    name = collection.name
    try:
        hasher = encoders.hasher_of(collection)
    except (NotFound, Conflict) as error:
        log.warning("the kept descriptors cannot be checked", collection=name, error=str(error))
        return lambda kept, codes: None
    return lambda kept, codes: check_kept(hasher, kept, codes, name, _LOSSY)
