"""Routes of explanations."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from app.benchmark.report import POLICY
from app.http import schemas
from app.http.accepted import accepted
from app.http.bodies import takes
from app.http.dependencies import BodyDep, ServiceDep
from app.jobs.theory.explanation import KIND

router = APIRouter(prefix="/v1/explanations", tags=["explanations"])


@router.post("", status_code=202, openapi_extra=takes(schemas.NewExplanation))
def start_explanation(
    body: BodyDep, request: Request, response: Response, service: ServiceDep
) -> schemas.Accepted:
    """Start a job that measures what theory says about a dataset or a collection."""
    new = body.parse(schemas.NewExplanation)
    explanation = service.explanations.start(
        new.laws,
        new.items,
        new.seed,
        dataset=new.dataset,
        collection=new.collection,
        encoder=new.encoder,
    )
    return accepted(request, response, "show_explanation", explanation=explanation)


@router.get("")
def list_explanations(service: ServiceDep) -> list[schemas.JobOut]:
    """List all explanations, newest first, without their results."""
    return [schemas.JobOut(**found) for found in service.jobs.newest(KIND)]


@router.get("/{explanation}")
def show_explanation(explanation: str, service: ServiceDep) -> schemas.JobOut:
    """Show the state and progress of an explanation, and what was found once it is done."""
    return schemas.JobOut(**service.jobs.get(explanation, KIND))


@router.get("/{explanation}/report", response_class=HTMLResponse)
def explanation_report(explanation: str, service: ServiceDep) -> HTMLResponse:
    """Return the report: an HTML page with the laws, figures and plots."""
    page = service.jobs.output(explanation, KIND)
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})
