"""The answer to a request that starts a job."""

from __future__ import annotations

from fastapi import Request, Response

from app.http import schemas


def accepted(request: Request, response: Response, route: str, **job: str) -> schemas.Accepted:
    """Return the id and the URL of a job, and set the URL as the `Location` of the response.

    `job` is the path parameter of the route, by its name there.
    """
    (job_id,) = job.values()
    url = request.url_for(route, **job).path
    response.headers["Location"] = url
    return schemas.Accepted(id=job_id, url=url)
