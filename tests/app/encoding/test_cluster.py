"""Encoding on a Dask cluster: the same bytes as here, and what goes wrong is named."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from distributed.scheduler import KilledWorker
from pyarrow import parquet

from app.datasets.dataset import BadDataset
from app.encoding import cluster as on
from app.encoding import sources
from app.encoding.sources import Group, ParquetSource, open_source
from hashing import Hasher
from hashing.arrow import encoded_schema
from tests.app.cli.test_main import bitcell
from tests.app.encoding.test_encode import OTHERS, X, changed, hasher, lists, write

__all__ = ["hasher"]
THREADS: dict[str, Any] = {
    "processes": False,
    "protocol": "tcp",
    "host": "127.0.0.1",
    "dashboard_address": ":0",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two workers, which are threads of this process."""
    with LocalCluster(n_workers=2, threads_per_worker=1, **THREADS) as local:
        yield str(local.scheduler_address).replace("tcp://", "dask://")


def test_the_file_has_the_same_bytes_as_one_made_here(
    cluster: str, hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BATCH_BYTES", 4000)  # Fewer rows than BATCH_ROWS.
    write("x.parquet", {"emb": lists(X), **OTHERS})
    assert bitcell(monkeypatch, "encode e.safetensors x.parquet --out here.parquet") == 0
    line = f"encode e.safetensors x.parquet --out there.parquet --on {cluster}"
    assert bitcell(monkeypatch, line) == 0
    assert Path("here.parquet").read_bytes() == Path("there.parquet").read_bytes()
    assert len(parquet.read_table("there.parquet")) == len(X)


def test_a_bad_row_is_named_as_here_and_leaves_nothing(
    cluster: str,
    hasher: Hasher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("x.parquet", {"emb": lists(changed(950, 3, float("nan")), "double")})
    errors = []
    for more in ("", f" --on {cluster}"):
        assert bitcell(monkeypatch, f"encode e.safetensors x.parquet --out c.parquet{more}") == 2
        errors.append(capsys.readouterr().err)
    assert errors[0] == errors[1]
    assert "row group 7: column 'emb', row 950: the numbers must be finite" in errors[0]
    assert {path.name for path in tmp_path.iterdir()} == {"x.parquet", "e.safetensors"}


def encoded(cluster: str, hasher: Hasher) -> list[Any]:
    return list(on.on_cluster(cluster)(hasher, source()))


def source() -> ParquetSource:
    found = open_source(Path("x.parquet"))
    assert isinstance(found, ParquetSource)
    return found


def test_a_matrix_is_not_encoded_on_a_cluster(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("x.npy", X)
    for out in ("c.npy", "c.parquet"):
        line = f"encode e.safetensors x.npy --out {out} --on dask://127.0.0.1:9"
        assert bitcell(monkeypatch, line) == 2
        assert "x.npy is no parquet, and a cluster reads only that" in capsys.readouterr().err


def test_a_worker_with_another_version_is_named(
    cluster: str, hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("x.parquet", {"emb": lists(X)})
    monkeypatch.setattr(on, "version", lambda package: "9.9")
    monkeypatch.setattr(on, "_installed", lambda client: {"tcp://127.0.0.1:1": "0.1.0"})
    with pytest.raises(on.ClusterFailed, match=r"worker tcp://127\.0\.0\.1:1 must have version 9"):
        encoded(cluster, hasher)
    # A worker that comes later is asked by the task.
    (group, *_) = source().groups
    with pytest.raises(BadDataset, match=r"expected version 1\.0 of bitcell, got 9\.9"):
        on.encode_group(b"", group, None, "emb", "1.0")


def test_a_worker_that_does_not_see_the_file_says_so(hasher: Hasher) -> None:
    write("x.parquet", {"emb": lists(X)})
    (group, *_), schema = source().groups, source().schema
    Path("x.parquet").unlink()
    with pytest.raises(BadDataset, match=r"there is no file .*x\.parquet on this worker"):
        on.encode_group(hasher.to_bytes(), group, schema, "emb", version(on.PACKAGE))


def test_what_workers_return_is_checked(
    cluster: str, hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("x.parquet", {"emb": lists(X), "id": OTHERS["id"]})
    groups, schema = source().groups, source().schema
    data = on.encode_group(hasher.to_bytes(), groups[-1], schema, "emb", version(on.PACKAGE))
    right = encoded_schema(schema, "emb", hasher.n_bits)
    with pytest.raises(on.ClusterFailed, match=r"row group 0: expected 130 rows, got 90"):
        list(on._checked(data, right, groups[0]))
    with pytest.raises(on.ClusterFailed, match=r"row group 7: expected the columns .*, got id"):
        list(on._checked(data, right.remove(0), groups[-1]))


def test_a_cluster_that_cannot_be_used_is_named(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("x.parquet", {"emb": lists(X)})
    line = "encode e.safetensors x.parquet --out c.parquet --on"
    monkeypatch.setattr(on, "PATIENCE", 1.0)
    for address, message in {
        "dask://127.0.0.1:9": "the cluster at tcp://127.0.0.1:9 failed: OSError: Timed out",
        "127.0.0.1:9": "expected the scheduler of a cluster as dask://HOST:PORT",
    }.items():
        assert bitcell(monkeypatch, f"{line} {address}") == 2
        assert message in capsys.readouterr().err
    with (
        LocalCluster(n_workers=0, **THREADS) as empty,
        pytest.raises(on.ClusterFailed, match="has had no worker for 1 s"),
    ):
        encoded(empty.scheduler_address.replace("tcp", "dask"), hasher)
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert bitcell(monkeypatch, f"{line} dask://127.0.0.1:9") == 2
    assert "to use it, in a checkout `pip install '.[cluster]'`" in capsys.readouterr().err


def test_a_result_that_takes_long_to_arrive_is_awaited(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather = Client._gather

    async def slow(*given: Any, **more: Any) -> Any:
        await asyncio.sleep(0.5)
        return await gather(*given, **more)

    monkeypatch.setattr(on, "PATIENCE", 0.1)
    monkeypatch.setattr(Client, "_gather", slow)
    group = Group("x.parquet", 1, 0, 0, 1, 1)
    scheduler = cluster.replace("dask", "tcp")
    with Client(scheduler, set_as_default=False) as client:
        task = client.submit(bytes, b"codes", pure=False)
        assert on._result(client, scheduler, group, task) == b"codes"


def test_a_cluster_that_starts_workers_for_tasks_is_used(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("x.parquet", {"emb": lists(X)})
    monkeypatch.setattr(on, "PATIENCE", 10.0)
    with LocalCluster(n_workers=0, threads_per_worker=1, **THREADS) as local:
        local.adapt(minimum=0, maximum=1, interval="50ms")
        batches = encoded(local.scheduler_address.replace("tcp", "dask"), hasher)
    assert sum(map(len, batches)) == len(X)


def test_what_distributed_raises_is_said_in_one_line() -> None:
    last = SimpleNamespace(address="tcp://10.0.0.1:1")
    for error, message in (
        (KilledWorker("task", last, 3), r"^g: 4 workers died while .* at tcp://10\.0\.0\.1:1: do"),
        (CancelledError("x"), r"^g: no answer from the scheduler at tcp://s:1: CancelledError: x$"),
        (RuntimeError("a\n  b"), r"^g: the cluster at tcp://s:1 failed: RuntimeError: a b$"),
    ):
        with pytest.raises(on.ClusterFailed, match=message), on._described("tcp://s:1", "g: "):
            raise error


@pytest.mark.slow
def test_workers_that_die_are_named(hasher: Hasher, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker process that a task ends, and that may not be tried again."""
    write("x.parquet", {"emb": lists(X)})
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=0, **THREADS) as local,
    ):
        command = [sys.executable, "-m", "distributed.cli.dask_worker", local.scheduler_address]
        worker = subprocess.Popen(
            [*command, "--no-nanny", "--no-dashboard", "--nthreads", "1"],
            stderr=subprocess.DEVNULL,
        )
        try:
            with Client(local.scheduler_address, set_as_default=False) as client:
                client.wait_for_workers(1)
                task = client.submit(os._exit, 1, pure=False)
                with pytest.raises(on.ClusterFailed, match="1 workers died while they encoded it"):
                    on._result(client, local.scheduler_address, source().groups[0], task)
        finally:
            worker.kill()
            worker.wait()
