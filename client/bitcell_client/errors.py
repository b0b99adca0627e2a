"""The errors of the client."""

from __future__ import annotations

from typing import Any

import httpx2

from bitcell_client.decode import parse_json
from bitcell_client.results import Job


class BitcellError(Exception):
    """Any error of the client; raised itself if an answer does not come from Bitcell.

    Attributes
    ----------
    stored : int or None
        Of an error of `load`: how many of its rows, from the first on, are surely stored.
    """

    stored: int | None = None


class Unreachable(BitcellError):
    """No answer: no connection was made, or it broke or timed out."""


class JobFailed(BitcellError):
    """A job that was waited for failed or was cancelled; `job` is its final state."""

    def __init__(self, job: Job) -> None:
        reason = f": {job.error}" if job.error else ""
        super().__init__(f"job {job.id} ({job.kind}) {job.state}{reason}")
        self.job = job


class ServiceError(BitcellError):
    """The service answered with an error.

    Attributes
    ----------
    status : int
        The HTTP status.
    detail : str
        What the service expected and what it got.
    problem : dict
        The whole answer, a problem as in RFC 9457; empty if the answer is something else.
    request_id : str
        The id of the request in the service's log.
    row : int or None
        The row of the input that is the reason, if one is: in `load`, of the whole input.
    """

    def __init__(self, response: httpx2.Response) -> None:
        try:
            problem = parse_json(response.content)
        except ValueError:
            problem = None
        self.problem: dict[str, Any] = problem if isinstance(problem, dict) else {}
        self.status = response.status_code
        self.detail = str(self.problem.get("detail") or response.text[:200])
        self.request_id = response.headers.get("X-Request-ID", "")
        row = self.problem.get("row")
        self.row = row if isinstance(row, int) else None
        call = name_of(response.request)
        super().__init__(f"{self.status} {response.reason_phrase}: {self.detail} ({call})")

    def shift_row(self, start: int) -> None:
        """Say which row of the whole input `row` is, where the request began with row `start`."""
        if self.row is not None:
            self.row += start
            self.args = (f"{self}; this is row {self.row} of the input",)


class InvalidRequest(ServiceError):
    """400 or 422: the request is not valid."""


class Unauthorized(ServiceError):
    """401: the key is missing or wrong."""


class Forbidden(ServiceError):
    """403: the key may only read."""


class NotFound(ServiceError):
    """404: nothing has that name."""


class Conflict(ServiceError):
    """409: the name is taken, or the thing is in use."""


class TooLarge(ServiceError):
    """413: the request is larger than the service accepts."""


class TooMany(ServiceError):
    """429: too many jobs are waiting or running."""


class Unavailable(ServiceError):
    """503: the service is overloaded, stopping or not ready."""


_BY_STATUS: dict[int, type[ServiceError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: InvalidRequest,
    429: TooMany,
    503: Unavailable,
}


def name_of(request: httpx2.Request) -> str:
    """Return method and URL of a request, without what may be secret or long."""
    url = request.url
    path = url.raw_path.partition(b"?")[0]
    return f"{request.method} {url.scheme}://{url.netloc.decode()}{path.decode()}"


def service_error(response: httpx2.Response) -> ServiceError:
    """Return the error for an answer with status 400 or above."""
    return _BY_STATUS.get(response.status_code, ServiceError)(response)
