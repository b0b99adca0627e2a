"""What can go wrong, as exceptions that say what the service said."""

from __future__ import annotations

import json
from typing import Any

import httpx2

from app.http.schemas import JobOut


class BitcellError(Exception):
    """Any error of the client."""


class Unreachable(BitcellError):
    """No answer came: no connection, or one that broke or took too long."""


class JobFailed(BitcellError):
    """A job that was waited for failed or was cancelled; `job` is how it ended."""

    def __init__(self, job: JobOut) -> None:
        reason = f": {job.error}" if job.error else ""
        super().__init__(f"job {job.id} ({job.kind}) {job.state}{reason}")
        self.job = job


class ServiceError(BitcellError):
    """The service answered with a problem.

    Attributes
    ----------
    status : int
        HTTP's.
    detail : str
        What was expected and what came.
    problem : dict
        All that was said, as in RFC 9457; empty where something else answered.
    request_id : str
        As it stands in the service's log.
    """

    def __init__(self, response: httpx2.Response) -> None:
        try:
            said = json.loads(response.content)
        except ValueError:
            said = None
        self.problem: dict[str, Any] = said if isinstance(said, dict) else {}
        self.status = response.status_code
        self.detail = str(self.problem.get("detail") or response.text[:200])
        self.request_id = response.headers.get("X-Request-ID", "")
        super().__init__(f"{self.status} {response.reason_phrase}: {self.detail}")


class InvalidRequest(ServiceError):
    """400 or 422: what was sent makes no sense."""


class Unauthorized(ServiceError):
    """401: no key, or a wrong one."""


class Forbidden(ServiceError):
    """403: the key may only read."""


class NotFound(ServiceError):
    """404: there is none of that name."""


class Conflict(ServiceError):
    """409: it is there already, or in use."""


class TooLarge(ServiceError):
    """413: more than the service takes at a time."""


class TooMany(ServiceError):
    """429: too much is waiting already."""


class Unavailable(ServiceError):
    """503: the service is full or about to stop."""


_KINDS: dict[int, type[ServiceError]] = {
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


def error_of(response: httpx2.Response) -> ServiceError:
    """The error that an answer stands for."""
    return _KINDS.get(response.status_code, ServiceError)(response)
