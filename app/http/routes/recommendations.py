"""Routes of recommendations."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from app.benchmark.report import POLICY
from app.errors import Conflict
from app.http import schemas
from app.http.accepted import accepted
from app.http.bodies import takes
from app.http.dependencies import BodyDep, ServiceDep
from app.http.routes.collections import collection_out
from app.jobs.recommendation import KIND

router = APIRouter(prefix="/v1/recommendations", tags=["recommendations"])


@router.post("", status_code=202, openapi_extra=takes(schemas.NewRecommendation))
def start_recommendation(
    body: BodyDep, request: Request, response: Response, service: ServiceDep
) -> schemas.Accepted:
    """Start a job that finds the smallest code that reaches a goal, or the best one of a size."""
    new = body.parse(schemas.NewRecommendation)
    job = service.recommendations.start(
        new.as_goal(), dataset=new.dataset, collection=new.collection, **new.limits()
    )
    return accepted(request, response, "show_recommendation", recommendation=job)


@router.get("")
def list_recommendations(service: ServiceDep) -> list[schemas.JobOut]:
    """List all recommendations, newest first, without their results."""
    return [schemas.JobOut(**found) for found in service.jobs.newest(KIND)]


@router.get("/{recommendation}")
def show_recommendation(recommendation: str, service: ServiceDep) -> schemas.JobOut:
    """Show the state and progress of a recommendation, and its answer once it is done."""
    return schemas.JobOut(**service.jobs.get(recommendation, KIND))


@router.get("/{recommendation}/report", response_class=HTMLResponse)
def recommendation_report(recommendation: str, service: ServiceDep) -> HTMLResponse:
    """Return the report: an HTML page with the answer, the table and the curves."""
    # Not at the top: it loads scipy, which a service does not need to start.
    from app.recommend.render import render

    job = service.jobs.get(recommendation, KIND)
    if job["state"] != "done":
        raise Conflict(f"{KIND} {recommendation!r} has no report: it is {job['state']}, not done")
    return HTMLResponse(render(job["result"]), headers={"Content-Security-Policy": POLICY})


@router.post("/{recommendation}/make", status_code=201, openapi_extra=takes(schemas.ToMake))
def make_recommended(
    recommendation: str, body: BodyDep, service: ServiceDep
) -> schemas.CollectionOut:
    """Create the recommended encoder, and an empty collection for it, both under a new name."""
    new = body.parse(schemas.ToMake)
    return collection_out(service.recommendations.make(recommendation, new.name))
