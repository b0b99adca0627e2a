"""What the service does, apart from HTTP: encoders, collections and the two together."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.benchmark.measure import Row
from app.benchmark.splits import Protocol
from app.datasets.formats import UnknownDataset, known_datasets
from app.http.problems import Conflict, TooLarge
from app.jobs import benchmark, collection_files, training
from app.jobs.kind import Kind, Outcome, Progress, Task
from app.jobs.queue import Jobs
from app.service.encoders import Encoder, Encoders
from app.service.keys import Keys
from app.service.prometheus import Metrics
from app.service.settings import Settings
from bitcodes import Codes
from hashing import Hasher, InvalidInput, make_hasher
from hashing.registry import from_bytes
from hashing.validation import as_descriptors, check_int
from index import (
    AlreadyExists,
    Collection,
    Database,
    Filter,
    Found,
    NotFound,
    Store,
)
from index.storage import snapshot
from index.store import check_name

MAX_DIMENSION = 16384
MAX_VALUES = 1 << 24
DEFAULT_K = 10
# As deep as paging and reranking go.
MAX_REACH = 100_000
# As many as FastAPI has for all other calls.
QUERY_THREADS = 40


class Service:
    """Everything that lies in a data directory, open."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.data_dir / "bitcell.db")
        try:
            self.encoders = Encoders(self.database)
            self.store = Store(self.database)
            self.keys = Keys(settings.data_dir)
            kinds = {
                "benchmark": Kind(benchmark.work, prepare=self._hand_over),
                "training": Kind(training.work, prepare=self._hand_over, finish=self._keep_trained),
                "reencoding": Kind(self._reencode, inside=True),
            }
            self.jobs = Jobs(
                self.database,
                settings.data_dir,
                kinds,
                workers=settings.job_workers,
                limit=settings.max_jobs,
            )
        except BaseException:
            self.database.close()
            raise
        # Held while an encoder is tied to a collection, or dropped because none is.
        self._ties = Lock()
        self.queries = ThreadPoolExecutor(QUERY_THREADS, "query")
        """Where queries are answered, off the event loop."""
        self.imaging = ThreadPoolExecutor(1, "imaging")
        """Where image files are unpacked: one at a time, since each may take much memory."""
        self.metrics = Metrics()
        self.metrics.watch(self)
        self.jobs.resume()

    def close(self) -> None:
        """Stop what runs in the background and close the record."""
        self.imaging.shutdown()
        self.queries.shutdown()
        self.jobs.close()
        self.store.close()
        self.keys.close()
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
        """Make a data-free encoder, for a dimension or for the moments of descriptors."""
        hasher = self._new_hasher(name, method, n_bits, params)
        if not hasher.data_free:
            raise InvalidInput(f"{method} needs training, descriptors to fit on")
        if descriptors is None:
            if dimension is None:
                raise InvalidInput(
                    f"{method} needs training, descriptors to fit on, or a dimension to do without"
                )
            check_int("dimension", dimension, 1, MAX_DIMENSION)
            # One zero descriptor: its mean is zero, so nothing is centred.
            descriptors = np.zeros((1, dimension), np.float32)
        X = as_descriptors(descriptors)
        _check_size(hasher, X.shape[1])
        return self.encoders.add(name, hasher.fit(X, labels))

    def train_encoder(
        self,
        name: str,
        method: str,
        n_bits: int,
        params: dict[str, Any],
        *,
        descriptors: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        dataset: str | None = None,
        collection: str | None = None,
    ) -> str:
        """Check what is to be learned from and queue the training of an encoder; the job's id."""
        hasher = self._new_hasher(name, method, n_bits, params)
        request = {"name": name, "method": method, "n_bits": n_bits, "params": params}
        material = None
        if descriptors is not None:
            training.check_trainable(hasher, labelled=labels is not None)
            X = as_descriptors(descriptors)
            _check_size(hasher, X.shape[1])
            material = training.pack(X, labels)
            source: dict[str, Any] = {"descriptors": len(X)}
        elif dataset is not None:
            training.check_trainable(hasher, labelled=True)
            self.check_dataset(dataset)
            source = {"dataset": dataset}
        else:
            dimension, labelled = self._kept(collection or "")
            training.check_trainable(hasher, labelled=labelled)
            _check_size(hasher, dimension)
            source = {"collection": collection}
        with self._ties:
            self._check_name_free(name)
            return self.jobs.add("training", request | {"training": source}, material)

    def start_benchmark(
        self,
        table: list[Row],
        protocol: Protocol,
        seeds: list[int],
        *,
        dataset: str | None = None,
        collection: str | None = None,
    ) -> str:
        """Queue a benchmark of a dataset known by name, or of what a collection keeps; its id."""
        if collection is not None:
            _, labelled = self._kept(collection)
            if not labelled:
                raise InvalidInput(f"collection {collection!r} has no labels to judge by")
            source = {"collection": collection}
        else:
            source = {"dataset": dataset or ""}
            self.check_dataset(source["dataset"])
        return self.jobs.add("benchmark", benchmark.request(source, table, protocol, seeds))

    def _kept(self, name: str) -> tuple[int, bool]:
        """The dimension of the descriptors a collection keeps, and whether any has a label."""
        collection = self.store.get(name)
        if not collection.keep_descriptors:
            raise InvalidInput(
                f"collection {name!r} keeps no descriptors, only codes: "
                "make one with keep_descriptors"
            )
        view, rows = collection.moment()
        if collection.dimension is None or not len(rows):
            raise InvalidInput(f"collection {name!r} holds no items")
        return collection.dimension, bool((view.labels(rows) >= 0).any())

    def _hand_over(self, request: dict[str, Any], folder: Path) -> None:
        """Write what a job needs of a collection into its folder."""
        if name := request.get("training", request).get("collection"):
            self._kept(name)
            self.store.use(name, lambda collection: collection_files.write(collection, folder))

    def check_dataset(self, name: str) -> None:
        """Raise UnknownDataset unless the name, never a path, is that of a dataset."""
        known = known_datasets(self.settings.data_dir)
        if name not in known:
            raise UnknownDataset(f"there is no dataset {name!r:.80}; there are {', '.join(known)}")

    def add_encoder(self, name: str, file: bytes) -> Encoder:
        """Keep an encoder that `Hasher.save` wrote, given as the bytes of its file."""
        check_name(name)
        self._check_name_free(name)
        hasher = from_bytes(file)
        _check_fitted_size(hasher)
        return self.encoders.add(name, hasher)

    def drop_encoder(self, name: str) -> None:
        """Forget an encoder that no collection uses."""
        with self._ties:
            if name in [request["encoder"] for request in self._reencodings()]:
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

    def reencode(self, name: str, encoder: str) -> str:
        """Queue the encoding anew of a collection from the descriptors it keeps; the job's id."""
        with self._ties:
            hasher = self.encoders.get(encoder).hasher
            dimension, _ = self._kept(name)
            if dimension != hasher.n_features_in_:
                raise InvalidInput(
                    f"encoder {encoder!r} takes descriptors of {hasher.n_features_in_} numbers, "
                    f"collection {name!r} keeps some of {dimension}"
                )
            if name in [request["collection"] for request in self._reencodings()]:
                raise AlreadyExists(f"collection {name!r} is being encoded anew already")
            return self.jobs.add("reencoding", {"collection": name, "encoder": encoder})

    def _reencodings(self) -> list[dict[str, Any]]:
        return self.jobs.open_requests("reencoding")

    def _reencode(self, task: Task, progress: Progress) -> Outcome:
        name, used = task.request["collection"], self.encoders.get(task.request["encoder"])
        collection = self.store.get(name)
        # Otherwise it was done before a crash, or there is nothing to do.
        if collection.fingerprint != used.fingerprint:
            collection = self.store.reencode(
                name,
                used.hasher.encode,
                used.hasher.n_bits,
                encoder=used.name,
                fingerprint=used.fingerprint,
                progress=lambda done, of: progress(done, of, f"{done:,} of {of:,} items"),
            )
            # Distances of other codes are no measure for these.
            self.metrics.forget(name)
        return Outcome(
            {
                "collection": name,
                "encoder": used.name,
                "fingerprint": used.fingerprint,
                "n_bits": collection.n_bits,
                "items": len(collection),
            }
        )

    def snapshot(self, name: str) -> tuple[str, int]:
        """Write a collection to a new file in `snapshots/`: its name, and how many items it has."""
        folder = self.settings.data_dir / "snapshots"
        self.store.get(name)
        folder.mkdir(exist_ok=True)
        file = f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.snapshot"
        return file, self.store.use(name, lambda one: snapshot.write(one, folder / file))

    def restore(self, name: str, file: str) -> Collection:
        """A new collection of the items in a file in `snapshots/`."""
        path = self.settings.data_dir / "snapshots" / file
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", file) or not path.is_file():
            raise NotFound(f"there is no snapshot {file!r:.200} in {path.parent}")
        return snapshot.read(self.store, path, name)

    def drop_collection(self, name: str) -> None:
        """Drop a collection, its items and its figures."""
        self.store.drop(name)
        self.metrics.forget(name)

    def upsert(
        self,
        name: str,
        ids: list[str],
        descriptors: ArrayLike,
        labels: list[int | None] | NDArray[np.int64] | None = None,
        payloads: list[dict[str, Any] | None] | None = None,
    ) -> Collection:
        """Encode descriptors and put them into a collection."""
        self._check_batch(len(ids))

        def put(collection: Collection) -> Collection:
            codes = self._hasher(collection).encode(descriptors)
            if len(codes) != len(ids):
                raise InvalidInput(f"expected {len(codes)} ids, one a descriptor, got {len(ids)}")
            kept = descriptors if collection.keep_descriptors else None
            collection.upsert(ids, codes, labels, payloads, kept)
            return collection

        return self.store.use(name, put)

    def query(
        self,
        name: str,
        k: int | None,
        radius: int | None,
        *,
        descriptors: ArrayLike | None = None,
        ids: list[str] | None = None,
        payloads: bool = True,
        codes: bool = False,
        offset: int = 0,
        where: Filter | None = None,
        rerank: int | None = None,
        rerank_by: str | None = None,
    ) -> list[Found]:
        """The neighbours of descriptors, or of items that are in the collection."""
        if k is None:
            k = DEFAULT_K if radius is None else self.settings.max_k
        if k > self.settings.max_k:
            raise InvalidInput(f"k is at most {self.settings.max_k} (BITCELL_MAX_K), got {k}")
        reach = max(offset + k, rerank or 0)
        if reach > MAX_REACH:
            raise InvalidInput(f"offset + k, and rerank, are at most {MAX_REACH}, got {reach}")
        if descriptors is None:
            self._check_batch(len(ids or []))
        else:
            descriptors = as_descriptors(descriptors)
            self._check_batch(len(descriptors))

        def search(collection: Collection) -> list[Found]:
            n = len(ids or []) if descriptors is None else len(descriptors)
            if n * min(reach, len(collection)) > self.settings.max_results:
                raise TooLarge(
                    f"a query returns at most {self.settings.max_results} neighbours "
                    f"(BITCELL_MAX_RESULTS), this one asks for {n} times {reach}"
                )
            if descriptors is None:
                queries = collection.codes(ids or [])
            else:
                queries = self._hasher(collection).encode(descriptors)
            by: dict[str, Any] = {}
            if rerank is not None:
                by = self._rerank_by(collection, rerank_by, descriptors, ids)
            return collection.search(
                queries,
                k,
                radius,
                payloads=payloads,
                codes=codes,
                offset=offset,
                where=where,
                rerank=rerank,
                **by,
            )

        found = self.store.use(name, search)
        # Of a later page the nearest are not there, and reranked they are in another order.
        if offset == 0 and rerank is None:
            self.metrics.answers(name, [one.neighbours for one in found])
        return found

    def _rerank_by(
        self,
        collection: Collection,
        by: str | None,
        descriptors: ArrayLike | None,
        ids: list[str] | None,
    ) -> dict[str, Any]:
        """What a collection reranks by: descriptors of the queries, or their projections."""
        queries: Any = descriptors
        if queries is None:
            if not collection.keep_descriptors:
                raise InvalidInput(
                    f"collection {collection.name!r} keeps no descriptors: to rerank, ask with "
                    "those of the queries in place of ids"
                )
            queries = collection.descriptors(ids or [])
        if by is None:
            by = "descriptors" if collection.keep_descriptors else "bits"
        if by == "descriptors":
            return {"descriptors": queries}
        return {"projections": self._hasher(collection).project(queries)}

    def check_dimension(self, name: str, dimension: int) -> None:
        """InvalidInput where the encoder of a collection takes others; NotFound."""
        takes = self._hasher(self.store.get(name)).n_features_in_
        if takes != dimension:
            raise InvalidInput(f"expected descriptors of dimension {takes}, got {dimension}")

    def _check_batch(self, size: int) -> None:
        if size > self.settings.max_batch:
            raise TooLarge(
                f"a request has at most {self.settings.max_batch} descriptors or items "
                f"(BITCELL_MAX_BATCH), this one has {size}"
            )

    def encode(self, name: str, descriptors: ArrayLike) -> tuple[Hasher, Codes]:
        """The encoder of a name, and its codes of descriptors."""
        hasher = self.encoders.get(name).hasher
        X = as_descriptors(descriptors)
        self._check_batch(len(X))
        return hasher, hasher.encode(X)

    def describe(self, images: list[bytes]) -> NDArray[np.float32]:
        """GIST descriptors of image files, (n, 384); for a thread of `imaging`."""
        # Not at the top: a service that is sent no image should not carry Pillow.
        from app.service.images import describe

        self._check_batch(len(images))
        return describe(images, self.settings.max_pixels)

    def _new_hasher(self, name: str, method: str, n_bits: int, params: dict[str, Any]) -> Hasher:
        """An unfitted hasher, for a name that is free."""
        check_name(name)
        self._check_name_free(name)
        if "n_bits" in params:
            raise InvalidInput("n_bits stands beside params, not in it")
        hasher = make_hasher(method, n_bits=n_bits, **params)
        hasher.check_parameters()
        return hasher

    def _check_name_free(self, name: str) -> None:
        self.encoders.check_free(name)
        if name in [request["name"] for request in self.jobs.open_requests("training")]:
            raise AlreadyExists(f"an encoder {name!r} is being trained already")

    def _keep_trained(self, request: dict[str, Any], outcome: Outcome) -> Outcome:
        hasher = from_bytes(outcome.output or b"")
        _check_fitted_size(hasher)
        name = request["name"]
        there = [e.fingerprint for e in self.encoders.list() if e.name == name]
        # One that is there already was kept before a crash.
        if there != [outcome.result["fingerprint"]]:
            self.encoders.add(name, hasher)
        return Outcome(outcome.result)

    def _hasher(self, collection: Collection) -> Hasher:
        encoder = self.encoders.get(collection.encoder)
        if encoder.fingerprint != collection.fingerprint:
            raise Conflict(
                f"collection {collection.name!r} holds codes of the encoder with fingerprint "
                f"{collection.fingerprint}; {collection.encoder!r} has {encoder.fingerprint}"
            )
        return encoder.hasher


def _check_size(hasher: Hasher, dimension: int) -> None:
    _check_limits(dimension, hasher.learned_values(dimension))


def _check_fitted_size(hasher: Hasher) -> None:
    _check_limits(hasher.n_features_in_, hasher.n_learned)


def _check_limits(dimension: int, values: int) -> None:
    check_int("dimension", dimension, 1, MAX_DIMENSION)
    if values > MAX_VALUES:
        raise TooLarge(
            f"an encoder has at most {MAX_VALUES:,} learned values here, this one {values:,}"
        )
