"""Encode parquet files on a Dask cluster.

A task encodes one row group: its worker reads the file under the same path as this machine, and
returns the codes with the other columns. This machine writes them in order, so the file of codes
has the same bytes as one that was made here.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from app.datasets.dataset import BadDataset
from app.encoding.sources import Group, ParquetSource, Source, batch_rows, read_group, shown
from hashing import Hasher
from hashing.arrow import encoded_schema
from hashing.registry import from_bytes

PACKAGE = "bitcell"
_SCHEMES = {"dask": "tcp", "dask+tls": "tls"}
# Seconds to connect, and to wait while the cluster has no worker at all.
PATIENCE = 60.0
# Tasks for each thread of the cluster that are sent before the first is done: one runs, one waits.
_TASKS_PER_THREAD = 2


class ClusterFailed(OSError):
    """The cluster cannot be reached, or did not encode a row group; the message says why."""


def on_cluster(address: str) -> Callable[[Hasher, Source], Iterator[Any]]:
    """Return what encodes a source on the cluster with a scheduler at `dask://HOST:PORT`.

    Raises
    ------
    ValueError
        `address` is of another form, or distributed is missing.
    """
    found = re.fullmatch(r"(dask|dask\+tls)://([^\s/?#@]+:\d+)/?", address)
    if found is None:
        raise ValueError(
            f"expected the scheduler of a cluster as dask://HOST:PORT, or with TLS as "
            f"dask+tls://HOST:PORT, got {address!r}"
        )
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"{address} is a Dask cluster: to use it, in a checkout `pip install '.[cluster]'` "
            f"({error})"
        ) from None
    scheduler = f"{_SCHEMES[found[1]]}://{found[2]}"

    def encoded(hasher: Hasher, source: Source) -> Iterator[Any]:
        if not isinstance(source, ParquetSource):
            raise BadDataset(f"{source.path} is no parquet, and a cluster reads only that")
        yield from _encoded(scheduler, hasher, source)

    return encoded


def _encoded(scheduler: str, hasher: Hasher, source: ParquetSource) -> Iterator[Any]:
    from distributed import Client

    with _described(scheduler):
        client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
    try:
        _check_workers(client, scheduler)
        # Tasks are sent even without workers: an adaptive cluster starts workers for them.
        # A task, and not data of this machine: the scheduler can make it again if a worker dies.
        encoder = client.submit(bytes, hasher.to_bytes(), key=f"encoder-{hasher.fingerprint}")
        schema = encoded_schema(source.schema, source.column, hasher.n_bits)
        groups, waiting = iter(source.groups), deque[tuple[Group, Any]]()
        while True:
            with _described(scheduler):  # Workers come and go.
                most = _TASKS_PER_THREAD * max(1, sum(client.nthreads().values()))
            while len(waiting) < most and (group := next(groups, None)):
                task = client.submit(
                    encode_group,
                    encoder,
                    group,
                    source.schema,
                    source.column,
                    version(PACKAGE),
                    pure=False,
                )
                waiting.append((group, task))
            if not waiting:
                return
            group, task = waiting.popleft()
            yield from _checked(_result(client, scheduler, group, task), schema, group)
            task.release()
    finally:
        client.close()


def encode_group(encoder: bytes, group: Group, schema: Any, column: str, expected: str) -> bytes:
    """Return the encoded batches of a row group as an Arrow stream. It runs on a worker."""
    import pyarrow as pa

    if (found := version(PACKAGE)) != expected:
        raise BadDataset(f"expected version {expected} of {PACKAGE}, got {found}")
    hasher = _hasher(encoder)
    sink = pa.BufferOutputStream()
    try:
        with pa.ipc.new_stream(sink, encoded_schema(schema, column, hasher.n_bits)) as stream:
            for rows in read_group(group, schema, batch_rows(hasher)):
                stream.write_batch(rows.encoded(hasher, column))
    except FileNotFoundError:
        raise BadDataset(
            f"there is no file {group.path} on this worker: every worker must see the descriptors "
            "under the same path, for instance on a shared file system"
        ) from None
    return bytes(sink.getvalue())


@lru_cache(2)
def _hasher(encoder: bytes) -> Hasher:
    return from_bytes(encoder)


def _check_workers(client: Any, scheduler: str) -> None:
    """Raise ClusterFailed unless all workers that are there have this version of the package."""
    expected = version(PACKAGE)
    with _described(scheduler):
        versions = _installed(client)
    for worker, found in sorted(versions.items()):
        if isinstance(found, PackageNotFoundError):
            found = "none"
        if found != expected:
            raise ClusterFailed(
                f"worker {worker} must have version {expected} of {PACKAGE}, as this machine, got "
                f"{found}"
            )


def _installed(client: Any) -> dict[str, Any]:
    """Return the version that each worker has of the package, or the error if it has none."""
    # A function of the standard library: the worker may lack every function of the package.
    found: dict[str, Any] = client.run(version, PACKAGE, on_error="return")
    return found


def _result(client: Any, scheduler: str, group: Group, task: Any) -> bytes:
    """Wait for a task, as long as the cluster has workers; return its result."""
    from distributed import wait

    alone_since = None
    with _described(scheduler, f"{group}: "), client.as_current():
        while True:
            try:
                wait([task], timeout=min(5.0, PATIENCE))
                break
            except TimeoutError:
                workers, now = client.scheduler_info()["workers"], time.monotonic()
            alone_since = None if workers else alone_since or now
            if alone_since is not None and now - alone_since > PATIENCE:
                raise ClusterFailed(
                    f"the cluster at {scheduler} has had no worker for {PATIENCE:g} s"
                )
        result: bytes = task.result()  # Without a limit: the transfer takes as long as it takes.
        return result


def _checked(data: bytes, schema: Any, group: Group) -> Iterator[Any]:
    """Yield the batches that a worker returned, after checking their columns and their number."""
    import pyarrow as pa

    with pa.ipc.open_stream(data) as stream:
        if not stream.schema.equals(schema):
            raise ClusterFailed(
                f"{group}: expected the columns {shown(schema)}, got {shown(stream.schema)}"
            )
        batches = list(stream)
    if (n_rows := sum(map(len, batches))) != group.n_rows:
        raise ClusterFailed(f"{group}: expected {group.n_rows:,} rows, got {n_rows:,}")
    yield from batches


@contextmanager
def _described(scheduler: str, place: str = "") -> Iterator[None]:
    """Turn what distributed raises into ClusterFailed, and pass on the errors of this package."""
    from concurrent.futures import CancelledError

    from distributed.scheduler import KilledWorker

    try:
        yield
    except (BadDataset, ClusterFailed):
        raise
    except KilledWorker as error:
        raise ClusterFailed(
            f"{place}{error.allowed_failures + 1} workers died while they encoded it, the last at "
            f"{error.last_worker.address}: do they have enough memory? Their logs say why"
        ) from None
    except (TimeoutError, CancelledError) as error:
        raise ClusterFailed(
            f"{place}no answer from the scheduler at {scheduler}: {type(error).__name__}: {error}"
        ) from None
    except Exception as error:  # noqa: BLE001 (distributed passes on what workers raise)
        raise ClusterFailed(
            f"{place}the cluster at {scheduler} failed: {type(error).__name__}: "
            f"{' '.join(str(error).split())}"
        ) from None
