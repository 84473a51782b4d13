# SPDX-License-Identifier: Apache-2.0
"""The tap: results as they are computed, for whoever watches. Lossy: what a watcher missed shows in `Result.lost`."""

from __future__ import annotations

import numpy as np
import zmq
from google.protobuf.message import DecodeError

from ._core import ssmd_pb2 as pb
from .errors import Error
from .values import DaemonInfo, Result, id_text


class TapSocket:
    """A SUB socket; never waits."""

    def __init__(self, daemon: DaemonInfo, id: bytes | None, prefix: bytes | None) -> None:
        if not daemon.tap:
            raise Error("the daemon has no tap (its configuration says tap = off)")
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.IPV6, 1)
        self.socket.setsockopt(zmq.SUBSCRIBE, id + b"\0" if id is not None else prefix or b"")
        self.socket.connect(daemon.tap)
        self._next: dict[bytes, tuple[int, int]] = {}  # epoch and index of each stream's next result

    def receive(self) -> Result | None:
        """The next results that came, if any have; events of streams are passed over."""
        while not self.socket.closed:
            try:
                parts = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return None
            try:
                header = pb.TapHeader.FromString(parts[1])
            except (DecodeError, IndexError):
                continue
            if header.kind == pb.TapHeader.DATA and len(parts) == 3:
                return self._result(header, parts[2])
            if header.kind == pb.TapHeader.EVENT and len(parts) == 3:
                self._event(header, parts[2])
        return None

    def close(self) -> None:
        """No more."""
        self.socket.close(0)

    def _event(self, header: pb.TapHeader, payload: bytes) -> None:
        try:
            has_ended = pb.Event.FromString(payload).kind == pb.Event.ENDED
        except DecodeError:
            return
        if has_ended:
            self._next.pop(header.id, None)

    def _result(self, header: pb.TapHeader, payload: bytes) -> Result:
        values = np.frombuffer(bytearray(payload), dtype="<f4").reshape(-1, header.channels)
        epoch, index = self._next.get(header.id, (header.epoch, header.index))
        lost = header.index - index if epoch == header.epoch else 0
        self._next[header.id] = (header.epoch, header.index + len(values))
        time = header.time if header.HasField("time") else None
        return Result(id_text(header.id), header.epoch, header.index, values, time, lost)
