# SPDX-License-Identifier: Apache-2.0
"""Publishing: frames to a daemon that answers nothing. How ids become streams is its configuration, lines `publish`."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Self

import numpy as np
import zmq
from numpy.typing import ArrayLike

from ._core import samples
from ._core import ssmd_pb2 as pb
from ._endpoint import default_endpoint
from .errors import Unreachable
from .values import id_bytes

RUN_BYTES = 16
BACKFILL = 1  # PublishHeader.flags
MESSAGES = 10_000  # that wait to leave

OPTIONS = {
    zmq.SNDHWM: MESSAGES,
    zmq.XPUB_NODROP: 1,
    zmq.IMMEDIATE: 1,
    zmq.HANDSHAKE_IVL: 5000,
    zmq.HEARTBEAT_IVL: 1000,
    zmq.HEARTBEAT_TIMEOUT: 3000,
    zmq.HEARTBEAT_TTL: 4000,
    zmq.RECONNECT_IVL: 100,
    zmq.RECONNECT_IVL_MAX: 5000,
    zmq.TCP_KEEPALIVE: 1,
    zmq.IPV6: 1,
}


def publish_endpoint(endpoint: str | None = None) -> str:
    """$SSMD_PUBLISH, or ssmd-publish.sock beside the daemon's ipc socket."""
    if named := os.environ.get("SSMD_PUBLISH"):
        return named
    directory, slash, _ = (endpoint or default_endpoint()).rpartition("/")
    if not slash or not directory.startswith("ipc://"):
        raise ValueError(f"where publishers connect cannot be told from {endpoint}: name it, or set SSMD_PUBLISH")
    return f"{directory}/ssmd-publish.sock"


class Publisher:
    """One run of a publisher: sends frames and hears nothing.

    with ssmd.Publisher() as publisher:
        publisher.publish("sensor/1", values, rate=1000)

    Nothing is kept and nothing comes back: what the daemon, or the network, drops is a gap that the daemon deals with
    as it was told. `endpoint` is where publishers connect (default: $SSMD_PUBLISH, or ssmd-publish.sock beside the
    daemon's socket). It may be used by several threads.
    """

    def __init__(self, endpoint: str | None = None, *, timeout: float = 5.0) -> None:
        self.endpoint = endpoint or publish_endpoint()
        self._run = os.urandom(RUN_BYTES)
        self._next: dict[bytes, int] = {}
        self._lock = threading.Lock()
        self._is_heard = False
        # An XPUB and no PUB: it sees the daemon's subscription come and go, and a full queue is told and not hidden.
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
        for option, value in OPTIONS.items():
            self._socket.setsockopt(option, value)
        try:
            self._socket.connect(self.endpoint)
        except zmq.ZMQError as error:
            self._socket.close(0)
            raise Unreachable(f'cannot publish to "{self.endpoint}": {error}') from None
        self._listen(round(timeout * 1000))
        if not self._is_heard:
            self._socket.close(0)
            raise Unreachable(
                f"nobody listens at {self.endpoint}: is ssmd running, and has it a publish_endpoint there?"
            )

    def publish(
        self,
        id: str | bytes,
        values: ArrayLike,
        *,
        first: int | None = None,
        rate: float | None = None,
        time: int | None = None,
        backfill: bool = False,
        tokens: bool = False,
    ) -> bool:
        """Send the next frames of a stream: (frames, channels), or (frames) of one channel. Never waits.

        `first` is the index of the first frame; else the frames follow those published before. False when the daemon is
        away or does not keep up: then they were not sent, and are a gap unless they are sent again with `first`.
        """
        name = id_bytes(id)
        array = np.asarray(values)
        channels = array.shape[1] if array.ndim == 2 else 1
        encoded = samples.encode(values, channels, 2**31 if tokens else None, time, backfill)
        with self._lock:
            begin = self._next.get(name, 0) if first is None else first
            if encoded.frames == 0:
                return True
            header = pb.PublishHeader(source=self._run, first=begin, frames=encoded.frames, format=encoded.format)
            header.channels = channels
            if backfill:
                header.flags = BACKFILL
            if time is not None:
                header.time = time
            if rate is not None:
                header.rate = rate
            self._next[name] = begin + encoded.frames
            self._listen(0)
            if not self._is_heard:
                return False
            try:
                self._socket.send_multipart(
                    [name + b"\0", header.SerializeToString(), encoded.take(encoded.frames)], zmq.DONTWAIT
                )
            except zmq.Again:
                return False
            return True

    def close(self, linger: float = 1.0) -> None:
        """What was sent may take so long to leave."""
        self._socket.close(round(linger * 1000))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self, wait_ms: int) -> None:
        while self._socket.poll(wait_ms):
            self._is_heard = self._socket.recv() == b"\1"
            wait_ms = 0
