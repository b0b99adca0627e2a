"""Many connections for a while: errors, waiting times, and the growth of memory."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx2
import numpy as np

from bench.latency import QUERY, filled
from bench.measuring import resident_mb
from bench.service import ServiceProcess, npy

CONNECTIONS, SECONDS = 64, 60.0


def measure() -> dict[str, float]:
    """Run 64 connections for 60 s against a collection of 60,000 items."""
    with filled() as (folder, queries):
        service = ServiceProcess(folder)
        try:
            bodies = [npy(query[None]) for query in queries]
            return asyncio.run(load(service, QUERY, bodies, CONNECTIONS, SECONDS))
        finally:
            service.stop()


async def load(
    service: ServiceProcess, path: str, bodies: list[bytes], connections: int, seconds: float
) -> dict[str, float]:
    """Send queries one after the other on each of `connections` kept-alive connections.

    `grown_mb` is the growth of the service's memory from a fifth of the time to the end.
    """
    waited: list[float] = []
    errors = 0
    end = time.perf_counter() + seconds
    warm_mb = 0.0

    async def send_queries(client: httpx2.AsyncClient, first: int) -> None:
        nonlocal errors, warm_mb
        i = first
        while (start := time.perf_counter()) < end:
            if not warm_mb and start > end - 0.8 * seconds:
                warm_mb = resident_mb(service.process.pid)
            try:
                answer = await client.post(path, content=bodies[i % len(bodies)])
                errors += answer.status_code != 200
            except httpx2.HTTPError:
                errors += 1
            waited.append(time.perf_counter() - start)
            i += connections

    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    settings: dict[str, Any] = {"base_url": service.url, "limits": limits, "timeout": 60}
    settings["headers"] = {"Content-Type": "application/x-npy"}
    async with httpx2.AsyncClient(**settings) as client:
        await asyncio.gather(*(send_queries(client, i) for i in range(connections)))
    final_mb = resident_mb(service.process.pid)
    return {
        "errors": float(errors),
        "queries_per_second": len(waited) / seconds,
        "p50_ms": 1000 * float(np.percentile(waited, 50)),
        "p99_ms": 1000 * float(np.percentile(waited, 99)),
        "resident_mb": final_mb,
        "grown_mb": final_mb - warm_mb,
    }
