"""Recommendations that are done, in a service, without waiting for a job."""

from __future__ import annotations

from typing import Any

from app.jobs.recommendation import KIND
from app.recommend.goal import Goal
from app.recommend.run import Recommendation, recommend
from tests.app.asgi_client import TestClient
from tests.app.recommend.made import clusters


def done_recommendation(client: TestClient, found: Recommendation | None = None) -> str:
    """Record a recommendation as a job that is done; return the job's id."""
    if found is None:
        found = recommend(clusters(200), Goal(within=20), methods=["sdh"], max_bits=8)
    record: Any = client.app.state.service.jobs._record  # type: ignore[attr-defined]
    job = f"r{len(record.newest(None, 1000))}"
    record.add(job, KIND, {"dataset": "made", "goal": {"within": 20}}, None)
    record.end(job, "done", found.result, found.hasher.to_bytes(), None)
    return job
