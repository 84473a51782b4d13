# SPDX-License-Identifier: Apache-2.0
"""Results of one stream that arrived and were not taken, and the credit that bounds them.

The daemon may send `limit` payload bytes, counted from when it gave the handle, and may forget results below `taken`.
Both only rise. What a caller has been handed counts as taken when it comes for more: not before, so that a program that
dies between the two finds it again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from ..values import Result, id_text
from . import ssmd_pb2 as pb
from .link import Core, Surprise
from .signal import Signal


@dataclass(slots=True)
class Part:
    """The results of one message, copied out of it."""

    epoch: int
    first: int
    frames: int
    time: int | None
    lost: int
    data: memoryview


class Owner:
    """The writer or the reader whose results these are. Only a writer is told of its input."""

    may_skip = False  # results may be missing

    def __init__(self, core: Core) -> None:
        self.core = core
        self.signal = Signal()

    def results_came(self, inbox: Inbox) -> None:
        """The inbox has something to take."""
        self.signal.fire()

    def take_event(self, inbox: Inbox, event: pb.Event) -> None:
        """Something happened to the stream."""
        raise NotImplementedError

    def acknowledge(self, epoch: int, applied: int, durable: int) -> None:
        """Frames are in the state."""

    def refused(self, refusal: pb.Refusal) -> None:
        """Frames were not taken."""


class Inbox:
    """The results that come for one handle."""

    def __init__(self, core: Core, owner: Owner | None, id: bytes, channels: int, buffer: int) -> None:
        self.core = core
        self.owner = owner  # None: given up here, and what still comes is passed over
        self.id = id
        self.channels = channels
        self.buffer = buffer
        self.handle: int | None = None
        self.epoch = 0
        self.next = 0  # index of the next result to arrive
        self.taken = 0
        self.waiting = 0  # bytes
        self.lost = 0  # results missing before the next part
        self.is_complete = False  # nothing will come any more
        self._hand = (0, 0)  # epoch and end of what the caller holds
        self._parts: deque[Part] = deque()
        self._arrived = 0
        self._granted = (0, 0)  # taken, limit

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame of results."""
        return self.channels * 4

    # ---- the handle

    def attach(self, handle: int, limit: int = 0) -> None:
        """The daemon gave a handle, and was granted `limit` bytes with it."""
        self.handle = handle
        self._arrived = 0
        self._granted = (self.taken, limit)
        self.core.handles[handle] = self
        self.core.owe(self)

    def detach(self) -> None:
        """The handle is dead."""
        if self.handle is not None and self.core.handles.get(self.handle) is self:
            del self.core.handles[self.handle]
        self.handle = None
        self.core.owe_nothing(self)

    def give_up(self) -> None:
        """Nobody takes results any more. The handle stays known: only its width tells where a message's next one is."""
        self._take_hand()
        self.owner = None
        self._parts.clear()
        self.waiting = 0

    # ---- what comes

    def begin(self, epoch: int, index: int) -> None:
        """Results begin at `index` in `epoch`."""
        self.epoch = epoch
        self.next = self.taken = index
        self._granted = (min(index, self._granted[0]), self._granted[1])
        self.core.owe(self)  # what is here counts as taken: the daemon's ring may be full of it

    def skip(self, index: int) -> None:
        """Results up to `index` are lost."""
        if index > self.next:
            self.lost += index - self.next
            self.next = index

    def accept(self, epoch: int, first: int, frames: int, time: int | None, data: memoryview) -> None:
        """Results came: trimmed where they came before; a hole is only a reader's to have."""
        assert self.owner
        self._arrived += len(data)
        if epoch < self.epoch:
            return
        if epoch > self.epoch:
            self.begin(epoch, first)
        if self.owner.may_skip:
            self.skip(first)
        if first > self.next:
            raise Surprise("results with a hole")
        again = self.next - first
        if again >= frames:
            return
        data = memoryview(bytes(data[again * self.frame_bytes :]))
        self._parts.append(Part(epoch, first + again, frames - again, time, self.lost, data))
        self.lost = 0
        self.next = first + frames
        self.waiting += len(data)
        self.owner.results_came(self)

    def take(self) -> Result | None:
        """The oldest results; those that follow one another without a time come together."""
        self._take_hand()
        if not self._parts:
            return None
        head = last = self._parts.popleft()
        data = bytearray(head.data)
        while self._parts and last.time is None and _follows(last, self._parts[0]):
            last = self._parts.popleft()
            data += last.data
        self.waiting -= len(data)
        end = last.first + last.frames
        self._hand = (head.epoch, end)
        self.core.owe(self)
        values = np.frombuffer(data, dtype="<f4").reshape(end - head.first, self.channels)
        return Result(id_text(self.id), head.epoch, head.first, values, head.time, head.lost)

    def _take_hand(self) -> None:
        epoch, end = self._hand
        if epoch == self.epoch and end > self.taken:
            self.taken = end
            self.core.owe(self)

    # ---- credit

    @property
    def limit(self) -> int:
        """Payload bytes that the daemon may have sent."""
        return max(self._granted[1], self._arrived + max(0, self.buffer - self.waiting))

    @property
    def is_worth_a_message(self) -> bool:
        """Credit is granted at once when it is a quarter of what either side holds, else with what gathers."""
        ring = min(self.core.daemon.result_ring, self.buffer)
        taken, limit = self._granted
        if self.is_complete and self.taken == self.next:
            return True  # the daemon may let the stream go
        return self.limit - limit >= self.buffer // 4 or (self.taken - taken) * self.frame_bytes >= ring // 4

    @property
    def is_full(self) -> bool:
        """So much is not taken that the daemon may stop the stream's input."""
        return self.waiting > 0 and self.waiting >= min(self.core.daemon.result_ring, self.buffer) // 2

    def grant(self) -> tuple[int, int]:
        """What is granted now."""
        self._granted = (self.taken, self.limit)
        return self._granted


def _follows(last: Part, part: Part) -> bool:
    return part.time is None and part.lost == 0 and part.epoch == last.epoch and part.first == last.first + last.frames
