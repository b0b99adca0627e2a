"""Many connections for a while: no error, how long the slowest wait, what memory it takes."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from bench.latency import QUERY, Serving, filled, npy

CONNECTIONS, SECONDS = 64, 60.0


def measure() -> dict[str, float]:
    """64 connections for 60 s, on 60,000 items."""
    with filled() as (folder, queries):
        serving = Serving(folder)
        try:
            bodies = [npy(query[None]) for query in queries]
            return asyncio.run(load(serving, QUERY, bodies, CONNECTIONS, SECONDS))
        finally:
            serving.stop()


async def load(
    serving: Serving, path: str, bodies: list[bytes], connections: int, seconds: float
) -> dict[str, float]:
    """Queries one after the other on so many connections, each kept alive.

    `grown_mb` is what the service's memory grew by from a fifth of the time to the end.
    """
    waited: list[float] = []
    errors = 0
    end = time.perf_counter() + seconds
    warm = 0.0

    async def ask(client: httpx2.AsyncClient, first: int) -> None:
        nonlocal errors, warm
        i = first
        while (start := time.perf_counter()) < end:
            if not warm and start > end - 0.8 * seconds:
                warm = resident_mb(serving)
            try:
                answer = await client.post(path, content=bodies[i % len(bodies)])
                errors += answer.status_code != 200
            except httpx2.HTTPError:
                errors += 1
            waited.append(time.perf_counter() - start)
            i += connections

    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    settings: dict[str, Any] = {"base_url": serving.url, "limits": limits, "timeout": 60}
    settings["headers"] = {"Content-Type": "application/x-npy"}
    async with httpx2.AsyncClient(**settings) as client:
        await asyncio.gather(*(ask(client, i) for i in range(connections)))
    return {
        "errors": float(errors),
        "queries_per_second": len(waited) / seconds,
        "p50_ms": 1000 * float(np.percentile(waited, 50)),
        "p99_ms": 1000 * float(np.percentile(waited, 99)),
        "resident_mb": resident_mb(serving),
        "grown_mb": resident_mb(serving) - warm,
    }


def resident_mb(serving: Serving) -> float:
    """Resident memory of the service."""
    status = Path(f"/proc/{serving.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else float("nan")
