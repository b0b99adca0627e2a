"""Whether the service runs, and its metrics."""

from __future__ import annotations

from bitcell_client.call import Request, answer_as, call, read_text


class HealthCalls:
    """Calls about the service itself."""

    @call("GET", "/healthz")
    def health(self) -> Request[dict[str, str]]:
        """Return `{"status": "ok"}` if the process answers."""
        return Request(answer_as(dict[str, str]))

    @call("GET", "/readyz")
    def ready(self) -> Request[dict[str, str | int]]:
        """Return the status and the number of collections; `Unavailable` while it is stopping."""
        return Request(answer_as(dict[str, str | int]))

    @call("GET", "/metrics")
    def metrics(self) -> Request[str]:
        """Return the metrics, in the text format of Prometheus."""
        return Request(read_text)
