# SPDX-License-Identifier: Apache-2.0
"""The sockets of a connection: moves messages between ZeroMQ and the core, and never waits. Shells do the waiting.

A socket that dropped is not left to ZeroMQ to reconnect: it is closed and made anew, because what was in its queues may
or may not have been lost, and only the daemon's answer to open says which.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import zmq

from ._core.link import Core
from .errors import Unreachable

ROUND = 256  # messages in and out before others have their turn
MESSAGE_MAX = 64 << 20  # from the daemon

# Every default that hurts, set on purpose: no lingering, heartbeats that notice a dead peer, bounded messages, and
# nothing queued for a connection that is not there.
OPTIONS = {
    zmq.LINGER: 0,
    zmq.IMMEDIATE: 1,
    zmq.HANDSHAKE_IVL: 5000,
    zmq.CONNECT_TIMEOUT: 5000,
    zmq.HEARTBEAT_IVL: 1000,
    zmq.HEARTBEAT_TIMEOUT: 3000,
    zmq.HEARTBEAT_TTL: 4000,
    zmq.RECONNECT_IVL: 100,
    zmq.RECONNECT_IVL_MAX: 5000,
    zmq.TCP_KEEPALIVE: 1,
    zmq.IPV6: 1,
    zmq.MAXMSGSIZE: MESSAGE_MAX,
}


def events(socket: zmq.Socket[bytes]) -> int:
    """What the socket is ready for."""
    return int(socket.getsockopt(zmq.EVENTS))


class Pump:
    """The DEALER of a core, and its monitor."""

    def __init__(
        self, core: Core, watch: Callable[[zmq.Socket[bytes], bool], None] = lambda socket, is_new: None
    ) -> None:
        self.core = core
        self._watch = watch  # called with each socket when it is new and before it is closed
        self.socket: zmq.Socket[bytes] | None = None
        self.monitor: zmq.Socket[bytes] | None = None
        self._attempt: int | None = None

    def step(self) -> bool:
        """Everything that can be done now, up to a bound: True when there may be more."""
        now = time.monotonic()
        core = self.core
        core.advance(now)
        if core.attempt != self._attempt:
            self._close(0)
            self._attempt = core.attempt
            if core.attempt is not None:
                self._open()
        if not self.socket:
            return core.attempt is not None
        if self._has_dropped():
            core.dropped("the connection to the daemon broke")
            return True
        moved = self._receive(now) + self._send(now)
        # Sending may have noticed what arrived, and then its descriptor does not say so again.
        return moved > 0 or core.attempt != self._attempt or bool(events(self.socket) & zmq.POLLIN)

    def close(self) -> None:
        """Say farewell and close; what is in the queue has a moment to leave."""
        for message in self.core.farewell():
            if self.socket:
                try:
                    self.socket.send(message, zmq.DONTWAIT)
                except zmq.Again:
                    break  # the daemon will notice
        self._close(100)

    def _open(self) -> None:
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        for option, value in OPTIONS.items():
            self.socket.setsockopt(option, value)
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        self._watch(self.socket, True)
        self._watch(self.monitor, True)
        try:
            self.socket.connect(self.core.endpoint)
        except zmq.ZMQError as error:
            self.core.fail(Unreachable(f'cannot connect to "{self.core.endpoint}": {error}'))

    def _close(self, linger: int) -> None:
        if self.socket and self.monitor:
            self._watch(self.socket, False)
            self._watch(self.monitor, False)
            self.socket.disable_monitor()
            self.monitor.close(0)
            self.socket.close(linger)
        self.socket = self.monitor = None

    def _has_dropped(self) -> bool:
        assert self.monitor
        return bool(events(self.monitor) & zmq.POLLIN)

    def _receive(self, now: float) -> int:
        assert self.socket
        n = 0
        while n < ROUND and self.core.attempt == self._attempt:
            try:
                parts = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            n += 1
            self.core.receive(parts, now)
        return n

    def _send(self, now: float) -> int:
        assert self.socket
        n = 0
        while n < ROUND and self.core.attempt == self._attempt and self.core.has_output:
            if not events(self.socket) & zmq.POLLOUT:
                break
            parts = self.core.next_message(now)
            if parts is None:
                break
            n += 1
            try:
                self.socket.send_multipart(parts, zmq.DONTWAIT)
            except zmq.Again:
                self.core.dropped("the connection to the daemon broke while sending")  # it was writable
        return n
