"""Calls of one Milvus server: with a timeout, and with errors that say what failed.

The messages are those of Milvus's protocol, which pymilvus contains. Its own client is not used for
them: it repeats calls for longer than the timeout, and writes items only row by row.
"""

from __future__ import annotations

import base64
from threading import Lock
from typing import Any
from urllib.parse import unquote, urlsplit

import grpc
from pymilvus.grpc_gen import milvus_pb2_grpc

from index.errors import InvalidItems, ServerError, Unavailable

RETRY_SECONDS = 2.0
"""When a caller may ask again, if the server could not be asked."""

# A status of Milvus: a parameter is invalid.
_INVALID = 1100
_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Two stores are two connections: what one loses, the other does not have to.
    ("grpc.use_local_subchannel_pool", 1),
]


class TooMuch(ServerError):
    """An answer of the server would be larger than it sends: ask for less at a time."""


class Connection:
    """A connection to the server of a URL. Safe for threads.

    Parameters
    ----------
    url : str
        `milvus://host:port/database`, or `milvuss://` for TLS, with `user:password@` if the server
        wants it.
    timeout : float
        Seconds that a call takes at most.
    """

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("milvus", "milvuss") or not parts.hostname:
            raise InvalidItems(
                "the URL of an index is milvus://host:port, with milvuss for TLS; got one that "
                f"begins with {parts.scheme or parts.path!r:.20}"
            )
        self.timeout = timeout
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.address = f"{host}:{parts.port or 19530}"
        if parts.scheme == "milvuss":
            credentials = grpc.ssl_channel_credentials()
            self._channel = grpc.secure_channel(self.address, credentials, _OPTIONS)
        else:
            self._channel = grpc.insecure_channel(self.address, _OPTIONS)
        self._stub: Any = milvus_pb2_grpc.MilvusServiceStub(self._channel)
        self._metadata = _metadata(parts.username, parts.password, parts.path.strip("/"))
        self._lock = Lock()
        self._losses = 0
        self._is_ready = False
        self._channel.subscribe(self._note)

    @property
    def losses(self) -> int:
        """How often the connection was lost: the server may have been started again."""
        return self._losses

    def _note(self, state: grpc.ChannelConnectivity) -> None:
        with self._lock:
            is_ready = state is grpc.ChannelConnectivity.READY
            self._losses += self._is_ready and not is_ready
            self._is_ready = is_ready

    def call(self, method: str, request: Any, timeout: float | None = None) -> Any:
        """Return the answer to a call.

        Raises
        ------
        Unavailable
            The server cannot be reached, does not answer in time, or is not ready.
        ServerError
            It refuses the request.
        """
        try:
            answer = getattr(self._stub, method)(
                request, timeout=timeout or self.timeout, metadata=self._metadata
            )
        except grpc.RpcError as error:
            raise self._problem(method, error) from None
        except ValueError as error:  # The channel is closed.
            raise Unavailable(f"the connection to Milvus is closed: {error}") from None
        check(method, getattr(answer, "status", answer))
        return answer

    def _problem(self, method: str, error: Any) -> Exception:
        code = error.code()
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return TooMuch(f"Milvus refuses {method}: {error.details()}")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            why = f"did not answer within {self.timeout:g} s"
        elif code in _AWAY:
            why = f"cannot be reached ({code.name.lower()})"
        else:
            return ServerError(f"Milvus refuses {method}: {code.name.lower()}: {error.details()}")
        return Unavailable(f"Milvus at {self.address} {why}: try again later", RETRY_SECONDS)

    def close(self) -> None:
        """Close the connection."""
        self._channel.unsubscribe(self._note)
        self._channel.close()


def check(method: str, status: Any) -> None:
    """Raise if a status of Milvus is an error."""
    if not status.code and not status.error_code:
        return
    reason = status.reason or status.detail or f"error {status.code or status.error_code}"
    if "larger than max" in reason or "maxOutputSize" in reason or "exceeds" in reason:
        raise TooMuch(f"Milvus refuses {method}: {reason}")
    if status.code == _INVALID or "cannot parse" in reason or "invalid" in reason:
        raise ServerError(f"Milvus refuses {method}: {reason}")
    raise Unavailable(f"Milvus is not ready for {method}: {reason}", RETRY_SECONDS)


def _metadata(user: str | None, password: str | None, database: str) -> list[tuple[str, str]]:
    found = []
    if user is not None:
        secret = f"{unquote(user)}:{unquote(password or '')}" if password else unquote(user)
        found.append(("authorization", base64.b64encode(secret.encode()).decode()))
    if database:
        found.append(("dbname", unquote(database)))
    return found
