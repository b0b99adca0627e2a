"""What the service does, apart from HTTP: encoders, collections and the two together."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.benchmarks import Benchmarks
from app.encoders import Encoder, Encoders
from app.errors import Conflict, TooLarge
from app.settings import Settings
from hashing import Hasher, InvalidInput, make_hasher
from hashing.checks import as_descriptors, check_int
from hashing.storage import from_bytes
from index import Collection, Database, Filter, Found, NotFound, Replaced, Store, snapshot
from index.store import check_name

MAX_DIMENSION = 16384
MAX_VALUES = 1 << 24
DEFAULT_K = 10
# As deep as paging and reranking go.
MAX_REACH = 100_000


class Service:
    """Everything that lies in a data directory, open."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.data_dir / "bitcell.db")
        try:
            self.encoders = Encoders(self.database)
            self.store = Store(self.database)
            self.benchmarks = Benchmarks(self.database, settings.data_dir)
        except BaseException:
            self.database.close()
            raise
        # Held while an encoder is tied to a collection, or dropped because none is.
        self._ties = Lock()
        self._encoding: list[str] = []

    def close(self) -> None:
        """Stop what runs in the background and close the record."""
        self.benchmarks.close()
        self.store.close()
        self.database.close()

    def create_encoder(
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
        """Fit a hasher on descriptors, or make a data-free one for a dimension, and keep it."""
        check_name(name)
        self.encoders.check_free(name)
        if "n_bits" in params:
            raise InvalidInput("n_bits stands beside params, not in it")
        hasher = make_hasher(method, n_bits=n_bits, **params)
        if hasher.needs_torch:
            raise InvalidInput(
                f"{method} is not trained in the service: train it with `bitcell train` and PUT "
                f"the file to /v1/encoders/{name}"
            )
        if descriptors is not None and dimension is not None:
            raise InvalidInput("give training or a dimension, not both")
        if descriptors is None:
            if dimension is None or not hasher.data_free:
                instead = ", or a dimension to do without" if hasher.data_free else ""
                raise InvalidInput(f"{method} needs training, descriptors to fit on{instead}")
            check_int("dimension", dimension, 1, MAX_DIMENSION)
            # One zero descriptor: its mean is zero, so nothing is centred.
            descriptors = np.zeros((1, dimension), np.float32)
        X = as_descriptors(descriptors)
        check_int("dimension", X.shape[1], 1, MAX_DIMENSION)
        hasher.check_parameters()
        if (values := hasher.learned_values(X.shape[1])) > MAX_VALUES:
            raise TooLarge(
                f"an encoder has at most {MAX_VALUES:,} learned values here, this one {values:,}"
            )
        hasher.fit(X, labels)
        return self.encoders.add(name, hasher)

    def add_encoder(self, name: str, file: bytes) -> Encoder:
        """Keep an encoder that `Hasher.save` wrote, given as the bytes of its file."""
        check_name(name)
        self.encoders.check_free(name)
        return self.encoders.add(name, from_bytes(file))

    def drop_encoder(self, name: str) -> None:
        """Forget an encoder that no collection uses."""
        with self._ties:
            if name in self._encoding:
                raise Conflict(f"encoder {name!r} is encoding a collection: wait until it is done")
            users = [c.name for c in self.store.list() if c.encoder == name]
            if users:
                raise Conflict(f"encoder {name!r} is used by {', '.join(users)}: drop those first")
            self.encoders.drop(name)

    def create_collection(
        self, name: str, encoder: str, keep_descriptors: bool = False
    ) -> Collection:
        """An empty collection for codes of an encoder."""
        with self._ties:
            used = self.encoders.get(encoder)
            return self.store.create(
                name,
                used.hasher.n_bits,
                encoder=encoder,
                fingerprint=used.fingerprint,
                keep_descriptors=keep_descriptors,
            )

    def reencode(self, name: str, encoder: str) -> Collection:
        """Encode a collection anew from the descriptors it keeps; it serves meanwhile."""
        with self._ties:
            used = self.encoders.get(encoder)
            self._encoding.append(encoder)
        try:
            return self.store.reencode(
                name,
                used.hasher.encode,
                used.hasher.n_bits,
                encoder=encoder,
                fingerprint=used.fingerprint,
            )
        finally:
            self._encoding.remove(encoder)

    def snapshot(self, name: str) -> tuple[str, int]:
        """Write a collection to a new file in `snapshots/`: its name, and how many items it has."""
        collection = self.store.get(name)
        folder = self.settings.data_dir / "snapshots"
        folder.mkdir(exist_ok=True)
        file = f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.snapshot"
        return file, snapshot.write(collection, folder / file)

    def restore(self, name: str, file: str) -> Collection:
        """A new collection of the items in a file in `snapshots/`."""
        path = self.settings.data_dir / "snapshots" / file
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", file) or not path.is_file():
            raise NotFound(f"there is no snapshot {file!r:.200} in {path.parent}")
        return snapshot.read(self.store, path, name)

    def upsert(
        self,
        name: str,
        ids: list[str],
        descriptors: ArrayLike,
        labels: list[int | None] | NDArray[np.int64] | None = None,
        payloads: list[dict[str, Any] | None] | None = None,
    ) -> Collection:
        """Encode descriptors and put them into a collection."""
        while True:
            collection = self.store.get(name)
            codes = self._hasher(collection).encode(descriptors)
            if len(codes) != len(ids):
                raise InvalidInput(f"expected {len(codes)} ids, one a descriptor, got {len(ids)}")
            kept = descriptors if collection.keep_descriptors else None
            try:
                collection.upsert(ids, codes, labels, payloads, kept)
            except Replaced:
                # It has been encoded anew meanwhile, and so must these be.
                continue
            return collection

    def query(
        self,
        name: str,
        k: int | None,
        radius: int | None,
        *,
        descriptors: ArrayLike | None = None,
        ids: list[str] | None = None,
        payloads: bool = True,
        offset: int = 0,
        where: Filter | None = None,
        rerank: int | None = None,
        rerank_by: str | None = None,
    ) -> list[Found]:
        """The neighbours of descriptors, or of items that are in the collection."""
        collection = self.store.get(name)
        if k is None:
            k = DEFAULT_K if radius is None else self.settings.max_k
        if k > self.settings.max_k:
            raise InvalidInput(f"k is at most {self.settings.max_k} (BITCELL_MAX_K), got {k}")
        reach = max(offset + k, rerank or 0)
        if reach > MAX_REACH:
            raise InvalidInput(f"offset + k, and rerank, are at most {MAX_REACH}, got {reach}")
        if descriptors is None:
            codes = collection.codes(ids or [])
            if rerank is not None:
                descriptors = collection.descriptors(ids or [])
        else:
            codes = self._hasher(collection).encode(descriptors)
        if len(codes) * min(reach, len(collection)) > self.settings.max_results:
            raise TooLarge(
                f"a query returns at most {self.settings.max_results} neighbours "
                f"(BITCELL_MAX_RESULTS), this one asks for {len(codes)} times {reach}"
            )
        by: dict[str, Any] = {}
        if rerank is not None:
            if rerank_by is None:
                rerank_by = "descriptors" if collection.keep_descriptors else "bits"
            if rerank_by == "descriptors":
                by["descriptors"] = descriptors
            else:
                queries: Any = descriptors
                by["projections"] = self._hasher(collection).project(queries)
        return collection.search(
            codes, k, radius, payloads=payloads, offset=offset, where=where, rerank=rerank, **by
        )

    def _hasher(self, collection: Collection) -> Hasher:
        encoder = self.encoders.get(collection.encoder)
        if encoder.fingerprint != collection.fingerprint:
            raise Conflict(
                f"collection {collection.name!r} holds codes of the encoder with fingerprint "
                f"{collection.fingerprint}; {collection.encoder!r} has {encoder.fingerprint}"
            )
        return encoder.hasher
