"""Uvicorn's HTTP/1.1 protocol, with limits for slow clients and an orderly stop."""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""Time limit for the head of a request, from its first byte or from the connection."""
HEAD_BYTES = 1 << 16
LAST_REQUEST_SECONDS = 0.25
"""How long an idle connection stays open when the service stops: a request may be on its way."""


class Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, with a limit on the time and size of a request's head."""

    _timer: TimerHandle | None = None
    _in_head = True
    _head_bytes = 0
    _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first head."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass data on, or answer 400 if a head is too long."""
        if self._in_head:
            # Only earlier data is certain to belong to the head: this may contain a body as well.
            earlier, self._head_bytes = self._head_bytes, self._head_bytes + len(data)
            if earlier > HEAD_BYTES:
                self.send_400_response("The head of the request is too long.")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Start the timer for a head, unless it runs since the connection was made."""
        super().on_message_begin()
        if self._timer is None:
            self._start_timer()

    def on_headers_complete(self) -> None:
        """Stop the timer; while the service stops, close the connection after this answer."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()
        if self._stopping:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Expect the next head: the body has ended."""
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def shutdown(self) -> None:
        """Close the connection when it is idle, but answer a request that is just arriving."""
        if self.cycle is None and not self._stopping:
            self._stopping = True
            self.loop.call_later(LAST_REQUEST_SECONDS, self._close_if_idle)
            return
        super().shutdown()

    def _close_if_idle(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            super().shutdown()

    def _start_timer(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._timer = self.loop.call_later(HEAD_SECONDS, self._time_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()
