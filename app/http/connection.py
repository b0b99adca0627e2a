"""HTTP/1.1 as uvicorn speaks it, for clients that dawdle and for a stop in good order."""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""From the first byte, or the connection, to the end of a request's head."""
HEAD_BYTES = 1 << 16
LAST_CALL = 0.25
"""Seconds that a connection whose request may be on its way is given when the service stops."""


class Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, with a limit on the time and size of a request's head."""

    _timer: TimerHandle | None = None
    _in_head = True
    _head = 0
    _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The time for the first head runs."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came; 400 where a head has too many."""
        if self._in_head:
            # What came before, since a body may follow in the same bytes.
            before, self._head = self._head, self._head + len(data)
            if before > HEAD_BYTES:
                self.send_400_response("The head of the request is too long.")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """The head of a request, the first or a further one, has begun."""
        super().on_message_begin()
        if self._timer is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        """The request is worked on."""
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()
        if self._stopping:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Its body has ended: the next bytes are another head."""
        super().on_message_complete()
        self._in_head, self._head = True, 0

    def shutdown(self) -> None:
        """Close when idle; a request that came just now is read and answered first."""
        if self.cycle is None and not self._stopping:
            self._stopping = True
            self.loop.call_later(LAST_CALL, self._close_if_idle)
            return
        super().shutdown()

    def _close_if_idle(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            super().shutdown()

    def _wait_for_head(self) -> None:
        self._in_head, self._head = True, 0
        self._timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()
