"""Uvicorn's HTTP/1.1 protocol, with limits for slow clients and an orderly stop."""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from collections import deque
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.http.open_connections import OpenConnections

HEAD_SECONDS = 10.0
"""Time limit for the head of a request, from its first byte or from the connection."""
HEAD_BYTES = 1 << 16
"""Limit for a head. The chunk sizes and trailers of a body may be as large as this and the body."""
HEADERS = 256
PIPELINED = 8
"""How many requests a client may send before it has the answer to the first."""
LAST_REQUEST_SECONDS = 0.25
"""How long an idle connection stays open when the service stops: a request may be on its way."""
STALLED_SECONDS = 1.0
"""When the service stops, a client that reads nothing for this long gets no more."""

log = structlog.stdlib.get_logger("bitcell")


class Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, with limits on the time and size of heads, framing and unread answers.

    Parameters
    ----------
    open_connections : OpenConnections
        The connections of the server. A new one that they do not admit gets 503.
    answer_seconds : float
        Time limit for reading an answer, from when the first bytes of it have to wait.
    **arguments
        Passed on to uvicorn.
    """

    _timer: TimerHandle | None = None
    _unread_timer: TimerHandle | None = None
    _in_head = True
    # Since the start of the head, or of the body.
    _received = 0
    _body_received = 0
    _refused = False
    _held = False
    _stopping = False

    def __init__(
        self, open_connections: OpenConnections, answer_seconds: float, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self._open = open_connections
        self._answer_seconds = answer_seconds
        # The requests whose answers are not complete, oldest first.
        self._due: deque[RequestResponseCycle] = deque()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first head, or answer 503 if there are too many connections."""
        super().connection_made(transport)
        # Pause as soon as the kernel takes no more, so that a paused connection is an unread one.
        transport.set_write_buffer_limits(high=0)
        if self._open.admit(self):
            self._start_timer()
        else:
            self._refused = True
            transport.write(self._open.refusal)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers, and tell all requests, not only the newest, that the client has gone."""
        self._stop_timer()
        self._stop_unread_timer()
        self._open.remove(self)
        self._note_disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass data on, or answer 400 if a head or the framing of a body is too long."""
        if self._refused:
            return
        self._received += len(data)
        super().data_received(data)
        if self._in_head and self._timer is None and not self._due and not self._refused:
            # An empty line after the last request: the timer for idle connections has stopped.
            self._timer = self.loop.call_later(HEAD_SECONDS, self._time_out)
        if self._received > HEAD_BYTES + 2 * self._body_received:
            self.send_400_response(
                "The head of the request is too long."
                if self._in_head
                else "The body has more chunk sizes, chunk extensions and trailers than content."
            )

    def on_message_begin(self) -> None:
        """Start the timer for a head, unless it runs since the connection was made."""
        super().on_message_begin()
        if self._timer is None:
            self._start_timer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; drop a trailer, which nothing here uses."""
        if not self._in_head:
            return
        if len(self.headers) == HEADERS:
            raise ValueError(f"expected at most {HEADERS} headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the timer; while the service stops, close the connection after this answer."""
        if len(self._due) == PIPELINED:
            raise ValueError(f"expected at most {PIPELINED} requests that wait for an answer")
        self._stop_timer()
        self.scope["bitcell.until_read"] = self.flow.drain  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()
        self._in_head, self._received = False, 0
        self._open.note_request(self)
        self._due.append(self.cycle)
        if self._stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Count the body, to compare it with its framing."""
        self._body_received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect the next head: the body has ended."""
        super().on_message_complete()
        self._in_head, self._received, self._body_received = True, 0, 0

    def on_response_complete(self) -> None:
        """Go on with the next request, but not before the client has read this answer."""
        self._due.popleft()
        unread = self.flow.write_paused
        if unread or not self._due:
            self._open.note_rest(self, unread=unread)
        if unread and not self.transport.is_closing():
            self._held = True
            self.flow.pause_reading()
        else:
            super().on_response_complete()

    def pause_writing(self) -> None:
        """Start the timer for an answer that the client does not read fast enough."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(self._answer_seconds, self._stop_sending)
        if self._stopping:
            self._watch_reading()

    def resume_writing(self) -> None:
        """Stop the timer: the client, or at least its kernel, has all that was written."""
        super().resume_writing()
        self._stop_unread_timer()
        if self._held:
            self._held = False
            if self._due:
                self._open.note_request(self)
            else:
                self._open.note_rest(self, unread=False)
            super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer 400 and close the connection.

        If earlier answers are due, send only these: a client matches answers by their order.
        """
        if self._refused:
            return
        self._refused = True
        self._stop_timer()
        self.flow.pause_reading()
        faulty = None if self._in_head or not self._due else self._due.pop()
        if faulty is not None:
            faulty.scope["bitcell.status"] = 400  # type: ignore[typeddict-unknown-key]
            _disconnect(faulty)
            if self.pipeline and self.pipeline[0][0] is faulty:
                self.pipeline.popleft()
        if self._due:
            self._due[-1].keep_alive = False
        elif faulty is not None and faulty.response_started:
            self.transport.close()
        else:
            super().send_400_response(msg)

    def shutdown(self) -> None:
        """Close the connection when it is idle, but answer a request that is just arriving."""
        self._stopping = True
        if self.flow.write_paused:
            self._watch_reading()
        if self.cycle is None:
            self.loop.call_later(LAST_REQUEST_SECONDS, self._close_if_idle)
        else:
            super().shutdown()

    def abort(self) -> None:
        """Close the connection at once, without sending what is unread."""
        self._note_disconnect()
        self.transport.abort()

    def _close_if_idle(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            super().shutdown()

    def _watch_reading(self, unread_before: int | None = None) -> None:
        """Close the connection when the client stops reading."""
        unread = self.transport.get_write_buffer_size()
        if unread_before is not None and unread_before <= unread:
            self.abort()
        elif unread:
            self.loop.call_later(STALLED_SECONDS, self._watch_reading, unread)

    def _stop_sending(self) -> None:
        log.info(
            "connection closed: the client did not read an answer",
            seconds=self._answer_seconds,
            client=self.client[0] if self.client else None,
        )
        self.abort()

    def _note_disconnect(self) -> None:
        for cycle in self._due:
            _disconnect(cycle)

    def _start_timer(self) -> None:
        self._in_head, self._received = True, 0
        self._timer = self.loop.call_later(HEAD_SECONDS, self._time_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _time_out(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()


def _disconnect(cycle: RequestResponseCycle) -> None:
    """Tell the application that the client has gone, as uvicorn does for the newest request."""
    cycle.disconnected = True
    cycle.message_event.set()
