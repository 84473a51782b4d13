# SPDX-License-Identifier: Apache-2.0
"""Reliable views of streams that others write: one id, or every id with a prefix.

The daemon announces each stream (READING), and again on a fresh link: a stream known by its id goes on then, and what
was overwritten in between counts as lost. A read of one id asks for exactly the next result first, and only when that
is gone for what there is; a read of a prefix asks for everything that is kept, and passes over what it had.
"""

from __future__ import annotations

from ..errors import Closed, Code, Error, Lost
from ..values import Result, id_text
from . import ssmd_pb2 as pb
from .inbox import Inbox, Owner
from .link import Call, Core, refusal
from .signal import Operation


def open_reader(core: Core, read: pb.Read, buffer: int) -> Operation[Reader]:
    """Begin to read. The daemon may announce streams before it answers, so the reader is there first."""
    reader = Reader(core, read, buffer)
    core.readers.append(reader)
    try:
        yield from core.ask(pb.FromClient(read=read), "read", lambda reply: None)
    except Error:
        core.readers.remove(reader)
        raise
    except GeneratorExit:  # the caller gave up, and the daemon may answer all the same
        reader.give_up()
        raise
    reader.is_standing = True
    return reader


class Reader(Owner):
    """One read that stands."""

    may_skip = True

    def __init__(self, core: Core, read: pb.Read, buffer: int) -> None:
        super().__init__(core)
        self.read = read
        self.read.limit = buffer
        self.buffer = buffer
        self.is_standing = False  # the daemon has answered
        self.error: Error | None = None
        self._is_given_up = False
        self._has_ended = False  # its only stream
        self._streams: dict[bytes, Inbox] = {}
        self._ready: dict[Inbox, None] = {}  # have something to take; they take turns
        self._incarnation = core.daemon.incarnation

    def take(self) -> Operation[Result | None]:
        """The next results of any stream; None at the end of the only one."""
        while True:
            while self._ready:
                inbox = next(iter(self._ready))
                del self._ready[inbox]
                result = inbox.take()
                if inbox.waiting:
                    self._ready[inbox] = None
                if result:
                    return result
            self.core.check()
            if self._is_given_up:
                raise Closed("the reader was closed")
            if self.error:
                raise self.error.with_traceback(None)
            if self._has_ended:
                return None
            yield self.signal

    def give_up(self) -> None:
        """Read no more. The daemon may go on to announce streams, of a prefix until the link ends: they are closed."""
        if self._is_given_up:
            return
        self._is_given_up = True
        if self._streams and not self.read.HasField("prefix") and self in self.core.readers:
            self.core.readers.remove(self)
        for inbox in self._streams.values():
            self._stop(inbox)
        self._streams.clear()
        self._ready.clear()
        self.signal.fire()

    def _stop(self, inbox: Inbox) -> None:
        inbox.give_up()
        if inbox.handle is not None:
            self.core.send(Call(pb.FromClient(close=pb.Close(handle=inbox.handle)), lambda reply: inbox.detach()))

    # ---- what the daemon says

    def is_match(self, id: bytes) -> bool:
        """It reads this id."""
        return id.startswith(self.read.prefix) if self.read.HasField("prefix") else id == self.read.id

    def reading(self, event: pb.Event) -> bool:
        """A stream was announced; False when it is another reader's, because this one has it."""
        m = event.stream
        inbox = self._streams.get(m.id)
        if inbox and inbox.handle is not None:
            return False
        if inbox and inbox.channels == m.out_channels:
            self._go_on(inbox, event)
        else:
            inbox = self._streams[m.id] = Inbox(self.core, self, m.id, m.out_channels, self.buffer)
            inbox.begin(m.epoch, event.first)
        inbox.attach(event.handle, self.buffer)
        if self._is_given_up:
            del self._streams[m.id]
            self._stop(inbox)
        return True

    def _go_on(self, inbox: Inbox, event: pb.Event) -> None:
        is_same = self._incarnation == self.core.daemon.incarnation and event.stream.epoch == inbox.epoch
        if is_same:
            inbox.skip(event.first)
        else:
            inbox.begin(event.stream.epoch, event.first)

    def results_came(self, inbox: Inbox) -> None:
        """There is something to take."""
        self._ready[inbox] = None
        self.signal.fire()

    def take_event(self, inbox: Inbox, event: pb.Event) -> None:
        """Lost results, a new epoch, the end."""
        match event.kind:
            case pb.Event.LOST:
                inbox.skip(event.next)
            case pb.Event.EPOCH if event.epoch > inbox.epoch:
                inbox.begin(event.epoch, event.first)  # a take-over goes on
            case pb.Event.ENDED | pb.Event.TAKEN_OVER:
                self._streams.pop(inbox.id, None)
                if not self.read.HasField("prefix"):
                    self._has_ended = True
                    self.core.readers.remove(self)
                self.signal.fire()

    # ---- when the link broke

    def lose_link(self) -> None:
        """Every handle is dead."""
        if self._is_given_up:
            self.core.readers.remove(self)

    def read_again(self) -> None:
        """The link is up again: ask for what follows what came."""
        if not self.is_standing or self.error:
            return
        again = pb.Read()
        again.CopyFrom(self.read)
        if self.read.HasField("prefix"):
            setattr(again, "from", 0)
        elif self._incarnation == self.core.daemon.incarnation:
            for inbox in self._streams.values():
                setattr(again, "from", inbox.next)
        self.core.send(Call(pb.FromClient(read=again), lambda reply: self._answer_again(again, reply)))

    def _answer_again(self, again: pb.Read, reply: pb.Reply | None) -> None:
        if reply is None:
            return
        self._incarnation = self.core.daemon.incarnation
        if not reply.HasField("error"):
            return
        code = Code(reply.error.code)
        if code in (Code.TOO_OLD, Code.TOO_NEW) and again.HasField("from"):
            again.ClearField("from")
            self.core.send(Call(pb.FromClient(read=again), lambda reply: self._answer_again(again, reply)))
            return
        text = f"{id_text(self.read.id or self.read.prefix)}: {reply.error.text}"
        self.error = Lost(text, 0, code) if code == Code.NO_STREAM else refusal(reply.error)
        self.signal.fire()
