# SPDX-License-Identifier: Apache-2.0
"""The frames of one stream that the daemon has not made durable: to be sent, and perhaps to be sent again.

      first          sent             next
        |--- sent -----|--- unsent -----|        rewind moves the border back

Chunks stay as they were pushed: their format and time go out again unchanged, and their mark too, unless the daemon was
away for long (mark_backfill). Only a rewind into the middle of a chunk cuts it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames first to end-1 in one format."""

    first: int
    frames: int
    format: int
    backfill: bool
    time: int | None
    data: bytes

    @property
    def end(self) -> int:
        """Index behind the last frame."""
        return self.first + self.frames

    def cut(self, index: int) -> tuple[Chunk, Chunk]:
        """The part below `index`, and the rest."""
        n = index - self.first
        at = len(self.data) // self.frames * n
        head = Chunk(self.first, n, self.format, self.backfill, self.time, self.data[:at])
        return head, Chunk(index, self.frames - n, self.format, self.backfill, self.time, self.data[at:])


class Kept:
    """A queue of chunks without holes between them."""

    def __init__(self) -> None:
        self.next = 0
        self._sent: deque[Chunk] = deque()
        self._unsent: deque[Chunk] = deque()

    @property
    def first(self) -> int:
        """Index of the oldest frame kept; `next` when there is none."""
        for chunks in (self._sent, self._unsent):
            if chunks:
                return chunks[0].first
        return self.next

    @property
    def unsent(self) -> Chunk | None:
        """The next chunk to send."""
        return self._unsent[0] if self._unsent else None

    def restart(self, index: int) -> None:
        """Empty, and going on at `index`."""
        self._sent.clear()
        self._unsent.clear()
        self.next = index

    def push(self, chunk: Chunk) -> None:
        """Append a chunk that begins at `next`."""
        self._unsent.append(chunk)
        self.next = chunk.end

    def mark_sent(self) -> None:
        """`unsent` is on its way."""
        self._sent.append(self._unsent.popleft())

    def release(self, index: int) -> None:
        """Frames below `index` need not be kept; a chunk goes when all of it may."""
        for chunks in (self._sent, self._unsent):
            while chunks and chunks[0].end <= index:
                chunks.popleft()

    def rewind(self, index: int) -> bool:
        """Send again from `index`. False when that is not within first..next."""
        if not self.first <= index <= self.next:
            return False
        while self._unsent and self._unsent[0].first < index:
            self._sent.append(self._unsent.popleft())
        while self._sent and self._sent[-1].end > index:
            chunk = self._sent.pop()
            if chunk.first < index:
                head, chunk = chunk.cut(index)
                self._sent.append(head)
            self._unsent.appendleft(chunk)
        return True

    def mark_backfill(self) -> None:
        """What is not sent goes out as backfill."""
        self._unsent = deque(replace(chunk, backfill=True) for chunk in self._unsent)
