"""`bitcell encode` on parquet: its rate next to `encode` in memory, and its memory."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.encoding.encode import encode_file
from app.encoding.sources import open_source
from bench.measuring import in_turn, peak_resident_mb, resident_mb
from hashing import Hasher, make_hasher
from hashing.arrow import CODE, codes_of

BLOCK = 50_000


def rate(n: int = 60_000, d: int = 384, method: str = "lsh") -> dict[str, float]:
    """Return the seconds of `encode` on a matrix and on the same rows from a file to a file."""
    X = _block(0, n, d)
    hasher = _hasher(method, X[:2000])
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "x.parquet", Path(folder) / "codes.parquet"
        _write(path, n, d)
        source = open_source(path)
        calls = [
            lambda _: hasher.encode(X),
            lambda _: encode_file(hasher, source, out, lambda *_: None),
        ]
        times = in_turn(calls, 5, warm_up=1).min(axis=0).tolist()
    return {
        "memory_seconds": times[0],
        "file_seconds": times[1],
        "rows_per_second": n / times[1],
        "ratio": times[0] / times[1],
    }


def rate_of_net(n: int = 60_000, d: int = 384) -> dict[str, float]:
    """Return the same for `net-2`."""
    return rate(n, d, "net-2")


def memory(n: int = 1_000_000, d: int = 64) -> dict[str, float]:
    """Return the MB that encoding a file adds to a process, and whether the codes are right."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "x.parquet", Path(folder) / "codes.parquet"
        _write(path, n, d)
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            figures: dict[str, float] = pool.apply(_measure_memory, (path, out, d))
        figures["file_mb"] = path.stat().st_size / 2**20
        figures["wrong"] = float(_count_wrong(out, n, d))
    return figures


def _measure_memory(path: Path, out: Path, d: int) -> dict[str, float]:
    hasher = _hasher("itq", _block(0, 2000, d))
    open_source(path)  # Imports pyarrow.
    before, start = resident_mb(), time.perf_counter()
    n = encode_file(hasher, open_source(path), out, lambda *_: None)
    seconds = time.perf_counter() - start
    peak = peak_resident_mb()
    return {"peak_mb": peak, "added_mb": peak - before, "rows_per_second": n / seconds}


def _count_wrong(out: Path, n: int, d: int) -> int:
    """Return how many codes are not those of `encode`."""
    from pyarrow.parquet import read_table

    hasher = _hasher("itq", _block(0, 2000, d))
    columns = read_table(out, columns=[CODE]).column(CODE).chunks
    codes = np.concatenate([codes_of(column) for column in columns])
    wrong = abs(len(codes) - n)
    for start in range(0, n, BLOCK):
        expected = hasher.encode(_block(start, min(BLOCK, n - start), d))
        wrong += int((codes[start : start + BLOCK] != expected).any(axis=1).sum())
    return wrong


def _hasher(method: str, X: NDArray[np.float32]) -> Hasher:
    more: dict[str, Any] = {"teacher_steps": 1, "steps": 1} if method == "net-2" else {}
    hasher = make_hasher(method, n_bits=64, **more)
    return hasher.fit(X, np.random.default_rng(1).integers(0, 10, len(X)))


def _block(start: int, n: int, d: int) -> NDArray[np.float32]:
    """Return some descriptors, the same for the same `start`."""
    rng = np.random.default_rng(start)
    X: NDArray[np.float32] = rng.random((n, d), np.float32)
    return X


def _write(path: Path, n: int, d: int) -> None:
    """Write descriptors to parquet, a block at a time, in lists as most programs write them."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema([("id", pa.int64()), ("embedding", pa.list_(pa.float32()))])
    size = n if n < 2 * BLOCK else BLOCK  # As one block, for `rate`.
    with ParquetWriter(path, schema) as writer:
        for start in range(0, n, size):
            X = _block(start, min(size, n - start), d)
            ends = pa.array(np.arange(0, X.size + 1, d, dtype=np.int32))
            lists = pa.ListArray.from_arrays(ends, pa.array(X.reshape(-1)))
            ids = pa.array(np.arange(start, start + len(X)))
            writer.write_batch(pa.record_batch([ids, lists], schema=schema))
