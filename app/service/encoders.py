"""Creating, training, uploading, using and dropping encoders."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from app.errors import Conflict, TooLarge
from app.jobs import training
from app.jobs.kind import Outcome
from app.jobs.queue import Jobs
from app.jobs.theory import explanation
from app.service.checks import Size, check_batch
from app.service.collections.collections import Collections
from app.service.collections.kept_descriptors import kept_descriptors
from app.service.encoder_store import Encoder, EncoderStore
from app.service.files.dataset_files import Datasets
from app.service.room import check_room
from app.service.settings import Settings
from bitcodes import Codes, code_size
from hashing import Hasher, InvalidInput, make_hasher
from hashing.registry import from_bytes
from hashing.validation import as_descriptors, check_int
from index import AlreadyExists, check_name

MAX_DIMENSION = 16_384
MAX_LEARNED_VALUES = 1 << 24


class Encoders:
    """The encoders of a service, by name."""

    def __init__(
        self,
        settings: Settings,
        store: EncoderStore,
        collections: Collections,
        jobs: Jobs,
        datasets: Datasets,
    ) -> None:
        self._settings = settings
        self._datasets = datasets
        self._store = store
        self._collections = collections
        self._jobs = jobs

    def get(self, name: str) -> Encoder:
        """Return the encoder with this name; raise NotFound if there is none."""
        return self._store.get(name)

    def list(self) -> list[Encoder]:
        """Return all encoders, sorted by name."""
        return self._store.list()

    def create(
        self,
        name: str,
        method: str,
        n_bits: int,
        params: dict[str, Any],
        *,
        dimension: int | None = None,
        descriptors: ArrayLike | None = None,
        labels: ArrayLike | None = None,
    ) -> Encoder:
        """Create an encoder of a data-free method, for a dimension or from descriptors."""
        hasher = self._new_hasher(name, method, n_bits, params)
        if not hasher.data_free:
            raise InvalidInput(f"{method} learns from descriptors: give `training`")
        if descriptors is None and dimension is None:
            raise InvalidInput(f"{method} needs a `dimension`, or descriptors in `training`")
        if descriptors is None:
            check_int("dimension", dimension, 1, MAX_DIMENSION)
            # The mean of one zero descriptor is zero, so nothing is centred.
            descriptors = np.zeros((1, dimension or 0), np.float32)
        X = as_descriptors(descriptors)
        _check_size(hasher, X.shape[1])
        return self.add(name, hasher.fit(X, labels))

    def train(
        self,
        name: str,
        method: str,
        n_bits: int,
        params: dict[str, Any],
        *,
        descriptors: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        dataset: str | None = None,
        privileged: bool = True,
        collection: str | None = None,
    ) -> str:
        """Check what an encoder is to learn from, queue its training, and return the job's id."""
        hasher = self._new_hasher(name, method, n_bits, params)
        request = {"name": name, "method": method, "n_bits": n_bits, "params": params}
        material = None
        if descriptors is not None:
            training.check_trainable(hasher, labelled=labels is not None)
            X = as_descriptors(descriptors)
            _check_size(hasher, X.shape[1])
            material = training.pack(X, labels)
            check_room(self._settings, len(material))
            source: dict[str, Any] = {"descriptors": len(X)}
        elif dataset is not None:
            training.check_trainable(hasher, labelled=True)
            source = {"dataset": dataset, "privileged": privileged}
        else:
            dimension, labelled = kept_descriptors(self._collections.get(collection or ""))
            training.check_trainable(hasher, labelled=labelled)
            _check_size(hasher, dimension)
            source = {"collection": collection}
        in_use = nullcontext() if dataset is None else self._datasets.using(dataset)
        with self._store.naming(), in_use:
            self._check_name_free(name)
            return self._jobs.add("training", request | {"training": source}, material)

    def upload(self, name: str, file: bytes) -> Encoder:
        """Store an encoder given as the bytes of a file that `Hasher.save` wrote."""
        check_name(name)
        self._check_name_free(name)
        return self.add(name, read_file(file))

    def file(self, name: str, size: Size) -> bytes:
        """Return an encoder as the bytes of a file; `size` counts them."""
        hasher = self.get(name).hasher
        size(np.dtype(np.float32).itemsize * hasher.n_learned)
        return hasher.to_bytes()

    def drop(self, name: str) -> None:
        """Delete an encoder; raise Conflict while a collection or a job uses it."""

        def check_unused() -> None:
            reencodings = self._jobs.open_requests("reencoding")
            if name in [request["encoder"] for request in reencodings]:
                raise Conflict(
                    f"encoder {name!r} is re-encoding a collection: wait until it is done"
                )
            explanations = self._jobs.open_requests(explanation.KIND)
            if name in [request["encoder"] for request in explanations]:
                raise Conflict(
                    f"encoder {name!r} is used by an explanation that waits or runs: cancel it, or "
                    "wait until it is done"
                )
            users = [one.name for one in self._collections.list() if one.encoder == name]
            if users:
                raise Conflict(f"encoder {name!r} is used by {', '.join(users)}: drop those first")

        self._store.drop(name, check_unused)

    def encode(
        self, name: str, descriptors: ArrayLike, size: Size, *, as_text: bool = False
    ) -> tuple[Hasher, Codes]:
        """Return the hasher with this name, and its packed codes of descriptors, (n, d).

        `size` counts the bytes of the codes: twice as many as text.
        """
        hasher = self.get(name).hasher
        X = as_descriptors(descriptors)
        check_batch(len(X), self._settings)
        n_bytes = code_size(hasher.n_bits)
        size(len(X) * (2 * n_bytes + len('"",') if as_text else n_bytes))
        return hasher, hasher.encode(X)

    def _new_hasher(self, name: str, method: str, n_bits: int, params: dict[str, Any]) -> Hasher:
        """Return an unfitted hasher; raise unless its name is free and its parameters are valid."""
        check_name(name)
        self._check_name_free(name)
        if "n_bits" in params:
            raise InvalidInput("give n_bits next to params, not inside it")
        hasher = make_hasher(method, n_bits=n_bits, **params)
        hasher.check_parameters()
        return hasher

    def add(self, name: str, hasher: Hasher) -> Encoder:
        """Store a fitted hasher under a new name."""
        check_room(self._settings)
        with self._store.naming():
            self._check_name_free(name)
            return self._store.add(name, hasher)

    def _check_name_free(self, name: str) -> None:
        # In this order: a training that ends in between has stored its encoder.
        if (job := self._jobs.trains(name)) is not None:
            raise AlreadyExists(f"an encoder {name!r} is already being trained by job {job}")
        self._store.check_free(name)


