"""Re-encoding a collection from the descriptors it keeps, as a job inside the service."""

from __future__ import annotations

from app.jobs.kind import Outcome, Progress, Task
from app.service.encoder_store import EncoderStore
from app.service.prometheus import Metrics
from app.service.room import checking_room
from app.service.settings import Settings
from index import Store


def work(
    store: Store,
    encoders: EncoderStore,
    metrics: Metrics,
    settings: Settings,
    task: Task,
    progress: Progress,
) -> Outcome:
    """Re-encode the collection that the task names with the encoder that it names."""
    name = task.request["collection"]
    encoder = encoders.get(task.request["encoder"])
    collection = store.get(name)
    checked = checking_room(settings, progress)
    # Equal fingerprints: the job was done before a crash, or there is nothing to do.
    if collection.fingerprint != encoder.fingerprint:
        collection = store.reencode(
            name,
            encoder.hasher.encode,
            encoder.hasher.n_bits,
            encoder=encoder.name,
            fingerprint=encoder.fingerprint,
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