def keep_trained(store: EncoderStore, request: dict[str, Any], outcome: Outcome) -> Outcome:
    """Store the encoder that a training job produced; return what the job record keeps."""
    hasher = read_file(outcome.output or b"")
    name = request["name"]
    stored = [encoder.fingerprint for encoder in store.list() if encoder.name == name]
    # The same encoder is already stored if the service was killed before the job was recorded.
    if stored != [outcome.result["fingerprint"]]:
        store.add(name, hasher)
    return Outcome(outcome.result)


def read_file(file: bytes) -> Hasher:
    """Return the fitted hasher in an encoder file, which may come from anyone.

    Raise BadEncoder if it is none, and TooLarge or InvalidInput if it exceeds a limit.
    """
    hasher = from_bytes(file)
    _check_limits(hasher.n_features_in_, hasher.n_learned)
    return hasher


def _check_size(hasher: Hasher, dimension: int) -> None:
    _check_limits(dimension, hasher.learned_values(dimension))


def _check_limits(dimension: int, values: int) -> None:
    check_int("dimension", dimension, 1, MAX_DIMENSION)
    if values > MAX_LEARNED_VALUES:
        raise TooLarge(
            f"an encoder has at most {MAX_LEARNED_VALUES:,} learned values; this one would have "
            f"{values:,}"
        )
